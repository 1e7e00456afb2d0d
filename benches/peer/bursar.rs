//! Bursar, accounting and all.

use super::{Network, Peer, Server, Timers, hello, std_listener};
use context::{Clock, Context};
use futures_io::{AsyncRead, AsyncWrite};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use runtime::http::Timer;
use runtime::net::{TcpListener, TcpStream};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

thread_local! {
    static CLOCK: Cell<Clock> = const { Cell::new(Clock::Auto) };
}

/// Has the runtimes that are made on this thread from here on read CPU time by `clock`: for the bench of just that.
pub fn use_clock(clock: Clock) {
    CLOCK.set(clock);
}

/// This repository's runtime with its default settings: every poll is charged.
#[derive(Debug)]
pub struct Bursar;

impl Peer for Bursar {
    const NAME: &'static str = "bursar";

    type Context = Context;

    type Handle<T: Send + 'static> = runtime::JoinHandle<T>;

    type Error = runtime::JoinError;

    fn block_on<F: Future>(future: F) -> F::Output {
        runtime::Runtime::builder().clock(CLOCK.get()).build().expect("a runtime").block_on(future)
    }

    fn context() -> Context {
        Context::root("bench")
    }

    fn spawn_here<F>(context: &Context, future: F) -> Self::Handle<F::Output>
    where
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        runtime::spawn_in(context, future)
    }

    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        runtime::spawn(future)
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        runtime::yield_now()
    }
}

impl Timers for Bursar {
    type Sleep = runtime::time::Sleep;

    fn sleep(duration: Duration) -> Self::Sleep {
        runtime::time::sleep(duration)
    }
}

impl Network for Bursar {
    type Listener = TcpListener;

    type Stream = TcpStream;

    fn listen() -> io::Result<(TcpListener, SocketAddr)> {
        let (listener, address) = std_listener()?;
        Ok((TcpListener::from_std(listener)?, address))
    }

    async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
        Ok(listener.accept().await?.0)
    }

    async fn read(stream: &mut TcpStream, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, buf)).await
    }

    async fn write_all(stream: &mut TcpStream, buf: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < buf.len() {
            written += poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, &buf[written..])).await?;
        }
        Ok(())
    }
}

impl Server for Bursar {
    async fn serve_hello(stream: TcpStream) {
        let service = service_fn(|_| Context::root("GET /hello").run(async { Ok::<_, Infallible>(hello()) }));
        let served = http1::Builder::new().timer(Timer).serve_connection(stream, service).await;
        served.expect("the connection is closed between two requests");
    }
}
