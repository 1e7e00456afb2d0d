//! Traps 9, 11, 21, 23, 24: wakes.

use crate::books::on_own_thread;
use crate::promise::Promise;
use crate::trace::Trace;
use context::Context;
use runtime::{Runtime, yield_now};
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;

type Left = Rc<RefCell<Option<Waker>>>;

/// Counts its polls and leaves its waker.
fn counter() -> (Rc<Cell<u32>>, Left, impl Future<Output = ()>) {
    let (polls, waker) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(None)));
    let (count, left) = (polls.clone(), waker.clone());
    let future = poll_fn(move |cx| {
        count.set(count.get() + 1);
        *left.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    });
    (polls, waker, future)
}

#[test]
fn trap_09_a_wake_outside_of_every_poll_is_not_lost() {
    let runtime = Runtime::new().unwrap();
    let (polls, waker, future) = counter();
    runtime.block_on(async {
        drop(runtime::spawn(future));
        yield_now().await;
    });
    waker.borrow().as_ref().unwrap().wake_by_ref();
    assert_eq!(polls.get(), 1);
    runtime.block_on(yield_now());
    assert_eq!(polls.get(), 2);
}

/// The waker drops the future's last other owner, and takes the cell that the future borrows.
#[runtime::test]
async fn trap_11_a_wake_under_a_borrow_runs_nothing_that_takes_it() {
    let shared = Rc::new(RefCell::new(Vec::<Waker>::new()));
    let (own, trace) = (shared.clone(), Trace::new());
    let noted = trace.on_drop("task");
    let task = runtime::spawn_in(&Context::root("trap 11"), async move {
        let _noted = noted;
        let mut first = true;
        poll_fn(|cx| {
            own.borrow_mut().push(cx.waker().clone());
            if std::mem::replace(&mut first, false) { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    });
    yield_now().await;
    {
        let borrowed = shared.borrow_mut();
        borrowed[0].wake_by_ref();
        task.abort();
        borrowed[0].wake_by_ref();
        trace.expect(&[]);
    }
    assert!(task.await.is_err());
    trace.expect(&["drop task @ trap 11"]);
}

/// The destructor of the task that ends spawns, wakes, aborts and joins others, as much as it likes.
#[runtime::test]
async fn trap_11_a_destructor_may_use_the_runtime() {
    struct Busy(Rc<RefCell<Option<runtime::JoinHandle<()>>>>, Waker, Trace);
    impl Drop for Busy {
        fn drop(&mut self) {
            self.1.wake_by_ref();
            if let Some(other) = self.0.borrow_mut().take() {
                other.abort();
            }
            let trace = self.2.clone();
            drop(runtime::spawn(async move { trace.note("spawned in a destructor") }));
        }
    }
    let trace = Trace::new();
    let other = Rc::new(RefCell::new(None));
    let victim = other.clone();
    let noted = trace.on_drop("victim");
    let context = Context::root("trap 11");
    *other.borrow_mut() = Some(runtime::spawn_in(&context, async move {
        let _noted = noted;
        pending().await
    }));
    let task = runtime::spawn_in(&context, {
        let trace = trace.clone();
        async move {
            let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
            let _busy = Busy(victim, waker, trace);
            yield_now().await;
        }
    });
    task.await.unwrap();
    for _ in 0..3 {
        yield_now().await;
    }
    let mut events = trace.take();
    events.sort();
    assert_eq!(events, ["drop victim @ trap 11", "spawned in a destructor @ trap 11"]);
}

/// The loop is inside one long poll until all senders are through: a full queue would hang here.
#[test]
fn trap_21_remote_wakers_do_not_wait_for_a_loop_in_a_long_poll() {
    on_own_thread(|| {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let (polls, waker, future) = counter();
            let task = runtime::spawn(future);
            yield_now().await;
            let waker = waker.take().unwrap();
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let waker = waker.clone();
                    thread::spawn(move || (0..100_000).for_each(|_| waker.wake_by_ref()))
                })
                .collect();
            // No await: this poll is the long one.
            senders.into_iter().for_each(|sender| sender.join().unwrap());
            assert_eq!(polls.get(), 1);
            while polls.get() < 2 {
                yield_now().await;
            }
            for _ in 0..500 {
                yield_now().await;
            }
            assert_eq!(polls.get(), 2, "they are one wake");
            task.abort();
        });
    });
}

#[test]
fn trap_23_the_main_future_is_polled_only_when_it_was_woken() {
    let polls = Cell::new(0);
    let promise = Promise::new();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let complete = promise.clone();
        drop(runtime::spawn(async move {
            for _ in 0..1_000 {
                yield_now().await;
            }
            complete.complete(());
        }));
        let mut promise = Box::pin(promise);
        poll_fn(|cx| {
            polls.set(polls.get() + 1);
            promise.as_mut().poll(cx)
        })
        .await;
    });
    assert_eq!(polls.get(), 2);
}

/// 300 reuses of one slot go round 8 bits; all 2^24 are tested with the table itself.
#[runtime::test]
async fn trap_24_an_old_waker_is_at_worst_a_spurious_wake() {
    let context = Context::root("trap 24");
    let mut old = Vec::new();
    for _ in 0..300 {
        let waker = runtime::spawn_in(&context, poll_fn(|cx| Poll::Ready(cx.waker().clone())));
        old.push(waker.await.unwrap());
    }
    let (polls, _waker, future) = counter();
    let task = runtime::spawn_in(&context, future);
    yield_now().await;
    for waker in old {
        waker.wake();
        yield_now().await;
    }
    assert_eq!(polls.get(), 1);
    task.abort();
}

/// The wake arrives while the loop is on its way to sleep, or asleep: both ways it ends.
#[test]
fn trap_09_a_wake_from_a_thread_that_never_knew_a_runtime() {
    on_own_thread(|| {
        let (sender, receiver) = mpsc::channel::<Promise<u32>>();
        let far = thread::spawn(move || receiver.into_iter().for_each(|promise| promise.complete(9)));
        Runtime::new().unwrap().block_on(async {
            for _ in 0..1_000 {
                let promise = Promise::new();
                sender.send(promise.clone()).unwrap();
                assert_eq!(promise.await, 9);
            }
            drop(sender);
        });
        far.join().unwrap();
    });
}
