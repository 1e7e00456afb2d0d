//! The slots: where everything about a task lives that a wake or a join handle must reach while the task itself is
//! being polled; and the list of those that are queued, which runs through them. **Fenced**, for that list.
//!
//! Slots are pages on shelves, three levels of at most 256 entries. Nothing ever moves, or goes before the whole does,
//! so a `&Slot` stays good while user code makes the table grow: no `RefCell` around the hot path. Against one flat
//! array a lookup costs two more dependent loads, both in the first-level cache; in return growing never copies, and
//! memory is touched 256 slots at a time.
//!
//! The list links slots by pointer and not by number, which spares the lookup at both of its ends: 20 instructions of
//! a wake and a poll. Its unsafe is one line, and sound by this:
//!
//! 1. A [`Link`] is made from an [`Entry`] or from a slot that was followed to, and kept in `self` and in slots of
//!    `self` only.
//! 2. An entry is made by looking up a number in `self` only, so its slot is one of `self`.
//! 3. Slots of `self` live, at one address, as long as `self`. Pages are `Rc`s for that: a `Box` that moves along with
//!    `self` would claim to be the only way to its content.

#![allow(unsafe_code)]

use std::cell::{Cell, OnceCell};
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::Waker;

use crate::handle::SLOT_MAX;
use crate::task::raw::Task;
use crate::task::state::Word;

/// One task's place: a cache line, of which a wake and a poll touch no second one.
#[repr(align(64))]
pub(crate) struct Slot {
    /// Which slot this is.
    pub(crate) number: u32,
    /// Generation and flags.
    pub(crate) word: Cell<Word>,
    /// The next one in the list.
    next: Cell<Link>,
    /// Wall ticks of the wake that queued it; 0 = woken from within its own group.
    pub(crate) woken: Cell<u64>,
    /// The id of the context the task belongs to. While the slot is vacant: the number of the next vacant one.
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
type Shelf = [OnceCell<Rc<Page>>; FAN];

pub(crate) struct Slots {
    shelves: [OnceCell<Box<Shelf>>; FAN],
    head: Cell<Link>,
    /// Meaningless while there is no head.
    tail: Cell<Link>,
    queued: Cell<u32>,
}

/// A slot, together with the slots it belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    slots: &'a Slots,
    slot: &'a Slot,
}

/// A slot of the same [`Slots`], or the end.
#[derive(Clone, Copy)]
struct Link(Option<NonNull<Slot>>);

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            shelves: [const { OnceCell::new() }; FAN],
            head: Cell::new(Link(None)),
            tail: Cell::new(Link(None)),
            queued: Cell::new(0),
        }
    }

    /// `None` if no page was ever made for it.
    #[inline]
    pub(crate) fn entry(&self, number: u32) -> Option<Entry<'_>> {
        let (shelf, page, at) = split(number);
        let slot = &self.shelves[shelf].get()?[page].get()?[at];
        Some(Entry { slots: self, slot })
    }

    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&Slot> {
        self.entry(number).map(|entry| entry.slot)
    }

    /// Makes the page if need be.
    ///
    /// # Panics
    ///
    /// Beyond 2^24 slots.
    pub(crate) fn make(&self, number: u32) -> Entry<'_> {
        assert!(number <= SLOT_MAX, "bursar: more than {} tasks alive in one runtime", SLOT_MAX as u64 + 1);
        let (shelf, page, at) = split(number);
        let first = number - at as u32;
        let shelf = self.shelves[shelf].get_or_init(|| Box::new([const { OnceCell::new() }; FAN]));
        let page =
            shelf[page].get_or_init(|| Rc::new(std::array::from_fn(|at| Slot::vacant(first + at as u32))));
        Entry { slots: self, slot: &page[at] }
    }

    /// Unlinks the first one.
    #[inline]
    pub(crate) fn pop(&self) -> Option<&Slot> {
        let slot = self.follow(self.head.get())?;
        self.head.set(slot.next.get());
        self.queued.set(self.queued.get() - 1);
        Some(slot)
    }

    /// Unlinks the one after `steps` others, or else the last one. Walks.
    pub(crate) fn pop_after(&self, steps: u64) -> Option<&Slot> {
        let mut before: Option<&Slot> = None;
        let mut slot = self.follow(self.head.get())?;
        for _ in 0..steps {
            let Some(next) = self.follow(slot.next.get()) else { break };
            (before, slot) = (Some(slot), next);
        }
        let Some(before) = before else { return self.pop() };
        before.next.set(slot.next.get());
        if slot.next.get().0.is_none() {
            self.tail.set(Link(Some(NonNull::from(before))));
        }
        self.queued.set(self.queued.get() - 1);
        Some(slot)
    }

    /// How many are linked.
    #[inline]
    pub(crate) fn queued(&self) -> u32 {
        self.queued.get()
    }

    #[inline]
    fn follow(&self, link: Link) -> Option<&Slot> {
        // SAFETY: links never leave this file, and point to slots of `self`, alive and in place as long as `self` (the
        // module's three points). Shared references only: what changes of a slot is in cells.
        link.0.map(|slot| unsafe { slot.as_ref() })
    }
}

impl<'a> Entry<'a> {
    #[inline]
    pub(crate) fn slot(self) -> &'a Slot {
        self.slot
    }

    /// Links it in, at the end. Only a slot that is not linked: the flag `QUEUED` says so. (Twice would tie a knot into
    /// the list: wrong, but not unsound.)
    #[inline]
    pub(crate) fn append(self) {
        let Entry { slots, slot } = self;
        let link = Link(Some(NonNull::from(slot)));
        slot.next.set(Link(None));
        let tail = slots.tail.replace(link);
        match slots.head.get() {
            Link(None) => slots.head.set(link),
            // A list with a head has a tail: nothing to panic about, which would cost here.
            Link(Some(_)) => {
                if let Some(tail) = slots.follow(tail) {
                    tail.next.set(link);
                }
            }
        }
        slots.queued.set(slots.queued.get() + 1);
    }
}

impl Slot {
    /// Puts a task into a slot without one. (`Cell::set` would look for one to drop.)
    #[inline]
    pub(crate) fn put(&self, task: Option<Task>) {
        let none = self.task.replace(task);
        debug_assert!(none.is_none());
        std::mem::forget(none);
    }

    fn vacant(number: u32) -> Self {
        Self {
            number,
            word: Cell::new(Word::vacant(0)),
            next: Cell::new(Link(None)),
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
fn split(number: u32) -> (usize, usize, usize) {
    let number = number as usize;
    (number >> 16 & (FAN - 1), number >> 8 & (FAN - 1), number & (FAN - 1))
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
            slots.make(number).slot().group.set(number as u64 + 1);
        }
        for number in numbers {
            let slot = slots.get(number).unwrap();
            assert_eq!((slot.group.get(), slot.number), (number as u64 + 1, number));
        }
        assert!(slots.get(512).is_none());
    }

    #[test]
    #[should_panic(expected = "more than 16777216 tasks")]
    fn the_number_of_slots_is_bounded() {
        Slots::new().make(SLOT_MAX + 1);
    }

    #[test]
    fn the_list_moves_along_with_the_slots() {
        let slots = Slots::new();
        (0..3).for_each(|number| slots.make(number * 300).append());
        let moved = Box::new(slots);
        let order: Vec<_> = std::iter::from_fn(|| moved.pop()).map(|slot| slot.number).collect();
        assert_eq!((order, moved.queued()), (vec![0, 300, 600], 0));
    }
}
