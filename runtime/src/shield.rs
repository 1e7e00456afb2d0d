//! Work that must not be torn: delayed or detached (P14).

use crate::config::is_large;
use crate::error::JoinError;
use crate::join::JoinHandle;
use crate::spawn::{spawn_holding, spawn_root};
use crate::unread::{self, Unread};
use context::{Cancelled, Context};
use std::fmt::{self, Display};
use std::future::Future;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::task::{self, Poll};

/// Runs `future` to its end in the current context, whatever happens to the caller (Synapse's `delay_cancellation`).
///
/// It is a task of its own from here on. If the caller is dropped it runs on, and the context does not finish before
/// it. To hear of a cancellation, but only after the end of `future`, await [`Shield::cancellable`].
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// assert_eq!(runtime::shield(async { "committed" }).await, "committed");
/// # });
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// If no runtime runs on this thread. Awaiting it panics with the panic of `future`.
#[track_caller]
pub fn shield<F>(future: F) -> Shield<F::Output>
where
    F: Future + 'static,
{
    let (context, place) = (Context::current(), Location::caller());
    let task = if const { is_large::<F>() } {
        spawn_holding(Box::pin(future), &context, place)
    } else {
        spawn_holding(future, &context, place)
    };
    Shield { task, context }
}

/// The future of [`shield`].
#[derive(Debug)]
#[must_use = "await it to have the output; the work runs on without"]
pub struct Shield<T> {
    task: JoinHandle<T>,
    context: Context,
}

impl<T> Shield<T> {
    /// Waits for the end of the work, then fails with [`Cancelled`] if the context was cancelled by then.
    ///
    /// The work itself is not touched, and a second cancellation changes nothing. (Compare
    /// [`FutureExt::cancellable`](context::FutureExt::cancellable), which would end the wait at once.)
    pub async fn cancellable(self) -> Result<T, Cancelled> {
        let context = self.context.clone();
        let output = self.await;
        context.check().map(|()| output)
    }
}

impl<T> Future for Shield<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<T> {
        Pin::new(&mut self.task).poll(cx).map(output_of)
    }
}

/// The output of a task that nobody can abort.
fn output_of<T>(joined: Result<T, JoinError>) -> T {
    match joined.map_err(JoinError::try_into_panic) {
        Ok(output) => output,
        Err(Ok(payload)) => resume_unwind(payload),
        Err(Err(error)) => panic!("the work has no output: {error}"),
    }
}

/// Moves `future` into a new root context of that class, where it runs to its end; the caller may stop waiting at any
/// time (Synapse's `stop_cancellation`).
///
/// Dropping the returned future does not touch the work. An `Err` that nobody takes is reported as
/// [`ReportKind::UnhandledError`](context::ReportKind::UnhandledError), whether it comes before the drop or after.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// let sent = runtime::detach("send mail", async { Ok::<_, String>(250) });
/// assert_eq!(sent.await, Ok(250));
/// # });
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// If no runtime runs on this thread. Awaiting it panics with the panic of `future`.
#[track_caller]
pub fn detach<F, T, E>(class: &str, future: F) -> Detached<T, E>
where
    F: Future<Output = Result<T, E>> + 'static,
    T: 'static,
    E: Display + 'static,
{
    let place = Location::caller();
    let task = if const { is_large::<F>() } {
        spawn_root(class, place, unread_result(Box::pin(future), place))
    } else {
        spawn_root(class, place, unread_result(future, place))
    };
    Detached { task }
}

/// An `Err` that nobody reads is reported.
async fn unread_result<F, T, E>(future: F, place: &'static Location<'static>) -> Unread<T, E>
where
    F: Future<Output = Result<T, E>>,
    E: Display,
{
    let result = future.await;
    Unread::new(result, unread::report_error, Context::current().name(), place)
}

/// The future of [`detach`].
#[must_use = "await it to have the output; the work runs on without"]
pub struct Detached<T, E> {
    task: JoinHandle<Unread<T, E>>,
}

impl<T, E> Future for Detached<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(cx).map(|joined| output_of(joined).take())
    }
}

impl<T, E> fmt::Debug for Detached<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Detached").field(&self.task).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Options, run};
    use crate::yield_now;
    use context::{FutureExt, Reason};
    use std::cell::Cell;
    use std::rc::Rc;

    fn test<F: Future>(name: &'static str, future: F) -> F::Output {
        run(Options { name, ..Options::default() }, future)
    }

    #[test]
    fn p14_a_shield_runs_on_when_its_caller_is_dropped_and_its_context_waits_for_it() {
        let (ended, seen) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(false)));
        let request = Context::root("p14 request");
        let (end, open) = (ended.clone(), seen.clone());
        test("p14_drop", async {
            let mut handler = Box::pin(request.run(async move {
                shield(async move {
                    yield_now().await;
                    yield_now().await;
                    open.set(!Context::current().is_finished());
                    end.set(Some(Context::current().class()));
                })
                .await;
            }));
            let first = std::future::poll_fn(|cx| Poll::Ready(handler.as_mut().poll(cx).is_ready())).await;
            assert!(!first);
            drop(handler);
            assert!(!request.is_finished(), "held open by the shield");
            while ended.get().is_none() {
                yield_now().await;
            }
            yield_now().await;
            assert!(request.is_finished(), "the shield was the last");
        });
        assert_eq!((ended.get(), seen.get()), (Some("p14 request"), true));
        assert!(request.own_usage().late_cpu.is_zero());
    }

    #[test]
    fn p14_a15_a17_a_cancellation_comes_when_the_shielded_work_has_ended() {
        let request = Context::root("p14 delay");
        let ended = Rc::new(Cell::new(false));
        let end = ended.clone();
        let result = test("p14_delay", async {
            let handler = crate::spawn_in(&request, async move {
                let work = shield(async move {
                    yield_now().await;
                    end.set(true);
                    7
                });
                work.cancellable().await
            });
            request.cancel(Reason::Disconnected);
            request.cancel(Reason::Custom("again"));
            handler.await.unwrap()
        });
        assert!(ended.get());
        assert_eq!(result.unwrap_err().reason(), Reason::Disconnected);
    }

    #[test]
    fn p14_a14_a_detached_work_ends_in_its_own_root_and_its_late_error_is_reported() {
        let class = Rc::new(Cell::new(None));
        let seen = class.clone();
        let request = Context::root("p14 stop");
        let options = Options { name: "p14_detach", allow_reports: true, ..Options::default() };
        run(options, async {
            let stopped = request.run(async move {
                let work = detach("p14 mail", async move {
                    yield_now().await;
                    seen.set(Some((Context::current().class(), Context::current().parent())));
                    Err::<(), _>("p14: no route")
                });
                request_cancelled();
                work.cancellable().await
            });
            assert_eq!(stopped.await.unwrap_err().reason(), Reason::Disconnected);
            while class.take().is_none() {
                yield_now().await;
            }
            yield_now().await;
        });
        let reports = context::sentinel::reports();
        assert!(reports.iter().any(|report| report.detail == "p14: no route"));
    }

    fn request_cancelled() {
        Context::current().cancel(Reason::Disconnected);
    }
}
