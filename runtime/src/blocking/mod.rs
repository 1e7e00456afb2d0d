//! Jobs that block, on threads of their own, on the account of who asked for them (P10).

pub(crate) mod errand;
#[cfg(test)]
mod tests;

use crate::current::{self, Core};
use crate::error::{JoinError, Kind};
use crate::join::JoinHandle;
use crate::pool::Why;
use crate::task::raw::fresh_id;
use context::harness::{self, JobTimer};
use context::{Context, ReportKind, Usage};
use errand::Errand;
use std::panic::Location;
use std::time::Duration;

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
/// it began; and, at once, if the queue of the pool is full or no thread can be started ([`JoinError::is_refused`]): then `f`
/// was dropped.
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
            current::none(format_args!(
                "no runtime runs on this thread, to take the blocking job of {place}: call it inside `block_on` or a task"
            ))
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
    let queued = Queued::begin(context.clone());
    let errand = Errand {
        id: fresh_id(),
        context: context.clone(),
        place,
        away: Some(core.away()),
        unheard: |_, _, _| (),
        // Code that goes on after its context was cancelled does so on purpose: to clean up, in a shield.
        heeds: errand::cancelled(&context).is_none(),
        stop: None,
    };
    let run = move |(): &mut ()| {
        let _running = queued.begin_to_run();
        f()
    };
    match errand.send(&core.pool, run) {
        Ok(handle) => {
            charge(&context, |usage| usage.blocking.jobs = 1);
            handle
        }
        Err(why) => JoinHandle::refused(why_not(why), context.name(), place),
    }
}

fn why_not(why: Why) -> JoinError {
    match why {
        Why::Full => JoinError(Kind::QueueFull),
        Why::Closed => JoinError::SHUTDOWN,
        Why::NoThread(error) => JoinError(Kind::NoThread(error)),
    }
}

/// Charges the time that a job waits for a thread, until it runs or is dropped.
struct Queued {
    context: Context,
    /// In ticks.
    since: u64,
}

impl Queued {
    fn begin(context: Context) -> Self {
        Self { context, since: harness::ticks() }
    }

    /// On the thread that runs the job.
    fn begin_to_run(self) -> Running {
        let context = self.context.clone();
        drop(self);
        Running { context, timer: Some(JobTimer::begin()) }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let ns = harness::ticks_to_ns(harness::ticks().saturating_sub(self.since));
        charge(&self.context, |usage| usage.blocking.queued = Duration::from_nanos(ns));
    }
}

/// Charges the wall time of a job that runs, until it is dropped.
struct Running {
    context: Context,
    timer: Option<JobTimer>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(timer) = self.timer.take() else { return };
        let running = timer.end();
        charge(&self.context, |usage| usage.blocking.running = running);
    }
}

fn charge(context: &Context, set: impl FnOnce(&mut Usage)) {
    let mut usage = Usage::default();
    set(&mut usage);
    context.charge(usage);
}
