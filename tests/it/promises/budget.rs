//! P13: a limit of the total CPU. It is looked at where a poll ends, and where the work asks.

use crate::books::{manual_runtime, ns, on_manual_clock, on_own_thread, pass};
use crate::trace::Trace;
use context::{Context, FutureExt, Reason};
use runtime::{Runtime, TaskGroup, yield_now};
use std::future::pending;
use std::sync::mpsc;

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

/// The CPU of this thread for a group of `parts` that yield some times, in a context with a budget or without.
fn cost_of_parts(parts: u32, has_budget: bool) -> u128 {
    on_own_thread(|| {
        let request = Context::builder("b11 parts");
        let request = if has_budget { request.cpu_budget(ns(u64::MAX)) } else { request }.build();
        Runtime::new().unwrap().block_on(request.run(async {
            let mut group = TaskGroup::<(), ()>::new("b11 group");
            for _ in 0..parts {
                group.spawn_part("b11 part", async {
                    for _ in 0..5 {
                        yield_now().await;
                    }
                    Ok(())
                });
            }
            group.join().await.unwrap();
        }));
        context::accounts().unwrap().thread_cpu.as_nanos()
    })
}

/// If each poll looked at all parts this would be a factor of a hundred.
#[test]
fn p13_b11_a_budget_costs_the_same_however_many_parts_there_are() {
    let (without, with) = (cost_of_parts(4_000, false), cost_of_parts(4_000, true));
    assert!(with < 4 * without, "{with} ns with a budget, {without} without");
}

#[test]
fn p13_b11_nested_budgets_are_each_counted_and_cancel_their_own() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let outer = budgeted("b11 outer", 100);
            let free = outer.child("b11 between");
            let inner = Context::builder("b11 inner").parent(&free).cpu_budget(ns(30)).build();
            let leaf = inner.child("b11 leaf");
            let spend = |context: &Context, cost| runtime::spawn_in(context, async move { pass(cost) });
            let reasons = || [&outer, &free, &inner, &leaf].map(Context::cancel_reason);
            let spent = Some(Reason::CpuBudget);
            spend(&leaf, 29).await.unwrap();
            assert_eq!(reasons(), [None; 4]);
            spend(&inner, 1).await.unwrap();
            assert_eq!(reasons(), [None, None, spent, spent]);
            // What goes on counts, too.
            spend(&leaf, 60).await.unwrap();
            spend(&free, 9).await.unwrap();
            assert_eq!(reasons(), [None, None, spent, spent]);
            spend(&outer, 1).await.unwrap();
            assert_eq!(reasons(), [spent; 4]);
            assert_eq!((outer.usage().cpu, inner.usage().cpu), (ns(100), ns(90)));
        });
    });
}

/// All ways in which something below the context may be current in one poll.
#[test]
fn p13_b11_synchronous_work_of_parts_counts_against_the_budget() {
    let ways: [fn(&Context); 4] = [
        |part| part.scope(|| pass(60)),
        |part| {
            let _entered = part.enter();
            pass(60);
        },
        |part| {
            part.scope(|| pass(60));
            part.finish();
        },
        |part| {
            let mut measured = context::Usage::default();
            measured.cpu = ns(60);
            part.charge(measured);
        },
    ];
    for way in ways {
        on_manual_clock(|| {
            manual_runtime().block_on(async {
                let request = budgeted("b11 scopes", 100);
                let part = request.child("b11 scope");
                let work = async {
                    way(&part);
                    yield_now().await;
                    assert_eq!(request.cancel_reason(), None);
                    way(&request.child("b11 another"));
                    yield_now().await;
                };
                work.in_context(request.clone()).await;
                assert_eq!(request.cancel_reason(), Some(Reason::CpuBudget));
            });
        });
    }
}

/// The mutant: only contexts that this thread made are looked at.
#[test]
fn p13_b11_m30_a_budget_holds_in_another_threads_context() {
    let (task, part) = (budgeted("b11 made elsewhere", 100), budgeted("b11 made elsewhere", 100));
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let spends = || async {
                pass(60);
                yield_now().await;
                pass(40);
                pending::<()>().await
            };
            let ended = runtime::spawn_in(&task, spends().cancellable()).await.unwrap();
            assert_eq!(ended.unwrap_err().reason(), Reason::CpuBudget);
            assert_eq!(task.usage().cpu, ns(100));
            let ended = spends().cancellable().in_context(part.clone()).await;
            assert_eq!(ended.unwrap_err().reason(), Reason::CpuBudget);
        });
    });
}

/// While the job is running.
#[test]
fn p10_p13_b11_a_job_that_checks_is_told_and_who_awaits_it_is_cut() {
    let request = Context::builder("b11 job").cpu_budget(std::time::Duration::from_millis(5)).build();
    let (go_on, goes_on) = mpsc::channel::<()>();
    Runtime::new().unwrap().block_on(async {
        let job = request.scope(|| {
            runtime::spawn_blocking(move || {
                while Context::current().check().is_ok() {
                    crate::books::work(1_000);
                }
                // Until the one who awaited it was cut.
                goes_on.recv().is_err()
            })
        });
        let cut = job.cancellable().in_context(request.clone()).await;
        assert_eq!(cut.unwrap_err().reason(), Reason::CpuBudget);
        drop(go_on);
    });
}

#[test]
fn p13_b11_the_end_of_a_job_is_a_look_too() {
    let request = Context::builder("b11 job ends").cpu_budget(std::time::Duration::from_millis(1)).build();
    Runtime::new().unwrap().block_on(async {
        let burn = || {
            let begun = context::accounts().unwrap().thread_cpu;
            while context::accounts().unwrap().thread_cpu < begun + std::time::Duration::from_millis(2) {}
        };
        drop(request.scope(|| runtime::spawn_blocking(burn)));
        // Nobody polls anything in the request.
        assert_eq!(request.cancelled().await.reason(), Reason::CpuBudget);
    });
}

#[test]
fn p13_b11_late_work_counts_against_no_budget() {
    on_manual_clock(|| {
        let request = budgeted("b11 late", 100);
        let part = request.child("b11 late part");
        part.finish();
        part.scope(|| pass(1_000));
        assert_eq!(request.check(), Ok(()));
        request.scope(|| pass(100));
        assert_eq!(request.check().unwrap_err().reason(), Reason::CpuBudget);
    });
}
