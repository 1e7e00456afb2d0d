//! P5: guards do not cross an await, and misuse is put right and reported.

use crate::books::{
    assert_balanced, current_class, manual_runtime, ns, on_manual_clock, on_own_thread, pass,
};
use crate::promise::both;
use crate::trace::panic_quietly;
use crate::watch::Watch;
use context::{Clock, Context, Entered, ReportKind, harness};
use runtime::{Runtime, yield_now};
use std::cell::RefCell;
use std::panic::catch_unwind;
use std::rc::Rc;

type Shelf = Rc<RefCell<Vec<Entered>>>;

/// Runs on a runtime whose reports are looked at rather than forbidden.
fn watched<F: Future>(f: impl FnOnce(Watch) -> F + Send)
where
    F::Output: Send,
{
    on_own_thread(|| {
        let watch = Watch::here();
        let runtime = Runtime::new().unwrap();
        runtime.block_on(f(watch));
        assert!(Context::current().is_sentinel());
        assert_balanced();
    });
}

#[runtime::test]
async fn p05_a_guard_makes_its_context_current_until_it_is_dropped() {
    let (outer, inner) = (Context::root("p05 outer"), Context::root("p05 inner"));
    let task = async {
        {
            let _outer = outer.enter();
            {
                let _inner = inner.enter();
                assert_eq!(Context::current(), inner);
            }
            assert_eq!(Context::current(), outer);
        }
        assert_eq!(current_class(), "p05 task");
    };
    Context::root("p05 task").run(task).await;
}

#[test]
fn p05_a_guard_is_let_go_by_a_panic() {
    let outer = Context::root("p05 outer");
    let _entered = outer.enter();
    let panicked = catch_unwind(|| {
        let _inner = Context::root("p05 inner").enter();
        panic_quietly("p05")
    });
    assert!(panicked.is_err());
    assert_eq!(Context::current(), outer);
}

#[test]
fn p05_a_guard_across_an_await_is_reported_with_both_places_and_undone() {
    watched(|watch| async move {
        let (task, guarded) = (Context::root("p05 task"), Context::root("p05 guarded"));
        let spawned = line!() + 1;
        let handle = runtime::spawn_in(&task, async move {
            let _entered = guarded.enter();
            assert_eq!(current_class(), "p05 guarded");
            yield_now().await;
            assert_eq!(current_class(), "p05 task", "the next poll is in the task's context");
        });
        handle.await.unwrap();
        let report = watch.only();
        assert_eq!(report.kind, ReportKind::GuardAcrossAwait);
        assert_eq!((report.place.file(), report.place.line()), (file!(), spawned + 1));
        assert!(report.context.starts_with("p05 guarded#"), "{report}");
        assert!(report.detail.contains(&format!("{}:{spawned}:", file!())), "{report}");
    });
}

#[test]
fn p05_the_next_task_has_its_own_context() {
    watched(|watch| async move {
        let forgetful = runtime::spawn_in(&Context::root("p05 task"), async {
            std::mem::forget(Context::root("p05 forgotten").enter());
            yield_now().await;
            current_class()
        });
        let next = runtime::spawn_in(&Context::root("p05 next"), async { current_class() });
        assert_eq!(next.await.unwrap(), "p05 next");
        assert_eq!(forgetful.await.unwrap(), "p05 task");
        assert_eq!(watch.kinds(), [ReportKind::GuardAcrossAwait]);
    });
}

