//! Cancellation: by a call, a deadline, a CPU budget or the finish, and how work notices it: at once, or while it waits
//! for something else (P13).
//!
//! A deadline is no timer of its own. A wait for the cancellation of a context that has a deadline arms a timer for as long
//! as it waits; code that asks compares the time. So a deadline that nobody asks for costs nothing and leaves nothing. A
//! deadline that has passed is the reason, whether or not anybody noticed: whoever asks, cancels or finishes looks first.

use crate::cancel::{Cancelled, Reason};
use crate::current::{self, Armed};
use crate::node::{Context, UserCode};
use pin_project_lite::pin_project;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{self, Poll, ready};
use std::time::{Duration, Instant};

impl Context {
    /// Cancels this context and everything below it. The first reason wins; returns whether this was the first here.
    ///
    /// A deadline that has passed is a reason, also if nobody has noticed it yet. A context that has finished is not
    /// cancelled any more.
    ///
    /// Nothing is interrupted: work notices where it asks ([`check`](Self::check), [`cancelled`](Self::cancelled),
    /// [`cancellable`](crate::FutureExt::cancellable)). The sentinel cannot be cancelled.
    #[track_caller]
    pub fn cancel(&self, reason: Reason) -> bool {
        self.cancel_at(Cancelled { reason, place: Location::caller() })
    }

    fn cancel_at(&self, cancelled: Cancelled) -> bool {
        if self.is_sentinel() {
            return false;
        }
        self.notice_deadline();
        self.node().cancel(cancelled)
    }

    /// Why it was cancelled, if it was. A deadline that has passed before the finish is a reason, whether or not anybody
    /// asked in time; a finish is not: `None` for a context that was never cancelled.
    pub fn cancel_reason(&self) -> Option<Reason> {
        self.notice_deadline();
        self.node().control.cancelled().map(|cancelled| cancelled.reason)
    }

    /// The latest moment it is worth working for: its own deadline or an ancestor's, whichever is earlier.
    pub fn deadline(&self) -> Option<Instant> {
        self.node().deadline().map(|(deadline, _)| deadline.at)
    }

    /// The limit of its total CPU time, if it was made with one.
    pub fn cpu_budget(&self) -> Option<Duration> {
        self.node().extras().and_then(|extras| extras.cpu_budget)
    }

    /// Completes when this context is cancelled, its deadline passes, or it finishes ([`Reason::Finished`]).
    ///
    /// For the deadline it needs the timer of the runtime that polls it ([`harness::Timer`](crate::harness::Timer));
    /// without one a deadline is noticed at the next poll only. It may be polled on one runtime and then on another: it
    /// uses the timer of the one that polled it last.
    pub fn cancelled(&self) -> WaitCancelled {
        WaitCancelled { context: self.clone(), key: None, alarm: None }
    }

    /// For synchronous code: fails once the context is cancelled, its deadline has passed, its CPU budget is spent, or it
    /// has finished.
    ///
    /// Costs a load; with a deadline, a look at the clock; with a budget, the end of the slice that runs on this thread,
    /// which counts from here on.
    ///
    /// ```
    /// use context::{Context, Reason};
    /// use std::time::Duration;
    ///
    /// let request = Context::builder("GET /x").timeout(Duration::ZERO).build();
    /// assert_eq!(request.child("part").check().unwrap_err().reason(), Reason::Deadline);
    /// assert_eq!(request.cancel_reason(), Some(Reason::Deadline));
    ///
    /// let request = Context::root("GET /x");
    /// request.finish();
    /// assert_eq!(request.check().unwrap_err().reason(), Reason::Finished);
    /// assert_eq!(request.cancel_reason(), None);
    /// ```
    ///
    /// # Errors
    ///
    /// [`Cancelled`], with the reason and the line that cancelled.
    pub fn check(&self) -> Result<(), Cancelled> {
        if let Some(cancelled) = self.node().ended() {
            return Err(cancelled);
        }
        self.notice_deadline();
        if self.node().budgeted {
            current::check_budgets(self.node());
        }
        self.node().ended().map_or(Ok(()), Err)
    }

    /// Cancels what has a deadline that has passed: this context or the ancestor that set it.
    #[inline]
    pub(crate) fn notice_deadline(&self) {
        if self.node().is_timed() && self.node().ended().is_none() {
            self.compare_time();
        }
    }

    #[inline(never)]
    fn compare_time(&self) {
        if let Some((_, owner)) = self.node().deadline().filter(|(deadline, _)| deadline.has_passed()) {
            owner.cancel(owner.too_late());
        }
    }
}

/// The future of [`Context::cancelled`]. Never completes for the sentinel.
#[must_use = "futures do nothing unless polled"]
pub struct WaitCancelled {
    context: Context,
    key: Option<usize>,
    /// Armed at the first poll, if there is a deadline and a timer.
    alarm: Option<Armed>,
}

impl Future for WaitCancelled {
    type Output = Cancelled;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Cancelled> {
        let Self { context, key, alarm } = &mut *self;
        loop {
            if let Err(cancelled) = context.check() {
                return Poll::Ready(cancelled);
            }
            if !context.node().control.wait(key, cx.waker()) {
                // It has ended just now.
                continue;
            }
            let Some((deadline, owner)) = context.node().deadline() else { return Poll::Pending };
            if alarm.as_ref().is_some_and(|armed| !armed.is_at_home()) {
                // Polled on another runtime than before.
                *alarm = None;
            }
            let armed = match alarm {
                Some(armed) => armed,
                None => match current::alarm(deadline) {
                    Some(armed) => alarm.insert(armed),
                    None => return Poll::Pending,
                },
            };
            if ready!(armed.poll(cx)) {
                owner.cancel(owner.too_late());
            }
            *alarm = None;
        }
    }
}

impl std::fmt::Debug for WaitCancelled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WaitCancelled").field("context", &self.context).finish_non_exhaustive()
    }
}

impl Drop for WaitCancelled {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let node = self.context.node();
        if let Some(waker) = node.control.stop_waiting(key) {
            // Foreign code, perhaps.
            node.contain(|| drop(waker));
        }
    }
}

pin_project! {
    /// The future of [`FutureExt::cancellable`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Cancellable<F> {
        #[pin]
        inner: Option<F>,
        wait: Option<WaitCancelled>,
    }
}

impl<F> Cancellable<F> {
    pub(crate) fn new(inner: F) -> Self {
        Self { inner: Some(inner), wait: None }
    }
}

impl<F: Future> Future for Cancellable<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let wait = this.wait.get_or_insert_with(|| Context::current().cancelled());
        if let Poll::Ready(cancelled) = Pin::new(wait).poll(cx) {
            this.inner.set(None);
            return Poll::Ready(Err(cancelled));
        }
        let inner = this.inner.as_mut().as_pin_mut().expect("`Cancellable` polled after completion");
        let output = ready!(inner.poll(cx));
        this.inner.set(None);
        *this.wait = None;
        Poll::Ready(Ok(output))
    }
}
