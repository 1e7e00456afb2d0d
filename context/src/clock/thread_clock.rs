//! The clock of one thread: anchors, the extrapolation from them, and when not to trust it.

use std::cell::Cell;

use super::ladder::{self, Footing};
use super::manual::Manual;
use super::mark::Mark;
use super::process::process_id;
use super::thread_time::thread_cpu_ns;
use super::{Clock, Rung, Stamp, fork, os, slowness, tsc, wall};

/// A slice longer than this ends with a read of the real clock. It bounds what a slice can be wrong by where the mark
/// does not see everything (a blocking call on a blind kernel, an interrupt or a stolen CPU), and costs 1 % of it.
const SLICE_MAX_NS: u64 = 30_000;

/// An anchor older than this is replaced. It bounds how far the extrapolation can drift: 5 parts in a million of an error
/// in the rate are 50 ns. Must be below the 16 ms of [`wall::short_ticks_to_ns`].
const ANCHOR_MAX_NS: u64 = 10_000_000;

/// Reading the real clock for an anchor can itself be interrupted; in a storm of signals it may be every time. Then the
/// mark is left broken, and the next stamp reads the real clock again.
const ANCHOR_ATTEMPTS: u32 = 3;

/// Where no mark tells, wall time that runs ahead of CPU time by more than this does. Less than two switches take, more
/// than the readings' jitter.
const OFF_CPU_MIN_NS: u64 = 2_000;

/// The CPU clock of the thread it lives on.
///
/// Cells only, `const`-constructible and without `Drop`, to live in a thread-local that needs no destructor: the owner
/// calls [`stop`](ThreadClock::stop) when the thread ends (else a perf page leaks; an armed `rseq_cs` does no harm as long
/// as this code stays loaded). Neither `Send` nor `Sync`.
pub(crate) struct ThreadClock {
    mark: Mark,
    /// The CPU time that was true at `anchor_wall`. On the rungs without a mark: the last stamp.
    anchor_cpu: Cell<u64>,
    anchor_wall: Cell<u64>,
    /// `wall` of the last stamp.
    last: Cell<u64>,
    /// Of this anchor: stable, so that CPU time does not jump between two stamps.
    rate: Cell<u64>,
    /// [`SLICE_MAX_NS`] and [`ANCHOR_MAX_NS`] in ticks.
    slice_max: Cell<u64>,
    /// [`SLICE_MAX_NS`], stretched where everything is slow.
    slice_max_ns: Cell<u64>,
    anchor_max: Cell<u64>,

    footing: Cell<Option<Footing>>,
    /// This is a forked child, in which the clock is not used any more.
    abandoned: Cell<bool>,
    /// The process in which this clock was started, and when (in ticks) it was last seen to be still the same.
    process: Cell<u32>,
    process_seen: Cell<u64>,
    manual: Manual,
}

impl ThreadClock {
    /// A clock that is not started: it reads the real clock, as on the third rung, but does not notice a fork.
    pub(crate) const fn new() -> ThreadClock {
        ThreadClock {
            mark: Mark::never(),
            anchor_cpu: Cell::new(0),
            anchor_wall: Cell::new(0),
            last: Cell::new(0),
            rate: Cell::new(0),
            slice_max: Cell::new(0),
            slice_max_ns: Cell::new(SLICE_MAX_NS),
            anchor_max: Cell::new(0),
            footing: Cell::new(None),
            abandoned: Cell::new(false),
            process: Cell::new(0),
            process_seen: Cell::new(0),
            manual: Manual::new(),
        }
    }

    /// Starts on the best rung not above the wanted one; starts anew if it was started.
    ///
    /// The first time in a process this sleeps for 1.1 ms (self-test, calibration); later it costs a few microseconds.
    ///
    /// `forks_watched`: [`before_fork`](Self::before_fork) and what belongs to it are called.
    pub(crate) fn start(&self, want: Clock, forks_watched: bool) -> Rung {
        self.stop();
        let footing = ladder::climb(want, &self.mark, forks_watched);
        self.manual.reset();
        self.process.set(process_id());
        self.footing.set(Some(footing));
        match footing.rung {
            Rung::Manual => {
                self.rate.set(wall::ONE);
                self.last.set(self.manual.wall());
            }
            Rung::Rseq | Rung::PerfPage => {
                self.anchor();
            }
            Rung::ThreadTime => {
                self.read_real();
            }
        }
        self.process_seen.set(self.last.get());
        footing.rung
    }

