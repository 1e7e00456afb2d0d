//! Spans where the rules are broken: panics, guards kept too long, of contexts and of `tracing`.

use super::recorder::Recorder;
use super::spans::{Traced, kept};
use crate::trace::panic_quietly;
use context::bridges::TracingSpans;
use context::{Context, harness};
use runtime::yield_now;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tracing::{info, info_span};

#[test]
fn a_panic_leaves_the_span_it_was_in() {
    let traced = Traced::new();
    traced.run(async {
        let request = Context::root("panic request");
        let task = runtime::spawn_in(
            &request,
            request.run(async {
                let part = Context::current().child("panic part");
                part.scope(|| {
                    let _span = info_span!("inner").entered();
                    info!("about to");
                    panic_quietly("in a task")
                })
            }),
        );
        assert!(task.await.unwrap_err().is_panic());
        info!("goes on");
        let scope = || Context::root("panic scope").scope(|| panic_quietly("in a closure"));
        assert!(catch_unwind(AssertUnwindSafe(scope)).is_err());
        info!("and on");
    });
    traced.expect(
        "
        main
          - goes on
          - and on
        panic request after main
          panic part
            inner
              - about to
        panic scope after main
        ",
    );
}

#[test]
fn guards_of_contexts_kept_across_an_await_are_undone_with_their_spans() {
    let traced = Traced::new();
    traced.run(async {
        let task = runtime::spawn(async {
            let (outer, inner) = (Context::root("guard outer"), Context::root("guard inner"));
            let _outer = outer.enter();
            let _inner = inner.enter();
            info!("inside");
            yield_now().await;
            info!("undone");
        });
        task.await.unwrap();
        info!("after");
    });
    traced.expect(
        "
        main
          - undone
          - after
        guard outer after main
        guard inner after main
          - inside
        ",
    );
}

#[test]
fn guards_out_of_order_and_forgotten_leave_no_span_behind() {
    let traced = Traced::new();
    traced.run(async {
        let (first, second) = (Context::root("order first"), Context::root("order second"));
        let (guard_first, guard_second) = (first.enter(), second.enter());
        drop(guard_first);
        info!("second still");
        drop(guard_second);
        info!("main again");
        Context::root("order scope").scope(|| std::mem::forget(first.enter()));
        info!("main still");
    });
    traced.expect(
        "
        main
          - main again
          - main still
        order first after main
        order second after main
          - second still
        order scope after main
        ",
    );
}

/// What `tracing` warns of: its own guard across an await. The span stays entered; the contexts' come right all the same.
#[test]
fn a_guard_of_tracing_kept_across_an_await_misleads_nobody_else() {
    let traced = Traced::new();
    traced.run(async {
        let careless = Context::root("careless");
        let task = runtime::spawn_in(
            &careless,
            careless.run(async {
                let guard = info_span!("kept").entered();
                info!("one");
                yield_now().await;
                info!("two");
                drop(guard);
                info!("three");
                yield_now().await;
                info!("four");
            }),
        );
        let other = Context::root("careful");
        let other = runtime::spawn_in(
            &other,
            other.run(async {
                info!("a");
                yield_now().await;
                info!("b");
            }),
        );
        task.await.unwrap();
        other.await.unwrap();
    });
    traced.expect(
        "
        main
        careless after main
          kept
            - one
            - two
          - three
          - four
        careful after main
          - a
          - b
        ",
    );
}

#[test]
fn a_guard_of_tracing_that_is_forgotten_pins_nothing() {
    let traced = Traced::new();
    traced.run(async {
        let careless = Context::root("forgetful");
        let work = async {
            std::mem::forget(info_span!("forgotten").entered());
            yield_now().await;
            info!("goes on");
        };
        runtime::spawn_in(&careless, careless.run(work)).await.unwrap();
        drop(careless);
        Context::root("not forgetful").scope(|| info!("own"));
    });
    traced.recorder.expect(
        "
        main
        forgetful after main
          forgotten (open)
            - goes on
        not forgetful after main
          - own
        ",
    );
    assert_eq!((traced.recorder.entered(), kept(&traced.spans)), (vec!["forgotten"], 0));
}

#[test]
fn a_thread_that_ends_with_a_forgotten_guard_leaves_the_span() {
    let recorder = Recorder::default();
    let spans = TracingSpans::new();
    let request = Context::root("thread request");
    let (dispatch, hooks, guarded) = (recorder.dispatch(), Arc::new(spans.clone()), request.clone());
    let thread = std::thread::spawn(move || {
        // Not undone when the thread ends: that is what is tested.
        std::mem::forget(tracing::dispatcher::set_default(&dispatch));
        std::mem::forget(harness::observe(hooks));
        std::mem::forget(guarded.enter());
        info!("forgotten");
    });
    thread.join().unwrap();
    request.finish();
    recorder.expect("thread request\n  - forgotten");
    assert_eq!(kept(&spans), 0);
}
