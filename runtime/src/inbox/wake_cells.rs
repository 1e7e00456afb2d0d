//! Wakes from other threads: one cell for each task slot, and a list of those that are pending.
//!
//! Any number of wakes of one task before the loop looks are one entry of the list: they are *coalesced*. So the memory
//! is bounded by the number of tasks, whatever other threads do, and a wake neither blocks nor fails.
//!
//! # The word of a cell
//!
//! | word | meaning | list |
//! |---|---|---|
//! | `IDLE` | nobody woke the task since the loop looked | not in it |
//! | `pending(generation)` | the task of that generation of the slot is to be woken | in it, or about to be |
//! | `ANY` | tasks of several generations are to be woken: whichever is in the slot | the same |
//!
//! ```text
//!            a wake (it then pushes the cell)           a wake of another generation
//!   IDLE ------------------------------> pending(g) ------------------------------> ANY
//!    ^                                      |  ^ |                                   |
//!    |                                      |  '-' a wake of the same generation     |
//!    '--------------------------------------+----------------------------------------'
//!                        the loop takes the cell, then wakes the task
//! ```
//!
//! A wake of a task that is pending already still does a read-modify-write, and not only a load: what its thread wrote
//! before the wake is visible to the poll that follows because the loop's swap to `IDLE` reads what this wrote. By a load
//! alone the loop could have taken the cell before, and the poll could miss what was written: a lost wake.
//!
//! A stale waker, of a task that is gone, must not swallow the wake of the one that has the slot now. So a wake that finds
//! another generation pending makes it `ANY`, which wakes whatever is in the slot: at worst a spurious poll.
//!
//! # The list
//!
//! `head` is `EMPTY`, `ASLEEP`, or the slot of the newest cell, from which the list goes on through `next`. Only the
//! thread that changed a word from `IDLE` pushes the cell, and only the loop takes the list, as a whole, by one swap. So a
//! cell is pushed once at a time, and there is no ABA. Between the two, `next` and `stamp` of a cell belong to the thread
//! that pushes it, then to the loop until it sets the word to `IDLE`.
//!
//! A loop that goes to sleep changes `EMPTY` to `ASLEEP`. Whoever replaces `ASLEEP` has to notify it: exactly one thread
//! does, and none while the loop is awake.
//!
//! A thread that is preempted between the two steps of a wake delays the other wakes of *that* task, which are coalesced
//! with it; it loses none, and delays no other task.
//!
//! # The end of a runtime
//!
//! The cells outlive the runtime: a later one uses them. Nothing is reset. What late wakers leave behind stays pending,
//! and coalesced, and the next runtime takes it as a wake of a generation that it does not have.

use super::atomics::{AtomicU32, AtomicU64, FIRST_BLOCK, OnceLock, Ordering};
use crate::handle::SLOT_MAX;
use std::cell::Cell;

/// The word of a cell that is not to be woken.
const IDLE: u32 = 0;
/// Wake whatever task is in the slot.
const ANY: u32 = 1;

/// Wake the task of that generation of the slot.
const fn pending(generation: u32) -> u32 {
    generation + 2
}

/// The end of a list, and the head of an empty one.
const EMPTY: u32 = u32::MAX;
/// The head of an empty list while the loop sleeps.
const ASLEEP: u32 = u32::MAX - 1;
/// The number of the cell that announces messages. It has the number after the last slot.
const MESSAGES: u32 = SLOT_MAX + 1;

/// So many blocks have a cell for each slot.
const BLOCKS: usize = (SLOT_MAX + FIRST_BLOCK).ilog2() as usize - FIRST_BLOCK.ilog2() as usize + 1;

/// The cells of one runtime after another.
///
/// # Memory
///
/// 16 bytes for each slot of the blocks that were ever needed: blocks are made at the first wake from another thread, and
/// kept for as long as the process lives.
pub(super) struct WakeCells {
    head: Head,
    messages: WakeCell,
    blocks: [OnceLock<Box<[WakeCell]>>; BLOCKS],
}

/// On cache lines of its own (two, since processors fetch them in pairs): each push writes it, and each look of the loop
/// reads it.
#[repr(align(128))]
struct Head(AtomicU32);

pub(super) struct WakeCell {
    word: AtomicU32,
    next: AtomicU32,
    /// Wall ticks of the first of the wakes that are pending.
    stamp: AtomicU64,
}

/// What the loop does while it is woken.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Loop {
    /// It looks at the list before it sleeps.
    Awake,
    /// It sleeps, and the caller has to notify it.
    Asleep,
}

/// What the loop finds in the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// The task that has this generation of this slot was woken.
    Task { slot: u32, generation: u32 },
    /// Whatever task is in that slot is to be woken.
    Slot(u32),
    /// There are messages.
    Messages,
}

