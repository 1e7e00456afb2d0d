//! The wheel against a `BTreeMap`, under the same random operations.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

use super::*;

const TICK: u64 = 1 << TICK_BITS;
const MS: u64 = 1_000_000;
const YEAR: u64 = 365 * 24 * 3600 * 1000 * MS;

/// What fired, in order.
type Log = Arc<Mutex<Vec<u64>>>;

/// A waker that writes its name down.
struct Named(u64, Log);

impl Wake for Named {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push(self.0);
    }
}

#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// A clone, because a waker made from an `Arc` and its clones need not share the address of their vtable, and
/// `will_wake` compares that. Clones of clones do.
fn counting() -> (Arc<Counter>, Waker) {
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(counter.clone());
    (counter, waker.clone())
}

struct XorShift(u64);

impl XorShift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A span whose magnitude is random too: from nanoseconds to centuries.
    fn span(&mut self) -> u64 {
        let bits = self.below(64);
        self.next() >> bits
    }
}

fn named(name: u64, log: &Log) -> Waker {
    Waker::from(Arc::new(Named(name, log.clone())))
}

fn fire(timers: &mut Timers, now: u64, log: &Log) -> Vec<u64> {
    let mut due = Vec::new();
    timers.advance(now, &mut due);
    due.into_iter().for_each(Waker::wake);
    std::mem::take(&mut log.lock().unwrap())
}

/// The same promises, kept in the obvious way.
#[derive(Default)]
struct Oracle {
    pending: BTreeMap<(u64, u64), TimerKey>,
    now: u64,
}

impl Oracle {
    fn insert(&mut self, deadline: u64, name: u64, key: TimerKey) {
        let overdue = deadline <= self.now;
        let tick = if overdue { self.now / TICK } else { deadline.div_ceil(TICK).min((1 << 52) - 1) };
        self.pending.insert((tick, name), key);
    }

    fn advance(&mut self, now: u64) -> Vec<(u64, TimerKey)> {
        self.now = self.now.max(now);
        let later = self.pending.split_off(&(self.now / TICK + 1, 0));
        let due = std::mem::replace(&mut self.pending, later);
        due.into_iter().map(|((_, name), key)| (name, key)).collect()
    }

    fn earliest(&self) -> Option<u64> {
        self.pending.first_key_value().map(|((tick, _), _)| tick * TICK)
    }
}

struct Run {
    random: XorShift,
    timers: Timers,
    oracle: Oracle,
    log: Log,
    stale: Vec<TimerKey>,
    cancelled: bool,
    /// A timer was postponed: those of one tick come in any order.
    moved: bool,
}

impl Run {
    fn new(seed: u64) -> Run {
        Run {
            random: XorShift(seed),
            timers: Timers::new(),
            oracle: Oracle::default(),
            log: Log::default(),
            stale: Vec::new(),
            cancelled: false,
            moved: false,
        }
    }

    fn insert(&mut self, name: u64) {
        let span = self.random.span();
        let deadline = match self.random.below(10) {
            0 => self.oracle.now.saturating_sub(span),
            1 => self.oracle.now,
            2..6 => self.oracle.now.saturating_add(span % (300 * MS)),
            _ => self.oracle.now.saturating_add(span),
        };
        let key = self.timers.insert(deadline, named(name, &self.log));
        self.oracle.insert(deadline, name, key);
    }

    fn cancel(&mut self) {
        let pending = self.oracle.pending.len() as u64;
        let Some(nth) = self.random.next().checked_rem(pending) else { return };
        let (&place, &key) = self.oracle.pending.iter().nth(nth as usize).unwrap();
        assert!(self.timers.is_pending(key));
        assert!(self.timers.cancel(key).is_some());
        self.oracle.pending.remove(&place);
        self.stale.push(key);
        self.cancelled = true;
    }

    fn advance(&mut self) {
        let span = self.random.span();
        let now = match self.random.below(10) {
            0 => self.oracle.now.saturating_sub(span),
            1..3 => self.oracle.earliest().unwrap_or(0),
            3..8 => self.oracle.now.saturating_add(span % (50 * MS)),
            8 => self.oracle.now.saturating_add(span % (3 * YEAR)),
            _ => self.oracle.now.saturating_add(span >> 8),
        };
        let expected = self.oracle.advance(now);
        let mut names: Vec<u64> = expected.iter().map(|(name, _)| *name).collect();
        let mut fired = fire(&mut self.timers, now, &self.log);
        if self.moved {
            names.sort_unstable();
            fired.sort_unstable();
        }
        assert_eq!(fired, names);
        self.stale.extend(expected.into_iter().map(|(_, key)| key));
    }

