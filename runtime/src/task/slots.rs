//! The slots: where everything about a task lives that a wake or a join handle must reach while the task itself is
//! being polled; and the list of those that are queued, which runs through them. **Fenced**, for that list.
//!
//! Slots are pages of 256, and a list of pages that grows. No slot ever moves, or goes before the whole does, so a `&Slot`
//! stays good while user code makes the table grow: no `RefCell` around the hot path. In return a lookup costs one more
//! load than in a flat array, in the first-level cache as a rule.
//!
//! The list of the queued links slots by pointer and not by number, which spares the lookup at both of its ends: 20
//! instructions of a wake and a poll. It hangs on a slot that is no task's, so appending asks for nothing. Sound by this:
//!
//! 1. A [`Link`] is made from an [`Entry`], from a slot that was followed to, or from the stub, and kept in `self` and in
//!    slots of `self` only.
//! 2. An entry is made by looking up a number in `self` only, so its slot is one of `self`.
//! 3. Slots of `self`, and the stub, live, at one address, as long as `self`: boxes by their pointers, given back in its
//!    destructor only. (A `Box` that moves along with `self` would claim to be the only way to its content.)
//! 4. `pages` is borrowed for the length of a lookup or of a push, within which nobody else's code runs.

#![allow(unsafe_code)]

use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;

use crate::handle::{Packed, SLOT_MAX};
use crate::task::joiners::NO_JOINER;
use crate::task::raw::Task;
use crate::task::state::Word;

/// One task's place: a cache line, of which a wake and a poll touch no second one.
#[repr(align(64))]
pub(crate) struct Slot {
    /// What wakes of the task that is in here bear; of a vacant slot, what those of the next one will.
    pub(crate) handle: Cell<Packed>,
    /// The flags.
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
    /// Who waits for the result: a task here by its handle, [`NO_JOINER`], or
    /// [`FOREIGN_JOINER`](crate::task::joiners::FOREIGN_JOINER).
    pub(crate) joiner: Cell<Packed>,
}

const FAN: usize = 256;

type Page = [Slot; FAN];

pub(crate) struct Slots {
    /// The handle of slot 0 in its first use; those of the others differ by the slot only.
    first: Packed,
    pages: UnsafeCell<Vec<NonNull<Page>>>,
    /// What the list hangs on.
    stub: NonNull<Slot>,
    /// The first one of the list, if it is known: else it is the one after the stub, if there is one.
    head: Cell<Link>,
    /// The last one of the list; the stub if there is none.
    tail: Cell<NonNull<Slot>>,
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
    /// The slots of the runtime whose first slot has that handle in its first use.
    pub(crate) fn new(first: Packed) -> Self {
        let stub = leak(Slot::vacant(NO_JOINER));
        let (pages, head) = (UnsafeCell::new(Vec::new()), Cell::new(Link(None)));
        Self { first, pages, stub, head, tail: Cell::new(stub) }
    }

