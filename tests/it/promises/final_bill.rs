//! P24: the final bill is complete. What ran until the finish is in it, on every thread; what runs later is late.

use crate::books::{assert_balanced, manual_runtime, ns, on_manual_clock, pass, work};
use crate::promise::cut;
use crate::trace::Trace;
use crate::watch::Watch;
use context::{Context, FutureExt, Reason, ReportKind, Usage, harness};
use runtime::{Runtime, TaskGroup, yield_now};
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// What the clock of another thread and the slice that it measures may differ by, for each slice that is cut.
const CUT_MAX: Duration = Duration::from_micros(2);

/// Ends what spins, also if the test fails meanwhile.
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }

    fn now(&self) {
        self.0.store(true, Relaxed);
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.now();
    }
}

/// Works on this thread until told, and says what that took by this thread's own clock.
fn spin(stop: &AtomicBool) -> Duration {
    let before = context::accounts().unwrap().thread_cpu;
    while !stop.load(Relaxed) {
        work(100);
    }
    context::accounts().unwrap().thread_cpu - before
}

/// The bills that the hooks of `context` hear.
fn bills(context: &Context) -> mpsc::Receiver<Usage> {
    let (sender, bills) = mpsc::channel();
    context.on_finish(move |usage| sender.send(*usage).unwrap());
    bills
}

/// Reads until it is `ns` more than the first time. Returns the last reading.
fn until_it_grows_by(ns: u64, read: impl Fn() -> Duration) -> Duration {
    let first = read();
    let mut last = first;
    while last < first + Duration::from_nanos(ns) {
        let next = read();
        assert!(next >= last, "{next:?} after {last:?}");
        last = next;
    }
    last
}

#[test]
fn p24_b3_the_bill_of_a_cut_request_has_the_jobs_that_its_parts_left_on_the_pool() {
    let runtime = Runtime::new().unwrap();
    let request = Context::root("p24 cut");
    let bills = bills(&request);
    let stop = Stop::new();
    let (sender, burnt) = mpsc::channel();
    runtime.block_on(async {
        let (inner, stopped) = (request.clone(), stop.flag());
        let handler = request.run(async move {
            let part = inner.child("p24 resize").child("p24 tile");
            let job = part.scope(|| runtime::spawn_blocking(move || sender.send(spin(&stopped)).unwrap()));
            job.await.unwrap();
        });
        assert!(cut(handler, 1).await.is_none());
        assert!(!request.is_finished(), "a job of a part of it runs");
        let shown = until_it_grows_by(2_000_000, || request.usage().cpu);
        assert!(bills.try_recv().is_err());
        stop.now();
        // From the thread of the pool.
        let bill = bills.recv().unwrap();
        let burnt = burnt.recv().unwrap();
        assert!(request.is_finished());
        assert!(bill.cpu >= shown && bill.cpu + CUT_MAX >= burnt, "{bill} {shown:?} {burnt:?}");
        let after = request.usage();
        assert_eq!((after.cpu, after.late_cpu, bill.blocking.jobs), (bill.cpu, ns(0), 1));
    });
    assert!(bills.try_recv().is_err(), "told once");
}

#[runtime::test]
async fn p24_b3_a_hold_keeps_all_above_open_and_they_finish_from_below() {
    let (request, trace) = (Context::root("p24 held"), Trace::new());
    let part = request.child("p24 held part");
    let leaf = part.child("p24 held leaf");
    for (context, name) in [(&request, "request"), (&part, "part"), (&leaf, "leaf")] {
        let trace = trace.clone();
        context.on_finish(move |_| trace.note(name));
    }
    let (first, second) = (leaf.hold(), part.hold());
    leaf.finish();
    request.finish();
    drop(first);
    assert!(leaf.is_finished() && !request.is_finished());
    part.finish();
    trace.expect(&["leaf @ p24 held part"]);
    // Of one that has finished: what is above is held.
    let third = leaf.hold();
    drop(second);
    assert!(!request.is_finished());
    drop(third);
    assert!(part.is_finished() && request.is_finished());
    trace.expect(&["part @ p24 held", "request @ (sentinel)"]);
}

/// A member's destructor is the last that runs of a request that was cut, whether the member was polled before or not.
#[test]
fn p24_b4_the_members_of_a_dropped_group_are_in_the_bill() {
    struct Costly;
    impl Drop for Costly {
        fn drop(&mut self) {
            pass(50);
            assert!(!Context::current().is_finished());
        }
    }
    for polls in [1, 2] {
        on_manual_clock(|| {
            let watch = Watch::here();
            manual_runtime().block_on(async {
                let request = Context::root("p24 fan out");
                let bills = bills(&request);
                let handler = request.run(async move {
                    let mut group = TaskGroup::<(), ()>::with_limit("p24 members", 2);
                    for n in 0..3 {
                        let costly = Costly;
                        let member = async move {
                            let _costly = costly;
                            pending().await
                        };
                        if n == 0 { group.spawn_part("p24 member", member) } else { group.spawn(member) }
                    }
                    yield_now().await;
                    group.join().await.unwrap();
                });
                assert!(cut(handler, polls).await.is_none());
                assert!(!request.is_finished() && bills.try_recv().is_err());
                yield_now().await;
                let bill = bills.try_recv().unwrap();
                assert_eq!((bill.cpu, bill.late_cpu), (ns(150), ns(0)));
                assert_eq!((request.usage().cpu, request.usage().late_cpu), (ns(150), ns(0)));
            });
            assert_eq!(watch.kinds(), []);
            assert_balanced();
        });
    }
}

