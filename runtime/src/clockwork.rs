//! What time it is for timers: the monotonic clock, or one that a test holds in its hand.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Time as the runtime's timers see it, in ns since the runtime was built.
#[derive(Debug)]
pub(crate) struct TimeSource {
    epoch: Instant,
    /// `Some`: time is paused at this many ns.
    paused: Cell<Option<u64>>,
}

impl TimeSource {
    pub(crate) fn new(epoch: Instant, paused: bool) -> Self {
        Self { epoch, paused: Cell::new(paused.then_some(0)) }
    }

    /// Now, in ns since the epoch.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.paused.get().unwrap_or_else(|| ns(self.epoch.elapsed()))
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
}

const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