#[test]
fn p05_the_late_drop_of_a_guard_changes_nothing_wherever_it_happens() {
    watched(|watch| async move {
        let shelf = Shelf::default();
        let leave = |shelf: &Shelf, n: usize| {
            let shelf = shelf.clone();
            runtime::spawn_in(&Context::root("p05 task"), async move {
                for _ in 0..n {
                    let guard = Context::root("p05 left").enter();
                    shelf.borrow_mut().push(guard);
                }
            })
        };
        leave(&shelf, 4).await.unwrap();
        assert_eq!(watch.kinds(), [ReportKind::GuardAcrossAwait; 4]);
        let pick = shelf.clone();
        let other = runtime::spawn_in(&Context::root("p05 other"), async move {
            drop(pick.borrow_mut().remove(1));
            assert_eq!(current_class(), "p05 other");
            Context::root("p05 scope").scope(|| {
                drop(pick.borrow_mut().remove(0));
                assert_eq!(current_class(), "p05 scope");
            });
            let own = Context::root("p05 own").enter();
            drop(pick.borrow_mut().pop());
            assert_eq!(current_class(), "p05 own");
            drop(own);
            assert_eq!(current_class(), "p05 other");
        });
        other.await.unwrap();
        shelf.borrow_mut().clear();
        assert_eq!(current_class(), "main");
        assert_eq!(watch.kinds(), [], "inert guards are no news");
    });
}

#[test]
fn p05_a_guard_kept_beyond_the_runtime_is_inert() {
    on_own_thread(|| {
        let shelf = Shelf::default();
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let guard = Context::root("p05 kept").enter();
            shelf.borrow_mut().push(guard);
        });
        drop(runtime);
        let here = Context::root("p05 here");
        here.scope(|| {
            shelf.borrow_mut().clear();
            assert_eq!(Context::current(), here);
        });
        assert!(Context::current().is_sentinel());
    });
}

#[test]
fn p05_guards_dropped_out_of_order_are_put_right_and_reported() {
    watched(|watch| async move {
        let [a, b, c] = ["p05 a", "p05 b", "p05 c"].map(Context::root);
        let first = a.enter();
        let line = line!() - 1;
        let second = b.enter();
        let third = c.enter();
        drop(first);
        assert_eq!(Context::current(), c, "what is current stays");
        let report = watch.only();
        assert_eq!((report.kind, report.place.line()), (ReportKind::GuardOutOfOrder, line));
        drop(third);
        assert_eq!(Context::current(), b);
        drop(second);
        assert_eq!(current_class(), "main");
        assert_eq!(watch.kinds(), []);
    });
}

/// Every order in which four guards can be dropped.
#[test]
fn p05_in_whatever_order_guards_go_the_context_is_what_it_was() {
    watched(|watch| async move {
        for order in 0..24_usize {
            let mut guards: Vec<_> = ["p05 a", "p05 b", "p05 c", "p05 d"]
                .iter()
                .map(|class| Context::root(class).enter())
                .collect();
            let (first, second, third) = (order % 4, order / 4 % 3, order / 12);
            for at in [first, second, third, 0] {
                drop(guards.remove(at));
            }
            assert_eq!(current_class(), "main", "{order}");
        }
        assert!(watch.kinds().iter().all(|kind| *kind == ReportKind::GuardOutOfOrder));
    });
}

#[test]
fn p05_a_guard_carried_out_of_a_closure_is_undone_at_its_end() {
    watched(|watch| async move {
        let scoped = Context::root("p05 scoped");
        let guard = scoped.scope(|| Context::root("p05 carried").enter());
        assert_eq!(current_class(), "main");
        drop(guard);
        assert_eq!(current_class(), "main");
        assert_eq!(watch.kinds(), [ReportKind::GuardOutOfOrder]);
    });
}

#[test]
fn p05_a_guard_dropped_in_an_inner_frame_is_undone_by_its_own() {
    watched(|watch| async move {
        let guard = Context::root("p05 guard").enter();
        Context::root("p05 inner").scope(|| {
            drop(guard);
            assert_eq!(current_class(), "p05 inner");
        });
        assert_eq!(current_class(), "main");
        assert_eq!(watch.kinds(), [ReportKind::GuardOutOfOrder]);
    });
}

