//! A12 to A19, A25: the stop wrapper (`detach`), the delay wrapper (`shield`), and gather (`TaskGroup`).

use crate::books::current_class;
use crate::promise::Promise;
use crate::trace::Trace;
use context::{Context, FutureExt, Reason};
use runtime::{TaskGroup, detach, shield, yield_now};

type Answer = Result<u32, &'static str>;

/// Lets everything that is ready run.
async fn settle() {
    for _ in 0..8 {
        yield_now().await;
    }
}

async fn later(answer: Answer) -> Answer {
    yield_now().await;
    answer
}

#[runtime::test]
async fn a12_a_stop_wrapper_passes_value_and_error_through() {
    let request = Context::root("a12 request");
    let handler = async {
        for answer in [Ok(1), Err("mine")] {
            assert_eq!(detach("a12 work", later(answer)).await, answer);
            assert_eq!(detach("a12 work", async move { answer }).await, answer, "without a suspension");
            assert_eq!(detach("a12 work", later(answer)).cancellable().await, Ok(answer));
            assert_eq!(current_class(), "a12 request");
        }
    };
    request.run(handler).await;
}

#[runtime::test]
async fn a13_a_delay_wrapper_passes_value_and_error_through() {
    let request = Context::root("a13 request");
    let handler = async {
        for answer in [Ok(1), Err("mine")] {
            assert_eq!(shield(later(answer)).await, answer);
            assert_eq!(shield(async move { answer }).await, answer, "without a suspension");
            assert_eq!(shield(later(answer)).cancellable().await, Ok(answer));
            assert_eq!(current_class(), "a13 request");
        }
    };
    request.run(handler).await;
}

#[runtime::test]
async fn a16_a_cancellation_is_not_propagated_into_delayed_work() {
    let (request, trace) = (Context::root("a16 request"), Trace::new());
    let (first, second) = (Promise::new(), Promise::new());
    let (own, noted, steps) = (trace.clone(), trace.on_drop("work"), [first.clone(), second.clone()]);
    let work = async move {
        let _noted = noted;
        for (step, promise) in steps.into_iter().enumerate() {
            promise.await;
            own.note(step);
        }
    };
    let handler = runtime::spawn_in(&request, async move { shield(work).cancellable().await });
    settle().await;
    request.cancel(Reason::Disconnected);
    settle().await;
    assert!(!handler.is_finished(), "the outer is pending");
    trace.expect(&[]);
    first.complete(());
    settle().await;
    assert!(!handler.is_finished());
    trace.expect(&["0 @ a16 request"]);
    second.complete(());
    assert_eq!(handler.await.unwrap().unwrap_err().reason(), Reason::Disconnected);
    trace.expect(&["1 @ a16 request", "drop work @ a16 request"]);
}

#[runtime::test]
async fn a16_nor_is_the_abort_of_the_task_that_waits() {
    let (request, trace, promise) = (Context::root("a16 abort"), Trace::new(), Promise::new());
    let (own, wait, noted) = (trace.clone(), promise.clone(), trace.on_drop("handler"));
    let handler = runtime::spawn_in(&request, async move {
        let _noted = noted;
        shield(async move {
            wait.await;
            own.note("done");
        })
        .await;
    });
    settle().await;
    handler.abort();
    assert!(handler.await.unwrap_err().is_cancelled());
    trace.expect(&["drop handler @ a16 abort"]);
    promise.complete(());
    settle().await;
    trace.expect(&["done @ a16 abort"]);
}

/// The work hears of a cancellation that is not the waiter's: it is a result like any other.
#[runtime::test]
async fn a18_the_cancelled_error_of_the_work_itself_passes_unchanged() {
    let other = Context::root("a18 other");
    other.cancel(Reason::Sibling);
    let expected = other.check().unwrap_err();
    let request = Context::root("a18 request");
    let handler = async {
        let inner = other.clone();
        let delayed = shield(async move {
            yield_now().await;
            inner.check()
        });
        // The outer `Ok` says that it is not the waiter who was cancelled.
        assert_eq!(delayed.cancellable().await, Ok(Err(expected)));
        let inner = other.clone();
        let stopped = detach("a18 work", async move {
            yield_now().await;
            inner.check()
        });
        assert_eq!(stopped.await, Err(expected));
    };
    request.run(handler).await;
    assert_eq!(request.cancel_reason(), None);
}

#[runtime::test]
async fn a19_the_delayed_cancelled_error_arrives_in_the_context_that_awaits() {
    let (request, part) = (Context::root("a19 request"), Context::root("a19 part"));
    let (promise, trace) = (Promise::new(), Trace::new());
    let (wait, own, inner) = (promise.clone(), trace.clone(), trace.clone());
    let handler = runtime::spawn_in(&request, async move {
        let work = async move {
            wait.await;
            inner.note("work");
        };
        let delayed = shield(work.in_context(Context::root("a19 work")));
        let waits = async {
            let error = delayed.cancellable().await.unwrap_err();
            own.note(error.reason());
        };
        waits.in_context(part).await;
        own.note("handler");
    });
    settle().await;
    Context::root("a19 canceller").scope(|| request.cancel(Reason::Disconnected));
    Context::root("a19 completer").scope(|| promise.complete(()));
    handler.await.unwrap();
    trace.expect(&["work @ a19 work", "client disconnected @ a19 part", "handler @ a19 request"]);
}

#[runtime::test]
async fn a25_gather_has_no_result_until_all_are_there_and_keeps_the_order() {
    let request = Context::root("a25 request");
    let promises = [(); 3].map(|()| Promise::new());
    let waits = promises.clone();
    let gather = runtime::spawn_in(&request, async move {
        let mut group = TaskGroup::new("a25 group");
        for wait in waits {
            group.spawn(async move { Ok::<_, &str>((wait.await, current_class())) });
        }
        (group.join().await, current_class())
    });
    for last_first in (0..3).rev() {
        settle().await;
        assert!(!gather.is_finished(), "{last_first} is still to come");
        promises[last_first].complete(last_first);
    }
    let expected = [0, 1, 2].map(|n| (n, "a25 group")).to_vec();
    assert_eq!(gather.await.unwrap(), (Ok(expected), "a25 request"));
}
