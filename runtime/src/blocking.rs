//! Jobs that block, on threads of their own, on the account of who asked for them (P10).

use crate::current::{self, Away, Core};
use crate::error::{JoinError, Kind};
use crate::join::{Job, JoinHandle};
use crate::pool::{AtWork, Label, Refused, Why, Work};
use crate::task::raw::fresh_id;
use context::harness::{self, Share};
use context::{Context, ReportKind, Usage};
use std::any::Any;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
mod tests;

type Place = &'static Location<'static>;

/// Runs `f`, which may block, on a thread of the blocking pool.
///
/// It runs in the current context: its CPU, as measured by that thread's own clock, is charged to it, and
/// [`Usage::blocking`](context::Usage::blocking) counts the job, its wait for a thread and the wall time it ran. The
/// context is held until the job is done.
///
/// Dropping the handle does not stop the job, and it is charged all the same. [`JoinHandle::abort`] keeps a job from
/// being run that has not begun; then, as when the runtime ends before, `f` is dropped in its context. One that runs
/// cannot be interrupted: the drop of the runtime waits for it.
///
/// Threads are started when needed, up to [`Builder::blocking_threads`](crate::Builder::blocking_threads), and leave
/// when idle. For work that goes on for as long as the program does, start a thread instead.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let rt = runtime::Runtime::new()?;
/// # rt.block_on(async {
/// let sum = runtime::spawn_blocking(|| (0..100_000u64).map(|n| n % 7).sum::<u64>());
/// assert_eq!(sum.await.unwrap(), 299_995);
/// let usage = context::Context::current().usage();
/// assert_eq!(usage.blocking.jobs, 1);
/// assert!(usage.cpu >= std::time::Duration::from_micros(10));
/// # });
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The handle yields a [`JoinError`] if the job panicked (the pool lives on), was aborted, or the runtime ended before
/// it began; and, at once, if the queue of the pool is full ([`JoinError::is_refused`]): then `f` was dropped.
///
/// # Panics
///
/// If no runtime runs on this thread. The threads of the pool run none.
#[track_caller]
pub fn spawn_blocking<F, R>(f: F) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    run(Location::caller(), f)
}

/// [`spawn_blocking`] for the runtime's own services, which know better for which line they do it.
#[track_caller]
pub(crate) fn run<F, R>(place: Place, f: F) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    current::with(|core| {
        let Some(core) = core else {
            panic!(
                "no runtime runs on this thread, to take the blocking job of {place}: call it inside `block_on` or a task"
            )
        };
        submit(core, place, f)
    })
}

fn submit<F, R>(core: &Core, place: Place, f: F) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    let context = Context::current();
    if context.is_sentinel() {
        let detail = "give it a context: nobody pays for this job";
        context::sentinel::report(ReportKind::BlockingInSentinel, &context, place, detail);
    }
    let job = Job::new(fresh_id(), context.name(), place);
    let order = Order {
        context: context.clone(),
        place,
        job: job.clone(),
        since: harness::ticks(),
        away: core.away(),
    };
    let queued = Queued(Some((f, order)));
    let label = Label { context: context.name(), place };
    match core.pool.submit(Work { label, run: Box::new(move |(), at_work| queued.run(at_work)) }) {
        Ok(()) => {
            charge(&context, |usage| usage.blocking.jobs = 1);
            JoinHandle::job(job)
        }
        Err(Refused { work, why }) => {
            // Drops `f`: here, in its context.
            drop(work);
            JoinHandle::refused(why_not(why, place))
        }
    }
}

fn why_not(why: Why, place: Place) -> JoinError {
    match why {
        Why::Full => JoinError(Kind::Refused),
        Why::Closed => JoinError::SHUTDOWN,
        Why::NoThread(error) => {
            log::error!("bursar: no thread for the blocking job of {place}: {error}");
            JoinError(Kind::Refused)
        }
    }
}

fn charge(context: &Context, set: impl FnOnce(&mut Usage)) {
    let mut usage = Usage::default();
    set(&mut usage);
    context.charge(usage);
}

/// Wall time since `stamp`, a reading of [`harness::ticks`].
fn since(stamp: u64) -> Duration {
    Duration::from_nanos(harness::ticks_to_ns(harness::ticks().saturating_sub(stamp)))
}

/// A job on its way to a thread; `None` once it is there. Dropped before that, it ends all the same.
struct Queued<F: FnOnce() -> R, R>(Option<(F, Order<R>)>);

impl<F: FnOnce() -> R, R> Queued<F, R> {
    /// On a thread of the pool.
    fn run(mut self, at_work: &AtWork<'_>) {
        let aborted = self.0.as_ref().is_none_or(|(_, order)| order.job.is_aborted());
        if aborted {
            at_work.is_over();
        } else if let Some((f, order)) = self.0.take() {
            order.fulfil(f, at_work);
        }
    }
}

impl<F: FnOnce() -> R, R> Drop for Queued<F, R> {
    fn drop(&mut self) {
        let Some((f, order)) = self.0.take() else { return };
        charge(&order.context, |usage| usage.blocking.queued = since(order.since));
        order.drop_in_context(f);
        let error = if order.job.is_aborted() { JoinError::ABORTED } else { JoinError::SHUTDOWN };
        order.finish(Err(error));
    }
}

/// What a job needs besides its function. It holds the context: a job is work of it.
struct Order<R> {
    context: Context,
    place: Place,
    job: Arc<Job<R>>,
    /// When it was queued, in ticks.
    since: u64,
    away: Away,
}

impl<R> Order<R> {
    fn fulfil(self, f: impl FnOnce() -> R, at_work: &AtWork<'_>) {
        let begun = harness::ticks();
        charge(&self.context, |usage| usage.blocking.queued = since(self.since));
        let share = Share::of(&self.context);
        let result = harness::visit(&share, self.place, || catch_unwind(AssertUnwindSafe(f)));
        // All is charged before the result is there: who awaits it reads the whole bill.
        harness::idle();
        drop(share);
        charge(&self.context, |usage| usage.blocking.running = since(begun));
        at_work.is_over();
        self.finish(result.map_err(JoinError::panicked));
    }

    fn finish(self, result: Result<R, JoinError>) {
        let mut settled = self.job.settle(result);
        if let Some(unwanted) = settled.unwanted.take() {
            self.drop_in_context(unwanted);
        }
        let Self { context, away, .. } = self;
        // A finished job pins nothing: gone before anyone is woken to see.
        drop(context);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| settled.wake())) {
            log::error!("bursar: a join waker panicked: {}", context::panic_message(&*panic));
            discard(panic);
        }
        drop(away);
    }

    fn drop_in_context<T>(&self, value: T) {
        let dropped = self.context.scope(|| catch_unwind(AssertUnwindSafe(|| drop(value))));
        if let Err(panic) = dropped {
            let text = context::panic_message(&*panic);
            context::sentinel::report(ReportKind::UnhandledPanic, &self.context, self.place, text);
            discard(panic);
        }
    }
}

/// Drops a payload; if its destructor panics in turn, that has been heard enough.
fn discard(panic: Box<dyn Any + Send>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
}