    /// `None` if no page was ever made for it.
    #[inline]
    pub(crate) fn entry(&self, number: u32) -> Option<Entry<'_>> {
        let (page, at) = split(number);
        // SAFETY: nobody pushes meanwhile (point 4).
        let page: NonNull<Page> = *unsafe { &*self.pages.get() }.get(page)?;
        // SAFETY: a page stays where it is as long as `self` (point 3).
        Some(Entry { slots: self, slot: &unsafe { page.as_ref() }[at] })
    }

    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&Slot> {
        self.entry(number).map(|entry| entry.slot)
    }

    /// Makes the page if need be, and those before it.
    ///
    /// # Panics
    ///
    /// Beyond 2^24 slots.
    pub(crate) fn make(&self, number: u32) -> Entry<'_> {
        assert!(number <= SLOT_MAX, "bursar: more than {} tasks alive in one runtime", SLOT_MAX as u64 + 1);
        loop {
            if let Some(entry) = self.entry(number) {
                return entry;
            }
            // SAFETY: nobody looks meanwhile (point 4).
            let pages = unsafe { &mut *self.pages.get() };
            let first = (pages.len() * FAN) as u32;
            let vacant = |at| Slot::vacant(self.first.at(first + at as u32));
            pages.push(leak(std::array::from_fn(vacant)));
        }
    }

    /// Unlinks the first one, if it is known: if it is not, [`pop_after`](Self::pop_after) may still find one.
    #[inline]
    pub(crate) fn pop_known(&self) -> Option<&Slot> {
        let slot = self.follow(self.head.get())?;
        let next = slot.next.get();
        self.head.set(next);
        if next.0.is_none() {
            self.be_empty();
        }
        Some(slot)
    }

    /// Unlinks the one that comes after the stub, and knows the first one from then on.
    #[inline]
    pub(crate) fn pop_first(&self) -> Option<&Slot> {
        self.head.set(self.stub().next.get());
        self.pop_known()
    }

    /// Unlinks the one after `steps` others, or else the last one; only while no first one is known. Walks.
    pub(crate) fn pop_after(&self, steps: u64) -> Option<&Slot> {
        debug_assert!(self.head.get().0.is_none());
        let mut before = self.stub();
        let mut slot = self.follow(before.next.get())?;
        for _ in 0..steps {
            let Some(next) = self.follow(slot.next.get()) else { break };
            (before, slot) = (slot, next);
        }
        before.next.set(slot.next.get());
        if slot.next.get().0.is_none() {
            self.tail.set(NonNull::from(before));
        }
        Some(slot)
    }

    /// Forgets the list: nothing is linked any more. The slots' words go on saying that they are.
    pub(crate) fn abandon(&self) {
        self.head.set(Link(None));
        self.be_empty();
    }

    #[inline]
    fn be_empty(&self) {
        self.stub().next.set(Link(None));
        self.tail.set(self.stub);
    }

    /// Whether any is linked.
    #[inline]
    pub(crate) fn is_queued(&self) -> bool {
        self.first().is_some()
    }

    /// How many are linked, but no more than `max`. Walks.
    pub(crate) fn queued(&self, max: u32) -> u32 {
        let list = std::iter::successors(self.first(), |slot| self.follow(slot.next.get()));
        list.take(max as usize).count() as u32
    }

    fn first(&self) -> Option<&Slot> {
        self.follow(self.head.get()).or_else(|| self.follow(self.stub().next.get()))
    }

    #[inline]
    fn stub(&self) -> &Slot {
        // SAFETY: it stays where it is as long as `self` (point 3). What changes of a slot is in cells.
        unsafe { self.stub.as_ref() }
    }

    #[inline]
    fn follow(&self, link: Link) -> Option<&Slot> {
        // SAFETY: links never leave this file, and point to slots of `self`, alive and in place as long as `self` (the
        // module's points). Shared references only: what changes of a slot is in cells.
        link.0.map(|slot| unsafe { slot.as_ref() })
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        for page in std::mem::take(self.pages.get_mut()) {
            // SAFETY: it comes from `leak`, nobody has a reference into it by `&mut self`, and it is given back once.
            drop(unsafe { Box::from_raw(page.as_ptr()) });
        }
        // SAFETY: the same. (Tasks that the pages held are gone, so nobody runs who would append to the list.)
        drop(unsafe { Box::from_raw(self.stub.as_ptr()) });
    }
}

/// A box, by its pointer.
fn leak<T>(value: T) -> NonNull<T> {
    NonNull::from(Box::leak(Box::new(value)))
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
        let own = NonNull::from(slot);
        slot.next.set(Link(None));
        let last = slots.tail.replace(own);
        // SAFETY: the tail is the stub or a slot of `slots`, as links are.
        unsafe { last.as_ref() }.next.set(Link(Some(own)));
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

    /// Which slot this is.
    #[inline]
    pub(crate) fn number(&self) -> u32 {
        self.handle.get().slot()
    }

    fn vacant(handle: Packed) -> Self {
        Self {
            handle: Cell::new(handle),
            word: Cell::new(Word::VACANT),
            next: Cell::new(Link(None)),
            woken: Cell::new(0),
            group: Cell::new(0),
            task: Cell::new(None),
            id: Cell::new(0),
            joiner: Cell::new(NO_JOINER),
        }
    }
}

/// The page, and the place in it. The mask is what lets the compiler drop a bounds check.
#[inline]
fn split(number: u32) -> (usize, usize) {
    (number as usize >> 8, number as usize & (FAN - 1))
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
        let slots = Slots::new(Packed::new(7, 3, 0));
        let numbers = [0, 1, 255, 256, 257, 65_535, 65_536, 0x1_3456];
        for number in numbers {
            assert!(slots.get(number).is_none_or(|slot| slot.group.get() == 0));
            slots.make(number).slot().group.set(number as u64 + 1);
        }
        for number in numbers {
            let slot = slots.get(number).unwrap();
            assert_eq!((slot.group.get(), slot.number()), (number as u64 + 1, number));
            assert_eq!(slot.handle.get(), Packed::new(7, 3, number));
        }
        assert!(slots.get(0x2_0000).is_none() && slots.get(SLOT_MAX).is_none());
    }

    #[test]
    #[should_panic(expected = "more than 16777216 tasks")]
    fn the_number_of_slots_is_bounded() {
        Slots::new(Packed::new(0, 0, 0)).make(SLOT_MAX + 1);
    }

    #[test]
    fn the_list_moves_along_with_the_slots() {
        let slots = Slots::new(Packed::new(0, 0, 0));
        (0..3).for_each(|number| slots.make(number * 300).append());
        let moved = Box::new(slots);
        let order: Vec<_> = std::iter::from_fn(|| moved.pop_known().or_else(|| moved.pop_first()))
            .map(Slot::number)
            .collect();
        assert_eq!((order, moved.is_queued()), (vec![0, 300, 600], false));
        moved.get(300).unwrap();
        moved.entry(300).unwrap().append();
        assert_eq!((moved.queued(9), moved.pop_first().map(Slot::number)), (1, Some(300)));
    }
}
