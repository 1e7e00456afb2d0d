//! The table of registered sources: their readiness and who waits for it.
//!
//! Nothing in here wakes, clones or drops a waker; they are returned instead. A task of this runtime waits by its
//! number, and waking it is but to queue it: that may be done at any time.

use std::cell::Cell;
use std::task::Waker;

use mio::Token;
use slab::Slab;

use super::ready::{Direction, Ready};
use crate::handle::Packed;

/// Names a registration: slot and generation, which together are the mio token. Stale after deregistration; a
/// stale key could be taken for another source's only after 2^32 registrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceKey {
    slot: u32,
    generation: u32,
}

impl SourceKey {
    pub(super) fn token(self) -> Token {
        Token((self.generation as usize) << 32 | self.slot as usize)
    }
}

impl From<Token> for SourceKey {
    fn from(Token(token): Token) -> SourceKey {
        SourceKey { slot: token as u32, generation: (token >> 32) as u32 }
    }
}

/// Who wants to act, and is woken when that may succeed.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    /// The task that `waker` wakes, if it is one of this runtime and the waker its own: then `waker` is not touched.
    pub(crate) task: Option<Packed>,
    pub(crate) waker: &'a Waker,
}

/// Who is woken by an event.
#[derive(Default)]
pub(super) enum Waiter {
    #[default]
    Nobody,
    /// A task of this runtime. Its number is all there is to it: no clone, no drop, no call through a vtable.
    Task(Packed),
    /// Anybody else: a combinator, a counted waker, a task of another runtime.
    Waker(Waker),
}

impl Asker<'_> {
    /// Clones the waker if need be, which may run any code.
    pub(super) fn waiter(self) -> Waiter {
        match self.task {
            Some(task) => Waiter::Task(task),
            None => Waiter::Waker(self.waker.clone()),
        }
    }
}

/// One registration. An operation finds it once, and keeps it for as long as it takes: nobody's code but ours and the
/// kernel's runs meanwhile.
pub(crate) struct Source {
    generation: u32,
    ready: Cell<Ready>,
    /// Who waits, by [`Direction`].
    waiters: [Cell<Waiter>; 2],
}

impl Source {
    #[inline]
    pub(super) fn is_ready(&self, direction: Direction) -> bool {
        self.ready.get().has(direction)
    }

    /// After an attempt that would have blocked.
    #[inline]
    pub(super) fn would_block(&self, direction: Direction) {
        self.ready.set(self.ready.get().without(direction));
    }

    /// After an attempt that moved less than it might have.
    #[inline]
    pub(super) fn fell_short(&self, direction: Direction) {
        self.ready.set(self.ready.get().without_unless_closed(direction));
    }

    /// Lets a task wait, if no waker has to be cloned or dropped for that. Whether it does.
    #[inline]
    pub(super) fn wait_by_number(&self, direction: Direction, task: Packed) -> bool {
        let waiter = &self.waiters[direction as usize];
        match waiter.replace(Waiter::Task(task)) {
            Waiter::Nobody | Waiter::Task(_) => true,
            other => {
                waiter.set(other);
                false
            }
        }
    }

    /// Whether `asker` waits, or can be let in without a clone and a drop.
    pub(super) fn waits(&self, direction: Direction, asker: Asker<'_>) -> bool {
        if let Some(task) = asker.task {
            return self.wait_by_number(direction, task);
        }
        let waiter = &self.waiters[direction as usize];
        let stored = waiter.take();
        let same = matches!(&stored, Waiter::Waker(stored) if stored.will_wake(asker.waker));
        waiter.set(stored);
        same
    }

    /// Lets `waiter` wait. Returns who waited before, to be dropped when nothing is borrowed.
    #[must_use = "drop it outside of the borrow"]
    pub(super) fn park(&self, direction: Direction, waiter: Waiter) -> Waiter {
        self.waiters[direction as usize].replace(waiter)
    }

    /// Adds what an event said; who waited for that is woken, or left in `woken` if waking him may run any code.
    #[inline]
    pub(super) fn take_in(&self, news: Ready, mut wake: impl FnMut(Packed), woken: &mut Vec<Waker>) {
        self.ready.set(self.ready.get().and(news));
        for direction in [Direction::Read, Direction::Write] {
            if news.has(direction) {
                match self.waiters[direction as usize].take() {
                    Waiter::Nobody => {}
                    Waiter::Task(task) => wake(task),
                    Waiter::Waker(waker) => woken.push(waker),
                }
            }
        }
    }
}

pub(super) struct Sources {
    slab: Slab<Source>,
    /// One counter for all slots, so that a slot needs no memory of its own while it is free.
    generation: u32,
}

impl Sources {
    pub(super) fn new() -> Sources {
        Sources { slab: Slab::new(), generation: 0 }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn insert(&mut self, ready: Ready) -> SourceKey {
        let generation = self.generation;
        self.generation = generation.wrapping_add(1);
        let source = Source { generation, ready: Cell::new(ready), waiters: Default::default() };
        let slot = self.slab.insert(source);
        let slot = u32::try_from(slot).expect("the number of sources is limited by that of descriptors");
        SourceKey { slot, generation }
    }

    #[must_use = "drop it outside of the borrow"]
    pub(super) fn remove(&mut self, key: SourceKey) -> Option<Source> {
        self.get(key)?;
        Some(self.slab.remove(key.slot as usize))
    }

    /// `None` if the key is stale.
    #[inline]
    pub(super) fn get(&self, key: SourceKey) -> Option<&Source> {
        self.slab.get(key.slot as usize).filter(|source| source.generation == key.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_carry_the_whole_key() {
        let edges = [0, 1, 0x7FFF_FFFF, 0x8000_0000, u32::MAX - 2];
        for slot in edges {
            for generation in edges.into_iter().chain([u32::MAX]) {
                let key = SourceKey { slot, generation };
                assert_eq!(SourceKey::from(key.token()), key);
                assert!(key.token() < super::super::BELL);
            }
        }
    }

    #[test]
    fn a_reused_slot_has_another_generation() {
        let mut sources = Sources::new();
        sources.generation = u32::MAX;
        let first = sources.insert(Ready::NOTHING);
        assert!(sources.remove(first).is_some());
        let second = sources.insert(Ready::NOTHING);
        assert_eq!((first.slot, second.slot), (0, 0));
        assert_eq!((first.generation, second.generation), (u32::MAX, 0));
        assert!(sources.remove(first).is_none());
        assert_eq!(sources.len(), 1);
    }
}
