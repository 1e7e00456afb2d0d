//! tokio with a wrapper around every task.

use super::Wrap;
use crate::peer::{Network, Peer, Server, Timers, Tokio};
use fragile::Fragile;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::time::Duration;

/// tokio, each task followed by `W`. A task that would share its spawner's context gets one of its own: there is nothing
/// cheaper that follows it.
#[derive(Debug)]
pub struct TokioWith<W>(PhantomData<W>);

impl<W: Wrap> Peer for TokioWith<W> {
    const NAME: &'static str = W::ON_TOKIO;

    type Context = W::Context;

    type Handle<T: Send + 'static> = <Tokio as Peer>::Handle<T>;

    type Error = <Tokio as Peer>::Error;

    fn block_on<F: Future>(future: F) -> F::Output {
        Tokio::block_on(future)
    }

    fn context() -> W::Context {
        W::context()
    }

    fn spawn_here<F>(context: &W::Context, future: F) -> Self::Handle<F::Output>
    where
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        Tokio::spawn(W::wrap(context.clone(), Fragile::new(future)))
    }

    fn spawn_in<F>(context: &W::Context, future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Tokio::spawn(W::wrap(context.clone(), future))
    }

    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Self::spawn_in(&W::context(), future)
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        Tokio::yield_now()
    }
}

impl<W: Wrap> Timers for TokioWith<W> {
    type Sleep = <Tokio as Timers>::Sleep;

    fn sleep(duration: Duration) -> Self::Sleep {
        Tokio::sleep(duration)
    }
}

impl<W: Wrap> Network for TokioWith<W> {
    type Listener = <Tokio as Network>::Listener;

    type Stream = <Tokio as Network>::Stream;

    fn listen() -> io::Result<(Self::Listener, SocketAddr)> {
        Tokio::listen()
    }

    fn accept(listener: &Self::Listener) -> impl Future<Output = io::Result<Self::Stream>> {
        Tokio::accept(listener)
    }

    fn read(stream: &mut Self::Stream, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        Tokio::read(stream, buf)
    }

    fn write_all(stream: &mut Self::Stream, buf: &[u8]) -> impl Future<Output = io::Result<()>> {
        Tokio::write_all(stream, buf)
    }
}

/// The connection is followed as every task is; a request of its own is not.
impl<W: Wrap> Server for TokioWith<W> {
    fn serve_hello(stream: Self::Stream) -> impl Future<Output = ()> {
        Tokio::serve_hello(stream)
    }
}
