//! A moment, by the clock that the runtime's timers go by.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::Duration;

use crate::current;

/// A moment of the monotonic clock. Where time is [paused](super::pause), [`now`](Self::now) stands still with it.
///
/// Otherwise it is a [`std::time::Instant`], and converts to and from one.
///
/// ```
/// use runtime::time::{Instant, sleep};
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// let rt = runtime::Runtime::builder().paused(true).build()?;
/// rt.block_on(async {
///     let start = Instant::now();
///     sleep(Duration::from_secs(3600)).await;
///     assert!(start.elapsed() >= Duration::from_secs(3600));
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(std::time::Instant);

/// Later than anyone waits, and early enough to be added to.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

impl Instant {
    /// Now: of the runtime of this thread if there is one, of the runtime whose job this thread of a pool does, or else of
    /// the system.
    pub fn now() -> Self {
        current::with(|core| match core {
            Some(core) => Self(core.time.now_instant()),
            None => Self(context::harness::now()),
        })
    }

    /// The same moment of the system's clock.
    pub fn from_std(instant: std::time::Instant) -> Self {
        Self(instant)
    }

    /// The same moment of the system's clock.
    pub fn into_std(self) -> std::time::Instant {
        self.0
    }

    /// The time from `earlier` to here; zero if it is later.
    pub fn duration_since(&self, earlier: Instant) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// The time from `earlier` to here; `None` if it is later.
    pub fn checked_duration_since(&self, earlier: Instant) -> Option<Duration> {
        self.0.checked_duration_since(earlier.0)
    }

    /// The time from `earlier` to here; zero if it is later.
    pub fn saturating_duration_since(&self, earlier: Instant) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// The time from here to now; zero if this is yet to come.
    pub fn elapsed(&self) -> Duration {
        Self::now().duration_since(*self)
    }

    /// `None` if the sum cannot be represented.
    pub fn checked_add(&self, duration: Duration) -> Option<Self> {
        self.0.checked_add(duration).map(Self)
    }

    /// `None` if the difference cannot be represented.
    pub fn checked_sub(&self, duration: Duration) -> Option<Self> {
        self.0.checked_sub(duration).map(Self)
    }

    /// That much later; about 30 years from here where this cannot be represented (`Duration::MAX` means "never").
    pub(super) fn later(self, duration: Duration) -> Self {
        self.checked_add(duration).unwrap_or_else(|| self + FAR)
    }
}

impl From<std::time::Instant> for Instant {
    fn from(instant: std::time::Instant) -> Self {
        Self(instant)
    }
}

impl From<Instant> for std::time::Instant {
    fn from(instant: Instant) -> Self {
        instant.0
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        self.0 += duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0 - duration)
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, duration: Duration) {
        self.0 -= duration;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.duration_since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_that_of_the_standard_library() {
        let std = std::time::Instant::now();
        let (a, second) = (Instant::from(std), Duration::from_secs(1));
        let mut b = a + second;
        assert_eq!(std::time::Instant::from(b), std + second);
        assert_eq!((b - a, a - b, b - second), (second, Duration::ZERO, a));
        assert_eq!((a.checked_duration_since(b), b.checked_duration_since(a)), (None, Some(second)));
        b -= second;
        b += second;
        assert_eq!(b.saturating_duration_since(a), second);
        assert!(a.checked_add(Duration::MAX).is_none() && a.later(Duration::MAX) > b);
    }

    #[test]
    fn without_a_runtime_it_is_the_systems() {
        let before = std::time::Instant::now();
        let now = Instant::now().into_std();
        assert!(before <= now && now <= std::time::Instant::now());
    }
}
