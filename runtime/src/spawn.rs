//! Starting tasks.

use crate::config::is_large;
use crate::current;
use crate::error::JoinError;
use crate::join::{Job, JoinHandle};
use crate::task::Ending;
use crate::task::table::Refused;
use context::harness::{self, Share};
use context::{Context, ReportKind};
use std::fmt::Display;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

type Place = &'static Location<'static>;

/// Starts a task that shares the current context (P3). The future need not be `Send`: it stays on this thread.
///
/// The context is fixed now, not at the first poll. Where none is current the task runs in the sentinel, and the
/// sentinel reports this line.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let rt = runtime::Runtime::new()?;
/// # rt.block_on(async {
/// let answer = runtime::spawn(async { 6 * 7 });
/// assert_eq!(answer.await.unwrap(), 42);
/// # });
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// If no runtime runs on this thread.
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    let place = Location::caller();
    let share = Share::current();
    if share.is_nobody() {
        let detail = "give it a context: `spawn_in`, `background`, or spawn where one is current";
        context::sentinel::report(ReportKind::SpawnedInSentinel, &Context::sentinel(), place, detail);
    }
    if const { is_large::<F>() } {
        spawn_as(Box::pin(future), share, place, Ending::Stay)
    } else {
        spawn_as(future, share, place, Ending::Stay)
    }
}

/// Starts a task in `context`.
///
/// # Panics
///
/// If no runtime runs on this thread.
#[track_caller]
pub fn spawn_in<F>(context: &Context, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    let (share, place) = (Share::of(context), Location::caller());
    if const { is_large::<F>() } {
        spawn_as(Box::pin(future), share, place, Ending::Stay)
    } else {
        spawn_as(future, share, place, Ending::Stay)
    }
}

/// Starts a background process: a task in a new root context of that class, which finishes with it.
///
/// Nobody needs to await it: an `Err` is reported by the sentinel and logged when it happens, and so is a panic if the
/// handle was dropped. Values that ask for it are inherited ([`Inherit::Everything`](context::Inherit)), nothing else
/// ties it to the caller: it outlives a request, and a request's cancellation does not reach it. (Synapse's
/// `run_as_background_process`.)
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let rt = runtime::Runtime::new()?;
/// # rt.block_on(async {
/// let reaper = runtime::background("reap", async { Err::<(), _>("no disk") });
/// assert_eq!(reaper.await.unwrap(), Err("no disk"));
/// let reports = context::sentinel::reports();
/// assert!(reports.iter().any(|report| report.detail == "no disk"));
/// # });
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// If no runtime runs on this thread.
#[track_caller]
pub fn background<F, T, E>(class: &str, future: F) -> JoinHandle<Result<T, E>>
where
    F: Future<Output = Result<T, E>> + 'static,
    T: 'static,
    E: Display + 'static,
{
    let place = Location::caller();
    if const { is_large::<F>() } {
        spawn_root(class, place, reporting(Box::pin(future), place))
    } else {
        spawn_root(class, place, reporting(future, place))
    }
}

/// Reports and logs an `Err`.
async fn reporting<F, T, E>(future: F, place: Place) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
    E: Display,
{
    let result = future.await;
    if let Err(error) = &result {
        let context = Context::current();
        context::sentinel::report(ReportKind::UnhandledError, &context, place, &error.to_string());
        log::error!("{context}: background process failed: {error}");
    }
    result
}

/// A task in a new root context, which finishes when the task has ended and left it.
pub(crate) fn spawn_root<F>(class: &str, place: Place, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    let context = Context::builder(class).inherit_background(&Context::current()).build();
    spawn_as(future, Share::of(&context), place, Ending::Finish)
}

/// A task that holds its context open until it has ended and the loop has left it.
pub(crate) fn spawn_holding<F>(future: F, context: &Context, place: Place) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    // Given back by the executor, or below if the task is refused.
    harness::hold(context);
    spawn_as(future, Share::of(context), place, Ending::Release)
}

pub(crate) fn spawn_at<F>(future: F, share: Share, place: Place) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    spawn_as(future, share, place, Ending::Stay)
}

fn spawn_as<F>(future: F, share: Share, place: Place, ending: Ending) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    current::with(|core| {
        let Some(core) = core else {
            current::none(
                "there is no runtime on this thread: spawn from within `Runtime::block_on`, or use `Handle::spawn`",
            )
        };
        match core.tasks.admit_ending(ending) {
            Ok(admission) => {
                let (task, ticket) = admission.insert(future, share, place, harness::ticks);
                JoinHandle::task(core.id, task, ticket)
            }
            Err(Refused::Closing) => {
                // Not lost in silence: the handle says so, and the future is dropped in the context it was meant for.
                let context = share.context();
                let dropped = catch_unwind(AssertUnwindSafe(|| context.scope(|| drop(future))));
                match ending {
                    Ending::Stay => {}
                    Ending::Finish => drop(context.finish()),
                    Ending::Release => harness::release(&context),
                }
                let error = dropped.map_or_else(JoinError::panicked, |()| JoinError::SHUTDOWN);
                JoinHandle::refused(error, context.name(), place)
            }
        }
    })
}

/// Yields once: the task goes to the back of the queue.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// runtime::yield_now().await;
/// # });
/// # Ok(())
/// # }
/// ```
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future of [`yield_now`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The body of a task that was sent from another thread: runs `future` until it ends or the job is aborted, and leaves
/// the result with the job.
pub(crate) fn spawn_sent<F>(future: Pin<Box<F>>, context: &Context, job: Arc<Job<F::Output>>)
where
    F: Future + 'static,
{
    let (share, place) = (Share::of(context), job.place());
    drop(spawn_at(Sent { future: Some(future), job }, share, place));
}

struct Sent<F: Future> {
    future: Option<Pin<Box<F>>>,
    job: Arc<Job<F::Output>>,
}

impl<F: Future> Future for Sent<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let aborted = self.job.poll_aborted(cx.waker()).is_ready();
        let Some(future) = self.future.as_mut().filter(|_| !aborted) else {
            // The destructor below completes the job.
            return Poll::Ready(());
        };
        let result = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => Err(JoinError::panicked(payload)),
        };
        self.end(result);
        Poll::Ready(())
    }
}

impl<F: Future> Sent<F> {
    fn end(&mut self, result: Result<F::Output, JoinError>) {
        if let Some(future) = self.future.take() {
            end_job(&self.job, &Context::current(), || drop(future), result);
        }
    }
}

impl<F: Future> Drop for Sent<F> {
    fn drop(&mut self) {
        self.end(Err(JoinError::ABORTED));
    }
}

/// Completes `job`, whatever `drop_future` does. If that panics, and the future had not panicked before, that panic is the
/// result.
pub(crate) fn end_job<T>(
    job: &Job<T>,
    context: &Context,
    drop_future: impl FnOnce(),
    result: Result<T, JoinError>,
) {
    let result = match catch_unwind(AssertUnwindSafe(drop_future)) {
        Ok(()) => result,
        Err(second) if result.as_ref().is_err_and(JoinError::is_panic) => {
            job.drop_result(Err(JoinError::panicked(second)), None);
            result
        }
        Err(payload) => {
            job.drop_result(result, Some(context));
            Err(JoinError::panicked(payload))
        }
    };
    job.complete(result, context);
}
