//! `context` alone under other executors: tokio on one thread and on many, smol. No runtime of ours runs here.

use crate::books::{assert_balanced, on_own_thread, residual, work};
use crate::bridges::recorder::Recorder;
use crate::watch::Watch;
use context::bridges::TracingSpans;
use context::harness::{self, Alarm, Timer};
use context::{Accounts, Context, FutureExt, Reason, ReportKind};
use std::future::{Future, pending};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A unit of work that no clock misses.
const ROUNDS: u64 = 200_000;

struct TokioTimer;

impl Timer for TokioTimer {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep_until(&self, deadline: Instant) -> Alarm {
        Box::pin(tokio::time::sleep_until(deadline.into()))
    }
}

struct SmolTimer;

impl Timer for SmolTimer {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, deadline: Instant) -> Alarm {
        Box::pin(async move { _ = smol::Timer::at(deadline).await })
    }
}

/// Runs `f` on tokio, on a thread of its own whose books are its alone. Time is paused.
fn on_tokio<F: Future<Output: Send>>(f: impl FnOnce() -> F + Send) -> F::Output {
    on_own_thread(|| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _ = harness::set_timer(Some(&TokioTimer));
        runtime.block_on(tokio::task::LocalSet::new().run_until(f()))
    })
}

/// The same on smol, in real time.
fn on_smol<R: Send>(f: impl AsyncFnOnce(&smol::LocalExecutor<'_>) -> R + Send) -> R {
    on_own_thread(|| {
        let _ = harness::set_timer(Some(&SmolTimer));
        let executor = smol::LocalExecutor::new();
        smol::block_on(executor.run(f(&executor)))
    })
}

/// What P2, P4 and P7 promise, by hand: two requests, one with a part, take turns; then the books are read.
async fn take_turns<T>(
    spawn: impl Fn(context::Run<std::pin::Pin<Box<dyn Future<Output = ()>>>>) -> T,
    pause: impl AsyncFn() + Copy + 'static,
) where
    T: Future<Output = ()>,
{
    let steps = move |class: &'static str, rounds: u64| async move {
        for _ in 0..4 {
            assert_eq!(Context::current().class(), class);
            std::hint::black_box(work(rounds));
            pause().await;
        }
    };
    let (cheap, dear) = (Context::root("elsewhere cheap"), Context::root("elsewhere dear"));
    let part = dear.child("elsewhere part");
    let in_part = steps("elsewhere part", 2 * ROUNDS).in_context(part.clone());
    let both = async move {
        steps("elsewhere dear", 2 * ROUNDS).await;
        in_part.await;
    };
    let tasks =
        [spawn(cheap.run(Box::pin(steps("elsewhere cheap", ROUNDS)))), spawn(dear.run(Box::pin(both)))];
    for task in tasks {
        task.await;
        assert!(Context::current().is_sentinel());
    }
    assert!(cheap.is_finished() && dear.is_finished() && !part.is_finished());
    let (cheap, total, own, part) = (cheap.usage(), dear.usage(), dear.own_usage(), part.own_usage());
    assert_eq!((total.cpu, total.polls), (own.cpu + part.cpu, own.polls + part.polls));
    assert!(cheap.polls >= 4 && part.polls >= 4, "{cheap} {part}");
    assert!(own.cpu > cheap.cpu && part.cpu > cheap.cpu, "{cheap} {own} {part}");
    // Nobody's work is the sentinel's.
    let before = context::accounts().unwrap();
    std::hint::black_box(work(ROUNDS));
    let books = assert_balanced();
    assert_eq!(books.contexts, cheap.cpu + total.cpu);
    assert!(books.sentinel - before.sentinel >= cheap.cpu / 8, "{books:?}");
    assert_eq!(books.late, Duration::ZERO);
}

#[test]
fn elsewhere_tokio_on_one_thread_charges_what_is_polled_in_a_context() {
    on_tokio(async || {
        let spawn = |run| async move { tokio::task::spawn_local(run).await.unwrap() };
        take_turns(spawn, tokio::task::yield_now).await;
    });
}

#[test]
fn elsewhere_smol_on_one_thread_charges_what_is_polled_in_a_context() {
    on_smol(async |executor| {
        take_turns(|run| executor.spawn(run), smol::future::yield_now).await;
    });
}

