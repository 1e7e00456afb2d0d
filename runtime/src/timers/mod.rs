//! The timers of one runtime: a hierarchical wheel that is told what time it is.
//!
//! It reads no clock and wakes nobody: [`Timers::advance`] takes `now` and hands out the wakers that are due,
//! and whatever a waker's own code does (wake, clone and drop may all be foreign code) happens after the
//! caller has let go of the structure.
//!
//! ```text
//!  tick (52 bits) = | digit 8 | ... | digit 2 | digit 1 | digit 0 |      6 bits each, 1 tick = 4.096 us
//!
//!  level 0    64 slots of 1 tick          the next 262 us     list of the timers of exactly that tick
//!  level 1    64 slots of 64 ticks        the next  17 ms     list, unsorted by tick
//!  ...
//!  level 8    64 slots of 2^48 ticks      584 years           the whole range of a u64 of nanoseconds
//! ```
//!
//! A timer lives on the level of the highest digit in which its tick differs from the present tick, in the slot
//! of that digit. So the lowest occupied level always holds the earliest timer, the lowest occupied slot of that
//! level is where it is, and finding it takes two count-trailing-zeros. When the present enters a slot of an
//! upper level, the timers in it *cascade*: they move to lower levels, at most eight times in a timer's life.
//!
//! Invariant: after every public call, each timer is in the place that [`Place::of`] computes from the present
//! tick and its own. Firing order (by tick, then first in first out) rests on it: two timers of one tick are
//! always in one list, or the older one is moved there before the younger one can be inserted.
//! The exception is a timer whose deadline was moved later: it stays where it is, until the present comes there and
//! finds that it is not due. So moving a deadline away again and again, as a timeout per request does, is one store.
//!
//! # How late
//!
//! Ticks are fine, so that a timer which is due fires when the loop looks, whatever made it look. They are not the
//! moments at which the loop wakes: a sleep of the loop costs the kernel two switches and two settings of its timer, 20 us
//! and more of CPU in a virtual machine. So timers that are due soon after each other share one wake-up:
//! [`Timers::next_wake`] waits from the first of a crowd up to 123 us for the others. One that has no neighbour is not
//! kept waiting.

mod entries;
mod wheel;

use std::task::Waker;

use entries::{Entries, NIL, Released};
use wheel::{PLACED_MAX, Place, Wheel};

pub(crate) use entries::TimerKey;

/// One tick is 2^12 ns: 4.096 us.
const TICK_BITS: u32 = 12;

/// The last tick that a u64 of nanoseconds can say.
const TICK_MAX: u64 = u64::MAX >> TICK_BITS;
const _: () = assert!(TICK_MAX <= PLACED_MAX);

/// How long the first of a crowd waits for the others: 123 us.
const PATIENCE: u64 = 30;

/// The most that a wake-up is asked for ahead of time, in ns: half of the patience. So what a busy loop was late by is not
/// taken for the kernel's.
const LAG_MAX: u64 = (PATIENCE << TICK_BITS) / 2;

/// The wheel. Insert, cancel and [`next_deadline`](Self::next_deadline) are O(1) and allocate nothing in steady
/// state.
///
/// # Memory
///
/// 9 KiB for the wheel, and 40 bytes for each timer of the highest number that were ever pending at one time:
/// the memory of fired and cancelled timers is reused, and given back only when the whole structure is dropped.
pub(crate) struct Timers {
    entries: Entries,
    wheel: Wheel,
    /// The present tick. Every pending timer's tick is this or later; those of this very tick are overdue.
    present: u64,
    /// A timer whose owner has dropped it, kept for the next one who asks in the same turn: a connection that drops the
    /// timer of one request and makes that of the next.
    aside: Option<TimerKey>,
    /// The latest `now` of `advance`, in ns; `present` is this without its last 12 bits.
    now: u64,
    /// When the loop, which sleeps now, asked to be woken.
    asked: Option<u64>,
    /// How much later than asked the loop wakes, in ns: a moving average that is four times quicker to rise than to fall,
    /// so that most wake-ups are no later.
    lag: u64,
}

impl Default for Timers {
    fn default() -> Self {
        Self::new()
    }
}

impl Timers {
    /// No timers, at time 0.
    pub(crate) fn new() -> Self {
        let (entries, wheel) = (Entries::new(), Wheel::new());
        Timers { entries, wheel, present: 0, aside: None, now: 0, asked: None, lag: 0 }
    }

    /// Adds a timer: `waker` is handed out by the first [`advance`](Self::advance) whose `now` has reached
    /// `deadline` (ns since the runtime's epoch) rounded *up* to a tick. Never early, at most 4.1 us late.
    /// A deadline that is not after the latest `now` fires at the next `advance`, whatever its `now`.
    ///
    /// The last tick of the 584 years is fired at its start; that is the one case of a deadline rounded down.
    ///
    /// # Panics
    ///
    /// If 2^32 - 1 timers are pending already.
    pub(crate) fn insert(&mut self, deadline: u64, waker: Waker) -> TimerKey {
        let key = self.entries.allocate(deadline, waker);
        self.link(key.index(), self.tick(deadline));
        key
    }

