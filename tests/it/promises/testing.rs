//! P22 and the harness behaviours H1 to H5: `#[runtime::test]` itself.

use crate::books::{manual_runtime, ns, on_manual_clock, on_own_thread, pass};
use crate::trace::{Trace, panic_quietly};
use context::{Context, ReportKind};
use runtime::db::{Access, Connection, Pool};
use runtime::testing::{self, Options};
use runtime::yield_now;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;

fn options(name: &'static str) -> Options {
    Options { name, ..Options::default() }
}

/// The text with which a test on `options` fails; `None` if it passes.
fn failure(options: Options, future: impl Future<Output = ()>) -> Option<String> {
    let run = AssertUnwindSafe(|| testing::run(options, future));
    catch_unwind(run).err().map(|panic| context::panic_message(&*panic).to_owned())
}

#[runtime::test]
async fn p22_a_test_begins_in_the_sentinel() {
    assert!(Context::current().is_sentinel());
}

#[test]
fn h01_a_test_that_does_not_begin_in_the_sentinel_fails_with_the_contexts_name() {
    on_own_thread(|| {
        let left = Context::root("h01 left");
        let _entered = left.enter();
        let text = failure(options("h01"), async { unreachable!("the test does not begin") }).unwrap();
        assert!(text.contains(&left.to_string()), "{text}");
    });
}

#[test]
fn h02_after_a_test_what_it_left_is_dropped_and_the_sentinel_is_current() {
    let trace = Trace::new();
    let left = async {
        let noted = trace.on_drop("left");
        drop(runtime::spawn_in(&Context::root("h02 left"), async move {
            let _noted = noted;
            pending::<()>().await
        }));
        yield_now().await;
    };
    testing::run(options("h02"), left);
    trace.expect(&["drop left @ h02 left"]);
    assert!(Context::current().is_sentinel());
}

#[test]
fn h02_what_the_leftovers_report_fails_the_test_too() {
    struct Reports;
    impl Drop for Reports {
        fn drop(&mut self) {
            context::sentinel::report(
                ReportKind::UnhandledError,
                &"h02",
                std::panic::Location::caller(),
                "at the end",
            );
        }
    }
    let text = failure(options("h02"), async {
        drop(runtime::spawn_in(&Context::root("h02 left"), async move {
            let _reports = Reports;
            pending::<()>().await
        }));
        yield_now().await;
    });
    assert!(text.unwrap().contains("at the end"));
}

#[test]
fn h03_every_report_fails_the_test_and_is_in_its_text() {
    let text = failure(options("h03"), async {
        drop(context::db::begin("h03 first"));
        drop(context::db::begin("h03 second"));
    });
    let text = text.unwrap();
    assert!(text.contains("h03 first") && text.contains("h03 second"), "{text}");
    assert!(text.contains("transaction begun without a context"), "{text}");
}

#[test]
fn p22_reports_can_be_permitted() {
    let allowed = Options { allow_reports: true, ..options("p22") };
    assert_eq!(failure(allowed, async { drop(context::db::begin("p22 allowed")) }), None);
}

/// Another test that runs at the same time, on a thread that this one has started.
#[test]
fn p22_b15_reports_of_other_tests_are_not_this_tests() {
    let other = || failure(options("p22 other"), async { drop(context::db::begin("p22 elsewhere")) });
    let this = async { assert!(on_own_thread(other).unwrap().contains("p22 elsewhere")) };
    assert_eq!(failure(options("p22 this"), this), None);
}

/// Of the threads of a test nothing is known but who started them: not their names, and no context.
#[test]
fn b15_reports_of_the_threads_that_a_test_starts_fail_it() {
    type Start = fn(fn());
    let starts: [Start; 3] = [
        |f| thread::spawn(f).join().unwrap(),
        |f| thread::Builder::new().name("named".to_owned()).spawn(f).unwrap().join().unwrap(),
        |f| thread::spawn(move || thread::spawn(f).join().unwrap()).join().unwrap(),
    ];
    for start in starts {
        let text = failure(options("b15 thread"), async { start(|| drop(context::db::begin("b15 plain"))) });
        assert!(text.unwrap().contains("b15 plain"));
    }
}

/// A pool that both use: its only thread was started by one of them, and works for the other.
#[test]
fn b15_a_job_is_of_the_test_that_sent_it_whoever_started_the_thread() {
    let pool = Pool::builder(|| Ok::<_, Infallible>(Nothing)).connections(1).build();
    let leak = |class: &'static str| {
        let forget = move |_: &mut Nothing| {
            std::mem::forget(Context::root(class).enter());
            Ok(())
        };
        let context = Context::root("b15 request");
        let sent = context.scope(|| pool.with_connection("b15", forget));
        async move { sent.await.unwrap() }
    };
    let first = async {
        // Starts the thread.
        Context::root("b15 request").scope(|| pool.with_connection("b15", |_| Ok(()))).await.unwrap();
        let second = || failure(options("b15 second"), async { leak("b15 leaked").await });
        let second = on_own_thread(second);
        assert!(second.unwrap().contains("b15 leaked"));
    };
    assert_eq!(failure(options("b15 first"), first), None);
    assert!(failure(options("b15 third"), async { leak("b15 again").await }).is_some());
}

