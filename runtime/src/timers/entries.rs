//! The timers' memory: a slab whose entries are also the links of the wheel's lists.
//!
//! Links are indices into the slab, so the intrusive lists need no unsafe code and no allocation of their own.
//! `slab::Slab` would do for the memory but not for the links, generations and free list, so it is one `Vec`.

use std::task::Waker;

use super::wheel::Place;

/// The index that means "no entry".
pub(super) const NIL: u32 = u32::MAX;

/// Names a timer. A key outlives its timer harmlessly: it is stale then, until its entry has been reused exactly
/// 2^32 times (at 10 ns a timer that takes 43 s of doing nothing else, with the key kept all that time).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    index: u32,
    generation: u32,
}

impl TimerKey {
    pub(super) fn index(self) -> u32 {
        self.index
    }
}

/// The two ends of a doubly linked list of entries. All operations are in [`Entries`], which owns the links.
#[derive(Clone, Copy)]
pub(super) struct List {
    head: u32,
    tail: u32,
}

impl List {
    pub(super) const EMPTY: List = List { head: NIL, tail: NIL };

    pub(super) fn head(&self) -> u32 {
        self.head
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head == NIL
    }

    /// Whether there is exactly one entry.
    pub(super) fn is_single(&self) -> bool {
        self.head == self.tail && self.head != NIL
    }
}

/// What became of an entry that was to be freed if it is due.
pub(super) enum Released {
    Free(Option<Waker>),
    /// It is not due before this deadline.
    Kept(u64),
}

/// 40 bytes.
struct Entry {
    /// Who waits. `None` in a free entry.
    waker: Option<Waker>,
    /// In ns; the tick follows from it. Kept whole for paused time, which is exact.
    deadline: u64,
    /// The links of the list this entry is in; a free entry uses `next` for the free list.
    previous: u32,
    next: u32,
    /// Raised when the entry is freed, so no key of an earlier life matches.
    generation: u32,
    place: Place,
}

/// The slab. It grows to the highest number of timers that were pending together, and never shrinks.
pub(super) struct Entries {
    entries: Vec<Entry>,
    /// Head of the free list: the last freed entry, which is the one still in the cache.
    free: u32,
    live: usize,
}

