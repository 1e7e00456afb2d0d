//! Work for nobody is not begun (P27): the queue of a pool.

use super::*;
use crate::pool::Withdraw;
use crate::time::advance;

/// A drop that can be seen.
struct Dropped(Trace, &'static str);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.push(self.1);
    }
}

/// A context that is cancelled in a moment, and what it has queued behind a busy connection.
fn queued_and_cancelled(reason: Reason, send: fn(&Pool<Paper>, Dropped) -> Interaction<(), Blot>) -> String {
    let trace = Trace::default();
    let request = Context::root("p27 queued");
    run(&Context::root("p27 main"), async {
        let pool = paper(&trace).build();
        let (busy, go_on) = occupy(&pool, "busy");
        let failed = trace.clone();
        let queued = request.scope(|| send(&pool, Dropped(trace.clone(), "dropped")));
        let queued = queued.call_on_error(move || failed.push("on-error"));
        assert_eq!(trace.take(), "open begin");
        request.cancel(reason);
        let result = if reason == Reason::Finished {
            go_on.send(()).unwrap();
            queued.await
        } else {
            // At once, while the connection is still busy.
            let result = queued.await;
            go_on.send(()).unwrap();
            result
        };
        busy.await.unwrap();
        match result {
            Ok(()) => assert_eq!(reason, Reason::Finished),
            Err(Error::Cancelled(cancelled)) => assert_eq!(cancelled.reason(), reason),
            Err(error) => panic!("{error}"),
        }
        pool.close().await;
    });
    assert_eq!(reports().iter().filter(|report| report.context == request.to_string()).count(), 0);
    trace.take()
}

fn interact(pool: &Pool<Paper>, dropped: Dropped) -> Interaction<(), Blot> {
    pool.interact("queued", move |tx| {
        let _held = &dropped;
        tx.trace.push("queued");
        Ok(())
    })
}

fn read(pool: &Pool<Paper>, dropped: Dropped) -> Interaction<(), Blot> {
    pool.read("queued", move |tx| {
        let _held = &dropped;
        tx.trace.push("queued");
        Ok(())
    })
}

fn lend(pool: &Pool<Paper>, dropped: Dropped) -> Interaction<(), Blot> {
    pool.with_connection("queued", move |paper| {
        let _held = &dropped;
        paper.trace.push("queued");
        Ok(())
    })
}

#[test]
fn p27_v4_a_queued_job_whose_context_is_cancelled_is_not_begun() {
    for send in [interact, read, lend] {
        for reason in [Reason::Disconnected, Reason::Shutdown, Reason::Sibling, Reason::Custom("enough")] {
            assert_eq!(
                queued_and_cancelled(reason, send),
                "dropped on-error busy commit after close",
                "{reason}"
            );
        }
    }
}

/// That its request has finished says nothing about work that it left behind.
#[test]
fn p27_a_queued_job_whose_context_has_finished_is_done() {
    let expected = [
        (interact as fn(&Pool<Paper>, Dropped) -> _, "busy commit after begin queued commit dropped close"),
        (read, "busy commit after begin-read queued commit dropped close"),
        (lend, "busy commit after queued dropped close"),
    ];
    for (send, trace) in expected {
        assert_eq!(queued_and_cancelled(Reason::Finished, send), trace);
    }
}

#[test]
fn p27_v4_a_queued_read_whose_future_is_dropped_is_not_begun_and_a_write_is() {
    let trace = Trace::default();
    run(&Context::root("p27 dropped"), async {
        let pool = paper(&trace).queue(1).build();
        let (busy, go_on) = occupy(&pool, "busy");
        let failed = trace.clone();
        let queued =
            read(&pool, Dropped(trace.clone(), "dropped")).call_on_error(move || failed.push("on-error"));
        assert!(matches!(read(&pool, Dropped(Trace::default(), "")).await, Err(Error::QueueFull)));
        assert_eq!(trace.take(), "open begin");
        drop(queued);
        assert_eq!(trace.take(), "dropped on-error", "at once");
        // Its place in the queue is free.
        drop(interact(&pool, Dropped(trace.clone(), "dropped")));
        go_on.send(()).unwrap();
        busy.await.unwrap();
        pool.close().await;
    });
    assert_eq!(trace.take(), "busy commit after begin queued commit dropped close");
}

fn clean_up(tx: &mut Transaction<'_, Paper>) -> Result<(), Blot> {
    tx.trace.push("clean-up");
    Ok(())
}

/// Nobody awaits it, so it is found when its turn comes.
#[test]
fn p27_a_detached_write_is_not_begun_either_if_its_context_was_cancelled() {
    let trace = Trace::default();
    let request = Context::root("p27 detached");
    run(&Context::root("p27 main"), async {
        let pool = paper(&trace).build();
        let (busy, go_on) = occupy(&pool, "busy");
        request.scope(|| drop(interact(&pool, Dropped(trace.clone(), "dropped"))));
        request.cancel(Reason::Disconnected);
        // What is sent after that is sent on purpose; but a read is for its caller.
        request.scope(|| drop(pool.interact("clean up", clean_up)));
        let refused = request.scope(|| read(&pool, Dropped(trace.clone(), "refused")));
        assert!(matches!(refused.await, Err(Error::Cancelled(_))));
        go_on.send(()).unwrap();
        busy.await.unwrap();
        pool.close().await;
    });
    assert_eq!(trace.take(), "open begin refused busy commit after dropped begin clean-up commit close");
}

