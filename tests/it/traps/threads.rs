//! Traps 1 to 8, and 10: other threads, other runtimes.

#![allow(clippy::async_yields_async, reason = "a handle that leaves its runtime is what is looked at")]

use crate::books::{assert_balanced, on_own_thread};
use crate::promise::Promise;
use crate::random::Random;
use crate::watch::Watch;
use context::{Context, Reason};
use runtime::{Runtime, yield_now};
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;

/// Counts polls of a pending future, and keeps its waker where other threads find it.
async fn exposed(shelf: Arc<Mutex<Vec<Waker>>>) {
    poll_fn(move |cx| {
        shelf.lock().unwrap().push(cx.waker().clone());
        Poll::<()>::Pending
    })
    .await
}

#[test]
fn trap_01_wakers_are_woken_cloned_and_dropped_on_other_threads_with_and_without_a_runtime_there() {
    let shelf = Arc::new(Mutex::new(Vec::<Waker>::new()));
    let done = Arc::new(AtomicBool::new(false));
    let stress = |seed: u64, own_runtime: bool| {
        let (shelf, done) = (shelf.clone(), done.clone());
        move || {
            let random = Random::new(seed);
            let abuse = || {
                let Some(waker) = shelf.lock().unwrap().pop() else { return thread::yield_now() };
                match random.below(4) {
                    0 => waker.wake(),
                    1 => drop(waker.clone()),
                    2 => shelf.lock().unwrap().push(waker),
                    _ => {
                        let copy = waker.clone();
                        waker.wake_by_ref();
                        copy.wake();
                    }
                }
            };
            if own_runtime {
                Runtime::new().unwrap().block_on(async {
                    while !done.load(SeqCst) {
                        abuse();
                        yield_now().await;
                    }
                });
            } else {
                while !done.load(SeqCst) {
                    abuse();
                }
            }
        }
    };
    let threads = [thread::spawn(stress(1, true)), thread::spawn(stress(2, false))];
    on_own_thread(|| {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            for round in 0..400_u64 {
                let tasks: Vec<_> = (0..4).map(|_| runtime::spawn(exposed(shelf.clone()))).collect();
                yield_now().await;
                for task in tasks {
                    task.abort();
                    if round % 2 == 0 {
                        assert!(task.await.is_err());
                    }
                }
            }
        });
        assert_balanced();
    });
    done.store(true, SeqCst);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    shelf.lock().unwrap().drain(..).for_each(Waker::wake);
}

/// Counts where it is dropped: here, or on some other thread.
struct Home(thread::ThreadId, Arc<[AtomicU64; 2]>);

impl Drop for Home {
    fn drop(&mut self) {
        self.1[usize::from(thread::current().id() != self.0)].fetch_add(1, SeqCst);
    }
}

#[test]
fn trap_02_wakers_fire_while_the_runtime_is_dropped() {
    let watch = Watch::here();
    for _ in 0..50 {
        let shelf = Arc::new(Mutex::new(Vec::new()));
        let (start, drops) = (Barrier::new(2), Arc::default());
        let runtime = Runtime::new().unwrap();
        let context = Context::root("trap 02");
        runtime.block_on(async {
            for _ in 0..20 {
                let (home, shelf) = (Home(thread::current().id(), Arc::clone(&drops)), shelf.clone());
                drop(runtime::spawn_in(&context, async move {
                    let _home = home;
                    exposed(shelf).await
                }));
            }
            yield_now().await;
        });
        let wakers = shelf.lock().unwrap().clone();
        assert_eq!(wakers.len(), 20);
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                (0..20).for_each(|_| wakers.iter().for_each(Waker::wake_by_ref));
            });
            start.wait();
            drop(runtime);
            assert_eq!(drops.each_ref().map(|count| count.load(SeqCst)), [20, 0], "each once, and here");
        });
        assert_eq!(shelf.lock().unwrap().len(), 20, "and none was polled once more");
    }
    assert_eq!(watch.kinds(), []);
}

