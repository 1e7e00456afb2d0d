//! On paused time, so that the outcomes are exact; where real time is the subject, only lower bounds are.

mod intervals;
mod timeouts;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll, Wake, Waker};

use context::{Context, ReportKind, sentinel};

use super::*;
use crate::{Runtime, current, spawn, spawn_in};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn paused<F: Future>(future: F) -> F::Output {
    Runtime::builder().paused(true).build().unwrap().block_on(future)
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Trace(Rc<RefCell<Vec<String>>>);

impl Trace {
    fn say(&self, what: impl ToString) {
        self.0.borrow_mut().push(what.to_string());
    }

    #[track_caller]
    fn expect(&self, expected: &[&str]) {
        assert_eq!(*self.0.borrow(), expected);
    }
}

/// Says so when it is dropped, and in which context.
struct Dropped(Trace);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.say(format!("dropped in {}", Context::current().class()));
    }
}

fn pending_timers() -> usize {
    current::with(|core| core.unwrap().timers.borrow().len())
}

async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

#[track_caller]
fn panic_text(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("it did not panic");
    context::panic_message(&*panic).to_owned()
}

#[test]
fn handles_go_anywhere() {
    fn check<T: Send + Sync + Unpin>() {}
    check::<Sleep>();
    check::<Interval>();
    check::<Timeout<std::future::Ready<()>>>();
    check::<Instant>();
}

#[test]
fn sleepers_wake_by_deadline_and_then_in_order() {
    let trace = Trace::default();
    paused(async {
        let start = Instant::now();
        let sleeper = |name: &'static str, ms: u32| {
            let trace = trace.clone();
            spawn(async move {
                sleep(MS * ms).await;
                trace.say(format!("{name} {}", start.elapsed().as_millis()));
            })
        };
        let all = [sleeper("a", 30), sleeper("b", 10), sleeper("c", 20), sleeper("d", 10), sleeper("e", 0)];
        for one in all {
            one.await.unwrap();
        }
    });
    trace.expect(&["e 0", "b 10", "d 10", "c 20", "a 30"]);
}

#[test]
fn never_early_also_in_real_time() {
    Runtime::new().unwrap().block_on(async {
        for us in [0, 1, 50, 500, 2000] {
            let (start, wait) = (std::time::Instant::now(), Duration::from_micros(us));
            sleep(wait).await;
            assert!(start.elapsed() >= wait, "{us} us");
        }
    });
}

#[test]
fn years_pass_in_no_time() {
    paused(async {
        let (start, year) = (Instant::now(), SECOND * 31_557_600);
        sleep(year * 3).await;
        assert_eq!(start.elapsed(), year * 3);
    });
}

/// Paused time knows no ticks of the timers: it jumps to the very deadline.
#[test]
fn paused_time_is_exact() {
    paused(async {
        let start = Instant::now();
        for ns in [1, 999, 65_535, 65_536, 65_537, 1_000_000, 1_000_000_007] {
            let (before, wait) = (Instant::now(), Duration::from_nanos(ns));
            sleep(wait).await;
            assert_eq!(before.elapsed(), wait);
            let mut nap = sleep(wait);
            assert!(poll_once(&mut nap).await.is_pending());
            advance(wait - Duration::from_nanos(1)).await;
            assert!(poll_once(&mut nap).await.is_pending());
            advance(Duration::from_nanos(1)).await;
            assert!(poll_once(&mut nap).await.is_ready());
        }
        assert_eq!(start.elapsed(), Duration::from_nanos(2 * (1 + 999 + 65_535 * 3 + 3 + 1_001_000_007)));
    });
}

/// A sleep that is dropped is kept for the next one of its task, but not for longer than the turn.
#[test]
fn a_sleep_that_was_dropped_wakes_nobody() {
    // Tracked wakers are not kept.
    let rt = Runtime::builder().paused(true).track_wakers(false).build().unwrap();
    rt.block_on(async {
        let start = Instant::now();
        for (dropped, next) in [(SECOND, SECOND * 5), (SECOND * 5, SECOND)] {
            let mut nap = sleep(dropped);
            assert!(poll_once(&mut nap).await.is_pending());
            drop(nap);
            let (mut nap, mut polls) = (sleep(next), 0);
            let counted = poll_fn(|cx| {
                polls += 1;
                Pin::new(&mut nap).poll(cx)
            });
            counted.await;
            assert_eq!((polls, pending_timers()), (2, 0));
            // And with nobody who takes it over.
            let mut nap = sleep(SECOND);
            assert!(poll_once(&mut nap).await.is_pending());
            drop(nap);
            spawn(sleep(SECOND * 3)).await.unwrap();
        }
        assert_eq!(start.elapsed(), SECOND * 12);
    });
}

