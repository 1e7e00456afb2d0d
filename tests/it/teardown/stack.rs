//! How much stack a large future needs on its way into a task.

use super::child;
use context::Context;
use runtime::Runtime;
use std::future::Future;

const KIB: usize = 1024;
const FUTURE: usize = 512 * KIB;
/// What tokio needs for the same in a build without optimisation.
const STACK: usize = 2048 * KIB;

async fn large() -> u8 {
    let bytes = [1u8; FUTURE];
    runtime::yield_now().await;
    bytes[FUTURE - 1]
}

/// Whether it gets along with that stack. One that does not ends its process.
fn fits(name: &str, with: impl FnOnce() + Send + 'static) {
    child::ends_well(name, || {
        std::thread::Builder::new().stack_size(STACK).spawn(with).unwrap().join().unwrap();
    });
}

fn run<F: Future>(future: F) -> F::Output {
    Runtime::builder().track_wakers(false).build().unwrap().block_on(future)
}

#[test]
fn r8_a_large_future_is_spawned_on_a_small_stack() {
    fits("teardown::stack::r8_a_large_future_is_spawned_on_a_small_stack", || {
        run(async { assert_eq!(runtime::spawn(large()).await.unwrap(), 1) });
    });
}

#[test]
fn r8_a_large_future_is_blocked_on_with_a_small_stack() {
    fits("teardown::stack::r8_a_large_future_is_blocked_on_with_a_small_stack", || {
        assert_eq!(run(large()), 1);
    });
}

#[test]
fn r8_a_large_future_is_spawned_in_a_context_shielded_detached_and_sent() {
    fits("teardown::stack::r8_a_large_future_is_spawned_in_a_context_shielded_detached_and_sent", || {
        run(async { assert_eq!(runtime::spawn_in(&Context::root("r8"), large()).await.unwrap(), 1) });
        run(async { assert_eq!(runtime::shield(large()).await, 1) });
        run(async {
            let mut group = runtime::TaskGroup::<u8, ()>::new("r8 group");
            group.spawn(async { Ok(large().await) });
            assert_eq!(group.join().await, Ok(vec![1]));
        });
        let runtime = Runtime::new().unwrap();
        let sent = runtime.handle().clone();
        runtime.block_on(async move { assert_eq!(sent.spawn(large()).await.unwrap(), 1) });
    });
}
