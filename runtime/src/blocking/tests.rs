use super::*;
use crate::runtime::{Runtime, accounts};
use crate::spawn::{spawn, spawn_in};
use crate::timers::TimerKey;
use context::sentinel::reports;
use context::{FutureExt, Report, live};
use parking_lot::Mutex;
use std::future::poll_fn;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Instant;

const MILLI: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(60);

fn one_thread(queue: usize) -> Runtime {
    Runtime::builder().blocking_threads(1).blocking_queue(queue).build().unwrap()
}

/// Burns that much CPU; what the kernel's clock of this thread says it was.
fn burn(cpu: Duration) -> Duration {
    let thread_cpu = || accounts().thread_cpu;
    let begun = thread_cpu();
    while thread_cpu() - begun < cpu {}
    thread_cpu() - begun
}

fn spin(wall: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < wall {}
}

/// A job that runs until it is told to end; it runs when this returns.
fn occupy() -> (JoinHandle<()>, mpsc::Sender<()>) {
    let (begun, has_begun) = mpsc::channel();
    let (end, ends) = mpsc::channel();
    let job = spawn_blocking(move || {
        begun.send(()).unwrap();
        let _ = ends.recv();
    });
    has_begun.recv().unwrap();
    (job, end)
}

/// Says in which context it is dropped.
struct Dropped(Arc<Mutex<Vec<String>>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.lock().push(Context::current().to_string());
    }
}

fn reported(kind: ReportKind, context: &str) -> Option<Report> {
    reports().into_iter().find(|report| report.kind == kind && report.context == context)
}

#[test]
fn p10_a_job_runs_in_the_callers_context_and_its_cpu_is_charged_there() {
    let request = Context::root("p10 charge");
    let rt = Runtime::new().unwrap();
    let job = bill(&rt, &request, || (Context::current(), thread::current().id(), burn(2 * MILLI)));
    let (context, thread, burnt) = job;
    assert_eq!(context, request);
    assert_ne!(thread, thread::current().id());
    let usage = request.usage();
    assert!(usage.cpu >= burnt && usage.cpu < burnt + MILLI, "{usage} for {burnt:?}");
    assert_eq!((usage.blocking.jobs, usage.late_cpu), (1, Duration::ZERO));
    assert!(usage.blocking.running >= burnt, "{usage:?}");
}

/// Off the CPU on a thread of the pool: the loop is not held up, so it is not `blocked`; and the time of a transaction in
/// the job is the transaction's.
#[test]
fn b19_each_instant_of_a_job_is_in_one_column() {
    let rt = Runtime::builder().clock(context::Clock::Manual).build().unwrap();
    let block = |millis: u64| context::harness::block_manual_clock(millis * 1_000_000);
    let (job, part) = (Context::root("b19 job"), Context::root("b19 part"));
    bill(&rt, &job, move || {
        block(100);
        // In a context of this thread's own, too.
        part.child("b19 child").scope(|| block(50));
        assert!(part.usage().blocked.is_zero(), "{}", part.usage());
        let mut transaction = context::db::begin("b19");
        block(7);
        transaction.connected();
        block(20);
        drop(transaction);
        block(1);
    });
    let usage = job.usage();
    assert!(usage.blocked.is_zero() && usage.cpu.is_zero(), "{usage}");
    assert_eq!((usage.blocking.jobs, usage.blocking.running), (1, 151 * MILLI), "{usage}");
    assert_eq!((usage.db.waiting, usage.db.in_transaction), (7 * MILLI, 20 * MILLI), "{usage}");
    // A loop that runs in a job has its own.
    let inner = bill(&rt, &Context::root("b19 outer"), move || {
        let inner = Context::root("b19 inner");
        let rt = Runtime::builder().clock(context::Clock::Manual).build().unwrap();
        rt.block_on(async { block(3) }.in_context(inner.clone()));
        inner.usage()
    });
    assert_eq!(inner.blocked, 3 * MILLI, "{inner}");
}

/// Runs one job in `context`, and awaits it there.
fn bill<R: Send + 'static>(rt: &Runtime, context: &Context, f: impl FnOnce() -> R + Send + 'static) -> R {
    rt.block_on(async { spawn_blocking(f).await.unwrap() }.in_context(context.clone()))
}

#[test]
fn p10_the_threads_of_the_pool_keep_books_that_add_up() {
    let rt = one_thread(0);
    let request = Context::root("p10 books");
    bill(&rt, &request, || burn(MILLI));
    let books = bill(&rt, &request, accounts);
    let parts = books.contexts + books.late + books.sentinel + books.runtime;
    let missing =
        books.thread_cpu.as_nanos() as i128 - parts.as_nanos() as i128 - i128::from(books.correction);
    // The contexts of others are not in this thread's own nodes, and yet in its books.
    assert_eq!(missing, 0, "{books:?}");
    // Not nothing: the thread's books open a moment before its loop account is in place.
    assert!(books.sentinel < MILLI / 4, "{books:?}");
    assert!(books.contexts >= MILLI && books.runtime > Duration::ZERO, "{books:?}");
}

