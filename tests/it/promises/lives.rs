//! P14, P15, P19 and P21 together with what they stand beside: shields, groups, orphans, hooks.

use crate::books::{current_class, lives, manual_runtime, ns, on_manual_clock, on_own_thread, pass};
use crate::promise::{Promise, cut};
use crate::trace::Trace;
use crate::watch::Watch;
use context::{Context, FutureExt, Reason, ReportKind};
use runtime::{Runtime, TaskGroup, yield_now};
use std::future::pending;
use std::sync::{Arc, Mutex};

#[runtime::test]
async fn p14_shielded_work_runs_to_its_end_in_its_context_which_finishes_after_it() {
    let (request, trace, promise) = (Context::root("p14 request"), Trace::new(), Promise::new());
    let (own, wait, hook) = (trace.clone(), promise.clone(), trace.clone());
    request.on_finish(move |_| hook.note("finished"));
    let work = request.run(async move {
        let commit = runtime::shield(async move {
            wait.await;
            own.note("committed");
        });
        commit.await
    });
    assert!(cut(work, 1).await.is_none());
    assert!(!request.is_finished());
    promise.complete(());
    while !request.is_finished() {
        yield_now().await;
    }
    assert_eq!(trace.take()[0], "committed @ p14 request");
    assert_eq!(request.usage().late_cpu, ns(0));
}

#[runtime::test]
async fn p14_detached_work_runs_on_in_its_own_root_when_the_caller_is_gone() {
    let (request, promise, trace) = (Context::root("p14 caller"), Promise::new(), Trace::new());
    let (wait, own) = (promise.clone(), trace.clone());
    let call = async move {
        let sent = runtime::detach("p14 detached", async move {
            wait.await;
            own.note(Context::current().parent().is_none());
            Ok::<_, String>(())
        });
        sent.await
    };
    let task = runtime::spawn_in(&request, call.cancellable());
    yield_now().await;
    request.cancel(Reason::Disconnected);
    assert!(task.await.unwrap().is_err());
    promise.complete(());
    for _ in 0..4 {
        yield_now().await;
    }
    trace.expect(&["true @ p14 detached"]);
}

#[test]
fn p15_what_the_tasks_of_a_group_cost_is_the_groups_and_the_requests_total() {
    on_manual_clock(|| {
        manual_runtime().block_on(async {
            let request = Context::root("p15 request");
            let total = request.clone().scope(|| {
                let mut group: TaskGroup<u64, String> = TaskGroup::new("p15 group");
                for cost in [1, 10, 100] {
                    group.spawn(async move {
                        pass(cost);
                        yield_now().await;
                        Ok(cost)
                    });
                }
                group
            });
            assert_eq!(total.join().await, Ok(vec![1, 10, 100]));
            assert_eq!((request.own_usage().cpu, request.usage().cpu), (ns(0), ns(111)));
        });
    });
}

#[runtime::test]
async fn p15_the_first_error_cancels_the_rest_with_sibling_and_comes_back_unwrapped() {
    let trace = Trace::new();
    let noted = trace.on_drop("rest");
    let request = Context::root("p15 request");
    let (group, context) = request.scope(|| {
        let mut group: TaskGroup<(), &str> = TaskGroup::new("p15 group");
        let context = group.context().clone();
        group.spawn(async move {
            let _noted = noted;
            pending().await
        });
        group.spawn(async {
            yield_now().await;
            Err("mine")
        });
        (group, context)
    });
    assert_eq!(group.join().await, Err("mine"));
    assert_eq!(context.cancel_reason(), Some(Reason::Sibling));
    trace.expect(&["drop rest @ p15 group"]);
    assert_eq!(request.cancel_reason(), None);
}

#[test]
fn p19_a_task_that_nothing_can_wake_any_more_is_reported_once_with_name_and_place() {
    on_own_thread(|| {
        let watch = Watch::here();
        let runtime = Runtime::builder().track_wakers(true).build().unwrap();
        runtime.block_on(async {
            let promise: Promise<()> = Promise::new();
            let wait = promise.clone();
            let orphan = runtime::spawn_in(&Context::root("p19 orphan"), wait);
            yield_now().await;
            yield_now().await;
            drop(promise);
            // The orphan itself holds the promise that holds its waker: a cycle that no count sees. Not an orphan yet.
            assert_eq!(watch.kinds(), []);
            orphan.abort();
            assert!(orphan.await.is_err());
            let context = Context::root("p19 forgotten");
            let place = line!() + 1;
            let forgotten = runtime::spawn_in(&context, async { pending::<()>().await });
            for _ in 0..600 {
                yield_now().await;
            }
            let report = watch.only();
            assert_eq!((report.kind, report.place.line()), (ReportKind::Orphaned, place));
            assert!(report.context.starts_with("p19 forgotten#"), "{report}");
            forgotten.abort();
        });
    });
}

/// Notes what it is told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl context::Hooks for Told {
    fn on_resume(&self, context: &Context) {
        self.0.lock().unwrap().push(format!("resume {}", context.class()));
    }
    fn on_suspend(&self, context: &Context) {
        self.0.lock().unwrap().push(format!("suspend {}", context.class()));
    }
    fn on_finish(&self, context: &Context, _usage: &context::Usage) {
        if context.class() == "p21 task" {
            self.0.lock().unwrap().push("finish p21 task".to_owned());
        }
    }
}

/// Whatever the polls do: a stack of resumes and suspends, one level for one context at a time.
#[test]
fn p21_resume_and_suspend_come_in_pairs_and_finish_once() {
    on_own_thread(|| {
        let told = Told::default();
        let runtime = Runtime::builder().hooks(told.clone()).build().unwrap();
        runtime.block_on(async {
            let task = Context::root("p21 task");
            let part = task.child("p21 part");
            let work = async {
                yield_now().await;
                part.scope(|| assert_eq!(current_class(), "p21 part"));
                async { yield_now().await }.in_context(part.clone()).await;
            };
            task.run(work).await;
        });
        drop(runtime);
        let events = told.0.lock().unwrap().clone();
        let mut current: Option<&str> = None;
        for event in &events {
            match event.split_once(' ') {
                Some(("resume", class)) => assert_eq!(current.replace(class), None, "{events:?}"),
                Some(("suspend", class)) => assert_eq!(current.take(), Some(class), "{events:?}"),
                _ => {}
            }
        }
        assert_eq!(current, None);
        assert!(events.contains(&"resume p21 part".to_owned()), "{events:?}");
        assert_eq!(events.iter().filter(|event| *event == "finish p21 task").count(), 1);
    });
}

#[runtime::test]
async fn p14_a_request_whose_shield_is_done_is_gone() {
    let request = Context::root("p14 gone");
    let id = request.id();
    request.run(async { runtime::shield(yield_now()).await }).await;
    drop(request);
    for _ in 0..3 {
        yield_now().await;
    }
    assert!(!lives(id));
}
