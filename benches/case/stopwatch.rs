//! How long something took.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::time::Duration;

/// Measures the CPU time of this thread: on a shared machine another process may take the CPU away at any time.
pub struct Stopwatch(Timespec);

impl Stopwatch {
    /// From now on.
    pub fn start() -> Self {
        Self(clock_gettime(ClockId::ThreadCPUTime))
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        let span = clock_gettime(ClockId::ThreadCPUTime) - self.0;
        span.try_into().expect("CPU time does not go back")
    }
}