    /// Whether the timer neither fired nor was cancelled.
    pub(crate) fn is_pending(&self, key: TimerKey) -> bool {
        self.entries.waker(key).is_some()
    }

    /// Whether the timer is pending and its waker wakes the same task as `waker`. Runs no foreign code.
    pub(crate) fn will_wake(&self, key: TimerKey, waker: &Waker) -> bool {
        self.entries.waker(key).is_some_and(|stored| stored.will_wake(waker))
    }

    /// Makes the timer wake `waker`, and returns the waker that is of no use any more: the former one, or the
    /// given one if the timer is no longer pending. Drop it after the borrow of this structure has ended.
    ///
    /// It takes the waker by value for the same reason: a clone may run foreign code.
    #[must_use = "drop it outside of the borrow"]
    pub(crate) fn update(&mut self, key: TimerKey, waker: Waker) -> Waker {
        self.entries.replace_waker(key, waker)
    }

    /// Moves the deadline of a timer, wherever to. `false` if it is no longer pending.
    ///
    /// Moving it later costs next to nothing, now; the loop may wake once for nothing at the former deadline.
    pub(crate) fn postpone(&mut self, key: TimerKey, deadline: u64) -> bool {
        let Some(place) = self.entries.place(key) else { return false };
        let former = self.entries.replace_deadline(key, deadline);
        if former.is_some_and(|former| deadline < former) {
            self.unlink(key, place);
            self.link(key.index(), self.tick(deadline));
        }
        true
    }

    /// Removes a timer and returns its waker, to be dropped after the borrow of this structure has ended.
    /// `None` if it fired or was cancelled before.
    #[must_use = "drop it outside of the borrow"]
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<Waker> {
        let place = self.entries.place(key)?;
        self.unlink(key, place);
        self.entries.release(key.index())
    }

    /// The tick of the earliest timer, in ns since the runtime's epoch, or earlier. `None` without timers. A value in the
    /// past means that a timer is overdue.
    ///
    /// This is the expiry itself, not the cascade before it, because each slot remembers the earliest tick
    /// that was put into it. Only where that earliest timer was postponed, or cancelled and on an upper level, is the
    /// answer too early: then the loop wakes once for nothing, and `advance` forgets that tick.
    #[cfg(test)]
    fn next_deadline(&self) -> Option<u64> {
        self.wheel.first().map(|place| self.wheel.earliest(place) << TICK_BITS)
    }

    /// The owner of a timer is gone. It is laid aside for [`take_over`](Self::take_over) if the drop of its waker
    /// `does_nothing`; else cancelled, and the waker is to be dropped after the borrow of this structure has ended.
    #[must_use = "drop it outside of the borrow"]
    pub(crate) fn let_go(
        &mut self,
        key: TimerKey,
        does_nothing: impl FnOnce(&Waker) -> bool,
    ) -> Option<Waker> {
        if !self.entries.waker(key).is_some_and(does_nothing) {
            return self.cancel(key);
        }
        self.clear_aside();
        self.aside = Some(key);
        None
    }

    /// The timer that was laid aside, if it wakes the same task as `waker`, with another deadline: a third of the work of
    /// cancelling the one and inserting the other. Runs no foreign code.
    pub(crate) fn take_over(&mut self, deadline: u64, waker: &Waker) -> Option<TimerKey> {
        let key = self.aside.filter(|key| self.will_wake(*key, waker))?;
        self.aside = None;
        self.postpone(key, deadline).then_some(key)
    }

    /// Cancels what was laid aside: before the loop asks what comes next.
    pub(crate) fn clear_aside(&mut self) {
        if let Some(key) = self.aside.take() {
            drop(self.cancel(key));
        }
    }

    /// When the loop, which is about to sleep, is to be woken to call [`advance`](Self::advance): at the tick of the
    /// earliest timer if it is alone, and later if it is one of a crowd, by 123 us at the most. It may be in the past.
    ///
    /// From the wake-ups that follow it learns how late they come, and asks for the next of a crowd as much earlier. So
    /// what the kernel takes to wake the loop does not add to the patience; should it be quicker for once, those that are
    /// not due yet are left to the next time.
    pub(crate) fn next_wake(&mut self) -> Option<u64> {
        self.clear_aside();
        let first = self.wheel.first()?;
        let earliest = self.wheel.earliest(first);
        let last = self.wheel.last_until(first, (earliest + PATIENCE).min(TICK_MAX));
        let alone = earliest << TICK_BITS;
        let wake = alone.max((last << TICK_BITS).saturating_sub(self.lag));
        self.asked = Some(wake);
        Some(wake)
    }