    /// What is moved keeps its name, so it is as if it had been inserted then.
    fn postpone(&mut self) {
        let pending = self.oracle.pending.len() as u64;
        let Some(nth) = self.random.next().checked_rem(pending) else { return };
        let (&place, &key) = self.oracle.pending.iter().nth(nth as usize).unwrap();
        // At the start of a tick: in the middle of one it may fire a little earlier than the oracle knows.
        let deadline = self.oracle.now.saturating_add(self.random.span() % (300 * MS)) / TICK * TICK;
        assert!(self.timers.postpone(key, deadline));
        self.oracle.pending.remove(&place);
        self.oracle.insert(deadline, place.1, key);
        self.moved = true;
    }

    fn touch_a_stale_key(&mut self) {
        let Some(nth) = self.random.next().checked_rem(self.stale.len() as u64) else { return };
        let key = self.stale[nth as usize];
        assert!(!self.timers.is_pending(key) && !self.timers.will_wake(key, Waker::noop()));
        assert!(self.timers.cancel(key).is_none() && !self.timers.postpone(key, 0));
        let waker = counting().1;
        assert!(self.timers.update(key, waker.clone()).will_wake(&waker));
    }

    fn check(&self) {
        assert_eq!(self.timers.len(), self.oracle.pending.len());
        match (self.timers.next_deadline(), self.oracle.earliest()) {
            (Some(ours), Some(true_one)) if self.cancelled || self.moved => assert!(ours <= true_one),
            (ours, true_one) => assert_eq!(ours, true_one),
        }
    }
}

