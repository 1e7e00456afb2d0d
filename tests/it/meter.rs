//! What each context should be charged, measured by the kernel's clocks and nothing of ours.
//!
//! [`Meter::slice`] reads the clocks at both ends of a piece of work. What lies between two pieces (the way out of a poll,
//! the loop, the way into the next) may be charged to either neighbour or to the loop, so each context has a lower bound,
//! its own pieces, and an upper one, those and the gaps beside them. Neither bound has a tolerance for what the machine
//! does: a slice that is charged to the neighbour breaks both.

use crate::books::{kernel_cpu, ns};
use context::{Accounts, Context};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// One reading of both of the kernel's clocks.
#[derive(Clone, Copy)]
struct Reading {
    cpu: Duration,
    wall: Instant,
}

impl Reading {
    fn now() -> Self {
        // CPU last: where a piece begins the reading of the wall clock is not in it.
        let wall = Instant::now();
        Self { cpu: kernel_cpu(), wall }
    }
}

/// What one context did, and what lay beside that.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    /// CPU within its pieces of work.
    pub(crate) cpu: Duration,
    /// CPU between these and what came before and after.
    pub(crate) gaps: Duration,
    /// Wall time within its pieces in which the thread was off the CPU, as far as a reading can tell.
    pub(crate) off: Duration,
    /// Wall time of its pieces and of the gaps beside them, less their CPU time.
    pub(crate) off_most: Duration,
    /// From the end of each of its pieces to the beginning of its next.
    pub(crate) away: Duration,
    /// What the others' pieces took of that.
    pub(crate) others: Duration,
}

impl Measured {
    pub(crate) fn plus(self, other: &Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            gaps: self.gaps + other.gaps,
            off: self.off + other.off,
            off_most: self.off_most + other.off_most,
            away: self.away + other.away,
            others: self.others + other.others,
        }
    }

    fn add_gap(&mut self, cpu: Duration, wall: Duration) {
        self.gaps += cpu;
        self.off_most += wall.saturating_sub(cpu);
    }
}

/// A piece that took this much longer than its CPU time was off the CPU; less is the distance of two readings.
const OFF_MIN: Duration = Duration::from_micros(10);

/// The meter of one thread, for contexts by number. (A lock, so that futures which hold it are `Send`.)
pub(crate) struct Meter<const N: usize>(Mutex<State<N>>);

struct State<const N: usize> {
    measured: [Measured; N],
    /// When the last piece ended, or the meter began; and whose piece that was.
    last: Reading,
    worked: Option<usize>,
    /// When each worked last, and the wall time of all pieces by then.
    left: [Option<(Instant, Duration)>; N],
    all: Duration,
}

impl<const N: usize> Meter<N> {
    pub(crate) fn new() -> Self {
        let (measured, left) = ([Measured::default(); N], [None; N]);
        Self(Mutex::new(State { measured, last: Reading::now(), worked: None, left, all: Duration::ZERO }))
    }

    /// Runs `f`, a piece of `who`'s work. What is written down of it is in the gap behind it.
    pub(crate) fn slice<R>(&self, who: usize, f: impl FnOnce() -> R) -> R {
        let began = Reading::now();
        let output = f();
        let ended = Reading::now();
        self.0.lock().unwrap().enter(who, began, ended);
        output
    }

    /// `who` is ready to work from here on, and has not yet begun to: the time until then is `away`, too.
    pub(crate) fn ready(&self, who: usize) {
        let mut state = self.0.lock().unwrap();
        state.left[who] = Some((Instant::now(), state.all));
    }

    /// Closes the last gap, and returns what was measured of each.
    pub(crate) fn read(&self) -> [Measured; N] {
        let mut state = self.0.lock().unwrap();
        let now = Reading::now();
        state.close_gap(now);
        (state.last, state.worked) = (now, None);
        state.measured
    }
}

impl<const N: usize> State<N> {
    /// What came after the last piece may be on the account of who did it. Returns how long it was.
    fn close_gap(&mut self, now: Reading) -> (Duration, Duration) {
        let (cpu, wall) = (now.cpu - self.last.cpu, now.wall - self.last.wall);
        if let Some(last) = self.worked {
            self.measured[last].add_gap(cpu, wall);
        }
        (cpu, wall)
    }

    fn enter(&mut self, who: usize, began: Reading, ended: Reading) {
        let gap = self.close_gap(began);
        self.measured[who].add_gap(gap.0, gap.1);
        (self.last, self.worked) = (ended, Some(who));
        let (cpu, wall) = (ended.cpu - began.cpu, ended.wall - began.wall);
        let measured = &mut self.measured[who];
        measured.cpu += cpu;
        let off = wall.saturating_sub(cpu);
        measured.off_most += off;
        measured.off += if off < OFF_MIN { Duration::ZERO } else { off };
        if let Some((left, before)) = self.left[who] {
            measured.away += began.wall - left;
            measured.others += self.all - before;
        }
        self.all += wall;
        self.left[who] = Some((ended.wall, self.all));
    }
}

/// Spends this much CPU, and no more than a reading of the clock beyond it, in any build.
pub(crate) fn burn(cpu: Duration) {
    let began = kernel_cpu();
    while kernel_cpu() - began < cpu {}
}

/// What a thread's readings may be off by: what its own books say that they are (drift, and interrupts that the cheap clock
/// has in its slices and the kernel has not), and the bound of P7.
pub(crate) fn slack(books: &Accounts) -> Duration {
    ns(books.correction.unsigned_abs()) + books.thread_cpu / 10_000 + ns(1_000)
}

/// `context` was charged what `measured` says that it did, and nothing else.
#[track_caller]
pub(crate) fn assert_charged(context: &Context, measured: &Measured, slack: Duration) {
    let charged = context.own_usage().cpu;
    let (least, most) = (measured.cpu, measured.cpu + measured.gaps);
    assert!(
        charged + slack >= least && charged <= most + slack,
        "{context} was charged {charged:?}, and spent {least:?} to {most:?} (within {slack:?}): {measured:?}"
    );
}
