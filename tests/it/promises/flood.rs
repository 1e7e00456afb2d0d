//! P29: nothing that is always ready, and nothing that other threads or sockets send, keeps a timer from its task.
//!
//! What is held is what the documentation says: a timer that is due is seen at the end of the turn, which makes 256 polls
//! at most, and its task is then polled after those that were ready before it, once each. So polls are counted, from the
//! moment at which the timer was due; how long they take is the machine's matter.

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use runtime::net::UnixStream;
use runtime::time::{Instant, sleep_until};
use runtime::{FutureExt, Runtime};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

const PERIOD: Duration = Duration::from_millis(1);
/// Timers are as exact as that.
const GRAIN: Duration = Duration::from_micros(20);
const TURN_POLLS: u32 = 256;
const TICKS: u32 = 30;

/// A 1 ms interval, and how many polls of others came since it was last due.
#[derive(Default)]
struct Beat {
    due: Cell<Option<Instant>>,
    late: Cell<u32>,
    most: Cell<u32>,
    over: Cell<bool>,
}

impl Beat {
    /// Something else has the thread.
    fn other(&self) {
        if self.due.get().is_some_and(|due| Instant::now() >= due + GRAIN) {
            self.late.set(self.late.get() + 1);
        }
    }

    async fn run(&self) {
        for _ in 0..TICKS {
            let due = Instant::now() + PERIOD;
            self.due.set(Some(due));
            sleep_until(due).await;
            self.most.set(self.most.get().max(self.late.take()));
        }
        self.over.set(true);
    }
}

/// The most polls that came between a tick and its task, while `flood` starts what floods the loop.
fn most_late<F: Future<Output = ()>>(flood: impl FnOnce(Rc<Beat>) -> F) -> u32 {
    let beat = Rc::new(Beat::default());
    let context = context::Context::root("p29");
    let beats = beat.clone();
    Runtime::new().unwrap().block_on(context.run(async move {
        flood(beats.clone()).await;
        beats.run().await;
    }));
    beat.most.get()
}

fn spin(wall: Duration) {
    let began = std::time::Instant::now();
    while began.elapsed() < wall {}
}

/// A task that is polled again and again.
fn always_ready(beat: Rc<Beat>, work: Duration) {
    drop(runtime::spawn(async move {
        while !beat.over.get() {
            beat.other();
            spin(work);
            runtime::yield_now().await;
        }
    }));
}

#[test]
fn p29_always_ready_tasks_do_not_starve_an_interval() {
    let most = most_late(|beat| async move {
        (0..16).for_each(|_| always_ready(beat.clone(), Duration::ZERO));
    });
    assert!(most <= TURN_POLLS + 16, "{most}");
}

/// The bound in time: the loop sees to its timers after one slow poll, or two if a quick one came before.
#[test]
fn p29_slow_polls_do_not_starve_an_interval() {
    let most = most_late(|beat| async move {
        always_ready(beat.clone(), Duration::from_micros(500));
        // Two, since one that is alone yields to nobody.
        always_ready(beat, Duration::from_micros(500));
        (0..20).for_each(|_| spin(Duration::from_micros(10)));
        runtime::yield_now().await;
        runtime::yield_now().await;
    });
    assert!(most <= 2 + 2, "{most}");
}

#[test]
fn p29_a_storm_of_10_000_tasks_does_not_starve_an_interval() {
    const TASKS: u32 = 10_000;
    let most = most_late(|beat| async move {
        let waiting = Rc::new(RefCell::new(Vec::<Waker>::new()));
        for _ in 0..TASKS {
            let (beat, waiting) = (beat.clone(), waiting.clone());
            drop(runtime::spawn(poll_fn(move |cx| {
                beat.other();
                waiting.borrow_mut().push(cx.waker().clone());
                if beat.over.get() { Poll::Ready(()) } else { Poll::Pending }
            })));
        }
        drop(runtime::spawn(async move {
            while !beat.over.get() {
                waiting.take().into_iter().for_each(Waker::wake);
                runtime::yield_now().await;
            }
        }));
    });
    assert!(most <= TURN_POLLS + TASKS, "{most}");
}

#[test]
fn p29_500_busy_sockets_do_not_starve_an_interval() {
    const SOCKETS: u32 = 500;
    let most = most_late(|beat| async move {
        for _ in 0..SOCKETS / 2 {
            let (mut one, mut two) = UnixStream::pair().unwrap();
            let (beat, back) = (beat.clone(), beat.clone());
            drop(runtime::spawn(async move {
                let mut byte = [0];
                while !beat.over.get() {
                    beat.other();
                    two.write_all(b"x").await.unwrap();
                    two.read_exact(&mut byte).await.unwrap();
                }
            }));
            drop(runtime::spawn(async move {
                let mut byte = [0];
                while !back.over.get() && one.read_exact(&mut byte).await.is_ok() {
                    back.other();
                    if one.write_all(b"y").await.is_err() {
                        break;
                    }
                }
            }));
        }
    });
    // A poll may go round more than once while its socket is ready: within its budget.
    assert!(most <= TURN_POLLS + 2 * SOCKETS, "{most}");
}

