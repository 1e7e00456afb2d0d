//! Work whose panic is a result, because somebody else than its task's handle has to hear of it.

use pin_project_lite::pin_project;
use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

pin_project! {
    /// A future that does not panic. After a panic it is dropped, not polled again.
    pub(super) struct Caught<F> {
        #[pin]
        inner: F,
    }
}

/// The text of a panic, if it has one.
pub(super) type PanicText = String;

/// Catches the panics of `inner`'s polls; those of its drop go on.
pub(super) fn caught<F: Future>(inner: F) -> Caught<F> {
    Caught { inner }
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, PanicText>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.project().inner;
        match catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(text(panic))),
        }
    }
}

/// Takes the text and drops the payload.
pub(super) fn text(panic: Box<dyn Any + Send>) -> PanicText {
    let text = context::panic_message(&*panic).to_owned();
    context::harness::discard_panic(panic);
    text
}