/// Were a guard resumed, it would be current in the other branch.
#[test]
fn p05_no_guard_is_resumed_under_join() {
    watched(|watch| async move {
        let guarded = || async {
            let _entered = Context::root("p05 guarded").enter();
            yield_now().await;
            current_class()
        };
        let plain = || async {
            yield_now().await;
            let first = current_class();
            yield_now().await;
            (first, current_class())
        };
        let task = runtime::spawn_in(&Context::root("p05 task"), both(guarded(), plain()));
        assert_eq!(task.await.unwrap(), ("p05 task", ("p05 task", "p05 task")));
        assert_eq!(watch.kinds(), [ReportKind::GuardAcrossAwait]);
    });
}

#[test]
fn p05_a_guard_left_in_the_main_future_is_undone_too() {
    watched(|watch| async move {
        let _entered = Context::root("p05 guarded").enter();
        yield_now().await;
        assert_eq!(current_class(), "main");
        assert_eq!(watch.kinds(), [ReportKind::GuardAcrossAwait]);
    });
}

#[test]
fn p05_a_guard_left_by_a_destructor_is_undone() {
    struct Leaves;
    impl Drop for Leaves {
        fn drop(&mut self) {
            std::mem::forget(Context::root("p05 left").enter());
        }
    }
    watched(|watch| async move {
        let task = runtime::spawn_in(&Context::root("p05 task"), async {
            let _leaves = Leaves;
            std::future::pending::<()>().await
        });
        yield_now().await;
        task.abort();
        let next = runtime::spawn_in(&Context::root("p05 next"), async { current_class() });
        assert_eq!(next.await.unwrap(), "p05 next");
        assert!(task.await.is_err());
        assert_eq!(watch.kinds(), [ReportKind::GuardAcrossAwait]);
    });
}

#[test]
fn p05_a_guard_left_by_a_poll_that_panics_is_undone() {
    watched(|watch| async move {
        let task = runtime::spawn_in(&Context::root("p05 task"), async {
            std::mem::forget(Context::root("p05 forgotten").enter());
            panic_quietly("p05")
        });
        let next = runtime::spawn_in(&Context::root("p05 next"), async { current_class() });
        assert_eq!(next.await.unwrap(), "p05 next");
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(watch.kinds(), [ReportKind::GuardAcrossAwait]);
    });
}

#[test]
fn p05_a_guards_time_is_its_contexts_and_no_more_after_the_poll() {
    on_manual_clock(|| {
        let watch = Watch::here();
        manual_runtime().block_on(async {
            let (task, guarded) = (Context::root("p05 task"), Context::root("p05 guarded"));
            let inner = guarded.clone();
            let handle = runtime::spawn_in(&task, async move {
                pass(1);
                let _entered = inner.enter();
                pass(10);
                yield_now().await;
                pass(100);
            });
            handle.await.unwrap();
            assert_eq!((task.own_usage().cpu, guarded.own_usage().cpu), (ns(101), ns(10)));
            assert_eq!(watch.kinds(), [ReportKind::GuardAcrossAwait]);
        });
    });
}

/// Beyond the poll nothing is its context's any more, though the slice of the task goes on until the next switch.
#[test]
fn p05_a_guard_that_outlives_its_poll_is_undone_at_its_end_and_not_at_the_next_switch() {
    on_manual_clock(|| {
        let watch = Watch::here();
        let (task, guarded) = (Context::root("p05 task"), Context::root("p05 guarded"));
        let _loop = harness::enter_loop(Clock::Manual, None);
        let share = harness::Share::of(&task);
        let place = std::panic::Location::caller();
        let guard = harness::poll(&share, place, 0, || {
            let guard = guarded.enter();
            pass(1);
            guard
        });
        assert_eq!(Context::current(), task);
        pass(10);
        drop(guard);
        pass(100);
        harness::idle();
        assert_eq!((task.own_usage().cpu, guarded.own_usage().cpu), (ns(110), ns(1)));
        assert_eq!(watch.kinds(), [ReportKind::GuardAcrossAwait]);
    });
}
