//! The slots: where everything about a task lives that a wake or a join handle must reach while the task itself is
//! being polled.
//!
//! Slots are pages on shelves, three levels of at most 256 entries. Nothing ever moves, so a `&Slot` stays good while
//! user code makes the table grow: no `RefCell` around the hot path, and no unsafe either. Against one flat growable
//! array (which would take unsafe) that is two more dependent loads a lookup, both in the first-level cache; in return
//! growing never copies, and memory is touched 256 slots at a time.

use std::cell::{Cell, OnceCell};
use std::task::Waker;

use crate::handle::SLOT_MAX;
use crate::task::raw::Task;
use crate::task::state::Word;

/// No slot; ends the lists.
pub(crate) const NONE: u32 = u32::MAX;

/// One task's place: a cache line, so that a wake and a poll touch one, and a lookup shifts instead of multiplying.
#[repr(align(64))]
pub(crate) struct Slot {
    /// Generation and flags.
    pub(crate) word: Cell<Word>,
    /// The next slot of the list this one is in: run queue or free list, never both.
    pub(crate) next: Cell<u32>,
    /// Wall ticks of the wake that queued it; 0 = woken from within its own group.
    pub(crate) woken: Cell<u64>,
    /// The id of the context the task belongs to.
    pub(crate) group: Cell<u64>,
    /// The task, unless it is out (`RUNNING`), was freed, or never was (a bare slot).
    pub(crate) task: Cell<Option<Task>>,
    /// The task's process-unique id, 0 = none: what a join handle must match exactly.
    pub(crate) id: Cell<u64>,
    /// Who waits for the result.
    pub(crate) joiner: Cell<Option<Waker>>,
}

const FAN: usize = 256;

type Page = [Slot; FAN];
type Shelf = [OnceCell<Box<Page>>; FAN];

pub(crate) struct Slots {
    shelves: [OnceCell<Box<Shelf>>; FAN],
}

impl Slots {
    pub(crate) fn new() -> Slots {
        Slots { shelves: [const { OnceCell::new() }; FAN] }
    }

    /// `None` if no page was ever made for it.
    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&Slot> {
        let (shelf, page, at) = split(slot);
        Some(&self.shelves[shelf].get()?[page].get()?[at])
    }

    /// Makes the page if need be.
    ///
    /// # Panics
    ///
    /// Beyond 2^24 slots.
    pub(crate) fn get_or_make(&self, slot: u32) -> &Slot {
        assert!(slot <= SLOT_MAX, "bursar: more than {} tasks alive in one runtime", SLOT_MAX as u64 + 1);
        let (shelf, page, at) = split(slot);
        let shelf = self.shelves[shelf].get_or_init(|| Box::new([const { OnceCell::new() }; FAN]));
        &shelf[page].get_or_init(|| Box::new([const { Slot::vacant() }; FAN]))[at]
    }
}

impl Slot {
    const fn vacant() -> Slot {
        Slot {
            word: Cell::new(Word::vacant(0)),
            next: Cell::new(NONE),
            woken: Cell::new(0),
            group: Cell::new(0),
            task: Cell::new(None),
            id: Cell::new(0),
            joiner: Cell::new(None),
        }
    }
}

/// Eight bits a level. The masks are what lets the compiler drop the bounds checks.
#[inline]
fn split(slot: u32) -> (usize, usize, usize) {
    let slot = slot as usize;
    (slot >> 16 & (FAN - 1), slot >> 8 & (FAN - 1), slot & (FAN - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_a_cache_line() {
        assert_eq!(size_of::<Slot>(), 64);
    }

    #[test]
    fn each_number_has_its_own_slot_and_keeps_it() {
        let slots = Slots::new();
        let numbers = [0, 1, 255, 256, 257, 65_535, 65_536, 0x12_3456, SLOT_MAX];
        for number in numbers {
            assert!(slots.get(number).is_none_or(|slot| slot.group.get() == 0));
            slots.get_or_make(number).group.set(number as u64 + 1);
        }
        for number in numbers {
            assert_eq!(slots.get(number).unwrap().group.get(), number as u64 + 1);
        }
        assert!(slots.get(512).is_none());
    }

    #[test]
    #[should_panic(expected = "more than 16777216 tasks")]
    fn the_number_of_slots_is_bounded() {
        Slots::new().get_or_make(SLOT_MAX + 1);
    }
}
