//! P13: the finish of a context ends the waits in it and below.

use crate::books::lives;
use crate::promise::{both, cut};
use crate::watch::Watch;
use context::{Context, FutureExt, Reason, ReportKind};
use runtime::{Runtime, yield_now};
use std::future::pending;

fn cancelled_in(class: &str) -> Vec<(Reason, u64)> {
    let classes = context::classes();
    let class = classes.iter().find(|usage| usage.class == class).expect("the class was used");
    class.cancelled.iter().map(|cut| (cut.reason, cut.contexts)).collect()
}

#[test]
fn p13_b12_a_finish_ends_the_waits_in_the_context_itself_and_below() {
    Runtime::new().unwrap().block_on(async {
        let request = Context::root("b12 request");
        let (part, sibling) = (request.child("b12 part"), Context::root("b12 other"));
        let wait = |context: &Context| {
            let (own, inner) =
                (context.cancelled(), pending::<()>().cancellable().in_context(context.clone()));
            runtime::spawn_in(
                &sibling,
                both(async { own.await.reason() }, async { inner.await.unwrap_err().reason() }),
            )
        };
        let waits = [wait(&request), wait(&part)];
        let goes_on = runtime::spawn_in(&sibling, pending::<()>().cancellable());
        yield_now().await;
        request.finish();
        for wait in waits {
            assert_eq!(wait.await.unwrap(), (Reason::Finished, Reason::Finished));
        }
        assert!(!goes_on.is_finished());
        // Those who come later do not wait at all.
        assert_eq!(cut(request.cancelled(), 1).await.unwrap().reason(), Reason::Finished);
        assert_eq!(request.check().unwrap_err().reason(), Reason::Finished);
        assert_eq!(
            request.check().unwrap_err().to_string().split(" (").next(),
            Some("cancelled: its context finished")
        );
    });
}

#[test]
fn p13_b12_a_context_that_only_finished_was_not_cancelled() {
    let request = Context::root("b12 plain");
    let (open, ended) = (request.child("b12 open part"), request.child("b12 ended part"));
    ended.finish();
    request.finish();
    assert!(!request.cancel(Reason::Disconnected), "it is over");
    assert_eq!([&request, &ended].map(Context::cancel_reason), [None, None]);
    assert_eq!(open.cancel_reason(), Some(Reason::Finished));
    drop((request, open, ended));
    assert_eq!(cancelled_in("b12 plain"), []);
    assert_eq!(cancelled_in("b12 ended part"), []);
    assert_eq!(cancelled_in("b12 open part"), [(Reason::Finished, 1)]);
}

#[test]
fn p13_b12_a_reason_that_was_there_stays_after_the_finish() {
    let request = Context::root("b12 reason");
    request.cancel(Reason::Disconnected);
    request.finish();
    assert_eq!(request.check().unwrap_err().reason(), Reason::Disconnected);
    assert_eq!(request.cancel_reason(), Some(Reason::Disconnected));
}

#[test]
fn p13_b12_a_context_that_is_held_has_not_finished() {
    let request = Context::root("b12 held");
    let hold = request.hold();
    request.finish();
    assert_eq!(request.check(), Ok(()));
    drop(hold);
    assert_eq!(request.check().unwrap_err().reason(), Reason::Finished);
}

#[test]
fn p09_b12_a_task_left_behind_in_a_finished_request_ends_and_pins_nothing() {
    let watch = Watch::here();
    Runtime::new().unwrap().block_on(async {
        let request = Context::root("b12 left behind");
        let id = request.id();
        let work = request.run(async {
            drop(runtime::spawn(async { pending::<()>().cancellable().await }));
            yield_now().await;
        });
        work.await;
        drop(request);
        while lives(id) {
            yield_now().await;
        }
    });
    assert!(watch.kinds().iter().all(|kind| *kind == ReportKind::LateWork), "its end is late");
}

/// A part that is opened when its parent has finished.
#[test]
fn p13_b05_a_child_of_a_finished_context_is_born_cancelled() {
    let request = Context::root("b05 request");
    request.finish();
    let part = request.child("b05 part").child("b05 leaf");
    assert_eq!(part.cancel_reason(), Some(Reason::Finished));
}
