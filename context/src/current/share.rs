//! Holders of a context for one thread. Fenced.
//!
//! All shares of one context on its own thread are together one handle of it (rule 2 of `node::raw`), so copying one
//! is a plain addition. A share that was made elsewhere is a handle of its own. A share that is lent to a frame counts as
//! nothing: whoever lends it has a handle that outlives the frame.
#![allow(unsafe_code)]

use super::SLOT;
use crate::node::{Context, Node};
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;

/// The share of nobody: the sentinel.
pub(super) const NOBODY: *const Node = std::ptr::null();
/// The account of the loop. Nobody's share either; `Context::current()` says sentinel.
pub(super) const LOOP: *const Node = std::ptr::without_provenance(2);
/// Set in the address of a share that was made away from the context's own thread: it counts as a full handle.
const FOREIGN: usize = 1;
/// Set in the address of a share that is lent to a frame and not counted.
const LENT: usize = 4;
const MARKS: usize = FOREIGN | LENT;

/// A holder of a context for one thread: a task's, an executor's. Not `Send`.
///
/// On the thread that made the context, copying and dropping it are plain additions; elsewhere they are atomic ones, as
/// for [`Context`]. Holds nothing for the sentinel.
pub struct Share {
    pub(super) node: *const Node,
    not_send: PhantomData<*const ()>,
}

impl Share {
    pub(super) fn from_raw(node: *const Node) -> Self {
        Self { node, not_send: PhantomData }
    }

    pub(super) fn into_raw(self) -> *const Node {
        ManuallyDrop::new(self).node
    }

    /// A share of the sentinel.
    pub fn nobody() -> Self {
        Self::from_raw(NOBODY)
    }

    /// The loop's own account, as something to be put in place.
    pub(crate) fn bookkeeping() -> Self {
        Self::from_raw(LOOP)
    }

    /// A share of what is current.
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
            let shares = &context.node().shares;
            let before = shares.load(Relaxed);
            if before == 0 {
                std::mem::forget(context.clone());
            }
            shares.store(before + 1, Relaxed);
            Self::from_raw(node.as_ptr())
        } else {
            std::mem::forget(context.clone());
            Self::from_raw(node.as_ptr().map_addr(|addr| addr | FOREIGN))
        }
    }

    /// A share that is not counted: no addition, atomic or not, to make it and to drop it. Its clones are counted.
    ///
    /// # Safety
    ///
    /// `context`, this very handle of it, must outlive the share and every copy of its address that a [`Slot`] holds.
    ///
    /// [`Slot`]: super::Slot
    #[inline]
    pub(super) unsafe fn lent(context: &Context) -> Self {
        if context.is_sentinel() {
            return Self::nobody();
        }
        let marks = if is_own(context) { LENT } else { MARKS };
        Self::from_raw(context.as_ptr().as_ptr().map_addr(|addr| addr | marks))
    }

    /// The context, as a handle.
    pub fn context(&self) -> Context {
        match self.target() {
            Some(target) => (*target).clone(),
            None => Context::sentinel(),
        }
    }

    /// The context's number, 0 for the sentinel.
    #[inline]
    pub fn id(&self) -> u64 {
        self.node().map_or(0, |node| node.id)
    }

    /// Whether the context or an ancestor has a CPU budget.
    #[inline]
    pub(crate) fn is_budgeted(&self) -> bool {
        self.node().is_some_and(|node| node.budgeted)
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
        if self.node.addr() & FOREIGN == 0 { self.node() } else { None }
    }

    /// The handle that stands behind this share, not to be dropped.
    pub(super) fn target(&self) -> Option<ManuallyDrop<Context>> {
        let address = address_of(self.node)?;
        // SAFETY: this share is (part of) a counted handle, and `ManuallyDrop` leaves the count alone.
        Some(ManuallyDrop::new(unsafe { Context::from_counted(address) }))
    }
}

#[inline]
pub(super) fn address_of(share: *const Node) -> Option<NonNull<Node>> {
    let address = share.map_addr(|addr| addr & !MARKS);
    // One comparison for both that are no node.
    if address.addr() <= LOOP.addr() { None } else { NonNull::new(address.cast_mut()) }
}

fn is_own(context: &Context) -> bool {
    context.node().birth.owner == SLOT.with(|slot| slot.id.get())
}

impl Clone for Share {
    #[inline]
    fn clone(&self) -> Self {
        let Some(target) = self.target() else { return Self::from_raw(self.node) };
        if self.node.addr() & MARKS != 0 {
            // Foreign ones are counted as handles, lent ones for the first time.
            return Self::of(&target);
        }
        let shares = &target.node().shares;
        shares.store(shares.load(Relaxed) + 1, Relaxed);
        Self::from_raw(self.node)
    }
}

impl Drop for Share {
    #[inline]
    fn drop(&mut self) {
        let Some(target) = self.target() else { return };
        let marks = self.node.addr() & MARKS;
        if marks & LENT != 0 {
            return;
        }
        if marks == 0 {
            let shares = &target.node().shares;
            let left = shares.load(Relaxed) - 1;
            shares.store(left, Relaxed);
            if left > 0 {
                return;
            }
        }
        drop(ManuallyDrop::into_inner(target));
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({})", self.context())
    }
}
