//! L1 to L18, A9, A24 to A26 as far as they need no timers, and "what the model never tested".

use crate::books::current_class;
use crate::promise::{Promise, both};
use crate::trace::Trace;
use context::{Context, FutureExt};
use runtime::{JoinHandle, Runtime, yield_now};
use std::collections::VecDeque;
use std::future::{Future, ready};
use std::sync::mpsc;
use std::thread;

/// A fork that suspends a few times.
async fn suspending() -> &'static str {
    for _ in 0..3 {
        yield_now().await;
    }
    current_class()
}

#[runtime::test]
async fn l01_entering_a_context_makes_its_name_current() {
    let context = Context::root("l01 foo");
    context.scope(|| assert_eq!(Context::current().name().to_string(), context.name().to_string()));
    let _entered = context.enter();
    assert!(Context::current().to_string().starts_with("l01 foo#"));
}

#[runtime::test]
async fn l02_two_tasks_interleave_and_each_sees_its_own_context() {
    let trace = Trace::new();
    let steps = |name| {
        let trace = trace.clone();
        async move {
            for _ in 0..3 {
                trace.note(name);
                yield_now().await;
            }
        }
    };
    let one = runtime::spawn_in(&Context::root("l02 one"), steps("a"));
    let two = runtime::spawn_in(&Context::root("l02 two"), steps("b"));
    one.await.unwrap();
    two.await.unwrap();
    trace.expect(&["a @ l02 one", "b @ l02 two", "a @ l02 one", "b @ l02 two", "a @ l02 one", "b @ l02 two"]);
    assert!(Context::current().is_sentinel());
}

#[runtime::test]
async fn l06_completing_a_promise_inside_foo_and_awaiting_it_goes_on_in_foo() {
    let outer = Context::root("l06 foo");
    let task = async {
        let promise = Promise::new();
        promise.complete(1);
        assert_eq!((promise.clone().await, current_class()), (1, "l06 foo"));
        let later = Promise::new();
        let complete = later.clone();
        drop(runtime::spawn(async move {
            yield_now().await;
            complete.complete(2);
        }));
        let nested = async {
            let value = later.await;
            (value, current_class())
        };
        assert_eq!(nested.in_context(Context::root("l06 nested")).await, (2, "l06 nested"));
        assert_eq!(current_class(), "l06 foo");
    };
    outer.run(task).await;
}

#[runtime::test]
async fn l07_each_waiter_of_a_promise_goes_on_in_its_own_context_and_the_completer_in_its() {
    let promise = Promise::new();
    let waiters = ["l07 one", "l07 two", "l07 three"].map(|class| {
        let promise = promise.clone();
        runtime::spawn_in(&Context::root(class), async move {
            promise.await;
            current_class()
        })
    });
    yield_now().await;
    assert!(Context::current().is_sentinel());
    promise.complete(());
    assert!(Context::current().is_sentinel());
    let mut seen = Vec::new();
    for waiter in waiters {
        seen.push(waiter.await.unwrap());
    }
    assert_eq!(seen, ["l07 one", "l07 two", "l07 three"]);
}

#[runtime::test]
async fn l08_a_continuation_left_behind_in_foo_extends_foos_life_beyond_the_block() {
    let outer = Context::root("l08 foo");
    let id = outer.id();
    let left = outer.scope(|| {
        runtime::spawn(async {
            yield_now().await;
            Context::current()
        })
    });
    drop(outer);
    assert!(crate::books::lives(id));
    let seen = left.await.unwrap();
    assert!(seen.id() == id && !seen.is_finished());
    drop(seen);
    assert!(!crate::books::lives(id));
}

/// The caller is in foo right after the call and across its own suspensions; so is the fork.
async fn forks<F, G>(fork: G)
where
    F: Future<Output = &'static str> + 'static,
    G: FnOnce() -> F,
{
    let outer = Context::root("fork foo");
    let task = async {
        let fork = runtime::spawn(fork());
        assert_eq!(current_class(), "fork foo");
        yield_now().await;
        assert_eq!(current_class(), "fork foo");
        yield_now().await;
        assert_eq!(fork.await.unwrap(), "fork foo");
        assert_eq!(current_class(), "fork foo");
    };
    outer.run(task).await;
    assert!(Context::current().is_sentinel());
}

#[runtime::test]
async fn l09_a_fork_of_a_suspending_function() {
    forks(suspending).await;
}

#[runtime::test]
async fn l10_a_fork_that_never_suspends() {
    forks(|| async { current_class() }).await;
}

#[runtime::test]
async fn l11_a_fork_whose_result_is_there_on_return() {
    forks(|| ready("fork foo")).await;
}

#[runtime::test]
async fn l12_a_fork_of_a_promise_that_is_complete() {
    let promise = Promise::new();
    promise.complete("fork foo");
    forks(|| promise).await;
}