#[test]
fn no_duration_is_too_long() {
    paused(async {
        for duration in [Duration::MAX, Duration::from_nanos(u64::MAX), Duration::from_secs(u64::MAX)] {
            let mut sleep = sleep(duration);
            assert!(poll_once(&mut sleep).await.is_pending());
            assert!(sleep.deadline() > Instant::now() + SECOND * 1_000_000);
        }
    });
}

#[test]
fn a_sleep_knows_whether_it_has_elapsed() {
    paused(async {
        let mut nap = sleep(MS);
        assert!(!nap.is_elapsed());
        assert!(poll_once(&mut nap).await.is_pending());
        assert!(!nap.is_elapsed());
        advance(MS * 2).await;
        assert!(nap.is_elapsed() && format!("{nap:?}").contains("elapsed: true"));
        assert!(poll_once(&mut nap).await.is_ready() && poll_once(&mut nap).await.is_ready());
        assert_eq!(pending_timers(), 0);
    });
}

#[test]
fn only_polled_sleeps_are_registered_and_only_until_dropped() {
    paused(async {
        let mut sleeps: Vec<Sleep> = (0..10_000).map(|n| sleep(MS * n + MS)).collect();
        assert_eq!(pending_timers(), 0);
        for sleep in &mut sleeps {
            assert!(poll_once(sleep).await.is_pending());
        }
        assert_eq!(pending_timers(), 10_000);
        sleeps.truncate(5000);
        assert_eq!(pending_timers(), 5000);
        drop(sleeps);
        assert_eq!(pending_timers(), 0);
    });
}

#[test]
fn ten_thousand_sleepers_all_wake() {
    paused(async {
        let (start, woken) = (Instant::now(), Rc::new(Cell::new(0)));
        for n in 0..10_000_u32 {
            let woken = woken.clone();
            drop(spawn(async move {
                let wait = Duration::from_micros(u64::from(n * 7919 % 1_000_000));
                sleep(wait).await;
                assert!(start.elapsed() >= wait);
                woken.set(woken.get() + 1);
            }));
        }
        sleep(SECOND * 2).await;
        assert_eq!((woken.get(), pending_timers()), (10_000, 0));
    });
}

