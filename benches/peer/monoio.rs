//! monoio: on io_uring where the kernel has it, on `epoll` elsewhere. Wakes from other threads are switched on.

use super::{Network, Peer, Server, Sure, Timers, hello, std_listener};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::task::JoinHandle;
use monoio_compat::TcpStreamCompat;
use monoio_compat::hyper::MonoioTimer;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// monoio with its timers. A task that wakes itself goes to the front of its queue, so among many that yield one runs on.
#[derive(Debug)]
pub struct Monoio;

impl Peer for Monoio {
    const NAME: &'static str = "monoio";

    type Context = ();

    type Handle<T: Send + 'static> = Sure<JoinHandle<T>>;

    type Error = Infallible;

    fn unavailable() -> Option<String> {
        build().err().map(|error| error.to_string())
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        match build().expect("a runtime") {
            monoio::FusionRuntime::Uring(mut runtime) => runtime.block_on(future),
            monoio::FusionRuntime::Legacy(mut runtime) => runtime.block_on(future),
        }
    }

    fn context() {}

    fn spawn_here<F>(_: &(), future: F) -> Self::Handle<F::Output>
    where
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        Sure(monoio::spawn(future))
    }

    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Sure(monoio::spawn(future))
    }
}

type Runtime = monoio::FusionRuntime<
    monoio::time::TimeDriver<monoio::IoUringDriver>,
    monoio::time::TimeDriver<monoio::LegacyDriver>,
>;

fn build() -> io::Result<Runtime> {
    monoio::RuntimeBuilder::<monoio::FusionDriver>::new().enable_timer().build()
}

impl Timers for Monoio {
    type Sleep = monoio::time::Sleep;

    fn sleep(duration: Duration) -> Self::Sleep {
        monoio::time::sleep(duration)
    }
}

/// A connection, and the buffer that is given to the kernel and comes back.
#[derive(Debug)]
pub struct Stream {
    inner: TcpStream,
    buf: Vec<u8>,
}

impl Network for Monoio {
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
        let (read, own) = stream.inner.read(own).await;
        let read = read?;
        buf[..read].copy_from_slice(&own[..read]);
        stream.buf = own;
        Ok(read)
    }

    async fn write_all(stream: &mut Stream, buf: &[u8]) -> io::Result<()> {
        let mut own = std::mem::take(&mut stream.buf);
        own.clear();
        own.extend_from_slice(buf);
        let (written, own) = stream.inner.write_all(own).await;
        stream.buf = own;
        written.map(drop)
    }
}

impl Server for Monoio {
    async fn serve_hello(stream: Stream) {
        let service = service_fn(|_| async { Ok::<_, Infallible>(hello()) });
        let stream = TokioIo::new(TcpStreamCompat::new(stream.inner));
        let connection = http1::Builder::new().timer(MonoioTimer).serve_connection(stream, service);
        connection.await.expect("the connection is closed between two requests");
    }
}
