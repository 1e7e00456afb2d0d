//! The handle of a task: awaited, aborted, or dropped and forgotten.

use crate::current;
use crate::error::{JoinError, Kind};
use crate::executor;
use crate::handle::{Packed, RuntimeId};
use crate::inbox;
use crate::task::JoinFailure;
use crate::task::raw::Ticket;
use crate::task::table::Joined;
use crate::waker;
use context::harness::{self, Share, contain_panic, discard_panic};
use context::{Context, Name, ReportKind};
use parking_lot::Mutex;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, Waker, ready};

type Place = &'static Location<'static>;

/// The number of a task: unique in the process, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(u64);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The right to the output of a task. Dropping it detaches the task, which runs on.
///
/// It is a number, not a pointer, so it may be sent anywhere; but the handle of a task spawned by
/// [`spawn`](crate::spawn) yields its output only on the thread of the runtime the task runs on. Awaited elsewhere it
/// is an error at once, not a hang. Handles of [`spawn_blocking`](crate::spawn_blocking) and
/// [`Handle::spawn`](crate::Handle::spawn) may be awaited anywhere.
///
/// # Errors
///
/// The output is a [`JoinError`] if the task panicked, was aborted, or its runtime ended before it did.
#[must_use = "dropping the handle detaches the task: say so with `drop` or `let _ = `"]
pub struct JoinHandle<T>(Inner<T>);

enum Inner<T> {
    /// A task of the runtime on whose thread it was spawned.
    Task(RuntimeId, Packed, Ticket<T>),
    /// Work whose result comes from another thread.
    Job(Arc<Job<T>>),
    /// It never started. (Boxed: the kind of handle is then told by a number, and not by what is in an error.)
    Refused(Option<Box<Refused>>),
    /// The output of the task of this id was taken: there is nothing left to ask or to detach from.
    Taken(u64),
}

/// The error of a task that was not started; who asked for it is named if the error is a panic that nobody takes.
struct Refused {
    error: JoinError,
    context: Name,
    place: Place,
}

impl<T> JoinHandle<T> {
    pub(crate) fn task(runtime: RuntimeId, task: Packed, ticket: Ticket<T>) -> Self {
        Self(Inner::Task(runtime, task, ticket))
    }

    pub(crate) fn job(job: Arc<Job<T>>) -> Self {
        Self(Inner::Job(job))
    }

    pub(crate) fn refused(error: JoinError, context: Name, place: Place) -> Self {
        Self(Inner::Refused(Some(Box::new(Refused { error, context, place }))))
    }

    /// Has the task dropped instead of polled, at its next turn and in its own context. A job of the blocking pool is
    /// not run if it has not begun; one that has is not interrupted.
    ///
    /// Nothing is dropped here and now, so it may be called from anywhere, the task itself included. A task that
    /// completes first has completed.
    pub fn abort(&self) {
        match &self.0 {
            Inner::Task(runtime, task, ticket) => abort(*runtime, *task, ticket.id()),
            Inner::Job(job) => job.abort(),
            Inner::Refused(_) | Inner::Taken(_) => {}
        }
    }

    /// Whether the task has ended. Of a runtime on another thread it is not known: false until that runtime is gone.
    pub fn is_finished(&self) -> bool {
        match &self.0 {
            Inner::Task(runtime, task, ticket) => {
                at_home(*runtime, |core| core.tasks.is_finished(*task, ticket.id()))
                    .unwrap_or_else(|| !inbox::is_alive(*runtime))
            }
            Inner::Job(job) => job.is_finished(),
            Inner::Refused(_) | Inner::Taken(_) => true,
        }
    }

    /// The number of the task.
    pub fn id(&self) -> TaskId {
        TaskId(match &self.0 {
            Inner::Task(_, _, ticket) => ticket.id(),
            Inner::Job(job) => job.id,
            Inner::Refused(_) => 0,
            Inner::Taken(id) => *id,
        })
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let Inner::Task(runtime, task, ticket) = &self.0 else { return poll_other(&mut self.0, cx.waker()) };
        let result = ready!(poll_task(*runtime, *task, ticket, cx.waker()));
        let id = ticket.id();
        self.0 = Inner::Taken(id);
        Poll::Ready(result)
    }
}

/// A job's handle, or one that never had a task or has none any more.
#[inline(never)]
fn poll_other<T>(inner: &mut Inner<T>, waker: &Waker) -> Poll<Result<T, JoinError>> {
    let error = match inner {
        Inner::Job(job) => return job.poll(waker),
        Inner::Refused(refused) => refused.take().map(|refused| refused.error),
        Inner::Task(..) | Inner::Taken(_) => None,
    };
    Poll::Ready(Err(error.unwrap_or(JoinError(Kind::Taken))))
}

