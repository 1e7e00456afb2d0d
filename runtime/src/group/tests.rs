use super::*;
use crate::testing::{Options, run};
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::panic::catch_unwind;
use std::rc::Rc;

fn in_request<F: Future>(name: &'static str, future: F) -> F::Output {
    let request = Context::root("request");
    run(Options { name, ..Options::default() }, async { request.run(future).await })
}

/// Leaves its context's class when it is dropped.
struct Leaves(Rc<RefCell<Vec<&'static str>>>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.borrow_mut().push(Context::current().class());
    }
}

#[test]
fn p15_a24_outputs_come_in_the_order_of_the_spawns() {
    let joined = in_request("p15_order", async {
        let mut group = TaskGroup::new("group");
        for n in 0..5u32 {
            group.spawn(async move {
                for _ in 0..5 - n {
                    crate::yield_now().await;
                }
                Ok::<_, ()>(n)
            });
        }
        group.join().await
    });
    assert_eq!(joined, Ok(vec![0, 1, 2, 3, 4]));
}

#[test]
fn p15_a26_the_first_error_drops_the_rest_in_their_context_and_comes_back_as_it_was() {
    let dropped = Rc::new(RefCell::new(Vec::new()));
    let leaves = Leaves(dropped.clone());
    in_request("p15_error", async move {
        let mut group = TaskGroup::new("group");
        let context = group.context().clone();
        group.spawn_part("part", async move {
            let _leaves = leaves;
            pending().await
        });
        group.spawn(async {
            crate::yield_now().await;
            Err::<(), _>("no route")
        });
        assert_eq!(group.join().await, Err("no route"));
        assert_eq!(context.cancel_reason(), Some(Reason::Sibling));
        assert!(context.is_finished());
    });
    assert_eq!(*dropped.borrow(), ["part"]);
}

#[test]
fn p15_a_panic_carries_across() {
    let joined = catch_unwind(|| {
        in_request("p15_panic", async {
            let mut group = TaskGroup::<(), ()>::new("group");
            group.spawn(pending());
            group.spawn(async { panic!("boom") });
            group.join().await
        })
    });
    assert_eq!(context::panic_message(&*joined.unwrap_err()), "boom");
}

#[test]
fn p15_a09_exactly_as_many_as_the_limit_run_and_each_end_starts_the_next() {
    for seed in 1..20 {
        let (running, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let request = Context::root("request");
        let options = Options { name: "p15_limit", seed: Some(seed), ..Options::default() };
        let (runs, peak) = (running.clone(), most.clone());
        let joined = run(
            options,
            request.run(async move {
                let mut group = TaskGroup::with_limit("group", 3);
                for n in 0..10 {
                    let (runs, peak) = (runs.clone(), peak.clone());
                    group.spawn(async move {
                        runs.set(runs.get() + 1);
                        peak.set(peak.get().max(runs.get()));
                        // Long enough for the others to start, in whatever order they are polled.
                        for _ in 0..50 {
                            crate::yield_now().await;
                        }
                        runs.set(runs.get() - 1);
                        Ok::<_, ()>(n)
                    });
                }
                group.join().await
            }),
        );
        assert_eq!((joined.map(|all| all.len()), most.get(), running.get()), (Ok(10), 3, 0), "seed {seed}");
    }
}

#[test]
fn p15_dropping_a_group_drops_its_tasks_where_they_wait() {
    let dropped = Rc::new(RefCell::new(Vec::new()));
    let (leaves, seen) = (Leaves(dropped.clone()), dropped.clone());
    in_request("p15_drop", async move {
        let mut group = TaskGroup::<(), ()>::new("group");
        let context = group.context().clone();
        group.spawn(async move {
            let _leaves = leaves;
            pending().await
        });
        crate::yield_now().await;
        drop(group);
        crate::yield_now().await;
        // By now, and not at the end of the runtime.
        assert_eq!(*seen.borrow(), ["group"]);
        assert_eq!(context.cancel_reason(), Some(Reason::Custom("its group was dropped")));
    });
}

#[test]
fn p15_a_group_that_is_dropped_does_not_begin_what_waits() {
    let begun = Rc::new(Cell::new(0));
    let count = begun.clone();
    in_request("p15_drop_waiting", async move {
        let mut group = TaskGroup::<(), ()>::with_limit("group", 1);
        for _ in 0..3 {
            let begun = count.clone();
            group.spawn(async move {
                begun.set(begun.get() + 1);
                pending().await
            });
        }
        crate::yield_now().await;
        let shared = group.shared.clone();
        drop(group);
        crate::yield_now().await;
        assert!(shared.lock().members.is_empty());
    });
    assert_eq!(begun.get(), 1);
}

/// What the list of members takes does not grow with those that have ended.
#[test]
fn p15_b10_members_that_have_ended_take_no_memory() {
    in_request("p15_ended", async {
        let mut group = TaskGroup::<(), ()>::new("group");
        for n in 0..10_000 {
            group.spawn(async { Ok(()) });
            if n % 10 == 9 {
                crate::yield_now().await;
            }
        }
        crate::yield_now().await;
        {
            let state = group.shared.lock();
            assert!(
                state.members.is_empty() && state.members.capacity() <= 20,
                "{}",
                state.members.capacity()
            );
        }
        assert_eq!(group.join().await.map(|outputs| outputs.len()), Ok(10_000));
    });
}

/// In the square of the number this would take minutes.
#[test]
fn p15_b10_the_end_of_a_group_takes_time_that_grows_with_its_members() {
    let members = 100_000;
    in_request("p15_many", async move {
        let mut group = TaskGroup::<(), &str>::with_limit("group", 1);
        group.spawn(async {
            crate::yield_now().await;
            Err("no")
        });
        for _ in 1..members {
            group.spawn(async { Ok(()) });
        }
        assert_eq!(group.join().await, Err("no"));
        let mut group = TaskGroup::<(), &str>::with_limit("group", 1);
        for _ in 0..members {
            group.spawn(pending());
        }
        crate::yield_now().await;
        let shared = group.shared.clone();
        drop(group);
        crate::yield_now().await;
        assert!(shared.lock().members.is_empty());
    });
}

#[test]
fn p15_outputs_with_a_size_and_without_come_back() {
    in_request("p15_outputs", async {
        let mut group = TaskGroup::<String, ()>::with_limit("group", 2);
        for n in 0..4 {
            group.spawn(async move {
                for _ in 0..4 - n {
                    crate::yield_now().await;
                }
                Ok(n.to_string())
            });
        }
        assert_eq!(group.join().await.unwrap(), ["0", "1", "2", "3"]);
        assert_eq!(TaskGroup::<(), ()>::new("group").join().await, Ok(vec![]));
    });
}
