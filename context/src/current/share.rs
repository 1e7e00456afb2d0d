//! Holders of a context for one thread. Fenced.
//!
//! All shares of one context on its own thread are together one handle of it (rule 2 of `node::raw`), so copying one
//! is a plain addition. A share that was made elsewhere is a handle of its own.
//!
//! What a thread's slot holds ([`Held`]) is borrowed as a rule: from the share of the task that is polled, or from the
//! handle of whoever entered a frame. So a switch counts nothing. The last share of a context to go while the slot still
//! borrows it is *adopted*: the slot takes over what it counts.
#![allow(unsafe_code)]

use super::SLOT;
use crate::node::{Context, Node};
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;

/// The share of nobody: the sentinel. Marked as foreign, so that one test tells a node of this thread from all others.
pub(super) const NOBODY: *const Node = std::ptr::without_provenance(FOREIGN);
/// The account of the loop. Nobody's share either; `Context::current()` says sentinel.
pub(super) const LOOP: *const Node = std::ptr::without_provenance(2 | FOREIGN);
/// Set in the address of a share that was made away from the context's own thread: it counts as a full handle.
const FOREIGN: usize = 1;
/// Set in the address of what a slot holds and owns: it counts, and is given up with the next switch.
const OWNED: usize = 4;
const MARKS: usize = FOREIGN | OWNED;

/// A holder of a context for one thread: a task's, an executor's. Not `Send`.
///
/// On the thread that made the context, copying and dropping it are plain additions; elsewhere they are atomic ones, as
/// for [`Context`]. Holds nothing for the sentinel.
pub struct Share {
    pub(super) node: *const Node,
    not_send: PhantomData<*const ()>,
}

impl Share {
    fn from_raw(node: *const Node) -> Self {
        Self { node, not_send: PhantomData }
    }

    /// A share of the sentinel.
    #[inline]
    pub fn nobody() -> Self {
        Self::from_raw(NOBODY)
    }

    /// The loop's own account, as something to be put in place.
    pub(crate) fn bookkeeping() -> Self {
        Self::from_raw(LOOP)
    }

    /// A share of what is current.
    #[inline]
    pub fn current() -> Self {
        SLOT.with(super::Slot::share)
    }

    /// A share of `context`.
    pub fn of(context: &Context) -> Self {
        if context.is_sentinel() {
            return Self::nobody();
        }
        let node = context.as_ptr();
        if is_own(context) {
            if context.node().shares.load(Relaxed) == 0 {
                std::mem::forget(context.clone());
            }
            count_share(context.node());
            Self::from_raw(node.as_ptr())
        } else {
            context.node().visit();
            std::mem::forget(context.clone());
            Self::from_raw(node.as_ptr().map_addr(|addr| addr | FOREIGN))
        }
    }

    /// The context, as a handle.
    pub fn context(&self) -> Context {
        match target(self.node) {
            Some(target) => (*target).clone(),
            None => Context::sentinel(),
        }
    }

    /// Whether it is nobody's.
    #[inline]
    pub fn is_nobody(&self) -> bool {
        self.node == NOBODY
    }

    /// The context's number, 0 for the sentinel.
    #[inline]
    pub fn id(&self) -> u64 {
        self.node().map_or(0, |node| node.id)
    }

    #[inline]
    pub(super) fn node(&self) -> Option<&Node> {
        let address = address_of(self.node)?;
        // SAFETY: this share keeps the node from being freed (rules 1 and 2 of `node::raw`).
        Some(unsafe { address.as_ref() })
    }

    /// The node, if it was made on this thread and its cells may be written.
    #[inline]
    pub(super) fn own_node(&self) -> Option<&Node> {
        if self.node.addr() & FOREIGN != 0 {
            return None;
        }
        // SAFETY: an address without that mark is a node's, and this share keeps it from being freed (rules 1 and 2 of
        // `node::raw`). Shares bear no other mark.
        Some(unsafe { &*self.node })
    }
}

/// What a slot holds: the address of a node, of nobody or of the loop, which the slot borrows or owns. What it owns is
/// given up when this is dropped.
pub(super) struct Held(*const Node);

impl Held {
    /// The account of the loop.
    pub(super) const LOOP: Self = Self(LOOP);
    /// The sentinel.
    pub(super) const NOBODY: Self = Self(NOBODY);

    #[inline]
    pub(super) fn from_raw(node: *const Node) -> Self {
        Self(node)
    }

    #[inline]
    pub(super) fn into_raw(self) -> *const Node {
        ManuallyDrop::new(self).0
    }

    /// Owned.
    pub(super) fn owning(share: Share) -> Self {
        let raw = ManuallyDrop::new(share).node;
        if address_of(raw).is_some() { Self(raw.map_addr(|addr| addr | OWNED)) } else { Self(raw) }
    }

