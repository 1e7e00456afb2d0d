//! Thin wrappers of the C library's clocks, and of its sleep. All in nanoseconds.

#![allow(unsafe_code)]

use std::ptr;

const NS_PER_S: u64 = 1_000_000_000;

/// CPU time of the calling thread. A system call: 135 ns on a fast machine, 350 ns on a slow one (it takes the run
/// queue's lock; there is no vDSO short cut).
pub(super) fn thread_cpu_ns() -> u64 {
    // Cannot fail: POSIX says that the clock exists wherever the constant does.
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or(0)
}

/// The clock of `std::time::Instant`; slewed by NTP. vDSO, about 25 ns.
pub(super) fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC).unwrap_or(0)
}

/// Like [`monotonic_ns`], but at the hardware's own rate: what a counter is calibrated against.
pub(super) fn monotonic_raw_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC_RAW).unwrap_or(0)
}

/// Any clock of the system; `None` if it does not exist (any more).
pub(super) fn clock_ns(clock: libc::clockid_t) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for a write; an unknown clock is an error, not a fault.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    (result == 0).then(|| time.tv_sec as u64 * NS_PER_S + time.tv_nsec as u64)
}

/// Blocks the thread for `ns` (less than a second) plus the timer slack, usually 50 us. False if a signal cut it short.
pub(super) fn nap(ns: u32) -> bool {
    let time = libc::timespec { tv_sec: 0, tv_nsec: libc::c_long::from(ns as i32) };
    // SAFETY: `time` is valid for a read, and what remains is not asked for.
    unsafe { libc::nanosleep(&raw const time, ptr::null_mut()) == 0 }
}
