//! The run queue: which tasks are to be polled, in the order in which they were woken.
//!
//! A list through the slots themselves, so it needs no capacity, no growth and no check. A slot is in it at most once:
//! the flag `QUEUED` says so. No clock here: who wakes brings the stamp.

use std::cell::Cell;

use crate::handle::Packed;
use crate::task::slots::{Entry, Slot, Slots};
use crate::task::state::Schedule;

/// The id of no group: nothing is woken "from within" it.
pub(crate) const NO_GROUP: u64 = u64::MAX;

/// How far into the queue a shuffled pop looks. Bounds its cost; farther tasks get their chance as nearer ones leave.
const SHUFFLE_REACH: u32 = 64;

pub(crate) struct Queue {
    pub(crate) slots: Slots,
    running_group: Cell<u64>,
    /// State of the shuffle; 0 = first in, first out.
    shuffle: Cell<u64>,
}

impl Queue {
    /// The queue of the runtime whose first slot has that handle in its first use.
    pub(crate) fn new(first: Packed) -> Queue {
        Queue { slots: Slots::new(first), running_group: Cell::new(NO_GROUP), shuffle: Cell::new(0) }
    }

    /// Queues the task, unless it is queued already or has finished. `stamp` is asked for the wall ticks unless the task
    /// is woken from within its own group: what it waits then is no wait for somebody else. Says whether `handle` is that
    /// of a task here: if not it is stale, or another runtime's.
    ///
    /// The hot path of a wake: plain loads and stores, one compare for runtime and generation together. Runs no user
    /// code.
    #[inline(always)]
    pub(crate) fn schedule(&self, handle: Packed, stamp: impl FnOnce() -> u64) -> bool {
        let Some(entry) = self.slots.entry(handle.slot()) else { return false };
        let slot = entry.slot();
        if slot.handle.get() != handle {
            return false;
        }
        if let Schedule::Push(word) = slot.word.get().schedule() {
            slot.word.set(word);
            self.link(entry, stamp);
        }
        true
    }

    /// Queues whatever task is in that slot now: for a wake of which it is not known any more which task it meant.
    pub(crate) fn schedule_slot(&self, number: u32, stamp: impl FnOnce() -> u64) {
        if let Some(slot) = self.slots.get(number) {
            self.schedule(slot.handle.get(), stamp);
        }
    }

    /// Appends a slot whose word says `QUEUED` since just now.
    #[inline(always)]
    pub(crate) fn link(&self, entry: Entry<'_>, stamp: impl FnOnce() -> u64) {
        if entry.slot().group.get() != self.running_group.get() {
            return link_stamped(entry, stamp);
        }
        entry.slot().woken.set(0);
        entry.append();
    }

    /// Unlinks the slot that is next; its word still says `QUEUED`.
    #[inline]
    pub(crate) fn pop(&self) -> Option<&Slot> {
        match self.slots.pop_known() {
            Some(slot) => Some(slot),
            None if self.shuffle.get() == 0 => self.slots.pop_first(),
            None => self.pop_shuffled(),
        }
    }

    /// Forgets what is queued, without touching it: this is a forked child, and the tasks are the parent's.
    pub(crate) fn abandon(&self) {
        self.slots.abandon();
    }

    /// Whether nothing is queued.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        !self.slots.is_queued()
    }

    #[cfg(test)]
    /// How many are queued.
    pub(crate) fn len(&self) -> u32 {
        self.slots.queued(u32::MAX)
    }

    /// The group on whose behalf the thread runs now; [`NO_GROUP`] while the loop itself works.
    #[inline]
    pub(crate) fn set_running_group(&self, group: u64) {
        self.running_group.set(group);
    }

    /// From now on pops come in a pseudo-random order that depends on nothing but `seed`. Each pop then walks up to
    /// 64 slots: for tests. (No first slot is known in the list then, so that only who finds none asks about the order.)
    pub(crate) fn shuffle(&self, seed: u64) {
        // Spread the seed, so that 1 and 2 differ at once; the state of an xorshift is never 0.
        self.shuffle.set(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1));
    }

    #[cold]
    fn pop_shuffled(&self) -> Option<&Slot> {
        self.slots.pop_after(self.random() % self.slots.queued(SHUFFLE_REACH).max(1) as u64)
    }

    /// xorshift64.
    fn random(&self) -> u64 {
        let mut x = self.shuffle.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.shuffle.set(x);
        x
    }
}

