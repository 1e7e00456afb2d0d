//! Yielding: ns for one poll of a task that wakes itself, among a hundred that do the same.
//!
//! What would make it worse: an atomic instruction in the wake or around the poll, a queue that checks its capacity,
//! a clock read at polls that do not change the context, thread-locals with lazy initialisation.

use super::Case;
use super::stopwatch::Stopwatch;
use crate::Peer;
use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

const TASKS: u64 = 100;

/// All in the spawner's context.
pub(super) struct OneContext;

impl<P: Peer> Case<P> for OneContext {
    const NAME: &'static str = "yield, one context";

    fn run(ops: u64) -> Duration {
        all::<P>(|| P::spawn(wake_itself(ops / TASKS)))
    }
}

/// Each in its own, so that every poll ends a slice: the accounted yield.
pub(super) struct ContextPerTask;

impl<P: Peer> Case<P> for ContextPerTask {
    const NAME: &'static str = "yield, a context per task";

    fn run(ops: u64) -> Duration {
        all::<P>(|| P::spawn_in(&P::context(), wake_itself(ops / TASKS)))
    }
}

/// By the runtime's own `yield_now`, each task in its own context. (tokio's keeps the waker until it has looked at the
/// I/O driver.)
pub(super) struct Own;

impl<P: Peer> Case<P> for Own {
    const NAME: &'static str = "`yield_now`, a context per task";

    fn run(ops: u64) -> Duration {
        all::<P>(|| {
            P::spawn_in(&P::context(), async move {
                for _ in 0..ops / TASKS {
                    P::yield_now().await;
                }
            })
        })
    }
}

/// Pending `polls` times, its own waker woken each time.
fn wake_itself(polls: u64) -> impl Future<Output = ()> + Send + 'static {
    let mut left = polls;
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

fn all<P: Peer>(spawn: impl Fn() -> P::Handle<()>) -> Duration {
    P::block_on(async {
        let began = Stopwatch::start();
        let tasks: Vec<_> = (0..TASKS).map(|_| spawn()).collect();
        for task in tasks {
            task.await.expect("the task neither panics nor is aborted");
        }
        began.elapsed()
    })
}
