//! Contexts around futures: polled and dropped inside.

use crate::current::{self, Frame, FrameKind};
use crate::db::{self, Transaction};
use crate::node::Context;
use crate::wait::Cancellable;
use pin_project_lite::pin_project;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{self, Poll, ready};

type Place = &'static Location<'static>;

/// What every future can do here.
pub trait FutureExt: Future + Sized {
    /// Polls and drops the future with `context` current (P4). What it spends is that context's own, and nobody else's.
    ///
    /// ```
    /// use context::{Context, FutureExt};
    ///
    /// let request = Context::root("GET /x");
    /// let part = request.child("parse");
    /// let work = async { Context::current() }.in_context(part.clone());
    /// # use std::{future::Future, pin::pin, task::{Context as Cx, Poll, Waker}};
    /// # let mut work = pin!(work);
    /// # let mut cx = Cx::from_waker(Waker::noop());
    /// assert_eq!(work.as_mut().poll(&mut cx), Poll::Ready(part));
    /// ```
    #[track_caller]
    fn in_context(self, context: Context) -> InContext<Self> {
        InContext { inner: Some(self), context, place: Location::caller() }
    }

    /// Ends the wait with an error once the context that is current at the first poll is cancelled; the future is
    /// then dropped, in that context.
    fn cancellable(self) -> Cancellable<Self> {
        Cancellable::new(self)
    }

    /// Counts the future as one transaction of the context that is current at its first poll; for asynchronous
    /// drivers, which have their connection already.
    #[track_caller]
    fn db_transaction(self, description: &'static str) -> DbTransaction<Self> {
        DbTransaction { inner: self, description, place: Location::caller(), transaction: None }
    }
}

impl<F: Future> FutureExt for F {}

impl Context {
    /// [`in_context`](FutureExt::in_context), and finishes the context at the end, also when the future is dropped.
    ///
    /// The future is gone before the context finishes, so its destructors are charged, not late.
    #[track_caller]
    pub fn run<F: Future>(&self, future: F) -> Run<F> {
        Run { inner: future.in_context(self.clone()), finished: false }
    }
}

pin_project! {
    /// The future of [`FutureExt::in_context`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct InContext<F> {
        // Empty once it completed.
        #[pin]
        inner: Option<F>,
        context: Context,
        place: Place,
    }

    impl<F> PinnedDrop for InContext<F> {
        fn drop(this: Pin<&mut Self>) {
            this.clear();
        }
    }
}

impl<F: Future> Future for InContext<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let _frame = Frame::lend(this.context, this.place, FrameKind::Poll);
        let inner = this.inner.as_mut().as_pin_mut().expect("`InContext` polled after completion");
        let polled = inner.poll(cx);
        if this.context.node().budgeted {
            current::check_budgets(this.context.node());
        }
        if polled.is_ready() {
            this.inner.set(None);
        }
        polled
    }
}

impl<F> InContext<F> {
    /// The context it runs in.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Drops the future, in its context.
    fn clear(self: Pin<&mut Self>) {
        let mut this = self.project();
        if this.inner.is_some() {
            let _frame = Frame::lend(this.context, this.place, FrameKind::Scope);
            this.inner.set(None);
        }
    }
}

pin_project! {
    /// The future of [`Context::run`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Run<F> {
        #[pin]
        inner: InContext<F>,
        finished: bool,
    }

    impl<F> PinnedDrop for Run<F> {
        fn drop(this: Pin<&mut Self>) {
            if !this.finished {
                this.end();
            }
        }
    }
}

impl<F> Run<F> {
    fn end(self: Pin<&mut Self>) {
        let mut this = self.project();
        *this.finished = true;
        let context = this.inner.context.clone();
        // Also if the destructor of the future panics.
        let _finish = Finish(&context);
        this.inner.as_mut().clear();
    }
}

struct Finish<'a>(&'a Context);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<F: Future> Future for Run<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        assert!(!*this.finished, "`Run` polled after completion");
        // Not taken apart: an output may be large, and each move of it a copy.
        let polled = this.inner.as_mut().poll(cx);
        if polled.is_ready() {
            *this.finished = true;
            this.inner.context.end_left();
        }
        polled
    }
}

pin_project! {
    /// The future of [`FutureExt::db_transaction`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct DbTransaction<F> {
        #[pin]
        inner: F,
        description: &'static str,
        place: Place,
        transaction: Option<Transaction>,
    }
}

impl<F: Future> Future for DbTransaction<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.transaction.get_or_insert_with(|| {
            let mut transaction = db::begin_at(Context::current(), this.description, this.place);
            transaction.connected();
            transaction
        });
        let output = ready!(this.inner.poll(cx));
        *this.transaction = None;
        Poll::Ready(output)
    }
}
