//! The table of registered sources: their readiness and who waits for it.
//!
//! Nothing in here wakes, clones or drops a waker; they are returned instead.

use std::task::Waker;

use mio::Token;
use slab::Slab;

use super::ready::{Direction, Ready};

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

/// What the table says to somebody who wants to act.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Go ahead.
    Ready,
    /// Not ready, and the asking task will be woken.
    Waiting,
    /// Not ready, and the asking task would not be woken.
    NotWaiting,
    /// There is no such source any more.
    Gone,
}

pub(super) struct Source {
    generation: u32,
    ready: Ready,
    /// Who waits, by [`Direction`].
    wakers: [Option<Waker>; 2],
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
        let slot = self.slab.insert(Source { generation, ready, wakers: [None, None] });
        let slot = u32::try_from(slot).expect("the number of sources is limited by that of descriptors");
        SourceKey { slot, generation }
    }

    #[must_use = "drop it outside of the borrow"]
    pub(super) fn remove(&mut self, key: SourceKey) -> Option<Source> {
        self.get(key)?;
        Some(self.slab.remove(key.slot as usize))
    }

    pub(super) fn ask(&self, key: SourceKey, direction: Direction, waker: &Waker) -> Asked {
        match self.get(key) {
            None => Asked::Gone,
            Some(source) if source.ready.has(direction) => Asked::Ready,
            Some(Source { wakers, .. }) => match &wakers[direction as usize] {
                Some(stored) if stored.will_wake(waker) => Asked::Waiting,
                _ => Asked::NotWaiting,
            },
        }
    }

    /// Lets `waker` wait. Also returns the waker that is of no use: the one it replaced, or itself.
    pub(super) fn park(
        &mut self,
        key: SourceKey,
        direction: Direction,
        waker: Waker,
    ) -> (Asked, Option<Waker>) {
        match self.get_mut(key) {
            None => (Asked::Gone, Some(waker)),
            Some(source) if source.ready.has(direction) => (Asked::Ready, Some(waker)),
            Some(source) => (Asked::Waiting, source.wakers[direction as usize].replace(waker)),
        }
    }

    /// Changes a source's readiness; nothing if the key is stale.
    pub(super) fn change(&mut self, key: SourceKey, change: impl FnOnce(Ready) -> Ready) {
        if let Some(source) = self.get_mut(key) {
            source.ready = change(source.ready);
        }
    }

    /// Adds what an event said, and moves the wakers of those who waited for it to `woken`. An event of a source
    /// that is no longer registered (its descriptor has a duplicate which keeps it in the poll set) is ignored.
    pub(super) fn take_in(&mut self, key: SourceKey, news: Ready, woken: &mut Vec<Waker>) {
        let Some(source) = self.get_mut(key) else { return };
        source.ready = source.ready.and(news);
        for direction in [Direction::Read, Direction::Write] {
            if news.has(direction) {
                woken.extend(source.wakers[direction as usize].take());
            }
        }
    }

    fn get(&self, key: SourceKey) -> Option<&Source> {
        self.slab.get(key.slot as usize).filter(|source| source.generation == key.generation)
    }

    fn get_mut(&mut self, key: SourceKey) -> Option<&mut Source> {
        self.slab.get_mut(key.slot as usize).filter(|source| source.generation == key.generation)
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
