//! `timeout` and `timeout_at`.

use super::*;

/// A5. Nothing before the deadline; at it the inner is dropped, and the error is that of a timeout.
#[test]
fn a05_timeout_drops_the_inner_at_the_deadline() {
    let trace = Trace::default();
    paused(async {
        let inner = Dropped(trace.clone());
        let mut limited = Box::pin(timeout(SECOND, async move {
            let _inner = inner;
            pending::<()>().await;
        }));
        assert!(poll_once(&mut limited).await.is_pending());
        advance(SECOND - MS).await;
        assert!(poll_once(&mut limited).await.is_pending());
        trace.expect(&[]);
        advance(MS).await;
        let Poll::Ready(Err(elapsed)) = poll_once(&mut limited).await else { panic!("no timeout") };
        trace.expect(&["dropped in main"]);
        assert_eq!(elapsed.to_string(), "deadline has elapsed");
        assert_eq!(std::io::Error::from(elapsed).kind(), std::io::ErrorKind::TimedOut);
        assert_eq!(poll_once(&mut limited).await, Poll::Ready(Err(elapsed)));
    });
    trace.expect(&["dropped in main"]);
}

/// A6. Also when the inner's destructor panics, which is reported with the place of the timeout.
#[test]
fn a06_timeout_also_when_the_drop_panics() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a06 bomb");
        }
    }
    let line = paused(async {
        let bomb = Bomb;
        let limited = timeout(SECOND, async move {
            let _bomb = bomb;
            pending::<()>().await;
        });
        let line = line!() - 4;
        assert!(limited.await.is_err());
        line
    });
    let reports = sentinel::reports();
    let report = reports.iter().find(|report| report.detail == "a06 bomb").expect("not reported");
    assert_eq!((report.kind, report.place.line()), (ReportKind::UnhandledPanic, line));
    assert!(report.context.starts_with("main#"), "{}", report.context);
}

/// A7, A8. A timeout that fires leaves the caller's context as it was, and no context leaks into the loop.
#[test]
fn a07_a08_timeouts_leave_contexts_alone() {
    paused(async {
        let (one, trace) = (Context::root("one"), Trace::default());
        let task = {
            let (one, trace) = (one.clone(), trace.clone());
            spawn_in(&one.clone(), async move {
                let inner = Dropped(trace.clone());
                let result = timeout(SECOND, async move {
                    let _inner = inner;
                    sleep(SECOND * 2).await;
                })
                .await;
                assert!(result.is_err());
                assert_eq!(Context::current(), one);
                sleep(SECOND).await;
                assert_eq!(Context::current(), one);
                trace.say("done");
            })
        };
        sleep(SECOND * 5).await;
        assert_eq!(Context::current().class(), "main");
        task.await.unwrap();
        trace.expect(&["dropped in one", "done"]);
    });
    assert!(Context::current().is_sentinel());
}

#[test]
fn a_future_that_is_ready_wins_over_the_deadline() {
    paused(async {
        let mut done = pin!(timeout(SECOND, std::future::ready(1)));
        advance(SECOND * 2).await;
        assert_eq!(done.as_mut().await, Ok(1));
        assert_eq!(timeout(Duration::ZERO, async { 2 }).await, Ok(2));
        assert_eq!(timeout_at(Instant::now() - SECOND, async { 3 }).await, Ok(3));
        assert!(timeout_at(Instant::now(), pending::<()>()).await.is_err());
        assert_eq!(timeout(Duration::MAX, sleep(SECOND)).await, Ok(()));
    });
}

/// A future that uses up the budget of every poll, and asks for more.
#[test]
fn a_greedy_future_times_out_too() {
    Runtime::new().unwrap().block_on(async {
        let greedy = poll_fn(|cx| {
            while sleep_until(Instant::now()).poll_ready(cx) {}
            Poll::<()>::Pending
        });
        assert!(timeout(MS, greedy).await.is_err());
    });
}

impl Sleep {
    fn poll_ready(mut self, cx: &mut task::Context<'_>) -> bool {
        Pin::new(&mut self).poll(cx).is_ready()
    }
}