#[runtime::test]
async fn l13_a_fork_of_a_future_that_was_created_before() {
    let created = suspending();
    forks(|| created).await;
}

#[runtime::test]
async fn l14_a_fork_of_a_created_future_that_never_suspends() {
    let created = async { current_class() };
    forks(|| created).await;
}

#[runtime::test]
async fn l15_a_fork_of_a_future_created_in_another_context_runs_where_it_is_spawned() {
    let created = Context::root("l15 other").scope(suspending);
    forks(|| created).await;
}

#[test]
fn l16_a_future_completed_by_another_thread_is_out_of_foo_while_pending_and_in_foo_after() {
    let (sender, receiver) = mpsc::channel::<Promise<()>>();
    let far = thread::spawn(move || {
        receiver.into_iter().for_each(|promise| {
            assert!(Context::current().is_sentinel());
            promise.complete(());
        })
    });
    Runtime::new().unwrap().block_on(async {
        let outer = Context::root("l16 foo");
        let (promise, before) = (Promise::new(), Promise::new());
        let (wait, ready) = (promise.clone(), before.clone());
        let task = runtime::spawn_in(&outer, async move {
            assert_eq!(current_class(), "l16 foo");
            ready.complete(());
            wait.await;
            current_class()
        });
        before.await;
        assert_eq!(current_class(), "main", "foo's future is pending");
        sender.send(promise).unwrap();
        assert_eq!(task.await.unwrap(), "l16 foo");
        drop(sender);
    });
    far.join().unwrap();
}

#[runtime::test]
async fn l17_a_future_chained_on_an_incomplete_one_resumes_in_foo() {
    let outer = Context::root("l17 foo");
    let (first, second) = (Promise::new(), Promise::new());
    let (wait, chain) = (first.clone(), second.clone());
    let task = runtime::spawn_in(&outer, async move {
        let value: u32 = chain.await;
        (value, current_class())
    });
    drop(runtime::spawn_in(&Context::root("l17 bar"), async move {
        let value: u32 = wait.await;
        second.complete(value + 1);
    }));
    yield_now().await;
    first.complete(1);
    assert_eq!(task.await.unwrap(), (2, "l17 foo"));
}

#[runtime::test]
async fn l18_a_nested_context_tells_its_parent() {
    let parent = Context::root("l18 parent");
    let child = parent.child("l18 child");
    child.scope(|| {
        let above = Context::current().parent().unwrap();
        assert_eq!(above.name().to_string(), parent.to_string());
    });
}

#[runtime::test]
async fn a01_all_waiters_get_the_value_first_come_first() {
    let (promise, trace) = (Promise::new(), Trace::new());
    let waiters: Vec<_> = (0..3)
        .map(|n| {
            let (promise, trace) = (promise.clone(), trace.clone());
            runtime::spawn_in(&Context::root("a01"), async move {
                let value: &str = promise.await;
                trace.note(format_args!("{n} {value}"));
            })
        })
        .collect();
    yield_now().await;
    promise.complete("v");
    for waiter in waiters {
        waiter.await.unwrap();
    }
    trace.expect(&["0 v @ a01", "1 v @ a01", "2 v @ a01"]);
}

#[runtime::test]
async fn a24_joining_restores_the_context_and_keeps_the_order() {
    let outer = Context::root("a24 foo");
    let task = async {
        let quick = async { (1, current_class()) }.in_context(outer.child("a24 quick"));
        let slow = async { (2, suspending().await) }.in_context(outer.child("a24 slow"));
        let both = both(slow, quick).await;
        assert_eq!(both, ((2, "a24 slow"), (1, "a24 quick")));
        assert_eq!(current_class(), "a24 foo");
    };
    outer.clone().run(task).await;
}

#[runtime::test]
async fn e11_a_hundred_thousand_queued_instant_tasks_do_not_overflow_the_stack() {
    let context = Context::root("e11");
    let mut tasks: VecDeque<JoinHandle<u64>> = VecDeque::new();
    for n in 0..100_000_u64 {
        let before = tasks.pop_back();
        tasks.push_back(runtime::spawn_in(&context, async move {
            match before {
                Some(before) => before.await.unwrap_or(0) + 1,
                None => n,
            }
        }));
    }
    assert_eq!(tasks.pop_back().unwrap().await.unwrap(), 99_999);
}

#[runtime::test]
async fn g02_the_number_of_contexts_in_flight_is_known_by_class_and_zero_at_the_end() {
    let open = || {
        let class = context::classes().into_iter().find(|class| class.class == "g02 flight");
        class.map_or((0, 0), |class| (class.opened, class.open))
    };
    let flights: Vec<_> = (0..4).map(|_| Context::root("g02 flight")).collect();
    assert_eq!(open(), (4, 4));
    flights[0].finish();
    assert_eq!(open(), (4, 3));
    drop(flights);
    assert_eq!(open(), (4, 0));
}
