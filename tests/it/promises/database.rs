//! P11, as far as it needs no pool: what a context is charged for its transactions.

use crate::books::{assert_balanced, manual_runtime, ns, on_manual_clock, pass};
use crate::promise::cut;
use crate::watch::Watch;
use context::{Context, FutureExt, ReportKind, db, harness};
use runtime::yield_now;
use std::thread;

/// Manual clock: waiting, no work.
fn wait(wall: u64) {
    harness::advance_manual_clock(0, wall);
}

#[test]
fn p11_transactions_their_time_the_wait_for_a_connection_and_rows_are_counted() {
    on_manual_clock(|| {
        let request = Context::root("p11 request");
        request.scope(|| {
            let mut transaction = db::begin("load");
            wait(10);
            transaction.connected();
            wait(100);
            transaction.connected();
            transaction.rows(3);
            db::rows(4);
            assert_eq!((transaction.description(), transaction.context()), ("load", &request));
            drop(transaction);
            wait(1_000);
        });
        let used = request.usage().db;
        assert_eq!((used.transactions, used.rows), (1, 7));
        assert_eq!((used.waiting, used.in_transaction), (ns(10), ns(100)));
    });
}

#[test]
fn p11_a_transaction_that_never_got_a_connection_only_waited() {
    on_manual_clock(|| {
        let request = Context::root("p11 request");
        request.scope(|| {
            let transaction = db::begin("load");
            wait(10);
            drop(transaction);
        });
        let used = request.usage().db;
        assert_eq!((used.transactions, used.waiting, used.in_transaction), (1, ns(10), ns(0)));
    });
}

#[test]
fn p11_a_transaction_from_the_sentinel_works_and_is_reported_by_name_and_place() {
    let watch = Watch::here();
    let line = line!() + 1;
    let transaction = db::begin("orphaned load");
    assert!(transaction.context().is_sentinel());
    drop(transaction);
    let report = watch.only();
    assert_eq!((report.kind, report.detail.as_str()), (ReportKind::TransactionInSentinel, "orphaned load"));
    assert_eq!((report.place.file(), report.place.line()), (file!(), line));
    assert!(context::sentinel::usage().db.transactions > 0);
}

#[test]
fn p11_an_asynchronous_drivers_future_is_one_transaction_of_the_context_that_awaits_it() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let request = Context::root("p11 request");
            let query = async {
                wait(10);
                yield_now().await;
                wait(100);
            };
            request.run(query.db_transaction("query")).await;
            let used = request.usage().db;
            assert_eq!((used.transactions, used.in_transaction), (1, ns(110)));
            let dropped = Context::root("p11 dropped");
            let query = async {
                wait(5);
                std::future::pending::<()>().await
            };
            cut(query.db_transaction("query").in_context(dropped.clone()), 1).await;
            assert_eq!((dropped.usage().db.transactions, dropped.usage().db.in_transaction), (1, ns(5)));
        });
    });
}

#[test]
fn p11_the_drivers_thread_may_carry_the_transaction() {
    let request = Context::root("p11 carried");
    let mut transaction = db::begin_in(request.clone(), "load");
    thread::scope(|scope| {
        scope.spawn(move || {
            transaction.connected();
            transaction.rows(2);
        });
    });
    let used = request.usage().db;
    assert_eq!((used.transactions, used.rows), (1, 2));
}

#[test]
fn p11_a_transaction_after_the_end_is_still_counted() {
    on_manual_clock(|| {
        let request = Context::root("p11 ended");
        request.finish();
        drop(db::begin_in(request.clone(), "last words"));
        assert_eq!(request.usage().db.transactions, 1);
        pass(1);
        assert_balanced();
    });
}
