//! Timers that never fire, as those of timeouts: ns for making and dropping one.
//!
//! What would make it worse: a lock around the wheel, an allocation, a reading of the clock that the loop has already
//! read, a wheel entry for a timer that nobody polls, a waker that is dear to clone and drop.

use super::Case;
use super::stopwatch::Stopwatch;
use crate::peer::Timers;
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
