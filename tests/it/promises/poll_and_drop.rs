//! P2: a task's context is current whenever the runtime polls the task or drops it.

use crate::books::on_own_thread;
use crate::trace::wait_with_waker;
use crate::trace::{Noted, PanicOnDrop, Trace, panic_quietly};
use crate::watch::Watch;
use context::{Context, ReportKind};
use runtime::{Runtime, yield_now};
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Barrier;
use std::task::Poll;

/// A request of that class, and a future which notes its polls and its drop, and never ends.
fn noisy(trace: &Trace) -> impl Future<Output = ()> + use<> {
    let (trace, noted) = (trace.clone(), trace.on_drop("future"));
    async move {
        let _noted = noted;
        trace.note("first poll");
        yield_now().await;
        trace.note("second poll");
        wait_with_waker().await
    }
}

/// Lets everything that is ready run.
async fn settle() {
    for _ in 0..4 {
        yield_now().await;
    }
}

#[runtime::test]
async fn p02_a_task_is_polled_and_dropped_in_its_context_on_completion() {
    let trace = Trace::new();
    let (own, noted) = (trace.clone(), trace.on_drop("future"));
    let task = runtime::spawn_in(&Context::root("p02 task"), async move {
        let _noted = noted;
        own.note("first poll");
        yield_now().await;
        own.note("second poll");
    });
    Context::root("p02 other").run(task).await.unwrap();
    trace.expect(&["first poll @ p02 task", "second poll @ p02 task", "drop future @ p02 task"]);
    assert!(Context::current().is_sentinel());
}

#[runtime::test]
async fn p02_a_task_is_dropped_in_its_context_on_abort() {
    let trace = Trace::new();
    let task = runtime::spawn_in(&Context::root("p02 task"), noisy(&trace));
    settle().await;
    let aborter = Context::root("p02 aborter");
    aborter.scope(|| {
        task.abort();
        trace.note("aborted");
        assert_eq!(Context::current(), aborter);
    });
    assert!(task.await.unwrap_err().is_cancelled());
    trace.expect(&[
        "first poll @ p02 task",
        "second poll @ p02 task",
        "aborted @ p02 aborter",
        "drop future @ p02 task",
    ]);
}

#[runtime::test]
async fn p02_a_task_aborted_before_its_first_poll_is_dropped_in_its_context() {
    let trace = Trace::new();
    let task = runtime::spawn_in(&Context::root("p02 task"), noisy(&trace));
    task.abort();
    assert!(task.await.is_err());
    trace.expect(&["drop future @ p02 task"]);
}

#[test]
fn p02_a_task_is_dropped_in_its_context_at_shutdown() {
    let (runtime, trace) = (Runtime::new().unwrap(), Trace::new());
    runtime.block_on(async {
        drop(runtime::spawn_in(&Context::root("p02 task"), noisy(&trace)));
        drop(runtime::spawn_in(&Context::root("p02 second"), noisy(&trace)));
        settle().await;
        trace.take();
    });
    let around = Context::root("p02 around");
    around.scope(|| {
        drop(runtime);
        assert_eq!(Context::current(), around);
    });
    trace.expect(&["drop future @ p02 task", "drop future @ p02 second"]);
}

#[runtime::test]
async fn p02_a_task_is_dropped_in_its_context_on_panic() {
    let trace = Trace::new();
    let noted = trace.on_drop("future");
    let task = runtime::spawn_in(&Context::root("p02 task"), async move {
        let _noted = noted;
        yield_now().await;
        panic_quietly("p02");
    });
    let joiner = Context::root("p02 joiner");
    let error = joiner.run(async {
        let error = task.await.unwrap_err();
        assert_eq!(Context::current().class(), "p02 joiner");
        error
    });
    assert!(error.await.is_panic());
    trace.expect(&["drop future @ p02 task"]);
}