#[inline]
fn poll_task<T>(
    runtime: RuntimeId,
    task: Packed,
    ticket: &Ticket<T>,
    waker: &Waker,
) -> Poll<Result<T, JoinError>> {
    current::with(|core| {
        let Some(core) = core.filter(|core| core.id == runtime) else {
            return Poll::Ready(Err(not_at_home(runtime)));
        };
        // A task of another runtime that waits here is woken as a stranger.
        let joiner = waker::target(waker).filter(|joiner| joiner.runtime() == core.index);
        core.poll_leaf(waker, || match core.tasks.poll_join(task, ticket, joiner, waker) {
            Joined::Pending => Poll::Pending,
            Joined::Done(Ok(output)) => Poll::Ready(Ok(output)),
            Joined::Done(Err(failure)) => Poll::Ready(Err(JoinError::from(failure))),
            Joined::Gone => Poll::Ready(Err(gone(core))),
        })
    })
}

/// There is no result: a runtime that is being dropped has dropped it.
#[cold]
fn gone(core: &current::Core) -> JoinError {
    if core.tasks.is_closed() { JoinError::SHUTDOWN } else { JoinError(Kind::Taken) }
}

#[cold]
fn not_at_home(runtime: RuntimeId) -> JoinError {
    if inbox::is_alive(runtime) { JoinError(Kind::WrongThread) } else { JoinError::SHUTDOWN }
}

/// Runs `f` with the core of that runtime, if it runs on this thread.
fn at_home<R>(runtime: RuntimeId, f: impl FnOnce(&current::Core) -> R) -> Option<R> {
    current::with(|core| core.filter(|core| core.id == runtime).map(f))
}

pub(crate) fn abort(runtime: RuntimeId, task: Packed, id: u64) {
    let here = at_home(runtime, |core| core.tasks.abort(task, id, harness::ticks));
    if here.is_none() {
        // A runtime that is gone has dropped it already.
        let _ = inbox::send(runtime, Box::new(move || abort(runtime, task, id)));
    }
}

impl<T> Drop for JoinHandle<T> {
    #[inline]
    fn drop(&mut self) {
        if !matches!(self.0, Inner::Taken(_)) {
            let_go(&mut self.0);
        }
    }
}

#[inline(never)]
fn let_go<T>(inner: &mut Inner<T>) {
    match inner {
        Inner::Task(runtime, task, ticket) => forget(*runtime, *task, ticket.id()),
        Inner::Job(job) => job.forget(),
        Inner::Refused(refused) => {
            if let Some(Refused { error, context, place }) = refused.take().map(|refused| *refused) {
                let_go_of_error(error, context, place);
            }
        }
        Inner::Taken(_) => {}
    }
}

/// Reports a panic that nobody took, and drops its payload.
fn let_go_of_error(error: JoinError, context: Name, place: Place) {
    if let Ok(payload) = error.try_into_panic() {
        report_panic(context, place, context::panic_message(&*payload));
        discard_panic(payload);
    }
}

fn report_panic(context: Name, place: Place, text: &str) {
    context::sentinel::report(ReportKind::UnhandledPanic, &context, place, text);
}

/// Nobody will ask for the result any more: it is dropped in the task's context, and a panic is reported.
fn forget(runtime: RuntimeId, task: Packed, id: u64) {
    let here = at_home(runtime, |core| core.tasks.detach(task, id));
    match here {
        Some(Some(ended)) => executor::drop_ended(ended),
        Some(None) => {}
        None => {
            let _ = inbox::send(runtime, Box::new(move || forget(runtime, task, id)));
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinHandle({})", self.id())
    }
}

impl From<JoinFailure> for JoinError {
    fn from(failure: JoinFailure) -> Self {
        match failure {
            JoinFailure::Panicked(payload, _) => Self::panicked(payload),
            JoinFailure::Cancelled => Self::ABORTED,
        }
    }
}

/// Work whose result comes from another thread: what the two threads share.
pub(crate) struct Job<T> {
    id: u64,
    context: Name,
    place: Place,
    state: Mutex<JobState<T>>,
    /// [`Job::drop_unread`], where it is known that the result outlives everything.
    drop_unread: fn(Arc<Self>),
}

struct JobState<T> {
    stage: Stage<T>,
    /// The handle wants it dropped.
    aborted: bool,
    /// The handle is gone.
    forgotten: bool,
    /// Wakes the one that works, so that it sees an abort.
    worker: Option<Waker>,
}

/// What is left to do when a job has its result.
#[must_use]
pub(crate) struct Settled<T> {
    /// The handle is gone: nobody takes it.
    pub(crate) unwanted: Option<Result<T, JoinError>>,
    joiner: Option<Waker>,
}

impl<T> Settled<T> {
    /// Wakes the task that awaits the job. A foreign waker may panic: that is logged.
    pub(crate) fn wake(self) {
        let Some(waker) = self.joiner else { return };
        contain_panic(|| waker.wake(), |text| log::error!("bursar: a join waker panicked: {text}"));
    }
}

enum Stage<T> {
    Working(Option<Waker>),
    Done(Done<T>),
    Taken,
}

/// A result that waits for its handle.
struct Done<T> {
    result: Result<T, JoinError>,
    /// Where the result is dropped if the handle is. None for an output without a destructor: then nothing is pinned.
    context: Option<Context>,
}

impl<T: 'static> Job<T> {
    /// `context` and `place` are named if the job panics and nobody takes the panic.
    pub(crate) fn new(id: u64, context: Name, place: Place) -> Arc<Self> {
        let stage = Stage::Working(None);
        let state = JobState { stage, aborted: false, forgotten: false, worker: None };
        Arc::new(Self { id, context, place, state: Mutex::new(state), drop_unread: Self::drop_unread })
    }

    /// Drops the result that nobody will take, in the job's context; a panic, also one of that destructor, is reported.
    fn drop_unread(self: Arc<Self>) {
        current::in_turn(move || {
            let stage = std::mem::replace(&mut self.state.lock().stage, Stage::Taken);
            if let Stage::Done(Done { result, context }) = stage {
                self.drop_result(result, context.as_ref());
                drop(context);
            }
        });
    }
}