#[test]
fn p10_the_wait_for_a_thread_is_queued() {
    let (first, second) = (Context::root("p10 first"), Context::root("p10 second"));
    let rt = one_thread(1);
    let waited = rt.block_on(async {
        let (running, end) = first.scope(occupy);
        let queued = second.scope(|| spawn_blocking(|| ()));
        let begun = Instant::now();
        assert_eq!(second.usage().blocking.jobs, 1, "it counts from the start");
        spin(MILLI);
        let waited = begun.elapsed();
        end.send(()).unwrap();
        queued.await.unwrap();
        running.await.unwrap();
        waited
    });
    let usage = second.usage().blocking;
    assert!(usage.queued >= waited * 99 / 100, "{usage:?} for {waited:?}");
    assert!(first.usage().blocking.running >= waited * 99 / 100);
}

#[test]
fn p10_the_charge_lands_though_the_handle_was_dropped() {
    let request = Context::root("p10 forgotten");
    let drops = Arc::new(Mutex::new(Vec::new()));
    let rt = Runtime::new().unwrap();
    rt.block_on(async {
        let output = Dropped(drops.clone());
        let (running, end) = request.scope(occupy);
        let job = request.scope(|| {
            spawn_blocking(move || {
                burn(MILLI);
                output
            })
        });
        drop((job, running, end));
    });
    assert!(rt.shutdown_timeout(PATIENCE).is_empty());
    let usage = request.usage();
    assert!(usage.cpu >= MILLI && usage.blocking.jobs == 2, "{usage}");
    assert_eq!(*drops.lock(), [request.to_string()], "and the output is dropped in the context");
}

/// Burns where it is dropped.
struct Burning;

impl Drop for Burning {
    fn drop(&mut self) {
        burn(MILLI);
    }
}

#[test]
fn p10_the_drop_of_an_output_that_nobody_awaits_is_not_late() {
    let request = Context::root("p10 unawaited");
    let rt = Runtime::new().unwrap();
    let (finished, is_finished) = mpsc::channel::<()>();
    rt.block_on(async {
        drop(request.scope(|| {
            spawn_blocking(move || {
                is_finished.recv().unwrap();
                Burning
            })
        }));
        request.finish();
        assert!(!request.is_finished());
        finished.send(()).unwrap();
    });
    assert!(rt.shutdown_timeout(PATIENCE).is_empty());
    let usage = request.usage();
    assert!(request.is_finished() && usage.cpu >= MILLI && usage.late_cpu.is_zero(), "{usage}");
}

#[test]
fn p10_a_job_holds_its_context_open() {
    let request = Context::root("p10 held");
    let rt = Runtime::new().unwrap();
    rt.block_on(async {
        let (finished, is_finished) = mpsc::channel();
        let (begun, has_begun) = mpsc::channel();
        let job = request.scope(|| {
            spawn_blocking(move || {
                begun.send(()).unwrap();
                is_finished.recv().unwrap();
                burn(MILLI)
            })
        });
        has_begun.recv().unwrap();
        request.finish();
        assert!(!request.is_finished());
        finished.send(()).unwrap();
        job.await.unwrap();
    });
    let usage = request.usage();
    assert!(request.is_finished() && usage.cpu >= MILLI && usage.late_cpu.is_zero(), "{usage}");
    assert!(reported(ReportKind::LateWork, &request.to_string()).is_none());
}

#[test]
fn p10_a_panic_is_an_error_and_the_pool_lives_on() {
    let rt = one_thread(0);
    rt.block_on(async {
        let error = spawn_blocking(|| panic!("no such file")).await.unwrap_err();
        assert_eq!(error.to_string(), "task panicked: no such file");
        assert_eq!(spawn_blocking(|| 1).await.unwrap(), 1);
    });
}

#[test]
fn p17_a_panic_that_nobody_awaits_is_reported() {
    let request = Context::root("p10 unheard");
    let rt = Runtime::new().unwrap();
    let line = line!() + 1;
    rt.block_on(async { drop(request.scope(|| spawn_blocking(|| panic!("unheard")))) });
    assert!(rt.shutdown_timeout(PATIENCE).is_empty());
    let report = reported(ReportKind::UnhandledPanic, &request.to_string()).unwrap();
    assert_eq!((report.place.line(), report.detail.as_str()), (line, "unheard"));
}

