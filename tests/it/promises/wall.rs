//! P12: where wall time went.

use crate::books::{manual_runtime, ns, on_manual_clock, on_own_thread, pass};
use crate::meter::burn;
use crate::promise::Promise;
use context::{Context, ReportKind, db, harness};
use runtime::yield_now;
use std::time::{Duration, Instant};

#[test]
fn p12_a_task_that_waits_for_the_thread_is_queued() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let (first, second) = (Context::root("p12 first"), Context::root("p12 second"));
            let a = runtime::spawn_in(&first, async { pass(1_000) });
            let b = runtime::spawn_in(&second, async { pass(10) });
            pass(5);
            a.await.unwrap();
            b.await.unwrap();
            assert_eq!(first.usage().queued, ns(5));
            assert_eq!(second.usage().queued, ns(1_005));
        });
    });
}

#[test]
fn p12_each_wake_counts_from_the_wake_to_the_poll() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let request = Context::root("p12 woken");
            let promise = Promise::new();
            let task = runtime::spawn_in(&request, promise.clone());
            yield_now().await;
            let before = request.usage().queued;
            // Not runnable: not queued.
            pass(500);
            yield_now().await;
            assert_eq!(request.usage().queued, before);
            promise.complete(());
            pass(70);
            task.await.unwrap();
            assert_eq!(request.usage().queued, before + ns(70));
            assert_eq!(request.usage().polls, 2);
        });
    });
}

/// The loop is in one long poll: it reads the wake when that is over.
#[test]
fn p12_a_wake_from_another_thread_counts_from_when_it_was_made() {
    on_own_thread(|| {
        runtime::Runtime::new().unwrap().block_on(async {
            let (request, promise) = (Context::root("p12 woken far"), Promise::new());
            let task = runtime::spawn_in(&request, promise.clone());
            yield_now().await;
            let (before, outside) = (request.usage().queued, Instant::now());
            std::thread::scope(|scope| scope.spawn(|| promise.complete(())).join()).unwrap();
            let inside = Instant::now();
            burn(Duration::from_millis(3));
            let inside = inside.elapsed();
            task.await.unwrap();
            let (queued, outside) = (request.usage().queued - before, outside.elapsed());
            assert!(queued >= inside * 99 / 100, "{queued:?} of {inside:?}");
            assert!(queued <= outside * 101 / 100, "{queued:?} of {outside:?}");
        });
    });
}

/// Two tasks of one context do not make each other wait: it is the same request.
#[test]
fn p12_a_request_does_not_queue_behind_itself() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let request = Context::root("p12 both");
            let work = || async {
                for _ in 0..3 {
                    pass(100);
                    yield_now().await;
                }
            };
            let tasks = [runtime::spawn_in(&request, work()), runtime::spawn_in(&request, work())];
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!((request.usage().queued, request.usage().cpu), (ns(0), ns(600)));
        });
    });
}

#[test]
fn p12_off_the_cpu_inside_a_poll_is_blocked() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let request = Context::root("p12 blocked");
            request.run(async { harness::advance_manual_clock(3, 50) }).await;
            assert_eq!((request.usage().blocked, request.usage().cpu), (ns(47), ns(3)));
        });
    });
}

/// All kinds at once: they add up to no more than what elapsed, and the rest is waiting for events.
#[test]
fn p12_the_parts_of_the_elapsed_time_are_apart() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let request = Context::root("p12 request");
            let promise = Promise::new();
            let wait = promise.clone();
            let task = runtime::spawn_in(&request, async move {
                pass(10);
                harness::advance_manual_clock(0, 100);
                wait.await;
                pass(1);
            });
            pass(1_000);
            yield_now().await;
            harness::advance_manual_clock(0, 10_000);
            promise.complete(());
            task.await.unwrap();
            let used = request.finish();
            assert_eq!((used.cpu, used.blocked, used.queued), (ns(11), ns(100), ns(1_000)));
            assert_eq!(request.elapsed(), ns(11 + 100 + 1_000 + 10_000));
            pass(99);
            assert_eq!(request.elapsed(), ns(11_111), "it ends with the context");
        });
    });
}

#[test]
fn p12_database_time_is_apart() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let request = Context::root("p12 database");
            let promise = Promise::new();
            let wait = promise.clone();
            let task = runtime::spawn_in(&request, async move {
                let mut transaction = db::begin("load");
                wait.await;
                transaction.connected();
                yield_now().await;
                pass(7);
            });
            yield_now().await;
            harness::advance_manual_clock(0, 20);
            promise.complete(());
            task.await.unwrap();
            let used = request.finish();
            assert_eq!((used.db.waiting, used.db.in_transaction), (ns(20), ns(7)));
            assert_eq!((used.cpu, used.queued), (ns(7), ns(0)));
        });
    });
}

#[test]
fn p12_the_request_line_prints_every_part() {
    let mut used = context::Usage::default();
    used.cpu = Duration::from_micros(1);
    used.queued = Duration::from_micros(2);
    used.blocked = Duration::from_micros(3);
    used.db.waiting = Duration::from_micros(4);
    used.db.in_transaction = Duration::from_micros(5);
    used.blocking.queued = Duration::from_micros(6);
    let line = used.to_string();
    for part in ["cpu=0.001", "queued=0.002", "blocked=0.003", "db=(0.004ms/0.005ms", "blocking=(0.006"] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[test]
fn p12_a_blocking_call_is_laid_to_the_task_that_made_it() {
    let (told, hear) = std::sync::mpsc::channel();
    on_own_thread(move || {
        let own = std::thread::current().id();
        let builder = runtime::Runtime::builder().blocking_call(Some(Duration::from_millis(5)));
        let builder = builder.on_report(move |report| {
            if report.kind == ReportKind::BlockingCall && std::thread::current().id() == own {
                told.send((report.context.clone(), report.place.line())).unwrap();
            }
        });
        let runtime = builder.build().unwrap();
        runtime.block_on(async {
            let request = Context::root("p12 blocks");
            let receive = || {
                let (_kept, nothing) = std::sync::mpsc::channel::<()>();
                // The blocking call.
                nothing.recv_timeout(Duration::from_millis(20)).unwrap_err();
            };
            let guilty = runtime::spawn_in(&request, async move { receive() });
            let innocent = runtime::spawn_in(&request, async {});
            guilty.await.unwrap();
            innocent.await.unwrap();
            assert!(request.usage().blocked >= Duration::from_millis(19));
        });
    });
    let (context, line) = hear.recv().expect("it was reported");
    assert!(context.starts_with("p12 blocks#"), "{context}");
    let source = include_str!("wall.rs").lines().nth(line as usize - 1).unwrap();
    assert!(source.contains("let guilty = "), "{source}");
}
