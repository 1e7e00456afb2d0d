//! P13, as far as it is there: the tree, the first reason, `cancellable`, `cancelled`, `check`.

use crate::books::{ns, on_manual_clock, pass};
use crate::promise::cut;
use crate::trace::Trace;
use context::{Context, FutureExt, Reason};
use runtime::yield_now;
use std::future::pending;
use std::time::{Duration, Instant};

#[runtime::test]
async fn p13_cancel_reaches_every_descendant_and_the_first_reason_wins() {
    let root = Context::root("p13 root");
    let (left, right) = (root.child("p13 left"), root.child("p13 right"));
    let (leaf, deep) = (left.child("p13 leaf"), right.child("p13 deep").child("p13 deeper"));
    assert!(left.cancel(Reason::Disconnected));
    let line = line!() + 1;
    assert!(root.cancel(Reason::Shutdown));
    assert!(!root.cancel(Reason::Sibling));
    let reasons = [&root, &left, &right, &leaf, &deep].map(Context::cancel_reason);
    let (shut, gone) = (Some(Reason::Shutdown), Some(Reason::Disconnected));
    assert_eq!(reasons, [shut, gone, shut, gone, shut]);
    let error = right.check().unwrap_err();
    assert_eq!((error.reason(), error.place().line()), (Reason::Shutdown, line));
}

#[runtime::test]
async fn p13_a_child_of_a_cancelled_context_is_born_cancelled() {
    let root = Context::root("p13 root");
    root.cancel(Reason::Custom("early"));
    assert_eq!(root.child("p13 child").cancel_reason(), Some(Reason::Custom("early")));
}

#[runtime::test]
async fn p13_cancellable_ends_with_the_reason_and_drops_the_future_in_its_context() {
    let (request, trace) = (Context::root("p13 request"), Trace::new());
    let noted = trace.on_drop("inner");
    let work = async move {
        let _noted = noted;
        pending::<()>().await
    };
    let task = runtime::spawn_in(&request, work.cancellable());
    yield_now().await;
    Context::root("p13 canceller").scope(|| request.cancel(Reason::Disconnected));
    assert_eq!(task.await.unwrap().unwrap_err().reason(), Reason::Disconnected);
    trace.expect(&["drop inner @ p13 request"]);
}

#[runtime::test]
async fn p13_cancelled_wakes_every_waiter_and_forgets_those_that_went() {
    let request = Context::root("p13 request");
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let waited = request.clone();
            runtime::spawn_in(&Context::root("p13 waiter"), async move { waited.cancelled().await.reason() })
        })
        .collect();
    assert!(cut(request.cancelled(), 1).await.is_none());
    yield_now().await;
    request.cancel(Reason::Sibling);
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), Reason::Sibling);
    }
    assert_eq!(request.cancelled().await.reason(), Reason::Sibling);
}

#[runtime::test]
async fn p13_work_that_ends_first_is_not_cancelled() {
    let request = Context::root("p13 request");
    let work = async {
        yield_now().await;
        5
    };
    assert_eq!(work.cancellable().in_context(request.clone()).await, Ok(5));
    request.cancel(Reason::Shutdown);
}

#[runtime::test]
async fn p13_a_deadline_is_never_later_than_the_parents() {
    let now = Instant::now();
    let at = |seconds| now + Duration::from_secs(seconds);
    let parent = Context::builder("p13 parent").deadline(at(10)).build();
    let longer = Context::builder("p13 longer").parent(&parent).deadline(at(20)).build();
    let shorter = Context::builder("p13 shorter").parent(&parent).deadline(at(5)).build();
    assert_eq!(longer.deadline(), Some(at(10)));
    assert_eq!(shorter.deadline(), Some(at(5)));
    assert_eq!(shorter.child("p13 leaf").deadline(), Some(at(5)));
    assert_eq!(Context::root("p13 free").deadline(), None);
}

#[test]
fn p13_cancelling_from_another_thread_wakes_the_waiter() {
    let request = Context::root("p13 request");
    let far = request.clone();
    let (sender, receiver) = std::sync::mpsc::channel();
    let canceller = std::thread::spawn(move || {
        receiver.recv().unwrap();
        far.cancel(Reason::Disconnected)
    });
    let reason = runtime::Runtime::new().unwrap().block_on(async {
        let wait = request.cancelled();
        sender.send(()).unwrap();
        wait.await.reason()
    });
    assert_eq!((reason, canceller.join().unwrap()), (Reason::Disconnected, true));
}

#[test]
fn p13_the_cost_of_cancelled_work_is_kept_by_class_and_reason() {
    on_manual_clock(|| {
        let cut = |reason| {
            let request = Context::root("p13 for nothing");
            request.scope(|| pass(1_000));
            request.cancel(reason);
            request.finish();
        };
        cut(Reason::Disconnected);
        cut(Reason::Disconnected);
        cut(Reason::Deadline);
        Context::root("p13 for nothing").finish();
        let classes = context::classes();
        let class = classes.iter().find(|class| class.class == "p13 for nothing").unwrap();
        let kept: Vec<_> =
            class.cancelled.iter().map(|cut| (cut.reason, cut.contexts, cut.own.cpu)).collect();
        assert_eq!(kept, [(Reason::Deadline, 1, ns(1_000)), (Reason::Disconnected, 2, ns(2_000))]);
        assert_eq!(class.opened, 4);
    });
}
