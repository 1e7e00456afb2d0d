//! Locks, shared work and queues that know contexts. Only what needs contexts; see below for the rest.

mod awakenable_sleep;
mod background_queue;
mod caught;
mod concurrently;
mod expiring_cache;
mod line;
mod linearizer;
mod read_write_lock;
mod single_flight;
#[cfg(test)]
mod trace;

pub use awakenable_sleep::{AwakenableSleep, Nap, Woken};
pub use background_queue::{AddError, BackgroundQueue};
pub use concurrently::concurrently;
pub use expiring_cache::{CacheBuilder, CacheStats, ExpiringCache};
pub use line::{Claim, KeyGuard, LockStats, Turn};
pub use linearizer::Linearizer;
pub use read_write_lock::ReadWriteLock;
pub use single_flight::{FlightError, SingleFlight};

use crate::current;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Poll, Waker};

/// A leaf operation: with a runtime on this thread, it spends from the budget of the running poll.
fn poll_leaf<T>(waker: &Waker, operation: impl FnOnce() -> Poll<T>) -> Poll<T> {
    current::with(|core| match core {
        Some(core) => core.poll_leaf(waker, operation),
        None => operation(),
    })
}

/// Wakes all. A foreign waker that panics does not keep the others asleep.
fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
            log::error!("bursar: a waker panicked: {}", context::panic_message(&*panic));
            // A payload whose destructor panics has had its say.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
        }
    }
}
