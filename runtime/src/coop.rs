//! Yielding in time: for what is always ready.

use crate::current::{self, BUDGET};
use pin_project_lite::pin_project;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{self, Poll};

/// Spends a unit of the budget of the running poll, and yields once if none is left.
///
/// A poll has 128 units. The operations of this crate (sockets, timers, join handles, [`sync`](crate::sync)) each spend
/// one when they complete, so a loop over them yields by itself. A loop that awaits nothing of this crate, and whose
/// awaits never have to wait, holds the thread for as long as it runs: then call this once a round.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// let mut sum = 0u64;
/// for n in 0..1_000 {
///     sum += n;
///     runtime::consume_budget().await;
/// }
/// assert_eq!(sum, 499_500);
/// # });
/// # Ok(())
/// # }
/// ```
///
/// Where no runtime runs on this thread it does nothing.
pub async fn consume_budget() {
    poll_fn(poll_budget).await;
    spend();
}

/// What this runtime adds to futures. (`in_context`, `cancellable` and others are in [`context::FutureExt`].)
pub trait FutureExt: Future + Sized {
    /// Lets a future of another crate spend from the budget of the running poll, as the operations of this crate do: one
    /// unit when it is ready. Without budget it is not polled, and the task yields.
    ///
    /// For the receiving end of a channel that may be full all the time:
    ///
    /// ```
    /// use runtime::FutureExt;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # runtime::Runtime::new()?.block_on(async {
    /// let (jobs, queue) = async_channel::unbounded();
    /// (0..1_000).for_each(|n| jobs.try_send(n).unwrap());
    /// drop(jobs);
    /// let mut handled = 0;
    /// while let Ok(_job) = queue.recv().cooperative().await {
    ///     handled += 1;
    /// }
    /// assert_eq!(handled, 1_000);
    /// # });
    /// # Ok(())
    /// # }
    /// ```
    fn cooperative(self) -> Cooperative<Self> {
        Cooperative { future: self }
    }
}

impl<F: Future> FutureExt for F {}

pin_project! {
    /// The future of [`FutureExt::cooperative`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Cooperative<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Cooperative<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        // Not one leaf operation around the inner poll, which may spend from the same budget itself.
        task::ready!(poll_budget(cx));
        let poll = self.project().future.poll(cx);
        if poll.is_ready() {
            spend();
        }
        poll
    }
}

/// Ready if there is budget, or no runtime on this thread; else the task goes on after the others.
fn poll_budget(cx: &mut task::Context<'_>) -> Poll<()> {
    if budget() > 0 {
        return Poll::Ready(());
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

fn budget() -> u32 {
    current::with(|core| core.map_or(BUDGET, |core| core.budget.get()))
}

fn spend() {
    current::with(|core| core.iter().for_each(|core| core.budget.set(core.budget.get().saturating_sub(1))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    /// How often a task that never has to wait is polled, for `rounds` of `round`.
    fn polls<F: Future<Output = ()>>(rounds: u32, round: impl Fn() -> F) -> u32 {
        let polls = Rc::new(Cell::new(0));
        let count = polls.clone();
        crate::Runtime::new().unwrap().block_on(async {
            let mut work = Box::pin(async {
                for _ in 0..rounds {
                    round().await;
                }
            });
            poll_fn(|cx| {
                count.set(count.get() + 1);
                work.as_mut().poll(cx)
            })
            .await;
        });
        polls.get()
    }

    #[test]
    fn r13_whoever_spends_budget_yields_when_it_is_used_up() {
        let ready = || std::future::ready(());
        assert_eq!(polls(10 * BUDGET, ready), 1, "it holds the thread");
        assert_eq!(polls(10 * BUDGET, consume_budget), 10);
        assert_eq!(polls(10 * BUDGET + 1, || ready().cooperative()), 11);
        // What the inner future spends is spent.
        assert_eq!(polls(BUDGET, || consume_budget().cooperative()), 2);
    }

    #[test]
    fn r13_outside_of_a_runtime_nothing_is_limited() {
        let mut all = Box::pin(async {
            for _ in 0..10 * BUDGET {
                consume_budget().await;
                std::future::ready(()).cooperative().await;
            }
        });
        let mut cx = task::Context::from_waker(task::Waker::noop());
        assert!(all.as_mut().poll(&mut cx).is_ready());
    }

    /// Waiting is free: a task that waits for many does not spin.
    #[test]
    fn r13_a_future_that_waits_spends_nothing() {
        crate::Runtime::new().unwrap().block_on(poll_fn(|cx| {
            for _ in 0..10 * BUDGET {
                assert!(Pin::new(&mut std::future::pending::<()>().cooperative()).poll(cx).is_pending());
            }
            assert_eq!(budget(), BUDGET);
            Poll::Ready(())
        }));
    }
}
