//! What the cases ask of a runtime. One small adapter each.

mod bursar;
mod tokio;

pub use bursar::Bursar;
pub use tokio::Tokio;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::time::Duration;

/// The body of the answer that [`Peer::serve_hello`] gives.
pub const HELLO: &str = "hello";

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

    /// What completes after a while.
    type Sleep: Future<Output = ()> + Send;

    /// Completes that much later.
    fn sleep(duration: Duration) -> Self::Sleep;

    /// A listening socket.
    type Listener;

    /// A connection.
    type Stream: Send + 'static;

    /// Takes over a listening socket; called within the runtime.
    fn listener(listener: std::net::TcpListener) -> io::Result<Self::Listener>;

    /// The next connection.
    fn accept(listener: &Self::Listener) -> impl Future<Output = io::Result<Self::Stream>>;

    /// Reads what there is; 0 at the end.
    fn read(stream: &mut Self::Stream, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;

    /// Writes all of it.
    fn write_all(stream: &mut Self::Stream, buf: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// Answers every request on `stream` by [`HELLO`], each in a root context of its own if there are contexts, until the
    /// client closes it. By hyper, with this runtime's streams and timers.
    fn serve_hello(stream: Self::Stream) -> impl Future<Output = ()> + Send;
}

fn hello() -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from_static(HELLO.as_bytes())))
}