impl<T> Job<T> {
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.state.lock().aborted
    }

    /// Like [`is_aborted`](Self::is_aborted), and `waker` is woken when it becomes so.
    pub(crate) fn poll_aborted(&self, waker: &Waker) -> Poll<()> {
        // Clones and drops of a waker are foreign code, which does not run under the lock.
        let fresh = waker.clone();
        let mut state = self.state.lock();
        let replaced = state.worker.replace(fresh);
        let aborted = state.aborted;
        drop(state);
        drop(replaced);
        if aborted { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The result is there: keeps it and wakes the task that awaits it. `context` is the job's.
    pub(crate) fn complete(&self, result: Result<T, JoinError>, context: &Context) {
        let mut settled = self.settle(result, context, || ());
        if let Some(unwanted) = settled.unwanted.take() {
            self.drop_result(unwanted, Some(context));
        }
        settled.wake();
    }

    /// Keeps the result; what follows from it is up to the caller. `before` is called, under the lock, before a result is
    /// there that somebody may take.
    pub(crate) fn settle(
        &self,
        result: Result<T, JoinError>,
        context: &Context,
        before: impl FnOnce(),
    ) -> Settled<T> {
        let context = std::mem::needs_drop::<T>().then(|| context.clone());
        let mut state = self.state.lock();
        let worker = state.worker.take();
        let (old, unwanted, unused) = if state.forgotten {
            (std::mem::replace(&mut state.stage, Stage::Taken), Some(result), context)
        } else {
            before();
            let done = Stage::Done(Done { result, context });
            (std::mem::replace(&mut state.stage, done), None, None)
        };
        drop(state);
        drop((worker, unused));
        let joiner = if let Stage::Working(joiner) = old { joiner } else { None };
        Settled { unwanted, joiner }
    }

    /// Drops a result that nobody takes: an output in the context, the payload of a panic when it was reported.
    pub(crate) fn drop_result(&self, result: Result<T, JoinError>, context: Option<&Context>) {
        match result {
            Ok(output) => {
                let report = |text: &str| report_panic(self.context, self.place, text);
                contain_panic(|| drop_in(context, self.place, output), report);
            }
            Err(error) => let_go_of_error(error, self.context, self.place),
        }
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<T, JoinError>> {
        let fresh = waker.clone();
        let mut state = self.state.lock();
        let (poll, leftover) = match std::mem::replace(&mut state.stage, Stage::Taken) {
            Stage::Working(old) => {
                state.stage = Stage::Working(Some(fresh));
                (Poll::Pending, (old, None))
            }
            Stage::Done(Done { result, context }) => (Poll::Ready(result), (Some(fresh), context)),
            Stage::Taken => (Poll::Ready(Err(JoinError(Kind::Taken))), (Some(fresh), None)),
        };
        drop(state);
        drop(leftover);
        poll
    }

    fn is_finished(&self) -> bool {
        !matches!(self.state.lock().stage, Stage::Working(_))
    }

    fn abort(&self) {
        let mut state = self.state.lock();
        state.aborted = true;
        let worker = state.worker.take();
        drop(state);
        if let Some(worker) = worker {
            worker.wake();
        }
    }

    fn forget(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.forgotten = true;
        let (joiner, is_done) = match &mut state.stage {
            Stage::Working(joiner) => (joiner.take(), false),
            Stage::Done(_) => (None, true),
            Stage::Taken => (None, false),
        };
        drop(state);
        drop(joiner);
        if is_done {
            (self.drop_unread)(self.clone());
        }
    }
}

fn drop_in<T>(context: Option<&Context>, place: Place, value: T) {
    match context {
        Some(context) => harness::visit_leftover(&Share::of(context), place, || drop(value)),
        None => drop(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Waiting is free of budget: else the first 128 handles would use it up at every poll, and the task would spin.
    #[test]
    fn a_task_that_waits_for_many_does_not_spin() {
        let rt = crate::Runtime::builder().paused(true).build().unwrap();
        let polls = Cell::new(0);
        rt.block_on(async {
            let second = std::time::Duration::from_secs(1);
            let sleeper = || crate::spawn(crate::time::sleep(second));
            let mut handles: Vec<_> = (0..1000).map(|_| sleeper()).collect();
            std::future::poll_fn(|cx| {
                polls.set(polls.get() + 1);
                handles.retain_mut(|handle| Pin::new(handle).poll(cx).is_pending());
                if handles.is_empty() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        });
        assert!(polls.get() < 20, "{}", polls.get());
    }
}
