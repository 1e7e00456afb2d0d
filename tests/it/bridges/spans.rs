//! The spans of contexts: what is attributed to what, and when spans end.

use super::recorder::Recorder;
use crate::promise::both;
use context::bridges::TracingSpans;
use context::{Context, FutureExt, Inherit, Key, harness};
use runtime::{Runtime, yield_now};
use std::sync::Arc;
use tracing::{Instrument, info, info_span};

/// A runtime on which contexts have spans, and what they recorded.
pub(super) struct Traced {
    pub(super) recorder: Recorder,
    pub(super) spans: TracingSpans,
    pub(super) runtime: Runtime,
}

impl Traced {
    pub(super) fn new() -> Self {
        let spans = TracingSpans::new();
        let runtime = Runtime::builder().hooks(spans.clone()).build().unwrap();
        Self { recorder: Recorder::default(), spans, runtime }
    }

    pub(super) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.recorder.record(|| self.runtime.block_on(future))
    }

    /// This and nothing else was traced; nothing is entered, and nothing is kept.
    #[track_caller]
    pub(super) fn expect(&self, tree: &str) {
        self.recorder.expect(tree);
        assert_eq!(self.recorder.entered(), [""; 0]);
        assert_eq!(kept(&self.spans), 0);
    }
}

/// Of how many contexts the bridge still knows something.
pub(super) fn kept(spans: &TracingSpans) -> usize {
    let shown = format!("{spans:?}");
    let digits: String = shown.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

#[test]
fn s01_a_span_is_active_while_its_context_is_polled_and_closed_at_the_end() {
    let traced = Traced::new();
    traced.run(async {
        info!("before");
        let request = Context::root("s01 request");
        let task = runtime::spawn_in(
            &request,
            request.run(async {
                info!("one");
                yield_now().await;
                info!("two");
            }),
        );
        yield_now().await;
        info!("meanwhile");
        task.await.unwrap();
        info!("after");
    });
    traced.expect(
        "
        main
          - before
          - meanwhile
          - after
        s01 request after main
          - one
          - two
        ",
    );
}

#[test]
fn s01_the_span_has_the_fields_of_its_context() {
    static USER: Key<String> = Key::new("user").logged(Clone::clone);
    static SECRET: Key<u32> = Key::new("secret");
    let traced = Traced::new();
    let request = Context::builder("s01 fields")
        .field("peer", "::1")
        .field("id", "not ours")
        .value(&USER, "ann".to_owned())
        .value(&SECRET, 7)
        .build();
    traced.run(request.run(async {}));
    let fields = [("class", "s01 fields".to_owned()), ("id", request.id().to_string())];
    let own = [("peer", "::1".to_owned()), ("user", "ann".to_owned())];
    assert_eq!(traced.recorder.fields("s01 fields"), [fields, own].concat());
}

#[test]
fn s02_the_span_of_a_part_is_a_child_of_its_parents_whatever_is_entered() {
    let traced = Traced::new();
    traced.run(async {
        let request = Context::root("s02 request");
        let part = request.child("s02 part");
        // The request itself was never current, and something else is.
        let elsewhere = Context::root("s02 elsewhere");
        elsewhere.scope(|| part.scope(|| info!("in part")));
        let deep = part.child("s02 deep");
        async {
            info!("in request");
            let events = async { info!("in deep") };
            events.in_context(deep).await;
            info!("in request again");
        }
        .in_context(request)
        .await;
    });
    traced.expect(
        "
        main
        s02 elsewhere after main
        s02 request after main
          s02 part
            - in part
            s02 deep
              - in deep
          - in request
          - in request again
        ",
    );
}

#[test]
fn s03_overlapping_forks_keep_their_own() {
    let traced = Traced::new();
    traced.run(async {
        let request = Context::root("s03 request");
        let steps = |name: &'static str| async move {
            for step in 1..=2 {
                info!("{name} {step}");
                yield_now().await;
            }
        };
        let forks = [("a", request.child("s03 a")), ("b", request.child("s03 b"))]
            .map(|(name, part)| runtime::spawn_in(&part, part.run(steps(name))));
        request
            .run(async {
                yield_now().await;
                info!("between");
                for fork in forks {
                    fork.await.unwrap();
                }
            })
            .await;
    });
    traced.expect(
        "
        main
        s03 request after main
          s03 a
            - a 1
            - a 2
          s03 b
            - b 1
            - b 2
          - between
        ",
    );
}

