//! Who is whose child: intrusive links under one lock. Fenced.
//!
//! One lock for the process: it is taken when a child is made, when it goes, and when a total is read; roots without
//! children never take it. Links are in the nodes, so a child costs no allocation here.
#![allow(unsafe_code)]

use super::Reading;
use super::ledger::Ledger;
use super::raw::{CLOSING, Node};
use super::running::{RunningSlice, Split, address};
use crate::cancel::Cancelled;
use crate::cells::Tally;
use crate::deadline::{Readings, Source};
use parking_lot::Mutex;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed, Ordering::Release, Ordering::SeqCst, fence};
use std::task::Waker;

/// Held by everyone who reads or writes any [`Links`].
static TREE: Mutex<()> = Mutex::new(());

/// Pointers to relatives. Every pointer that is not null is to a node that is not freed before it is unlinked
/// (rule 4 of [`raw`](super::raw)).
#[derive(Debug)]
pub(crate) struct Links {
    first_child: AtomicPtr<Node>,
    next: AtomicPtr<Node>,
    previous: AtomicPtr<Node>,
}

impl Links {
    pub(super) const fn new() -> Self {
        Self {
            first_child: AtomicPtr::new(std::ptr::null_mut()),
            next: AtomicPtr::new(std::ptr::null_mut()),
            previous: AtomicPtr::new(std::ptr::null_mut()),
        }
    }
}

impl Links {
    /// Of a node that was unlinked and has no children.
    #[inline]
    pub(super) fn clear(&mut self) {
        *self.next.get_mut() = std::ptr::null_mut();
        *self.previous.get_mut() = std::ptr::null_mut();
    }

    /// Whether anything was below at this moment. Who sees that a child is gone sees what it folded. SeqCst: either a
    /// finisher that asks sees a child, or [`link`] sees that the parent has finished.
    pub(super) fn has_children(&self) -> bool {
        !self.first_child.load(SeqCst).is_null()
    }
}

/// Makes `child` a child of `parent`. Born cancelled if the parent is; born closed as well if the parent has finished, or
/// what is above it: then what it spends is late from the first nanosecond.
#[inline(never)]
pub(super) fn link(parent: NonNull<Node>, child: NonNull<Node>) {
    let _tree = TREE.lock();
    // SAFETY: the child's `birth` holds a handle of the parent.
    let up = unsafe { parent.as_ref() };
    // SAFETY: the child was just made; its maker has the first handle.
    let down = unsafe { child.as_ref() };
    let first = up.links.first_child.load(Relaxed);
    down.links.next.store(first, Relaxed);
    if let Some(first) = NonNull::new(first) {
        // SAFETY: linked, so alive (rule 4), and the tree is locked.
        unsafe { first.as_ref() }.links.previous.store(child.as_ptr(), Relaxed);
    }
    // SeqCst, before it is asked whether the parent has finished: see `has_children`.
    up.links.first_child.store(child.as_ptr(), SeqCst);
    let is_late = up.control.finished_at().is_some() || up.is_closed();
    if is_late {
        down.gate.store(0, Relaxed);
    }
    if let Some(cancelled) = up.ended().or_else(|| is_late.then(|| up.end_of_scope())) {
        // Nobody can wait for a context that nobody has yet: there is nothing to wake.
        let _ = down.control.cancel(cancelled);
    }
}

/// Closes `top`, which has finished, and everything below it: from here on what is spent there is late. What other threads
/// run in them now is cut. `own` is the ledger of this thread, which has charged what it ran. Whether other threads may be
/// running in one of them.
///
/// Two of these may meet, at a context that finishes beside one above it; and a context may have been closed before. So a
/// gate that is 0 is left alone, and the first cut counts.
#[cold]
#[inline(never)]
pub(super) fn close(top: &Node, own: Option<&Ledger>) -> bool {
    if !top.links.has_children() {
        return close_all(own, |visit| visit(top));
    }
    let _tree = TREE.lock();
    close_all(own, |visit| walk(top, visit))
}

/// The finisher of [`running`](super::running).
fn close_all(own: Option<&Ledger>, walk: impl Fn(&mut dyn FnMut(&Node))) -> bool {
    let owner = own.map_or(0, Ledger::id);
    let mut elsewhere = false;
    walk(&mut |node| {
        let closing = |gate| (gate != 0).then_some(CLOSING);
        let _ = node.gate.fetch_update(SeqCst, Relaxed, closing);
        // Also of what was closed before: a slice that was cut then may run on.
        elsewhere |= node.birth.owner != owner || node.is_visited();
    });
    if elsewhere {
        fence(SeqCst);
        Ledger::cut_elsewhere(own, |running| {
            let mut found = false;
            walk(&mut |node| found |= address(node) == running && node.gate.load(Relaxed) == CLOSING);
            found
        });
    }
    walk(&mut |node| node.gate.store(0, Release));
    elsewhere
}

