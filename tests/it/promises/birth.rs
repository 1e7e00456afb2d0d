//! P3: a task's context is fixed when it is spawned.

use crate::books::{current_class, lives};
use crate::trace::Trace;
use crate::watch::Watch;
use context::{Context, Inherit, Key, ReportKind};
use runtime::{Runtime, yield_now};
use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;

#[runtime::test]
async fn p03_spawn_shares_the_context_that_is_current_at_the_call() {
    let request = Context::root("p03 request");
    let task = request.scope(|| runtime::spawn(async { Context::current() }));
    let polled_in = Context::root("p03 elsewhere").run(task).await.unwrap();
    assert_eq!(polled_in, request);
}

#[runtime::test]
async fn p03_spawn_in_takes_the_given_one() {
    let (here, there) = (Context::root("p03 here"), Context::root("p03 there"));
    let task = here.scope(|| runtime::spawn_in(&there, async { Context::current() }));
    assert_eq!(task.await.unwrap(), there);
}

#[runtime::test]
async fn p03_background_makes_a_new_root_of_its_class_and_finishes_it() {
    let request = Context::root("p03 request");
    let process = request.scope(|| {
        runtime::background("p03 background", async {
            yield_now().await;
            Ok::<_, String>(Context::current())
        })
    });
    let context = process.await.unwrap().unwrap();
    assert_eq!((context.class(), context.parent()), ("p03 background", None));
    yield_now().await;
    assert!(context.is_finished() && !request.is_finished());
    assert_eq!(request.usage().polls, 0);
}

static KEPT: Key<u32> = Key::new("kept").inherit(Inherit::Everything);
static LEFT: Key<u32> = Key::new("left");

#[runtime::test]
async fn p03_background_work_inherits_the_values_that_ask_for_it() {
    let request = Context::builder("p03 request").value(&KEPT, 1).value(&LEFT, 2).build();
    let process = request.scope(|| {
        runtime::background("p03 background", async {
            let here = Context::current();
            Ok::<_, String>((here.get(&KEPT).copied(), here.get(&LEFT).copied()))
        })
    });
    assert_eq!(process.await.unwrap(), Ok((Some(1), None)));
}

#[runtime::test]
async fn p03_a_process_outlives_the_request_that_started_it() {
    let request = Context::root("p03 request");
    let process = request.scope(|| {
        runtime::background("p03 background", async {
            yield_now().await;
            yield_now().await;
            Ok::<_, String>(Context::current().cancel_reason())
        })
    });
    request.finish();
    assert_eq!(process.await.unwrap(), Ok(None));
}

#[test]
fn p03_a_task_spawned_in_the_sentinel_runs_there_and_its_line_is_reported() {
    let watch = Watch::here();
    runtime::testing::run(
        runtime::testing::Options { name: "p03", allow_reports: true, ..Default::default() },
        async {
            let line = line!() + 1;
            let task = runtime::spawn(async { Context::current().is_sentinel() });
            assert!(task.await.unwrap());
            let report = watch.only();
            assert_eq!(report.kind, ReportKind::SpawnedInSentinel);
            assert_eq!((report.place.file(), report.place.line()), (file!(), line));
        },
    );
}

#[test]
fn p03_a_task_sent_from_another_thread_has_the_context_of_the_sender() {
    let runtime = Runtime::new().unwrap();
    let handle = runtime.handle().clone();
    let sender = std::thread::spawn(move || {
        Context::root("p03 far").scope(|| handle.spawn(async { current_class() }))
    });
    let task = sender.join().unwrap();
    assert_eq!(runtime.block_on(task).unwrap(), "p03 far");
}

#[runtime::test]
async fn p03_nothing_that_nobody_awaits_holds_a_request() {
    let request = Context::root("p03 request");
    let id = request.id();
    let waker = Rc::new(RefCell::new(None));
    let left = waker.clone();
    let stuck = runtime::spawn_in(&request, async move {
        poll_fn(|cx| {
            *left.borrow_mut() = Some(cx.waker().clone());
            Poll::<()>::Pending
        })
        .await;
    });
    let done = runtime::spawn_in(&request, async { 5 });
    drop(request);
    yield_now().await;
    assert!(lives(id), "the pending task holds it");
    stuck.abort();
    yield_now().await;
    yield_now().await;
    assert!(!lives(id), "neither a waker nor the handle of an ended task does");
    waker.borrow_mut().take().unwrap().wake();
    assert!(stuck.await.is_err());
    assert_eq!(done.await.unwrap(), 5);
}

#[runtime::test]
async fn p03_the_children_of_the_sentinel_are_roots() {
    let child = Context::sentinel().child("p03 child");
    assert_eq!(child.parent(), None);
}

#[runtime::test]
async fn p03_a_task_that_is_dropped_before_its_first_poll_lets_go_of_its_context() {
    let (request, trace) = (Context::root("p03 request"), Trace::new());
    let id = request.id();
    let noted = trace.on_drop("future");
    let task = runtime::spawn_in(&request, async move {
        let _noted = noted;
        pending::<()>().await
    });
    drop(request);
    task.abort();
    assert!(task.await.is_err());
    trace.expect(&["drop future @ p03 request"]);
    assert!(!lives(id));
}
