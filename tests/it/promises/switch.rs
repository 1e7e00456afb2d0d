//! P23: user code that a switch leads to runs before or after it, is isolated, and changes nothing.

use crate::books::{
    assert_balanced, assert_whole, manual_runtime, on_manual_clock, on_own_thread, pass, work,
};
use crate::logger::with_logger;
use crate::trace::{Trace, panic_quietly};
use crate::watch::Watch;
use context::{Context, Entered, FutureExt, Hooks, ReportKind, harness, sentinel};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

thread_local! {
    static KEPT: RefCell<Option<Entered>> = const { RefCell::new(None) };
}

/// Drops the guard that the test left for the code which it observes.
fn drop_kept() {
    drop(KEPT.take());
}

/// Makes more contexts, so that memory which is freed too early is used by another one.
fn churn() {
    drop((0..64).map(|_| Context::root("churn")).collect::<Vec<_>>());
}

/// A context that has finished, with work to be done in it.
fn finished(class: &str) -> Context {
    let context = Context::root(class);
    context.finish();
    context
}

/// With a logger that panics, as `println!` does when its reader is gone.
fn with_broken_logger<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    with_logger(|_| panic_quietly("failed printing to stdout: Broken pipe"), f)
}

#[test]
fn p23_u1_b7_a_logger_that_panics_unwinds_out_of_no_frame() {
    with_broken_logger(|| {
        let late = finished("u1 frame");
        let ended = catch_unwind(AssertUnwindSafe(|| late.scope(|| work(1_000))));
        assert!(ended.is_ok(), "the logger's panic came out of the frame");
        drop(late);
        churn();
        assert!(Context::current().is_sentinel());
        // The same while the frame unwinds: two panics at once would abort.
        let late = finished("u1 unwinding frame");
        let ended = catch_unwind(AssertUnwindSafe(|| {
            late.scope(|| {
                work(1_000);
                panic_quietly("its own")
            })
        }));
        assert_eq!(context::panic_message(&*ended.unwrap_err()), "its own");
        assert!(Context::current().is_sentinel());
        assert_balanced();
    });
}

#[test]
fn p23_u1_b7_a_logger_that_panics_ends_no_loop() {
    with_broken_logger(|| {
        let runtime = runtime::Runtime::new().unwrap();
        let answer = runtime.block_on(async {
            let late = finished("u1 loop");
            let task = runtime::spawn_in(&late, async {
                runtime::yield_now().await;
                work(1_000)
            });
            task.await.unwrap();
            let kept = runtime::spawn_in(&Context::root("u1 careless"), async {
                let _guard = Context::root("u1 elsewhere").enter();
                runtime::yield_now().await;
            });
            kept.await.unwrap();
            drop(runtime::background("u1 fails", async { Err::<(), _>("no disk") }));
            drop(runtime::spawn(async { panic_quietly("boom") }));
            runtime::yield_now().await;
            Context::current().class()
        });
        assert_eq!(answer, "main");
        assert!(Context::current().is_sentinel());
        assert_balanced();
    });
}

#[test]
fn p23_u2_a_listener_that_ends_what_was_current_changes_no_switch() {
    on_own_thread(|| {
        let here = thread::current().id();
        let late = finished("u2 late");
        KEPT.set(Some(late.enter()));
        drop(late);
        let _listening = sentinel::on_report(move |_| {
            if thread::current().id() == here {
                drop_kept();
                churn();
            }
        });
        work(1_000);
        let next = Context::root("u2 next");
        let seen = next.scope(Context::current);
        assert_eq!(seen, next, "the switch that led to the report is complete");
        assert!(Context::current().is_sentinel(), "the guard was undone by its own frame");
        assert!(KEPT.take().is_none());
        assert_balanced();
    });
}

/// Drops a guard when it is told of a suspend, and looks at what it is told of.
struct DropsGuard(Trace);

impl Hooks for DropsGuard {
    fn on_suspend(&self, context: &Context) {
        drop_kept();
        churn();
        if context.class().starts_with("u3") {
            self.0.note(format_args!("suspend {}", context.class()));
        }
    }
}

