//! P13: a deadline that has passed is the reason, whoever asks and whenever; and one time for a runtime and its pools.

use crate::promise::cut;
use context::{Context, FutureExt, Reason};
use runtime::time::{Instant, advance, sleep};
use runtime::{Runtime, yield_now};
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn on_paused_time<F: Future>(future: F) -> F::Output {
    Runtime::builder().paused(true).build().unwrap().block_on(future)
}

fn with_deadline(class: &str, parent: &Context) -> Context {
    Context::builder(class).parent(parent).timeout(SECOND).build()
}

fn cut_by_deadline(class: &str) -> u64 {
    let classes = context::classes();
    let class = classes.iter().find(|usage| usage.class == class).expect("the class was used");
    class.cancelled.iter().filter(|cut| cut.reason == Reason::Deadline).map(|cut| cut.contexts).sum()
}

#[test]
fn p13_b14_a_deadline_that_nobody_asked_about_is_the_reason() {
    on_paused_time(async {
        let sentinel = Context::sentinel();
        let [asked, cancelled, checked] =
            ["b14 asked", "b14 cancelled", "b14 checked"].map(|class| with_deadline(class, &sentinel));
        assert_eq!(asked.cancel_reason(), None);
        advance(SECOND).await;
        assert_eq!(asked.cancel_reason(), Some(Reason::Deadline));
        assert!(!cancelled.cancel(Reason::Disconnected), "the deadline was first");
        assert_eq!(cancelled.cancel_reason(), Some(Reason::Deadline));
        assert_eq!(checked.check().unwrap_err().reason(), Reason::Deadline);
    });
}

#[test]
fn p13_b14_a_class_counts_what_finished_after_its_deadline_and_nothing_else() {
    on_paused_time(async {
        let sentinel = Context::sentinel();
        let ends: [fn(Context); 2] = [|context| _ = context.finish(), drop];
        for end in ends {
            let late = with_deadline("b14 late", &sentinel);
            let part = late.child("b14 late part");
            advance(SECOND).await;
            end(part);
            end(late);
            let early = with_deadline("b14 early", &sentinel);
            let handle = early.clone();
            end(early);
            let _ = handle.finish();
            // It was in time, however late somebody asks.
            advance(SECOND).await;
            assert_eq!(handle.cancel_reason(), None);
        }
        let late = with_deadline("b14 late", &sentinel);
        late.run(sleep(2 * SECOND)).await;
        assert_eq!(late.cancel_reason(), Some(Reason::Deadline));
        drop(late);
    });
    assert_eq!(["b14 late", "b14 late part", "b14 early"].map(cut_by_deadline), [3, 2, 0]);
}

/// The mutant: only the context that asked is cancelled.
#[test]
fn p13_b14_a_deadline_cancels_everything_below_the_context_that_has_it_and_nothing_above() {
    on_paused_time(async {
        let request = Context::root("b14 request");
        let timed = with_deadline("b14 timed", &request);
        let (asker, other) = (timed.child("b14 asker").child("b14 leaf"), timed.child("b14 other"));
        let waits = runtime::spawn_in(&other, pending::<()>().cancellable());
        yield_now().await;
        advance(SECOND).await;
        assert!(asker.check().is_err());
        assert_eq!(waits.await.unwrap().unwrap_err().reason(), Reason::Deadline);
        let reasons = [&timed, &asker, &other, &request].map(Context::cancel_reason);
        assert_eq!(reasons, [Some(Reason::Deadline), Some(Reason::Deadline), Some(Reason::Deadline), None]);
    });
}

#[test]
fn p13_b14_a_cancel_from_above_does_not_hide_a_deadline_that_has_passed_below() {
    on_paused_time(async {
        let request = Context::root("b14 above");
        let (timed, free) = (with_deadline("b14 timed", &request), request.child("b14 free"));
        let below = timed.child("b14 below");
        let later = Context::builder("b14 later").parent(&request).timeout(5 * SECOND).build();
        advance(SECOND).await;
        assert!(request.cancel(Reason::Shutdown));
        let reasons = [&timed, &below, &free, &later].map(|context| context.check().unwrap_err().reason());
        assert_eq!(reasons, [Reason::Deadline, Reason::Deadline, Reason::Shutdown, Reason::Shutdown]);
    });
}

/// In the square of the depth this would take a minute.
#[test]
fn p13_b13_a_deadline_is_noticed_in_time_that_grows_with_the_depth() {
    let root = Context::builder("b13 root").timeout(Duration::ZERO).build();
    let mut leaf = root.clone();
    for _ in 0..50_000 {
        leaf = leaf.child("b13 level");
    }
    assert_eq!(leaf.check().unwrap_err().reason(), Reason::Deadline);
    assert_eq!(root.cancel_reason(), Some(Reason::Deadline));
}

