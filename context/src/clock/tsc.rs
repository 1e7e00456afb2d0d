//! The time-stamp counter.

#![allow(unsafe_code)]

use std::fs;

const CLOCKSOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// Reads the counter. 10 to 20 ns, a virtual machine or not.
///
/// Not serialising: it may be read a few nanoseconds before what stands above it is done. `lfence` would cost more than
/// it tells.
#[inline(always)]
pub(super) fn read() -> u64 {
    // SAFETY: every x86-64 has the instruction. A process can forbid it to itself (prctl PR_SET_TSC); then it is a
    // SIGSEGV, not undefined behaviour.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Does the kernel itself keep time by this counter? It has then found it constant, non-stop and in step on all CPUs,
/// and watches over it. Nothing that we could check is worth as much. The answer is taken once: a kernel that loses its
/// trust later on is not noticed.
pub(super) fn is_trusted() -> bool {
    fs::read_to_string(CLOCKSOURCE).is_ok_and(|name| name.trim_end() == "tsc")
}
