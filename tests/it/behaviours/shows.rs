//! G1 and G3: what is shown, and to whom.

use crate::books::{on_own_thread, work};
use crate::trace::{Trace, panic_quietly};
use crate::watch::Watch;
use context::sentinel::on_report;
use context::{Clock, Context, Hooks, ReportKind, Usage, harness};
use runtime::{Runtime, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// Compares each reading with the one before: how many there were that had grown.
#[derive(Default)]
struct Readings {
    last: Duration,
    grown: u32,
}

impl Readings {
    #[track_caller]
    fn add(&mut self, cpu: Duration) {
        assert!(cpu >= self.last, "{:?} after {:?}", cpu, self.last);
        self.grown += u32::from(cpu > self.last);
        self.last = cpu;
    }
}

/// Live readings in the middle of polls and between them, of the context and of its class, on the thread that is
/// charged and on another.
fn no_reading_goes_back(clock: Clock) {
    let request = Context::root("g01 request");
    let (part, stop) = (request.child("g01 part"), AtomicBool::new(false));
    thread::scope(|scope| {
        let far = scope.spawn(|| {
            let mut totals = Readings::default();
            while !stop.load(Relaxed) {
                totals.add(request.usage().cpu);
            }
            totals.add(request.usage().cpu);
            totals.grown
        });
        let (mut own, mut total) = (Readings::default(), Readings::default());
        Runtime::builder().clock(clock).build().unwrap().block_on(request.run(async {
            for round in 0..2_000 {
                work(200);
                part.scope(|| {
                    work(200);
                    total.add(request.usage().cpu);
                });
                own.add(request.own_usage().cpu);
                total.add(request.usage().cpu);
                if round % 4 == 0 {
                    yield_now().await;
                }
            }
        }));
        total.add(request.usage().cpu);
        stop.store(true, Relaxed);
        let far = far.join().unwrap();
        assert!(own.grown > 100 && total.grown > 100 && far > 0, "{} {} {far}", own.grown, total.grown);
    });
}

#[test]
fn g01_no_reading_is_less_than_the_one_before() {
    for clock in [Clock::Auto, Clock::Rseq, Clock::PerfPage, Clock::ThreadTime] {
        on_own_thread(|| no_reading_goes_back(clock));
    }
}

/// Whoever takes the readings in the wrong order is shown nothing, not less than nothing.
#[test]
fn g01_a_difference_is_never_negative() {
    on_own_thread(|| {
        Runtime::new().unwrap().block_on(async {
            let request = Context::root("g01 difference");
            let before = request.usage();
            request.run(async { work(1_000) }).await;
            let after = request.usage();
            assert!(!(after - before).cpu.is_zero());
            assert_eq!((before - after).cpu, Duration::ZERO);
        });
    });
}

/// Panics over what the test's own thread reports.
fn failing_listener(trace: &Trace, name: &'static str) -> context::sentinel::Listening {
    let (trace, here) = (trace.clone(), thread::current().id());
    on_report(move |report| {
        if thread::current().id() == here && report.kind == ReportKind::TransactionInSentinel {
            trace.note(name);
            panic_quietly("a listener");
        }
    })
}

#[test]
fn g03_one_failing_listener_does_not_hide_a_report_from_the_others() {
    on_own_thread(|| {
        let trace = Trace::new();
        let first = Watch::here();
        let _fails = failing_listener(&trace, "fails");
        let second = Watch::here();
        let _fails_too = failing_listener(&trace, "fails too");
        let last = Watch::here();
        for _ in 0..2 {
            drop(context::db::begin("g03"));
            trace.expect(&["fails @ (sentinel)", "fails too @ (sentinel)"]);
            for watch in [&first, &second, &last] {
                assert_eq!(watch.kinds(), [ReportKind::TransactionInSentinel]);
            }
            assert!(Context::current().is_sentinel());
        }
    });
}

struct FailingHooks(&'static str);

impl FailingHooks {
    fn fail(&self, context: &Context) {
        if context.class() == self.0 {
            panic_quietly("a hook");
        }
    }
}

impl Hooks for FailingHooks {
    fn on_resume(&self, context: &Context) {
        self.fail(context);
    }

    fn on_suspend(&self, context: &Context) {
        self.fail(context);
    }

    fn on_finish(&self, context: &Context, _usage: &Usage) {
        self.fail(context);
    }
}

struct Notes(Trace, &'static str);

impl Hooks for Notes {
    fn on_resume(&self, context: &Context) {
        self.note(context, "resume");
    }

    fn on_suspend(&self, context: &Context) {
        self.note(context, "suspend");
    }

    fn on_finish(&self, context: &Context, usage: &Usage) {
        self.note(context, if usage.polls == 1 { "finish" } else { "finish without its polls" });
    }
}

impl Notes {
    fn note(&self, context: &Context, what: &str) {
        if context.class() == self.1 {
            self.0.note(what);
        }
    }
}

#[test]
fn g03_one_failing_hook_does_not_hide_a_life_from_the_others() {
    on_own_thread(|| {
        let (watch, before, after) = (Watch::here(), Trace::new(), Trace::new());
        let class = "g03 hooks";
        let _before = harness::observe(Arc::new(Notes(before.clone(), class)));
        let _fails = harness::observe(Arc::new(FailingHooks(class)));
        let _after = harness::observe(Arc::new(Notes(after.clone(), class)));
        Runtime::new().unwrap().block_on(async {
            runtime::spawn_in(&Context::root(class), async {}).await.unwrap();
        });
        let (before, after) = (before.take(), after.take());
        let whats = |notes: &[String]| -> Vec<String> {
            notes.iter().map(|note| note.split(" @ ").next().unwrap().to_owned()).collect()
        };
        assert_eq!(whats(&before), ["resume", "suspend", "finish"]);
        assert_eq!(whats(&after), whats(&before));
        assert_eq!(watch.kinds(), [ReportKind::UnhandledPanic; 3]);
    });
}