/// Every remote wake is answered by a poll, or the test does not end.
#[test]
fn trap_03_no_remote_wake_is_lost() {
    const WAKES: u64 = 5_000;
    let (sender, receiver) = mpsc::channel::<(Waker, u64)>();
    let done = Arc::new(AtomicU64::new(0));
    let reached = done.clone();
    let waking = thread::spawn(move || {
        for (waker, n) in receiver {
            reached.store(n, SeqCst);
            waker.wake();
        }
    });
    on_own_thread(|| {
        Runtime::new().unwrap().block_on(async {
            for n in 1..=WAKES {
                let mut sent = false;
                poll_fn(|cx| {
                    if !std::mem::replace(&mut sent, true) {
                        sender.send((cx.waker().clone(), n)).unwrap();
                    }
                    if done.load(SeqCst) == n { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
            drop(sender);
        });
    });
    waking.join().unwrap();
}

#[test]
fn trap_04_no_waker_or_handle_of_another_thread_drops_a_future_there() {
    struct AtHome(thread::ThreadId, Arc<AtomicBool>);
    impl Drop for AtHome {
        fn drop(&mut self) {
            assert_eq!(thread::current().id(), self.0);
            self.1.store(true, SeqCst);
        }
    }
    for _ in 0..20 {
        let dropped = Arc::new(AtomicBool::new(false));
        let shelf = Arc::new(Mutex::new(Vec::new()));
        let runtime = Runtime::new().unwrap();
        let task = runtime.block_on(async {
            let home = AtHome(thread::current().id(), dropped.clone());
            let shelf = shelf.clone();
            let task = runtime::spawn(async move {
                let _home = home;
                exposed(shelf).await
            });
            yield_now().await;
            task
        });
        let wakers = std::mem::take(&mut *shelf.lock().unwrap());
        let far = thread::spawn(move || {
            wakers.into_iter().for_each(Waker::wake);
            task.abort();
            drop(task);
        });
        far.join().unwrap();
        assert!(!dropped.load(SeqCst));
        runtime.block_on(async {
            while !dropped.load(SeqCst) {
                yield_now().await;
            }
        });
    }
}

#[runtime::test]
async fn trap_05_a_completed_task_is_freed_once_whatever_holds_it() {
    let context = Context::root("trap 05");
    let alive = Rc::new(());
    for round in 0..200 {
        let (own, output) = (alive.clone(), alive.clone());
        let wakers = Rc::new(RefCell::new(Vec::new()));
        let left = wakers.clone();
        let task = runtime::spawn_in(&context, async move {
            let _own = own;
            poll_fn(|cx| {
                (0..3).for_each(|_| left.borrow_mut().push(cx.waker().clone()));
                Poll::Ready(())
            })
            .await;
            output
        });
        match round % 4 {
            0 => drop(task),
            1 => drop(task.await.unwrap()),
            2 => {
                yield_now().await;
                drop(task);
            }
            _ => {
                task.abort();
                assert!(task.await.is_err());
            }
        }
        yield_now().await;
        wakers.borrow_mut().drain(..).for_each(Waker::wake);
        assert_eq!(Rc::strong_count(&alive), 1, "round {round}");
    }
}

/// The last holders of a context on two threads let go at the same time.
#[test]
fn trap_06_a_context_whose_last_holders_are_on_two_threads_is_freed_once() {
    for _ in 0..500 {
        let context = Context::root("trap 06");
        let child = context.child("trap 06 child");
        let start = Barrier::new(2);
        thread::scope(|scope| {
            let far = context.clone();
            scope.spawn(|| {
                start.wait();
                far.scope(|| drop(child));
                drop(far);
            });
            start.wait();
            drop(context);
        });
    }
    let left = context::live().into_iter().filter(|snapshot| snapshot.class.starts_with("trap 06"));
    assert_eq!(left.count(), 0);
}

#[test]
fn trap_07_a_join_handle_awaited_on_another_thread_is_an_error_not_a_hang() {
    let home = Runtime::new().unwrap();
    let task = home.block_on(async { runtime::spawn(async { 5 }) });
    let far = thread::spawn(|| Runtime::new().unwrap().block_on(task));
    let error = far.join().unwrap().unwrap_err();
    assert!(!error.is_cancelled() && !error.is_panic());
    assert!(error.to_string().contains("thread of its runtime"), "{error}");
}

#[test]
fn trap_07_a_sent_task_is_awaited_on_another_runtime() {
    let (handles, handle) = mpsc::channel();
    let (stop, stopped) = (Promise::new(), Promise::new());
    let wait = stop.clone();
    let served = thread::spawn(move || {
        let runtime = Runtime::new().unwrap();
        handles.send(runtime.handle().clone()).unwrap();
        runtime.block_on(wait);
    });
    let handle = handle.recv().unwrap();
    let output = Runtime::new().unwrap().block_on(async {
        let task = handle.spawn(async {
            yield_now().await;
            Context::current().class()
        });
        let result = task.await.unwrap();
        stopped.complete(());
        result
    });
    assert_eq!(output, "main");
    stop.complete(());
    served.join().unwrap();
}

/// Both runtimes have the same number of tasks in the same slots. One of them is woken from within the other.
#[test]
fn trap_08_two_runtimes_of_one_thread_are_not_confused() {
    let (first, second) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let polls = |runtime: &Runtime| {
        let (polls, waker) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(None)));
        let (count, left) = (polls.clone(), waker.clone());
        runtime.block_on(async {
            drop(runtime::spawn(poll_fn(move |cx| {
                count.set(count.get() + 1);
                *left.borrow_mut() = Some(cx.waker().clone());
                Poll::<()>::Pending
            })));
            yield_now().await;
        });
        (polls, waker)
    };
    let ((first_polls, first_waker), (second_polls, _second_waker)) = (polls(&first), polls(&second));
    second.block_on(async {
        first_waker.take().unwrap().wake();
        yield_now().await;
        yield_now().await;
    });
    assert_eq!((first_polls.get(), second_polls.get()), (1, 1), "queued with its own runtime");
    first.block_on(async {
        yield_now().await;
        yield_now().await;
    });
    assert_eq!((first_polls.get(), second_polls.get()), (2, 1));
}

/// What crosses threads by type gives no way to spawn what must not: away from its loop `spawn` has no runtime.
#[test]
fn trap_10_a_smuggled_waker_or_context_gives_no_spawner_elsewhere() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let (context, waker) = (Context::current(), poll_fn(|cx| Poll::Ready(cx.waker().clone())).await);
        let far = thread::spawn(move || {
            waker.wake();
            context.scope(|| std::panic::catch_unwind(|| drop(runtime::spawn(pending::<()>()))).is_err())
        });
        assert!(far.join().unwrap());
    });
}

#[test]
fn trap_10_a_cancelled_context_wakes_its_waiters_on_their_own_thread() {
    let request = Context::root("trap 10");
    let here = thread::current().id();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let waiting = request.clone();
        let task = runtime::spawn(async move {
            let reason = waiting.cancelled().await.reason();
            (reason, thread::current().id())
        });
        yield_now().await;
        let far = request.clone();
        thread::spawn(move || far.cancel(Reason::Disconnected)).join().unwrap();
        assert_eq!(task.await.unwrap(), (Reason::Disconnected, here));
    });
}