impl Entries {
    pub(super) fn new() -> Entries {
        Entries { entries: Vec::new(), free: NIL, live: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// A new entry, not in any list yet.
    pub(super) fn allocate(&mut self, deadline: u64, waker: Waker) -> TimerKey {
        let index = if self.free == NIL { self.grow() } else { self.free };
        let entry = &mut self.entries[index as usize];
        self.free = entry.next;
        entry.waker = Some(waker);
        entry.deadline = deadline;
        self.live += 1;
        TimerKey { index, generation: entry.generation }
    }

    /// Frees an entry that is in no list. Returns its waker.
    pub(super) fn release(&mut self, index: u32) -> Option<Waker> {
        match self.release_if(index, |_| true).0 {
            Released::Free(waker) => waker,
            Released::Kept(_) => None,
        }
    }

    /// Frees an entry of a list that is being taken apart if it is due by its deadline. And the entry that came after it.
    #[inline]
    pub(super) fn release_if(&mut self, index: u32, is_due: impl FnOnce(u64) -> bool) -> (Released, u32) {
        let entry = &mut self.entries[index as usize];
        if !is_due(entry.deadline) {
            return (Released::Kept(entry.deadline), entry.next);
        }
        entry.generation = entry.generation.wrapping_add(1);
        let next = std::mem::replace(&mut entry.next, self.free);
        self.free = index;
        self.live -= 1;
        (Released::Free(entry.waker.take()), next)
    }

    pub(super) fn push_back(&mut self, list: &mut List, index: u32, place: Place) {
        let entry = &mut self.entries[index as usize];
        entry.place = place;
        entry.previous = list.tail;
        entry.next = NIL;
        match list.tail {
            NIL => list.head = index,
            tail => self.entries[tail as usize].next = index,
        }
        list.tail = index;
    }

    pub(super) fn unlink(&mut self, list: &mut List, index: u32) {
        let Entry { previous, next, .. } = self.entries[index as usize];
        match previous {
            NIL => list.head = next,
            previous => self.entries[previous as usize].next = next,
        }
        match next {
            NIL => list.tail = previous,
            next => self.entries[next as usize].previous = previous,
        }
    }

    pub(super) fn replace_waker(&mut self, key: TimerKey, waker: Waker) -> Waker {
        match self.entries.get_mut(key.index as usize) {
            Some(Entry { generation, waker: Some(stored), .. }) if *generation == key.generation => {
                std::mem::replace(stored, waker)
            }
            _ => waker,
        }
    }

    /// Gives a pending timer another deadline, and returns the former one.
    pub(super) fn replace_deadline(&mut self, key: TimerKey, deadline: u64) -> Option<u64> {
        let entry = self.entries.get_mut(key.index as usize)?;
        let pending = entry.generation == key.generation && entry.waker.is_some();
        pending.then(|| std::mem::replace(&mut entry.deadline, deadline))
    }

    /// The waker of a timer that is pending.
    pub(super) fn waker(&self, key: TimerKey) -> Option<&Waker> {
        self.pending(key)?.waker.as_ref()
    }

    /// The place of a timer that is pending.
    pub(super) fn place(&self, key: TimerKey) -> Option<Place> {
        self.pending(key).map(|entry| entry.place)
    }

    pub(super) fn deadline_and_next(&self, index: u32) -> (u64, u32) {
        let entry = &self.entries[index as usize];
        (entry.deadline, entry.next)
    }

    /// The key of a timer that is pending.
    pub(super) fn key(&self, index: u32) -> TimerKey {
        TimerKey { index, generation: self.entries[index as usize].generation }
    }

    /// The entries of a list, and their deadlines.
    pub(super) fn iter(&self, list: &List) -> impl Iterator<Item = (u32, u64)> {
        let mut index = list.head;
        std::iter::from_fn(move || {
            let entry = self.entries.get(index as usize)?;
            Some((std::mem::replace(&mut index, entry.next), entry.deadline))
        })
    }

    /// The waker is checked too: a free entry already has the generation of its next life.
    fn pending(&self, key: TimerKey) -> Option<&Entry> {
        self.entries
            .get(key.index as usize)
            .filter(|entry| entry.generation == key.generation && entry.waker.is_some())
    }

    #[cold]
    fn grow(&mut self) -> u32 {
        let index = self.entries.len() as u32;
        assert!(self.entries.len() < NIL as usize, "more than {} timers are pending", NIL - 1);
        let place = Place::of(0, 0);
        self.entries.push(Entry { waker: None, deadline: 0, previous: NIL, next: NIL, generation: 0, place });
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_40_bytes() {
        assert_eq!(size_of::<Entry>(), 40);
    }

    #[test]
    fn generations_wrap_around() {
        let mut entries = Entries::new();
        let first = entries.allocate(1, Waker::noop().clone());
        entries.release(first.index);
        entries.entries[0].generation = u32::MAX;

        let last = entries.allocate(1, Waker::noop().clone());
        assert_eq!(last.generation, u32::MAX);
        entries.release(last.index);
        assert!(entries.waker(last).is_none());

        // The free entry has the generation of `first` again, but holds no timer.
        assert!(entries.waker(first).is_none());
        let wrapped = entries.allocate(1, Waker::noop().clone());
        assert_eq!(wrapped.generation, 0);
        assert!(entries.waker(wrapped).is_some() && entries.waker(last).is_none());
    }

    #[test]
    fn freed_entries_are_reused_before_the_slab_grows() {
        let mut entries = Entries::new();
        let keys: Vec<_> = (0..8).map(|deadline| entries.allocate(deadline, Waker::noop().clone())).collect();
        for key in &keys {
            entries.release(key.index);
        }
        for deadline in 0..8 {
            entries.allocate(deadline, Waker::noop().clone());
        }
        assert_eq!(entries.entries.len(), 8);
        assert_eq!(entries.len(), 8);
    }
}
