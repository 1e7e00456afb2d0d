//! What Linux tells of a thread: its switches, its wait for a CPU, and its clock seen from another thread.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::Read;
use std::mem::{self, MaybeUninit};

use super::thread_time::clock_ns;

/// `CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED` of <linux/posix-timers_types.h>: the thread's own, precise clock.
const THREAD_SCHED: libc::clockid_t = 6;

/// Names the CPU clock of a thread, to be read by another one of the same process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RemoteClock(libc::clockid_t);

impl RemoteClock {
    /// The clock of the calling thread.
    pub(crate) fn this_thread() -> RemoteClock {
        // SAFETY: takes nothing, returns a number.
        let tid = unsafe { libc::gettid() };
        RemoteClock((!tid << 3) | THREAD_SCHED)
    }

    /// Nanoseconds which that thread has been on a CPU, the running stretch included; `None` when it has ended.
    ///
    /// A system call that takes the lock of that thread's run queue: for reports. The kernel may give the id of an ended
    /// thread to a new one, which then answers.
    pub(crate) fn read(self) -> Option<u64> {
        clock_ns(self.0)
    }
}

/// How often this thread has left the CPU of its own will, by blocking. A system call, about 100 ns.
pub(super) fn voluntary_switches() -> u64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is valid for a write of an rusage.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
    // SAFETY: an rusage is plain integers: all zero is valid, and so is what the kernel wrote.
    unsafe { usage.assume_init() }.ru_nvcsw as u64
}

/// Nanoseconds this thread was runnable but waited for a CPU; `None` where the kernel does not say
/// (`CONFIG_SCHED_INFO`, a mounted /proc).
///
/// Opens and reads a file: several microseconds, for reports only.
pub(crate) fn run_delay() -> Option<u64> {
    let mut text = [0; 96];
    let length = File::open("/proc/thread-self/schedstat").ok()?.read(&mut text).ok()?;
    // "time on the CPU, time on a run queue, number of time slices": Documentation/scheduler/sched-stats.rst.
    std::str::from_utf8(&text[..length]).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Marks are 1 to this. They add so many nanoseconds to what a timer of the thread may be late.
pub(crate) const THREAD_MARK_MAX: u32 = 8_000;

/// The timer slack of a thread that nobody has given another one, ns.
const SLACK_DEFAULT: u32 = 50_000;

/// A number that this thread was given, or the thread that started it, or the one that started that; `None` for none.
///
/// Of what a new thread inherits on Linux only its timer slack is of no other use here, is a number, and is the same however
/// the thread is started and named.
pub(crate) fn thread_mark() -> Option<u32> {
    // SAFETY: takes numbers, returns a number.
    let slack = unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) };
    let mark = u32::try_from(slack).ok()?.checked_sub(SLACK_DEFAULT)?;
    (1..=THREAD_MARK_MAX).contains(&mark).then_some(mark)
}

/// Gives this thread, and those that it will start, a mark; or takes it away.
pub(crate) fn set_thread_mark(mark: Option<u32>) {
    let slack = libc::c_ulong::from(mark.map_or(0, |mark| SLACK_DEFAULT + mark));
    // SAFETY: takes numbers. 0 stands for the default. Where it fails there is no mark.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack) };
}

/// The CPU this thread runs on, for the moment. vDSO.
pub(super) fn current_cpu() -> i32 {
    // SAFETY: takes nothing, returns a number.
    unsafe { libc::sched_getcpu() }
}

/// Pins the calling thread to one CPU. False if the kernel does not let us.
pub(super) fn pin_to(cpu: i32) -> bool {
    let Ok(cpu) = usize::try_from(cpu) else { return false };
    // SAFETY: a cpu_set_t is a plain array of words; all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: CPU_SET sets a bit of an array; it panics if `cpu` is beyond its end.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is valid for a read of the size given; 0 is the calling thread.
    unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) == 0 }
}
