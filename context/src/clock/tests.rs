//! The clock against `CLOCK_THREAD_CPUTIME_ID`, in the conditions that it was made for.
//!
//! These tests measure a real machine, which may be a virtual one: the hypervisor can take the CPU away in the middle of
//! a slice, and an interrupt can hit the reference. So each experiment may be repeated a few times ([`in_some_attempt`]),
//! and must hold in one; an error in the arithmetic would show in all. Sleeping is the subject here: it is the blocking
//! call inside a slice.

#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use super::thread_time::{nap, thread_cpu_ns};
use super::wall::{ticks_to_ns, wall_ticks};
use super::*;

const EVERY: [Clock; 4] = [Clock::Auto, Clock::Rseq, Clock::PerfPage, Clock::ThreadTime];
const ATTEMPTS: usize = 8;

fn in_some_attempt(mut experiment: impl FnMut() -> Result<(), String>) {
    let failures: Vec<String> = (0..ATTEMPTS).map_while(|_| experiment().err()).collect();
    assert!(failures.len() < ATTEMPTS, "in every attempt:\n{}", failures.join("\n"));
}

fn ensure(condition: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(message()) }
}

/// Runs `f` on a thread that shares its CPU with one that is always busy.
fn beside_a_competitor(f: impl FnOnce() + Send) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        let done = &done;
        scope.spawn(move || {
            let cpu = os::current_cpu();
            assert!(os::pin_to(cpu));
            send.send(cpu).expect("the other waits");
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
            done.store(true, Ordering::Relaxed);
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        let cpu = receive.recv().expect("the other sends first");
        assert!(os::pin_to(cpu));
        while !done.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    });
}

/// Keeps the thread busy.
fn work(ns: u64) {
    let start = wall_ticks();
    while ticks_to_ns(wall_ticks() - start) < ns {}
}

/// Our own pseudo-random numbers (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What became of a run of slices.
#[derive(Debug, Default)]
struct Run {
    slices: usize,
    broken: usize,
    /// Nanoseconds, all slices.
    cpu: u64,
    /// Of the negative slices, without sign.
    correction: u64,
    /// Of the sum against the reference, beyond what the reference itself leaves open.
    error: u64,
    /// How far each stamp is from the reference, sorted.
    errors: Vec<u64>,
}

/// Slices of up to 40 us; one in 50 has a blocking call in it. Each stamp is bracketed by two reads of the reference.
fn run(clock: &ThreadClock, slices: usize) -> Run {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut run = Run { slices, ..Run::default() };
    let first = bracketed(clock);
    let mut before = first;
    for _ in 0..slices {
        work(random.below(40_000));
        if random.below(50) == 0 {
            nap(100_000);
        }
        let now = bracketed(clock);
        run.errors.push(now.error());
        run.broken += usize::from(now.stamp.broken);
        run.correction += before.stamp.cpu.saturating_sub(now.stamp.cpu);
        before = now;
    }
    run.cpu = before.stamp.cpu - first.stamp.cpu;
    let least = before.earliest - first.latest;
    let most = before.latest - first.earliest;
    run.error = least.saturating_sub(run.cpu).max(run.cpu.saturating_sub(most));
    run.errors.sort_unstable();
    run
}

#[derive(Clone, Copy)]
struct Bracketed {
    earliest: u64,
    stamp: Stamp,
    latest: u64,
}

impl Bracketed {
    fn error(&self) -> u64 {
        let cpu = self.stamp.cpu;
        self.earliest.saturating_sub(cpu).max(cpu.saturating_sub(self.latest))
    }
}

fn bracketed(clock: &ThreadClock) -> Bracketed {
    let earliest = thread_cpu_ns();
    let stamp = clock.now();
    Bracketed { earliest, stamp, latest: thread_cpu_ns() }
}

impl Run {
    fn check(&self) -> Result<(), String> {
        let allowed = self.cpu / 10_000 + 1_000;
        let at = |share: usize| self.errors[(self.errors.len() - 1) * share / 1000];
        let summary = || {
            format!(
                "{} slices, {} broken, {} ns, error {}, correction {}, stamps off by {}/{}/{} ns (50/99/100 %)",
                self.slices,
                self.broken,
                self.cpu,
                self.error,
                self.correction,
                at(500),
                at(990),
                at(1000)
            )
        };
        ensure(self.error <= allowed, summary)?;
        ensure(self.correction <= allowed, summary)?;
        ensure(at(500) <= 100 && at(990) <= 2_000 && at(1000) <= 50_000, summary)?;
        println!("{}", summary());
        Ok(())
    }
}

#[test]
fn slices_follow_the_thread_clock_beside_a_competitor() {
    for want in EVERY {
        beside_a_competitor(move || {
            let clock = ThreadClock::new();
            println!("{want:?}: {}", clock.start(want, true));
            in_some_attempt(|| {
                let run = run(&clock, 2_000);
                // 40 naps, and the competitor's turns.
                ensure(run.broken >= 30, || format!("{} broken", run.broken))?;
                run.check()
            });
            clock.stop();
        });
    }
}

