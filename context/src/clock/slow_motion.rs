//! For those who count instructions under an emulator, where everything takes fifty times as long: bounds in wall time
//! are stretched by as much, so that what runs there is what runs on the bare machine.
//!
//! Changes when the clock is read anew, never whether anything is charged. Nothing in this repository but the bench
//! `instructions` sets it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static SLOWNESS: AtomicU64 = AtomicU64::new(1);

/// How many times slower than a CPU this process runs: 1, unless it was said otherwise.
#[inline]
pub(crate) fn slowness() -> u64 {
    SLOWNESS.load(Relaxed)
}

/// For clocks that are started afterwards.
pub(crate) fn set_slowness(factor: u64) {
    SLOWNESS.store(factor.max(1), Relaxed);
}