impl WakeCells {
    pub(super) fn new() -> Self {
        Self {
            head: Head(AtomicU32::new(EMPTY)),
            messages: WakeCell::new(),
            blocks: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    /// Wakes the task that has that generation of that slot. `stamp` is asked for the wall ticks unless it is pending
    /// already.
    //
    // Inlined into the one function that wakes from other threads.
    #[inline]
    pub(super) fn wake(&self, slot: u32, generation: u32, stamp: impl FnOnce() -> u64) -> Loop {
        self.mark(slot, self.make(slot), pending(generation), stamp)
    }

    /// Says that there are messages: call it after one was put where the loop looks for them.
    pub(super) fn announce_messages(&self) -> Loop {
        self.mark(MESSAGES, &self.messages, pending(0), || 0)
    }

    /// Whether somebody woke a task of that slot, and the loop has not taken that.
    pub(super) fn is_pending(&self, slot: u32) -> bool {
        self.find(slot).is_some_and(|cell| cell.word.load(Ordering::Acquire) != IDLE)
    }

    /// Whether there is something in the list. One plain load: for every look of the loop.
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        self.head.0.load(Ordering::Relaxed) != EMPTY
    }

    /// Before the loop blocks. `false`: there is something in the list, do not. `true`: whoever puts something there from
    /// now on notifies the loop, which then takes the list, empty or not.
    #[must_use]
    pub(super) fn fall_asleep(&self) -> bool {
        let (failed, done) = (Ordering::Relaxed, Ordering::AcqRel);
        self.head.0.compare_exchange(EMPTY, ASLEEP, done, failed).is_ok()
    }

    #[inline]
    fn mark(&self, number: u32, cell: &WakeCell, mine: u32, stamp: impl FnOnce() -> u64) -> Loop {
        // The first guess is "pending already": in a flood that is all there is to do, and to load the word before would
        // fetch its cache line twice.
        let mut word = mine;
        loop {
            let next = if word == IDLE || word == mine { mine } else { ANY };
            match cell.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(IDLE) => return self.push(number, cell, stamp()),
                Ok(_) => return Loop::Awake,
                Err(now) => word = now,
            }
        }
    }

    /// Puts a cell, whose word this thread has just changed from `IDLE`, into the list.
    #[inline]
    fn push(&self, number: u32, cell: &WakeCell, stamp: u64) -> Loop {
        cell.stamp.store(stamp, Ordering::Relaxed);
        let mut head = self.head.0.load(Ordering::Relaxed);
        loop {
            cell.next.store(if head == ASLEEP { EMPTY } else { head }, Ordering::Relaxed);
            match self.head.0.compare_exchange_weak(head, number, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(ASLEEP) => return Loop::Asleep,
                Ok(_) => return Loop::Awake,
                Err(now) => head = now,
            }
        }
    }

    /// The cell of that slot, which is made if need be.
    #[inline]
    pub(super) fn make(&self, slot: u32) -> &WakeCell {
        let (block, at) = position(slot);
        let cells = self.blocks[block].get_or_init(|| new_block(block));
        &cells[at]
    }

    /// `None` if no waker ever needed it.
    fn find(&self, number: u32) -> Option<&WakeCell> {
        if number == MESSAGES {
            return Some(&self.messages);
        }
        let (block, at) = position(number);
        self.blocks[block].get()?.get(at)
    }
}

impl WakeCell {
    fn new() -> Self {
        Self { word: AtomicU32::new(IDLE), next: AtomicU32::new(EMPTY), stamp: AtomicU64::new(0) }
    }
}

#[cold]
fn new_block(block: usize) -> Box<[WakeCell]> {
    let first = (FIRST_BLOCK << block) - FIRST_BLOCK;
    let cells = (FIRST_BLOCK << block).min(SLOT_MAX + 1 - first);
    (0..cells).map(|_| WakeCell::new()).collect()
}

/// The block that has the cell of a slot, and the place in it.
#[inline]
fn position(slot: u32) -> (usize, usize) {
    let number = slot + FIRST_BLOCK;
    let log = number.ilog2();
    ((log - FIRST_BLOCK.ilog2()) as usize, (number - (1 << log)) as usize)
}

/// What the loop has taken out of the list and not worked off. It belongs to one runtime.
///
/// The list comes with the newest first, and is turned round: the task that was woken first is polled first. Both the
/// turning round and the waking go on where they stopped, so that no list is too long for one look.
pub(super) struct Drain {
    /// What is to be turned round, the newest first.
    newest: Cell<u32>,
    /// What was turned round, the oldest first.
    oldest: Cell<u32>,
}

