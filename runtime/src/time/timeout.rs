//! A limit on how long something may take.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Duration;

use context::harness::contain_panic;
use context::{Context, ReportKind};
use pin_project_lite::pin_project;

use super::Instant;
use super::sleep::{Sleep, sleep, sleep_until};

/// Gives `future` that much time, counted from this call.
///
/// The future is asked first, so one that is ready wins over a deadline that has passed. At the deadline it is dropped, in
/// the context of whoever awaits the timeout. Should its destructor panic, the outcome is [`Elapsed`] all the same, and
/// the panic is reported ([`ReportKind::UnhandledPanic`]).
///
/// ```
/// use runtime::time::timeout;
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// # let rt = runtime::Runtime::builder().paused(true).build()?;
/// # rt.block_on(async {
/// let limit = Duration::from_secs(5);
/// assert_eq!(timeout(limit, async { 42 }).await, Ok(42));
/// assert!(timeout(limit, std::future::pending::<()>()).await.is_err());
/// # });
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The output is [`Elapsed`] if the time was over before the future was ready.
///
/// # Panics
///
/// When polled where no runtime runs, or another than the one that polled it first.
#[track_caller]
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    Timeout { future: Some(future), sleep: sleep(duration), place: Location::caller() }
}

/// Like [`timeout`], with a moment in place of a duration.
///
/// ```
/// use runtime::time::{Instant, timeout_at};
///
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// assert!(timeout_at(Instant::now(), std::future::pending::<()>()).await.is_err());
/// # });
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The output is [`Elapsed`] if the deadline passed before the future was ready.
///
/// # Panics
///
/// As [`timeout`].
#[track_caller]
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    Timeout { future: Some(future), sleep: sleep_until(deadline), place: Location::caller() }
}

pin_project! {
    /// The future of [`timeout`] and [`timeout_at`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Timeout<F> {
        // `None` once it was dropped at the deadline.
        #[pin]
        future: Option<F>,
        sleep: Sleep,
        place: &'static Location<'static>,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(future) = this.future.as_mut().as_pin_mut() {
            if let Poll::Ready(output) = future.poll(cx) {
                return Poll::Ready(Ok(output));
            }
            // Outside of the budget: a future that always uses it up would never be out of time.
            std::task::ready!(this.sleep.poll_elapsed(cx));
            contain_panic(|| this.future.set(None), |text| report(this.place, text));
        }
        Poll::Ready(Err(Elapsed(())))
    }
}

#[cold]
fn report(place: &'static Location<'static>, text: &str) {
    context::sentinel::report(ReportKind::UnhandledPanic, &Context::current(), place, text);
}

impl<F: fmt::Debug> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("future", &self.future).field("sleep", &self.sleep).finish()
    }
}

/// The time was over before the future was ready. See [`timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline has elapsed")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> Self {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}
