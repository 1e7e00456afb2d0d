//! The CPU clock of the thread, read before and after each poll: accounting without a runtime that helps.

use super::Wrap;
use crate::peer::Tokio;
use pin_project_lite::pin_project;
use rustix::time::{ClockId, clock_gettime};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

/// `CLOCK_THREAD_CPUTIME_ID`, twice a poll, the difference added up.
#[derive(Debug)]
pub struct ThreadClock;

impl Wrap for ThreadClock {
    const NAME: &'static str = "thread clock around each poll";

    const ON_TOKIO: &'static str = "tokio + thread clock around each poll";

    type Host = Tokio;

    type Context = Arc<AtomicU64>;

    fn context() -> Arc<AtomicU64> {
        Arc::default()
    }

    fn wrap<F>(account: Arc<AtomicU64>, future: F) -> impl Future<Output = F::Output> + Send + 'static
    where
        F: Future + Send + 'static,
    {
        Timed { future, ns: 0, account }
    }
}

pin_project! {
    /// Sums up by itself and tells the account at the end.
    struct Timed<F> {
        #[pin]
        future: F,
        ns: u64,
        account: Arc<AtomicU64>,
    }
}

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let began = thread_ns();
        let polled = this.future.poll(cx);
        *this.ns += thread_ns() - began;
        if polled.is_ready() {
            this.account.fetch_add(*this.ns, Ordering::Relaxed);
        }
        polled
    }
}

fn thread_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).expect("CPU time is not negative")
}