#[test]
fn p23_u3_a_hook_is_told_of_a_context_that_it_keeps_alive() {
    on_own_thread(|| {
        let trace = Trace::new();
        let observing = harness::observe(Arc::new(DropsGuard(trace.clone())));
        let (entered, next) = (Context::root("u3 entered"), Context::root("u3 next"));
        let guard = entered.enter();
        drop(entered);
        KEPT.set(Some(guard));
        next.scope(|| assert_eq!(Context::current(), next));
        // The last one is the end of the guard, which is undone when the frame in which it was entered is the innermost again.
        let entered = "suspend u3 entered @ u3 entered";
        trace.expect(&[entered, "suspend u3 next @ u3 next", entered]);
        drop(observing);
        assert!(Context::current().is_sentinel());
        assert_balanced();
    });
}

/// Enters a context when it is told of a suspend, and forgets the guard or keeps it.
struct Enters {
    context: Context,
    keeps: bool,
}

impl Hooks for Enters {
    fn on_suspend(&self, context: &Context) {
        if context.class().starts_with("u4") {
            let guard = self.context.enter();
            if self.keeps {
                KEPT.set(Some(guard));
            } else {
                std::mem::forget(guard);
            }
        }
    }
}

#[test]
fn p23_u4_what_a_hook_enters_is_undone_and_keeps_nothing_of_the_frame_that_ends() {
    for keeps in [false, true] {
        on_own_thread(|| {
            let watch = Watch::here();
            let hooks = Enters { context: Context::root("entered by a hook"), keeps };
            let observing = harness::observe(Arc::new(hooks));
            let request = Context::root("u4 request");
            request.scope(|| ());
            drop(request);
            churn();
            assert!(Context::current().is_sentinel());
            drop_kept();
            assert!(Context::current().is_sentinel());
            assert_eq!(watch.kinds(), [ReportKind::GuardOutOfOrder]);
            drop(observing);
            assert_balanced();
        });
    }
}

#[test]
fn b1_a_report_that_a_listener_leads_to_is_counted_and_not_told() {
    on_own_thread(|| {
        let here = thread::current().id();
        let trace = Trace::new();
        let told = trace.clone();
        let before = sentinel::report_count();
        let _listening = sentinel::on_report(move |report| {
            if thread::current().id() == here {
                told.note(report.kind);
                drop(context::db::begin("b1 store the report"));
                std::mem::forget(Context::root("b1 opened by the listener").enter());
                let _usage = Context::current().usage();
            }
        });
        drop(context::db::begin("b1 load user"));
        trace.expect(&["transaction begun without a context @ (sentinel)"]);
        assert!(sentinel::report_count() - before >= 3, "its own, and the two that the listener led to");
        assert!(Context::current().is_sentinel());
        assert_balanced();
    });
}

/// A report of late work is made in a switch; its listener works on what it likes.
#[test]
fn b1_b2_a_listener_may_use_the_runtime_and_the_books_balance() {
    on_own_thread(|| {
        let told = Arc::new(AtomicUsize::new(0));
        let here = thread::current().id();
        let handle: Arc<Mutex<Option<runtime::Handle>>> = Arc::default();
        let (counter, forward) = (told.clone(), handle.clone());
        let runtime = runtime::Runtime::builder()
            .track_wakers(false)
            .on_report(move |report| {
                let text = format!("{report}; {}", Context::current().usage());
                if thread::current().id() == here && text.contains("b1 late") {
                    counter.fetch_add(1, Relaxed);
                }
                let forward = forward.lock().unwrap().clone();
                if let Some(handle) = forward {
                    drop(handle.spawn(async move { drop(text) }));
                }
            })
            .build()
            .unwrap();
        *handle.lock().unwrap() = Some(runtime.handle().clone());
        runtime.block_on(async {
            let late = finished("b1 late");
            runtime::spawn_in(&late, async { work(1_000) }).await.unwrap();
            for _ in 0..100 {
                runtime::yield_now().await;
            }
        });
        handle.lock().unwrap().take();
        assert_eq!(told.load(Relaxed), 1);
        assert_balanced();
    });
}

