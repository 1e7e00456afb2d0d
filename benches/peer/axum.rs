//! axum on tokio: what a router adds to hyper. A server, and otherwise tokio.

use super::{HELLO, Network, Peer, Server, Tokio};
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use tower_service::Service;

/// A router of one route.
#[derive(Debug)]
pub struct Axum;

impl Peer for Axum {
    const NAME: &'static str = "axum on tokio";

    type Context = ();

    type Handle<T: Send + 'static> = <Tokio as Peer>::Handle<T>;

    type Error = <Tokio as Peer>::Error;

    fn block_on<F: Future>(future: F) -> F::Output {
        Tokio::block_on(future)
    }

    fn context() {}

    fn spawn_here<F>(_: &(), future: F) -> Self::Handle<F::Output>
    where
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        Tokio::spawn_here(&(), future)
    }

    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Tokio::spawn(future)
    }
}

impl Network for Axum {
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

impl Server for Axum {
    async fn serve_hello(stream: Self::Stream) {
        let router: Router = Router::new().route("/hello", get(async || HELLO));
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            router.clone().call(request.map(Body::new))
        });
        let connection =
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        connection.await.expect("the connection is closed between two requests");
    }
}