#[test]
fn s03_parts_joined_in_one_task_keep_their_own() {
    let traced = Traced::new();
    traced.run(async {
        let steps = |name: &'static str| async move {
            info!("{name} 1");
            yield_now().await;
            info!("{name} 2");
        };
        let (a, b) = (Context::root("s03 joined a"), Context::root("s03 joined b"));
        both(a.run(steps("a")), b.run(steps("b"))).await;
        info!("joined");
    });
    traced.expect(
        "
        main
          - joined
        s03 joined a after main
          - a 1
          - a 2
        s03 joined b after main
          - b 1
          - b 2
        ",
    );
}

#[test]
fn s08_background_work_has_its_own_root() {
    static TRACE: Key<String> = Key::new("trace").inherit(Inherit::Everything).logged(Clone::clone);
    let traced = Traced::new();
    let request = Context::builder("s08 request").value(&TRACE, "4bf9".to_owned()).build();
    traced.run(request.run(async {
        info!("starts it");
        let reaper = runtime::background("s08 reaper", async {
            info!("reaps");
            Ok::<_, String>(())
        });
        reaper.await.unwrap().unwrap();
    }));
    traced.expect(
        "
        main
        s08 request trace=4bf9
          - starts it
        s08 reaper trace=4bf9 after s08 request
          - reaps
        ",
    );
}

#[test]
fn s09_background_work_names_who_started_it_also_when_that_is_gone() {
    let traced = Traced::new();
    let request = Context::root("s09 request");
    let name = request.name().to_string();
    traced.run(async move {
        let reaper = request.scope(|| runtime::background("s09 reaper", async { Ok::<_, String>(()) }));
        request.finish();
        drop(request);
        reaper.await.unwrap().unwrap();
    });
    assert!(traced.recorder.fields("s09 reaper").contains(&("made_in", name)));
    traced.expect("main\ns09 request\ns09 reaper");
}

#[test]
fn a_span_of_the_user_around_a_part_is_current_again_after_it() {
    let traced = Traced::new();
    traced.run(async {
        let request = Context::root("user request");
        let part = request.child("user part");
        let work = async {
            info!("before");
            part.run(async {
                info!("in part");
                yield_now().await;
                async { info!("in part's own") }.instrument(info_span!("own")).await;
            })
            .await;
            drop(part);
            info!("after");
            yield_now().await;
            info!("and later");
        };
        request.run(async { work.instrument(info_span!("around")).await }).await;
    });
    traced.expect(
        "
        main
        user request after main
          around
            - before
            - after
            - and later
          user part
            - in part
            own
              - in part's own
        ",
    );
}

#[test]
fn a_context_inside_a_part_of_its_own_is_on_top() {
    let traced = Traced::new();
    traced.run(async {
        let request = Context::root("twice request");
        let part = request.child("twice part");
        request.scope(|| {
            part.scope(|| {
                request.scope(|| info!("inner"));
                info!("part");
            });
            info!("outer");
        });
    });
    traced.expect(
        "
        main
        twice request after main
          twice part
            - part
          - inner
          - outer
        ",
    );
}

#[test]
fn a_context_that_finishes_while_it_is_current_has_one_span() {
    let traced = Traced::new();
    traced.run(async {
        let request = Context::root("finish request");
        request.on_finish(|_| info!("hook"));
        request.scope(|| {
            info!("before");
            request.finish();
            info!("after");
        });
        let around = Context::root("finish around");
        around.scope(|| info_span!("inner").in_scope(|| around.finish()));
    });
    traced.expect(
        "
        main
        finish request after main
          - before
          - after
        - hook
        finish around after main
          inner
        ",
    );
}

#[test]
fn late_work_has_a_span_that_says_so() {
    let traced = Traced::new();
    traced.run(async {
        let request = Context::root("late request");
        let task = runtime::spawn_in(&request, async {
            info!("in time");
            yield_now().await;
            info!("late");
            yield_now().await;
            info!("later");
        });
        yield_now().await;
        request.finish();
        yield_now().await;
        task.await.unwrap();
    });
    traced.expect(
        "
        main
        late request after main
          - in time
        late request late=true after main
          - late
        late request late=true after main
          - later
        ",
    );
}

