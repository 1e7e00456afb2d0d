//! The CPU clock: how long has *this thread* been on a CPU, for about the price of one `rdtsc`.
//!
//! Only the kernel knows when a thread was off the CPU, and asking it (`CLOCK_THREAD_CPUTIME_ID`) is a real system call:
//! 135 to 350 ns, 20 times the price of `rdtsc`. So we ask rarely. A [`mark`] is a word which the kernel changes
//! whenever it switches the thread out; while the mark is intact the thread has not left its CPU, and the difference of
//! two time-stamp counter readings *is* CPU time. When the mark has gone, the real clock is read, the pair (ticks, CPU
//! time) becomes the new *anchor*, and the mark is set again.
//!
//! The ladder, best rung first; each falls to the next where the machine does not offer it:
//!
//! | rung | the mark | needs |
//! |---|---|---|
//! | [`Rung::Rseq`] | the `rseq_cs` pointer of the thread ([`rseq`]) | x86-64, Linux, glibc >= 2.35, clocksource `tsc` |
//! | [`Rung::PerfPage`] | `lock` of a mapped perf event ([`perf_page`]) | x86-64, Linux, `perf_event_open`, clocksource `tsc` |
//! | [`Rung::ThreadTime`] | none: the real clock at every stamp | a Unix |
//! | [`Rung::Manual`] | none: the test says what time it is | nothing |
//!
//! Under Miri, which knows neither the registers nor most of the system calls, the twins `_absent` are taken.
//!
//! What is absent: aarch64 (its counter is `cntvct_el0`; the trick is the same), and the first two rungs where the
//! kernel's clocksource is not `tsc` (a vDSO read of 22 ns could stand in for `rdtsc`). Time stolen by a hypervisor, and
//! interrupts where the kernel accounts them apart, are inside an unbroken slice although the thread clock leaves them
//! out; the limits in [`thread_clock`] bound that, and the next anchor takes it back.

mod fork;
mod ladder;
mod manual;
mod mark;
mod slow_motion;
mod thread_clock;
mod thread_time;
mod wall;

#[cfg(all(target_os = "linux", not(miri)))]
mod os;
#[cfg(any(not(target_os = "linux"), miri))]
#[path = "os_absent.rs"]
mod os;

#[cfg(all(target_os = "linux", not(miri)))]
mod process;
#[cfg(any(not(target_os = "linux"), miri))]
#[path = "process_absent.rs"]
mod process;

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod tsc;
#[cfg(any(not(target_arch = "x86_64"), miri))]
#[path = "tsc_absent.rs"]
mod tsc;

#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu", not(miri)))]
mod rseq;
#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu", not(miri))))]
#[path = "rseq_absent.rs"]
mod rseq;

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
mod perf_page;
#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
#[path = "perf_page_absent.rs"]
mod perf_page;

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests;

use std::fmt;

pub(crate) use fork::{Handlers as ForkHandlers, in_child, watch as watch_forks};
pub(crate) use os::{RemoteClock, THREAD_MARK_MAX, run_delay, set_thread_mark, thread_mark};
pub(crate) use process::process_id;
pub(crate) use slow_motion::{set_slowness, slowness};
pub(crate) use thread_clock::ThreadClock;

/// Which source measures CPU time.
///
/// A wish, not a command: where the machine does not offer it, the next rung of the ladder is taken. [`Rung`] says which
/// one it came to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Clock {
    /// The best that this machine offers.
    #[default]
    Auto,
    /// The time-stamp counter, watched over by the kernel's restartable sequences. About 10 ns a reading.
    Rseq,
    /// The time-stamp counter, watched over by a mapped perf event. About 10 ns a reading.
    PerfPage,
    /// `CLOCK_THREAD_CPUTIME_ID` at every reading: a system call, 135 ns and more.
    ThreadTime,
    /// Time stands still until it is advanced by hand: for tests.
    Manual,
}

/// The source of CPU time which a thread came to use.
///
/// ```
/// assert_eq!(context::Rung::PerfPage.to_string(), "perf-page");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rung {
    /// See [`Clock::Rseq`]. Displays as `rseq`.
    Rseq,
    /// See [`Clock::PerfPage`]. Displays as `perf-page`.
    PerfPage,
    /// See [`Clock::ThreadTime`]. Displays as `thread-clock`.
    ThreadTime,
    /// See [`Clock::Manual`]. Displays as `manual`.
    Manual,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Rung::Rseq => "rseq",
            Rung::PerfPage => "perf-page",
            Rung::ThreadTime => "thread-clock",
            Rung::Manual => "manual",
        })
    }
}

/// One reading of a [`ThreadClock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Nanoseconds this thread has been on a CPU, with the origin of `CLOCK_THREAD_CPUTIME_ID`. May step back by a few
    /// nanoseconds (drift): the caller books a negative slice as correction.
    pub(crate) cpu: u64,
    /// Wall time in the ticks of [`wall_ticks`] (manual clock: nanoseconds), taken at the same moment as `cpu`.
    pub(crate) wall: u64,
    /// The thread may have left the CPU since the stamp before this one.
    pub(crate) broken: bool,
}
