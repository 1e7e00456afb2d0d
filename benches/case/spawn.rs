//! Spawning and joining: ns from the call of `spawn` until the joiner has the output, for an empty task.
//!
//! What would make it worse: an allocation a task (there is none in steady state), atomic reference counts, a second
//! visit to the task's context, a lock around the list of tasks.

use super::Case;
use super::stopwatch::Stopwatch;
use crate::Peer;
use std::future::Future;
use std::time::Duration;

const ENDS: &str = "the task neither panics nor is aborted";

/// One at a time, in the spawner's context: no clock is read.
pub(super) struct OneContext;

impl<P: Peer> Case<P> for OneContext {
    const NAME: &'static str = "spawn + join, one context";

    fn run(ops: u64) -> Duration {
        in_task::<P, _>(async move {
            let began = Stopwatch::start();
            for op in 0..ops {
                assert_eq!(P::spawn(async move { op }).await.expect(ENDS), op);
            }
            began.elapsed()
        })
    }
}

/// One at a time, in another context than the spawner's: each of the two polls ends a slice.
pub(super) struct ContextChange;

impl<P: Peer> Case<P> for ContextChange {
    const NAME: &'static str = "spawn + join, a context change at every poll";

    fn run(ops: u64) -> Duration {
        in_task::<P, _>(async move {
            let context = P::context();
            let began = Stopwatch::start();
            for op in 0..ops {
                assert_eq!(P::spawn_in(&context, async move { op }).await.expect(ENDS), op);
            }
            began.elapsed()
        })
    }
}

/// A hundred at a time: more memory in use, fewer wakes of the joiner.
pub(super) struct Batch;

impl<P: Peer> Case<P> for Batch {
    const NAME: &'static str = "spawn + join, 100 at a time";

    fn run(ops: u64) -> Duration {
        const AT_A_TIME: usize = 100;
        in_task::<P, _>(async move {
            let mut handles = Vec::with_capacity(AT_A_TIME);
            let began = Stopwatch::start();
            for _ in 0..ops.div_ceil(AT_A_TIME as u64) {
                handles.extend((0..AT_A_TIME).map(|op| P::spawn(async move { op })));
                for handle in handles.drain(..) {
                    handle.await.expect(ENDS);
                }
            }
            began.elapsed()
        })
    }
}

/// In a task and not in `block_on`'s own future, which some runtimes treat in another way.
fn in_task<P: Peer, F>(future: F) -> F::Output
where
    F: Future + 'static,
    F::Output: Send + 'static,
{
    P::block_on(async { P::spawn_here(&P::context(), future).await.expect(ENDS) })
}
