//! What time it is on a thread, and who wakes there when a deadline passes.

use super::{TIME, TIMER};
use crate::deadline::{Deadline, Source, TimeSource};
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, ready};
use std::time::{Duration, Instant};

/// The timer of an event loop, for deadlines.
pub trait Timer: Sync {
    /// What time it is for the loop's timers: paused time stands still.
    fn now(&self) -> Instant;

    /// Completes at `deadline`.
    fn sleep_until(&self, deadline: Instant) -> Alarm;
}

/// A future that completes when it is time.
pub type Alarm = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) fn set_timer(timer: Option<&'static dyn Timer>) -> Option<&'static dyn Timer> {
    TIMER.replace(timer)
}

pub(crate) fn set_time_source(source: Option<Arc<dyn TimeSource>>) -> Option<Arc<dyn TimeSource>> {
    TIME.try_with(|time| time.replace(source)).ok().flatten()
}

fn time_source() -> Option<Arc<dyn TimeSource>> {
    let copy = |time: &Cell<Option<Arc<dyn TimeSource>>>| {
        let source = time.take();
        time.set(source.clone());
        source
    };
    TIME.try_with(copy).ok().flatten()
}

/// The time, as the executor on this thread has it.
pub(crate) fn now() -> Instant {
    match time_source() {
        Some(source) => source.now(),
        None => TIMER.get().map_or_else(Instant::now, Timer::now),
    }
}

/// A deadline by the clock of this thread.
pub(crate) fn deadline(at: Instant) -> Deadline {
    Deadline { at, source: time_source().map_or(Source::Thread(now), Source::Shared) }
}

/// How soon a wait looks again whether a deadline has passed by another executor's clock, which may stand still.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(1);

/// An alarm that is set, and by which executor.
pub(crate) struct Armed {
    alarm: Alarm,
    /// The deadline passes by the clock that the alarm goes by.
    is_exact: bool,
    timer: &'static dyn Timer,
    source: Option<Arc<dyn TimeSource>>,
}

/// Sets an alarm for `deadline`, if the executor on this thread has timers. It goes by that executor's clock: if the
/// deadline's own clock is another one, the alarm is for when as much time has passed as is left by that.
pub(crate) fn alarm(deadline: &Deadline) -> Option<Armed> {
    let timer = TIMER.get()?;
    let source = time_source();
    let is_exact = match (&deadline.source, &source) {
        (Source::Shared(own), Some(here)) => Arc::ptr_eq(own, here),
        (Source::Shared(_), None) => false,
        (Source::Thread(_), _) => true,
    };
    let at = if is_exact {
        deadline.at
    } else {
        let left = deadline.at.saturating_duration_since(deadline.source.now());
        now().checked_add(left.max(LOOK_AGAIN_MIN))?
    };
    Some(Armed { alarm: timer.sleep_until(at), is_exact, timer, source })
}

impl Armed {
    /// Whether it was set by the executor that is on this thread now; elsewhere it may not be polled.
    pub(crate) fn is_at_home(&self) -> bool {
        let source = time_source();
        let is_same = match (&self.source, &source) {
            (Some(own), Some(here)) => Arc::ptr_eq(own, here),
            (None, None) => true,
            _ => false,
        };
        is_same && TIMER.get().is_some_and(|timer| std::ptr::addr_eq(timer, self.timer))
    }

    /// Ready when the alarm goes off: true if the deadline has passed then, false if it is time to look.
    pub(crate) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<bool> {
        ready!(self.alarm.as_mut().poll(cx));
        Poll::Ready(self.is_exact)
    }
}
