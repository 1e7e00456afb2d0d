//! What the cases ask of a runtime. One small adapter each.

mod bursar;
mod tokio;

pub use bursar::Bursar;
pub use tokio::Tokio;

use std::fmt::Debug;
use std::future::Future;

/// A single-threaded runtime.
///
/// Futures are `Send` because `tokio::spawn` wants it; nobody else makes use of that.
pub trait Peer: 'static {
    /// The column.
    const NAME: &'static str;

    /// Whom work is billed to; `()` where nobody is.
    type Context: Clone + Send + Sync + 'static;

    /// The right to a task's output.
    type Handle<T: Send + 'static>: Future<Output = Result<T, Self::Error>> + Send + 'static;

    /// Why there is no output.
    type Error: Debug;

    /// Runs `future` on a runtime that is made for it.
    fn block_on<F: Future>(future: F) -> F::Output;

    /// Starts a task that shares the context of its spawner.
    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static;

    /// A context of its own.
    fn context() -> Self::Context;

    /// Starts a task in `context`.
    fn spawn_in<F>(context: &Self::Context, future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static;

    /// The runtime's own yield.
    fn yield_now() -> impl Future<Output = ()> + Send;
}