/// What the future itself holds is not dropped by the unwinding, but by the runtime, afterwards.
#[runtime::test]
async fn p02_what_is_left_of_a_future_that_panicked_is_dropped_in_its_context() {
    struct Bomb(#[expect(dead_code, reason = "for its drop")] Noted);
    impl Future for Bomb {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<()> {
            panic_quietly("p02")
        }
    }
    let trace = Trace::new();
    let task = runtime::spawn_in(&Context::root("p02 task"), Bomb(trace.on_drop("future")));
    let joiner = Context::root("p02 joiner");
    assert!(joiner.run(task).await.unwrap_err().is_panic());
    trace.expect(&["drop future @ p02 task"]);
}

/// On its own thread and on another.
#[test]
fn p02_a_poll_that_panics_is_counted_as_one() {
    let _watch = Watch::here();
    let polls = |context: &Context| {
        on_own_thread(|| {
            Runtime::new().unwrap().block_on(async {
                let here = Context::root("p02 here");
                for context in [context, &here] {
                    let task = runtime::spawn_in(context, async {
                        yield_now().await;
                        panic_quietly("p02");
                    });
                    assert!(task.await.unwrap_err().is_panic());
                }
                here.own_usage().polls
            })
        })
    };
    let far = Context::root("p02 far");
    assert_eq!((polls(&far), far.own_usage().polls), (2, 2));
}

#[test]
fn p02_what_was_current_is_current_after_a_drop_that_panics() {
    let watch = Watch::here();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let task = runtime::spawn_in(&Context::root("p02 bomb"), async {
            let _bomb = PanicOnDrop("p02 drop");
            pending::<()>().await;
        });
        yield_now().await;
        task.abort();
        assert!(task.await.is_err());
        assert_eq!(Context::current().class(), "main");
        drop(runtime::spawn_in(&Context::root("p02 bomb at shutdown"), async {
            let _bomb = PanicOnDrop("p02 drop at shutdown");
            pending::<()>().await;
        }));
        yield_now().await;
    });
    drop(runtime);
    assert!(Context::current().is_sentinel());
    assert_eq!(watch.kinds(), [ReportKind::UnhandledPanic; 2]);
}

#[runtime::test]
async fn p02_an_output_that_nobody_wants_is_dropped_in_the_tasks_context() {
    let trace = Trace::new();
    let output = trace.on_drop("output");
    drop(runtime::spawn_in(&Context::root("p02 task"), async move {
        yield_now().await;
        output
    }));
    settle().await;
    trace.expect(&["drop output @ p02 task"]);
}

/// Whoever drops the handle.
#[runtime::test]
async fn p02_r5_an_output_that_a_handle_held_is_dropped_in_the_tasks_context() {
    let trace = Trace::new();
    let output = trace.on_drop("output");
    let task = runtime::spawn_in(&Context::root("p02 task"), async move { output });
    settle().await;
    Context::root("p02 holder").scope(|| drop(task));
    trace.expect(&["drop output @ p02 task"]);
}

#[test]
fn p02_a_task_aborted_from_another_thread_is_dropped_in_its_context_at_home() {
    let trace = Trace::new();
    on_own_thread(|| {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let task = runtime::spawn_in(&Context::root("p02 task"), noisy(&trace));
            settle().await;
            let meet = Barrier::new(2);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    Context::root("p02 far").scope(|| task.abort());
                    meet.wait();
                });
                meet.wait();
            });
            assert!(task.await.is_err());
        });
    });
    assert_eq!(trace.take().last().map(String::as_str), Some("drop future @ p02 task"));
}

#[test]
fn p02_a_future_that_never_arrives_is_dropped_in_the_context_of_its_spawn() {
    let (runtime, trace) = (Runtime::new().unwrap(), Trace::new());
    let handle = runtime.handle().clone();
    let send = |name| {
        let noted = trace.on_drop(name);
        Context::root("p02 sender").scope(|| drop(handle.spawn(async move { drop(noted) })));
    };
    send("not begun");
    drop(runtime);
    send("too late");
    trace.expect(&["drop not begun @ p02 sender", "drop too late @ p02 sender"]);
}

#[test]
fn p02_a_spawn_that_is_refused_drops_its_future_in_the_context_it_was_meant_for() {
    struct SpawnOnDrop(Trace);
    impl Drop for SpawnOnDrop {
        fn drop(&mut self) {
            let noted = self.0.on_drop("refused");
            let refused = runtime::spawn_in(&Context::root("p02 meant"), async move { drop(noted) });
            assert!(refused.is_finished());
        }
    }
    let (runtime, trace) = (Runtime::new().unwrap(), Trace::new());
    let spawner = SpawnOnDrop(trace.clone());
    runtime.block_on(async {
        drop(runtime::spawn(async move {
            let _spawner = spawner;
            pending::<()>().await;
        }));
        yield_now().await;
    });
    drop(runtime);
    trace.expect(&["drop refused @ p02 meant"]);
}

#[test]
fn p02_a_panic_of_the_main_future_leaves_the_tasks_in_their_contexts() {
    let (runtime, trace) = (Runtime::new().unwrap(), Trace::new());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            drop(runtime::spawn_in(&Context::root("p02 task"), noisy(&trace)));
            yield_now().await;
            panic_quietly("main");
        })
    }));
    assert!(panicked.is_err() && Context::current().is_sentinel());
    runtime.block_on(settle());
    drop(runtime);
    trace.expect(&["first poll @ p02 task", "second poll @ p02 task", "drop future @ p02 task"]);
}
