//! Why a context was cancelled, and who waits to hear of it (P13).

use slab::Slab;
use std::fmt;
use std::panic::Location;
use std::task::Waker;

/// Why a context was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// Its deadline passed.
    Deadline,
    /// It spent its CPU budget.
    CpuBudget,
    /// The client went away.
    Disconnected,
    /// Another task of its group failed.
    Sibling,
    /// The runtime shuts down.
    Shutdown,
    /// The context itself, or one above it, has finished.
    Finished,
    /// What the caller of `cancel` says.
    Custom(&'static str),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deadline => "deadline exceeded",
            Self::CpuBudget => "CPU budget spent",
            Self::Disconnected => "client disconnected",
            Self::Sibling => "sibling failed",
            Self::Shutdown => "shutting down",
            Self::Finished => "its context finished",
            Self::Custom(why) => why,
        })
    }
}

/// The error of work whose context was cancelled: why, and which line cancelled it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled {
    pub(crate) reason: Reason,
    pub(crate) place: &'static Location<'static>,
}

impl Cancelled {
    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The line that cancelled. Of a deadline, a budget and a finish: the line that made the context which had it.
    pub fn place(&self) -> &'static Location<'static> {
        self.place
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cancelled: {} (at {})", self.reason, self.place)
    }
}

impl std::error::Error for Cancelled {}

/// The wakers of the futures that wait for one context's cancellation.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Slab<Waker>);

impl Waiters {
    /// Whether the waker at `key` wakes the same task as `waker`. Runs no foreign code.
    pub(crate) fn has(&self, key: Option<usize>, waker: &Waker) -> bool {
        key.and_then(|key| self.0.get(key)).is_some_and(|stored| stored.will_wake(waker))
    }

    /// Stores `waker` at `key`, or at a new one. Returns the waker it replaced, to be dropped outside the lock.
    pub(crate) fn register(&mut self, key: &mut Option<usize>, waker: Waker) -> Option<Waker> {
        match key.and_then(|key| self.0.get_mut(key)) {
            Some(stored) => Some(std::mem::replace(stored, waker)),
            None => {
                *key = Some(self.0.insert(waker));
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, key: usize) -> Option<Waker> {
        self.0.try_remove(key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all wakers out; the keys that were handed out mean nothing any more.
    pub(crate) fn take(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.0).into_iter().map(|(_, waker)| waker).collect()
    }
}
