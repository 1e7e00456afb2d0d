//! P9: open, finished, gone.

use crate::books::{assert_balanced, lives, manual_runtime, ns, on_manual_clock, on_own_thread, pass};
use crate::promise::cut;
use crate::trace::{Trace, panic_quietly};
use crate::watch::Watch;
use context::{Context, FutureExt, Reason, ReportKind};
use runtime::yield_now;
use std::future::pending;
use std::sync::{Arc, Mutex};

#[runtime::test]
async fn p09_a_context_is_open_then_finished_then_gone() {
    let context = Context::root("p09 life");
    let id = context.id();
    assert!(!context.is_finished() && lives(id));
    context.finish();
    assert!(context.is_finished() && lives(id));
    drop(context);
    assert!(!lives(id));
}

#[runtime::test]
async fn p09_run_finishes_the_context_when_the_future_is_done() {
    let context = Context::root("p09 run");
    let inside = context.clone();
    let output = context.run(async move {
        yield_now().await;
        inside.is_finished()
    });
    assert!(!output.await);
    assert!(context.is_finished());
}

#[runtime::test]
async fn p09_run_finishes_the_context_when_the_future_is_dropped_and_after_it() {
    let (context, trace) = (Context::root("p09 cut"), Trace::new());
    let (noted, hook) = (trace.on_drop("future"), trace.clone());
    context.on_finish(move |_| hook.note("finished"));
    let work = context.run(async move {
        let _noted = noted;
        pending::<()>().await
    });
    assert!(cut(work, 1).await.is_none());
    assert!(context.is_finished());
    trace.expect(&["drop future @ p09 cut", "finished @ (sentinel)"]);
}

#[runtime::test]
async fn p09_finishing_happens_once_and_runs_each_hook_once() {
    let (context, trace) = (Context::root("p09 once"), Trace::new());
    for hook in ["first", "second"] {
        let trace = trace.clone();
        context.on_finish(move |_| trace.note(hook));
    }
    let usage = context.finish();
    assert_eq!(context.finish(), usage);
    drop(context);
    trace.expect(&["first @ (sentinel)", "second @ (sentinel)"]);
}

#[test]
fn p09_hooks_get_the_final_total() {
    on_manual_clock(|| {
        let context = Context::root("p09 hooked");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        context.on_finish(move |usage| sink.lock().unwrap().push(usage.cpu));
        context.child("p09 part").scope(|| pass(3));
        context.scope(|| pass(4));
        assert_eq!(context.finish().cpu, ns(7));
        let sink = seen.clone();
        context.on_finish(move |usage| sink.lock().unwrap().push(usage.cpu));
        assert_eq!(*seen.lock().unwrap(), [ns(7), ns(7)], "a hook that comes late is called at once");
    });
}

/// The slice that runs is the context's until it finishes, and late from there on.
#[test]
fn p09_a_finish_from_within_has_the_slice_that_runs() {
    on_manual_clock(|| {
        let _watch = Watch::here();
        let context = Context::root("p09 within");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        context.on_finish(move |usage| sink.lock().unwrap().push(usage.cpu));
        context.scope(|| {
            pass(5);
            let used = context.finish();
            assert_eq!((used.cpu, used.late_cpu), (ns(5), ns(0)));
            pass(30);
        });
        assert_eq!((context.usage().cpu, context.usage().late_cpu), (ns(5), ns(30)));
        assert_eq!(*seen.lock().unwrap(), [ns(5)]);
    });
}

#[runtime::test]
async fn p09_a_context_that_nobody_finishes_finishes_with_its_last_handle() {
    let (context, trace) = (Context::root("p09 last"), Trace::new());
    let hook = trace.clone();
    context.on_finish(move |_| hook.note("finished"));
    let handle = context.clone();
    drop(context);
    trace.expect(&[]);
    drop(handle);
    assert_eq!(trace.take().len(), 1);
}

#[test]
fn p09_a_panic_in_a_hook_is_reported_and_the_others_run() {
    let watch = Watch::here();
    let (context, trace) = (Context::root("p09 bad hook"), Trace::new());
    context.on_finish(|_| panic_quietly("hook"));
    let hook = trace.clone();
    context.on_finish(move |_| hook.note("second"));
    context.finish();
    assert_eq!(trace.take().len(), 1);
    let report = watch.only();
    assert_eq!((report.kind, report.detail.as_str()), (ReportKind::UnhandledPanic, "hook"));
    // A hook that comes too late is called at once, and its panic stops there too.
    context.on_finish(|_| panic_quietly("late hook"));
    let report = watch.only();
    assert_eq!((report.kind, report.detail.as_str()), (ReportKind::UnhandledPanic, "late hook"));
}