/// A thread that was there before works in a context of the test.
#[test]
fn b15_a_report_about_a_context_is_of_the_test_that_made_it() {
    let (send, jobs) = mpsc::channel::<Context>();
    let (done, is_done) = mpsc::channel();
    let worker = thread::spawn(move || {
        for context in jobs {
            std::mem::forget(context.enter());
            context.scope(|| std::mem::forget(context.enter()));
            done.send(()).unwrap();
        }
    });
    let test = async {
        send.send(Context::root("b15 handed over")).unwrap();
        is_done.recv().unwrap();
    };
    assert!(failure(options("b15 context"), test).unwrap().contains("b15 handed over"));
    drop(send);
    worker.join().unwrap();
}

#[test]
fn r14_a_failure_has_one_line_for_each_kind_and_place() {
    let text = failure(options("r14"), async {
        for _ in 0..28 {
            drop(runtime::spawn(async {}));
        }
        drop(context::db::begin("r14"));
    });
    let text = text.unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.lines().nth(1).unwrap().ends_with("(28 times)"), "{text}");
}

#[runtime::test(class = "r14 class")]
async fn r14_a_test_may_have_a_context_and_spawn_in_it() {
    assert_eq!(Context::current().class(), "r14 class");
    assert_eq!(runtime::spawn(async { Context::current().class() }).await.unwrap(), "r14 class");
}

#[test]
fn r14_a_seed_is_drawn_and_differs() {
    if std::env::var_os(testing::SEED_VARIABLE).is_none() {
        let drawn = || order_with(Options { shuffle: true, ..options("r14") });
        let orders: BTreeSet<_> = (0..4).map(|_| drawn()).collect();
        assert!(orders.len() > 1, "{orders:?}");
    }
}

struct Nothing;

impl Connection for Nothing {
    type Error = Infallible;
    type Transaction<'a> = &'a mut Nothing;

    fn begin(&mut self, _: Access) -> Result<&mut Nothing, Infallible> {
        Ok(self)
    }
    fn commit(_: &mut Nothing) -> Result<(), Infallible> {
        Ok(())
    }
    fn roll_back(_: &mut Nothing) -> Result<(), Infallible> {
        Ok(())
    }
    fn is_retryable(_: &Infallible) -> bool {
        false
    }
    fn is_clean(&mut self) -> bool {
        true
    }
    fn close(self) -> Result<(), Infallible> {
        Ok(())
    }
}

#[test]
fn p22_a_tests_own_panic_comes_out() {
    assert_eq!(failure(options("p22"), async { panic_quietly("my own") }).as_deref(), Some("my own"));
}

#[runtime::test]
async fn h04_a_test_can_read_a_finished_requests_usage() {
    let request = Context::root("h04 request");
    request.run(async { drop(context::db::begin("one")) }).await;
    assert!(request.is_finished());
    assert_eq!(request.usage().db.transactions, 1);
}

#[test]
fn h05_a_block_can_be_bounded_by_cpu_time() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let block = Context::root("h05 block");
            block.run(async { pass(1_000) }).await;
            assert_eq!(block.usage().cpu, ns(1_000));
        });
    });
}

/// Twenty tasks, which note when they run.
async fn run_twenty(trace: &Trace) {
    let context = Context::root("p22 order");
    let note = |n: u32| {
        let trace = trace.clone();
        runtime::spawn_in(&context, async move { trace.note(n) })
    };
    let tasks: Vec<_> = (0..20).map(note).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

fn in_order() -> Vec<String> {
    (0..20).map(|n| format!("{n} @ p22 order")).collect()
}

/// The order in which they run.
fn order(seed: Option<u64>) -> Vec<String> {
    order_with(Options { seed, ..options("p22") })
}

fn order_with(options: Options) -> Vec<String> {
    let trace = Trace::new();
    testing::run(options, run_twenty(&trace));
    trace.take()
}

#[test]
fn p22_a_seed_shuffles_the_run_queue_and_can_be_repeated() {
    if std::env::var_os(testing::SEED_VARIABLE).is_none() {
        assert_eq!(order(None), in_order());
        assert_ne!(order(Some(1)), in_order());
    }
    assert_eq!(order(Some(1)), order(Some(1)));
    assert_ne!(order(Some(1)), order(Some(2)));
}

#[runtime::test(seed = 7, allow_reports)]
async fn p22_the_arguments_of_the_attribute_reach_the_runtime() {
    let trace = Trace::new();
    run_twenty(&trace).await;
    let seen = trace.take();
    assert_ne!(seen, in_order());
    assert_eq!(seen, on_own_thread(|| order(Some(7))));
    drop(context::db::begin("p22 permitted"));
}
