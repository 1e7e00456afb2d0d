//! P22 and the harness behaviours H1 to H5: `#[runtime::test]` itself.

use crate::books::{manual_runtime, ns, on_manual_clock, on_own_thread, pass};
use crate::trace::{Trace, panic_quietly};
use context::{Context, ReportKind};
use runtime::testing::{self, Options};
use runtime::yield_now;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};

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

#[test]
fn p22_reports_of_other_threads_are_not_this_tests() {
    let elsewhere = async { on_own_thread(|| drop(context::db::begin("p22 elsewhere"))) };
    assert_eq!(failure(options("p22"), elsewhere), None);
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
    let trace = Trace::new();
    testing::run(Options { seed, ..options("p22") }, run_twenty(&trace));
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
