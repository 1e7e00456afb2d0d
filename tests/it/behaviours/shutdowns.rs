//! G8: a full shutdown wherever it comes: everything is released, and no context mangled.

use crate::books::{current_class, lives, on_own_thread};
use crate::trace::Trace;
use crate::watch::Watch;
use context::{Context, FutureExt, Reason};
use runtime::sync::Linearizer;
use runtime::{Runtime, yield_now};
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

/// Background work that never ends, in a part of a context of its own, with a lock, a job and a timer. Its number.
fn start(trace: &Trace, held: &Rc<()>, lock: &Linearizer<u32>) -> context::Id {
    let context = Context::root("g08 work");
    let (id, noted, held, lock) = (context.id(), trace.on_drop("work"), held.clone(), lock.clone());
    drop(runtime::spawn_in(&context, async move {
        let (_noted, _held, _turn) = (noted, held, lock.queue(1).await);
        let part = runtime::time::sleep(Duration::from_secs(86_400)).in_context(Context::root("g08 part"));
        part.await;
    }));
    id
}

/// Nothing is left of it.
#[track_caller]
fn assert_released(trace: &Trace, held: &Rc<()>, lock: &Linearizer<u32>, works: &[context::Id]) {
    let drops = vec!["drop work @ g08 work"; works.len()];
    trace.expect(&drops);
    assert_eq!((Rc::strong_count(held), lock.keys()), (1, 0));
    assert!(works.iter().all(|id| !lives(*id)));
}

#[test]
fn g08_a_shutdown_inside_a_context_leaves_that_context_current() {
    on_own_thread(|| {
        let (watch, trace, held, lock) =
            (Watch::here(), Trace::new(), Rc::new(()), Linearizer::new("g08 inside", 1));
        let outer = Context::root("g08 outer");
        let entered = outer.enter();
        let runtime = Runtime::new().unwrap();
        let works = runtime.block_on(async {
            let works = [start(&trace, &held, &lock), start(&trace, &held, &lock)];
            yield_now().await;
            works
        });
        assert_eq!(Context::current(), outer);
        drop(runtime);
        assert_eq!(Context::current(), outer);
        assert_released(&trace, &held, &lock, &works);
        drop(entered);
        assert!(Context::current().is_sentinel() && outer.cancel_reason().is_none());
        assert!(watch.take().is_empty());
    });
}

#[test]
fn g08_a_shutdown_asked_for_in_a_task_leaves_its_context_current_and_ends_the_rest() {
    on_own_thread(|| {
        let (watch, trace) = (Watch::here(), Trace::new());
        let own = trace.clone();
        Runtime::builder().paused(true).build().unwrap().block_on(async {
            let heeds = runtime::spawn_in(&Context::root("g08 heeds"), pending::<()>().cancellable());
            let asks = runtime::spawn_in(&Context::root("g08 asks"), async move {
                runtime::shutdown(Duration::from_secs(1));
                own.note("asked");
                yield_now().await;
                own.note("goes on");
            });
            asks.await.unwrap();
            assert_eq!(heeds.await.unwrap().unwrap_err().reason(), Reason::Shutdown);
            assert_eq!(current_class(), "main");
        });
        trace.expect(&["asked @ g08 asks", "goes on @ g08 asks"]);
        assert!(Context::current().is_sentinel() && watch.take().is_empty());
    });
}

/// Cut after each of the first polls of the main future, the work stands somewhere else each time.
#[test]
fn g08_a_shutdown_in_the_middle_of_background_work_releases_everything() {
    for polls in 0..6 {
        on_own_thread(|| {
            let (trace, held, lock) = (Trace::new(), Rc::new(()), Linearizer::new("g08 middle", 1));
            let runtime = Runtime::new().unwrap();
            let works = runtime.block_on(async {
                let works = [start(&trace, &held, &lock), start(&trace, &held, &lock)];
                for _ in 0..polls {
                    yield_now().await;
                }
                works
            });
            let stragglers = runtime.shutdown_timeout(Duration::ZERO);
            assert_eq!(stragglers.len(), 2);
            assert_released(&trace, &held, &lock, &works);
            assert!(Context::current().is_sentinel());
        });
    }
}

/// Set-up that fails half-way, by an error or by a panic.
#[test]
fn g08_a_shutdown_after_a_failed_set_up_releases_what_was_set_up() {
    for panics in [false, true] {
        on_own_thread(|| {
            let (trace, held, lock) = (Trace::new(), Rc::new(()), Linearizer::new("g08 set-up", 1));
            let mut works = Vec::new();
            let set_up = std::panic::AssertUnwindSafe(|| {
                Runtime::new().unwrap().block_on(async {
                    works.push(start(&trace, &held, &lock));
                    yield_now().await;
                    if panics {
                        crate::trace::panic_quietly("set-up");
                    }
                    runtime::net::TcpStream::connect("not an address").await.map(drop)
                })
            });
            let failed = std::panic::catch_unwind(set_up);
            assert_eq!(failed.is_err(), panics);
            assert!(failed.map_or(true, |result| result.is_err()), "it was not set up");
            assert!(Context::current().is_sentinel());
            assert_released(&trace, &held, &lock, &works);
        });
    }
}
