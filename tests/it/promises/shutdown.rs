//! P20, as far as it is there: the end of a runtime.

#![allow(clippy::async_yields_async, reason = "a handle that leaves its runtime is what is looked at")]

use crate::books::on_own_thread;
use crate::trace::Trace;
use crate::watch::Watch;
use context::{Context, FutureExt, Reason, ReportKind};
use runtime::time::{Instant, sleep};
use runtime::{Runtime, yield_now};
use std::future::pending;
use std::time::Duration;

#[test]
fn p20_shutdown_cancels_waits_for_who_heeds_it_and_lists_the_stragglers() {
    on_own_thread(|| {
        let (watch, trace) = (Watch::here(), Trace::new());
        let runtime = Runtime::new().unwrap();
        let line = line!() + 3;
        runtime.block_on(async {
            let (heeds, ignores) = (trace.on_drop("heeds"), trace.on_drop("ignores"));
            drop(runtime::spawn_in(&Context::root("p20 ignores"), async move {
                let _ignores = ignores;
                runtime::time::sleep(Duration::from_secs(3_600)).await
            }));
            let own = trace.clone();
            drop(runtime::spawn_in(&Context::root("p20 heeds"), async move {
                let _heeds = heeds;
                let ended = pending::<()>().cancellable().await.unwrap_err();
                assert_eq!(ended.reason(), Reason::Shutdown);
                own.note("cleans up");
                yield_now().await;
            }));
            yield_now().await;
        });
        let stragglers = runtime.shutdown_timeout(Duration::from_millis(5));
        trace.expect(&["cleans up @ p20 heeds", "drop heeds @ p20 heeds", "drop ignores @ p20 ignores"]);
        assert_eq!(stragglers.len(), 1);
        assert!(stragglers[0].context.starts_with("p20 ignores#"));
        assert_eq!((stragglers[0].place.file(), stragglers[0].place.line()), (file!(), line));
        let report = watch.only();
        assert_eq!((report.kind, report.place.line()), (ReportKind::Straggler, line));
        assert!(Context::current().is_sentinel());
    });
}

#[test]
fn p20_shutdown_ends_at_once_when_all_heed_it() {
    on_own_thread(|| {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            for _ in 0..10 {
                drop(runtime::spawn_in(&Context::root("p20 heeds"), pending::<()>().cancellable()));
            }
            yield_now().await;
        });
        // A day: the test would not end.
        assert!(runtime.shutdown_timeout(Duration::from_secs(86_400)).is_empty());
    });
}

/// A task in one part of a request: the request, and its other parts, hear of it too.
#[test]
fn p20_a_shutdown_cancels_from_the_roots_down_also_what_has_no_task() {
    on_own_thread(|| {
        Runtime::new().unwrap().block_on(async {
            let root = Context::root("p20 root");
            let (part, idle) = (root.child("p20 part"), root.child("p20 idle"));
            let task = runtime::spawn_in(&part, pending::<()>().cancellable());
            yield_now().await;
            runtime::shutdown(Duration::from_secs(3_600));
            assert_eq!([&root, &part, &idle].map(Context::cancel_reason), [Some(Reason::Shutdown); 3]);
            assert_eq!(task.await.unwrap().unwrap_err().reason(), Reason::Shutdown);
        });
    });
}

/// What the first call has begun goes on as it was: its time, and the work that began since then.
#[test]
fn p20_a_second_shutdown_changes_nothing() {
    on_own_thread(|| {
        let watch = Watch::here();
        let runtime = Runtime::builder().paused(true).build().unwrap();
        runtime.block_on(async {
            let begin = Instant::now();
            let stubborn = runtime::spawn_in(&Context::root("p20 stubborn"), sleep(Duration::from_secs(60)));
            runtime::shutdown(Duration::from_secs(10));
            let cleaner = Context::root("p20 cleaner");
            let cleaning = runtime::spawn_in(&cleaner, sleep(Duration::from_secs(60)).cancellable());
            sleep(Duration::from_secs(6)).await;
            runtime::shutdown(Duration::from_secs(10));
            assert_eq!(cleaner.cancel_reason(), None);
            assert!(stubborn.await.is_err() && cleaning.await.is_err());
            assert_eq!(begin.elapsed().as_secs(), 10);
            sleep(Duration::from_secs(20)).await;
        });
        assert_eq!(watch.kinds(), [ReportKind::Straggler; 2]);
    });
}

#[test]
fn p20_handles_of_what_was_dropped_say_so() {
    let runtime = Runtime::new().unwrap();
    let task = runtime.block_on(async { runtime::spawn(pending::<()>()) });
    drop(runtime);
    assert!(task.is_finished());
    let error = Runtime::new().unwrap().block_on(task).unwrap_err();
    assert_eq!((error.is_cancelled(), error.reason()), (true, Some(Reason::Shutdown)));
}

#[test]
fn p20_a_task_sent_to_a_runtime_that_is_gone_is_an_error_at_once() {
    let runtime = Runtime::new().unwrap();
    let handle = runtime.handle().clone();
    drop(runtime);
    let task = Context::root("p20").scope(|| handle.spawn(async {}));
    assert!(task.is_finished());
    let error = Runtime::new().unwrap().block_on(task).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::Shutdown));
}
