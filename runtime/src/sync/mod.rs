//! Locks, shared work and queues that know contexts. Only what needs contexts; see below for the rest.

mod line;
mod linearizer;
mod read_write_lock;
#[cfg(test)]
mod trace;

pub use line::{Claim, KeyGuard, LockStats, Turn};
pub use linearizer::Linearizer;
pub use read_write_lock::ReadWriteLock;

use crate::current;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Poll, Waker};

/// Spends from the budget of the running poll, if a runtime's.
fn poll_proceed(waker: &Waker) -> Poll<()> {
    current::with(|core| core.map_or(Poll::Ready(()), |core| core.poll_proceed(waker)))
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