#[test]
fn p13_b17_paused_time_is_that_of_the_pool_threads_too() {
    on_paused_time(async {
        let request = with_deadline("b17 request", &Context::sentinel());
        let there = request.clone();
        let check = move || there.check().map_err(|cancelled| cancelled.reason());
        let on_pool = request.scope(|| runtime::spawn_blocking(check.clone()));
        assert_eq!(on_pool.await.unwrap(), Ok(()));
        let make = || (Instant::now(), with_deadline("b17 made there", &Context::sentinel()));
        advance(60 * SECOND).await;
        let on_pool = request.scope(|| runtime::spawn_blocking(check));
        let (now, made) = request.scope(|| runtime::spawn_blocking(make)).await.unwrap();
        assert_eq!(on_pool.await.unwrap(), Err(Reason::Deadline));
        assert_eq!(now, Instant::now());
        assert_eq!(made.check(), Ok(()));
        advance(SECOND).await;
        assert_eq!(made.check().unwrap_err().reason(), Reason::Deadline);
    });
}

/// By the clock of the runtime where it was set: also on a thread that has nothing to do with it.
#[test]
fn p13_b17_a_deadline_passes_for_every_thread_at_once() {
    on_paused_time(async {
        let request = with_deadline("b17 anywhere", &Context::sentinel());
        let elsewhere = |request: &Context| {
            let request = request.clone();
            thread::spawn(move || request.cancel_reason()).join().unwrap()
        };
        assert_eq!(elsewhere(&request), None);
        advance(SECOND).await;
        assert_eq!(elsewhere(&request), Some(Reason::Deadline));
    });
}

async fn poll_once<F: Future + Unpin>(future: &mut F) -> bool {
    poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_ready())).await
}

#[test]
fn p13_b17_a_wait_that_moves_to_another_runtime_is_woken_there() {
    let first = Runtime::builder().paused(true).build().unwrap();
    let request = first.block_on(async { with_deadline("b17 moves", &Context::sentinel()) });
    let mut wait = Box::pin(request.cancelled());
    assert!(!first.block_on(poll_once(&mut wait)));
    // Its clock stands still, so a wait on another runtime looks from time to time.
    let handle = first.handle().clone();
    let moved = thread::spawn(move || {
        Runtime::builder().paused(true).build().unwrap().block_on(async {
            assert!(!poll_once(&mut wait).await);
            drop(handle.spawn(async { advance(SECOND).await }));
            wait.await.reason()
        })
    });
    let reason = first.block_on(async {
        while request.cancel_reason().is_none() {
            yield_now().await;
        }
        request.cancel_reason()
    });
    assert_eq!((reason, moved.join().unwrap()), (Some(Reason::Deadline), Reason::Deadline));
}

#[test]
fn p13_b17_a_wait_for_a_deadline_of_no_runtime_goes_by_the_runtime_that_polls_it() {
    let request = Context::builder("b17 plain").timeout(SECOND).build();
    let mut wait = Box::pin(request.cancelled());
    for _ in 0..2 {
        assert!(!on_paused_time(poll_once(&mut wait)));
    }
    assert_eq!(on_paused_time(wait).reason(), Reason::Deadline);
}

#[test]
fn p13_b17_a_wait_is_over_when_it_was_cut() {
    on_paused_time(async {
        let request = with_deadline("b17 cut", &Context::sentinel());
        let begun = Instant::now();
        assert!(cut(request.cancelled(), 1).await.is_none());
        sleep(2 * SECOND).await;
        assert_eq!(begun.elapsed(), 2 * SECOND);
    });
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Without a timer nobody else tells them: whoever asks a part first tells all that wait, above and beside it.
#[test]
fn p13_b14_a_deadline_that_one_part_notices_wakes_those_that_wait_for_the_whole_and_for_other_parts() {
    loop {
        let deadline = std::time::Instant::now() + Duration::from_millis(20);
        let whole = Context::builder("b14 whole").deadline(deadline).build();
        let (asked, other) = (whole.child("b14 asked"), whole.child("b14 other"));
        let woken = [Arc::new(Woken::default()), Arc::new(Woken::default())];
        let mut waits = [whole.cancelled(), other.cancelled()];
        let pending = waits.iter_mut().zip(&woken).all(|(wait, woken)| {
            let waker = Waker::from(woken.clone());
            Pin::new(wait).poll(&mut std::task::Context::from_waker(&waker)).is_pending()
        });
        if !pending {
            // The machine was too slow for this deadline: with another one.
            continue;
        }
        while std::time::Instant::now() < deadline {
            std::hint::spin_loop();
        }
        assert_eq!(asked.check().unwrap_err().reason(), Reason::Deadline);
        assert_eq!(woken.map(|woken| woken.0.load(Relaxed)), [1, 1]);
        return;
    }
}
