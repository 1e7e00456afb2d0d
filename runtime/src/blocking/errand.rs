//! One job on a thread of a pool, from its sending to its end: in its context, whatever becomes of it.

use crate::current::Away;
use crate::error::JoinError;
use crate::join::{Job, JoinHandle};
use crate::pool::{AtWork, Label, Pool, Refused, Why, Work};
use crate::task::raw::fresh_id;
use context::harness::{self, Share};
use context::{Context, ReportKind};
use std::any::Any;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;

type Place = &'static Location<'static>;

/// Whose job it is.
pub(crate) struct Errand<R> {
    /// Held open from the sending to the end: who is cut while the job is away still gets its bill, and nothing is late.
    pub(crate) context: Context,
    pub(crate) place: Place,
    /// Kept until the job has ended, if it concerns a runtime.
    pub(crate) away: Option<Away>,
    /// Told of a result that nobody awaits any more. (A panic is reported in any case.)
    pub(crate) unheard: fn(&R, &Context, Place),
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
        let label = Label { context: self.context.name(), place: self.place };
        let job = Job::new(fresh_id(), self.context.name(), self.place);
        // Let go in `finish`, which every job comes to.
        harness::hold(&self.context);
        let sent = Sent(Some((f, job.clone(), self)));
        match pool.submit(Work { label, run: Box::new(move |own, at_work| sent.run(own, at_work)) }) {
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
        let mut settled = job.settle(result, || is_last = Some(harness::let_go(&self.context)));
        if let Some(unwanted) = settled.unwanted.take() {
            if let Ok(output) = &unwanted {
                (self.unheard)(output, &self.context, self.place);
            }
            self.drop_in_context(unwanted);
        }
        if is_last.unwrap_or_else(|| harness::let_go(&self.context)) {
            self.context.finish();
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

/// A job on its way to a thread; `None` once it is there. Dropped before that, it ends all the same.
struct Sent<F, R: Send + 'static>(Option<(F, Arc<Job<R>>, Errand<R>)>);

impl<F, R: Send + 'static> Sent<F, R> {
    /// On a thread of the pool.
    fn run<S>(mut self, own: &mut S, at_work: &AtWork<'_>)
    where
        F: FnOnce(&mut S) -> R,
    {
        let aborted = self.0.as_ref().is_none_or(|(_, job, _)| job.is_aborted());
        if aborted {
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
        let error = if job.is_aborted() { JoinError::ABORTED } else { JoinError::SHUTDOWN };
        errand.finish(&job, Err(error));
    }
}

/// Drops a payload; if its destructor panics in turn, that has been heard enough.
fn discard(panic: Box<dyn Any + Send>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
}
