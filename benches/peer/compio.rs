//! compio: on io_uring where the kernel has it, on `epoll` elsewhere.

use super::{Network, Peer, Server, Timers, hello, std_listener};
use compio::BufResult;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::{JoinError, JoinHandle, Runtime};
use compio_io::compat::AsyncStream;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use smol_hyper::rt::FuturesIo;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

/// compio's runtime as it comes.
#[derive(Debug)]
pub struct Compio;

impl Peer for Compio {
    const NAME: &'static str = "compio";

    type Context = ();

    type Handle<T: Send + 'static> = JoinHandle<T>;

    type Error = JoinError;

    fn unavailable() -> Option<String> {
        Runtime::new().err().map(|error| error.to_string())
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        Runtime::new().expect("a runtime").block_on(future)
    }

    fn context() {}

    fn spawn_here<F>(_: &(), future: F) -> Self::Handle<F::Output>
    where
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        compio::runtime::spawn(future)
    }

    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        compio::runtime::spawn(future)
    }
}

impl Timers for Compio {
    /// Boxed, since it is an `async fn` whose type has no name.
    type Sleep = Pin<Box<dyn Future<Output = ()>>>;

    fn sleep(duration: Duration) -> Self::Sleep {
        Box::pin(compio::time::sleep(duration))
    }
}

/// A connection, and the buffer that is given to the kernel and comes back.
#[derive(Debug)]
pub struct Stream {
    inner: TcpStream,
    buf: Vec<u8>,
}

impl Network for Compio {
    type Listener = TcpListener;

    type Stream = Stream;

    fn listen() -> io::Result<(TcpListener, SocketAddr)> {
        let (listener, address) = std_listener()?;
        Ok((TcpListener::from_std(listener)?, address))
    }

    async fn accept(listener: &TcpListener) -> io::Result<Stream> {
        Ok(Stream { inner: listener.accept().await?.0, buf: Vec::new() })
    }

    async fn read(stream: &mut Stream, buf: &mut [u8]) -> io::Result<usize> {
        let mut own = std::mem::take(&mut stream.buf);
        own.clear();
        own.reserve_exact(buf.len());
        let BufResult(read, own) = stream.inner.read(own).await;
        let read = read?;
        buf[..read].copy_from_slice(&own[..read]);
        stream.buf = own;
        Ok(read)
    }

    async fn write_all(stream: &mut Stream, buf: &[u8]) -> io::Result<()> {
        let mut own = std::mem::take(&mut stream.buf);
        own.clear();
        own.extend_from_slice(buf);
        let BufResult(written, own) = stream.inner.write_all(own).await;
        stream.buf = own;
        written
    }
}

/// By compio's own adaptor, which copies. Without a timer: hyper wants one that other threads may have, too.
impl Server for Compio {
    async fn serve_hello(stream: Stream) {
        let service = service_fn(|_| async { Ok::<_, Infallible>(hello()) });
        let stream = FuturesIo::new(Box::pin(AsyncStream::new(stream.inner)));
        let connection = http1::Builder::new().serve_connection(stream, service);
        connection.await.expect("the connection is closed between two requests");
    }
}
