//! The barrier of Linux. Fenced: a system call.
#![allow(unsafe_code)]

use std::sync::LazyLock;
use std::sync::atomic::{Ordering, compiler_fence, fence};
use std::time::Duration;

/// Of `linux/membarrier.h`.
const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

/// Far longer than any store waits in a core before others see it.
const DRAIN: Duration = Duration::from_millis(10);

/// Whether this system has it: Linux 4.14 and later, unless a sandbox forbids it. The first call registers the process,
/// which takes milliseconds if that has several threads by then.
pub(crate) fn is_available() -> bool {
    static REGISTERED: LazyLock<bool> =
        LazyLock::new(|| membarrier(REGISTER_PRIVATE_EXPEDITED) && membarrier(PRIVATE_EXPEDITED));
    *REGISTERED
}

/// The hurried side, between its write and its read.
#[inline(always)]
pub(crate) fn light() {
    compiler_fence(Ordering::SeqCst);
}

/// The other side, between its write and its read. Only if it [`is_available`].
#[cold]
pub(crate) fn heavy() {
    fence(Ordering::SeqCst);
    if !membarrier(PRIVATE_EXPEDITED) {
        // A sandbox that came later. What the other side wrote before it read is seen by then.
        std::thread::sleep(DRAIN);
    }
    fence(Ordering::SeqCst);
}

fn membarrier(command: libc::c_int) -> bool {
    let none: libc::c_int = 0;
    // SAFETY: it takes numbers and writes no memory; an unknown command or call is an error, not a fault.
    unsafe { libc::syscall(libc::SYS_membarrier, command, none, none) == 0 }
}
