//! L2 to L5, A5 to A8: contexts and time. On paused time: hours pass at once.

use crate::books::{current_class, lives};
use crate::trace::{PanicOnDrop, Trace};
use context::{Context, FutureExt, Reason, ReportKind};
use runtime::time::{Instant, interval, sleep, timeout};
use std::future::pending;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);

#[runtime::test(paused)]
async fn l02_two_tasks_interleave_over_sleeps_each_in_its_own_context() {
    let trace = Trace::new();
    let steps = |name, wait: u32| {
        let trace = trace.clone();
        async move {
            for _ in 0..3 {
                sleep(HOUR * wait).await;
                trace.note(name);
            }
        }
    };
    let one = runtime::spawn_in(&Context::root("l02 one"), steps("a", 2));
    let two = runtime::spawn_in(&Context::root("l02 two"), steps("b", 3));
    one.await.unwrap();
    two.await.unwrap();
    trace.expect(&["a @ l02 one", "b @ l02 two", "a @ l02 one", "b @ l02 two", "a @ l02 one", "b @ l02 two"]);
    assert!(Context::current().is_sentinel());
}

/// `first` = before the first run.
async fn repeats(class: &'static str, first: Duration) {
    let trace = Trace::new();
    let outer = Context::root("l03 foo");
    let own = trace.clone();
    let call = outer.scope(|| {
        runtime::background(class, async move {
            sleep(first).await;
            let mut ticks = interval(HOUR);
            for _ in 0..2 {
                ticks.tick().await;
                own.note("run");
                async { own.note("nested") }.in_context(Context::root("l03 nested")).await;
                own.note("restored");
            }
            Ok::<(), String>(())
        })
    });
    outer
        .run(async {
            assert_eq!(current_class(), "l03 foo");
            call.await.unwrap().unwrap();
            assert_eq!(current_class(), "l03 foo");
        })
        .await;
    let round = [format!("run @ {class}"), "nested @ l03 nested".to_owned(), format!("restored @ {class}")];
    assert_eq!(trace.take(), [round.clone(), round].concat());
}

#[runtime::test(paused)]
async fn l03_a_repeating_background_call_runs_in_a_context_of_its_own() {
    repeats("l03 repeats", HOUR).await;
}

#[runtime::test(paused)]
async fn l04_also_when_the_first_run_is_at_once() {
    repeats("l04 repeats", Duration::ZERO).await;
}

#[runtime::test(paused)]
async fn l05_a_delayed_call_runs_in_a_context_of_its_own() {
    let outer = Context::root("l05 foo");
    let call = outer.scope(|| {
        runtime::background("l05 later", async {
            sleep(HOUR).await;
            Ok::<_, String>(current_class())
        })
    });
    assert_eq!(outer.run(call).await.unwrap(), Ok("l05 later"));
    assert!(Context::current().is_sentinel());
}

#[runtime::test(paused)]
async fn a05_nothing_before_the_deadline_and_then_the_inner_is_dropped_and_the_outer_says_timeout() {
    let trace = Trace::new();
    let noted = trace.on_drop("inner");
    let start = Instant::now();
    let inner = async move {
        let _noted = noted;
        pending::<()>().await
    };
    let limited = timeout(HOUR, inner.in_context(Context::root("a05 inner")));
    let outcome = Context::root("a05 outer").run(limited);
    let error = outcome.await.unwrap_err();
    assert!(start.elapsed() >= HOUR && start.elapsed() < HOUR + Duration::from_millis(1));
    assert!(!error.to_string().contains("cancel"), "{error}");
    trace.expect(&["drop inner @ a05 inner"]);
}

#[runtime::test(paused, allow_reports)]
async fn a06_also_when_the_inners_drop_panics() {
    let watch = crate::watch::Watch::here();
    let inner = async {
        let _bomb = PanicOnDrop("a06");
        pending::<()>().await
    };
    let outcome = Context::root("a06").run(timeout(HOUR, inner));
    assert!(outcome.await.is_err());
    assert_eq!(watch.kinds(), [ReportKind::UnhandledPanic]);
}

#[runtime::test(paused)]
async fn a07_a_timeout_leaves_the_callers_context() {
    let one = Context::root("a07 one");
    let call = async {
        let inner = pending::<()>().in_context(Context::root("a07 inner"));
        assert!(timeout(HOUR, inner).await.is_err());
        assert_eq!(current_class(), "a07 one");
        sleep(HOUR).await;
        assert_eq!(current_class(), "a07 one");
    };
    one.run(call).await;
}

#[runtime::test(paused)]
async fn a08_a_timeout_that_fires_leaks_no_context_into_the_loop() {
    let fired =
        runtime::spawn_in(&Context::root("a08"), async { timeout(HOUR, pending::<()>()).await.is_err() });
    let next = runtime::spawn_in(&Context::root("a08 next"), async {
        sleep(HOUR).await;
        current_class()
    });
    assert!(fired.await.unwrap());
    assert_eq!(next.await.unwrap(), "a08 next");
    assert!(Context::current().is_sentinel());
}

/// Trap 25, and P3: the timer is pending, and its request gone.
#[runtime::test(paused)]
async fn trap_25_a_timer_does_not_keep_the_request_that_made_it() {
    let request = Context::root("trap 25 timer");
    let id = request.id();
    let mut timer = Box::pin(request.scope(|| sleep(HOUR)));
    let polled =
        request.scope(|| timer.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())));
    assert!(polled.is_pending());
    drop(request);
    assert!(!lives(id));
    timer.await;
}

#[runtime::test(paused)]
async fn p13_a_deadline_cancels_what_is_cancellable_and_leaves_no_timer() {
    let request = Context::builder("p13 late").timeout(HOUR).build();
    let start = Instant::now();
    let ended = runtime::spawn_in(&request, pending::<()>().cancellable()).await.unwrap().unwrap_err();
    assert_eq!(ended.reason(), Reason::Deadline);
    assert!(start.elapsed() >= HOUR - Duration::from_secs(1), "{:?}", start.elapsed());
    let unused = Context::builder("p13 in time").timeout(HOUR * 100).build();
    unused.run(async { sleep(HOUR).await }.cancellable()).await.unwrap();
    assert!(start.elapsed() < HOUR * 3);
}