#[test]
fn agrees_with_a_btree_map() {
    for seed in 1..=60_u64 {
        let mut run = Run::new(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let (cancels, postpones) = (seed % 3 != 0, seed % 2 == 0);
        for name in 0..1500 {
            match run.random.below(16) {
                0..9 => run.insert(name),
                9..12 if cancels => run.cancel(),
                12 => run.touch_a_stale_key(),
                13 if postpones => run.postpone(),
                _ => run.advance(),
            }
            run.check();
        }
    }
}

#[test]
fn fires_by_tick_then_first_in_first_out() {
    let (mut timers, log) = (Timers::new(), Log::default());
    // The same tick, inserted from far, from nearer and from close by: three levels.
    let deadline = 70_000 * TICK;
    timers.insert(deadline, named(1, &log));
    timers.insert(deadline + TICK, named(9, &log));
    fire(&mut timers, 69_000 * TICK, &log);
    timers.insert(deadline - 5, named(2, &log));
    fire(&mut timers, 69_990 * TICK, &log);
    timers.insert(deadline, named(3, &log));
    timers.insert(deadline - TICK, named(0, &log));
    assert_eq!(fire(&mut timers, deadline + TICK, &log), [0, 1, 2, 3, 9]);
    assert_eq!(timers.next_deadline(), None);
}

#[test]
fn never_early_and_at_most_one_tick_late() {
    let (mut timers, log) = (Timers::new(), Log::default());
    timers.insert(5 * TICK + 1, named(1, &log));
    assert_eq!(timers.next_deadline(), Some(6 * TICK));
    assert_eq!(fire(&mut timers, 6 * TICK - 1, &log), [0_u64; 0]);
    assert_eq!(fire(&mut timers, 6 * TICK, &log), [1]);
}

#[test]
fn overdue_timers_fire_at_the_next_advance() {
    let (mut timers, log) = (Timers::new(), Log::default());
    let now = 1000 * TICK + 500;
    fire(&mut timers, now, &log);
    timers.insert(0, named(1, &log));
    timers.insert(now, named(2, &log));
    timers.insert(now - 499, named(3, &log));
    assert!(timers.next_deadline().is_some_and(|deadline| deadline <= now));
    assert_eq!(fire(&mut timers, now, &log), [1, 2, 3]);
}

#[test]
fn one_timer_needs_one_wake_up_however_far_it_is() {
    for deadline in [TICK, 5 * MS, 10_000 * MS, YEAR, 400 * YEAR, u64::MAX] {
        let (mut timers, log) = (Timers::new(), Log::default());
        timers.insert(deadline, named(1, &log));
        let wake_up = timers.next_deadline().unwrap();
        assert_eq!(fire(&mut timers, wake_up - 1, &log), [0_u64; 0]);
        assert_eq!(timers.next_deadline(), Some(wake_up));
        assert_eq!(fire(&mut timers, wake_up, &log), [1]);
    }
}

#[test]
fn a_cancelled_timer_costs_at_most_one_early_wake_up() {
    let (mut timers, log) = (Timers::new(), Log::default());
    let early = timers.insert(1000 * TICK, named(1, &log));
    timers.insert(1010 * TICK, named(2, &log));
    drop(timers.cancel(early));
    assert_eq!(timers.next_deadline(), Some(1000 * TICK));
    assert_eq!(fire(&mut timers, 1000 * TICK, &log), [0_u64; 0]);
    assert_eq!(timers.next_deadline(), Some(1010 * TICK));
}

#[test]
fn a_timer_that_is_moved_later_costs_one_wake_up_however_often() {
    let (mut timers, log) = (Timers::new(), Log::default());
    let key = timers.insert(1000 * TICK, named(1, &log));
    for n in 0..100 {
        assert!(timers.postpone(key, (2000 + n) * TICK));
    }
    assert_eq!(timers.next_deadline(), Some(1000 * TICK));
    assert_eq!(fire(&mut timers, 1000 * TICK, &log), [0_u64; 0]);
    assert_eq!(timers.next_deadline(), Some(2099 * TICK));
    assert!(timers.postpone(key, 1500 * TICK), "an earlier deadline is moved to at once");
    assert_eq!(timers.next_deadline(), Some(1500 * TICK));
    assert_eq!(fire(&mut timers, 1500 * TICK, &log), [1]);
    assert!(!timers.postpone(key, 0));
}

#[test]
fn a_lone_timer_is_not_kept_waiting() {
    let mut timers = Timers::new();
    assert_eq!(timers.next_wake(), None);
    for tick in [1, 100, 250, 10_000, 1 << 30] {
        timers.insert(tick * TICK, Waker::noop().clone());
        timers.insert((tick + 64) * TICK, Waker::noop().clone());
        assert_eq!(timers.next_wake(), Some(tick * TICK));
        timers.advance((tick + 64) * TICK, &mut Vec::new());
        assert_eq!(timers.len(), 0);
    }
}

/// 100,000 timers a second, at a loop that the kernel wakes 40 us late: how many wake-ups, and how late.
#[test]
fn a_crowd_shares_its_wake_ups() {
    const KERNEL: u64 = 40_000;
    let mut timers = Timers::new();
    for n in 1..=100_000 {
        timers.insert(n * 10_000, Waker::noop().clone());
    }
    let (mut wake_ups, mut fired, mut late_max) = (0, 0, 0);
    let mut due = Vec::new();
    while let Some(wake) = timers.next_wake() {
        let now = wake + KERNEL;
        timers.advance(now, &mut due);
        wake_ups += 1;
        if wake_ups > 50 && !due.is_empty() {
            late_max = late_max.max(now - (fired + 1) * 10_000);
        }
        fired += due.drain(..).count() as u64;
    }
    assert_eq!(fired, 100_000);
    assert!((7_000..8_000).contains(&wake_ups), "{wake_ups}");
    let patience = (PATIENCE + 1) * TICK;
    assert!(late_max <= patience, "the kernel's lag adds to the patience: {late_max}");
}

#[test]
fn what_a_busy_loop_is_late_by_is_not_the_kernels() {
    let mut timers = Timers::new();
    for n in 1..100 {
        for tick in 0..20 {
            timers.insert(n * MS + tick * TICK, Waker::noop().clone());
        }
        let wake = timers.next_wake().unwrap();
        assert!(wake >= n * MS, "never before the first: {wake}");
        timers.advance(wake + MS / 2, &mut Vec::new());
        timers.advance(wake + MS / 2 + 1, &mut Vec::new());
    }
    assert_eq!(timers.lag.div_ceil(TICK), LAG_MAX / TICK);
}

#[test]
fn a_wait_that_ends_early_teaches_nothing() {
    let mut timers = Timers::new();
    timers.insert(MS, Waker::noop().clone());
    assert!(timers.next_wake().is_some());
    timers.advance(MS / 2, &mut Vec::new());
    timers.advance(2 * MS, &mut Vec::new());
    assert_eq!(timers.lag, 0, "the loop had not gone to sleep again");
}

#[test]
fn update_returns_the_waker_that_is_of_no_use() {
    let mut timers = Timers::new();
    let ((first, first_waker), (second, second_waker)) = (counting(), counting());
    let key = timers.insert(TICK, first_waker.clone());
    assert!(timers.will_wake(key, &first_waker) && !timers.will_wake(key, &second_waker));

    assert!(timers.update(key, second_waker.clone()).will_wake(&first_waker));
    let mut due = Vec::new();
    timers.advance(TICK, &mut due);
    due.drain(..).for_each(Waker::wake);
    assert_eq!((first.0.load(Relaxed), second.0.load(Relaxed)), (0, 1));

    assert!(timers.update(key, first_waker.clone()).will_wake(&first_waker));
}

#[test]
fn cancelled_timers_leave_no_memory_behind() {
    let mut timers = Timers::new();
    for round in 0..10_000 {
        let key = timers.insert(round * MS, Waker::noop().clone());
        assert_eq!(key.index(), 0);
        drop(timers.cancel(key));
    }
    assert_eq!((timers.len(), timers.next_deadline()), (0, None));
}

/// On paused time nothing is rounded: each timer fires at its very deadline, whatever slot it is in.
#[test]
fn exact_time_is_exact() {
    exact_time(false);
    exact_time(true);
}

fn exact_time(postpones: bool) {
    let (log, mut random, mut timers) = (Log::default(), XorShift(0xe8ac7), Timers::new());
    let mut oracle = BTreeMap::new();
    let mut now = 0;
    for name in 0..2000 {
        let deadline = now + random.span() % (10 * MS) + 1;
        oracle.insert((deadline, name), timers.insert(deadline, named(name, &log)));
        if postpones && random.below(3) == 0 {
            let nth = random.below(oracle.len() as u64) as usize;
            let (&(former, name), &key) = oracle.iter().nth(nth).unwrap();
            let deadline = now + random.span() % (10 * MS) + 1;
            assert!(timers.postpone(key, deadline));
            oracle.remove(&(former, name));
            oracle.insert((deadline, name), key);
        }
        if random.below(4) > 0 {
            continue;
        }
        let earliest = oracle.first_key_value().map(|((deadline, _), _)| *deadline);
        assert_eq!(timers.next_exact(), earliest);
        now = match random.below(3) {
            0 => now + 1,
            _ => earliest.unwrap_or(now),
        };
        let mut due = Vec::new();
        timers.advance_exact(now, &mut due);
        due.into_iter().for_each(Waker::wake);
        let later = oracle.split_off(&(now + 1, 0));
        let mut expected: Vec<u64> =
            std::mem::replace(&mut oracle, later).into_keys().map(|(_, name)| name).collect();
        let mut fired = std::mem::take(&mut *log.lock().unwrap());
        if postpones {
            // What was postponed comes behind others of the same moment.
            expected.sort_unstable();
            fired.sort_unstable();
        }
        assert_eq!(fired, expected, "at {now}");
    }
}

#[test]
fn a_timer_that_is_let_go_is_taken_over_by_the_next_one_for_the_same_task() {
    let ((counter, waker), (_, other)) = (counting(), counting());
    let mut timers = Timers::new();
    for (former, deadline) in [(5 * MS, 60 * MS), (60 * MS, 5 * MS)] {
        let now = timers.now;
        let key = timers.insert(now + former, waker.clone());
        assert!(timers.let_go(key, |_| true).is_none());
        assert_eq!((timers.len(), timers.take_over(now + deadline, &other)), (0, None));
        assert_eq!(timers.take_over(now + deadline, &waker), Some(key));
        assert_eq!((timers.len(), timers.take_over(now + deadline, &waker)), (1, None), "there is but one");
        let mut due = Vec::new();
        timers.advance(now + deadline - TICK, &mut due);
        assert!(due.is_empty());
        timers.advance(now + deadline + TICK, &mut due);
        assert_eq!((due.len(), timers.len()), (1, 0));
    }
    assert_eq!(Arc::strong_count(&counter), 2, "that is ours and `waker`");
}

#[test]
fn a_timer_that_is_let_go_never_fires() {
    let (counter, waker) = counting();
    let mut timers = Timers::new();
    let keys = [1, 2, 3].map(|n| timers.insert(n * MS, waker.clone()));
    // One place: who comes next sends the one before away.
    assert!(timers.let_go(keys[0], |_| true).is_none() && timers.let_go(keys[1], |_| true).is_none());
    assert_eq!((timers.len(), Arc::strong_count(&counter)), (1, 4));
    timers.clear_aside();
    // A waker whose drop does something is given back at once.
    assert!(timers.let_go(keys[2], |_| false).is_some());
    assert_eq!((timers.len(), timers.next_wake(), Arc::strong_count(&counter)), (0, None, 2));
    // Gone already.
    assert!(keys.into_iter().all(|key| timers.let_go(key, |_| true).is_none()));
    assert_eq!(timers.take_over(MS, &waker), None);
}

/// A timer is laid aside whenever its owner goes: in a message that the loop was waiting for, or just before time is advanced.
#[test]
fn r10_a_timer_may_be_laid_aside_at_any_time() {
    type Look = fn(&mut Timers, &mut Vec<Waker>) -> bool;
    let looks: [Look; 4] = [
        |timers, due| {
            timers.advance(2 * TICK, due);
            due.is_empty()
        },
        |timers, due| {
            timers.advance_exact(2 * TICK, due);
            due.is_empty()
        },
        |timers, _| timers.next_wake().is_none(),
        |timers, _| timers.next_exact().is_none(),
    ];
    for look in looks {
        let mut timers = Timers::new();
        let key = timers.insert(TICK, Waker::noop().clone());
        assert!(timers.let_go(key, |_| true).is_none());
        assert!(look(&mut timers, &mut Vec::new()), "nobody has it any more");
    }
}
