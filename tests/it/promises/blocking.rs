//! P10 at the height of a user: work handed to the blocking pool.

use crate::books::{assert_balanced, current_class, kernel_cpu, lives, on_own_thread, work};
use crate::promise::cut;
use crate::trace::panic_quietly;
use context::{Context, FutureExt};
use runtime::Runtime;
use std::sync::mpsc;
use std::time::{Duration, Instant};

#[runtime::test]
async fn p10_a_job_runs_in_the_callers_context_and_the_request_pays_for_it() {
    let request = Context::root("p10 request");
    let before = request.own_usage();
    let job = request.scope(|| {
        runtime::spawn_blocking(|| {
            work(200_000);
            (current_class(), Context::current().own_usage().cpu)
        })
    });
    let (class, measured) = job.await.unwrap();
    let used = request.own_usage() - before;
    assert_eq!((class, used.blocking.jobs), ("p10 request", 1));
    assert!(!measured.is_zero() && used.cpu >= measured, "{used} {measured:?}");
}

#[test]
fn p10_a_pool_of_one_thread_shows_the_wait_of_the_second_job() {
    on_own_thread(|| {
        let runtime = Runtime::builder().blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let (go, wait) = mpsc::channel::<()>();
            let (started, first_runs) = mpsc::channel::<()>();
            let (a, b) = (Context::root("p10 first"), Context::root("p10 second"));
            let first = a.scope(|| {
                runtime::spawn_blocking(move || {
                    started.send(()).unwrap();
                    wait.recv()
                })
            });
            first_runs.recv().unwrap();
            let second = b.scope(|| runtime::spawn_blocking(|| ()));
            let waiting = Instant::now();
            work(100_000);
            let waited = waiting.elapsed();
            go.send(()).unwrap();
            first.await.unwrap().unwrap();
            second.await.unwrap();
            let (first, second) = (a.usage().blocking, b.usage().blocking);
            assert!(second.queued >= waited, "{second:?} {waited:?}");
            assert!(first.running >= waited, "{first:?} {waited:?}");
        });
        assert_balanced();
    });
}

#[test]
fn p10_the_charge_lands_though_the_awaiting_future_was_dropped() {
    let (request, runtime) = (Context::root("p10 dropped"), Runtime::new().unwrap());
    let (tell, told) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    runtime.block_on(async {
        let caller = async move {
            let job = runtime::spawn_blocking(move || {
                wait.recv().unwrap();
                let began = kernel_cpu();
                work(100_000);
                tell.send(kernel_cpu() - began).unwrap();
            });
            job.await.unwrap();
        };
        assert!(cut(caller.in_context(request.clone()), 1).await.is_none());
    });
    // It works when nobody awaits it any more.
    go.send(()).unwrap();
    assert!(runtime.shutdown_timeout(Duration::from_secs(3_600)).is_empty());
    let (used, measured) = (request.own_usage(), told.recv().unwrap());
    assert!(used.cpu >= measured && used.blocking.running >= measured, "{used} {measured:?}");
    assert_eq!(used.blocking.jobs, 1);
}

#[runtime::test]
async fn p10_a_panic_in_a_job_is_a_join_error_and_the_pool_lives_on() {
    let request = Context::root("p10 panics");
    let job = || request.scope(|| runtime::spawn_blocking(|| panic_quietly("job")));
    for _ in 0..3 {
        let error = job().await.unwrap_err();
        assert_eq!(context::panic_message(&*error.into_panic()), "job");
    }
    let after = request.scope(|| runtime::spawn_blocking(current_class));
    assert_eq!(after.await.unwrap(), "p10 panics");
}

#[test]
fn p10_the_pool_keeps_no_context() {
    let runtime = Runtime::builder().blocking_threads(1).build().unwrap();
    let id = runtime.block_on(async {
        let request = Context::root("p10 kept");
        request.scope(|| runtime::spawn_blocking(|| ())).await.unwrap();
        request.id()
    });
    // The thread lets go after it has answered; a second job comes after that.
    runtime.block_on(async { runtime::spawn_blocking(|| ()).await.unwrap() });
    assert!(!lives(id));
}

#[test]
fn p10_the_books_of_a_pool_thread_balance() {
    on_own_thread(|| {
        Runtime::new().unwrap().block_on(async {
            for _ in 0..20 {
                let job = runtime::spawn_blocking(|| {
                    work(5_000);
                    Context::root("p10 inside").scope(|| work(5_000));
                    assert_balanced();
                });
                job.await.unwrap();
            }
            assert_balanced();
        });
    });
}
