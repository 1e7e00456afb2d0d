//! Ticks, at equal distances.

use std::future::Future;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{self, Poll, ready};
use std::time::Duration;

use super::Instant;
use super::sleep::{Sleep, sleep_until};

/// Ticks every `period`. The first tick is there at once.
///
/// ```
/// use runtime::time::{Instant, interval};
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// # let rt = runtime::Runtime::builder().paused(true).build()?;
/// # rt.block_on(async {
/// let start = Instant::now();
/// let mut seconds = interval(Duration::from_secs(1));
/// assert_eq!(seconds.tick().await - start, Duration::from_secs(0));
/// assert_eq!(seconds.tick().await - start, Duration::from_secs(1));
/// assert_eq!(seconds.tick().await - start, Duration::from_secs(2));
/// # });
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// If `period` is zero.
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    interval_at(Instant::now(), period)
}

/// Ticks every `period`, the first time at `start`.
///
/// ```
/// use runtime::time::{Instant, interval_at};
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// # let rt = runtime::Runtime::builder().paused(true).build()?;
/// # rt.block_on(async {
/// let second = Duration::from_secs(1);
/// let start = Instant::now() + second;
/// assert_eq!(interval_at(start, second).tick().await, start);
/// # });
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// If `period` is zero.
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(!period.is_zero(), "the period of an interval must not be zero");
    Interval { sleep: sleep_until(start), period, behavior: MissedTickBehavior::Burst }
}

/// What an [`Interval`] does about ticks which nobody awaited in time: those more than 5 ms late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedTickBehavior {
    /// All of them follow at once, until the schedule is met again.
    #[default]
    Burst,
    /// The schedule moves: the next tick comes a period after the late one.
    Delay,
    /// They are left out: the next tick is the next one of the schedule that is yet to come.
    Skip,
}

/// Ticks are not exact; up to here one is not called missed.
const TOLERANCE: Duration = Duration::from_millis(5);

impl MissedTickBehavior {
    fn next(self, due: Instant, now: Instant, period: Duration) -> Instant {
        let late = now - due;
        if late <= TOLERANCE {
            return due.later(period);
        }
        match self {
            Self::Burst => due.later(period),
            Self::Delay => now.later(period),
            Self::Skip => now.later(period - remainder(late, period)),
        }
    }
}

fn remainder(late: Duration, period: Duration) -> Duration {
    let left = late.as_nanos() % period.as_nanos();
    Duration::new((left / 1_000_000_000) as u64, (left % 1_000_000_000) as u32)
}

/// Ticks; made by [`interval`] and [`interval_at`]. Dropping it ends them.
#[derive(Debug)]
pub struct Interval {
    sleep: Sleep,
    period: Duration,
    behavior: MissedTickBehavior,
}

impl Interval {
    /// Waits for the next tick, and returns when it was due. Dropping the future loses no tick.
    ///
    /// # Panics
    ///
    /// Where no runtime runs, or another than the one it was first awaited on.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// [`tick`](Self::tick) for those who write futures by hand.
    ///
    /// # Panics
    ///
    /// As [`tick`](Self::tick).
    pub fn poll_tick(&mut self, cx: &mut task::Context<'_>) -> Poll<Instant> {
        ready!(Pin::new(&mut self.sleep).poll(cx));
        let due = self.sleep.deadline();
        self.sleep.reset(self.behavior.next(due, Instant::now(), self.period));
        Poll::Ready(due)
    }

    /// The next tick comes a period from now, the following after that.
    ///
    /// ```
    /// use runtime::time::{Instant, advance, interval};
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let rt = runtime::Runtime::builder().paused(true).build()?;
    /// # rt.block_on(async {
    /// let mut seconds = interval(Duration::from_secs(1));
    /// seconds.tick().await;
    /// advance(Duration::from_millis(500)).await;
    /// seconds.reset();
    /// let now = Instant::now();
    /// assert_eq!(seconds.tick().await - now, Duration::from_secs(1));
    /// # });
    /// # Ok(())
    /// # }
    /// ```
    pub fn reset(&mut self) {
        self.reset_after(self.period);
    }

    /// The next tick is there at once.
    pub fn reset_immediately(&mut self) {
        self.reset_at(Instant::now());
    }

    /// The next tick comes after that time.
    pub fn reset_after(&mut self, after: Duration) {
        self.reset_at(Instant::now().later(after));
    }

    /// The next tick comes at that moment.
    pub fn reset_at(&mut self, deadline: Instant) {
        self.sleep.reset(deadline);
    }

    /// What is done about missed ticks.
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.behavior
    }

    /// Says what is to be done about missed ticks; [`MissedTickBehavior::Burst`] if nothing is said.
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.behavior = behavior;
    }

    /// The time from tick to tick.
    pub fn period(&self) -> Duration {
        self.period
    }
}
