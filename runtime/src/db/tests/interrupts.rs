//! Work for nobody stops (P27): what is interrupted, and what is not.

use super::*;
use crate::time::advance;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// A driver that is interrupted by a handle: a statement that waits, until it is told to go on or interrupted.
#[derive(Default)]
struct Signal {
    state: Mutex<(bool, usize)>,
    changed: parking_lot::Condvar,
}

impl Signal {
    fn interrupt(&self) {
        let mut state = self.state.lock();
        state.0 = true;
        state.1 += 1;
        self.changed.notify_all();
    }

    /// What a statement does that nobody lets go on.
    fn wait(&self) -> Result<(), Blot> {
        let mut state = self.state.lock();
        while !state.0 {
            self.changed.wait(&mut state);
        }
        state.0 = false;
        Err(Blot::Spilt)
    }
}

struct Interruptible(Trace, Arc<Signal>);

impl Connection for Interruptible {
    type Error = Blot;
    type Transaction<'a> = &'a mut Interruptible;

    fn begin(&mut self, _: Access) -> Result<&mut Self, Blot> {
        Ok(self)
    }
    fn commit(transaction: &mut Self) -> Result<(), Blot> {
        transaction.0.push("commit");
        Ok(())
    }
    fn roll_back(transaction: &mut Self) -> Result<(), Blot> {
        transaction.0.push("roll-back");
        Ok(())
    }
    fn is_retryable(error: &Blot) -> bool {
        *error == Blot::Busy
    }
    fn is_clean(&mut self) -> bool {
        true
    }
    fn watch(&mut self, interrupt: Option<Interrupt>) {
        let signal = self.1.clone();
        if let Some(interrupt) = interrupt {
            interrupt.on_request(move || signal.interrupt());
        }
    }
    fn close(self) -> Result<(), Blot> {
        Ok(())
    }
}

fn interruptible(trace: &Trace, signal: &Arc<Signal>) -> Pool<Interruptible> {
    let (trace, signal) = (trace.clone(), signal.clone());
    Pool::builder(move || Ok(Interruptible(trace.clone(), signal.clone()))).connections(1).build()
}

/// A read that runs when this returns, and ends only if it is interrupted.
fn endless(pool: &Pool<Interruptible>) -> Interaction<(), Blot> {
    let (begun, has_begun) = mpsc::channel();
    let reading = pool.read("endless", move |tx| {
        let trace = tx.0.clone();
        tx.call_on_error(move || trace.push("on-error"));
        begun.send(()).unwrap();
        tx.1.clone().wait()
    });
    has_begun.recv().unwrap();
    reading
}

#[test]
fn p27_v4_a_running_read_is_interrupted_when_its_future_is_dropped_or_its_context_cancelled() {
    let (trace, signal) = (Trace::default(), Arc::new(Signal::default()));
    let request = Context::root("p27 running");
    run(&Context::root("p27 main"), async {
        let pool = interruptible(&trace, &signal);
        let failed = trace.clone();
        drop(endless(&pool).call_on_error(move || failed.push("failed")));
        // The connection is free again, and undisturbed.
        pool.read("next", |_| Ok(())).await.unwrap();
        assert_eq!(trace.take(), "roll-back on-error failed commit");

        let reading = spawn(request.scope(|| endless(&pool)));
        crate::yield_now().await;
        request.cancel(Reason::Disconnected);
        let error = reading.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Cancelled(why) if why.reason() == Reason::Disconnected), "{error}");
        assert_eq!(trace.take(), "roll-back on-error");
        pool.close().await;
    });
    assert_eq!(signal.state.lock().1, 2, "once each");
    assert!(reported(ReportKind::UnhandledError, &request).is_none(), "nothing has failed");
}

#[test]
fn p27_a_running_read_is_interrupted_at_its_deadline_and_at_shutdown() {
    let (trace, signal) = (Trace::default(), Arc::new(Signal::default()));
    Runtime::builder().paused(true).build().unwrap().block_on(async {
        let pool = interruptible(&trace, &signal);
        let hasty = Context::builder("p27 hasty").timeout(MILLI).build();
        let reading = spawn(hasty.scope(|| endless(&pool)));
        crate::yield_now().await;
        advance(2 * MILLI).await;
        let error = reading.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Cancelled(why) if why.reason() == Reason::Deadline), "{error}");

        let reading = crate::spawn_in(&Context::root("p27 shut down"), {
            let pool = pool.clone();
            async move { endless(&pool).await }
        });
        crate::yield_now().await;
        crate::shutdown(Duration::from_secs(3600));
        let error = reading.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Cancelled(why) if why.reason() == Reason::Shutdown), "{error}");
    });
}

/// What may write is never torn: neither by a cancellation nor by a pool that has lost patience.
#[test]
fn p27_nothing_interrupts_a_write() {
    let (trace, signal) = (Trace::default(), Arc::new(Signal::default()));
    let request = Context::root("p27 write");
    run(&Context::root("p27 main"), async {
        let pool = interruptible(&trace, &signal);
        let (begun, has_begun) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel::<()>();
        let line = line!() + 2;
        let writing = request.scope(|| {
            pool.interact("write", move |tx| {
                assert!(!tx.is_interrupted());
                begun.send(()).unwrap();
                let _ = goes_on.recv();
                assert!(!tx.is_interrupted());
                Ok(())
            })
        });
        has_begun.recv().unwrap();
        request.cancel(Reason::Shutdown);
        let queued = pool.interact("queued", |_| Ok(()));
        let left = pool.close_timeout(Duration::ZERO).await;
        let left: Vec<_> = left.iter().map(|left| (left.context.as_str(), left.place.line())).collect();
        let [(queued_in, _), (running_in, running_at)] = left[..] else { panic!("{left:?}") };
        assert!(queued_in.starts_with("p27 main"), "{left:?}");
        assert_eq!((running_in, running_at), (request.to_string().as_str(), line), "{left:?}");
        assert!(matches!(queued.await, Err(Error::Closed)));
        assert!(reported(ReportKind::Straggler, &request).is_some());
        // It is nobody's concern any more: neither close nor drop waits for it. It ends all the same.
        pool.close().await;
        drop(pool);
        go_on.send(()).unwrap();
        writing.await.unwrap();
    });
    assert_eq!(trace.take(), "commit");
    assert_eq!(signal.state.lock().1, 0);
}