impl Drain {
    pub(super) fn new() -> Self {
        Self { newest: Cell::new(EMPTY), oldest: Cell::new(EMPTY) }
    }

    /// Whether everything that was taken is worked off.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.newest.get() == EMPTY && self.oldest.get() == EMPTY
    }

    /// Hands out what is pending, the oldest first, with the ticks of the wake; no more than `steps` permit, of which each
    /// entry takes two. Takes the list, and ends a sleep, if nothing is left from the last time.
    pub(super) fn take(&self, cells: &WakeCells, mut steps: u32, mut found: impl FnMut(Found, u64)) {
        if self.is_empty() {
            let head = cells.head.0.swap(EMPTY, Ordering::AcqRel);
            self.newest.set(if head == ASLEEP { EMPTY } else { head });
        }
        while let Some(cell) = self.first(cells, &self.newest, &mut steps) {
            let number = self.newest.replace(cell.next.load(Ordering::Relaxed));
            cell.next.store(self.oldest.replace(number), Ordering::Relaxed);
        }
        if self.newest.get() != EMPTY {
            return;
        }
        while let Some(cell) = self.first(cells, &self.oldest, &mut steps) {
            // In this order: once the word is idle another thread may push the cell again, and then both are its own.
            let (next, stamp) = (cell.next.load(Ordering::Relaxed), cell.stamp.load(Ordering::Relaxed));
            let number = self.oldest.replace(next);
            // And the task is woken after: a wake from now on counts for the poll after the next.
            found(entry(number, cell.word.swap(IDLE, Ordering::AcqRel)), stamp);
        }
    }

    /// The first cell of one of the lists, if a step is left for it.
    fn first<'a>(&self, cells: &'a WakeCells, list: &Cell<u32>, steps: &mut u32) -> Option<&'a WakeCell> {
        let left = steps.checked_sub(1)?;
        let cell = if list.get() == EMPTY { None } else { cells.find(list.get()) };
        if cell.is_some() {
            *steps = left;
        }
        cell
    }

    /// At the end of the runtime: what was taken would be pending for ever, and the wakes of later runtimes be coalesced
    /// with it.
    pub(super) fn abandon(&self, cells: &WakeCells) {
        while !self.is_empty() {
            self.take(cells, u32::MAX, |_, _| ());
        }
    }
}