#[test]
fn p24_b5_a_part_born_after_the_finish_is_born_cancelled_and_late() {
    on_manual_clock(|| {
        let watch = Watch::here();
        manual_runtime().block_on(async {
            let request = Context::root("p24 left");
            let inner = request.clone();
            let old = request.child("p24 old");
            let under_old = old.child("p24 old leaf");
            let task = request.run(async move {
                pass(1);
                let left = inner.clone();
                let task = runtime::spawn(async move {
                    yield_now().await;
                    assert!(left.is_finished());
                    let new = Context::current().child("p24 new");
                    for part in [&new, &new.child("p24 new leaf"), &old, &under_old, &old.child("p24 newer")]
                    {
                        assert_eq!(part.cancel_reason(), Some(Reason::Finished));
                        assert_eq!(
                            part.check().unwrap_err().to_string().split(" (at").next(),
                            Some("cancelled: its context finished")
                        );
                        // Time passes: what begins in the very tick of a finish may be the way back from there.
                        harness::advance_manual_clock(0, 1);
                        let bill = {
                            part.run(async { pass(300) }).await;
                            part.usage()
                        };
                        assert_eq!((bill.cpu, bill.late_cpu), (ns(0), ns(300)), "{part}");
                    }
                });
                [task]
            });
            let bills = bills(&request);
            let [task] = task.await;
            task.await.unwrap();
            let (bill, after) = (bills.try_recv().unwrap(), request.usage());
            assert_eq!((bill.cpu, bill.late_cpu), (ns(1), ns(0)));
            assert_eq!((after.cpu, after.late_cpu), (ns(1), ns(1_500)));
        });
        let reports = watch.take();
        assert!(reports.iter().all(|report| report.kind == ReportKind::LateWork), "{reports:?}");
        let reported: Vec<_> =
            reports.iter().map(|report| report.context.split('#').next().unwrap()).collect();
        assert_eq!(reported, ["p24 new", "p24 new leaf", "p24 old", "p24 old leaf", "p24 newer"]);
        assert_eq!(assert_balanced().late, ns(1_500));
    });
}

/// Nobody's last handle: a hook keeps it, and works in it.
#[test]
fn p24_what_runs_in_a_context_that_a_hook_kept_is_late() {
    struct Keep(mpsc::Sender<Context>);
    impl context::Hooks for Keep {
        fn on_finish(&self, context: &Context, _: &Usage) {
            self.0.send(context.clone()).unwrap();
        }
    }
    on_manual_clock(|| {
        let watch = Watch::here();
        let (sender, kept) = mpsc::channel();
        drop(Context::builder("p24 kept").hooks(Arc::new(Keep(sender))).build());
        let kept = kept.try_recv().unwrap();
        harness::advance_manual_clock(0, 1);
        kept.scope(|| pass(5));
        assert_eq!((kept.usage().cpu, kept.usage().late_cpu), (ns(0), ns(5)));
        assert_eq!(watch.kinds(), [ReportKind::LateWork]);
    });
}

/// Where the work runs, seen from the thread that finishes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Where {
    /// In a context of the finishing thread.
    Visitor,
    /// In a context of its own thread.
    Owner,
    /// In a part of what finishes.
    Part,
}

