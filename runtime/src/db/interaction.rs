//! The future of a transaction, and what becomes of the transaction when nobody needs it any more.

use super::connection::Access;
use super::error::Error;
use super::interrupt::{Cause, Watch, contained};
use crate::current;
use crate::join::JoinHandle;
use crate::pool::Withdraw;
use crate::time::{Instant, Sleep, sleep_until};
use crate::unread::Unread;
use context::{Reason, WaitCancelled};
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

/// The result to come of a transaction.
///
/// Dropping it does not stop a transaction that may write; if that fails then, the sentinel reports it. A
/// [`read`](super::Pool::read) stops: it is not begun, or interrupted.
#[must_use = "a transaction may fail: await it"]
pub struct Interaction<T, E>(Stage<T, E>);

enum Stage<T, E> {
    Sent(JoinHandle<Unread<T, Error<E>>>, Ticket),
    Refused(Option<Error<E>>),
    Over,
}

impl<T, E> Interaction<T, E> {
    pub(super) fn sent(handle: JoinHandle<Unread<T, Error<E>>>, ticket: Ticket) -> Self {
        Self(Stage::Sent(handle, ticket))
    }

    pub(super) fn refused(error: Error<E>) -> Self {
        Self(Stage::Refused(Some(error)))
    }

    /// Calls `f` once if the transaction ends without a commit, for whatever reason: it failed, was rolled back, or was
    /// never begun. At once, if that is so already.
    ///
    /// It runs in the caller's context, on the thread where the transaction ends; its panic is reported. For what is to be
    /// called only after an attempt there is [`Transaction::call_on_error`](super::Transaction::call_on_error).
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")] {
    /// # runtime::Runtime::new().unwrap().block_on(async {
    /// use runtime::db::sqlite;
    /// use std::sync::mpsc;
    ///
    /// let pool = sqlite::Pool::open_in_memory();
    /// let (failed, has_failed) = mpsc::channel();
    /// let stored = pool.interact("store", |tx| tx.execute("INSERT INTO nowhere VALUES (1)", []));
    /// stored.call_on_error(move || failed.send("forget the cached entry").unwrap()).await.unwrap_err();
    /// assert_eq!(has_failed.try_recv(), Ok("forget the cached entry"));
    /// # });
    /// # }
    /// ```
    #[track_caller]
    pub fn call_on_error(self, f: impl FnOnce() + Send + 'static) -> Self {
        let place = Location::caller();
        match &self.0 {
            Stage::Sent(_, ticket) => ticket.watch.call_on_error(Box::new(move || contained(f, place))),
            Stage::Refused(_) => contained(f, place),
            Stage::Over => {}
        }
        self
    }
}

/// What the awaiting side knows of a job that was sent.
pub(super) struct Ticket {
    pub(super) watch: Arc<Watch>,
    pub(super) queue: Arc<dyn Withdraw>,
    pub(super) id: u64,
    /// How long it may wait, and until when.
    pub(super) expires: Option<(Duration, Instant)>,
    pub(super) waiting: Waiting,
}

/// What may end the wait, set up at the first poll.
pub(super) enum Waiting {
    New,
    For { cancelled: Option<WaitCancelled>, timer: Option<(u16, Sleep)> },
}

impl Ticket {
    /// Whether the wait is over though the job has not ended: it was taken out of the queue.
    fn poll_given_up(&mut self, cx: &mut task::Context<'_>) -> Poll<Cause> {
        if let Waiting::New = self.waiting {
            self.waiting = self.begin_to_wait();
        }
        let Waiting::For { cancelled, timer } = &mut self.waiting else { return Poll::Pending };
        if let Some(Poll::Ready(why)) = cancelled.as_mut().map(|wait| Pin::new(wait).poll(cx)) {
            *cancelled = None;
            let cause = Cause::Cancelled(why);
            if why.reason() == Reason::Finished {
                // That says nothing about work that is left.
            } else if self.queue.withdraw(self.id) {
                return Poll::Ready(cause);
            } else if self.watch.access == Access::Read {
                self.watch.request(cause);
            }
        }
        if let Some((runtime, sleep)) = timer {
            let is_home = current::with(|core| core.is_some_and(|core| core.index == *runtime));
            if is_home && Pin::new(sleep).poll(cx).is_ready() {
                *timer = None;
                let expired = self.expires.filter(|_| self.queue.withdraw(self.id));
                return expired.map_or(Poll::Pending, |(age, _)| Poll::Ready(Cause::Expired(age)));
            }
        }
        Poll::Pending
    }

    fn begin_to_wait(&self) -> Waiting {
        let context = self.watch.context().filter(|_| self.watch.heeds);
        let home = current::with(|core| core.map(|core| core.index));
        let timer = home.zip(self.expires).map(|(home, (_, until))| (home, sleep_until(until)));
        Waiting::For { cancelled: context.map(|context| context.cancelled()), timer }
    }
}

/// Nothing in it is pinned.
impl<T, E> Unpin for Interaction<T, E> {}

impl<T, E> Future for Interaction<T, E> {
    type Output = Result<T, Error<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let result = match &mut self.0 {
            Stage::Sent(handle, ticket) => match Pin::new(handle).poll(cx) {
                Poll::Ready(joined) => joined.map_err(Error::of_job).and_then(Unread::take),
                Poll::Pending => Err(task::ready!(ticket.poll_given_up(cx)).into_error()),
            },
            Stage::Refused(error) => Err(error.take().unwrap_or(Error::Closed)),
            Stage::Over => Err(Error::Closed),
        };
        self.0 = Stage::Over;
        Poll::Ready(result)
    }
}

impl<T, E> Drop for Interaction<T, E> {
    fn drop(&mut self) {
        let Stage::Sent(handle, ticket) = std::mem::replace(&mut self.0, Stage::Over) else { return };
        // First: so that nobody is woken for a result that nobody wants.
        drop(handle);
        if ticket.watch.access == Access::Read {
            ticket.watch.request(Cause::Dropped);
            ticket.queue.withdraw(ticket.id);
        }
    }
}

impl<T, E> fmt::Debug for Interaction<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Stage::Sent(handle, _) => write!(f, "Interaction({})", handle.id()),
            Stage::Refused(_) => f.write_str("Interaction(refused)"),
            Stage::Over => f.write_str("Interaction(over)"),
        }
    }
}
