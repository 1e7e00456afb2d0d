//! P6, who is charged: where production runs, on the cheap clock, in slices far below the 30 us from which on the kernel's
//! clock is read, one context after the other. The kernel's own clock is read around each piece of work ([`crate::meter`]).

use crate::books::{assert_whole, ns, on_own_thread};
use crate::meter::{Measured, Meter, assert_charged, burn, slack};
use context::{Clock, Context, FutureExt, Rung};
use runtime::{Runtime, yield_now};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

const CLASSES: [&str; 3] = ["p06 small", "p06 medium", "p06 large"];
/// So unlike that a slice on the wrong account shows, all of them short.
const SHARES: [Duration; 3] = [ns(1_000), ns(5_000), ns(20_000)];
const ROUNDS: u32 = 1_000;

/// Runs `f` on a thread of its own by each of the cheap clocks; on a machine without them by the one it has, and says so.
fn on_cheap_clocks(f: impl Fn(Clock) + Sync) {
    for (clock, rung) in [(Clock::Rseq, Rung::Rseq), (Clock::PerfPage, Rung::PerfPage)] {
        on_own_thread(|| {
            let found =
                Runtime::builder().clock(clock).build().unwrap().block_on(async { runtime::accounts().rung });
            if found != rung {
                eprintln!(
                    "SKIPPED: this machine has no {rung} clock; {found} instead. Production's path is not tested!"
                );
            }
            f(clock);
        });
    }
}

/// A runtime with as little beside the polls as in production.
fn production(clock: Clock) -> Runtime {
    Runtime::builder().clock(clock).track_wakers(false).build().unwrap()
}

#[track_caller]
fn assert_all_charged<const N: usize>(contexts: &[Context; N], meter: &Meter<N>) -> [Measured; N] {
    let measured = meter.read();
    let books = assert_whole();
    for (context, measured) in contexts.iter().zip(&measured) {
        assert_charged(context, measured, slack(&books));
    }
    measured
}

async fn turns(meter: Arc<Meter<3>>, who: usize) {
    for _ in 1..ROUNDS {
        meter.slice(who, || burn(SHARES[who]));
        yield_now().await;
    }
    // Not once more after that: no poll may be without a piece.
    meter.slice(who, || burn(SHARES[who]));
}

#[test]
fn p06_each_short_slice_is_charged_to_the_task_that_ran() {
    on_cheap_clocks(|clock| {
        production(clock).block_on(async {
            let (contexts, meter) = (CLASSES.map(Context::root), Arc::new(Meter::new()));
            let tasks = [0, 1, 2].map(|who| runtime::spawn_in(&contexts[who], turns(meter.clone(), who)));
            for task in tasks {
                task.await.unwrap();
            }
            assert_all_charged(&contexts, &meter);
        });
    });
}

/// Between two polls of one context no clock is read; that must not reach beyond the context.
#[test]
fn p06_two_tasks_of_one_context_and_one_of_another_in_turns() {
    on_cheap_clocks(|clock| {
        production(clock).block_on(async {
            let (contexts, meter) = (CLASSES.map(Context::root), Arc::new(Meter::new()));
            let tasks =
                [0, 0, 2, 2, 2, 1].map(|who| runtime::spawn_in(&contexts[who], turns(meter.clone(), who)));
            for task in tasks {
                task.await.unwrap();
            }
            assert_all_charged(&contexts, &meter);
        });
    });
}

/// Within one poll: a part's future, a closure, a guard, each in a context of its own.
#[test]
fn p06_parts_closures_and_guards_within_a_poll_are_charged_apart() {
    on_cheap_clocks(|clock| {
        let runtime = production(clock);
        runtime.block_on(async {
            let request = Context::root("p06 request");
            let parts = ["p06 part", "p06 closure", "p06 guard"].map(|class| request.child(class));
            let [part, closure, guard] = parts.clone();
            let contexts = [request.clone(), part, closure, guard];
            let meter = Meter::<4>::new();
            let work = async {
                for _ in 0..ROUNDS / 4 {
                    meter.slice(0, || burn(ns(1_000)));
                    async { meter.slice(1, || burn(ns(12_000))) }.in_context(parts[0].clone()).await;
                    parts[1].scope(|| meter.slice(2, || burn(ns(3_000))));
                    meter.slice(0, || burn(ns(500)));
                    {
                        let _entered = parts[2].enter();
                        meter.slice(3, || burn(ns(25_000)));
                    }
                    yield_now().await;
                }
            };
            work.in_context(request).await;
            assert_all_charged(&contexts, &meter);
        });
    });
}

