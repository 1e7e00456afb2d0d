//! Timers among many.
//!
//! What would make it worse: a heap (log n moves each), a wheel whose empty places are walked, cancelled timers that stay.

use crate::case::stopwatch::Stopwatch;
use crate::peer::Timers;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

const OPS: u64 = 320_000;
/// Sleeps in one poll; a runtime with a budget for each poll does not register more.
const A_POLL: u64 = 32;
/// When the timers end that others are made among: from a minute to an hour.
const SOONEST: Duration = Duration::from_secs(60);
const SPREAD: Duration = Duration::from_secs(3_540);
/// What making a task takes, generously: they are all to wait before the first ends.
const A_SPAWN: Duration = Duration::from_micros(6);
const HEAD_START: Duration = Duration::from_millis(5);
const ENDS: &str = "the task neither panics nor is aborted";

/// ns for a sleep that is made, polled and dropped while `n` others wait.
pub(super) fn create_among<P: Timers>(n: u64) -> f64 {
    P::block_on(async {
        let mut alive: Vec<Pin<Box<P::Sleep>>> = Vec::with_capacity(n as usize);
        while (alive.len() as u64) < n {
            let from = alive.len();
            let until = n.min(from as u64 + A_POLL);
            let end = |i| SOONEST + SPREAD.mul_f64(i as f64 / n as f64);
            alive.extend((from as u64..until).map(|i| Box::pin(P::sleep(end(i)))));
            poll_once(&mut alive[from..]).await;
            P::yield_now().await;
        }
        let took = create_and_drop::<P>().await;
        drop(alive);
        took.as_nanos() as f64 / OPS as f64
    })
}

async fn poll_once<S: Future>(sleeps: &mut [Pin<Box<S>>]) {
    poll_fn(|cx| {
        for sleep in &mut *sleeps {
            assert!(sleep.as_mut().poll(cx).is_pending(), "it is a minute, at least");
        }
        Poll::Ready(())
    })
    .await;
}

async fn create_and_drop<P: Timers>() -> Duration {
    let began = Stopwatch::start();
    for _ in 0..OPS / A_POLL {
        poll_fn(|cx| {
            for _ in 0..A_POLL {
                let _ = black_box(pin!(P::sleep(SOONEST * 2)).poll(cx));
            }
            Poll::Ready(())
        })
        .await;
        P::yield_now().await;
    }
    began.elapsed()
}

thread_local! {
    static WAITING: Cell<u64> = const { Cell::new(0) };
}

/// ns of CPU for each of `n` tasks whose sleeps end at one moment.
pub(super) fn fire<P: Timers>(n: u64) -> f64 {
    let times = (1_000 / n).clamp(1, 20);
    let took: Duration = (0..times).map(|_| P::block_on(fire_once::<P>(n))).sum();
    took.as_nanos() as f64 / (n * times) as f64
}

async fn fire_once<P: Timers>(n: u64) -> Duration {
    WAITING.set(0);
    let end = std::time::Instant::now() + HEAD_START + A_SPAWN * n as u32;
    let context = P::context();
    let tasks: Vec<_> = (0..n).map(|_| P::spawn_here(&context, wait_until::<P>(end))).collect();
    while WAITING.get() < n {
        P::yield_now().await;
    }
    let began = Stopwatch::start();
    assert!(std::time::Instant::now() < end, "all wait before the first ends");
    for task in tasks {
        task.await.expect(ENDS);
    }
    began.elapsed()
}

async fn wait_until<P: Timers>(end: std::time::Instant) {
    let mut sleep = pin!(P::sleep(end.saturating_duration_since(std::time::Instant::now())));
    let mut counted = false;
    poll_fn(|cx| {
        let ended = sleep.as_mut().poll(cx);
        if !std::mem::replace(&mut counted, true) {
            WAITING.set(WAITING.get() + 1);
        }
        ended
    })
    .await;
}
