//! Timers that never fire, as those of timeouts: ns for making and dropping one.
//!
//! What would make it worse: a lock around the wheel, an allocation, a reading of the clock that the loop has already
//! read, a wheel entry for a timer that nobody polls, a waker that is dear to clone and drop.

use super::Case;
use super::stopwatch::Stopwatch;
use crate::peer::{Bursar, Peer, Timers};
use runtime::time;
use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// Made and dropped, never polled.
pub(super) struct Create;

impl<P: Timers> Case<P> for Create {
    const NAME: &'static str = "a sleep, create + drop";

    fn run(ops: u64) -> Duration {
        P::block_on(async {
            let began = Stopwatch::start();
            for _ in 0..ops {
                drop(black_box(P::sleep(LONG)));
            }
            began.elapsed()
        })
    }
}

/// Polled once in between, so that it is in the wheel: what a timeout around something quick costs.
pub(super) struct CreateAndPoll;

impl<P: Timers> Case<P> for CreateAndPoll {
    const NAME: &'static str = "a sleep, create + poll + drop";

    fn run(ops: u64) -> Duration {
        // In pieces, since whoever has a budget for the operations of one poll would not register the rest.
        const A_POLL: u64 = 32;
        P::block_on(async {
            let began = Stopwatch::start();
            for _ in 0..ops.div_ceil(A_POLL) {
                poll_fn(|cx| {
                    for _ in 0..A_POLL {
                        let _ = black_box(pin!(P::sleep(LONG)).poll(cx));
                    }
                    Poll::Ready(())
                })
                .await;
                P::yield_now().await;
            }
            began.elapsed()
        })
    }
}

/// Spawned, polled, fired, polled again and joined, 1,000 at a time, on time that is paused: the turns of the loop and the
/// kernel's timer are left out. Of Bursar only: tokio's paused time makes each reading of its clock dearer.
pub(super) struct Fire;

impl Case<Bursar> for Fire {
    const NAME: &'static str = "a sleep in a task, spawn + fire + join";

    fn run(ops: u64) -> Duration {
        const AT_A_TIME: u64 = 1_000;
        Bursar::block_on(async {
            time::pause();
            let began = Stopwatch::start();
            for _ in 0..ops.div_ceil(AT_A_TIME) {
                // Their ends lie 1 us apart, so that a tick has several.
                let end = |n| LONG + Duration::from_micros(n);
                let tasks: Vec<_> = (0..AT_A_TIME).map(|n| Bursar::spawn(Bursar::sleep(end(n)))).collect();
                Bursar::yield_now().await;
                time::advance(2 * LONG).await;
                for task in tasks {
                    task.await.expect("the task neither panics nor is aborted");
                }
            }
            began.elapsed()
        })
    }
}