/// Sets a flag for the threads of a flood when it is dropped.
struct Stop(Arc<AtomicBool>, Vec<thread::JoinHandle<()>>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

fn threads(count: u32, flood: impl Fn() + Clone + Send + 'static) -> Stop {
    let stop = Arc::new(AtomicBool::new(false));
    let all = (0..count).map(|_| {
        let (stop, flood) = (stop.clone(), flood.clone());
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                flood();
            }
        })
    });
    Stop(stop.clone(), all.collect())
}

#[test]
fn p29_r1_four_threads_that_wake_one_task_do_not_starve_an_interval() {
    let stop = Rc::new(RefCell::new(None));
    let keep = stop.clone();
    let most = most_late(|beat| async move {
        let (sent, waker) = std::sync::mpsc::channel();
        let mut sent = Some(sent);
        drop(runtime::spawn(poll_fn(move |cx| {
            beat.other();
            if let Some(sent) = sent.take() {
                sent.send(cx.waker().clone()).unwrap();
            }
            if beat.over.get() { Poll::Ready(()) } else { Poll::Pending }
        })));
        runtime::yield_now().await;
        let waker: Waker = waker.try_recv().unwrap();
        *keep.borrow_mut() = Some(threads(4, move || waker.wake_by_ref()));
    });
    drop(stop.take());
    assert!(most <= TURN_POLLS + 1, "{most}");
}

/// Each message starts a task, which is polled once.
#[test]
fn p29_r1_threads_that_spawn_do_not_starve_an_interval() {
    let runtime = Runtime::new().unwrap();
    let handle = runtime.handle().clone();
    let (begun, most) = (Arc::new(AtomicU32::new(0)), Rc::new(Cell::new(0)));
    let count = begun.clone();
    let in_flight = Arc::new(AtomicU32::new(0));
    let flood = threads(2, move || {
        // The memory of this test is bounded by the test.
        if in_flight.load(Ordering::Relaxed) < 20_000 {
            in_flight.fetch_add(1, Ordering::Relaxed);
            let (count, ended) = (count.clone(), in_flight.clone());
            let task = async move {
                count.fetch_add(1, Ordering::Relaxed);
                ended.fetch_sub(1, Ordering::Relaxed);
            };
            context::Context::root("p29 flood").scope(|| drop(handle.spawn(task)));
        }
    });
    let worst = most.clone();
    runtime.block_on(async move {
        for _ in 0..TICKS {
            let due = Instant::now() + PERIOD;
            // Polled once a turn at least, so it sees how many were begun when the timer was due.
            let (late, watch) = (Rc::new(Cell::new(None)), begun.clone());
            let seen = late.clone();
            let watcher = runtime::spawn(async move {
                while seen.get().is_none() {
                    if Instant::now() >= due + GRAIN {
                        seen.set(Some(watch.load(Ordering::Relaxed)));
                    }
                    runtime::yield_now().await;
                }
            });
            sleep_until(due).await;
            let begun = begun.load(Ordering::Relaxed);
            worst.set(worst.get().max(late.get().map_or(0, |then| begun - then)));
            watcher.abort();
        }
    });
    drop(flood);
    // A turn of messages and polls, and a round of what was ready then.
    assert!(most.get() <= 4 * TURN_POLLS, "{}", most.get());
}

/// A channel that is always full is always ready: its consumer has to spend budget.
#[test]
fn p29_r13_a_consumer_of_a_full_channel_that_spends_budget_does_not_starve_an_interval() {
    const BUDGET: u32 = 128;
    for with_budget_alone in [true, false] {
        let stop = Rc::new(RefCell::new(None));
        let keep = stop.clone();
        let most = most_late(|beat| async move {
            let (send, receive) = smol::channel::bounded(1024);
            let feed = send.clone();
            *keep.borrow_mut() = Some(threads(1, move || {
                let _ = feed.try_send(());
            }));
            drop(runtime::spawn(async move {
                let _send = send;
                while !beat.over.get() {
                    beat.other();
                    if with_budget_alone {
                        receive.recv().await.unwrap();
                        runtime::consume_budget().await;
                    } else {
                        receive.recv().cooperative().await.unwrap();
                    }
                }
            }));
        });
        drop(stop.take());
        assert!(most <= TURN_POLLS * BUDGET, "{most}");
    }
}
