//! The memory of one ledger's nodes: those that live, and room for those to come. Fenced.
//!
//! A node stays where it is from its first context to its last, and so does its entry here: a context that comes or
//! goes moves an address from one list to another, and nothing is searched, whatever their number.
#![allow(unsafe_code)]

use super::raw::Node;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;

/// How many vacant nodes a ledger keeps: half a megabyte. More of them at a time are the allocator's.
const SPARE_MAX: usize = 2_048;

/// A registry's nodes (rules 3 and 5 of [`raw`](super::raw)).
#[derive(Debug)]
pub(super) struct Nodes {
    /// All of them, vacant or not; each knows its place.
    all: Vec<NonNull<Node>>,
    /// The vacant ones.
    spare: Vec<NonNull<Node>>,
}

// SAFETY: the nodes are this registry's, and whoever has it may look at them from any thread: `Node` is `Sync`, and what
// it owns is `Send` (see `Context`).
unsafe impl Send for Nodes {}

impl Nodes {
    pub(super) const fn new() -> Self {
        Self { all: Vec::new(), spare: Vec::new() }
    }

    /// Vacant memory, which is the caller's alone until a context is in it.
    #[inline]
    pub(super) fn take(&mut self) -> NonNull<Node> {
        self.spare.pop().unwrap_or_else(|| self.allocate())
    }

    #[cold]
    #[inline(never)]
    fn allocate(&mut self) -> NonNull<Node> {
        let place = u32::try_from(self.all.len()).expect("fewer than 2^32 contexts live at a time");
        let node = NonNull::from(Box::leak(Box::new(Node::vacant(place))));
        self.all.push(node);
        node
    }

    /// Takes memory back in which a context has ended.
    #[inline]
    pub(super) fn give(&mut self, vacant: NonNull<Node>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(vacant);
        } else {
            self.free(vacant);
        }
    }

    #[cold]
    #[inline(never)]
    fn free(&mut self, vacant: NonNull<Node>) {
        // SAFETY: rule 5: it came from a box, in `allocate`, and nobody else knows of it.
        let node = unsafe { Box::from_raw(vacant.as_ptr()) };
        let place = node.place.load(Relaxed);
        self.all.swap_remove(place as usize);
        if let Some(moved) = self.all.get(place as usize) {
            // SAFETY: what is in the list is not freed (rule 5).
            unsafe { moved.as_ref() }.place.store(place, Relaxed);
        }
    }

    /// Whether no context lives here.
    pub(super) fn is_empty(&self) -> bool {
        self.all.len() == self.spare.len()
    }

    /// Every context that is not gone; the sentinel is not among them.
    ///
    /// Cost: a look at each that lives, and at most [`SPARE_MAX`] that do not.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        // SAFETY: rule 3: a node that is in the list is not freed, and ends only under the lock that the caller has.
        let nodes = self.all.iter().map(|node| unsafe { node.as_ref() });
        nodes.filter(|node| node.id != 0)
    }
}
