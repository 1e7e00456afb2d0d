//! What else follows work through polls: tracing, fastrace, OpenTelemetry, task-locals, a clock read by hand.
//!
//! A way to follow work is a [`Wrap`] around a future. It is measured by itself, beside Bursar's `in_context`; and around
//! every task of tokio, where it is a runtime like any other: [`TokioWith`].

mod bursar;

#[cfg(feature = "peers")]
mod fastrace;
#[cfg(feature = "peers")]
mod on_tokio;
#[cfg(feature = "peers")]
mod opentelemetry;
#[cfg(feature = "peers")]
mod task_local;
#[cfg(feature = "peers")]
mod thread_clock;
#[cfg(feature = "peers")]
mod tracing;

#[cfg(feature = "peers")]
pub use self::{
    fastrace::FastraceSpan, on_tokio::TokioWith, opentelemetry::OtelContext, task_local::TaskLocal,
    thread_clock::ThreadClock, tracing::TracingSpan,
};
pub use bursar::InContext;

use crate::peer::Peer;
use std::future::Future;

/// A wrapper that does something before and after each poll of a future.
pub trait Wrap: 'static {
    /// The column when measured by itself.
    const NAME: &'static str;

    /// The column of tokio with each task wrapped.
    const ON_TOKIO: &'static str;

    /// Where it is measured.
    type Host: Peer;

    /// What the wrapped future acts for.
    type Context: Clone + 'static;

    /// A new one.
    fn context() -> Self::Context;

    /// `future`, followed.
    fn wrap<F>(context: Self::Context, future: F) -> impl Future<Output = F::Output> + Send + 'static
    where
        F: Future + Send + 'static;

    /// A request: `future`, followed from its beginning to its end.
    fn request<F>(future: F) -> impl Future<Output = F::Output> + Send + 'static
    where
        F: Future + Send + 'static,
    {
        Self::wrap(Self::context(), future)
    }
}