    /// Takes the mark away and gives the perf page back. The clock can be started again.
    pub(crate) fn stop(&self) {
        self.mark.release();
        self.footing.set(None);
    }

    /// The thread is about to fork.
    pub(crate) fn before_fork(&self) {
        self.mark.suspend();
    }

    /// It has, and this is the parent.
    pub(crate) fn after_fork(&self) {
        self.mark.resume();
    }

    /// This is a forked child: the clock stops for good. (It goes on to read the time, for nobody.)
    pub(crate) fn abandon(&self) {
        self.mark.abandon();
        self.footing.set(None);
        self.abandoned.set(true);
    }

    /// Whether this thread is that of a forked child, which was measured before the fork.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.get()
    }

    /// The rung in use; `None` if not started.
    pub(crate) fn rung(&self) -> Option<Rung> {
        self.footing.get().map(|footing| footing.rung)
    }

    /// Now: [`glance`](ThreadClock::glance), or the real clock where that says nothing. About one time in 1,900.
    #[inline]
    pub(crate) fn now(&self) -> Stamp {
        match self.glance() {
            Some((cpu, wall)) if wall.wrapping_sub(self.last.get()) <= self.slice_max.get() => {
                self.commit(wall);
                Stamp { cpu, wall, broken: false }
            }
            _ => self.resync(),
        }
    }

    /// CPU and wall time now, if they can be had without the real clock; else [`resync`](ThreadClock::resync). One `rdtsc`,
    /// a comparison of ages, a look at the mark and a multiplication. On the lower rungs, and on a clock that is not
    /// started, it is always `None`: only there is a branch on the rung.
    ///
    /// The caller looks how long the slice was that ends here: beyond [`slice_max_ns`](ThreadClock::slice_max_ns) the real
    /// clock is to be read. Else it makes this the last stamp by [`commit`](ThreadClock::commit).
    #[inline(always)]
    pub(crate) fn glance(&self) -> Option<(u64, u64)> {
        // Before the mark: if it is intact afterwards, then there was no switch before the counter was read.
        let wall = tsc::read();
        let since_anchor = wall.wrapping_sub(self.anchor_wall.get());
        let intact = self.mark.intact();
        // `|` and not `||`: no condition waits for another.
        if !intact | (since_anchor > self.anchor_max.get()) {
            return None;
        }
        let cpu = self.anchor_cpu.get().wrapping_add(wall::short_ticks_to_ns(since_anchor, self.rate.get()));
        Some((cpu, wall))
    }

    /// A slice longer than this ends with a read of the real clock.
    #[inline(always)]
    pub(crate) fn slice_max_ns(&self) -> u64 {
        self.slice_max_ns.get()
    }

    /// Makes the wall time of a [`glance`](ThreadClock::glance) that of the last stamp.
    #[inline(always)]
    pub(crate) fn commit(&self, wall: u64) {
        self.last.set(wall);
    }

    /// Whether the thread may have left the CPU since the last stamp. Two loads; always true on the lower rungs.
    #[inline]
    pub(crate) fn may_have_left(&self) -> bool {
        !self.mark.intact()
    }

    /// `wall` of the last stamp: no clock is read.
    #[inline]
    pub(crate) fn last_wall(&self) -> u64 {
        self.last.get()
    }

    /// Now, and the real clock is read: a system call. On the rungs with a mark this is a new anchor.
    ///
    /// In a child that was made without the handlers of a fork this notices it, and [abandons](Self::abandon) the clock.
    #[cold]
    #[inline(never)]
    pub(crate) fn resync(&self) -> Stamp {
        match self.rung() {
            Some(Rung::Rseq | Rung::PerfPage) => self.read_and_anchor(),
            Some(Rung::ThreadTime) | None => self.read_real(),
            Some(Rung::Manual) => {
                let stamp = self.manual.stamp();
                self.last.set(stamp.wall);
                stamp
            }
        }
    }

    /// Wall time only, in the unit of [`Stamp::wall`].
    #[inline]
    pub(crate) fn wall(&self) -> u64 {
        if self.is_manual() { self.manual.wall() } else { wall::wall_ticks() }
    }

    /// A difference of [`Stamp::wall`]s in nanoseconds. No branch: the rate of the manual rung is one.
    #[inline]
    pub(crate) fn ticks_to_ns(&self, ticks: u64) -> u64 {
        wall::scale(ticks, self.rate.get())
    }

    /// The self-test saw that the mark outlives a blocking system call: [`resync`](ThreadClock::resync) after one, or up
    /// to 30 us of it are booked as CPU time until the next anchor takes them back.
    pub(crate) fn blind_to_blocking(&self) -> bool {
        self.footing.get().is_some_and(|footing| footing.blind_to_blocking)
    }

    /// How often the thread has blocked; 0 where the system does not say. A system call.
    pub(crate) fn voluntary_switches(&self) -> u64 {
        if self.is_manual() { self.manual.voluntary_switches() } else { os::voluntary_switches() }
    }

    /// Manual rung: `cpu` ns of work within `wall` ns; if that is more, the rest was spent off the CPU (preempted). Does
    /// nothing on another rung.
    pub(crate) fn manual_advance(&self, cpu: u64, wall: u64) {
        debug_assert!(self.is_manual(), "only the manual clock can be advanced");
        if self.is_manual() {
            self.manual.advance(cpu, wall);
        }
    }

    /// Manual rung: it was ahead by `cpu` ns.
    #[cfg(test)]
    pub(crate) fn manual_go_back(&self, cpu: u64) {
        self.manual.go_back(cpu);
    }

    /// Manual rung: a blocking call of `wall` ns. Does nothing on another rung.
    pub(crate) fn manual_block(&self, wall: u64) {
        debug_assert!(self.is_manual(), "only the manual clock can be advanced");
        if self.is_manual() {
            self.manual.block(wall);
        }
    }

    /// Has the process forked since the start, and is this the child?
    pub(super) fn has_forked(&self) -> bool {
        self.process.get() != process_id()
    }

    #[inline]
    fn is_manual(&self) -> bool {
        self.rung() == Some(Rung::Manual)
    }

    /// The slow path of the rungs with a mark.
    fn read_and_anchor(&self) -> Stamp {
        if self.has_forked() {
            self.found_child();
            return self.read_real();
        }
        let gone = !self.mark.intact();
        let (cpu_before, wall_before) = self.last_stamp();
        let (cpu, wall) = self.anchor();
        // The mark does not tell of time that a hypervisor stole, and on some kernels not of a blocking call.
        let broken = gone || was_off_cpu(cpu_before, wall_before, cpu, wall);
        Stamp { cpu, wall, broken }
    }

    /// The slow path without a mark.
    fn read_real(&self) -> Stamp {
        // In this order: the kernel likes to preempt at the end of a system call, which would come between the two.
        let (wall, cpu) = (wall::wall_ticks(), thread_cpu_ns());
        let (cpu_before, wall_before) = (self.anchor_cpu.get(), self.anchor_wall.get());
        // A second system call at every stamp would be dear here. A child's CPU clock begins at 0, so it gives itself
        // away at once unless the parent had hardly run.
        let due = wall.wrapping_sub(self.process_seen.get()) > self.anchor_max.get();
        if self.footing.get().is_some() && (due || cpu < cpu_before) {
            if self.has_forked() {
                self.found_child();
            }
            self.process_seen.set(wall);
        }
        self.set_anchor(cpu, wall);
        Stamp { cpu, wall, broken: was_off_cpu(cpu_before, wall_before, cpu, wall) }
    }

    /// Sets the mark, and reads both clocks at one moment: the middle of the system call. An anchor holds only if the
    /// mark has outlived the reading.
    fn anchor(&self) -> (u64, u64) {
        let mut pair = (0, 0);
        for _ in 0..ANCHOR_ATTEMPTS {
            self.mark.arm();
            let before = tsc::read();
            let cpu = thread_cpu_ns();
            let width = tsc::read().wrapping_sub(before);
            pair = (cpu, before.wrapping_add(width / 2));
            if self.mark.intact() {
                break;
            }
        }
        let (cpu, wall) = pair;
        self.set_anchor(cpu, wall);
        pair
    }

    fn set_anchor(&self, cpu: u64, wall: u64) {
        self.anchor_cpu.set(cpu);
        self.anchor_wall.set(wall);
        self.last.set(wall);
        wall::refine(wall);
        let rate = wall::rate();
        if rate != self.rate.replace(rate) {
            self.slice_max_ns.set(SLICE_MAX_NS * slowness());
            self.slice_max.set(wall::ns_to_ticks(self.slice_max_ns.get(), rate));
            self.anchor_max.set(wall::ns_to_ticks(ANCHOR_MAX_NS, rate));
        }
    }

    /// CPU and wall of the last stamp, as it was given out.
    fn last_stamp(&self) -> (u64, u64) {
        let last = self.last.get();
        let since_anchor = last.wrapping_sub(self.anchor_wall.get());
        (self.anchor_cpu.get().wrapping_add(wall::short_ticks_to_ns(since_anchor, self.rate.get())), last)
    }

    #[cold]
    fn found_child(&self) {
        self.abandon();
        fork::found_child();
    }
}

