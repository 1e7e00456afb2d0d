//! P17: nothing fails in silence, and the loop survives.

use crate::books::on_own_thread;
use crate::logger::with_logger;
use crate::trace::{PanicOnDrop, panic_quietly};
use crate::watch::Watch;
use context::{Context, ReportKind};
use runtime::{Runtime, yield_now};
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};

/// Lets everything that is ready run.
async fn settle() {
    for _ in 0..4 {
        yield_now().await;
    }
}

fn watched<F: Future>(f: impl FnOnce(Watch) -> F) -> F::Output {
    let watch = Watch::here();
    // What pends for ever here is an orphan whenever a turn ends, which is another promise's matter.
    let runtime = Runtime::builder().track_wakers(false).build().unwrap();
    runtime.block_on(f(watch))
}

#[test]
fn p17_a_panic_that_nobody_awaits_is_reported_when_it_happens_with_context_and_place() {
    watched(|watch| async move {
        let line = line!() + 1;
        drop(runtime::spawn_in(&Context::root("p17 task"), async { panic_quietly("no such user") }));
        assert_eq!(watch.take().len(), 0);
        settle().await;
        let report = watch.only();
        assert_eq!((report.kind, report.detail.as_str()), (ReportKind::UnhandledPanic, "no such user"));
        assert_eq!((report.place.file(), report.place.line()), (file!(), line));
        assert!(report.context.starts_with("p17 task#"), "{report}");
    });
}

#[test]
fn p17_a_panic_that_is_awaited_goes_to_who_awaits_it() {
    watched(|watch| async move {
        let task = runtime::spawn(async { panic_quietly("heard") });
        settle().await;
        let panic = task.await.unwrap_err().into_panic();
        assert_eq!(context::panic_message(&*panic), "heard");
        assert_eq!(watch.kinds(), []);
    });
}

#[test]
fn p17_a_panic_whose_handle_is_dropped_unread_is_reported_then() {
    watched(|watch| async move {
        let task = runtime::spawn_in(&Context::root("p17 unread"), async { panic_quietly("unread") });
        settle().await;
        assert_eq!(watch.kinds(), [], "somebody may still ask");
        drop(task);
        let report = watch.only();
        assert_eq!((report.kind, report.detail.as_str()), (ReportKind::UnhandledPanic, "unread"));
        assert!(report.context.starts_with("p17 unread#"), "{report}");
    });
}

#[test]
fn p17_a_failing_background_process_is_reported_when_it_happens_and_the_loop_goes_on() {
    watched(|watch| async move {
        let line = line!() + 1;
        drop(runtime::background("p17 process", async { Err::<(), _>("disk full") }));
        settle().await;
        let report = watch.only();
        assert_eq!((report.kind, report.detail.as_str()), (ReportKind::UnhandledError, "disk full"));
        assert_eq!((report.place.file(), report.place.line()), (file!(), line));
        assert!(report.context.starts_with("p17 process#"), "{report}");
        drop(runtime::background("p17 panics", async {
            if Context::current().is_sentinel() {
                return Ok::<(), String>(());
            }
            panic_quietly("process")
        }));
        settle().await;
        assert_eq!(watch.only().kind, ReportKind::UnhandledPanic);
        assert_eq!(runtime::spawn(async { 1 }).await.unwrap(), 1);
    });
}

#[test]
fn p17_reports_of_one_kind_and_place_are_counted() {
    watched(|watch| async move {
        for _ in 0..5 {
            drop(runtime::spawn_in(&Context::root("p17 often"), async { panic_quietly("again") }));
            settle().await;
        }
        let counts: Vec<_> = watch.take().iter().map(|report| report.count).collect();
        assert_eq!(counts, [1, 2, 3, 4, 5]);
        let mut entries = context::sentinel::reports();
        entries.retain(|report| report.context.starts_with("p17 often#"));
        assert_eq!((entries.len(), entries[0].count), (1, 5));
        assert!(entries[0].first_seen <= entries[0].last_seen);
    });
}

struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        panic_quietly("waker")
    }
}

