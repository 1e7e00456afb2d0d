//! What time it is for timers: the monotonic clock, or one that a test holds in its hand.

use context::Rung;
use context::harness::{rung, slowness, ticks, ticks_to_ns};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// For how long the monotonic clock is extrapolated by ticks, in ns. NTP slews it by 0.05 % at most, so the error stays
/// below 0.13 us; what a tick is worth is known far better.
const WINDOW: u64 = 1 << 18;

/// Two readings this many ns apart, with one of the other clock in between, are not one moment: the thread was
/// interrupted.
const APART: u64 = 1_000;

/// How far time by ticks may be ahead, in ns.
const AHEAD_MAX: u64 = APART + WINDOW / 2_000;

/// Time as the runtime's timers see it, in ns since the runtime was built.
///
/// The monotonic clock is read at most once in 0.26 ms; in between, time goes on by ticks, which cost 11 ns to read
/// and not 28.
#[derive(Debug)]
pub(crate) struct TimeSource {
    epoch: Instant,
    /// `Some`: time is paused at this many ns.
    paused: Cell<Option<u64>>,
    /// How far time is ahead of the monotonic clock, in ns, after it was paused and resumed. Wrapping: negative if it
    /// stood still for longer than it was advanced.
    lead: Cell<u64>,
    /// What running time said last. An instant, which costs less to compare than to turn into ns.
    recent: Cell<Instant>,
    /// A reading of the monotonic clock, and the ticks at that moment.
    sight: Cell<Instant>,
    sight_ticks: Cell<u64>,
    /// How far time may go on from `sight`, in ns: [`WINDOW`], or 0 where it must not (paused, ahead, ticks that are not
    /// those of the counter).
    window: Cell<u64>,
    /// The same time for other threads.
    remote: Arc<RemoteTime>,
}

/// The time of a runtime, as other threads may read it: those of its pools, say.
#[derive(Debug)]
pub(crate) struct RemoteTime {
    epoch: Instant,
    /// At how many ns time is paused; [`RUNS`] if it is not.
    paused: AtomicU64,
    lead: AtomicU64,
}

const RUNS: u64 = u64::MAX;

impl RemoteTime {
    pub(crate) fn now(&self) -> Instant {
        let paused = self.paused.load(Ordering::Acquire);
        if paused != RUNS {
            return instant(self.epoch, paused);
        }
        match self.lead.load(Ordering::Relaxed) {
            0 => Instant::now(),
            lead => instant(self.epoch, ns(self.epoch.elapsed()).wrapping_add(lead)),
        }
    }
}

impl TimeSource {
    pub(crate) fn new(epoch: Instant, paused: bool) -> Self {
        let remote = RemoteTime {
            epoch,
            paused: AtomicU64::new(if paused { 0 } else { RUNS }),
            lead: AtomicU64::new(0),
        };
        Self {
            remote: Arc::new(remote),
            epoch,
            paused: Cell::new(paused.then_some(0)),
            lead: Cell::new(0),
            recent: Cell::new(epoch),
            sight: Cell::new(epoch),
            sight_ticks: Cell::new(0),
            window: Cell::new(0),
        }
    }

    /// Now, in ns since the epoch.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.at(self.now_instant())
    }

    /// [`now`](Self::now) as an instant.
    #[inline]
    pub(crate) fn now_instant(&self) -> Instant {
        let passed = ticks_to_ns(ticks().wrapping_sub(self.sight_ticks.get()));
        if passed >= self.window.get() {
            return self.look();
        }
        let now = self.sight.get() + Duration::new(0, passed as u32);
        self.recent.set(now);
        now
    }

    /// The time that has surely passed by the monotonic clock itself, in ns since the epoch: what fires timers, so that none
    /// is early by whatever clock.
    pub(crate) fn passed(&self) -> u64 {
        self.paused.get().unwrap_or_else(|| self.now().saturating_sub(AHEAD_MAX * slowness()))
    }

    /// What time it was when somebody asked last, the loop for one: saves the ~11 ns of asking where that will do.
    #[inline]
    pub(crate) fn recent(&self) -> Instant {
        self.paused.get().map_or_else(|| self.recent.get(), |at| self.instant(at))
    }

    /// [`recent`](Self::recent) in ns since the epoch.
    pub(crate) fn recent_ns(&self) -> u64 {
        self.paused.get().unwrap_or_else(|| self.at(self.recent.get()))
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.get().is_some()
    }

    /// Whether it was running.
    pub(crate) fn pause(&self) -> bool {
        let running = !self.is_paused();
        if running {
            self.paused.set(Some(self.now()));
            self.window.set(0);
            self.publish();
        }
        running
    }

    /// Lets time run on from where it was paused. Whether it was.
    pub(crate) fn resume(&self) -> bool {
        let Some(now) = self.paused.take() else { return false };
        self.lead.set(now.wrapping_sub(self.real()));
        self.recent.set(self.instant(now));
        self.publish();
        true
    }

    /// The same time, to be read on other threads.
    pub(crate) fn remote(&self) -> &Arc<RemoteTime> {
        &self.remote
    }

    /// Time was paused, moved on or resumed.
    fn publish(&self) {
        self.remote.lead.store(self.lead.get(), Ordering::Relaxed);
        self.remote.paused.store(self.paused.get().unwrap_or(RUNS), Ordering::Release);
    }

    /// What the monotonic clock will say, in ns since the epoch, when [`now`](Self::now) says `at`.
    pub(crate) fn real_at(&self, at: u64) -> u64 {
        match self.lead.get() as i64 {
            ahead @ 0.. => at.saturating_sub(ahead as u64),
            behind => at.saturating_add(behind.unsigned_abs()),
        }
    }

    /// Moves paused time on. Nothing happens to time that runs, or backwards.
    pub(crate) fn advance_to(&self, target: u64) {
        self.paused.set(self.paused.get().map(|now| now.max(target)));
        self.publish();
    }

    /// The moment that many ns after the epoch; a century on if there is no such moment.
    pub(crate) fn instant(&self, at: u64) -> Instant {
        instant(self.epoch, at)
    }

    /// ns from the epoch to `instant`; 0 for what was before.
    #[inline]
    pub(crate) fn at(&self, instant: Instant) -> u64 {
        ns(instant.saturating_duration_since(self.epoch))
    }

    /// Reads the monotonic clock, and the ticks with it: first, so that time by ticks is never behind.
    #[cold]
    fn look(&self) -> Instant {
        if let Some(at) = self.paused.get() {
            return self.instant(at);
        }
        let ticks_before = ticks();
        let now = match self.lead.get() {
            0 => Instant::now(),
            lead => self.instant(self.real().wrapping_add(lead)),
        };
        let is_one_moment = ticks_to_ns(ticks().wrapping_sub(ticks_before)) < APART * slowness();
        let is_counter = matches!(rung(), Some(Rung::Rseq | Rung::PerfPage));
        // Time by ticks may have been some ns ahead: then it waits for the clock, which is read until it has caught up.
        let recent = self.recent.get();
        self.window.set(if is_one_moment && is_counter && now >= recent { WINDOW * slowness() } else { 0 });
        self.sight.set(now);
        self.sight_ticks.set(ticks_before);
        let now = now.max(recent);
        self.recent.set(now);
        now
    }

    fn real(&self) -> u64 {
        ns(self.epoch.elapsed())
    }
}

