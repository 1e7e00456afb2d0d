//! A transaction that fails is reported if nobody takes its error, whenever the handle goes.

use super::*;

#[test]
fn p17_b08_the_error_of_a_transaction_is_reported_if_its_handle_is_dropped_after_the_end() {
    let request = Context::root("b08 transaction");
    run(&request, async {
        let pool = paper(&Trace::default()).build();
        let taken = pool.interact("b08 taken", |_| Err::<(), _>(Blot::Spilt));
        assert!(taken.await.is_err());
        let fails = pool.interact("b08", |_| Err::<(), _>(Blot::Spilt));
        // One connection: when this has ended, so has the other.
        pool.interact("b08 next", |_| Ok(())).await.unwrap();
        assert!(reported(ReportKind::UnhandledError, &request).is_none(), "somebody may still ask");
        drop(fails);
        let report = reported(ReportKind::UnhandledError, &request).expect("nobody else hears of it");
        assert_eq!((report.count, report.detail.as_str()), (1, "transaction failed: Spilt"));
        let panics = pool.interact("b08", |_| -> Result<(), Blot> { panic!("b08 transaction") });
        pool.interact("b08 next", |_| Ok(())).await.unwrap();
        drop(panics);
        let report = reported(ReportKind::UnhandledPanic, &request).expect("nobody else hears of it");
        assert!(report.detail.contains("b08 transaction"), "{report}");
        pool.close().await;
    });
}
