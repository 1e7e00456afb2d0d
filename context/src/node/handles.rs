//! How many handles of a context there are, and who has the last one.
//!
//! `models` checks this file, as it is, in every order in which threads may run it.

use super::atomics::{AtomicUsize, Ordering};

/// The count of handles of one node (rules 1 and 2 of [`raw`](super::raw)).
#[derive(Debug)]
pub(super) struct Handles(AtomicUsize);

impl Handles {
    pub(super) const fn new(count: AtomicUsize) -> Self {
        Self(count)
    }

    /// The node is begun, or lent to hooks when nobody has a handle: there is one. Nobody else counts meanwhile.
    #[inline]
    pub(super) fn be_one(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    /// Whether there is one, the caller's.
    pub(super) fn is_one(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 1
    }

    /// A handle is made from another one.
    #[inline]
    pub(super) fn add(&self) {
        // Relaxed, as in `Arc`: a handle exists, so nobody frees meanwhile.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives up one handle. Whether it was the last one: then what all others did is seen by the caller.
    #[inline]
    pub(super) fn give_up(&self) -> bool {
        // If this is the only handle, nobody can make another meanwhile: no need to count down.
        self.0.load(Ordering::Acquire) == 1 || self.0.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Takes back the handle that was lent. Whether it was the last one.
    pub(super) fn take_back(&self) -> bool {
        self.0.fetch_sub(1, Ordering::AcqRel) == 1
    }
}
