//! Linux's timers that are file descriptors: what lets `epoll_wait`, whose own timeout counts milliseconds, wake
//! on the nanosecond.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// A timer on `CLOCK_MONOTONIC`, non-blocking and close-on-exec.
pub(crate) struct TimerFd(OwnedFd);

impl TimerFd {
    /// A timer that is not armed.
    ///
    /// # Errors
    ///
    /// When the process or the system is out of file descriptors or memory.
    pub(crate) fn new() -> io::Result<TimerFd> {
        // SAFETY: takes two integers and touches no memory of ours.
        let fd =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        check(fd)?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
        Ok(TimerFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Makes the descriptor readable once when `CLOCK_MONOTONIC` reaches `at` (ns); at once if that has passed.
    /// What was armed before is forgotten, also if it has expired unread: no `read` is needed between two arms.
    ///
    /// # Errors
    ///
    /// None that the arguments can cause.
    pub(crate) fn arm(&self, at: u64) -> io::Result<()> {
        // An all-zero time would disarm the timer.
        let at = at.max(1);
        let expiry = libc::timespec {
            tv_sec: (at / NANOS_PER_SEC) as libc::time_t,
            tv_nsec: (at % NANOS_PER_SEC) as libc::c_long,
        };
        let once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = libc::itimerspec { it_interval: once, it_value: expiry };
        let fd = self.0.as_raw_fd();
        // SAFETY: the descriptor is a timerfd which `self` owns; `spec` lives through the call, which only reads
        // it; a null old value is allowed.
        check(unsafe { libc::timerfd_settime(fd, libc::TFD_TIMER_ABSTIME, &spec, ptr::null_mut()) })
    }
}

impl AsRawFd for TimerFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// The clock that [`TimerFd::arm`] means, in ns. It is the one which `std::time::Instant` reads, as a number.
///
/// # Errors
///
/// None on a Linux that has timerfds.
pub(crate) fn monotonic_ns() -> io::Result<u64> {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is to memory of the right size and alignment, which the call only writes.
    check(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it has written all of it.
    let now = unsafe { now.assume_init() };
    Ok(now.tv_sec as u64 * NANOS_PER_SEC + now.tv_nsec as u64)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