    /// Borrowed from a share. If that is dropped before the slot lets go, the slot adopts it.
    #[inline]
    pub(super) fn of(share: &Share) -> Self {
        Self(share.node)
    }

    /// Borrowed from a handle.
    ///
    /// # Safety
    ///
    /// `context`, this very handle of it, must outlive every copy of the address that a [`Slot`](super::Slot) holds.
    #[inline]
    pub(super) unsafe fn lent(context: &Context) -> Self {
        if context.is_sentinel() {
            return Self::NOBODY;
        }
        let mark = if is_own(context) {
            0
        } else {
            context.node().visit();
            FOREIGN
        };
        Self(context.as_ptr().as_ptr().map_addr(|addr| addr | mark))
    }

    /// A share of the same; nobody's for the loop.
    #[inline]
    pub(super) fn share(&self) -> Share {
        if let Some(node) = self.own_node().filter(|node| node.shares.load(Relaxed) != 0) {
            count_share(node);
            // From what the slot holds, not from the borrow: the last share frees the node through its address.
            return Share::from_raw(without_owner(self.0));
        }
        target(self.0).map_or_else(Share::nobody, |target| Share::of(&target))
    }

    /// The same, owned: to be kept for longer than what it was borrowed from may live.
    pub(super) fn into_owned(self) -> Self {
        let is_borrowed = self.0.addr() & OWNED == 0 && address_of(self.0).is_some();
        if is_borrowed { Self::owning(self.share()) } else { self }
    }

    /// The node, if it was made on this thread and its cells may be written.
    #[inline]
    pub(super) fn own_node(&self) -> Option<&Node> {
        if self.0.addr() & FOREIGN != 0 { None } else { self.node() }
    }

    /// The node, whoever made it.
    #[inline]
    pub(super) fn node(&self) -> Option<&Node> {
        let address = address_of(self.0)?;
        // SAFETY: what is held is owned, or borrowed from what outlives it.
        Some(unsafe { address.as_ref() })
    }

    pub(super) fn is_loop(&self) -> bool {
        self.0 == LOOP
    }

    /// Whether it counts.
    #[inline]
    pub(super) fn is_owned(&self) -> bool {
        self.0.addr() & OWNED != 0
    }

    /// Not 0 if it counts.
    #[inline(always)]
    pub(super) fn owned_mark(&self) -> usize {
        self.0.addr() & OWNED
    }

    /// Whether nothing else counts it, so that the context ends with this. Another thread may have dropped the last handle
    /// but this one at this moment: then it says no.
    pub(super) fn is_last(&self) -> bool {
        let is_last_share = self.own_node().is_none_or(|node| node.shares.load(Relaxed) == 1);
        self.is_owned() && is_last_share && self.node().is_some_and(Node::has_one_handle)
    }
}

impl Drop for Held {
    #[inline]
    fn drop(&mut self) {
        if self.is_owned() {
            drop(Share::from_raw(self.0.map_addr(|addr| addr & !OWNED)));
        }
    }
}

/// The handle that stands behind a share or what a slot holds, not to be dropped.
#[inline]
fn target(raw: *const Node) -> Option<ManuallyDrop<Context>> {
    let address = address_of(raw)?;
    // SAFETY: whoever has the address has, or borrows, (a part of) a counted handle, and `ManuallyDrop` leaves the
    // count alone.
    Some(ManuallyDrop::new(unsafe { Context::from_counted(address) }))
}

#[inline]
pub(super) fn address_of(raw: *const Node) -> Option<NonNull<Node>> {
    let address = raw.map_addr(|addr| addr & !MARKS);
    // One comparison for both that are no node.
    if address.addr() <= LOOP.addr() { None } else { NonNull::new(address.cast_mut()) }
}

/// Whether it is the address of a node of this thread, and borrowed: the usual case.
#[inline]
pub(super) fn is_plain(raw: *const Node) -> bool {
    raw.addr() & MARKS == 0
}

/// The address without the mark of what is owned.
#[inline]
pub(super) fn without_owner(raw: *const Node) -> *const Node {
    raw.map_addr(|addr| addr & !OWNED)
}

/// How many shares there may be: far from where the count would wrap, as no more than one is made at a time.
const SHARES_MAX: u32 = u32::MAX / 2;

/// Counts one more share. Aborts, as `Arc` does, if so many were forgotten that the count would wrap: then it would say
/// that the last one went while others are there.
#[inline(always)]
fn count_share(node: &Node) {
    let before = node.shares.load(Relaxed);
    if before >= SHARES_MAX {
        std::process::abort();
    }
    node.shares.store(before + 1, Relaxed);
}

fn is_own(context: &Context) -> bool {
    context.node().birth.owner == SLOT.with(|slot| slot.id.get())
}

impl Clone for Share {
    #[inline]
    fn clone(&self) -> Self {
        let Some(node) = self.own_node() else { return clone_elsewhere(self.node) };
        count_share(node);
        Self::from_raw(self.node)
    }
}

