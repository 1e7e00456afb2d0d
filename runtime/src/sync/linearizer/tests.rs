use super::super::trace::{Gate, Trace, clean, settle, task};
use super::*;
use crate::JoinHandle;
use context::Context;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::Waker;

/// Queues for `key`, says so when it is in, stays until the gate opens.
fn worker(
    locks: &Linearizer<&'static str>,
    key: &'static str,
    name: &'static str,
    trace: &Trace,
) -> (JoinHandle<()>, Gate) {
    let gate = Gate::default();
    let (locks, trace, stay) = (locks.clone(), trace.clone(), gate.clone());
    let handle = task(name, async move {
        let turn = locks.queue(key).await;
        assert_eq!(Context::current().class(), name, "inside its own context");
        trace.say(format_args!("{name}+"));
        stay.pass().await;
        trace.say(format_args!("{name}-"));
        drop(turn);
        assert_eq!(Context::current().class(), name, "and after");
    });
    (handle, gate)
}

#[test]
fn n01_the_second_waits_for_the_first() {
    clean("n01", async {
        let (locks, trace) = (Linearizer::new("test", 1), Trace::default());
        let (_a, a) = worker(&locks, "key", "a", &trace);
        let (_b, b) = worker(&locks, "key", "b", &trace);
        let (_c, c) = worker(&locks, "another key", "c", &trace);
        settle().await;
        assert_eq!(trace.take(), "a+ c+");
        a.open();
        settle().await;
        assert_eq!(trace.take(), "a- b+");
        b.open();
        c.open();
        settle().await;
        assert_eq!(trace.take(), "b- c-");
        assert_eq!(locks.keys(), 0);
    });
}

#[test]
fn n02_a_key_is_queued_while_somebody_waits_for_it() {
    clean("n02", async {
        let (locks, trace) = (Linearizer::new("test", 1), Trace::default());
        assert!(!locks.is_queued("key"));
        let (_a, a) = worker(&locks, "key", "a", &trace);
        settle().await;
        assert!(!locks.is_queued("key"), "held, but nobody waits");
        let (_b, b) = worker(&locks, "key", "b", &trace);
        settle().await;
        assert!(locks.is_queued("key"));
        assert!(!locks.is_queued("another key"));
        a.open();
        settle().await;
        assert!(!locks.is_queued("key"));
        b.open();
        settle().await;
        assert!(!locks.is_queued("key"));
    });
}

#[test]
fn n03_a_hundred_instant_waiters_do_not_grow_the_stack() {
    clean("n03", async {
        let (locks, trace) = (Linearizer::new("test", 1), Trace::default());
        let (_slow, slow) = worker(&locks, "key", "slow", &trace);
        settle().await;
        let depths = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let inside = Arc::new(AtomicU32::new(0));
        let instant = |number: u32| {
            let (locks, depths, inside) = (locks.clone(), depths.clone(), inside.clone());
            task("instant", async move {
                let turn = locks.queue("key").await;
                assert_eq!(Context::current().class(), "instant");
                // If the hand-off ran the next one, it would do so inside of this one's drop.
                inside.fetch_add(1, Relaxed);
                depths.lock().push((number, inside.load(Relaxed)));
                drop(turn);
                inside.fetch_sub(1, Relaxed);
                assert_eq!(Context::current().class(), "instant");
            })
        };
        let handles: Vec<_> = (0..100).map(instant).collect();
        settle().await;
        assert_eq!(locks.waiters("key").len(), 100);
        slow.open();
        for handle in handles {
            handle.await.unwrap();
        }
        let depths = depths.lock();
        assert!(depths.iter().map(|(number, _)| *number).eq(0..100), "in order");
        assert!(depths.iter().all(|(_, depth)| *depth == 1), "none inside of another: {depths:?}");
        assert_eq!(locks.keys(), 0);
    });
}

#[test]
fn n04_max_at_a_time_and_freed_one_by_one() {
    clean("n04", async {
        let (locks, trace) = (Linearizer::new("test", 3), Trace::default());
        let names = ["a", "b", "c", "d", "e"];
        let (_handles, gates): (Vec<_>, Vec<_>) =
            names.map(|name| worker(&locks, "key", name, &trace)).into_iter().unzip();
        settle().await;
        assert_eq!(trace.take(), "a+ b+ c+");
        gates[1].open();
        settle().await;
        assert_eq!(trace.take(), "b- d+");
        gates[0].open();
        settle().await;
        assert_eq!(trace.take(), "a- e+");
        gates[2..].iter().for_each(Gate::open);
        settle().await;
        assert_eq!(trace.take(), "c- d- e-");
        assert_eq!(locks.keys(), 0, "an idle key is gone");
        let again = locks.queue("key").await;
        assert_eq!(again.waited().as_nanos(), 0, "and can be used again");
    });
}

