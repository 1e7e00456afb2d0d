//! On a database of paper, which writes down what it is asked to do. That of SQLite is tested beside its own code.

mod connections;
mod interrupts;
mod queued;
mod unread;

use super::*;
use crate::runtime::{Runtime, accounts};
use crate::spawn::spawn;
use context::sentinel::reports;
use context::{Cancelled, Clock, FutureExt, Reason, Report, live};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::mpsc;
use std::task;
use std::thread;
use std::time::Instant;

const MILLI: Duration = Duration::from_millis(1);

/// What happened, in order.
#[derive(Clone, Default)]
struct Trace(Arc<Mutex<Vec<&'static str>>>);

impl Trace {
    fn push(&self, event: &'static str) {
        self.0.lock().push(event);
    }

    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock()).join(" ")
    }
}

struct Paper {
    trace: Trace,
    is_clean: bool,
    thread: thread::ThreadId,
}

#[derive(Debug, PartialEq, Eq)]
enum Blot {
    /// Tried again.
    Busy,
    Spilt,
}

impl fmt::Display for Blot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Blot {}

impl Connection for Paper {
    type Error = Blot;
    type Transaction<'a> = &'a mut Paper;

    fn begin(&mut self, access: Access) -> Result<&mut Paper, Blot> {
        self.trace.push(if access == Access::Write { "begin" } else { "begin-read" });
        Ok(self)
    }

    fn commit(transaction: &mut Paper) -> Result<(), Blot> {
        transaction.trace.push("commit");
        Ok(())
    }

    fn roll_back(transaction: &mut Paper) -> Result<(), Blot> {
        transaction.trace.push("roll-back");
        Ok(())
    }

    fn is_retryable(error: &Blot) -> bool {
        *error == Blot::Busy
    }

    fn is_clean(&mut self) -> bool {
        self.is_clean
    }

    fn close(self) -> Result<(), Blot> {
        assert_eq!(self.thread, thread::current().id());
        self.trace.push("close");
        Ok(())
    }
}

fn paper(trace: &Trace) -> Builder<Paper> {
    let trace = trace.clone();
    let open = move || {
        trace.push("open");
        Ok(Paper { trace: trace.clone(), is_clean: true, thread: thread::current().id() })
    };
    Pool::builder(open).connections(1).backoff(Duration::ZERO)
}

fn run<F: Future>(context: &Context, future: F) -> F::Output {
    Runtime::new().unwrap().block_on(future.in_context(context.clone()))
}

fn spin(wall: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < wall {}
}

fn reported(kind: ReportKind, context: &Context) -> Option<Report> {
    let name = context.to_string();
    reports().into_iter().find(|report| report.kind == kind && report.context == name)
}

/// A transaction that is open until it is told to go on; it is open when this returns.
fn occupy(pool: &Pool<Paper>, event: &'static str) -> (Interaction<(), Blot>, mpsc::Sender<()>) {
    let (begun, has_begun) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let interaction = pool.interact("occupy", move |tx| {
        begun.send(()).unwrap();
        let _ = goes_on.recv();
        tx.trace.push(event);
        let trace = tx.trace.clone();
        tx.call_after(move || trace.push("after"));
        Ok(())
    });
    has_begun.recv().unwrap();
    (interaction, go_on)
}

#[test]
fn p11_a_transaction_is_charged_to_the_caller() {
    let request = Context::root("p11 charge");
    let burnt = run(&request, async {
        let pool = paper(&Trace::default()).build();
        pool.interact("burn", |tx| {
            assert_eq!(Context::current().class(), "p11 charge");
            let begun = accounts().thread_cpu;
            while accounts().thread_cpu - begun < 2 * MILLI {}
            tx.rows(7);
            Ok(accounts().thread_cpu - begun)
        })
        .await
        .unwrap()
    });
    let usage = request.usage();
    assert!(usage.cpu >= burnt && usage.cpu < burnt + MILLI, "{usage} for {burnt:?}");
    assert_eq!((usage.db.transactions, usage.db.rows, usage.blocking.jobs), (1, 7, 0));
    assert!(usage.db.in_transaction >= burnt, "{usage}");
}

