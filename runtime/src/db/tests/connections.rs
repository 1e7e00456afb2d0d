//! Connections: opened, greeted, replaced, closed.

use super::*;

#[test]
fn p11_a_connection_in_the_middle_of_something_is_replaced() {
    let trace = Trace::default();
    run(&Context::root("p11 unclean"), async {
        let pool = paper(&trace).build();
        let error = pool.interact("break", |tx| -> Result<(), Blot> {
            tx.is_clean = false;
            panic!("in the middle")
        });
        error.await.unwrap_err();
        pool.interact("next", |_| Ok(())).await.unwrap();
        pool.with_connection("break", |paper| {
            paper.is_clean = false;
            Ok(())
        })
        .await
        .unwrap();
        pool.close().await;
    });
    assert_eq!(trace.take(), "open begin roll-back close open begin commit close");
}

#[test]
fn p11_close_ends_what_was_accepted_and_refuses_the_rest() {
    let trace = Trace::default();
    run(&Context::root("p11 close"), async {
        let pool = paper(&trace).build();
        let (running, go_on) = occupy(&pool, "first");
        let queued = pool.interact("second", |tx| {
            tx.trace.push("second");
            Ok(())
        });
        let closed = pool.close();
        assert!(matches!(pool.interact("third", |_| Ok(())).await, Err(Error::Closed)));
        go_on.send(()).unwrap();
        closed.await;
        assert_eq!(trace.take(), "open begin first commit after begin second commit close");
        running.await.unwrap();
        queued.await.unwrap();
        pool.close().await;
    });
}

#[test]
fn p11_the_last_pool_to_be_dropped_closes_the_connections() {
    let trace = Trace::default();
    run(&Context::root("p11 drop"), async {
        let pool = paper(&trace).build();
        let clone = pool.clone();
        let (running, go_on) = occupy(&pool, "work");
        drop(pool);
        go_on.send(()).unwrap();
        drop(clone);
        assert_eq!(trace.take(), "open begin work commit after close");
        running.await.unwrap();
    });
    // Also on a thread of its own, which cannot wait for itself.
    run(&Context::root("p11 drop"), async {
        let pool = paper(&trace).build();
        let threads = pool.clone();
        let (dropped, is_dropped) = mpsc::channel::<()>();
        let mut own = Some(pool.clone());
        let dropping = pool.interact("drop", move |_| {
            let _ = is_dropped.recv();
            drop(own.take());
            Ok(())
        });
        drop((threads, pool));
        drop(dropped);
        dropping.await.unwrap();
    });
}

#[test]
fn p11_no_connection_is_an_error_of_the_transaction() {
    let attempts = Arc::new(Mutex::new(0));
    let counter = attempts.clone();
    let request = Context::root("p11 unreachable");
    let open = move || -> Result<Paper, Blot> {
        *counter.lock() += 1;
        Err(Blot::Busy)
    };
    let pool = Pool::builder(open).retries(1).backoff(Duration::ZERO).build();
    let error = run(&request, async { pool.interact("never", |_| Ok(())).await }).unwrap_err();
    assert!(matches!(error, Error::Connect(Blot::Busy)), "{error}");
    assert_eq!(*attempts.lock(), 2);
    let usage = request.usage().db;
    assert!(usage.transactions == 1 && usage.in_transaction.is_zero() && !usage.waiting.is_zero());
}

#[test]
fn on_connect_is_done_once_a_connection() {
    let trace = Trace::default();
    let greeted = trace.clone();
    run(&Context::root("on connect"), async {
        let pool = paper(&trace)
            .on_connect(move |_| {
                greeted.push("greet");
                Ok(())
            })
            .build();
        pool.read("one", |_| Ok(())).await.unwrap();
        pool.read("two", |_| Ok(())).await.unwrap();
        pool.close().await;
    });
    assert_eq!(trace.take(), "open greet begin-read commit begin-read commit close");
}