/// Each request is a context that is made, works and is gone again: its memory, too, is used by the next.
#[test]
fn p06_p24_the_bill_of_each_short_request_is_its_own() {
    const REQUESTS: usize = 200;
    on_cheap_clocks(|clock| {
        production(clock).block_on(async {
            let meter = Arc::new(Meter::<REQUESTS>::new());
            let request = |n: usize| {
                let (request, meter) = (Context::root("p06 bill"), meter.clone());
                let own = request.clone();
                let work = async move {
                    meter.slice(n, || burn(SHARES[n % 3]));
                    yield_now().await;
                    meter.slice(n, || burn(SHARES[n % 3]));
                };
                let task = runtime::spawn_in(&request, work);
                async move {
                    task.await.unwrap();
                    own.finish()
                }
            };
            let mut bills = Vec::with_capacity(REQUESTS);
            for first in (0..REQUESTS).step_by(8) {
                let requests: Vec<_> = (first..first + 8).map(request).collect();
                for bill in requests {
                    bills.push(bill.await);
                }
            }
            let measured = meter.read();
            let slack = slack(&assert_whole());
            for (bill, measured) in bills.iter().zip(&measured) {
                let (least, most) = (measured.cpu, measured.cpu + measured.gaps);
                assert!(
                    bill.cpu + slack >= least && bill.cpu <= most + slack,
                    "{bill}: {measured:?}, {slack:?}"
                );
                assert_eq!(bill.late_cpu, ns(0));
            }
        });
    });
}

/// Two loops at once, each with tasks of its own contexts and of one that both work for.
#[test]
fn p06_two_threads_at_once_charge_whom_they_work_for() {
    on_cheap_clocks(|clock| {
        let (start, both) = (Barrier::new(2), Context::root("p06 both"));
        // Each thread's own shares: what one takes on the other's account is no multiple of anything.
        let work = |shares: [u64; 3]| {
            let contexts = [Context::root("p06 first"), Context::root("p06 second"), both.clone()];
            production(clock).block_on(async {
                start.wait();
                let meter = Arc::new(Meter::<3>::new());
                let turns = |who: usize| {
                    let meter = meter.clone();
                    async move {
                        for _ in 1..ROUNDS {
                            meter.slice(who, || burn(ns(shares[who])));
                            yield_now().await;
                        }
                        meter.slice(who, || burn(ns(shares[who])));
                    }
                };
                for task in [0, 1, 2].map(|who| runtime::spawn_in(&contexts[who], turns(who))) {
                    task.await.unwrap();
                }
                let measured = meter.read();
                let slack = slack(&assert_whole());
                for who in [0, 1] {
                    assert_charged(&contexts[who], &measured[who], slack);
                }
                (measured[2], slack)
            })
        };
        let (one, other) = thread::scope(|scope| {
            let other = scope.spawn(|| work([700, 9_000, 3_000]));
            (work([16_000, 1_200, 6_000]), other.join().unwrap())
        });
        assert_charged(&both, &one.0.plus(&other.0), one.1 + other.1);
    });
}

/// The job runs on the pool's thread while the loop works for somebody else.
#[test]
fn p06_p10_a_job_and_the_loop_at_once_charge_whom_they_work_for() {
    on_cheap_clocks(|clock| {
        let builder = Runtime::builder().clock(clock).track_wakers(false).blocking_threads(1);
        builder.build().unwrap().block_on(async {
            let contexts = CLASSES.map(Context::root);
            // A meter begins and ends on its thread, for nobody's account here.
            let other = Context::root("p06 meter");
            let pool = other.scope(|| runtime::spawn_blocking(|| Arc::new(Meter::<3>::new()))).await.unwrap();
            let here = Arc::new(Meter::<3>::new());
            for round in 0..60 {
                let who = round % 2;
                let meter = pool.clone();
                let job = contexts[who]
                    .scope(|| runtime::spawn_blocking(move || meter.slice(who, || burn(SHARES[who] * 20))));
                let loops = runtime::spawn_in(&contexts[2], {
                    let meter = here.clone();
                    async move {
                        for _ in 0..10 {
                            meter.slice(2, || burn(ns(10_000)));
                            yield_now().await;
                        }
                    }
                });
                let job = job.in_context(contexts[who].clone());
                here.slice(who, || ());
                job.await.unwrap();
                here.slice(who, || ());
                loops.await.unwrap();
            }
            let here = here.read();
            let pool = other.scope(|| runtime::spawn_blocking(move || pool.read())).await.unwrap();
            let slack = slack(&assert_whole()) * 2;
            for (who, context) in contexts.iter().enumerate() {
                assert_charged(context, &pool[who].plus(&here[who]), slack);
            }
        });
    });
}

/// A task that yields waits while the others run: at least for their work, at most from one piece of its own to the next.
#[test]
fn p12_a_task_that_yields_is_queued_while_the_others_run() {
    on_cheap_clocks(|clock| {
        production(clock).block_on(async {
            let (contexts, meter) = (CLASSES.map(Context::root), Arc::new(Meter::new()));
            let tasks = [0, 1, 2].map(|who| {
                meter.ready(who);
                runtime::spawn_in(&contexts[who], turns(meter.clone(), who))
            });
            for task in tasks {
                task.await.unwrap();
            }
            for (context, measured) in contexts.iter().zip(&meter.read()) {
                let (queued, slack) = (context.own_usage().queued, measured.away / 1_000);
                let (least, most) = (measured.others, measured.away);
                assert!(
                    queued + slack >= least && queued <= most + slack,
                    "{context} {queued:?} {measured:?}"
                );
            }
        });
    });
}