#[test]
fn dropped_work_is_in_its_span_and_closes_it() {
    struct Says(&'static str);
    impl Drop for Says {
        fn drop(&mut self) {
            info!("drop {}", self.0);
        }
    }
    let wait = |says: Says| async move {
        let _says = says;
        std::future::pending::<()>().await;
    };
    let traced = Traced::new();
    traced.run(async {
        let aborted = Context::root("drop aborted");
        let task = runtime::spawn_in(&aborted, aborted.run(wait(Says("aborted"))));
        yield_now().await;
        task.abort();
        drop(aborted);
        assert!(task.await.unwrap_err().is_cancelled());
        let left = Context::root("drop left");
        // Its context is dropped with the runtime, and never finished.
        drop(runtime::spawn_in(&left, wait(Says("left"))));
        yield_now().await;
    });
    let Traced { recorder, spans, runtime } = traced;
    recorder.record(|| drop(runtime));
    recorder.expect(
        "
        main
        drop aborted after main
          - drop aborted
        drop left after main
          - drop left
        ",
    );
    assert_eq!((recorder.entered().len(), kept(&spans)), (0, 0));
}

#[test]
fn work_on_the_pool_is_in_the_span_of_the_caller() {
    let traced = Traced::new();
    let dispatch = traced.recorder.dispatch();
    traced.run(async {
        let request = Context::root("pool request");
        let job = async move {
            let part = Context::current().child("pool part");
            let job = move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    info!("on the pool");
                    part.scope(|| info!("in a part"));
                });
            };
            runtime::spawn_blocking(job).await.unwrap();
            info!("back");
        };
        request.run(job).await;
    });
    traced.expect(
        "
        main
        pool request after main
          - on the pool
          pool part
            - in a part
          - back
        ",
    );
}

#[test]
fn nothing_is_kept_of_contexts_that_are_gone() {
    let traced = Traced::new();
    traced.run(async {
        for n in 0..1_000 {
            let request = Context::root("many");
            let part = request.child("many");
            match n % 4 {
                0 => part.scope(|| {}),
                1 => request.run(part.run(yield_now())).await,
                2 => drop(runtime::spawn_in(&part, request.run(async {}))),
                _ => {
                    request.scope(|| part.finish());
                }
            }
        }
        runtime::yield_now().await;
        // `main`.
        assert_eq!(kept(&traced.spans), 1);
    });
    assert_eq!(kept(&traced.spans), 0);
}

#[test]
fn a_context_finished_by_nobody_closes_its_span_when_it_goes() {
    let recorder = Recorder::default();
    let spans = TracingSpans::new();
    recorder.record(|| {
        let observing = harness::observe(Arc::new(spans.clone()));
        let kept_open = Context::root("nobody finished");
        kept_open.scope(|| info!("in it"));
        drop(observing);
        recorder.expect("nobody finished (open)\n  - in it");
        drop(kept_open);
        recorder.expect("nobody finished\n  - in it");
    });
    assert_eq!(kept(&spans), 0);
}

#[test]
fn nesting_without_limit_does_not_overflow_the_stack() {
    let traced = Traced::new();
    traced.run(async {
        let mut part = Context::root("deep");
        for _ in 0..20_000 {
            part = part.child("deep");
        }
        part.scope(|| {});
    });
    assert_eq!(kept(&traced.spans), 0);
}

#[test]
fn parts_of_a_context_whose_span_nobody_wants_belong_to_what_is_above() {
    let traced = Traced::new();
    traced.run(async {
        let request = Context::root("filter request");
        let unwanted = request.child("unwanted");
        let part = unwanted.child("filter part");
        unwanted.scope(|| part.scope(|| info!("in part")));
    });
    traced.expect(
        "
        main
        filter request after main
          filter part
            - in part
        ",
    );
    let nowhere = Traced::new();
    nowhere.runtime.block_on(async { Context::root("no subscriber").scope(|| {}) });
    nowhere.expect("");
}

#[test]
fn work_on_two_threads_at_once_is_in_one_span() {
    let recorder = Recorder::default();
    let spans = TracingSpans::new();
    let request = Context::root("two threads");
    let barrier = std::sync::Barrier::new(2);
    let work = || {
        recorder.record(|| {
            let _observing = harness::observe(Arc::new(spans.clone()));
            request.scope(|| {
                barrier.wait();
                info!("here");
                barrier.wait();
            });
        });
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    assert_eq!(kept(&spans), 1);
    request.finish();
    recorder.expect("two threads\n  - here\n  - here");
    assert_eq!(kept(&spans), 0);
}
