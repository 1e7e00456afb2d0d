//! Waiting for time to pass.
//!
//! | to | use |
//! |---|---|
//! | wait | [`sleep`], [`sleep_until`] |
//! | limit how long something may take | [`timeout`], [`timeout_at`] |
//! | do something again and again | [`interval`], [`interval_at`] |
//! | test all that without waiting | [`pause`], [`advance`], [`resume`], [`Builder::paused`](crate::Builder::paused) |
//!
//! Timers never fire early. One alone is as late as the kernel wakes the thread; those that are due within 123 us of each
//! other share a wake-up, so the first of them may be that much later. All of this is `Send`: it may be made and dropped
//! anywhere, but a timer is awaited on the runtime that polled it first. None of it holds a context, so none keeps a
//! request alive.

mod instant;
mod interval;
mod paused;
mod sleep;
mod timeout;

pub use instant::Instant;
pub use interval::{Interval, MissedTickBehavior, interval, interval_at};
pub use paused::{advance, pause, resume};
pub use sleep::{Sleep, sleep, sleep_until};
pub use std::time::Duration;
pub use timeout::{Elapsed, Timeout, timeout, timeout_at};

#[cfg(test)]
mod tests;
