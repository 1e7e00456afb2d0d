//! P6: the CPU charged is the thread's time on a CPU, to the nanosecond. Threads sleep here: a thread that leaves the
//! CPU in the middle of a poll is what is looked at.

use crate::books::{assert_balanced, manual_runtime, ns, on_manual_clock, on_own_thread, pass, work};
use crate::meter::{Meter, assert_charged, slack};
use context::{Clock, Context, harness};
use runtime::{Runtime, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn p06_cpu_is_charged_to_the_nanosecond() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let contexts = ["p06 a", "p06 b", "p06 c"].map(Context::root);
            let tasks = contexts.each_ref().map(|context| {
                runtime::spawn_in(context, async {
                    for cost in [1, 20, 300] {
                        pass(cost);
                        yield_now().await;
                    }
                })
            });
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(contexts.map(|context| context.own_usage().cpu), [ns(321); 3]);
            assert_balanced();
        });
    });
}

#[test]
fn p06_time_off_the_cpu_is_blocked_and_not_cpu() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let request = Context::root("p06 preempted");
            request.run(async { harness::advance_manual_clock(7, 1_000) }).await;
            assert_eq!((request.own_usage().cpu, request.own_usage().blocked), (ns(7), ns(993)));
        });
    });
}

#[test]
fn p06_blocking_inside_a_poll_is_not_charged_as_cpu() {
    on_own_thread(|| {
        Runtime::new().unwrap().block_on(async {
            let request = Context::root("p06 blocks");
            request.run(async { (0..10).for_each(|_| thread::sleep(Duration::from_millis(2))) }).await;
            let used = request.own_usage();
            assert!(used.cpu < Duration::from_millis(10), "{used}");
            assert!(used.blocked >= Duration::from_millis(20) - used.cpu, "{used}");
            assert_balanced();
        });
    });
}

/// Spins on every CPU, so that the thread which runs this is preempted, until it is dropped.
struct Competitors<'a>(&'a AtomicBool);

impl<'a> Competitors<'a> {
    fn start<'scope>(scope: &'scope thread::Scope<'scope, 'a>, stop: &'a AtomicBool) -> Self {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    work(1_000);
                }
            });
        }
        Competitors(stop)
    }
}

impl Drop for Competitors<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Two requests in turns, one with three times the other's work, with blocking sleeps of different length in between, and
/// competitors on all CPUs. What each piece of work took is read from the kernel around it ([`Meter`]).
///
/// Beyond its pieces a request pays for the way out of each of its polls and into it: some 2 us in a build without
/// optimisation, and 10 to 20 us where half a millisecond of other work (and other threads') came before, since then the code
/// of the loop is in no cache. That is a cost of its polls, and so the request's; it is in the gaps of the [`Meter`].
fn turns_under_load(clock: Clock) {
    const ROUNDS: u64 = 120;
    let runtime = Runtime::builder().clock(clock).build().unwrap();
    runtime.block_on(async {
        let contexts = ["p06 small", "p06 large"].map(Context::root);
        let (started, before, meter) = (Instant::now(), assert_balanced(), Arc::new(Meter::<2>::new()));
        let turns = |who: usize, rounds: u64, nap: u64| {
            let meter = meter.clone();
            async move {
                let piece = |round| {
                    work(rounds);
                    if round % 8 == 0 {
                        thread::sleep(Duration::from_micros(nap));
                    }
                    work(rounds);
                };
                for round in 1..ROUNDS {
                    meter.slice(who, || piece(round));
                    yield_now().await;
                }
                meter.slice(who, || piece(ROUNDS));
            }
        };
        let [small, large] = &contexts;
        let tasks = [
            runtime::spawn_in(small, turns(0, 20_000, 400)),
            runtime::spawn_in(large, turns(1, 60_000, 100)),
        ];
        for task in tasks {
            task.await.unwrap();
        }
        let (measured, after) = (meter.read(), assert_balanced());
        let spent = after.thread_cpu - before.thread_cpu;
        assert!(spent < started.elapsed() / 10 * 9, "the competitors took something: {spent:?}");
        for (context, measured) in contexts.iter().zip(&measured) {
            assert_charged(context, measured, slack(&after));
            let blocked = context.own_usage().blocked;
            let (least, most) = (measured.off, measured.off_most);
            let slack = slack(&after) + most / 1_000;
            assert!(
                blocked + slack >= least && blocked <= most + slack,
                "{context} {blocked:?} {measured:?}"
            );
        }
    });
}

#[test]
fn p06_under_a_competing_load_each_context_pays_for_its_own_work() {
    for clock in [Clock::Rseq, Clock::PerfPage, Clock::ThreadTime] {
        on_own_thread(|| {
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                let _competitors = Competitors::start(scope, &stop);
                turns_under_load(clock);
            });
        });
    }
}

/// The kernel's other account of this thread: CPU ns, as of the last tick or switch.
fn scheduler_cpu() -> Option<u64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}

#[test]
fn p06_the_whole_is_what_the_kernel_says() {
    on_own_thread(|| {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            // A sleep brings the scheduler's figure up to date.
            let reading = || {
                thread::sleep(Duration::from_micros(50));
                (assert_balanced().thread_cpu, scheduler_cpu())
            };
            let (before, Some(scheduler_before)) = reading() else { return };
            for _ in 0..200 {
                work(10_000);
                yield_now().await;
            }
            let (after, Some(scheduler_after)) = reading() else { return };
            let (ours, theirs) =
                ((after - before).as_nanos() as i128, i128::from(scheduler_after - scheduler_before));
            assert!((ours - theirs).abs() < theirs / 20 + 1_000_000, "{ours} {theirs}");
        });
    });
}

#[test]
fn p06_the_rung_in_use_is_on_the_books() {
    on_own_thread(|| {
        let rung = |clock| {
            let runtime = Runtime::builder().clock(clock).build().unwrap();
            runtime.block_on(async { runtime::accounts().rung.to_string() })
        };
        assert_eq!(rung(Clock::ThreadTime), "thread-clock");
        assert_eq!(rung(Clock::Manual), "manual");
        assert_ne!(rung(Clock::Auto), "manual");
    });
}

#[test]
fn p06_a_change_of_clock_loses_nothing() {
    on_own_thread(|| {
        for clock in [Clock::Auto, Clock::ThreadTime, Clock::PerfPage, Clock::Rseq, Clock::Auto] {
            let runtime = Runtime::builder().clock(clock).build().unwrap();
            let before = assert_balanced();
            let spent = Context::root("p06 changes");
            runtime.block_on(spent.run(async { work(10_000) }));
            let after = assert_balanced();
            assert!(after.thread_cpu > before.thread_cpu && after.contexts > before.contexts);
            assert!(!spent.usage().cpu.is_zero());
        }
    });
}
