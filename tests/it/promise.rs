//! A value that comes later, for any number of waiters, from any thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Both ends of it: cloned, awaited, and completed once.
pub(crate) struct Promise<T>(Arc<Mutex<(Option<T>, Vec<Waker>)>>);

impl<T: Clone> Promise<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new((None, Vec::new()))))
    }

    /// Wakes the waiters, first come first.
    pub(crate) fn complete(&self, value: T) {
        let wakers = {
            let mut state = self.0.lock().unwrap();
            state.0 = Some(value);
            std::mem::take(&mut state.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<T> Clone for Promise<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone> Future for Promise<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.lock().unwrap();
        if let Some(value) = &state.0 {
            return Poll::Ready(value.clone());
        }
        state.1.push(cx.waker().clone());
        Poll::Pending
    }
}

/// Polls both, in order, at each poll, until both are ready: `join!`.
pub(crate) async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
    let (mut left, mut right) = (None, None);
    std::future::poll_fn(|cx| {
        if left.is_none() {
            if let Poll::Ready(output) = a.as_mut().poll(cx) {
                left = Some(output);
            }
        }
        if right.is_none() {
            if let Poll::Ready(output) = b.as_mut().poll(cx) {
                right = Some(output);
            }
        }
        match (left.take(), right.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (left, right) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

/// Polls `future` this many times at most, then drops it: a cancelled request.
pub(crate) async fn cut<F: Future>(future: F, polls: u64) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
