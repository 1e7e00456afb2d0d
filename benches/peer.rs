//! What the cases ask of a runtime. One small adapter each.
//!
//! Everybody is a [`Peer`]; who has timers is one of [`Timers`], and who has sockets one of [`Network`], too. A case asks
//! for no more than it needs, and stands in the rows of all who have that.

mod bursar;
mod tokio;

#[cfg(feature = "peers")]
mod axum;
#[cfg(feature = "peers")]
mod compio;
#[cfg(feature = "peers")]
mod futures;
#[cfg(feature = "peers")]
mod glommio;
#[cfg(feature = "peers")]
mod monoio;
#[cfg(feature = "peers")]
mod smol;
#[cfg(feature = "peers")]
mod tokio_local;

pub use bursar::{Bursar, use_clock};
pub use tokio::Tokio;

#[cfg(feature = "peers")]
pub use self::{
    axum::AxumOn,
    compio::Compio,
    futures::LocalPool,
    glommio::Glommio,
    monoio::Monoio,
    smol::Smol,
    tokio_local::{LocalRuntime, LocalSet},
};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use std::convert::Infallible;
use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// A single-threaded runtime.
///
/// Its tasks need not be `Send`. But whoever may send tasks to other threads wants that of what it spawns, and then
/// keeps the rest to its thread by means that cost something. So there are two ways to spawn: [`Peer::spawn`] and
/// [`Peer::spawn_in`] for tasks that are `Send`, which is the way that is measured, and [`Peer::spawn_here`] for those
/// that hold what not every runtime has as `Send`.
pub trait Peer: 'static {
    /// The column.
    const NAME: &'static str;

    /// Whom work is billed to; `()` where nobody is.
    type Context: Clone + 'static;

    /// The right to a task's output.
    type Handle<T: Send + 'static>: Future<Output = Result<T, Self::Error>> + 'static;

    /// Why there is no output.
    type Error: Debug;

    /// Why it does not run on this machine.
    fn unavailable() -> Option<String> {
        None
    }

    /// Runs `future` on a runtime that is made for it.
    fn block_on<F: Future>(future: F) -> F::Output;

    /// A context of its own.
    fn context() -> Self::Context;

    /// Starts a task that stays on this thread, in `context`.
    fn spawn_here<F>(context: &Self::Context, future: F) -> Self::Handle<F::Output>
    where
        F: Future + 'static,
        F::Output: Send + 'static;

    /// Starts a task in `context`.
    fn spawn_in<F>(context: &Self::Context, future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Self::spawn_here(context, future)
    }

    /// Starts a task that shares the context of its spawner.
    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static;

    /// The runtime's own yield; a poll that wakes itself where it has none.
    fn yield_now() -> impl Future<Output = ()> + Send {
        let mut yielded = false;
        poll_fn(move |cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }
}

/// A runtime with timers.
pub trait Timers: Peer {
    /// What completes after a while.
    type Sleep: Future<Output = ()> + 'static;

    /// Completes that much later.
    fn sleep(duration: Duration) -> Self::Sleep;
}

/// A runtime with sockets.
///
/// Buffers are lent. Who wants them given lends its own to the kernel and copies, which is nothing beside a system call.
pub trait Network: Peer {
    /// A listening socket.
    type Listener;

    /// A connection.
    type Stream: 'static;

    /// Listens on a free port of the loopback interface, and says which; called within the runtime.
    fn listen() -> io::Result<(Self::Listener, SocketAddr)>;

    /// The next connection.
    fn accept(listener: &Self::Listener) -> impl Future<Output = io::Result<Self::Stream>>;

    /// Reads what there is; 0 at the end.
    fn read(stream: &mut Self::Stream, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>>;

    /// Writes all of it.
    fn write_all(stream: &mut Self::Stream, buf: &[u8]) -> impl Future<Output = io::Result<()>>;
}

/// The body of the answer that [`Server::serve_hello`] gives.
pub const HELLO: &str = "hello";

/// A runtime that hyper runs on.
pub trait Server: Network {
    /// Answers every request on `stream` by [`HELLO`], each in a root context of its own if there are contexts, until the
    /// client closes it. By hyper, with this runtime's streams and timers.
    fn serve_hello(stream: Self::Stream) -> impl Future<Output = ()>;
}

fn hello() -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from_static(HELLO.as_bytes())))
}

/// For those who take over a socket of the standard library.
fn std_listener() -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// A handle whose output is the task's, since a panic of the task is the runtime's.
#[derive(Debug)]
pub struct Sure<H>(H);

impl<H: Future + Unpin> Future for Sure<H> {
    type Output = Result<H::Output, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(Ok)
    }
}
