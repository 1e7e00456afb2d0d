//! tokio for tasks that are not `Send`: `LocalRuntime`, and `LocalSet` on a runtime of one thread.

use super::{Network, Peer, Server, Timers, Tokio};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{JoinError, JoinHandle, spawn_local};

/// `tokio::runtime::LocalRuntime`.
#[derive(Debug)]
pub struct LocalRuntime;

/// `tokio::task::LocalSet`.
#[derive(Debug)]
pub struct LocalSet;

impl Peer for LocalRuntime {
    const NAME: &'static str = "tokio LocalRuntime";

    type Context = ();

    type Handle<T: Send + 'static> = JoinHandle<T>;

    type Error = JoinError;

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        runtime.expect("a runtime").block_on(future)
    }

    fn context() {}

    fn spawn_here<F>(_: &(), future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        spawn_local(future)
    }

    fn spawn<F>(future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        spawn_local(future)
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        tokio::task::yield_now()
    }
}

impl Peer for LocalSet {
    const NAME: &'static str = "tokio LocalSet";

    type Context = ();

    type Handle<T: Send + 'static> = JoinHandle<T>;

    type Error = JoinError;

    fn block_on<F: Future>(future: F) -> F::Output {
        Tokio::block_on(async { tokio::task::LocalSet::new().run_until(future).await })
    }

    fn context() {}

    fn spawn_here<F>(_: &(), future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        spawn_local(future)
    }

    fn spawn<F>(future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        spawn_local(future)
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        tokio::task::yield_now()
    }
}

/// Timers and sockets are tokio's own.
macro_rules! as_tokio {
    ($($peer:ty),*) => { $(
        impl Timers for $peer {
            type Sleep = <Tokio as Timers>::Sleep;

            fn sleep(duration: Duration) -> Self::Sleep {
                Tokio::sleep(duration)
            }
        }

        impl Network for $peer {
            type Listener = TcpListener;

            type Stream = TcpStream;

            fn listen() -> io::Result<(TcpListener, SocketAddr)> {
                Tokio::listen()
            }

            fn accept(listener: &TcpListener) -> impl Future<Output = io::Result<TcpStream>> {
                Tokio::accept(listener)
            }

            fn read(stream: &mut TcpStream, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
                Tokio::read(stream, buf)
            }

            fn write_all(stream: &mut TcpStream, buf: &[u8]) -> impl Future<Output = io::Result<()>> {
                Tokio::write_all(stream, buf)
            }
        }

        impl Server for $peer {
            fn serve_hello(stream: TcpStream) -> impl Future<Output = ()> {
                Tokio::serve_hello(stream)
            }
        }
    )* };
}

as_tokio!(LocalRuntime, LocalSet);