fn instant(epoch: Instant, at: u64) -> Instant {
    epoch.checked_add(Duration::from_nanos(at)).unwrap_or_else(|| epoch + CENTURY)
}

const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Saturating, in 64-bit arithmetic.
#[inline]
fn ns(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_where_it_was_resumed() {
        let hour = 3_600_000_000_000;
        let time = TimeSource::new(Instant::now(), false);
        assert!(time.pause() && !time.pause());
        let paused_at = time.now();
        time.advance_to(paused_at + hour);
        assert!(time.resume() && !time.resume());
        assert!(time.now() >= paused_at + hour && time.now() < paused_at + 2 * hour);
        assert!(time.real_at(time.now()) < hour / 2, "the alarm is set by the real clock");
    }

    /// Not by how long anything takes: each reading is between two of the clock itself.
    #[test]
    fn time_by_ticks_is_the_clocks_time() {
        let _loop = context::harness::enter_loop(context::Clock::Auto, None);
        context::harness::idle();
        let time = TimeSource::new(Instant::now(), false);
        let error = Duration::from_nanos(AHEAD_MAX);
        let (mut last, mut by_ticks) = (time.now_instant(), 0);
        for _ in 0..50_000 {
            let sight = time.sight.get();
            let before = Instant::now();
            let now = time.now_instant();
            let after = Instant::now();
            assert!(now >= last, "back by {:?}", last - now);
            assert!(now + error >= before, "behind by {:?}", before - now);
            assert!(now <= after + error, "ahead by {:?}", now - after);
            assert!(time.passed() <= ns(Instant::now() - time.epoch));
            by_ticks += u32::from(time.sight.get() == sight);
            last = now;
        }
        if matches!(rung(), Some(Rung::Rseq | Rung::PerfPage)) {
            assert!(by_ticks > 25_000, "the clock itself was read nearly every time: {by_ticks}");
        }
    }

    #[test]
    fn paused_time_is_not_moved_by_ticks() {
        let _loop = context::harness::enter_loop(context::Clock::Auto, None);
        context::harness::idle();
        let time = TimeSource::new(Instant::now(), false);
        time.now();
        time.pause();
        let at = time.now();
        time.advance_to(at + 7);
        assert_eq!([time.now(), time.passed(), time.recent_ns(), time.now()], [at + 7; 4]);
        time.resume();
        assert!(time.recent_ns() == at + 7 && time.now() >= at + 7);
    }

    #[test]
    fn b17_other_threads_read_the_same_time() {
        let hour = 3_600_000_000_000;
        let time = TimeSource::new(Instant::now(), true);
        time.advance_to(hour);
        assert_eq!(time.remote().now(), time.now_instant());
        time.resume();
        let (before, there, after) = (time.now_instant(), time.remote().now(), time.now_instant());
        let error = Duration::from_nanos(AHEAD_MAX);
        assert!(before <= there + error && there <= after + error, "{before:?} {there:?} {after:?}");
        time.pause();
        assert_eq!(time.remote().now(), time.now_instant());
    }

    #[test]
    fn time_that_stood_still_is_behind() {
        let time = TimeSource::new(Instant::now() - Duration::from_secs(3600), true);
        assert!(time.resume());
        assert!(time.now() < 1_000_000_000);
        assert!(time.real_at(time.now()) >= 3_600_000_000_000);
        assert_eq!(time.real_at(u64::MAX), u64::MAX);
    }
}