/// Takes `child` out of its parent's children and folds `total` into the parent, in one step for readers.
#[inline(never)]
pub(super) fn unlink(node: &Node, child: NonNull<Node>, total: impl FnOnce() -> Tally) {
    let Some(parent) = &node.birth.parent else { return };
    // Before the lock: it may have to be made.
    let folded = &parent.node().abroad().folded;
    let _tree = TREE.lock();
    folded.absorb(&total());
    let links = &node.links;
    let (next, previous) = (links.next.load(Relaxed), links.previous.load(Relaxed));
    match NonNull::new(previous) {
        // SAFETY: linked, so alive (rule 4), and the tree is locked.
        Some(previous) => unsafe { previous.as_ref() }.links.next.store(next, Relaxed),
        None => {
            debug_assert_eq!(parent.node().links.first_child.load(Relaxed), child.as_ptr());
            // Release, after folding: a reader that sees no children sees what they left.
            parent.node().links.first_child.store(next, Release);
        }
    }
    if let Some(next) = NonNull::new(next) {
        // SAFETY: linked, so alive (rule 4), and the tree is locked.
        unsafe { next.as_ref() }.links.previous.store(previous, Relaxed);
    }
}

/// Own usage of `top` and of everything below it that is not gone, plus what was folded.
pub(super) fn total(top: &Node, slices: &[RunningSlice]) -> Reading {
    let mut sum = Reading::default();
    let mut add = |node: &Node| {
        sum.tally += &without_children(node);
        sum.add_running(slice_of(node, slices));
    };
    if top.links.has_children() {
        let _tree = TREE.lock();
        walk(top, add);
    } else {
        add(top);
    }
    sum
}

/// Own usage, and that of children that are gone.
pub(super) fn without_children(node: &Node) -> Tally {
    let mut own = node.own_tally();
    if let Some(below) = node.below() {
        own += &below;
    }
    own
}

/// What of the slices is this very context's.
pub(super) fn slice_of(node: &Node, slices: &[RunningSlice]) -> Split {
    slices
        .iter()
        .map(|slice| slice.of(node))
        .fold(Split::default(), |sum, slice| Split { cpu: sum.cpu + slice.cpu, late: sum.late + slice.late })
}

/// What is left to do after [`cancel_below`], outside the lock.
#[derive(Default)]
pub(super) struct Below {
    pub(super) wakers: Vec<Waker>,
    /// Clocks of deadlines that decide by what reason something below is cancelled: to be read, then once more from the top.
    pub(super) unread: Vec<Source>,
}

/// Cancels everything below `top` that has not ended: by the reason of its parent, or by its own deadline if that has
/// passed by `readings`.
pub(super) fn cancel_below(top: &Node, cancelled: Cancelled, readings: &Readings) -> Below {
    let mut below = Below::default();
    if !top.links.has_children() {
        return below;
    }
    let _tree = TREE.lock();
    walk(top, |node| {
        let Some(parent) = node.birth.parent.as_ref().filter(|_| !std::ptr::eq(node, top)) else { return };
        let of_parent =
            if std::ptr::eq(parent.node(), top) { Some(cancelled) } else { parent.node().ended() };
        // `None`: the parent waits for a clock to be read.
        let Some(of_parent) = of_parent.filter(|_| node.ended().is_none()) else { return };
        let own = node.own_deadline().map(|deadline| readings.has_passed(deadline).ok_or(deadline));
        let cancelled = match own {
            None | Some(Ok(false)) => of_parent,
            Some(Ok(true)) => node.too_late(),
            Some(Err(deadline)) => return below.unread.push(deadline.source.clone()),
        };
        below.wakers.extend(node.control.cancel(cancelled).unwrap_or_default());
    });
    below
}

/// Visits `top` and its descendants, parents first, without recursion. The caller holds the tree.
fn walk(top: &Node, mut visit: impl FnMut(&Node)) {
    let mut node = top;
    loop {
        visit(node);
        if let Some(child) = NonNull::new(node.links.first_child.load(Relaxed)) {
            // SAFETY: linked, so alive (rule 4), and the tree is locked.
            node = unsafe { child.as_ref() };
            continue;
        }
        loop {
            if std::ptr::eq(node, top) {
                return;
            }
            if let Some(next) = NonNull::new(node.links.next.load(Relaxed)) {
                // SAFETY: as above.
                node = unsafe { next.as_ref() };
                break;
            }
            match &node.birth.parent {
                Some(parent) => node = parent.node(),
                None => return,
            }
        }
    }
}
