//! Traps 13 to 15 and 17 to 19: the end of a runtime, and of a thread.

use crate::books::on_own_thread;
use crate::trace::Trace;
use context::Context;
use runtime::{JoinHandle, Runtime, yield_now};
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Poll, Waker};

thread_local! {
    static KEPT: RefCell<Option<(Runtime, Trace)>> = const { RefCell::new(None) };
    static GUARD: RefCell<Vec<context::Entered>> = const { RefCell::new(Vec::new()) };
    static HANDLES: RefCell<Vec<(Waker, JoinHandle<()>, Context)>> = const { RefCell::new(Vec::new()) };
}

/// Dropped with its thread: works, spawns, wakes and enters to the last.
struct LastWords(Trace, Waker);

impl Drop for LastWords {
    fn drop(&mut self) {
        self.0.note("last words");
        self.1.wake_by_ref();
        Context::root("trap 13 last").scope(|| self.0.note("scope"));
        let _entered = Context::root("trap 13 last").enter();
    }
}

#[test]
fn trap_13_a_runtime_in_a_thread_local_is_dropped_with_its_thread() {
    let trace = Trace::new();
    // In both orders of first use: the runtime's thread-locals may be destroyed before it, or after.
    for books_first in [true, false] {
        let own = trace.clone();
        let thread = std::thread::spawn(move || {
            if books_first {
                let _ = Context::current();
                context::accounts();
            }
            KEPT.with(|kept| kept.borrow().is_none());
            let runtime = Runtime::new().unwrap();
            runtime.block_on(async {
                let trace = own.clone();
                drop(runtime::spawn_in(&Context::root("trap 13"), async move {
                    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
                    let _last = LastWords(trace, waker);
                    pending::<()>().await
                }));
                yield_now().await;
            });
            KEPT.set(Some((runtime, own)));
        });
        thread.join().unwrap();
        let events = trace.take();
        assert_eq!(events.len(), 2, "{events:?}");
        assert_eq!(events[0], "last words @ trap 13", "{books_first}");
    }
}

#[test]
fn trap_13_guards_handles_and_wakers_in_thread_locals_outlive_the_books() {
    std::thread::spawn(|| {
        GUARD.with(|guards| guards.borrow().is_empty());
        HANDLES.with(|handles| handles.borrow().is_empty());
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let context = Context::root("trap 13 handles");
            let task = runtime::spawn_in(&context, pending::<()>());
            let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
            HANDLES.with_borrow_mut(|handles| handles.push((waker, task, context.clone())));
            GUARD.with_borrow_mut(|guards| guards.push(context.enter()));
        });
        let left = Context::root("trap 13 left").enter();
        GUARD.with_borrow_mut(|guards| guards.push(left));
    })
    .join()
    .unwrap();
    let left = context::live()
        .into_iter()
        .filter(|snapshot| ["trap 13 handles", "trap 13 left"].contains(&snapshot.class));
    assert_eq!(left.map(|snapshot| snapshot.name).collect::<Vec<_>>(), Vec::<String>::new());
}

/// Destructors of tasks that wake, spawn, abort and drop other tasks while everything is dropped.
#[test]
fn trap_14_a_runtime_with_pending_tasks_is_dropped_without_panic_or_endless_loop() {
    struct Breeds(u32, Rc<Cell<u32>>);
    impl Drop for Breeds {
        fn drop(&mut self) {
            self.1.set(self.1.get() + 1);
            if self.0 < 3 {
                let next = Breeds(self.0 + 1, self.1.clone());
                drop(runtime::spawn_in(&Context::root("trap 14"), async move {
                    let _next = next;
                    pending::<()>().await
                }));
            }
        }
    }
    let dropped = Rc::new(Cell::new(0));
    let runtime = Runtime::new().unwrap();
    let tasks = RefCell::new(Vec::new());
    runtime.block_on(async {
        for _ in 0..100 {
            let breeds = Breeds(0, dropped.clone());
            tasks.borrow_mut().push(runtime::spawn(async move {
                let _breeds = breeds;
                pending::<()>().await
            }));
        }
        yield_now().await;
    });
    tasks.borrow_mut().truncate(50);
    drop(runtime);
    assert_eq!(dropped.get(), 400, "each was dropped, with all that it tried to spawn");
    drop(tasks);
}