#[test]
fn p10_a_job_aborted_before_it_began_is_not_run() {
    let drops = Arc::new(Mutex::new(Vec::new()));
    let request = Context::root("p10 aborted");
    let rt = one_thread(1);
    rt.block_on(async {
        let (running, end) = occupy();
        let captured = Dropped(drops.clone());
        let job = request.scope(|| {
            spawn_blocking(move || {
                drop(captured);
                unreachable!("it was aborted")
            })
        });
        job.abort();
        running.abort();
        end.send(()).unwrap();
        let error = job.await.unwrap_err();
        assert!(error.is_cancelled(), "{error}");
        running.await.expect("one that runs is not interrupted");
    });
    assert_eq!(*drops.lock(), [request.to_string()]);
}

#[test]
fn p10_a_full_queue_refuses() {
    let drops = Arc::new(Mutex::new(Vec::new()));
    let rt = one_thread(1);
    rt.block_on(async {
        let (running, end) = occupy();
        let queued = spawn_blocking(|| 2);
        let captured = Dropped(drops.clone());
        let refused = spawn_blocking(move || drop(captured));
        assert_eq!(*drops.lock(), [Context::current().to_string()], "dropped here and now");
        assert!(refused.is_finished());
        assert!(refused.await.unwrap_err().is_refused());
        end.send(()).unwrap();
        assert_eq!(queued.await.unwrap(), 2);
        running.await.unwrap();
        assert_eq!(Context::current().usage().blocking.jobs, 2, "what was refused is no job");
    });
}

#[test]
fn p10_no_queue_is_needed_by_one_job_after_the_other() {
    one_thread(0).block_on(async {
        for n in 0..1_000 {
            assert_eq!(spawn_blocking(move || n).await.unwrap(), n);
        }
    });
}

#[test]
fn p20_the_drop_of_the_runtime_waits_for_jobs_that_run_and_drops_those_that_wait() {
    let drops = Arc::new(Mutex::new(Vec::new()));
    let request = Context::root("p20 queued");
    let rt = one_thread(1);
    let (running, waiting, end) = rt.block_on(async {
        let (running, end) = occupy();
        let captured = Dropped(drops.clone());
        let waiting = request.scope(|| spawn_blocking(move || drop(captured)));
        (running, waiting, end)
    });
    let releaser = thread::spawn(move || {
        while !waiting.is_finished() {
            thread::yield_now();
        }
        end.send(()).unwrap();
        waiting
    });
    drop(rt);
    assert!(running.is_finished(), "it was waited for");
    assert_eq!(*drops.lock(), [request.to_string()]);
    let error = Runtime::new().unwrap().block_on(releaser.join().unwrap()).unwrap_err();
    assert_eq!(error.reason(), Some(context::Reason::Shutdown));
}

#[test]
fn p20_shutdown_waits_for_jobs_but_no_longer_than_its_patience() {
    let request = Context::root("p20 straggler");
    let rt = one_thread(1);
    let (job, end) = rt.block_on(async { request.scope(occupy) });
    let stragglers = rt.shutdown_timeout(MILLI);
    let names: Vec<_> = stragglers.iter().map(|straggler| straggler.context.clone()).collect();
    assert_eq!(names, [request.to_string()]);
    assert!(reported(ReportKind::Straggler, &request.to_string()).is_some());
    end.send(()).unwrap();
    // It was not torn: its handle may be awaited elsewhere.
    Runtime::new().unwrap().block_on(job).unwrap();
}

#[test]
fn p20_shutdown_with_patience_lets_queued_jobs_run() {
    let rt = one_thread(2);
    let ran = Arc::new(Mutex::new(0));
    rt.block_on(async {
        for _ in 0..3 {
            let ran = ran.clone();
            drop(spawn_blocking(move || *ran.lock() += 1));
        }
    });
    assert!(rt.shutdown_timeout(PATIENCE).is_empty());
    assert_eq!(*ran.lock(), 3);
}

#[test]
fn p10_a_job_of_nobody_is_reported_with_its_line() {
    let rt = Runtime::builder().without_main().build().unwrap();
    let line = line!() + 1;
    rt.block_on(async { spawn_blocking(|| ()).await.unwrap() });
    let is_it = |report: &Report| {
        report.kind == ReportKind::BlockingInSentinel && report.place.line() == line && report.count == 1
    };
    assert!(reports().iter().any(is_it), "{:?}", reports());
}

/// Trap 25.
#[test]
fn p3_a_finished_job_pins_nothing() {
    let rt = Runtime::new().unwrap();
    let is_live = |id| live().iter().any(|context| context.id == id);
    rt.block_on(async {
        let request = Context::root("p3 job");
        let id = request.id();
        let (mut job, end) = request.scope(occupy);
        drop(request);
        assert!(is_live(id), "a job that runs is work of its context");
        end.send(()).unwrap();
        (&mut job).await.unwrap();
        assert!(!is_live(id), "the handle alone holds nothing");
        drop(job);
    });
}