#[runtime::test]
async fn p09_finishing_cancels_what_is_left_below() {
    let context = Context::root("p09 parent");
    let (child, leaf) = {
        let child = context.child("p09 child");
        (child.clone(), child.child("p09 leaf"))
    };
    context.finish();
    assert!(child.cancel_reason().is_some() && leaf.cancel_reason().is_some());
    assert_eq!(context.cancel_reason(), None);
    assert_eq!(leaf.cancel_reason(), Some(Reason::Finished));
}

#[test]
fn p09_late_work_runs_on_and_is_charged_apart_and_reported_once_per_spawn_place() {
    on_manual_clock(|| {
        let watch = Watch::here();
        manual_runtime().block_on(async {
            let request = Context::root("p09 late");
            let spawned = line!() + 2;
            let spawn = || {
                runtime::spawn_in(&request, async {
                    pass(10);
                    yield_now().await;
                    pass(100);
                    yield_now().await;
                    pass(1_000);
                })
            };
            let tasks = [spawn(), spawn()];
            yield_now().await;
            request.finish();
            pass(1);
            for task in tasks {
                task.await.unwrap();
            }
            let used = request.usage();
            assert_eq!((used.cpu, used.late_cpu), (ns(20), ns(2_200)));
            let reports: Vec<_> =
                watch.take().into_iter().filter(|report| report.kind == ReportKind::LateWork).collect();
            let place = reports[0].place;
            assert_eq!((place.file(), place.line()), (file!(), spawned));
            assert!(reports.iter().all(|report| report.place == place));
            let detail = &reports[0].detail;
            assert!(
                detail.starts_with("finished ") && detail.contains(&format!("{}:{spawned}:", file!())),
                "{detail}"
            );
            let entered = context::sentinel::reports();
            let entries =
                entered.iter().filter(|report| report.kind == ReportKind::LateWork && report.place == place);
            assert_eq!(entries.count(), 1, "one line of the ledger for the place, however often");
            assert_eq!(assert_balanced().late, ns(2_200));
        });
    });
}

#[test]
fn p09_late_work_is_kept_in_the_class_totals() {
    on_manual_clock(|| {
        let context = Context::root("p09 late class");
        context.scope(|| pass(1));
        context.finish();
        context.scope(|| pass(50));
        drop(context);
        let class = context::classes().into_iter().find(|class| class.class == "p09 late class").unwrap();
        assert_eq!((class.own.cpu, class.own.late_cpu), (ns(1), ns(50)));
        assert_eq!((class.total.late_cpu, class.open), (ns(50), 0));
    });
}

#[test]
fn p09_the_tail_of_the_slice_that_finished_is_no_news() {
    on_own_thread(|| {
        let watch = Watch::here();
        let runtime = runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let request = Context::root("p09 tail");
            let inside = request.clone();
            let task = runtime::spawn_in(&request, async move {
                crate::books::work(1_000);
                inside.finish();
            });
            task.await.unwrap();
            assert!(request.usage().late_cpu > ns(0), "it is charged as late all the same");
        });
        assert_eq!(watch.kinds(), []);
        assert_balanced();
    });
}

#[test]
fn p09_nor_is_the_tail_when_there_were_hooks_to_run() {
    on_own_thread(|| {
        let watch = Watch::here();
        let runtime = runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let request = Context::root("p09 hooked tail");
            request.on_finish(|_| {
                crate::books::work(1_000);
            });
            let inside = request.clone();
            let task = runtime::spawn_in(&request, async move {
                inside.finish();
                crate::books::work(1_000);
            });
            task.await.unwrap();
            assert!(request.usage().late_cpu > ns(0), "it is charged as late all the same");
            assert_eq!(watch.kinds(), []);
            request.scope(|| crate::books::work(1_000));
        });
        assert_eq!(watch.kinds(), [ReportKind::LateWork]);
        assert_balanced();
    });
}

#[test]
fn p09_destructors_of_a_run_are_charged_and_not_late() {
    struct Costly;
    impl Drop for Costly {
        fn drop(&mut self) {
            pass(7);
        }
    }
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let context = Context::root("p09 costly");
            let work = context.run(async {
                let _costly = Costly;
                pass(1);
            });
            work.await;
            let used = context.usage();
            assert_eq!((used.cpu, used.late_cpu), (ns(8), ns(0)));
        });
    });
}

#[test]
fn p09_a_part_that_is_late_shows_in_the_parents_total_as_late() {
    on_manual_clock(|| {
        let _watch = Watch::here();
        manual_runtime().block_on(async {
            let parent = Context::root("p09 parent");
            let part = parent.child("p09 part");
            part.finish();
            async { pass(5) }.in_context(part).await;
            let used = parent.usage();
            assert_eq!((used.cpu, used.late_cpu), (ns(0), ns(5)));
        });
    });
}

#[test]
fn p09_the_sentinel_does_not_finish() {
    let sentinel = Context::sentinel();
    sentinel.finish();
    assert!(!sentinel.is_finished());
    assert!(!sentinel.cancel(Reason::Shutdown));
    assert_eq!(sentinel.cancel_reason(), None);
}