#[test]
fn elsewhere_tokio_on_many_threads_balances_on_each() {
    let books: Arc<Mutex<Vec<Accounts>>> = Arc::default();
    let sink = books.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .on_thread_stop(move || sink.lock().unwrap().extend(context::accounts()))
        .build()
        .unwrap();
    let contexts: Vec<_> = (0..24).map(|_| Context::root("elsewhere many")).collect();
    let request = |context: &Context| {
        context.run(async {
            for _ in 0..8 {
                assert_eq!(Context::current().class(), "elsewhere many");
                std::hint::black_box(work(ROUNDS / 8));
                tokio::task::yield_now().await;
            }
        })
    };
    let tasks: Vec<_> = contexts.iter().map(|context| runtime.spawn(request(context))).collect();
    for task in tasks {
        // From outside: this thread's books stay out of it.
        smol::block_on(task).unwrap();
    }
    drop(runtime);
    let books = books.lock().unwrap();
    assert_eq!(books.len(), 3);
    books.iter().for_each(|books| assert_eq!(residual(books), 0, "{books:?}"));
    let charged: Duration = books.iter().map(|books| books.contexts).sum();
    let spent: Duration = contexts.iter().map(|context| context.usage().cpu).sum();
    assert_eq!(charged, spent);
    assert!(contexts.iter().all(|context| context.is_finished() && context.usage().polls >= 9));
}

#[test]
fn elsewhere_a_deadline_wakes_by_the_timer_that_was_set() {
    let wait = async || {
        let request = Context::builder("elsewhere deadline").timeout(Duration::from_millis(2)).build();
        let cancelled = request.run(async { pending::<()>().cancellable().await }).await;
        cancelled.unwrap_err().reason()
    };
    assert_eq!(on_tokio(wait), Reason::Deadline);
    assert_eq!(on_smol(async |_| wait().await), Reason::Deadline);
}

#[test]
fn elsewhere_a_context_is_current_in_a_drop_and_finished_after_it() {
    struct Says(Arc<Mutex<Vec<String>>>);
    impl Drop for Says {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(Context::current().class().to_owned());
        }
    }
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let says = Says(seen.clone());
    on_tokio(async || {
        let request = Context::root("elsewhere aborted");
        let task = tokio::task::spawn_local(request.run(async move {
            let _says = says;
            pending::<()>().await;
        }));
        tokio::task::yield_now().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(request.is_finished() && Context::current().is_sentinel());
    });
    assert_eq!(*seen.lock().unwrap(), ["elsewhere aborted"]);
}

#[test]
fn elsewhere_the_sentinel_reports_what_escapes() {
    let seen = on_tokio(async || {
        let watch = Watch::here();
        let request = Context::root("elsewhere careless");
        let careless = async {
            let _entered = Context::root("elsewhere guard").enter();
            tokio::task::yield_now().await;
            Context::current()
        };
        let after = request.run(careless).await;
        assert_eq!(after, request);
        drop(context::db::begin("nobody's"));
        watch.kinds()
    });
    assert_eq!(seen, [ReportKind::GuardAcrossAwait, ReportKind::TransactionInSentinel]);
}

#[test]
fn elsewhere_spans_are_entered_and_left_with_their_contexts() {
    let recorder = Recorder::default();
    let tracing = recorder.clone();
    on_tokio(async move || {
        let _observing = harness::observe(Arc::new(TracingSpans::new()));
        let _default = tracing::dispatcher::set_default(&tracing.dispatch());
        let steps = |name: &'static str| async move {
            tracing::info!("{name} 1");
            tokio::task::yield_now().await;
            tracing::info!("{name} 2");
        };
        let tasks = [("a", "elsewhere span a"), ("b", "elsewhere span b")]
            .map(|(name, class)| tokio::task::spawn_local(Context::root(class).run(steps(name))));
        for task in tasks {
            task.await.unwrap();
        }
        tracing::info!("outside");
    });
    recorder.expect(
        "
        elsewhere span a
          - a 1
          - a 2
        elsewhere span b
          - b 1
          - b 2
        - outside
        ",
    );
}
