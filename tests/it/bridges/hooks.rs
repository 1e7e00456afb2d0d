//! P21: who is told what of a context's life.

use context::{Context, Hooks, Usage, harness};
use runtime::{Runtime, yield_now};
use std::sync::{Arc, Mutex};
use std::thread;

/// Notes what it is told of contexts whose classes begin with `prefix`: the others are of other tests.
#[derive(Clone)]
struct Notes {
    prefix: &'static str,
    notes: Arc<Mutex<Vec<String>>>,
    kept: Arc<Mutex<Vec<Context>>>,
}

impl Notes {
    fn of(prefix: &'static str) -> Self {
        Self { prefix, notes: Arc::default(), kept: Arc::default() }
    }

    fn note(&self, what: &str, context: &Context) {
        if let Some(name) = context.class().strip_prefix(self.prefix) {
            self.notes.lock().unwrap().push(format!("{what}{name}"));
        }
    }

    #[track_caller]
    fn expect(&self, notes: &[&str]) {
        assert_eq!(std::mem::take(&mut *self.notes.lock().unwrap()), notes);
    }
}

impl Hooks for Notes {
    fn on_resume(&self, context: &Context) {
        self.note("resume", context);
    }

    fn on_suspend(&self, context: &Context) {
        self.note("suspend", context);
    }

    fn on_finish(&self, context: &Context, usage: &Usage) {
        assert!(context.is_finished());
        assert_eq!(context.usage().polls, usage.polls);
        self.note("finish", context);
        if context.class() == format!("{} keep", self.prefix) {
            self.kept.lock().unwrap().push(context.clone());
        }
    }
}

#[test]
fn p21_a_resume_and_a_suspend_come_in_pairs() {
    let notes = Notes::of("p21 pairs");
    let runtime = Runtime::builder().hooks(notes.clone()).build().unwrap();
    runtime.block_on(async {
        let (a, b) = (Context::root("p21 pairs a"), Context::root("p21 pairs b"));
        a.scope(|| b.scope(|| {}));
        notes.expect(&["resume a", "suspend a", "resume b", "suspend b", "resume a", "suspend a"]);
        runtime::spawn_in(&a, a.run(yield_now())).await.unwrap();
        // Between the two polls there was nothing else. The last pair is the way out of the task.
        notes.expect(&["resume a", "suspend a", "finish a", "resume a", "suspend a"]);
        drop(b);
        notes.expect(&["finish b"]);
    });
}

#[test]
fn p21_what_is_current_when_hooks_come_and_go_is_told() {
    let notes = Notes::of("p21 install");
    let (outer, inner) = (Context::root("p21 install outer"), Context::root("p21 install inner"));
    outer.scope(|| {
        let observing = harness::observe(Arc::new(notes.clone()));
        notes.expect(&["resume outer"]);
        let entered = inner.enter();
        notes.expect(&["suspend outer", "resume inner"]);
        drop(observing);
        notes.expect(&["suspend inner"]);
        drop(entered);
    });
    notes.expect(&[]);
}

#[test]
fn p21_the_last_handle_finishes_and_a_hook_may_keep_it() {
    let notes = Notes::of("p21 last");
    let _observing = harness::observe(Arc::new(notes.clone()));
    let child = Context::root("p21 last").child("p21 last part");
    drop(child);
    notes.expect(&["finish part", "finish"]);
    let id = {
        let keep = Context::root("p21 last keep");
        keep.scope(|| {});
        keep.id()
    };
    notes.expect(&["resume keep", "suspend keep", "finish keep"]);
    let kept = notes.kept.lock().unwrap().pop().unwrap();
    assert_eq!(kept.id(), id);
    assert!(kept.is_finished() && crate::books::lives(id));
    // On another thread, as any last handle may go.
    thread::spawn(move || drop(kept)).join().unwrap();
    notes.expect(&[]);
    assert!(!crate::books::lives(id));
}

#[test]
fn p21_hooks_on_many_threads_hear_of_a_finish_once() {
    let notes = Notes::of("p21 once");
    let hooks: Arc<dyn Hooks> = Arc::new(notes.clone());
    let _here = harness::observe(hooks.clone());
    thread::scope(|scope| {
        scope.spawn(|| {
            let _there = harness::observe(hooks.clone());
            Context::root("p21 once").finish();
            notes.expect(&["finish"]);
        });
    });
    Context::root("p21 once").finish();
    notes.expect(&["finish"]);
}

#[test]
fn p21_the_threads_of_the_pool_tell_the_hooks_of_their_runtime() {
    let notes = Notes::of("p21 pool");
    let runtime = Runtime::builder().hooks(notes.clone()).build().unwrap();
    runtime.block_on(async {
        let job = Context::root("p21 pool job");
        let part = Context::root("p21 pool part");
        let work = move || part.scope(|| {});
        let blocking = async { runtime::spawn_blocking(work).await.unwrap() };
        job.run(blocking).await;
    });
    notes.expect(&[
        "resume job",
        "suspend job",
        // On the pool, while the loop sleeps.
        "resume job",
        "suspend job",
        "resume part",
        "suspend part",
        "resume job",
        "finish part",
        "suspend job",
        "resume job",
        "suspend job",
        "finish job",
    ]);
}

#[test]
fn p21_a_hook_that_panics_is_reported_and_stops_nobody() {
    struct Panics;
    impl Hooks for Panics {
        fn on_resume(&self, context: &Context) {
            if context.class() == "p21 panics" {
                crate::trace::panic_quietly("a hook");
            }
        }
    }
    let watch = crate::watch::Watch::here();
    let notes = Notes::of("p21 panics");
    let _panics = harness::observe(Arc::new(Panics));
    let _observing = harness::observe(Arc::new(notes.clone()));
    Context::root("p21 panics").scope(|| {});
    notes.expect(&["resume", "suspend", "finish"]);
    assert_eq!(watch.kinds(), [context::ReportKind::UnhandledPanic]);
}
