//! How long something took.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::time::Duration;

/// Measures the CPU time of this thread: on a shared machine another process may take the CPU away at any time.
pub(crate) struct Stopwatch(Timespec);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(clock_gettime(ClockId::ThreadCPUTime))
    }

    pub(crate) fn elapsed(&self) -> Duration {
        let span = clock_gettime(ClockId::ThreadCPUTime) - self.0;
        span.try_into().expect("CPU time does not go back")
    }
}
