//! What time it is for timers: the monotonic clock, or one that a test holds in its hand.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Time as the runtime's timers see it, in ns since the runtime was built.
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
}

impl TimeSource {
    pub(crate) fn new(epoch: Instant, paused: bool) -> Self {
        Self { epoch, paused: Cell::new(paused.then_some(0)), lead: Cell::new(0), recent: Cell::new(epoch) }
    }

    /// Now, in ns since the epoch.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.paused.get().unwrap_or_else(|| self.at(self.running()))
    }

    /// [`now`](Self::now) as an instant.
    #[inline]
    pub(crate) fn now_instant(&self) -> Instant {
        self.paused.get().map_or_else(|| self.running(), |at| self.instant(at))
    }

    /// What time it was when somebody looked last, the loop for one: saves the ~22 ns of a look where that will do.
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
        }
        running
    }

    /// Lets time run on from where it was paused. Whether it was.
    pub(crate) fn resume(&self) -> bool {
        let Some(now) = self.paused.take() else { return false };
        self.lead.set(now.wrapping_sub(self.real()));
        self.recent.set(self.instant(now));
        true
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
    }

    /// The moment that many ns after the epoch; a century on if there is no such moment.
    pub(crate) fn instant(&self, at: u64) -> Instant {
        self.epoch.checked_add(Duration::from_nanos(at)).unwrap_or_else(|| self.epoch + CENTURY)
    }

    /// ns from the epoch to `instant`; 0 for what was before.
    #[inline]
    pub(crate) fn at(&self, instant: Instant) -> u64 {
        ns(instant.saturating_duration_since(self.epoch))
    }

    #[inline]
    fn running(&self) -> Instant {
        let now = match self.lead.get() {
            0 => Instant::now(),
            lead => self.instant(self.real().wrapping_add(lead)),
        };
        self.recent.set(now);
        now
    }

    fn real(&self) -> u64 {
        ns(self.epoch.elapsed())
    }
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

    #[test]
    fn time_that_stood_still_is_behind() {
        let time = TimeSource::new(Instant::now() - Duration::from_secs(3600), true);
        assert!(time.resume());
        assert!(time.now() < 1_000_000_000);
        assert!(time.real_at(time.now()) >= 3_600_000_000_000);
        assert_eq!(time.real_at(u64::MAX), u64::MAX);
    }
}