#[test]
fn slices_follow_the_thread_clock_on_every_spawned_thread() {
    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(|| {
                let clock = ThreadClock::new();
                let rung = clock.start(Clock::Auto, true);
                in_some_attempt(|| run(&clock, 500).check());
                clock.stop();
                rung
            })
        })
        .collect();
    let rungs: Vec<Rung> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    assert!(rungs.iter().all(|&rung| rung == rungs[0]), "{rungs:?}");
}

#[test]
fn slices_shorter_than_any_limit_still_add_up() {
    for want in EVERY {
        let clock = ThreadClock::new();
        clock.start(want, true);
        in_some_attempt(|| {
            let first = bracketed(&clock);
            let mut before = first.stamp;
            let mut correction = 0;
            for _ in 0..200_000 {
                let now = clock.now();
                correction += before.cpu.saturating_sub(now.cpu);
                before = now;
            }
            let last = bracketed(&clock);
            let cpu = last.stamp.cpu - first.stamp.cpu;
            let allowed = cpu / 10_000 + 1_000;
            ensure(last.error() <= allowed, || format!("{want:?}: off by {} of {cpu} ns", last.error()))?;
            ensure(correction <= allowed, || format!("{want:?}: correction {correction} of {cpu} ns"))
        });
        clock.stop();
    }
}

#[test]
fn a_blocking_call_breaks_the_slice_and_is_not_cpu_time() {
    for want in EVERY {
        let clock = ThreadClock::new();
        clock.start(want, true);
        in_some_attempt(|| {
            let switches = clock.voluntary_switches();
            let before = clock.now();
            nap(1_000_000);
            let after = clock.now();
            let (cpu, wall) = (after.cpu - before.cpu, ticks_to_ns(after.wall - before.wall));
            assert!(after.broken, "{want:?}: a millisecond is always seen");
            assert!(clock.voluntary_switches() > switches);
            ensure(cpu < 200_000 && wall >= 1_000_000, || format!("{want:?}: {cpu} ns of CPU in {wall} ns"))
        });
        clock.stop();
    }
}

#[test]
fn short_slices_of_a_running_thread_are_not_broken() {
    for want in EVERY {
        let clock = ThreadClock::new();
        clock.start(want, true);
        in_some_attempt(|| {
            let broken = (0..10_000).filter(|_| clock.now().broken).count();
            ensure(broken <= 100, || format!("{want:?}: {broken} of 10,000 broken"))
        });
        clock.stop();
    }
}

#[test]
fn there_is_never_more_cpu_time_than_wall_time() {
    for want in EVERY {
        beside_a_competitor(move || {
            let clock = ThreadClock::new();
            clock.start(want, true);
            let mut random = Random(7);
            // On the lowest rung a stamp is two readings, one after the other, and what the kernel does to the thread in
            // between is in one and not in the other: there the wall time is read around both.
            let apart = clock.rung() == Some(Rung::ThreadTime);
            in_some_attempt(|| {
                let start = wall_ticks();
                let first = clock.now();
                let (mut before, mut begun) = (first, start);
                for _ in 0..500 {
                    work(random.below(20_000));
                    let next = wall_ticks();
                    let now = clock.now();
                    assert!(now.wall >= before.wall);
                    let ticks = if apart { wall_ticks() - begun } else { now.wall - before.wall };
                    let wall = ticks_to_ns(ticks);
                    let cpu = now.cpu.saturating_sub(before.cpu);
                    ensure(cpu <= wall + 1_000, || format!("{want:?}: {cpu} ns of CPU in {wall} ns"))?;
                    (before, begun) = (now, next);
                }
                let ticks = if apart { wall_ticks() - start } else { before.wall - first.wall };
                let wall = ticks_to_ns(ticks);
                ensure(before.cpu - first.cpu <= wall, || format!("{want:?}: more CPU than wall time"))
            });
            clock.stop();
        });
    }
}

extern "C" fn ignore(_signal: libc::c_int) {}

#[test]
fn signals_neither_crash_nor_spoil_the_sums() {
    let signal = libc::SIGRTMIN() + 3;
    // SAFETY: all zero is a valid sigaction: no flags, empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the handler does nothing, which is allowed in one; nobody else uses this real-time signal.
    assert_eq!(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) }, 0);
    for want in EVERY {
        // SAFETY: takes nothing.
        let target = unsafe { libc::pthread_self() };
        // A pointer in musl, which scoped threads would not share.
        let target = target as usize;
        let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // SAFETY: the target outlives this thread, which is scoped.
                    unsafe { libc::pthread_kill(target as libc::pthread_t, signal) };
                    sent.fetch_add(1, Ordering::Relaxed);
                    work(2_000);
                }
            });
            let clock = ThreadClock::new();
            clock.start(want, true);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                in_some_attempt(|| run(&clock, 500).check());
            }));
            done.store(true, Ordering::Relaxed);
            clock.stop();
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        assert!(sent.into_inner() > 0);
    }
}