/// A plain thread works in a context which another thread finishes meanwhile.
fn finish_while_it_runs(place: Where) {
    let parent = Context::root("p24 running parent");
    thread::scope(|scope| {
        let stop = Stop::new();
        let (sender, receiver) = mpsc::channel();
        let lent = (place != Where::Owner).then(|| parent.child("p24 running"));
        let (running, above) = (stop.flag(), &parent);
        let thread = scope.spawn(move || {
            let context = lent.unwrap_or_else(|| above.child("p24 running"));
            sender.send(context.clone()).unwrap();
            let watch = Watch::here();
            let before = context::accounts().unwrap().thread_cpu;
            let burnt = context.scope(|| spin(&running));
            let burnt_at_most = context::accounts().unwrap().thread_cpu - before;
            let kinds = watch.kinds();
            assert!(!kinds.is_empty() && kinds.iter().all(|kind| *kind == ReportKind::LateWork), "{kinds:?}");
            let (books, own) = (assert_balanced(), context.own_usage());
            assert_eq!(books.contexts + books.late, own.cpu + own.late_cpu);
            // To tell of the late work is nobody's cost.
            (burnt.saturating_sub(books.runtime), burnt_at_most)
        });
        let context = receiver.recv().unwrap();
        let ends = if place == Where::Part { parent.clone() } else { context.clone() };
        let bills = bills(&ends);
        let shown = until_it_grows_by(1_000_000, || ends.usage().cpu);
        let bill = ends.finish();
        assert_eq!(bills.try_recv(), Ok(bill));
        assert!(bill.cpu >= shown && bill.cpu > ns(1_000_000), "{bill} {shown:?}");
        if place == Where::Part {
            let own = context.own_usage().cpu;
            assert!(own + CUT_MAX >= bill.cpu && own <= bill.cpu, "{own:?} {bill}");
        }
        let late = until_it_grows_by(1_000_000, || ends.usage().late_cpu);
        assert_eq!(ends.usage().cpu, bill.cpu);
        stop.now();
        let (burnt, burnt_at_most) = thread.join().unwrap();
        let (own, after) = (context.own_usage(), ends.usage());
        assert_eq!((after.cpu, own.cpu), (bill.cpu, bill.cpu), "{place:?}");
        assert!(
            after.late_cpu >= late && own.late_cpu == after.late_cpu,
            "{after} {own} {late:?} {bill} {shown:?} {burnt:?}"
        );
        let charged = own.cpu + own.late_cpu;
        assert!(
            charged + CUT_MAX >= burnt && charged <= burnt_at_most + CUT_MAX,
            "{own} {burnt:?} {burnt_at_most:?}"
        );
        assert_eq!(bills.try_recv(), Err(mpsc::TryRecvError::Disconnected), "told once");
    });
}

#[test]
fn p24_a_slice_that_runs_at_the_finish_is_cut_in_a_visitors_thread() {
    finish_while_it_runs(Where::Visitor);
}

#[test]
fn p24_a_slice_that_runs_at_the_finish_is_cut_in_the_owners_thread() {
    finish_while_it_runs(Where::Owner);
}

#[test]
fn p24_a_slice_that_runs_at_the_finish_is_cut_in_a_part() {
    finish_while_it_runs(Where::Part);
}

/// The job's slice is not over while the class is read.
#[test]
fn p24_b9_the_classes_have_what_runs_on_other_threads() {
    let class = || context::classes().into_iter().find(|class| class.class == "p24 hash").unwrap();
    let stop = Stop::new();
    Runtime::new().unwrap().block_on(async {
        let request = Context::root("p24 hash");
        let stopped = stop.flag();
        let job = request.scope(|| runtime::spawn_blocking(move || spin(&stopped)));
        let running = until_it_grows_by(2_000_000, || class().own.cpu);
        assert!(request.usage().cpu >= running);
        assert_eq!(class().total, Usage::default(), "only of those that are gone");
        stop.now();
        let burnt = job.await.unwrap();
        let (own, of_class) = (request.own_usage(), class().own);
        assert!(of_class.cpu >= running && of_class.cpu >= burnt, "{of_class} {running:?} {burnt:?}");
        assert!(of_class.cpu <= own.cpu + CUT_MAX && own.cpu <= of_class.cpu + CUT_MAX, "{of_class} {own}");
    });
}

/// The same for a late slice, in a context and in its class.
#[test]
fn p24_b9_what_runs_late_on_other_threads_shows_as_late() {
    let class = || context::classes().into_iter().find(|class| class.class == "p24 late elsewhere").unwrap();
    let context = Context::root("p24 late elsewhere");
    context.finish();
    thread::scope(|scope| {
        let stop = Stop::new();
        let (late, stopped) = (&context, stop.flag());
        scope.spawn(move || late.scope(|| spin(&stopped)));
        until_it_grows_by(1_000_000, || class().own.late_cpu);
        until_it_grows_by(1_000_000, || context.own_usage().late_cpu);
        assert_eq!((class().own.cpu, context.usage().cpu), (ns(0), ns(0)));
        stop.now();
    });
}

/// A part of a request is cancelled by its finish as ever, and work that heeds that ends.
#[runtime::test(allow_reports)]
async fn p24_b5_work_in_a_part_of_a_finished_context_hears_of_the_finish() {
    let request = Context::root("p24 heard");
    let part = request.child("p24 heard part");
    let wait = runtime::spawn_in(&part, pending::<()>().cancellable());
    yield_now().await;
    request.finish();
    assert_eq!(wait.await.unwrap().unwrap_err().reason(), Reason::Finished);
    let born = request.child("p24 born part");
    let wait = pending::<()>().cancellable().in_context(born).await;
    assert_eq!(wait.unwrap_err().reason(), Reason::Finished);
}
