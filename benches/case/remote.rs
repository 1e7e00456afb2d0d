//! Waking from another thread: the latency of one wake of a loop that sleeps, ns per wake of many, and ns per wake of one
//! task again and again.
//!
//! What would make it worse: a system call a wake instead of one a sleep, a lock that is held while waking, a loop
//! that does not look into its inbox between polls, a message for each wake of a task that is to be woken already. The latency is the kernel's for the greater part; on one processor
//! it would be the length of the waker's time slice, so each of the two threads has its own.

use super::Case;
use super::pinned::Pinned;
use crate::Peer;
use crate::case::stopwatch::Stopwatch;
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// From the call of `wake` on another thread to the poll, the loop asleep: the median.
pub(super) struct Latency;

impl<P: Peer> Case<P> for Latency {
    const NAME: &'static str = "remote wake, latency";

    fn run(ops: u64) -> Duration {
        let (wakers, requests) = mpsc::channel::<Waker>();
        let epoch = Instant::now();
        let woken_at = Arc::new(AtomicU64::new(0));
        let stamp = woken_at.clone();
        let helper = thread::spawn(move || {
            let _pinned = Pinned::to(1);
            for waker in requests {
                let asked = Instant::now();
                // Until the loop has gone to sleep.
                while asked.elapsed() < Duration::from_micros(50) {
                    std::hint::spin_loop();
                }
                stamp.store(nanos(epoch), Ordering::Release);
                waker.wake();
            }
        });
        let _pinned = Pinned::to(0);
        let mut latencies: Vec<u64> = P::block_on(async {
            let mut latencies = Vec::new();
            for _ in 0..ops {
                woken_at.store(0, Ordering::Relaxed);
                latencies.push(one_wake(&wakers, &woken_at, epoch).await);
            }
            latencies
        });
        drop(wakers);
        helper.join().expect("the helper ends");
        latencies.sort_unstable();
        Duration::from_nanos(latencies[latencies.len() / 2] * ops)
    }
}

fn one_wake(wakers: &mpsc::Sender<Waker>, woken_at: &AtomicU64, epoch: Instant) -> impl Future<Output = u64> {
    let mut sent = false;
    poll_fn(move |cx| {
        if !std::mem::replace(&mut sent, true) {
            wakers.send(cx.waker().clone()).expect("the helper listens");
        }
        match woken_at.load(Ordering::Acquire) {
            0 => Poll::Pending,
            at => Poll::Ready(nanos(epoch) - at),
        }
    })
}

fn nanos(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_nanos()).expect("less than 584 years").max(1)
}

/// A thousand tasks wait, another thread wakes them all: from the first wake to the last poll, per wake.
pub(super) struct Throughput;

impl<P: Peer> Case<P> for Throughput {
    const NAME: &'static str = "remote wake, throughput";

    fn run(ops: u64) -> Duration {
        const TASKS: u64 = 1_000;
        (0..ops.div_ceil(TASKS)).map(|_| wake_all::<P>(TASKS)).sum()
    }
}

fn wake_all<P: Peer>(tasks: u64) -> Duration {
    let (wakers, requests) = mpsc::channel::<Waker>();
    let go = Arc::new(AtomicBool::new(false));
    let gone = go.clone();
    let helper = thread::spawn(move || {
        let wakers: Vec<Waker> = requests.into_iter().collect();
        gone.store(true, Ordering::Release);
        let began = Instant::now();
        wakers.into_iter().for_each(Waker::wake);
        began
    });
    let ended = P::block_on(async {
        let waiting: Vec<_> = (0..tasks)
            .map(|_| {
                let (mut wakers, go) = (Some(wakers.clone()), go.clone());
                P::spawn(poll_fn(move |cx| {
                    if let Some(wakers) = wakers.take() {
                        wakers.send(cx.waker().clone()).expect("the helper listens");
                        return Poll::Pending;
                    }
                    if go.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
                }))
            })
            .collect();
        drop(wakers);
        for task in waiting {
            task.await.expect("the task neither panics nor is aborted");
        }
        Instant::now()
    });
    ended - helper.join().expect("the helper ends")
}

/// That many threads wake one and the same task, again and again, while the loop polls it: the CPU time of the threads
/// that wake, per wake.
pub(super) struct OneTask<const THREADS: u64>;

impl<P: Peer, const THREADS: u64> Case<P> for OneTask<THREADS> {
    const NAME: &'static str = match THREADS {
        1 => "remote wake, one task, 1 thread",
        2 => "remote wake, one task, 2 threads",
        _ => "remote wake, one task, 4 threads",
    };

    fn run(ops: u64) -> Duration {
        let (wakers, requests) = mpsc::channel::<Waker>();
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let flood = thread::spawn(move || {
            let waker = requests.recv().expect("the task is polled");
            let spent = flood(&waker, ops.div_ceil(THREADS), THREADS);
            over.store(true, Ordering::Release);
            waker.wake();
            spent
        });
        P::block_on(async {
            let mut wakers = Some(wakers);
            let task = P::spawn(poll_fn(move |cx| {
                if let Some(wakers) = wakers.take() {
                    wakers.send(cx.waker().clone()).expect("the flood listens");
                }
                if ended.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
            }));
            task.await.expect("the task neither panics nor is aborted");
        });
        flood.join().expect("the flood ends")
    }
}

/// What the threads spent on their wakes, together.
fn flood(waker: &Waker, each: u64, threads: u64) -> Duration {
    let start = Barrier::new(usize::try_from(threads).expect("a few"));
    thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let stopwatch = Stopwatch::start();
                    (0..each).for_each(|_| waker.wake_by_ref());
                    stopwatch.elapsed()
                })
            })
            .collect();
        all.into_iter().map(|thread| thread.join().expect("it only wakes")).sum()
    })
}
