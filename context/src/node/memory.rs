//! The memory of one ledger's nodes: those that live, and room for those to come. Fenced.
//!
//! A node stays where it is from its first context to its last, and so does its entry here: a context that comes or
//! goes moves an address from one list to another, and nothing is searched, whatever their number.
#![allow(unsafe_code)]

use super::raw::Node;
use super::spare::SPARE_MAX;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, classes, live};
    use std::collections::BTreeSet;
    use std::sync::mpsc;

    fn alive(class: &str) -> BTreeSet<u64> {
        let mine = live().into_iter().filter(|context| context.class == class);
        mine.map(|context| context.id.as_u64()).collect()
    }

    #[test]
    fn memory_beyond_the_spare_is_freed_in_any_order() {
        let mut nodes = Nodes::new();
        let mut taken: Vec<_> = (0..SPARE_MAX + 100).map(|_| nodes.take()).collect();
        for step in [3, 2, 1] {
            let (give, keep): (Vec<_>, Vec<_>) =
                taken.into_iter().enumerate().partition(|(n, _)| n % step == 0);
            give.into_iter().for_each(|(_, node)| nodes.give(node));
            taken = keep.into_iter().map(|(_, node)| node).collect();
            assert_eq!(nodes.all.len() - nodes.spare.len(), taken.len());
            for (place, node) in nodes.all.iter().enumerate() {
                // SAFETY: what is in the list is not freed.
                assert_eq!(unsafe { node.as_ref() }.place.load(Relaxed) as usize, place);
            }
        }
        assert!(nodes.is_empty() && nodes.all.len() == SPARE_MAX);
        while let Some(node) = nodes.spare.pop() {
            nodes.free(node);
        }
    }

    #[test]
    fn the_registry_shows_who_lives_and_nobody_else() {
        const CLASS: &str = "shown by the registry";
        const CONTEXTS: usize = if cfg!(miri) { 300 } else { SPARE_MAX + 2_048 };
        let mut contexts: Vec<_> = (0..CONTEXTS).map(|_| Context::root(CLASS)).collect();
        while !contexts.is_empty() {
            let ids: BTreeSet<_> = contexts.iter().map(|context| context.id().as_u64()).collect();
            assert_eq!(alive(CLASS), ids);
            let mut n = 0;
            contexts.retain(|_| {
                n += 1;
                n % 3 == 0
            });
        }
        assert!(alive(CLASS).is_empty());
    }

    /// One thread makes contexts; it ends one half of them, and another thread the rest, while a third one reads.
    #[test]
    fn what_is_counted_of_contexts_that_come_and_go_never_falls() {
        const CLASS: &str = "comes and goes";
        const CONTEXTS: u64 = if cfg!(miri) { 200 } else { 20_000 };
        let books = || classes().into_iter().find(|class| class.class == CLASS);
        let (sender, receiver) = mpsc::channel::<Context>();
        std::thread::scope(|scope| {
            let owner = scope.spawn(move || {
                for n in 0..CONTEXTS {
                    let context = Context::root(CLASS);
                    context.charge({
                        let mut usage = crate::Usage::default();
                        (usage.polls, usage.db.rows) = (1, 2);
                        usage
                    });
                    if n % 2 == 0 {
                        sender.send(context).unwrap();
                    }
                }
            });
            let ender = scope.spawn(move || receiver.into_iter().for_each(drop));
            let mut seen = (0, 0, 0);
            while !(owner.is_finished() && ender.is_finished()) {
                let Some(books) = books() else { continue };
                let now = (books.opened, books.own.polls, books.own.db.rows);
                assert!(now.0 >= seen.0 && now.1 >= seen.1 && now.2 >= seen.2, "{seen:?}, then {now:?}");
                assert!(books.own.polls <= books.opened && books.open <= books.opened);
                seen = now;
            }
        });
        let books = books().unwrap();
        assert_eq!((books.opened, books.open), (CONTEXTS, 0));
        assert_eq!((books.own.polls, books.own.db.rows), (CONTEXTS, 2 * CONTEXTS));
    }
}
