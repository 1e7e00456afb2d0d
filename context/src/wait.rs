//! Hearing of a cancellation: at once, or while waiting for something else (P13).
//!
//! A deadline is no timer of its own. Who waits for the cancellation of a context that has one arms a timer for as
//! long as it waits; who asks compares the time. So a deadline that nobody asks for costs nothing and leaves nothing.

use crate::cancel::{Cancelled, Reason};
use crate::current::{self, Alarm};
use crate::node::Context;
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll, ready};

impl Context {
    /// Completes when this context is cancelled, or its deadline passes.
    ///
    /// For the deadline it needs the timer of the runtime that polls it ([`harness::Timer`](crate::harness::Timer));
    /// without one a deadline is noticed at the next poll only.
    pub fn cancelled(&self) -> WaitCancelled {
        WaitCancelled { context: self.clone(), key: None, alarm: None }
    }

    /// For synchronous code: fails once the context is cancelled, its deadline has passed or its CPU budget is spent.
    ///
    /// Costs a load; with a deadline, a look at the clock; with a budget, a walk over what is below.
    ///
    /// ```
    /// use context::{Context, Reason};
    /// use std::time::Duration;
    ///
    /// let request = Context::builder("GET /x").timeout(Duration::ZERO).build();
    /// assert_eq!(request.child("part").check().unwrap_err().reason(), Reason::Deadline);
    /// assert_eq!(request.cancel_reason(), Some(Reason::Deadline));
    /// ```
    ///
    /// # Errors
    ///
    /// [`Cancelled`], with the reason and the line that cancelled.
    pub fn check(&self) -> Result<(), Cancelled> {
        if let Some(cancelled) = self.node().control.cancelled() {
            return Err(cancelled);
        }
        if self.deadline().is_some_and(|deadline| current::now() >= deadline) {
            self.expire();
        } else if self.node().budgeted {
            self.check_budget();
        }
        self.node().control.cancelled().map_or(Ok(()), Err)
    }

    /// Cancels the context whose deadline this one has: its own, or the ancestor's that set it.
    #[cold]
    fn expire(&self) {
        let deadline = self.deadline();
        let mut owner = self.clone();
        while let Some(parent) = owner.parent().filter(|parent| parent.deadline() == deadline) {
            owner = parent;
        }
        owner.cancel_at(Cancelled { reason: Reason::Deadline, place: owner.place() });
    }

    /// Cancels this context, or an ancestor, if its total CPU has reached its budget.
    #[cold]
    pub(crate) fn check_budget(&self) {
        let mut context = Some(self.clone());
        while let Some(here) = context {
            let spent = here.cpu_budget().is_some_and(|budget| here.usage().cpu >= budget);
            if spent {
                here.cancel_at(Cancelled { reason: Reason::CpuBudget, place: here.place() });
            }
            context = here.parent();
        }
    }
}

/// The future of [`Context::cancelled`]. Never completes for the sentinel.
#[must_use = "futures do nothing unless polled"]
pub struct WaitCancelled {
    context: Context,
    key: Option<usize>,
    /// Armed at the first poll, if there is a deadline and a timer.
    alarm: Option<Alarm>,
}

impl Future for WaitCancelled {
    type Output = Cancelled;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Cancelled> {
        let Self { context, key, alarm } = &mut *self;
        if let Err(cancelled) = context.check() {
            return Poll::Ready(cancelled);
        }
        if let Err(cancelled) = context.node().control.wait(key, cx.waker()) {
            return Poll::Ready(cancelled);
        }
        let Some(deadline) = context.deadline() else { return Poll::Pending };
        let alarm = match alarm {
            Some(alarm) => alarm,
            None => match current::alarm(deadline) {
                Some(set) => alarm.insert(set),
                None => return Poll::Pending,
            },
        };
        ready!(alarm.as_mut().poll(cx));
        context.expire();
        context.node().control.cancelled().map_or(Poll::Pending, Poll::Ready)
    }
}

impl std::fmt::Debug for WaitCancelled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WaitCancelled").field("context", &self.context).finish_non_exhaustive()
    }
}

impl Drop for WaitCancelled {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.context.node().control.stop_waiting(key);
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