#[test]
fn b19_a_transaction_that_blocks_is_in_transaction_and_not_blocked() {
    let request = Context::root("b19 db");
    let rt = Runtime::builder().clock(Clock::Manual).build().unwrap();
    let work = async {
        let pool = paper(&Trace::default()).build();
        let block = || context::harness::block_manual_clock(100_000_000);
        pool.interact("block", move |_| {
            block();
            Ok(())
        })
        .await
    };
    rt.block_on(work.in_context(request.clone())).unwrap();
    let usage = request.usage();
    assert_eq!((usage.db.in_transaction, usage.blocked), (100 * MILLI, Duration::ZERO), "{usage}");
}

#[test]
fn p11_the_wait_for_a_connection_is_waiting() {
    let (first, second) = (Context::root("p11 first"), Context::root("p11 second"));
    let waited = Runtime::new().unwrap().block_on(async {
        let pool = paper(&Trace::default()).build();
        let (running, go_on) = first.scope(|| occupy(&pool, "first"));
        let waiting = second.scope(|| pool.interact("wait", |_| Ok(())));
        let begun = Instant::now();
        assert_eq!(second.usage().db.transactions, 1, "it counts from the start");
        spin(MILLI);
        let waited = begun.elapsed();
        go_on.send(()).unwrap();
        waiting.await.unwrap();
        running.await.unwrap();
        waited
    });
    let usage = second.usage().db;
    assert!(usage.waiting >= waited * 99 / 100, "{usage:?} for {waited:?}");
    assert!(first.usage().db.in_transaction >= waited * 99 / 100);
}

#[test]
fn p11_a_transaction_of_nobody_is_reported_by_name_and_line() {
    let rt = Runtime::builder().without_main().build().unwrap();
    let line = line!() + 3;
    rt.block_on(async {
        let pool = paper(&Trace::default()).build();
        pool.interact("store event", |_| Ok(())).await.unwrap();
    });
    let is_it = |report: &Report| {
        report.kind == ReportKind::TransactionInSentinel
            && (report.place.line(), report.detail.as_str()) == (line, "store event")
    };
    assert!(reports().iter().any(is_it), "{:?}", reports());
}

#[test]
fn d1_callbacks_are_called_once_after_the_end_and_in_the_callers_context() {
    let trace = Trace::default();
    let request = Context::root("d1");
    let interact = |outcome: fn() -> Result<(), Blot>| {
        let pool = paper(&trace).build();
        run(&request, async move {
            let result = pool.interact("d1", move |tx| {
                let (after, on_error) = (tx.trace.clone(), tx.trace.clone());
                tx.call_after(move || {
                    assert_eq!(Context::current().class(), "d1");
                    after.push("after");
                });
                tx.call_on_error(move || {
                    assert_eq!(Context::current().class(), "d1");
                    on_error.push("on-error");
                });
                outcome()
            });
            result.await.is_ok()
        })
    };
    assert!(interact(|| Ok(())));
    assert_eq!(trace.take(), "open begin commit after close");
    assert!(!interact(|| Err(Blot::Spilt)));
    assert_eq!(trace.take(), "open begin roll-back on-error close");
    assert!(!interact(|| panic!("this panic belongs to the test")));
    assert_eq!(trace.take(), "open begin roll-back on-error close");
}

/// And their time is not the transaction's.
#[test]
fn d1_a_panic_in_a_callback_is_reported_and_the_result_stands() {
    let request = Context::root("d1 panic");
    let result = run(&request, async {
        let pool = paper(&Trace::default()).build();
        let stored = pool.interact("d1", |tx| {
            tx.call_after(|| spin(5 * MILLI));
            tx.call_after(|| panic!("callback"));
            Ok(1)
        });
        stored.await
    });
    assert_eq!(result.unwrap(), 1);
    assert_eq!(reported(ReportKind::UnhandledPanic, &request).unwrap().detail, "callback");
    let usage = request.usage();
    assert!(usage.cpu > usage.db.in_transaction, "{usage}");
}

