//! Who pays for a flight: its initiator while that is open, or its own root.

use context::{Context, FutureExt};
use pin_project_lite::pin_project;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{self, Poll};

pin_project! {
    /// Work that is polled and dropped in the context of its payer, as long as that may be worked for; then in that of
    /// its task. Holds the payer until then: the first poll after the payer's end lets it go.
    pub(super) struct Paid<F> {
        // Empty once it completed.
        #[pin]
        inner: Option<F>,
        payer: Option<Context>,
    }

    impl<F> PinnedDrop for Paid<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            leave_finished(this.payer);
            match this.payer {
                Some(payer) => payer.scope(|| this.inner.set(None)),
                None => this.inner.set(None),
            }
        }
    }
}

impl<F> Paid<F> {
    pub(super) fn new(inner: F, payer: Option<Context>) -> Self {
        Self { inner: Some(inner), payer: payer.filter(|payer| !payer.is_sentinel()) }
    }
}

/// Work in a context that finished is late; and one that was cancelled is about to end, and no example to follow.
fn leave_finished(payer: &mut Option<Context>) {
    if payer.as_ref().is_some_and(|payer| payer.is_finished() || payer.cancel_reason().is_some()) {
        *payer = None;
    }
}

impl<F: Future> Future for Paid<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        leave_finished(this.payer);
        let mut step = |cx: &mut task::Context<'_>| {
            let inner = this.inner.as_mut().as_pin_mut().expect("work polled after completion");
            let output = task::ready!(inner.poll(cx));
            this.inner.set(None);
            Poll::Ready(output)
        };
        match this.payer {
            Some(payer) => pin!(poll_fn(step).in_context(payer.clone())).poll(cx),
            None => step(cx),
        }
    }
}
