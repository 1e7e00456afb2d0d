//! axum: what most services have on top of hyper, on either runtime. On Bursar with the layer that gives each request its
//! context, bills it, and tells the client what it cost.

use super::{Bursar, HELLO, Network, Peer, Server, Tokio};
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use runtime::http::{ContextLayer, Timer};
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use tower_service::Service;

/// A router of one route, on `P`.
#[derive(Debug)]
pub struct AxumOn<P>(PhantomData<P>);

/// A runtime that serves a router.
pub trait Host: Network {
    /// The column.
    const NAME: &'static str;

    /// The router, with what is usual on this runtime.
    fn layered(router: Router) -> Router;

    /// Serves a connection by it.
    fn serve(stream: Self::Stream, router: Router) -> impl Future<Output = ()>;
}

impl Host for Tokio {
    const NAME: &'static str = "axum on tokio";

    fn layered(router: Router) -> Router {
        router
    }

    async fn serve(stream: Self::Stream, router: Router) {
        let service = service_fn(move |request| answer(&router, request));
        let connection =
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        connection.await.expect(CLOSED);
    }
}

impl Host for Bursar {
    const NAME: &'static str = "axum on bursar";

    fn layered(router: Router) -> Router {
        router.layer(ContextLayer::axum())
    }

    async fn serve(stream: Self::Stream, router: Router) {
        let service = service_fn(move |request| answer(&router, request));
        http1::Builder::new().timer(Timer).serve_connection(stream, service).await.expect(CLOSED);
    }
}

const CLOSED: &str = "the connection is closed between two requests";

fn answer(
    router: &Router,
    request: http::Request<hyper::body::Incoming>,
) -> <Router as Service<http::Request<Body>>>::Future {
    router.clone().call(request.map(Body::new))
}

impl<P: Host> Peer for AxumOn<P> {
    const NAME: &'static str = <P as Host>::NAME;

    type Context = P::Context;

    type Handle<T: Send + 'static> = P::Handle<T>;

    type Error = P::Error;

    fn block_on<F: Future>(future: F) -> F::Output {
        P::block_on(future)
    }

    fn context() -> P::Context {
        P::context()
    }

    fn spawn_here<F>(context: &P::Context, future: F) -> Self::Handle<F::Output>
    where
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        P::spawn_here(context, future)
    }

    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        P::spawn(future)
    }
}

impl<P: Host> Network for AxumOn<P> {
    type Listener = P::Listener;

    type Stream = P::Stream;

    fn listen() -> io::Result<(Self::Listener, SocketAddr)> {
        P::listen()
    }

    fn accept(listener: &Self::Listener) -> impl Future<Output = io::Result<Self::Stream>> {
        P::accept(listener)
    }

    fn read(stream: &mut Self::Stream, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        P::read(stream, buf)
    }

    fn write_all(stream: &mut Self::Stream, buf: &[u8]) -> impl Future<Output = io::Result<()>> {
        P::write_all(stream, buf)
    }
}

impl<P: Host> Server for AxumOn<P> {
    async fn serve_hello(stream: Self::Stream) {
        P::serve(stream, P::layered(Router::new().route("/hello", get(async || HELLO)))).await;
    }
}
