//! Twin of `rseq.rs` where there is no glibc on x86-64 Linux: no thread has a slot.

use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use super::mark::Mark;

pub(super) fn descriptor() -> u64 {
    0
}

pub(super) fn slot() -> Option<NonNull<AtomicU64>> {
    None
}

pub(super) fn disarm() {}

pub(super) fn sees_preemption(_mark: &Mark) -> bool {
    false
}