#[test]
fn p17_the_loop_survives_a_panic_in_a_poll_a_drop_an_output_a_join_waker() {
    on_own_thread(|| {
        watched(|watch| async move {
            let context = Context::root("p17 bombs");
            drop(runtime::spawn_in(&context, async { panic_quietly("poll") }));
            drop(runtime::spawn_in(&context, async { drop(PanicOnDrop("drop in poll")) }));
            drop(runtime::spawn_in(&context, async { PanicOnDrop("output") }));
            let aborted = runtime::spawn_in(&context, async {
                let _bomb = PanicOnDrop("abort");
                pending::<()>().await
            });
            settle().await;
            aborted.abort();
            let mut joined = Box::pin(runtime::spawn_in(&context, yield_now()));
            let foreign = Waker::from(Arc::new(PanickingWaker));
            let polled = joined.as_mut().poll(&mut std::task::Context::from_waker(&foreign));
            assert!(polled.is_pending());
            settle().await;
            assert!(joined.await.is_ok());
            assert!(aborted.await.unwrap_err().is_cancelled());
            assert_eq!(watch.kinds(), [ReportKind::UnhandledPanic; 5]);
            assert_eq!(Context::current().class(), "main");
            assert_eq!(runtime::spawn(async { 7 }).await.unwrap(), 7);
        });
    });
}

#[test]
fn p17_a_payload_whose_drop_panics_does_not_end_the_loop() {
    watched(|watch| async move {
        let payload = || std::panic::resume_unwind(Box::new(PanicOnDrop("payload")));
        drop(runtime::spawn_in(&Context::root("p17 payload"), async move { payload() }));
        settle().await;
        assert_eq!(watch.kinds().first(), Some(&ReportKind::UnhandledPanic));
        assert_eq!(runtime::spawn(async { 7 }).await.unwrap(), 7);
    });
}

#[test]
fn p17_a_panic_that_is_caught_outside_leaves_a_runtime_that_works() {
    let runtime = Runtime::new().unwrap();
    let polls = Rc::new(Cell::new(0));
    for _ in 0..3 {
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(async {
                let count = polls.clone();
                drop(runtime::spawn(poll_fn(move |cx| {
                    count.set(count.get() + 1);
                    cx.waker().wake_by_ref();
                    Poll::<()>::Pending
                })));
                yield_now().await;
                panic_quietly("main")
            })
        }));
        assert!(panicked.is_err());
    }
    let before = polls.get();
    runtime.block_on(settle());
    assert!(polls.get() > before, "tasks of earlier calls go on");
}

#[test]
fn p17_a_report_goes_to_the_listeners_of_the_runtime_as_long_as_it_lives() {
    let count = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = count.clone();
    let runtime = Runtime::builder().on_report(move |report| {
        if report.context.starts_with("p17 heard#") {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let runtime = runtime.build().unwrap();
    let fail = async {
        drop(runtime::spawn_in(&Context::root("p17 heard"), async { panic_quietly("listener") }));
        settle().await;
    };
    runtime.block_on(fail);
    drop(runtime);
    context::sentinel::report(
        ReportKind::SlowPoll,
        &"p17 heard#0",
        std::panic::Location::caller(),
        "after the runtime",
    );
    assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn p17_a_listener_that_panics_harms_nobody() {
    let here = std::thread::current().id();
    let watch = Watch::here();
    let listening = context::sentinel::on_report(move |_| {
        if std::thread::current().id() == here {
            panic_quietly("listener")
        }
    });
    drop(context::db::begin("p17"));
    drop(listening);
    assert_eq!(watch.kinds(), [ReportKind::TransactionInSentinel]);
}

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The first time, then at every power of two.
#[test]
fn p17_what_is_reported_again_and_again_is_logged_ever_more_rarely() {
    let keep = |record: &log::Record<'_>| {
        if record.target() == context::sentinel::LOG_TARGET {
            LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    };
    with_logger(keep, || {
        let place = std::panic::Location::caller();
        let logged = |times: u32| {
            (0..times).for_each(|_| {
                context::sentinel::report(ReportKind::UnhandledError, &"p17 logged", place, "again");
            });
            LINES.take().len()
        };
        assert_eq!([1, 1, 1, 1, 4, 8, 47, 1].map(logged), [1, 1, 0, 1, 1, 1, 1, 1]);
    });
}
