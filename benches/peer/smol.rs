//! smol: `LocalExecutor`, driven by `smol::block_on`.

use super::{Network, Peer, Server, Sure, Timers, hello, std_listener};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};
use smol::{Async, LocalExecutor, Task, Timer};
use smol_hyper::rt::{FuturesIo, SmolTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

thread_local! {
    static EXECUTOR: LocalExecutor<'static> = const { LocalExecutor::new() };
}

/// smol's executor for one thread. Its reactor is the process's, and has a thread of its own beside.
#[derive(Debug)]
pub struct Smol;

impl Peer for Smol {
    const NAME: &'static str = "smol";

    type Context = ();

    type Handle<T: Send + 'static> = Sure<Task<T>>;

    type Error = Infallible;

    fn block_on<F: Future>(future: F) -> F::Output {
        EXECUTOR.with(|executor| smol::block_on(executor.run(future)))
    }

    fn context() {}

    fn spawn_here<F>(_: &(), future: F) -> Self::Handle<F::Output>
    where
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        EXECUTOR.with(|executor| Sure(executor.spawn(future)))
    }

    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Self::spawn_here(&(), future)
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        smol::future::yield_now()
    }
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

impl Timers for Smol {
    type Sleep = Sleep;

    fn sleep(duration: Duration) -> Sleep {
        Sleep(Timer::after(duration))
    }
}

impl Network for Smol {
    type Listener = TcpListener;

    type Stream = TcpStream;

    fn listen() -> io::Result<(TcpListener, SocketAddr)> {
        let (listener, address) = std_listener()?;
        Ok((Async::new(listener)?.into(), address))
    }

    async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
        Ok(listener.accept().await?.0)
    }

    async fn read(stream: &mut TcpStream, buf: &mut [u8]) -> io::Result<usize> {
        stream.read(buf).await
    }

    async fn write_all(stream: &mut TcpStream, buf: &[u8]) -> io::Result<()> {
        stream.write_all(buf).await
    }
}

impl Server for Smol {
    async fn serve_hello(stream: TcpStream) {
        let service = service_fn(|_| async { Ok::<_, Infallible>(hello()) });
        let connection =
            http1::Builder::new().timer(SmolTimer::new()).serve_connection(FuturesIo::new(stream), service);
        connection.await.expect("the connection is closed between two requests");
    }
}
