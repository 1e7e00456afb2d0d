//! P13: a limit of the total CPU. It is looked at where a poll ends, and where the work asks.

use crate::books::{manual_runtime, ns, on_manual_clock, pass};
use crate::trace::Trace;
use context::{Context, FutureExt, Reason};
use runtime::yield_now;
use std::future::pending;

fn budgeted(class: &str, budget: u64) -> Context {
    Context::builder(class).cpu_budget(ns(budget)).build()
}

#[test]
fn p13_a_cpu_budget_cancels_at_the_end_of_the_poll_that_spends_it() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let (request, trace) = (budgeted("p13 spends", 100), Trace::new());
            let (own, noted) = (trace.clone(), trace.on_drop("work"));
            let work = async move {
                let _noted = noted;
                for cost in [40, 59, 1, 1_000] {
                    pass(cost);
                    // Not yet: nobody looks in the middle of a poll.
                    own.note(format_args!("{cost} {:?}", Context::current().cancel_reason()));
                    yield_now().await;
                }
            };
            let ended = runtime::spawn_in(&request, work.cancellable()).await.unwrap().unwrap_err();
            assert_eq!((ended.reason(), ended.place().file()), (Reason::CpuBudget, file!()));
            trace.expect(&[
                "40 None @ p13 spends",
                "59 None @ p13 spends",
                "1 None @ p13 spends",
                "drop work @ p13 spends",
            ]);
            assert_eq!(request.usage().cpu, ns(100));
        });
    });
}

#[test]
fn p13_a_cpu_budget_counts_the_part_of_a_task_too() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let (outer, part) = (Context::root("p13 outer"), budgeted("p13 part", 10));
            let inner = part.clone();
            let task = runtime::spawn_in(&outer, async move {
                pass(1_000);
                let work = async {
                    pass(10);
                    pending::<()>().await
                };
                work.cancellable().in_context(inner).await
            });
            assert_eq!(task.await.unwrap().unwrap_err().reason(), Reason::CpuBudget);
            assert_eq!((outer.cancel_reason(), part.usage().cpu), (None, ns(10)));
        });
    });
}

#[test]
fn p13_a_cpu_budget_of_the_parent_counts_its_children() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let parent = budgeted("p13 parent", 100);
            let spends = |child: &Context, cost| {
                runtime::spawn_in(child, async move {
                    pass(cost);
                    pending::<()>().cancellable().await
                })
            };
            let (left, right) = (parent.child("p13 left"), parent.child("p13 right"));
            let first = spends(&left, 60);
            yield_now().await;
            assert_eq!((parent.cancel_reason(), first.is_finished()), (None, false));
            let second = spends(&right, 40);
            for task in [first, second] {
                assert_eq!(task.await.unwrap().unwrap_err().reason(), Reason::CpuBudget);
            }
            let reasons = [&parent, &left, &right].map(Context::cancel_reason);
            assert_eq!(reasons, [Some(Reason::CpuBudget); 3]);
            assert_eq!((parent.own_usage().cpu, parent.usage().cpu), (ns(0), ns(100)));
        });
    });
}

#[test]
fn p13_a_cpu_budget_of_a_child_does_not_cancel_its_parent_or_its_sibling() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let parent = Context::root("p13 free");
            let child = Context::builder("p13 poor").parent(&parent).cpu_budget(ns(5)).build();
            let sibling = parent.child("p13 rich");
            for context in [&sibling, &child] {
                runtime::spawn_in(context, async { pass(50) }).await.unwrap();
            }
            let reasons = [&child, &parent, &sibling].map(Context::cancel_reason);
            assert_eq!(reasons, [Some(Reason::CpuBudget), None, None]);
        });
    });
}

/// In the middle of a poll, with the slice that is running.
#[test]
fn p13_a_cpu_budget_is_told_to_a_synchronous_loop_that_checks() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let request = budgeted("p13 loop", 100);
            let part = request.child("p13 loop part");
            let task = runtime::spawn_in(&part, async {
                let mut rounds = 0;
                while Context::current().check().is_ok() {
                    rounds += 1;
                    assert!(rounds < 1_000, "the loop ends");
                    pass(7);
                }
                (rounds, Context::current().check().unwrap_err().reason())
            });
            assert_eq!(task.await.unwrap(), (15, Reason::CpuBudget));
            assert_eq!(request.cancel_reason(), Some(Reason::CpuBudget));
        });
    });
}
