//! Outputs that nobody takes: dropped in their task's context, at its cost, contained, and without recursion.

use super::{About, Bomb};
use crate::books::{lives, manual_runtime, ns, on_manual_clock, pass};
use crate::trace::{Noted, PanicOnDrop, Trace};
use context::Context;
use runtime::{JoinHandle, Runtime};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

async fn ended<T>(task: JoinHandle<T>) -> JoinHandle<T> {
    while !task.is_finished() {
        runtime::yield_now().await;
    }
    task
}

/// Passes CPU time where it is dropped.
struct Costs(u64, #[expect(dead_code, reason = "it is dropped")] Noted);

impl Drop for Costs {
    fn drop(&mut self) {
        pass(self.0 / 2);
        // What was current before comes back, and is not blamed for the rest either.
        Context::root("r5 within").scope(|| pass(1));
        pass(self.0 / 2);
    }
}

#[test]
fn r5_an_output_is_dropped_in_the_context_of_its_task_and_at_its_cost() {
    on_manual_clock(|| {
        let trace = Trace::new();
        let (owner, other) = (Context::root("r5 owner"), Context::root("r5 other"));
        manual_runtime().block_on(async {
            let output = Costs(700, trace.on_drop("output"));
            let task = ended(runtime::spawn_in(&owner, async move { output })).await;
            let before = owner.own_usage().cpu;
            let dropper = runtime::spawn_in(&other, async move {
                drop(task);
                Context::current().class()
            });
            assert_eq!(dropper.await.unwrap(), "r5 other", "and what was current is so again");
            assert_eq!(owner.own_usage().cpu - before, ns(700));
        });
        trace.expect(&["drop output @ r5 owner"]);
        assert_eq!(other.own_usage().cpu, ns(0));
    });
}

#[test]
fn r5_an_output_of_a_finished_context_is_late_and_nobody_is_blamed() {
    on_manual_clock(|| {
        let about = About::class("r5 finished");
        let (trace, owner) = (Trace::new(), Context::root("r5 finished"));
        manual_runtime().block_on(async {
            let output = Costs(700, trace.on_drop("output"));
            let task = ended(runtime::spawn_in(&owner, async move { output })).await;
            owner.finish();
            pass(10);
            drop(task);
        });
        trace.expect(&["drop output @ r5 finished"]);
        assert_eq!(owner.own_usage().late_cpu, ns(700));
        assert!(about.seen.lock().unwrap().is_empty());
    });
}

#[test]
fn r5_an_output_that_explodes_is_reported_and_does_not_panic_who_drops_the_handle() {
    let about = About::class("r5 explodes");
    let owner = Context::root("r5 explodes");
    let runtime = Runtime::new().unwrap();
    let kept = runtime.block_on(async {
        drop(ended(runtime::spawn_in(&owner, async { Bomb(3) })).await);
        assert_eq!(about.panics(), 1);
        let job = owner.scope(|| runtime::spawn_blocking(|| Bomb(3)));
        let job = ended(job).await;
        drop(job);
        assert_eq!(about.panics(), 2, "a job's likewise");
        Some(ended(runtime::spawn_in(&owner, async { PanicOnDrop("at the end") })).await)
    });
    assert!(catch_unwind(AssertUnwindSafe(|| drop(runtime))).is_ok());
    assert_eq!(about.panics(), 3);
    drop(kept);
}

#[test]
fn r5_the_end_of_the_runtime_drops_outputs_in_their_contexts() {
    let trace = Trace::new();
    let owner = Context::root("r5 end");
    let runtime = Runtime::new().unwrap();
    let handle = runtime.block_on(async {
        let output = trace.on_drop("output");
        Some(ended(runtime::spawn_in(&owner, async move { output })).await)
    });
    Context::root("r5 outside").scope(|| drop(runtime));
    trace.expect(&["drop output @ r5 end"]);
    drop(handle);
}

#[test]
fn r5_the_output_of_a_job_is_dropped_in_its_context_on_any_thread() {
    let trace = Trace::new();
    let owner = Context::root("r5 job");
    let runtime = Runtime::new().unwrap();
    let (output, sent) = (trace.on_drop("job"), trace.on_drop("sent"));
    let (job, remote) = runtime.block_on(async {
        let remote = owner.scope(|| runtime.handle().spawn(async move { sent }));
        (ended(owner.scope(|| runtime::spawn_blocking(move || output))).await, ended(remote).await)
    });
    std::thread::spawn(move || Context::root("r5 outside").scope(|| drop((job, remote)))).join().unwrap();
    trace.expect(&["drop job @ r5 job", "drop sent @ r5 job"]);
}

/// What has no destructor keeps nothing; nor does what was taken.
#[test]
fn r5_an_output_pins_its_context_only_as_long_as_it_needs_it() {
    Runtime::new().unwrap().block_on(async {
        let make = || Context::root("r5 pins");
        let owner = make();
        let id = owner.id();
        let number = ended(runtime::spawn_in(&owner, async { 7 })).await;
        drop(owner);
        assert!(!lives(id));
        assert_eq!(number.await.unwrap(), 7);

        let owner = make();
        let id = owner.id();
        let mut text = ended(runtime::spawn_in(&owner, async { "seven".to_owned() })).await;
        drop(owner);
        assert!(lives(id));
        assert_eq!((&mut text).await.unwrap(), "seven");
        assert!(!lives(id), "taken, and the handle is still there");
    });
}

struct Link(#[expect(dead_code, reason = "it is dropped")] Option<Box<JoinHandle<Link>>>, mpsc::Sender<()>);

impl Drop for Link {
    fn drop(&mut self) {
        self.1.send(()).unwrap();
    }
}

#[test]
fn r5_a_chain_of_outputs_needs_no_stack() {
    const LENGTH: usize = 20_000;
    let (dropped, drops) = mpsc::channel();
    let chain = std::thread::Builder::new().stack_size(256 << 10);
    let chain = chain.spawn(move || {
        for by_runtime in [false, true] {
            let runtime = Runtime::new().unwrap();
            let first = runtime.block_on(async {
                let owner = Context::root("r5 chain");
                let mut link = None;
                for _ in 0..LENGTH {
                    let output = Link(link.take().map(Box::new), dropped.clone());
                    link = Some(ended(runtime::spawn_in(&owner, async move { output })).await);
                }
                link
            });
            if by_runtime {
                drop(runtime);
                drop(first);
            } else {
                runtime.block_on(async { drop(first) });
            }
        }
    });
    chain.unwrap().join().unwrap();
    assert_eq!(drops.try_iter().count(), 2 * LENGTH);
}