/// Out of line: who is woken from within its group does not pay for the registers that this needs.
#[inline(never)]
fn link_stamped(entry: Entry<'_>, stamp: impl FnOnce() -> u64) {
    entry.slot().woken.set(stamp());
    entry.append();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::state::{Begin, Word};
    use std::collections::VecDeque;

    /// A queue with `n` live slots of generation 0, all of group `slot % 3`.
    fn queue(n: u32) -> Queue {
        let queue = Queue::new(Packed::new(0, 0, 0));
        for number in 0..n {
            let slot = queue.slots.make(number).slot();
            slot.word.set(Word::VACANT.reserve());
            slot.group.set(number as u64 % 3);
        }
        queue
    }

    fn wake(queue: &Queue, slot: u32) -> bool {
        let before = queue.len();
        queue.schedule(Packed::new(0, 0, slot), || 9);
        queue.len() > before
    }

    /// Pops as the loop would, and puts the task back to idle.
    fn pop(queue: &Queue) -> Option<u32> {
        let slot = queue.pop()?;
        let Begin::Poll(word) = slot.word.get().begin() else { panic!("{:?}", slot.word.get()) };
        slot.word.set(word.suspend());
        Some(slot.number())
    }

    #[test]
    fn first_woken_first_popped_and_only_once() {
        let queue = queue(300);
        for slot in [5, 299, 5, 0, 256, 299] {
            wake(&queue, slot);
        }
        assert_eq!(queue.len(), 4);
        let order: Vec<_> = std::iter::from_fn(|| pop(&queue)).collect();
        assert_eq!(order, [5, 299, 0, 256]);
        assert_eq!((queue.len(), pop(&queue)), (0, None));
    }

    #[test]
    fn behaves_like_a_vecdeque_without_duplicates() {
        let queue = queue(600);
        let mut oracle = VecDeque::new();
        let mut seed = 88_172_645_463_325_252_u64;
        for _ in 0..200_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            if seed % 5 < 2 {
                assert_eq!(pop(&queue), oracle.pop_front());
            } else {
                let slot = (seed >> 8) as u32 % 600;
                let fresh = !oracle.contains(&slot);
                assert_eq!(wake(&queue, slot), fresh);
                if fresh {
                    oracle.push_back(slot);
                }
            }
            assert_eq!(queue.len() as usize, oracle.len());
        }
    }

    #[test]
    fn a_shuffled_queue_loses_nothing_and_repeats_by_seed() {
        let run = |seed| {
            let queue = queue(200);
            queue.shuffle(seed);
            let mut order = Vec::new();
            for round in 0..3 {
                (0..200).for_each(|slot| assert!(wake(&queue, slot)));
                // Interleave: the tail is removed and appended to while the list is short.
                while let Some(slot) = pop(&queue) {
                    order.push(slot);
                    if order.len() % 50 == 0 && round == 1 {
                        assert!(wake(&queue, slot));
                    }
                }
            }
            order
        };
        let (one, two) = (run(1), run(2));
        assert_eq!(one, run(1));
        assert_ne!(one, two);
        let mut first: Vec<_> = one[..200].to_vec();
        first.sort_unstable();
        assert_eq!(first, (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn a_wake_from_within_the_group_needs_no_stamp() {
        let queue = queue(3);
        queue.set_running_group(1);
        assert!(queue.schedule(Packed::new(0, 0, 1), || unreachable!()));
        assert!(queue.schedule(Packed::new(0, 0, 2), || 42));
        let stamps: Vec<_> = [1, 2].map(|slot| queue.slots.get(slot).unwrap().woken.get()).into();
        assert_eq!(stamps, [0, 42]);
    }

    #[test]
    fn a_handle_of_nowhere_is_ignored() {
        let queue = queue(1);
        assert!(!wake(&queue, 1), "a vacant slot");
        assert!(!wake(&queue, 70_000), "a slot without a page");
        assert!(!queue.schedule(Packed::new(0, 1, 0), || 0), "another generation");
        assert!(!queue.schedule(Packed::new(1, 0, 0), || 0), "another runtime");
    }
}
