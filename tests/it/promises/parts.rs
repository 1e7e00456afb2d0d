//! P4: `in_context` does for one future inside a task what a spawn does for a task.

use crate::books::{assert_balanced, current_class, manual_runtime, ns, on_manual_clock, pass};
use crate::promise::{both, cut};
use crate::trace::{Trace, panic_quietly};
use context::{Context, FutureExt};
use runtime::yield_now;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[runtime::test]
async fn p04_the_part_is_polled_in_its_context_and_the_task_goes_on_in_its_own() {
    let outer = Context::root("p04 outer");
    let part = outer.child("p04 part");
    let task = async move {
        let seen = async {
            let first = Context::current();
            yield_now().await;
            (first, Context::current())
        };
        assert_eq!(seen.in_context(part.clone()).await, (part.clone(), part.clone()));
        assert_eq!(current_class(), "p04 outer");
    };
    runtime::spawn_in(&outer, task).await.unwrap();
}

#[runtime::test]
async fn p04_the_part_is_dropped_in_its_context_when_it_completes() {
    let trace = Trace::new();
    let noted = trace.on_drop("part");
    let part = async move { drop(noted) }.in_context(Context::root("p04 part"));
    part.await;
    trace.expect(&["drop part @ p04 part"]);
}

#[runtime::test]
async fn p04_the_part_is_dropped_in_its_context_when_it_is_cut() {
    let trace = Trace::new();
    for polls in [0, 1] {
        let noted = trace.on_drop("part");
        let part = async move {
            let _noted = noted;
            pending::<()>().await
        };
        let cut = cut(part.in_context(Context::root("p04 part")), polls);
        assert!(Context::root("p04 outer").run(cut).await.is_none());
        trace.expect(&["drop part @ p04 part"]);
    }
    assert!(Context::current().is_sentinel());
}

#[runtime::test]
async fn p04_the_part_is_dropped_in_its_context_with_the_aborted_task() {
    let trace = Trace::new();
    let (inside, outside) = (trace.on_drop("inside"), trace.on_drop("outside"));
    let task = runtime::spawn_in(&Context::root("p04 outer"), async move {
        let _outside = outside;
        let part = async move {
            let _inside = inside;
            pending::<()>().await
        };
        part.in_context(Context::root("p04 part")).await
    });
    yield_now().await;
    task.abort();
    assert!(task.await.is_err());
    trace.expect(&["drop inside @ p04 part", "drop outside @ p04 outer"]);
}

#[runtime::test]
async fn p04_a_panic_in_the_part_leaves_the_tasks_context() {
    let (outer, trace) = (Context::root("p04 outer"), Trace::new());
    let noted = trace.on_drop("part");
    let task = async move {
        let part = async move {
            let _noted = noted;
            panic_quietly("p04");
        };
        let mut part = Box::pin(part.in_context(Context::root("p04 part")));
        let poll = std::future::poll_fn(|cx| {
            let caught = catch_unwind(AssertUnwindSafe(|| part.as_mut().poll(cx)));
            assert_eq!(current_class(), "p04 outer");
            std::task::Poll::Ready(caught.is_err())
        });
        assert!(poll.await);
    };
    runtime::spawn_in(&outer, task).await.unwrap();
    trace.expect(&["drop part @ p04 part"]);
}

#[test]
fn p04_what_the_part_spends_is_its_own_and_shows_outside_only_as_total() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let outer = Context::root("p04 outer");
            let part = outer.child("p04 part");
            let inner = part.clone();
            let task = async {
                pass(10);
                let work = async {
                    pass(100);
                    yield_now().await;
                    pass(1_000);
                };
                work.in_context(inner).await;
                pass(20);
            };
            runtime::spawn_in(&outer, task).await.unwrap();
            assert_eq!((outer.own_usage().cpu, part.own_usage().cpu), (ns(30), ns(1_100)));
            assert_eq!((outer.usage().cpu, part.usage().cpu), (ns(1_130), ns(1_100)));
            assert_balanced();
        });
    });
}

#[test]
fn p04_concurrent_parts_of_one_task_pay_each_for_themselves() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let outer = Context::root("p04 outer");
            let (a, b) = (outer.child("p04 a"), outer.child("p04 b"));
            let spend = |each| async move {
                for _ in 0..3 {
                    pass(each);
                    yield_now().await;
                }
            };
            let task = both(spend(1).in_context(a.clone()), spend(100).in_context(b.clone()));
            outer.clone().run(task).await;
            assert_eq!((a.own_usage().cpu, b.own_usage().cpu), (ns(3), ns(300)));
            assert_eq!((outer.own_usage().cpu, outer.usage().cpu), (ns(0), ns(303)));
        });
    });
}

#[test]
fn p04_what_its_drop_spends_is_its_own_too() {
    struct Costly(u64);
    impl Drop for Costly {
        fn drop(&mut self) {
            pass(self.0);
        }
    }
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let part = Context::root("p04 part");
            let costly = Costly(5);
            let work = async move {
                let _costly = costly;
                pending::<()>().await
            };
            cut(work.in_context(part.clone()), 1).await;
            assert_eq!(part.own_usage().cpu, ns(5));
            let task = Context::root("p04 task");
            let costly = Costly(7);
            let handle = runtime::spawn_in(&task, async move {
                let _costly = costly;
                pending::<()>().await
            });
            handle.abort();
            assert!(handle.await.is_err());
            assert_eq!(task.own_usage().cpu, ns(7));
        });
    });
}