#[test]
fn d2_failing_attempts_are_rolled_back_and_count_as_one_transaction() {
    let trace = Trace::default();
    let request = Context::root("d2");
    let error = run(&request, async {
        let pool = paper(&trace).retries(2).build();
        pool.interact("d2", |tx| {
            let trace = tx.trace.clone();
            tx.call_on_error(move || trace.push("on-error"));
            tx.rows(1);
            Err::<(), _>(Blot::Busy)
        })
        .await
        .unwrap_err()
    });
    assert_eq!(error.driver(), Some(&Blot::Busy));
    assert_eq!(trace.take(), "open begin roll-back begin roll-back begin roll-back on-error close");
    let usage = request.usage().db;
    assert_eq!((usage.transactions, usage.rows), (1, 3), "and what was fetched was fetched");
}

#[test]
fn d3_an_attempt_fails_then_the_next_succeeds() {
    let trace = Trace::default();
    let request = Context::root("d3");
    run(&request, async {
        let pool = paper(&trace).build();
        let mut attempts = 0;
        let stored = pool.interact("d3", move |tx| {
            let (after, on_error) = (tx.trace.clone(), tx.trace.clone());
            tx.call_after(move || after.push("after"));
            tx.call_on_error(move || on_error.push("on-error"));
            attempts += 1;
            if attempts == 1 { Err(Blot::Busy) } else { Ok(attempts) }
        });
        assert_eq!(stored.await.unwrap(), 2);
    });
    assert_eq!(trace.take(), "open begin roll-back begin commit after close");
    assert_eq!(request.usage().db.transactions, 1);
}

/// A cancelled caller leaves at once; its transaction ends as if nothing had been.
#[test]
fn d4_cancelling_the_caller_does_not_tear_a_transaction() {
    let trace = Trace::default();
    let request = Context::root("d4");
    run(&request, async {
        let pool = paper(&trace).build();
        let (interaction, go_on) = occupy(&pool, "work");
        let caller = spawn(interaction.cancellable());
        request.cancel(Reason::Disconnected);
        let cancelled: Cancelled = caller.await.unwrap().unwrap_err();
        assert_eq!(cancelled.reason(), Reason::Disconnected);
        assert_eq!(trace.take(), "open begin", "it is open still");
        go_on.send(()).unwrap();
        pool.close().await;
    });
    assert_eq!(trace.take(), "work commit after close");
    assert!(reported(ReportKind::UnhandledError, &request).is_none());
}

#[test]
fn d5_the_same_with_attempts_that_fail() {
    let trace = Trace::default();
    let request = Context::root("d5");
    let line = run(&request, async {
        let pool = paper(&trace).retries(1).build();
        let (begun, has_begun) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel::<()>();
        let line = line!() + 1;
        let interaction = pool.interact("d5", move |tx| {
            let _ = begun.send(());
            let _ = goes_on.recv();
            let trace = tx.trace.clone();
            tx.call_on_error(move || trace.push("on-error"));
            Err::<(), _>(Blot::Busy)
        });
        has_begun.recv().unwrap();
        drop(interaction);
        drop(go_on);
        pool.close().await;
        line
    });
    assert_eq!(trace.take(), "open begin roll-back begin roll-back on-error close");
    let report = reported(ReportKind::UnhandledError, &request).expect("nobody else hears of it");
    assert_eq!((report.place.line(), report.detail.as_str()), (line, "transaction failed: Busy"));
}

#[test]
fn d6_a_first_look_up_is_one_transaction_and_the_cached_second_is_none() {
    let request = Context::root("d6");
    run(&request, async {
        let pool = paper(&Trace::default()).build();
        let cache = Mutex::new(HashMap::new());
        let look_up = async |key: u32| {
            let cached = cache.lock().get(&key).copied();
            if let Some(value) = cached {
                return value;
            }
            let value = pool.read("look up", move |_| Ok(key * 2)).await.unwrap();
            *cache.lock().entry(key).or_insert(value)
        };
        assert_eq!(look_up(21).await, 42);
        assert_eq!(request.usage().db.transactions, 1);
        assert_eq!(look_up(21).await, 42);
        assert_eq!(request.usage().db.transactions, 1);
    });
}

