//! One job on a thread of a pool, from its sending to its end: in its context, whatever becomes of it.

use crate::current::Away;
use crate::error::{JoinError, Kind};
use crate::join::{Job, JoinHandle};
use crate::pool::{AtWork, Label, Pool, Refused, Stop, Why, Work};
use context::harness::{self, Share, contain_panic};
use context::{Cancelled, Context, Reason, ReportKind};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;

type Place = &'static Location<'static>;

/// Whose job it is.
pub(crate) struct Errand<R> {
    /// Of the job; a fresh one.
    pub(crate) id: u64,
    /// Held open from the sending to the end: who is cut while the job is away still gets its bill, and nothing is late.
    pub(crate) context: Context,
    pub(crate) place: Place,
    /// Kept until the job has ended, if it concerns a runtime.
    pub(crate) away: Option<Away>,
    /// Told of a result that nobody awaits any more. (A panic is reported in any case.)
    pub(crate) unheard: fn(&R, &Context, Place),
    /// It is not begun if its context is cancelled while it waits.
    pub(crate) heeds: bool,
    /// Asks it to end while it runs.
    pub(crate) stop: Option<Arc<dyn Stop>>,
}

/// Whether work of `context` that was not begun has lost its purpose.
///
/// A context that finished, or one above it that did, says nothing about work that it left behind: that is done all the same.
pub(crate) fn cancelled(context: &Context) -> Option<Cancelled> {
    context.check().err().filter(|cancelled| cancelled.reason() != Reason::Finished)
}

impl<R: Send + 'static> Errand<R> {
    /// Has `f` run on a thread of `pool`, in the context. If it is aborted before, or refused, it is dropped in the
    /// context.
    ///
    /// # Errors
    ///
    /// If the pool does not take it.
    pub(crate) fn send<S, F>(self, pool: &Pool<S>, f: F) -> Result<JoinHandle<R>, Why>
    where
        S: 'static,
        F: FnOnce(&mut S) -> R + Send + 'static,
    {
        let label = Label { context: self.context.name(), place: self.place, tag: harness::tag() };
        let (id, stop) = (self.id, self.stop.clone());
        let job = Job::new(id, self.context.name(), self.place);
        // Let go in `finish`, which every job comes to.
        harness::hold(&self.context);
        let sent = Sent(Some((f, job.clone(), self)));
        let run = Box::new(move |own: &mut S, at_work: &AtWork<'_>| sent.run(own, at_work));
        match pool.submit(Work { id, label, stop, run }) {
            Ok(()) => Ok(JoinHandle::job(job)),
            Err(Refused { work, why }) => {
                drop(work);
                Err(why)
            }
        }
    }

    fn run(self, job: Arc<Job<R>>, at_work: &AtWork<'_>, f: impl FnOnce() -> R) {
        let share = Share::of(&self.context);
        let f = || match &self.away {
            Some(away) => away.on_its_time(f),
            None => f(),
        };
        let result = harness::visit(&share, self.place, || catch_unwind(AssertUnwindSafe(f)));
        // All is charged before the result is there: who awaits it reads the whole bill.
        harness::idle();
        drop(share);
        at_work.is_over();
        self.finish(&job, result.map_err(JoinError::panicked));
    }

    fn finish(self, job: &Job<R>, result: Result<R, JoinError>) {
        // Who sees the result may finish the context at once: so the hold goes first.
        let mut is_last = None;
        let mut settled =
            job.settle(result, &self.context, || is_last = Some(harness::let_go(&self.context)));
        if let Some(unwanted) = settled.unwanted.take() {
            if let Ok(output) = &unwanted {
                // The `Display` of an error is user code.
                self.contained(|| (self.unheard)(output, &self.context, self.place));
            }
            job.drop_result(unwanted, Some(&self.context));
        }
        if is_last.unwrap_or_else(|| harness::let_go(&self.context)) {
            harness::finish_released(&self.context);
        }
        let Self { context, away, .. } = self;
        // A finished job pins nothing: gone before anyone is woken to see.
        drop(context);
        settled.wake();
        drop(away);
    }

    /// Why the job is not to be begun, if it is not.
    fn refusal(&self, job: &Job<R>) -> Option<JoinError> {
        if job.is_aborted() {
            return Some(JoinError::ABORTED);
        }
        let cancelled = if self.heeds { cancelled(&self.context) } else { None };
        cancelled.map(|cancelled| JoinError(Kind::Cancelled(cancelled.reason())))
    }

    fn drop_in_context<T>(&self, value: T) {
        self.contained(|| self.context.scope(|| drop(value)));
    }

    /// Runs user code; a panic of it is reported.
    fn contained(&self, f: impl FnOnce()) {
        contain_panic(f, |text| {
            context::sentinel::report(ReportKind::UnhandledPanic, &self.context, self.place, text);
        });
    }
}

/// A job on its way to a thread; `None` once it is there. Dropped before that, it ends all the same.
struct Sent<F, R: Send + 'static>(Option<(F, Arc<Job<R>>, Errand<R>)>);

impl<F, R: Send + 'static> Sent<F, R> {
    /// On a thread of the pool.
    fn run<S>(mut self, own: &mut S, at_work: &AtWork<'_>)
    where
        F: FnOnce(&mut S) -> R,
    {
        let refused = self.0.as_ref().is_none_or(|(_, job, errand)| errand.refusal(job).is_some());
        if refused {
            at_work.is_over();
        } else if let Some((f, job, errand)) = self.0.take() {
            errand.run(job, at_work, || f(own));
        }
    }
}

impl<F, R: Send + 'static> Drop for Sent<F, R> {
    fn drop(&mut self) {
        let Some((f, job, errand)) = self.0.take() else { return };
        errand.drop_in_context(f);
        let error = errand.refusal(&job).unwrap_or(JoinError::SHUTDOWN);
        errand.finish(&job, Err(error));
    }
}
