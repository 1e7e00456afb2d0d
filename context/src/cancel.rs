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

    /// The line that cancelled.
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
    /// Stores `waker` at `key`, or at a new one. Returns the waker it replaced, to be dropped outside the lock.
    pub(crate) fn register(&mut self, key: &mut Option<usize>, waker: &Waker) -> Option<Waker> {
        match key.and_then(|key| self.0.get_mut(key)) {
            Some(stored) if stored.will_wake(waker) => None,
            Some(stored) => Some(std::mem::replace(stored, waker.clone())),
            None => {
                *key = Some(self.0.insert(waker.clone()));
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, key: usize) -> Option<Waker> {
        self.0.try_remove(key)
    }

    /// Takes all wakers out; the keys that were handed out mean nothing any more.
    pub(crate) fn take(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.0).into_iter().map(|(_, waker)| waker).collect()
    }
}
