//! P18: wake only queues.

use crate::books::on_own_thread;
use crate::meter::burn;
use crate::trace::Trace;
use context::Context;
use runtime::time::sleep;
use runtime::{Runtime, yield_now};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

type Left = Rc<RefCell<Option<Waker>>>;

/// A task that notes its polls, leaves its waker, and ends when it is told to.
fn sleeper(trace: &Trace, left: &Left, end: &Rc<Cell<bool>>) -> impl Future<Output = ()> + use<> {
    let (trace, left, end, noted) = (trace.clone(), left.clone(), end.clone(), trace.on_drop("sleeper"));
    async move {
        let _noted = noted;
        poll_fn(|cx| {
            trace.note("poll");
            *left.borrow_mut() = Some(cx.waker().clone());
            if end.get() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }
}

#[runtime::test]
async fn p18_wake_runs_no_user_code_and_drops_no_future() {
    let (trace, left, end) = (Trace::new(), Left::default(), Rc::default());
    drop(runtime::spawn_in(&Context::root("p18 task"), sleeper(&trace, &left, &end)));
    yield_now().await;
    trace.expect(&["poll @ p18 task"]);
    end.set(true);
    let waker = left.take().unwrap();
    trace.note("before");
    waker.wake();
    trace.note("after");
    yield_now().await;
    trace.expect(&[
        "before @ (sentinel)",
        "after @ (sentinel)",
        "poll @ p18 task",
        "drop sleeper @ p18 task",
    ]);
}

#[runtime::test]
async fn p18_waking_twice_is_one_poll() {
    let (trace, left, end) = (Trace::new(), Left::default(), Rc::default());
    let task = runtime::spawn_in(&Context::root("p18 task"), sleeper(&trace, &left, &end));
    yield_now().await;
    trace.take();
    let waker = left.take().unwrap();
    waker.wake_by_ref();
    let copy = waker.clone();
    copy.wake();
    waker.wake();
    yield_now().await;
    yield_now().await;
    trace.expect(&["poll @ p18 task"]);
    task.abort();
}

#[runtime::test]
async fn p18_a_task_that_wakes_itself_goes_to_the_back() {
    let trace = Trace::new();
    let turns = |name| {
        let trace = trace.clone();
        async move {
            for _ in 0..2 {
                trace.note(name);
                yield_now().await;
            }
        }
    };
    let context = Context::root("p18");
    let tasks = [runtime::spawn_in(&context, turns("a")), runtime::spawn_in(&context, turns("b"))];
    for task in tasks {
        task.await.unwrap();
    }
    trace.expect(&["a @ p18", "b @ p18", "a @ p18", "b @ p18"]);
}

#[test]
fn p18_a_wake_from_another_thread_reaches_a_loop_that_sleeps() {
    on_own_thread(|| {
        let (sender, receiver) = mpsc::channel::<Waker>();
        let waking = thread::spawn(move || receiver.into_iter().map(Waker::wake).count());
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            for _ in 0..500 {
                let mut sent = false;
                poll_fn(|cx| {
                    if sent {
                        return Poll::Ready(());
                    }
                    sent = true;
                    sender.send(cx.waker().clone()).unwrap();
                    Poll::Pending
                })
                .await;
            }
        });
        drop(sender);
        assert_eq!(waking.join().unwrap(), 500);
    });
}

#[test]
fn p18_wakers_work_after_the_runtimes_life_from_any_thread() {
    let runtime = Runtime::new().unwrap();
    let (trace, left) = (Trace::new(), Left::default());
    runtime.block_on(async {
        drop(runtime::spawn_in(&Context::root("p18 task"), sleeper(&trace, &left, &Rc::default())));
        yield_now().await;
    });
    let waker = left.take().unwrap();
    waker.wake_by_ref();
    trace.expect(&["poll @ p18 task"]);
    drop(runtime);
    trace.expect(&["drop sleeper @ p18 task"]);
    let far = || {
        let waker = waker.clone();
        thread::spawn(move || waker.wake()).join().unwrap();
    };
    waker.wake_by_ref();
    far();
    // Nor is the next runtime's task in that slot theirs.
    let (next, left, end) = (Runtime::new().unwrap(), Left::default(), Rc::new(Cell::new(false)));
    next.block_on(async {
        let task = runtime::spawn_in(&Context::root("p18 next"), sleeper(&trace, &left, &end));
        yield_now().await;
        trace.expect(&["poll @ p18 next"]);
        waker.wake_by_ref();
        far();
        yield_now().await;
        yield_now().await;
        trace.expect(&[]);
        end.set(true);
        left.take().unwrap().wake();
        task.await.unwrap();
        trace.expect(&["poll @ p18 next", "drop sleeper @ p18 next"]);
    });
}