#[test]
fn b2_what_listeners_cost_is_the_loops_and_no_contexts() {
    on_manual_clock(|| {
        let here = thread::current().id();
        let _listening = sentinel::on_report(move |_| {
            if thread::current().id() == here {
                let _ = (Context::current().usage(), pass(1_000));
            }
        });
        let (late, next) = (finished("b2 late"), Context::root("b2 next"));
        let runtime = manual_runtime();
        runtime.block_on(async {
            // What begins at the very stamp of the finish is its tail.
            pass(1);
            late.scope(|| pass(70));
            next.scope(|| pass(5));
            assert_eq!(
                (late.usage().late_cpu, next.usage().cpu),
                (crate::books::ns(70), crate::books::ns(5))
            );
            async { pass(30) }.in_context(late.clone()).await;
            assert_eq!(late.usage().late_cpu, crate::books::ns(100));
        });
        let books = assert_whole();
        assert_eq!(books.runtime, crate::books::ns(2_000), "two reports were told");
        assert_eq!((books.late, books.contexts), (crate::books::ns(100), crate::books::ns(6)));
    });
}

#[test]
#[rustfmt::skip]
fn b6_late_work_is_reported_at_the_line_of_its_own_call() {
    on_own_thread(|| {
        let watch = Watch::here();
        let mut lines = Vec::new();
        let mut here = |line: u32| lines.push(line);
        let [a, b, c, d, e, f] = ["run", "in_context", "scope", "enter", "plain scope", "plain enter"].map(finished);
        runtime::Runtime::new().unwrap().block_on(async {
            here(line!()); a.run(async { work(1_000) }).await;
            here(line!()); async { work(1_000) }.in_context(b).await;
            here(line!()); c.scope(|| work(1_000));
            here(line!()); let guard = d.enter(); work(1_000); drop(guard);
        });
        here(line!()); e.scope(|| work(1_000));
        here(line!()); let guard = f.enter(); work(1_000); drop(guard);
        let reports = watch.take();
        assert!(reports.iter().all(|report| report.kind == ReportKind::LateWork), "{reports:?}");
        let seen: Vec<u32> = reports.iter().map(|report| report.place.line()).collect();
        assert_eq!(seen, lines);
    });
}

/// What is left of a slice in which its context finished is one tail, also if a reading of the books cuts it.
#[test]
fn b18_the_tail_of_a_finished_context_is_no_report_however_it_is_cut() {
    on_manual_clock(|| {
        let watch = Watch::here();
        manual_runtime().block_on(async {
            let request = Context::root("b18");
            let inside = request.clone();
            let task = runtime::spawn_in(&request, async move {
                pass(5);
                inside.finish();
                for _ in 0..3 {
                    // A preemption: on the CPU for 1 of 10 ns.
                    harness::advance_manual_clock(1, 10);
                    let _cut = context::accounts();
                }
            });
            task.await.unwrap();
            assert_eq!(request.usage().late_cpu, crate::books::ns(3));
        });
        assert_eq!(watch.kinds(), []);
    });
}

/// The next poll is none of the tail, even if nothing else ran between.
#[test]
fn b18_another_task_of_the_finished_context_is_late_work() {
    on_manual_clock(|| {
        let watch = Watch::here();
        manual_runtime().block_on(async {
            let request = Context::root("b18 next");
            let inside = request.clone();
            let first = runtime::spawn_in(&request, async move {
                inside.finish();
                pass(1);
            });
            let second = runtime::spawn_in(&request, async { pass(7) });
            first.await.unwrap();
            second.await.unwrap();
            assert_eq!(request.usage().late_cpu, crate::books::ns(8));
        });
        assert_eq!(watch.only().cpu, crate::books::ns(7));
    });
}

/// A pool thread that leaves a context of the loop's says nothing about when the loop last left it.
#[test]
fn b21_the_wait_of_a_context_is_its_own_threads_matter() {
    on_manual_clock(|| {
        let request = Context::root("b21");
        let share = harness::Share::of(&request);
        let _loop = harness::enter_loop(context::Clock::Manual, None);
        let place = std::panic::Location::caller();
        harness::advance_manual_clock(0, 1_000);
        harness::poll(&share, place, 0, || ());
        harness::idle();
        harness::advance_manual_clock(0, 30_000);
        let theirs = request.clone();
        // Its clock is another one: a stamp of that means nothing here.
        thread::spawn(move || theirs.scope(|| ())).join().unwrap();
        harness::poll(&share, place, 0, || ());
        harness::idle();
        assert_eq!(request.usage().queued, crate::books::ns(31_000));
    });
}
