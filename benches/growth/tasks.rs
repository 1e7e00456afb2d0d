//! Polls among many tasks.
//!
//! What would make it worse: a list that is walked, a table that is moved when it grows, a queue with a capacity. What
//! grows all the same is the memory that one round goes through: past the caches each poll waits for it.

use crate::case::stopwatch::Stopwatch;
use crate::peer::Peer;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

/// Polls that are measured, about.
const POLLS: u64 = 2_000_000;
const ROUNDS_MIN: u64 = 3;
/// Rounds before that.
const WARM_UP: u64 = 2;
const ENDS: &str = "the task neither panics nor is aborted";

thread_local! {
    static OVER: Cell<bool> = const { Cell::new(false) };
}

/// ns a poll, `n` tasks of one context taking turns.
pub(super) fn turns<P: Peer>(n: u64) -> f64 {
    P::block_on(async {
        let context = P::context();
        take_turns::<P>(n, || context.clone()).await
    })
}

/// The same, each in its own context.
pub(super) fn turns_in_contexts<P: Peer>(n: u64) -> f64 {
    P::block_on(take_turns::<P>(n, P::context))
}

/// ns a poll of two tasks that take turns, `n` others waiting, each in its own context.
pub(super) fn pair_among_idle<P: Peer>(n: u64) -> f64 {
    P::block_on(async {
        for _ in 0..n {
            // Forgotten and not dropped, since dropping a handle ends the task elsewhere.
            std::mem::forget(P::spawn_in(&P::context(), std::future::pending::<()>()));
        }
        take_turns::<P>(2, P::context).await
    })
}

async fn take_turns<P: Peer>(n: u64, context: impl Fn() -> P::Context) -> f64 {
    OVER.set(false);
    let rounds = (POLLS / n).max(ROUNDS_MIN);
    let others: Vec<_> = (1..n).map(|_| P::spawn_in(&context(), walk_on())).collect();
    let took = P::spawn_in(&context(), pace(rounds)).await.expect(ENDS);
    for other in others {
        other.await.expect(ENDS);
    }
    took.as_nanos() as f64 / (rounds * n) as f64
}

/// Wakes itself, until it is over.
fn walk_on() -> impl Future<Output = ()> + Send + 'static {
    poll_fn(|cx| {
        if OVER.get() {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// The same, and the time that `rounds` rounds take: tasks are polled in turn, so between two polls of this one lie as many
/// as there are tasks.
fn pace(rounds: u64) -> impl Future<Output = Duration> + Send + 'static {
    let mut polls = 0;
    let mut began = None;
    poll_fn(move |cx| {
        polls += 1;
        if polls == WARM_UP {
            began = Some(Stopwatch::start());
        }
        match &began {
            Some(began) if polls == WARM_UP + rounds => {
                let took = began.elapsed();
                OVER.set(true);
                Poll::Ready(took)
            }
            _ => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    })
}