fn entry(number: u32, word: u32) -> Found {
    match (number, word) {
        (MESSAGES, _) => Found::Messages,
        (slot, ANY) => Found::Slot(slot),
        (slot, word) => Found::Task { slot, generation: word - pending(0) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found with that many steps.
    fn take(cells: &WakeCells, drain: &Drain, steps: u32) -> Vec<(Found, u64)> {
        let mut all = Vec::new();
        drain.take(cells, steps, |found, stamp| all.push((found, stamp)));
        all
    }

    fn task(slot: u32, generation: u32) -> Found {
        Found::Task { slot, generation }
    }

    #[test]
    fn a_cell_is_16_bytes_and_the_head_stands_alone() {
        assert_eq!((size_of::<WakeCell>(), size_of::<Head>()), (16, 128));
    }

    #[test]
    fn each_slot_has_a_cell_of_its_own() {
        let mut last = (0, 0);
        let far = [1 << 16, 1 << 20, SLOT_MAX - 1, SLOT_MAX];
        for slot in (1..2_000).chain(far.into_iter().flat_map(|slot| [slot - 1, slot])) {
            let at = position(slot);
            assert!(at > last || at == (last.0, last.1), "{slot}: {at:?}");
            assert!(at.0 < BLOCKS);
            last = at;
        }
        assert_eq!([0, 63, 64, 191, 192].map(position), [(0, 0), (0, 63), (1, 0), (1, 127), (2, 0)]);
        assert!(new_block(3).len() == 512 && position(SLOT_MAX).0 == BLOCKS - 1);
    }

    #[test]
    fn p29_any_number_of_wakes_are_one_entry_in_the_order_of_the_first() {
        let (cells, drain) = (WakeCells::new(), Drain::new());
        assert!(!cells.is_waiting());
        for round in 0..1_000 {
            for slot in [7, 300, 7, 0] {
                let stamp = round * 10 + u64::from(slot);
                assert_eq!(cells.wake(slot, 5, || stamp), Loop::Awake);
            }
        }
        assert!(cells.is_waiting() && cells.is_pending(7) && !cells.is_pending(8));
        let all = take(&cells, &drain, 100);
        assert_eq!(all, [(task(7, 5), 7), (task(300, 5), 300), (task(0, 5), 0)]);
        assert!(drain.is_empty() && !cells.is_waiting() && !cells.is_pending(7));
        assert_eq!(take(&cells, &drain, 100), []);
    }

    /// The stamp is what the task's wait is reckoned by, so it is that of the wake, and of the first one.
    #[test]
    fn p29_a_wake_that_is_pending_asks_for_no_stamp_and_a_new_one_does() {
        let (cells, drain) = (WakeCells::new(), Drain::new());
        assert_eq!(cells.wake(1, 1, || 11), Loop::Awake);
        assert_eq!(cells.wake(1, 1, || unreachable!()), Loop::Awake);
        assert_eq!(take(&cells, &drain, 9), [(task(1, 1), 11)]);
        assert_eq!(cells.wake(1, 1, || 12), Loop::Awake);
        assert_eq!(take(&cells, &drain, 9), [(task(1, 1), 12)]);
    }

    #[test]
    fn r3_a_stale_wake_does_not_swallow_that_of_the_task_in_the_slot() {
        let (cells, drain) = (WakeCells::new(), Drain::new());
        for (first, second) in [(4, 5), (5, 4)] {
            assert_eq!(cells.wake(3, first, || 1), Loop::Awake);
            assert_eq!(cells.wake(3, second, || 2), Loop::Awake);
            assert_eq!(cells.wake(3, first, || 3), Loop::Awake);
            assert_eq!(take(&cells, &drain, 9), [(Found::Slot(3), 1)]);
        }
    }

    #[test]
    fn r1_a_look_takes_what_was_there_at_its_start_in_bounded_steps() {
        const TASKS: u32 = 1_000;
        let (cells, drain) = (WakeCells::new(), Drain::new());
        let wake_all = |generation| {
            (0..TASKS).for_each(|slot| assert_eq!(cells.wake(slot, generation, || 1), Loop::Awake));
        };
        wake_all(0);
        let (mut found, mut looks) = (Vec::new(), 0);
        while found.is_empty() || !drain.is_empty() {
            let before = found.len();
            // A flood goes on meanwhile: each task that was taken is woken anew at once.
            drain.take(&cells, 64, |entry, _| {
                let Found::Task { slot, .. } = entry else { panic!("{entry:?}") };
                assert_eq!(cells.wake(slot, 0, || 2), Loop::Awake);
                found.push(slot);
            });
            assert!(found.len() - before <= 64);
            looks += 1;
        }
        assert_eq!(found, (0..TASKS).collect::<Vec<_>>(), "each once, and what came meanwhile not yet");
        assert_eq!(looks, 2 * TASKS / 64 + 1);
        assert!(cells.is_waiting());
    }

    #[test]
    fn r1_whoever_wakes_a_loop_that_sleeps_notifies_it_and_nobody_else_does() {
        let (cells, drain) = (WakeCells::new(), Drain::new());
        for _ in 0..3 {
            assert!(cells.fall_asleep() && !cells.fall_asleep() && cells.is_waiting());
            assert_eq!(cells.wake(1, 0, || 1), Loop::Asleep);
            assert_eq!(cells.wake(1, 0, || 2), Loop::Awake);
            assert_eq!(cells.wake(2, 0, || 3), Loop::Awake);
            assert_eq!(cells.announce_messages(), Loop::Awake);
            assert!(!cells.fall_asleep());
            let all = take(&cells, &drain, 9);
            assert_eq!(all, [(task(1, 0), 1), (task(2, 0), 3), (Found::Messages, 0)]);
        }
        // Woken by something else: the next one need not notify.
        assert!(cells.fall_asleep());
        assert_eq!(take(&cells, &drain, 9), []);
        assert_eq!(cells.announce_messages(), Loop::Awake);
    }

    #[test]
    fn r3_what_a_runtime_leaves_behind_wakes_nobody_and_loses_nothing_of_the_next() {
        let cells = WakeCells::new();
        let drain = Drain::new();
        (0..9).for_each(|slot| assert_eq!(cells.wake(slot, 1, || 1), Loop::Awake));
        assert_eq!(take(&cells, &drain, 12).len(), 3, "it ends in the middle of its work");
        drain.abandon(&cells);
        assert!((0..9).all(|slot| !cells.is_pending(slot)));
        // A late waker of it, and one of its successor.
        assert_eq!(cells.wake(4, 1, || 2), Loop::Awake);
        let drain = Drain::new();
        assert_eq!(cells.wake(4, 77, || 3), Loop::Awake);
        assert_eq!(cells.wake(5, 77, || 4), Loop::Awake);
        assert_eq!(take(&cells, &drain, 99), [(Found::Slot(4), 2), (task(5, 77), 4)]);
    }
}