/// Tasks that hold each other's handles and wakers.
#[test]
fn trap_14_cycles_of_tasks_are_dropped() {
    let alive = Rc::new(());
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let first = Rc::new(RefCell::new(None::<JoinHandle<()>>));
        let (own, theirs) = (alive.clone(), first.clone());
        let second = runtime::spawn(async move {
            let _own = own;
            let _first = theirs;
            pending::<()>().await
        });
        let own = alive.clone();
        *first.borrow_mut() = Some(runtime::spawn(async move {
            let _own = own;
            let _ = second.await;
        }));
        yield_now().await;
    });
    drop(runtime);
    assert_eq!(Rc::strong_count(&alive), 1);
}

#[test]
fn trap_17_a_spawn_from_a_destructor_at_shutdown_is_refused_and_says_so() {
    struct Spawns(Rc<RefCell<Option<JoinHandle<u32>>>>, Rc<Cell<u32>>);
    impl Drop for Spawns {
        fn drop(&mut self) {
            let ran = self.1.clone();
            let task = runtime::spawn(async move {
                ran.set(ran.get() + 1);
                1
            });
            *self.0.borrow_mut() = Some(task);
        }
    }
    let (left, ran) = (Rc::default(), Rc::new(Cell::new(0)));
    let runtime = Runtime::new().unwrap();
    let spawns = Spawns(Rc::clone(&left), ran.clone());
    runtime.block_on(async {
        drop(runtime::spawn(async move {
            let _spawns = spawns;
            pending::<()>().await
        }));
        yield_now().await;
    });
    drop(runtime);
    let task = left.take().unwrap();
    assert!(task.is_finished());
    let error = Runtime::new().unwrap().block_on(task).unwrap_err();
    assert_eq!((error.reason(), ran.get()), (Some(context::Reason::Shutdown), 0));
}

#[runtime::test]
async fn trap_17_a_spawn_from_a_destructor_in_a_living_runtime_runs() {
    struct Spawns(Trace);
    impl Drop for Spawns {
        fn drop(&mut self) {
            let trace = self.0.clone();
            drop(runtime::spawn(async move { trace.note("ran") }));
        }
    }
    let trace = Trace::new();
    let spawns = Spawns(trace.clone());
    runtime::spawn_in(&Context::root("trap 17"), async move { drop(spawns) }).await.unwrap();
    yield_now().await;
    trace.expect(&["ran @ trap 17"]);
}

#[test]
fn trap_18_a_nested_block_on_is_a_clear_panic_and_harms_nobody() {
    let (outer, inner) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    outer.block_on(async {
        for runtime in [&outer, &inner] {
            let nested = catch_unwind(AssertUnwindSafe(|| runtime.block_on(async {})));
            let text = nested.unwrap_err();
            assert!(context::panic_message(&*text).contains("a runtime runs on this thread"));
            assert_eq!(Context::current().class(), "main");
        }
        assert_eq!(runtime::spawn(async { 1 }).await.unwrap(), 1);
    });
    assert_eq!(inner.block_on(async { 2 }), 2);
}

#[test]
fn trap_18_a_runtime_dropped_inside_anothers_task_drops_its_own() {
    on_own_thread(|| {
        let trace = Trace::new();
        let (outer, inner) = (Runtime::new().unwrap(), Runtime::new().unwrap());
        let noted = trace.on_drop("inner task");
        inner.block_on(async {
            drop(runtime::spawn_in(&Context::root("trap 18 inner"), async move {
                let _noted = noted;
                pending::<()>().await
            }));
            yield_now().await;
        });
        let own = trace.clone();
        outer.block_on(async {
            let task = runtime::spawn_in(&Context::root("trap 18 outer"), async move {
                drop(inner);
                own.note("dropped");
                runtime::spawn(async { 3 }).await.unwrap()
            });
            assert_eq!(task.await.unwrap(), 3);
        });
        trace.expect(&["drop inner task @ trap 18 inner", "dropped @ trap 18 outer"]);
    });
}

#[test]
fn trap_19_a_join_handle_is_polled_and_dropped_after_the_runtimes_end() {
    let runtime = Runtime::new().unwrap();
    let (ended, pending_one, third) = runtime.block_on(async {
        let tasks =
            (runtime::spawn(async { 1 }), runtime::spawn(pending::<()>()), runtime::spawn(pending::<()>()));
        yield_now().await;
        tasks
    });
    drop(runtime);
    drop(third);
    pending_one.abort();
    let next = Runtime::new().unwrap();
    // Slots of the next runtime are used, too: handles must not be taken for those of its tasks.
    next.block_on(async {
        let own = runtime::spawn(async { 2 });
        assert!(ended.await.unwrap_err().is_cancelled());
        assert!(pending_one.await.unwrap_err().is_cancelled());
        assert_eq!(own.await.unwrap(), 2);
    });
}