    /// Moves the present to `now` (ns since the runtime's epoch) and appends the wakers of the timers that are
    /// due to `due`, by tick, first in first out within a tick. Time does not go back: an earlier `now` than the
    /// last one counts as that one.
    ///
    /// O(1) when nothing is due, however far `now` has jumped; at most 9 moves for each timer in all its life.
    pub(crate) fn advance(&mut self, now: u64, due: &mut Vec<Waker>) {
        // Its owner is gone: it must not fire. One may be laid aside at any time before, by a message that was waited for too.
        self.clear_aside();
        self.now = self.now.max(now);
        self.learn();
        let target = self.now >> TICK_BITS;
        while let Some(place) = self.wheel.first() {
            let start = place.start(self.present);
            if start > target {
                break;
            }
            if place.is_exact() {
                self.present = start;
                self.fire(place, due);
            } else {
                // Nothing is due before `earliest`, so no stop is needed between the slot's start and that.
                self.present = self.wheel.earliest(place).min(target);
                self.cascade(place);
            }
        }
        self.present = target;
    }

    /// The earliest deadline itself, in ns; it may have passed. For time that is paused: O(n) of the timers in its slot.
    pub(crate) fn next_exact(&mut self) -> Option<u64> {
        self.clear_aside();
        loop {
            let place = self.wheel.first()?;
            let list = *self.wheel.list(place);
            let earliest = self.entries.iter(&list).map(|(_, deadline)| deadline).min()?;
            // The earliest slot has all timers of the earliest tick, and later ones have later ticks: unless it has
            // but such as were postponed.
            if earliest <= self.now || Place::of(self.present, tick_of(earliest)) == place {
                return Some(earliest);
            }
            self.cascade(place);
        }
    }

    /// Like [`advance`](Self::advance), but for the last tick, of which the timers that are due by `now` itself are
    /// handed out too, by deadline. So nothing is late on paused time, which a test moves as exactly as it likes.
    pub(crate) fn advance_exact(&mut self, now: u64, due: &mut Vec<Waker>) {
        self.advance(now, due);
        let Some(place) = self.wheel.first() else { return };
        let list = *self.wheel.list(place);
        let mut rest: Vec<_> =
            self.entries.iter(&list).filter(|(_, deadline)| *deadline <= self.now).collect();
        rest.sort_by_key(|(_, deadline)| *deadline);
        for (index, _) in rest {
            due.extend(self.cancel(self.entries.key(index)));
        }
    }

    /// How many timers are pending.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - usize::from(self.aside.is_some())
    }

    fn link(&mut self, index: u32, tick: u64) {
        let place = Place::of(self.present, tick);
        let list = self.wheel.occupy(place, tick);
        self.entries.push_back(list, index, place);
    }

    fn unlink(&mut self, key: TimerKey, place: Place) {
        let list = self.wheel.list(place);
        self.entries.unlink(list, key.index());
        if list.is_empty() {
            self.wheel.vacate(place);
        }
    }

    /// Hands out the timers of a slot of the lowest level, whose tick is the present; those that were postponed move on.
    fn fire(&mut self, place: Place, due: &mut Vec<Waker>) {
        let mut index = self.wheel.vacate(place).head();
        let (now, present) = (self.now, self.present);
        while index != NIL {
            let is_due = |deadline| deadline <= now || tick_of(deadline) <= present;
            let (released, next) = self.entries.release_if(index, is_due);
            match released {
                Released::Free(Some(waker)) => due.push(waker),
                Released::Free(None) => {}
                Released::Kept(deadline) => self.link(index, tick_of(deadline)),
            }
            index = next;
        }
    }

    /// Moves the timers of a slot of an upper level to where they belong now, in their order.
    fn cascade(&mut self, place: Place) {
        let mut index = self.wheel.vacate(place).head();
        while index != NIL {
            let (deadline, next) = self.entries.deadline_and_next(index);
            self.link(index, tick_of(deadline));
            index = next;
        }
    }

    /// The tick in which a timer fires.
    fn tick(&self, deadline: u64) -> u64 {
        // Rounding up would put a deadline inside the present tick one tick off, although it has passed.
        if deadline <= self.now { self.present } else { tick_of(deadline) }
    }

    /// If the loop has woken as it asked, from how late that was.
    fn learn(&mut self) {
        let Some(late) = self.asked.take().and_then(|asked| self.now.checked_sub(asked)) else { return };
        let late = late.min(LAG_MAX);
        self.lag = if late > self.lag { (self.lag * 3 + late) / 4 } else { (self.lag * 15 + late) / 16 };
    }
}

fn tick_of(deadline: u64) -> u64 {
    deadline.div_ceil(1 << TICK_BITS).min(TICK_MAX)
}

#[cfg(test)]
mod tests;
