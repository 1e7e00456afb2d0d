//! P1: every thread has a current context.

use crate::books::{current_class, manual_runtime, ns, on_manual_clock, on_own_thread, pass, work};
use crate::trace::{Trace, panic_quietly};
use context::Context;
use runtime::{Runtime, yield_now};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

#[test]
fn p01_every_thread_begins_in_the_sentinel() {
    on_own_thread(|| {
        assert!(Context::current().is_sentinel());
        assert_eq!(Context::current(), Context::sentinel());
    });
}

#[test]
fn p01_threads_have_their_own_current_context() {
    Context::root("p01 here").scope(|| {
        on_own_thread(|| assert!(Context::current().is_sentinel()));
        assert_eq!(current_class(), "p01 here");
    });
}

#[test]
fn p01_the_future_of_block_on_runs_in_a_root_of_class_main() {
    let runtime = Runtime::new().unwrap();
    let main = runtime.block_on(async {
        yield_now().await;
        Context::current()
    });
    assert_eq!((main.class(), main.parent()), ("main", None));
    assert!(main.is_finished(), "with the loop left, its scope has ended");
}

#[test]
fn p01_the_class_of_the_main_future_is_configurable() {
    let runtime = Runtime::builder().class("p01 my main").build().unwrap();
    assert_eq!(runtime.block_on(async { current_class() }), "p01 my main");
    let again = runtime.block_on(async { Context::current().id() });
    assert_ne!(again, runtime.block_on(async { Context::current().id() }), "each block_on has its own");
}

/// A finish hook runs in the loop, outside of every task.
#[test]
fn p01_where_the_loop_works_the_sentinel_is_current_and_the_runtime_pays() {
    on_manual_clock(|| {
        let (sender, hook) = mpsc::channel();
        let runtime = manual_runtime();
        runtime.block_on(async {
            let before = runtime::accounts();
            let process = runtime::background("p01 hooked", async move {
                Context::current().on_finish(move |_| {
                    pass(7);
                    sender.send(Context::current().is_sentinel()).unwrap();
                });
                Ok::<(), String>(())
            });
            process.await.unwrap().unwrap();
            yield_now().await;
            let after = runtime::accounts();
            assert_eq!(after.runtime - before.runtime, ns(7));
            assert_eq!(after.sentinel, before.sentinel);
        });
        assert_eq!(hook.recv(), Ok(true));
    });
}

#[test]
fn p01_the_loops_own_work_is_on_the_runtimes_account() {
    on_own_thread(|| {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            for _ in 0..2_000 {
                yield_now().await;
            }
            assert!(!runtime::accounts().runtime.is_zero());
        });
    });
}

#[test]
fn p01_a_healthy_programs_work_never_lands_in_the_sentinel() {
    on_own_thread(|| {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let before = runtime::accounts();
            let mut parts = Vec::new();
            for _ in 0..50 {
                parts.push(runtime::spawn(async {
                    work(20_000);
                    yield_now().await;
                    work(20_000);
                }));
            }
            for part in parts {
                part.await.unwrap();
            }
            let after = runtime::accounts();
            assert_eq!(after.sentinel, before.sentinel);
            assert!(after.contexts > before.contexts);
        });
    });
}

#[test]
fn p01_around_block_on_the_context_is_as_before_also_on_unwind() {
    let runtime = Runtime::new().unwrap();
    let around = Context::root("p01 around");
    around.scope(|| {
        assert_eq!(runtime.block_on(async { current_class() }), "main");
        assert_eq!(Context::current(), around);
        let panicked = catch_unwind(AssertUnwindSafe(|| runtime.block_on(async { panic_quietly("main") })));
        assert!(panicked.is_err());
        assert_eq!(Context::current(), around);
    });
    assert!(Context::current().is_sentinel());
}

#[test]
fn p01_the_main_future_is_dropped_in_its_context() {
    let (runtime, trace) = (Runtime::new().unwrap(), Trace::new());
    let noted = trace.on_drop("future");
    runtime.block_on(async {
        let _noted = noted;
        yield_now().await;
    });
    trace.expect(&["drop future @ main"]);
}