#[test]
fn p27_a_close_with_a_deadline_interrupts_reads_and_says_what_is_left() {
    let (trace, signal) = (Trace::default(), Arc::new(Signal::default()));
    run(&Context::root("p27 close"), async {
        let pool = interruptible(&trace, &signal);
        let reading = endless(&pool);
        assert!(pool.close_timeout(Duration::from_secs(1)).await.is_empty());
        assert!(matches!(reading.await, Err(Error::Interrupted)));
        assert!(matches!(pool.read("late", |_| Ok(())).await, Err(Error::Closed)));
        // What ends in time is waited for.
        let pool = interruptible(&trace, &signal);
        let done = pool.interact("done", |_| Ok(()));
        assert!(pool.close_timeout(Duration::from_secs(3600)).await.is_empty());
        done.await.unwrap();
    });
    assert_eq!(trace.take(), "roll-back on-error commit");
}

/// A closure that takes the interrupt for the end of the rows has no result.
#[test]
fn p27_what_an_interrupted_read_returns_is_not_used() {
    let (trace, signal) = (Trace::default(), Arc::new(Signal::default()));
    let request = Context::root("p27 partial");
    run(&Context::root("p27 main"), async {
        let pool = interruptible(&trace, &signal);
        let (begun, has_begun) = mpsc::channel();
        let reading = request.scope(|| {
            pool.read("partial", move |tx| {
                begun.send(()).unwrap();
                let _ = tx.1.clone().wait();
                assert!(tx.is_interrupted());
                Ok("half of it")
            })
        });
        has_begun.recv().unwrap();
        let reading = spawn(reading);
        crate::yield_now().await;
        request.cancel(Reason::Custom("enough"));
        assert!(matches!(reading.await.unwrap(), Err(Error::Cancelled(_))));
        pool.close().await;
    });
    assert_eq!(trace.take(), "roll-back");
}

/// The race: a read is dropped at the moment at which it ends, again and again, while the next one is about to begin on
/// the same connection. No interrupt reaches a read whose future lives, nor a write.
#[test]
fn p27_no_interrupt_hits_a_later_job() {
    const ROUNDS: usize = 500;
    let (trace, signal) = (Trace::default(), Arc::new(Signal::default()));
    let pool = interruptible(&trace, &signal);
    let hits = Arc::new(AtomicUsize::new(0));
    let request = Context::root("p27 race");
    for round in 0..ROUNDS {
        let together = Arc::new(Barrier::new(2));
        let meets = together.clone();
        let doomed = request.scope(|| {
            pool.read("doomed", move |_| {
                meets.wait();
                Ok(())
            })
        });
        let (hits, access) = (hits.clone(), round % 2);
        let look = move |tx: &mut Transaction<'_, Interruptible>| {
            // An interrupt that was meant for the read before would be seen here.
            (0..50).for_each(|_| thread::yield_now());
            hits.fetch_add(usize::from(tx.is_interrupted()), SeqCst);
            Ok(tx.1.state.lock().1)
        };
        let next =
            request.scope(|| if access == 0 { pool.read("next", look) } else { pool.interact("next", look) });
        together.wait();
        drop(doomed);
        let told_at = run(&request, next).unwrap();
        assert_eq!(signal.state.lock().1, told_at, "round {round}: it came later than its own read");
    }
    assert_eq!(hits.load(SeqCst), 0);
}

/// A budget is noticed by those who ask: SQLite's progress handler, or the closure.
#[test]
fn p27_a_cpu_budget_reaches_a_running_read() {
    let request = Context::builder("p27 budget").cpu_budget(MILLI).build();
    let error = run(&Context::root("p27 main"), async {
        let pool = paper(&Trace::default()).build();
        let read = request.scope(|| {
            pool.read("burn", |tx| {
                while !tx.is_interrupted() {
                    spin(MILLI / 10);
                }
                Ok(())
            })
        });
        read.await.unwrap_err()
    });
    assert!(matches!(error, Error::Cancelled(why) if why.reason() == Reason::CpuBudget), "{error}");
}

#[test]
fn p27_a_read_that_nobody_needs_is_not_tried_again() {
    let trace = Trace::default();
    let request = Context::root("p27 retry");
    run(&Context::root("p27 main"), async {
        let pool = paper(&trace).retries(u32::MAX).build();
        let (begun, has_begun) = mpsc::channel();
        let reading = request.scope(|| {
            pool.read("busy", move |tx| {
                let trace = tx.trace.clone();
                tx.call_on_error(move || trace.push("on-error"));
                let _ = begun.send(());
                Err::<(), _>(Blot::Busy)
            })
        });
        has_begun.recv().unwrap();
        drop(reading);
        pool.close().await;
    });
    assert!(trace.take().ends_with("begin-read roll-back on-error close"));
}