#[test]
fn p11_a_panic_is_an_error_and_the_connection_goes_on() {
    let trace = Trace::default();
    let request = Context::root("p11 panic");
    run(&request, async {
        let pool = paper(&trace).build();
        let error = pool.interact("panic", |_| -> Result<(), Blot> { panic!("no") }).await.unwrap_err();
        assert!(matches!(error, Error::Panicked(_)), "{error}");
        assert_eq!(error.to_string(), "transaction rolled back: task panicked: no");
        pool.read("next", |_| Ok(())).await.unwrap();
        pool.close().await;
    });
    assert_eq!(trace.take(), "open begin roll-back begin-read commit close");
}

#[test]
fn p11_a_doomed_transaction_is_rolled_back_and_gives_its_result() {
    let trace = Trace::default();
    run(&Context::root("p11 doomed"), async {
        let pool = paper(&trace).build();
        let taken = pool.interact("register", |tx| {
            let (after, on_error) = (tx.trace.clone(), tx.trace.clone());
            tx.call_after(move || after.push("after"));
            tx.call_on_error(move || on_error.push("on-error"));
            tx.roll_back();
            Ok(Err::<u32, _>("name taken"))
        });
        assert_eq!(taken.await.unwrap(), Err("name taken"));
        pool.close().await;
    });
    assert_eq!(trace.take(), "open begin roll-back on-error close");
}

#[test]
fn p11_a_full_queue_is_an_error_at_once() {
    let dropped = Trace::default();
    struct Captured(Trace);
    impl Drop for Captured {
        fn drop(&mut self) {
            self.0.push(Context::current().class());
        }
    }
    run(&Context::root("p11 full"), async {
        let pool = paper(&Trace::default()).queue(1).build();
        let (running, go_on) = occupy(&pool, "first");
        let queued = pool.interact("second", |_| Ok(2));
        let captured = Captured(dropped.clone());
        let refused = pool.interact("third", move |_| {
            let _held = &captured;
            Ok(3)
        });
        assert_eq!(dropped.take(), "p11 full", "dropped here and now");
        assert!(matches!(refused.await, Err(Error::QueueFull)));
        go_on.send(()).unwrap();
        assert_eq!(queued.await.unwrap(), 2);
        running.await.unwrap();
    });
}

/// Trap 25: neither a pooled connection nor a result nobody has fetched keeps a request alive.
#[test]
fn p3_a_pool_pins_no_context() {
    let rt = Runtime::new().unwrap();
    rt.block_on(async {
        let pool = paper(&Trace::default()).build();
        let request = Context::root("p3 db");
        let id = request.id();
        let mut interaction = request.scope(|| pool.interact("connect", |_| Ok(())));
        drop(request);
        (&mut interaction).await.unwrap();
        assert!(!live().iter().any(|context| context.id == id));
    });
}

#[test]
fn p11_one_pool_serves_two_runtimes_and_threads_without_one() {
    fn is_shared<T: Send + Sync + Clone>(_: &T) {}
    fn is_sent<T: Send>(value: T) -> T {
        value
    }
    let request = Context::root("p11 two");
    let pool = paper(&Trace::default()).build();
    is_shared(&pool);
    let other = pool.clone();
    let thread = thread::spawn({
        let request = request.clone();
        move || run(&request, is_sent(async move { other.interact("there", |_| Ok(2)).await }))
    });
    assert_eq!(run(&request, async { pool.interact("here", |_| Ok(1)).await }).unwrap(), 1);
    assert_eq!(thread.join().unwrap().unwrap(), 2);
    // Sent where no runtime runs, awaited where one does.
    let sent = request.scope(|| pool.interact("nowhere", |_| Ok(3)));
    assert_eq!(run(&request, sent).unwrap(), 3);
    assert_eq!(request.usage().db.transactions, 3);
}

#[test]
fn p22_paused_time_waits_for_transactions() {
    let rt = Runtime::builder().paused(true).build().unwrap();
    rt.block_on(async {
        let pool = paper(&Trace::default()).build();
        let hour = current::with(|core| {
            let core = core.unwrap();
            core.timers.borrow_mut().insert(3_600_000_000_000, task::Waker::noop().clone());
            core.time.now()
        });
        pool.interact("spin", |_| {
            spin(2 * MILLI);
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(current::with(|core| core.unwrap().time.now()), hour);
    });
}