#[test]
fn a_clock_can_be_stopped_and_started_on_any_rung() {
    let clock = ThreadClock::new();
    assert_eq!(clock.rung(), None);
    assert!(clock.now().cpu <= thread_cpu_ns(), "not started, it still tells the time");
    for want in EVERY.into_iter().chain([Clock::Manual]).cycle().take(15) {
        let rung = clock.start(want, true);
        assert_eq!(clock.rung(), Some(rung));
        if want == Clock::Manual {
            assert_eq!(rung, Rung::Manual);
        } else {
            in_some_attempt(|| run(&clock, 20).check());
        }
        if rung == Rung::PerfPage {
            clock.start(Clock::PerfPage, true);
        }
        clock.stop();
        clock.stop();
        assert_eq!(clock.rung(), None);
    }
}

#[test]
fn the_wish_is_granted_or_the_next_rung_taken() {
    let clock = ThreadClock::new();
    assert_eq!(clock.start(Clock::ThreadTime, true), Rung::ThreadTime);
    assert_ne!(clock.start(Clock::PerfPage, true), Rung::Rseq);
    assert_eq!(clock.start(Clock::Auto, true), clock.start(Clock::Rseq, true));
    println!("{:?} {:?}", clock.start(Clock::Auto, true), clock.start(Clock::PerfPage, true));
    clock.stop();
}

#[test]
fn resync_and_the_real_clock_agree() {
    let clock = ThreadClock::new();
    clock.start(Clock::Auto, true);
    let before = thread_cpu_ns();
    let stamp = clock.resync();
    let after = thread_cpu_ns();
    assert!(before <= stamp.cpu && stamp.cpu <= after);
    assert!(clock.wall() >= stamp.wall);
    clock.stop();
}

#[test]
fn the_manual_clock_is_exact() {
    let clock = ThreadClock::new();
    clock.start(Clock::Manual, true);
    assert_eq!(clock.now(), Stamp { cpu: 0, wall: 0, broken: false });
    clock.manual_advance(5, 5);
    assert_eq!(clock.now(), Stamp { cpu: 5, wall: 5, broken: false });
    clock.manual_advance(1, 1_000_000_000_000);
    assert_eq!(clock.now(), Stamp { cpu: 6, wall: 1_000_000_000_005, broken: true });
    assert_eq!(clock.resync(), Stamp { cpu: 6, wall: 1_000_000_000_005, broken: false });
    assert_eq!(clock.voluntary_switches(), 0);
    clock.manual_block(10);
    assert_eq!(clock.voluntary_switches(), 1);
    assert_eq!(clock.now(), Stamp { cpu: 6, wall: 1_000_000_000_015, broken: true });
    assert_eq!(clock.wall(), 1_000_000_000_015);
    assert_eq!(clock.ticks_to_ns(1_000_000_000_015), 1_000_000_000_015);
    assert!(!clock.blind_to_blocking());
    clock.start(Clock::Manual, true);
    assert_eq!(clock.now(), Stamp { cpu: 0, wall: 0, broken: false });
}

#[test]
fn a_forked_child_is_noticed() {
    for want in EVERY {
        let clock = ThreadClock::new();
        clock.start(want, true);
        assert!(!clock.has_forked());
        assert_eq!(exit_code_of_child(|| if clock.has_forked() { 42 } else { 1 }), 42);
        assert!(!clock.has_forked());
        clock.stop();
    }
}

/// Forks; the child has this one thread, takes no lock, allocates nothing, and ends without unwinding or destructors.
pub(super) fn exit_code_of_child(code: impl Fn() -> i32) -> i32 {
    // SAFETY: the child does only what `code` does (see above) and `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let code = code();
        // SAFETY: ends the process.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for a write.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status), "killed by signal {}", libc::WTERMSIG(status));
    libc::WEXITSTATUS(status)
}

#[test]
fn a_remote_clock_is_read_while_its_thread_lives() {
    let (send, receive) = mpsc::channel();
    let done = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&done);
    let thread = thread::spawn(move || {
        send.send(RemoteClock::this_thread()).expect("the other waits");
        while !stop.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    });
    let clock = receive.recv().expect("the other sends first");
    let first = clock.read().expect("it lives");
    while clock.read().expect("it lives") <= first {}
    done.store(true, Ordering::Relaxed);
    thread.join().expect("no panic");
    // The kernel says that it has ended a moment before it forgets it.
    while clock.read().is_some() {
        thread::yield_now();
    }
    let own = RemoteClock::this_thread();
    let (before, read, after) = (thread_cpu_ns(), own.read(), thread_cpu_ns());
    assert!(read.is_some_and(|read| before <= read && read <= after));
}

#[test]
fn the_wait_for_a_cpu_grows_beside_a_competitor() {
    beside_a_competitor(|| {
        let Some(before) = run_delay() else { return };
        in_some_attempt(|| {
            work(20_000_000);
            ensure(run_delay() > Some(before), || "no wait in 20 ms".to_owned())
        });
    });
}

#[test]
fn rungs_have_the_names_of_the_log() {
    let names = [Rung::Rseq, Rung::PerfPage, Rung::ThreadTime, Rung::Manual].map(|rung| rung.to_string());
    assert_eq!(names, ["rseq", "perf-page", "thread-clock", "manual"]);
}