impl Drop for Share {
    #[inline]
    fn drop(&mut self) {
        if let Some(node) = self.own_node() {
            let left = node.shares.load(Relaxed) - 1;
            node.shares.store(left, Relaxed);
            if left > 0 {
                return;
            }
        }
        if self.node != NOBODY {
            give_up(self.node);
        }
    }
}

/// Of a context that another thread made, the loop or nobody.
#[cold]
fn clone_elsewhere(raw: *const Node) -> Share {
    target(raw).map_or_else(|| Share::from_raw(raw), |target| Share::of(&target))
}

/// The last share of its kind goes: so does the handle that stood behind it, unless the slot borrows that and so has to
/// take it over.
#[cold]
#[inline(never)]
fn give_up(raw: *const Node) {
    let Some(target) = target(raw) else { return };
    let adopted = SLOT.with(|slot| {
        slot.current.get() == raw && {
            slot.current.set(raw.map_addr(|addr| addr | OWNED));
            true
        }
    });
    if !adopted {
        drop(ManuallyDrop::into_inner(target));
    } else if raw.addr() & FOREIGN == 0 {
        target.node().shares.store(1, Relaxed);
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({})", self.context())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::harness;
    use std::panic::Location;

    fn is_alive(id: u64) -> bool {
        crate::live().iter().any(|snapshot| snapshot.id.as_u64() == id)
    }

    /// Polls in a context whose only holder is the share; leaves it current.
    fn polled(class: &str) -> (Share, u64) {
        let share = Share::of(&Context::root(class));
        let id = share.id();
        harness::poll(&share, Location::caller(), 0, || ());
        (share, id)
    }

    #[test]
    fn the_last_share_to_go_is_adopted_until_the_next_switch() {
        let (share, id) = polled("adopted");
        drop(share);
        assert!(is_alive(id) && Context::current().id().as_u64() == id);
        // What is taken of it counts as ever.
        let (again, handle) = (Share::current(), Context::current());
        drop((again, handle));
        assert_eq!(Context::current().id().as_u64(), id);
        harness::idle();
        assert!(!is_alive(id));
    }

    #[test]
    fn adopted_or_not_the_poll_is_charged_and_the_next_one_runs_in_its_own_context() {
        let _loop = harness::enter_loop(Clock::Manual, None);
        let context = Context::root("charged");
        let share = Share::of(&context);
        harness::poll(&share, Location::caller(), 0, || harness::advance_manual_clock(5, 5));
        drop(share);
        let (next, id) = (Share::of(&Context::root("next")), context.id());
        harness::poll(&next, Location::caller(), 0, || assert_ne!(Context::current().id(), id));
        harness::idle();
        assert_eq!(context.own_usage().cpu.as_nanos(), 5);
    }

    /// In a process of its own, which aborts.
    #[test]
    #[cfg_attr(miri, ignore = "starts a process")]
    fn u6_a_count_of_shares_that_would_wrap_aborts() {
        const NAME: &str = "current::share::tests::u6_a_count_of_shares_that_would_wrap_aborts";
        if std::env::var_os("BURSAR_U6_CHILD").is_some() {
            let share = Share::of(&Context::root("forgotten shares"));
            // As if so many had been made and forgotten, which takes seconds.
            share.own_node().unwrap().shares.store(SHARES_MAX - 1, Relaxed);
            std::mem::forget(share.clone());
            println!("the last that fits");
            std::mem::forget(share.clone());
            println!("one too many");
            return;
        }
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let child =
            child.args([NAME, "--exact", "--nocapture"]).env("BURSAR_U6_CHILD", "1").output().unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(said.contains("the last that fits") && !said.contains("one too many"), "{said}");
        assert!(!child.status.success());
    }

    /// Miri looks at the provenance of the share that is made here.
    #[test]
    fn u8_a_frame_between_polls_keeps_what_was_current() {
        let (share, id) = polled("kept by a frame");
        Context::root("other").scope(|| drop(share));
        assert_eq!(Context::current().id().as_u64(), id);
        harness::idle();
        assert!(!is_alive(id));
    }

    #[test]
    fn a_guard_between_polls_keeps_what_was_current() {
        let (share, id) = polled("kept by a guard");
        let guard = Context::root("other").enter();
        drop(share);
        drop(guard);
        assert_eq!(Context::current().id().as_u64(), id);
        harness::idle();
        assert!(!is_alive(id));
    }

    #[test]
    fn a_share_of_another_thread_s_context_is_adopted_too() {
        let context = Context::root("foreign");
        let id = context.id().as_u64();
        std::thread::spawn(move || {
            let share = Share::of(&context);
            harness::poll(&share, Location::caller(), 0, || ());
            drop((share, context));
            assert!(is_alive(id) && Context::current().id().as_u64() == id);
            harness::idle();
            assert!(!is_alive(id));
        })
        .join()
        .unwrap();
    }
}