#[test]
fn p5_a_guard_that_a_job_leaks_does_not_reach_the_next_job() {
    let rt = one_thread(0);
    let (request, other) = (Context::root("p5 job"), Context::root("p5 leaked"));
    let leaked = other.clone();
    bill(&rt, &request, move || std::mem::forget(leaked.enter()));
    assert_eq!(bill(&rt, &request, Context::current), request);
    assert!(reported(ReportKind::GuardAcrossAwait, &other.to_string()).is_some());
}

#[test]
#[should_panic(expected = "no runtime runs on this thread, to take the blocking job of")]
fn p10_without_a_runtime_it_says_so() {
    drop(spawn_blocking(|| ()));
}

/// Traps 7 and 19: a handle awaited on another runtime, and beyond the life of its own.
#[test]
fn p10_a_handle_may_be_awaited_on_another_runtime() {
    let (one, other) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let (job, end) = one.block_on(async { occupy() });
    other.block_on(async {
        let waiting = spawn(job);
        end.send(()).unwrap();
        waiting.await.unwrap().unwrap();
        assert_eq!(spawn_blocking(|| 1).await.unwrap(), 1, "each has its own pool");
    });
    let mut job = None;
    one.block_on(async { job = Some(spawn_blocking(|| 2)) });
    drop(one);
    let outcome = other.block_on(job.unwrap());
    // The runtime ended, perhaps before the job began.
    assert!(outcome.as_ref().is_ok_and(|n| *n == 2) || outcome.is_err_and(|error| error.is_cancelled()));
}

/// Trap 17.
#[test]
fn a_job_given_to_the_pool_by_a_destructor_at_the_end_is_refused() {
    struct AtDrop(Arc<Mutex<Option<JoinHandle<()>>>>);
    impl Drop for AtDrop {
        fn drop(&mut self) {
            *self.0.lock() = Some(spawn_blocking(|| ()));
        }
    }
    let handle = Arc::new(Mutex::new(None));
    let rt = Runtime::new().unwrap();
    let held = AtDrop(handle.clone());
    rt.block_on(async {
        drop(spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        }));
    });
    drop(rt);
    let job = handle.lock().take().unwrap();
    let error = Runtime::new().unwrap().block_on(job).unwrap_err();
    assert_eq!(error.reason(), Some(context::Reason::Shutdown));
}

/// Waits for a moment of the runtime's time, ns.
async fn until(deadline: u64) {
    let now = || current::with(|core| core.unwrap().time.now());
    let mut key: Option<TimerKey> = None;
    poll_fn(|cx| {
        if now() >= deadline {
            return Poll::Ready(());
        }
        key.get_or_insert_with(|| {
            current::with(|core| core.unwrap().timers.borrow_mut().insert(deadline, cx.waker().clone()))
        });
        Poll::Pending
    })
    .await;
}

const HOUR: u64 = 3_600_000_000_000;

#[test]
fn p22_paused_time_does_not_jump_while_a_job_runs_and_jumps_when_it_has_ended() {
    let rt = Runtime::builder().paused(true).build().unwrap();
    rt.block_on(async {
        let now = || current::with(|core| core.unwrap().time.now());
        let request = Context::root("p22 other");
        let timer = spawn_in(&request, until(HOUR));
        spawn_blocking(|| spin(2 * MILLI)).await.unwrap();
        assert_eq!(now(), 0);
        // Nobody awaits this one: its end alone has to wake the loop.
        drop(spawn_blocking(|| spin(2 * MILLI)));
        timer.await.unwrap();
        assert!(now() >= HOUR);
    });
}

#[test]
fn r15_no_thread_is_not_a_full_queue() {
    let error = JoinHandle::<()>::refused(
        why_not(Why::NoThread(std::io::Error::other("EAGAIN"))),
        Context::sentinel().name(),
        Location::caller(),
    );
    let error = futures_now(error).unwrap_err();
    assert!(error.is_refused());
    assert_eq!(error.to_string(), "the blocking pool cannot start a thread: EAGAIN");
    assert_eq!(why_not(Why::Full).to_string(), "the queue of the blocking pool is full");
    let in_db = crate::db::Error::<std::fmt::Error>::NoThread(std::io::Error::other("EAGAIN"));
    assert_eq!(in_db.to_string(), "no thread for a database connection: EAGAIN");
}

/// What is ready at once.
fn futures_now<F: Future + Unpin>(mut future: F) -> F::Output {
    let polled =
        std::pin::Pin::new(&mut future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    match polled {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("it is ready"),
    }
}