fn was_off_cpu(cpu_before: u64, wall_before: u64, cpu: u64, wall: u64) -> bool {
    let elapsed = wall::ticks_to_ns(wall.wrapping_sub(wall_before));
    elapsed > cpu.saturating_sub(cpu_before).saturating_add(OFF_CPU_MIN_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u10_a_clock_in_another_process_is_abandoned_and_never_panics() {
        let clock = ThreadClock::new();
        clock.start(Clock::Auto, true);
        clock.process.set(0);
        clock.resync();
        assert!(clock.is_abandoned() && clock.rung().is_none() && clock.glance().is_none());
        clock.resync();
        clock.stop();
    }

    #[test]
    fn u10_also_on_the_last_rung_when_the_cpu_time_is_that_of_a_new_process() {
        let clock = ThreadClock::new();
        clock.start(Clock::ThreadTime, true);
        clock.process.set(0);
        clock.anchor_cpu.set(u64::MAX);
        clock.now();
        assert!(clock.is_abandoned());
    }

    #[test]
    fn a_block_that_leaves_the_mark_is_still_seen() {
        let clock = ThreadClock::new();
        let rung = clock.start(Clock::Auto, true);
        if rung == Rung::ThreadTime {
            return;
        }
        clock.footing.set(Some(Footing { rung, blind_to_blocking: true }));
        let before = clock.now();
        assert!(crate::clock::thread_time::nap(1_000_000));
        // What a kernel does that does not clear the mark.
        clock.mark.arm();
        let after = clock.now();
        assert!(after.broken);
        assert!(after.cpu - before.cpu < 1_000_000, "the real clock was read");
        clock.stop();
    }

    /// A hypervisor takes the CPU without the kernel's knowledge: the mark stays, and the CPU time is less than the wall time.
    #[test]
    fn b22_time_off_the_cpu_that_leaves_the_mark_is_seen_on_every_kernel() {
        let clock = ThreadClock::new();
        let rung = clock.start(Clock::Auto, true);
        if rung == Rung::ThreadTime {
            return;
        }
        clock.footing.set(Some(Footing { rung, blind_to_blocking: false }));
        let before = clock.now();
        assert!(crate::clock::thread_time::nap(1_000_000));
        clock.mark.arm();
        let after = clock.now();
        assert!(after.broken && after.cpu - before.cpu < 1_000_000);
        clock.stop();
    }

    #[test]
    fn an_old_anchor_and_a_long_slice_are_read_anew() {
        let clock = ThreadClock::new();
        if clock.start(Clock::Auto, true) == Rung::ThreadTime {
            return;
        }
        for (age_of_anchor, age_of_slice) in
            [(ANCHOR_MAX_NS + 1_000, 0), (ANCHOR_MAX_NS / 2, SLICE_MAX_NS + 1_000)]
        {
            let now = clock.resync().wall;
            let rate = clock.rate.get();
            clock.anchor_wall.set(now - wall::ns_to_ticks(age_of_anchor, rate));
            clock.last.set(now - wall::ns_to_ticks(age_of_slice, rate));
            let stamp = clock.now();
            assert_eq!((stamp.cpu, stamp.wall), (clock.anchor_cpu.get(), clock.anchor_wall.get()));
        }
        clock.stop();
    }
}