#[test]
fn p27_a_deadline_reaches_what_waits_in_the_queue() {
    let trace = Trace::default();
    Runtime::builder().paused(true).build().unwrap().block_on(async {
        let pool = paper(&trace).build();
        let (busy, go_on) = occupy(&pool, "busy");
        let hasty = Context::builder("p27 hasty").timeout(MILLI).build();
        let queued = hasty.scope(|| read(&pool, Dropped(trace.clone(), "dropped")));
        let waiting = spawn(queued);
        crate::yield_now().await;
        advance(2 * MILLI).await;
        assert!(
            matches!(waiting.await.unwrap(), Err(Error::Cancelled(why)) if why.reason() == Reason::Deadline)
        );
        go_on.send(()).unwrap();
        busy.await.unwrap();
        pool.close().await;
    });
    assert_eq!(trace.take(), "open begin dropped busy commit after close");
}

#[test]
fn p27_what_waits_for_too_long_is_not_begun() {
    let trace = Trace::default();
    let age = Duration::from_secs(1);
    Runtime::builder().paused(true).build().unwrap().block_on(async {
        let pool = paper(&trace).queue_timeout(age).build();
        let (busy, go_on) = occupy(&pool, "busy");
        let failed = trace.clone();
        let late =
            interact(&pool, Dropped(trace.clone(), "late")).call_on_error(move || failed.push("on-error"));
        let late = spawn(late);
        crate::yield_now().await;
        advance(age / 2).await;
        let early = spawn(interact(&pool, Dropped(trace.clone(), "early")));
        crate::yield_now().await;
        advance(age / 2).await;
        let error = late.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::QueueTimeout(waited) if waited == age), "{error}");
        assert_eq!(error.to_string(), "no connection of the database pool was free for 1s");
        go_on.send(()).unwrap();
        early.await.unwrap().unwrap();
        busy.await.unwrap();
        pool.close().await;
    });
    assert_eq!(trace.take(), "open begin late on-error busy commit after begin queued commit early close");
}

/// Without a runtime there is no timer: it is found when its turn comes.
#[test]
fn p27_what_waited_for_too_long_is_found_when_its_turn_comes() {
    let trace = Trace::default();
    let pool = paper(&trace).queue_timeout(Duration::ZERO).build();
    let (begun, has_begun) = mpsc::channel();
    let first = Context::root("p27 age").scope(|| {
        pool.interact("first", move |_| {
            let _ = begun.send(());
            Ok(())
        })
    });
    assert!(has_begun.recv().is_err(), "its age is more than nothing");
    assert!(matches!(run(&Context::root("p27 main"), first), Err(Error::QueueTimeout(_))));
}

/// A job of the blocking pool: not begun if its context was cancelled while it waited, detached if its handle is dropped.
#[test]
fn p27_a_queued_blocking_job_whose_context_is_cancelled_is_not_begun() {
    for reason in [Reason::Disconnected, Reason::Finished] {
        let trace = Trace::default();
        let (request, rt) =
            (Context::root("p27 job"), Runtime::builder().blocking_threads(1).build().unwrap());
        rt.block_on(async {
            let (begun, has_begun) = mpsc::channel();
            let (go_on, goes_on) = mpsc::channel::<()>();
            let busy = crate::spawn_blocking(move || {
                begun.send(()).unwrap();
                let _ = goes_on.recv();
            });
            has_begun.recv().unwrap();
            let job = |event| {
                let trace = trace.clone();
                request.scope(|| crate::spawn_blocking(move || trace.push(event)))
            };
            let (awaited, detached) = (job("awaited"), job("detached"));
            drop(detached);
            request.cancel(reason);
            let sent_later = job("clean-up");
            go_on.send(()).unwrap();
            busy.await.unwrap();
            sent_later.await.unwrap();
            assert_eq!(
                awaited.await.err().and_then(|error| error.reason()).is_some(),
                reason != Reason::Finished
            );
        });
        let expected = if reason == Reason::Finished { "awaited detached clean-up" } else { "clean-up" };
        assert_eq!(trace.take(), expected);
    }
}

#[test]
fn p27_what_was_begun_cannot_be_withdrawn() {
    run(&Context::root("p27 withdraw"), async {
        let pool = paper(&Trace::default()).build();
        let queue: Arc<dyn Withdraw> = pool.inner.threads.queue();
        let (busy, go_on) = occupy(&pool, "busy");
        assert!(!queue.withdraw(u64::MAX));
        go_on.send(()).unwrap();
        busy.await.unwrap();
    });
}