#[test]
fn p18_a_wake_while_the_runtime_is_dropped_is_no_harm() {
    struct WakesAll(Rc<RefCell<Vec<Waker>>>);
    impl Drop for WakesAll {
        fn drop(&mut self) {
            self.0.borrow().iter().for_each(Waker::wake_by_ref);
        }
    }
    let runtime = Runtime::new().unwrap();
    let wakers = Rc::new(RefCell::new(Vec::new()));
    runtime.block_on(async {
        for _ in 0..10 {
            let (all, own) = (WakesAll(wakers.clone()), wakers.clone());
            drop(runtime::spawn(async move {
                let _all = all;
                poll_fn(move |cx| {
                    own.borrow_mut().push(cx.waker().clone());
                    Poll::<()>::Pending
                })
                .await
            }));
        }
        yield_now().await;
    });
    assert_eq!(wakers.borrow().len(), 10);
    drop(runtime);
    WakesAll(wakers);
}

/// The slot is used again; the old waker must not do more than a poll too many, and here not even that: the
/// generation differs.
#[runtime::test]
async fn p18_a_stale_waker_is_at_worst_a_spurious_poll() {
    let (trace, left, end) = (Trace::new(), Left::default(), Rc::new(Cell::new(true)));
    let first = runtime::spawn_in(&Context::root("p18 first"), sleeper(&trace, &left, &end));
    first.await.unwrap();
    let stale = left.take().unwrap();
    end.set(false);
    let second = runtime::spawn_in(&Context::root("p18 second"), sleeper(&trace, &left, &end));
    yield_now().await;
    trace.take();
    let far = stale.clone();
    stale.wake();
    yield_now().await;
    thread::spawn(move || far.wake()).join().unwrap();
    yield_now().await;
    yield_now().await;
    trace.expect(&[]);
    end.set(true);
    left.take().unwrap().wake();
    second.await.unwrap();
}

#[runtime::test]
async fn p18_a_waker_is_the_same_for_all_polls_of_a_task() {
    let wakers = Rc::new(RefCell::new(Vec::new()));
    let seen = wakers.clone();
    let task = runtime::spawn_in(&Context::root("p18"), async move {
        for _ in 0..3 {
            poll_fn(|cx| {
                seen.borrow_mut().push(cx.waker().clone());
                Poll::Ready(())
            })
            .await;
            yield_now().await;
        }
    });
    task.await.unwrap();
    assert!(wakers.borrow().windows(2).all(|pair| pair[0].will_wake(&pair[1])));
}

/// Notes how often somebody else was polled before it is woken.
struct Notes {
    polls: Arc<AtomicU32>,
    seen: AtomicU32,
}

impl Wake for Notes {
    fn wake(self: Arc<Self>) {
        self.seen.store(self.polls.load(Relaxed), Relaxed);
    }
}

/// 100 us a poll: by number alone a turn would be 256 of them long.
#[test]
fn p29_a_turn_of_slow_polls_is_bounded_in_time() {
    on_own_thread(|| {
        Runtime::new().unwrap().block_on(async {
            let polls = Arc::new(AtomicU32::new(0));
            let notes = Arc::new(Notes { polls: polls.clone(), seen: AtomicU32::new(u32::MAX) });
            let context = Context::root("p29 slow");
            let turns = || {
                let polls = polls.clone();
                async move {
                    for _ in 0..10 {
                        burn(Duration::from_micros(100));
                        polls.fetch_add(1, Relaxed);
                        yield_now().await;
                    }
                }
            };
            let tasks: Vec<_> = (0..30).map(|_| runtime::spawn_in(&context, turns())).collect();
            let mut timer = Box::pin(sleep(Duration::from_millis(1)));
            let waker = Waker::from(notes.clone());
            assert!(timer.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
            for task in tasks {
                task.await.unwrap();
            }
            let seen = notes.seen.load(Relaxed);
            assert!(seen <= 64, "the timer was due after 10 polls, and seen after {seen}");
        });
    });
}
