//! Twin of `node/atomics.rs` for loom.
//!
//! loom takes a SeqCst access for one that acquires and releases, but knows SeqCst fences. So an access gets fences here, as
//! it has on x86-64: of a store and a later load of another word, as of two read-modify-writes, one thread at least sees
//! what the other did.

pub(super) use loom::sync::atomic::{AtomicUsize, Ordering};

use loom::sync::atomic::{self, fence};

fn around<R>(order: Ordering, access: impl FnOnce(Ordering) -> R) -> R {
    if order != Ordering::SeqCst {
        return access(order);
    }
    fence(Ordering::SeqCst);
    let result = access(Ordering::SeqCst);
    fence(Ordering::SeqCst);
    result
}

#[derive(Debug)]
pub(super) struct AtomicU64(atomic::AtomicU64);

impl AtomicU64 {
    pub(super) fn new(value: u64) -> Self {
        Self(atomic::AtomicU64::new(value))
    }

    pub(super) fn load(&self, order: Ordering) -> u64 {
        around(order, |order| self.0.load(order))
    }

    pub(super) fn store(&self, value: u64, order: Ordering) {
        around(order, |order| self.0.store(value, order));
    }

    pub(super) fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        around(order, |_| self.0.fetch_sub(value, Ordering::AcqRel))
    }

    pub(super) fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        order: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        around(order, |_| self.0.compare_exchange(current, new, Ordering::AcqRel, failure))
    }

    pub(super) fn fetch_update(
        &self,
        order: Ordering,
        _: Ordering,
        next: impl FnMut(u64) -> Option<u64>,
    ) -> Result<u64, u64> {
        around(order, |_| self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next))
    }
}

#[derive(Debug)]
pub(super) struct AtomicBool(atomic::AtomicBool);

impl AtomicBool {
    pub(super) fn new(value: bool) -> Self {
        Self(atomic::AtomicBool::new(value))
    }

    pub(super) fn load(&self, order: Ordering) -> bool {
        around(order, |order| self.0.load(order))
    }

    pub(super) fn store(&self, value: bool, order: Ordering) {
        around(order, |order| self.0.store(value, order));
    }
}