/// Waiting must be free of budget: else the first 128 of these would use it up at every poll, and the task would spin.
#[test]
fn a_task_with_a_thousand_sleeps_does_not_spin() {
    let polls = Cell::new(0);
    paused(async {
        let mut sleeps: Vec<Sleep> = (1..=1000).map(|_| sleep(SECOND)).collect();
        poll_fn(|cx| {
            polls.set(polls.get() + 1);
            sleeps.retain_mut(|sleep| Pin::new(sleep).poll(cx).is_pending());
            if sleeps.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    });
    // One to begin with, and one for each 128 that are ready.
    assert!(polls.get() <= 10, "{}", polls.get());
}

#[test]
fn reset_moves_the_deadline_of_a_waiting_task() {
    for (to, expected) in [(1, 1), (100, 100)] {
        paused(async {
            let start = Instant::now();
            let nap = Rc::new(RefCell::new(sleep(MS * 50)));
            let sleeper = {
                let nap = nap.clone();
                spawn(async move {
                    poll_fn(|cx| Pin::new(&mut *nap.borrow_mut()).poll(cx)).await;
                    start.elapsed().as_millis()
                })
            };
            crate::yield_now().await;
            nap.borrow_mut().reset(start + MS * to);
            assert_eq!(sleeper.await.unwrap(), expected);
        });
    }
}

#[test]
fn reset_begins_anew_after_the_end() {
    paused(async {
        let mut nap = sleep(MS);
        poll_fn(|cx| Pin::new(&mut nap).poll(cx)).await;
        nap.reset(Instant::now() + SECOND);
        assert!(!nap.is_elapsed() && poll_once(&mut nap).await.is_pending());
        let start = Instant::now();
        nap.await;
        assert!(start.elapsed() >= SECOND);
    });
}

/// As a timeout per request does.
#[test]
fn p13_a_deadline_that_is_moved_again_and_again_is_one_timer_and_ends_on_time() {
    paused(async {
        let start = Instant::now();
        let mut nap = sleep(SECOND);
        assert!(poll_once(&mut nap).await.is_pending());
        for request in 1..=100 {
            advance(MS * 900).await;
            nap.reset(Instant::now() + SECOND);
            assert!(poll_once(&mut nap).await.is_pending(), "request {request}");
            assert_eq!(pending_timers(), 1);
        }
        nap.await;
        assert_eq!((start.elapsed(), pending_timers()), (MS * 91_000, 0));
    });
}

#[test]
fn the_last_task_that_polled_is_woken() {
    paused(async {
        let mut nap = sleep(SECOND);
        assert!(poll_once(&mut nap).await.is_pending());
        spawn(nap).await.unwrap();
    });
}

#[test]
fn a_sleep_dropped_on_another_thread_is_cancelled_at_home() {
    paused(async {
        let mut naps = [sleep(SECOND), sleep(SECOND)];
        for nap in &mut naps {
            assert!(poll_once(nap).await.is_pending());
        }
        let [dropped, mut reset] = naps;
        assert_eq!(pending_timers(), 2);
        let reset = std::thread::spawn(move || {
            drop(dropped);
            assert!(!reset.is_elapsed());
            reset.reset(Instant::now());
            reset
        });
        let reset = reset.join().unwrap();
        // The messages are there; the loop reads them after some polls.
        for _ in 0..1000 {
            crate::yield_now().await;
        }
        assert_eq!(pending_timers(), 0);
        reset.await;
    });
}

#[test]
fn a_sleep_outlives_its_runtime() {
    let mut nap = sleep(SECOND);
    paused(async { assert!(poll_once(&mut nap).await.is_pending()) });
    assert!(!nap.is_elapsed());
    drop(nap);
}

#[test]
fn polled_elsewhere_it_says_why_it_cannot() {
    let mut nap = sleep(SECOND);
    let mut poll = || {
        let _ = Pin::new(&mut nap).poll(&mut task::Context::from_waker(Waker::noop()));
    };
    assert_eq!(panic_text(&mut poll), "there is no runtime on this thread to sleep on");
    let home = Runtime::builder().paused(true).build().unwrap();
    home.block_on(async { poll() });
    let text = panic_text(|| paused(async { poll() }));
    assert_eq!(text, error_text());
    home.block_on(async { poll() });
}

fn error_text() -> String {
    crate::error::wrong_thread("a timer").to_string()
}

/// Trap 12: a waker whose drop drops another timer, and whose clone makes one.
#[test]
fn trap_12_wakers_may_use_the_timers() {
    struct Nosy(RefCell<Option<Sleep>>);
    // Only ever on one thread here.
    struct Shared(parking_lot::Mutex<Nosy>);
    impl Wake for Shared {
        fn wake(self: Arc<Self>) {
            self.0.lock().0.borrow_mut().take();
        }
    }
    paused(async {
        let nosy = || {
            let mut inner = sleep(SECOND);
            let _ = Pin::new(&mut inner).poll(&mut task::Context::from_waker(Waker::noop()));
            Waker::from(Arc::new(Shared(parking_lot::Mutex::new(Nosy(RefCell::new(Some(inner)))))))
        };
        let mut nap = sleep(MS);
        let poll = |nap: &mut Sleep, waker: &Waker| {
            Pin::new(nap).poll(&mut task::Context::from_waker(waker)).is_ready()
        };
        // Replaced: the first waker is dropped, and its inner sleep with it.
        assert!(!poll(&mut nap, &nosy()) && !poll(&mut nap, &nosy()));
        assert_eq!(pending_timers(), 2);
        drop(nap);
        assert_eq!(pending_timers(), 0);
        // Woken: the same from within the wake.
        let mut nap = sleep(MS);
        assert!(!poll(&mut nap, &nosy()));
        advance(MS * 2).await;
        assert_eq!(pending_timers(), 0);
        assert!(poll(&mut nap, Waker::noop()));
    });
}

/// L2. Two tasks in different contexts interleave over sleeps; each sees its own after every one.
#[test]
fn l02_interleaved_sleepers_keep_their_contexts() {
    let trace = Trace::default();
    paused(async {
        let competing = |name: &'static str| {
            let (context, trace) = (Context::root(name), trace.clone());
            spawn_in(&context.clone(), async move {
                for _ in 0..3 {
                    assert_eq!(Context::current(), context);
                    trace.say(name);
                    sleep(SECOND).await;
                }
                assert_eq!(Context::current(), context);
            })
        };
        let (one, two) = (competing("one"), competing("two"));
        one.await.unwrap();
        two.await.unwrap();
    });
    trace.expect(&["one", "two", "one", "two", "one", "two"]);
}

/// Trap 25: neither a timer that is set nor one that was made in a request keeps the request's context.
#[test]
fn trap_25_a_timer_holds_no_context() {
    paused(async {
        let request = Context::root("trap 25 timer");
        let id = request.id();
        let polled = spawn_in(&request, async {
            let mut nap = sleep(SECOND);
            assert!(poll_once(&mut nap).await.is_pending());
            nap.reset(Instant::now() + SECOND);
            (nap,)
        });
        let (mut nap,) = polled.await.unwrap();
        let alive = || context::live().iter().any(|snapshot| snapshot.id == id);
        assert!(alive());
        request.finish();
        drop(request);
        assert_eq!(pending_timers(), 1);
        assert!(!alive());
        assert!(poll_once(&mut nap).await.is_pending());
    });
}

/// An always ready timer lets others be.
#[test]
fn a_loop_of_ready_timers_yields() {
    paused(async {
        let stop = Rc::new(Cell::new(false));
        let other = {
            let stop = stop.clone();
            spawn(async move { stop.set(true) })
        };
        while !stop.get() {
            sleep(Duration::ZERO).await;
        }
        other.await.unwrap();
    });
}

#[test]
fn advance_wakes_in_order_and_lets_the_woken_run() {
    let trace = Trace::default();
    paused(async {
        for ms in [30, 10, 20, 50] {
            let trace = trace.clone();
            drop(spawn(async move {
                sleep(MS * ms).await;
                trace.say(ms);
            }));
        }
        crate::yield_now().await;
        trace.expect(&[]);
        advance(MS * 40).await;
        trace.expect(&["10", "20", "30"]);
        advance(MS * 5).await;
        trace.expect(&["10", "20", "30"]);
        advance(MS * 6).await;
        trace.expect(&["10", "20", "30", "50"]);
    });
}

#[test]
fn time_stands_still_only_when_paused() {
    Runtime::new().unwrap().block_on(async {
        pause();
        let start = Instant::now();
        while std::time::Instant::now() <= start.into_std() + MS {}
        assert_eq!(start.elapsed(), Duration::ZERO);
        advance(SECOND * 100).await;
        assert_eq!(start.elapsed(), SECOND * 100);
        resume();
        let resumed = Instant::now();
        assert!(resumed >= start + SECOND * 100);
        sleep(MS).await;
        assert!(resumed.elapsed() >= MS && resumed.elapsed() < SECOND * 60);
    });
}

#[test]
fn misuse_of_the_clock_is_said_plainly() {
    let no_runtime = "there is no runtime on this thread whose time could be paused";
    assert_eq!(panic_text(pause), no_runtime);
    assert_eq!(panic_text(resume), no_runtime);
    Runtime::new().unwrap().block_on(async {
        assert_eq!(panic_text(resume), "time is not paused, so it cannot be resumed");
        pause();
        assert_eq!(panic_text(pause), "time is paused already");
    });
    let rt = Runtime::new().unwrap();
    let text = panic_text(|| rt.block_on(advance(SECOND)));
    assert_eq!(text, "time is not paused: call `time::pause` before `time::advance`");
}
