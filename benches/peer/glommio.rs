//! glommio: on io_uring, and nowhere else.

use super::{Network, Peer, Server, Sure, Timers, hello};
use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::timer::Timer;
use glommio::{LocalExecutor, LocalExecutorBuilder, Task};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use smol_hyper::rt::FuturesIo;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// For files only, and none are read here; what is not asked for need not be locked in memory.
const FILE_MEMORY: usize = 64 * 1024;

/// glommio's executor on the calling thread.
#[derive(Debug)]
pub struct Glommio;

impl Peer for Glommio {
    const NAME: &'static str = "glommio";

    type Context = ();

    type Handle<T: Send + 'static> = Sure<Task<T>>;

    type Error = Infallible;

    fn unavailable() -> Option<String> {
        build().err().map(|error| error.to_string())
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        build().expect("an executor").run(future)
    }

    fn context() {}

    fn spawn_here<F>(_: &(), future: F) -> Self::Handle<F::Output>
    where
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        Sure(glommio::spawn_local(future))
    }

    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Sure(glommio::spawn_local(future))
    }

    async fn yield_now() {
        glommio::executor().yield_now().await;
    }
}

fn build() -> glommio::Result<LocalExecutor, ()> {
    LocalExecutorBuilder::default().io_memory(FILE_MEMORY).make()
}

/// [`Timer`], without the time in its output.
#[derive(Debug)]
pub struct Sleep(Timer);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}

impl Timers for Glommio {
    type Sleep = Sleep;

    fn sleep(duration: Duration) -> Sleep {
        Sleep(Timer::new(duration))
    }
}

impl Network for Glommio {
    type Listener = TcpListener;

    type Stream = TcpStream;

    fn listen() -> io::Result<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
        Ok(listener.accept().await?)
    }

    async fn read(stream: &mut TcpStream, buf: &mut [u8]) -> io::Result<usize> {
        stream.read(buf).await
    }

    async fn write_all(stream: &mut TcpStream, buf: &[u8]) -> io::Result<()> {
        stream.write_all(buf).await
    }
}

/// Without a timer: hyper wants one that other threads may have, too.
impl Server for Glommio {
    async fn serve_hello(stream: TcpStream) {
        let service = service_fn(|_| async { Ok::<_, Infallible>(hello()) });
        let connection = http1::Builder::new().serve_connection(FuturesIo::new(stream), service);
        connection.await.expect("the connection is closed between two requests");
    }
}