#[test]
fn n05_a_cancelled_waiter_fails_and_the_next_gets_the_key() {
    clean("n05", async {
        let (locks, trace) = (Linearizer::new("test", 1), Trace::default());
        let (_a, a) = worker(&locks, "key", "a", &trace);
        let (b, _) = worker(&locks, "key", "b", &trace);
        let (_c, c) = worker(&locks, "key", "c", &trace);
        settle().await;
        b.abort();
        assert!(b.await.unwrap_err().is_cancelled());
        assert_eq!(locks.waiters("key").len(), 1);
        a.open();
        c.open();
        settle().await;
        assert_eq!(trace.take(), "a+ a- c+ c-");
        assert_eq!(locks.stats().abandoned, 1);
    });
}

#[test]
fn n06_a_key_that_was_handed_to_a_dropped_waiter_is_passed_on() {
    clean("n06", async {
        let (locks, trace) = (Linearizer::new("test", 1), Trace::default());
        let first = locks.queue("key").await;
        let mut lost = Box::pin(locks.queue("key"));
        let mut cx = std::task::Context::from_waker(Waker::noop());
        assert!(lost.as_mut().poll(&mut cx).is_pending());
        let (_c, c) = worker(&locks, "key", "c", &trace);
        settle().await;
        drop(first);
        assert_eq!(locks.holders("key").len(), 1, "handed over, though it has not run");
        settle().await;
        assert_eq!(trace.take(), "");
        drop(lost);
        c.open();
        settle().await;
        assert_eq!(trace.take(), "c+ c-");
        assert_eq!(locks.keys(), 0);
    });
}

#[test]
fn n06_the_same_for_a_task_that_is_aborted_between_wake_and_poll() {
    clean("n06", async {
        let (locks, trace) = (Linearizer::new("test", 1), Trace::default());
        let first = locks.queue("key").await;
        let (b, _) = worker(&locks, "key", "b", &trace);
        let (_c, c) = worker(&locks, "key", "c", &trace);
        settle().await;
        drop(first);
        b.abort();
        c.open();
        settle().await;
        assert_eq!(trace.take(), "c+ c-");
        assert_eq!(locks.keys(), 0);
    });
}

#[test]
fn holders_and_waiters_are_known_by_context_and_place() {
    clean("claims", async {
        let (locks, trace) = (Linearizer::new("test", 1), Trace::default());
        let (_a, a) = worker(&locks, "key", "GET /a", &trace);
        let (_b, b) = worker(&locks, "key", "GET /b", &trace);
        settle().await;
        let (holder, waiter) = (locks.holders("key")[0], locks.waiters("key")[0]);
        assert_eq!((holder.class, waiter.class), ("GET /a", "GET /b"));
        assert_eq!(holder.name(), format!("GET /a#{}", holder.context));
        assert_eq!(holder.place.file(), file!());
        assert!(holder.to_string().contains(" at "), "{holder}");
        let live = context::live().into_iter().find(|snapshot| snapshot.id == holder.context);
        assert_eq!(live.expect("still running").name, holder.name());
        a.open();
        b.open();
        settle().await;
    });
}

#[test]
fn trap_25_a_lock_keeps_no_context_alive() {
    clean("trap 25", async {
        let locks = Linearizer::new("test", 1);
        let request = Context::root("request");
        let id = request.id();
        let turn = {
            use context::FutureExt;
            locks.queue(1).in_context(request).await
        };
        assert_eq!(locks.holders(&1)[0].context, id);
        assert!(context::live().iter().all(|snapshot| snapshot.id != id), "nothing holds the request");
        drop(turn);
    });
}

#[test]
fn the_futures_are_send_and_may_be_dropped_anywhere() {
    fn assert_send<T: Send>(_: &T) {}
    let locks = Linearizer::new("test", 1);
    let turn = locks.queue(String::from("key"));
    assert_send(&turn);
    let mut cx = std::task::Context::from_waker(Waker::noop());
    // Without a runtime, too.
    let mut turn = pin!(turn);
    let std::task::Poll::Ready(guard) = turn.as_mut().poll(&mut cx) else { panic!("it is free") };
    std::thread::spawn(move || drop(guard)).join().unwrap();
    assert_eq!(locks.keys(), 0);
}

#[test]
#[should_panic(expected = "at least one")]
fn a_limit_of_none_is_refused() {
    let _ = Linearizer::<u8>::new("test", 0);
}
