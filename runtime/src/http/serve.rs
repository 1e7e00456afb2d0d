//! A server, described.

use super::body::Body;
use super::listen::Listener;
use super::server;
use super::stats::Stats;
use http::{Request, Response};
use std::error::Error;
use std::fmt;
use std::future::{Future, IntoFuture, pending};
use std::io;
use std::pin::Pin;
use std::time::Duration;
use tower_service::Service;

/// What may come, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) head_timeout: Duration,
    pub(super) headers: usize,
    pub(super) head: usize,
    pub(super) body: u64,
    pub(super) stall: Duration,
    pub(super) grace: Duration,
}

impl Limits {
    pub(super) const DEFAULT: Self = Self {
        connections: 4_096,
        head_timeout: Duration::from_secs(30),
        headers: 100,
        head: 16 * 1024,
        body: 2 * 1024 * 1024,
        stall: Duration::from_secs(30),
        grace: Duration::from_secs(10),
    };
}

/// Serves HTTP/1 on `listener` by `service`, any tower service: an `axum::Router`, say. Await it.
///
/// Each connection is a task of its own, in a context of class `connection` below one of class `infra:http`; requests
/// are billed by [`ContextLayer`](super::ContextLayer).
///
/// ```no_run
/// # async fn example(app: axum::Router) -> std::io::Result<()> {
/// use std::time::Duration;
///
/// let listener = runtime::net::TcpListener::bind("127.0.0.1:8080").await?;
/// runtime::http::serve(listener, app)
///     .max_connections(1_000)
///     .with_graceful_shutdown(async { drop(runtime::signal::ctrl_c().await) })
///     .grace(Duration::from_secs(5))
///     .await
/// # }
/// ```
///
/// # Errors
///
/// Once awaited: when the listener itself is of no use any more. A connection that cannot be accepted, because its client has
/// gone or because the process is out of file descriptors, is counted; in the latter case accepting pauses.
#[must_use = "nothing is served before it is awaited"]
pub fn serve<L, S>(listener: L, service: S) -> Serve<L, S> {
    Serve { listener, service, limits: Limits::DEFAULT, stats: Stats::default(), signal: Box::pin(pending()) }
}

/// A server; made by [`serve`].
#[must_use = "nothing is served before it is awaited"]
pub struct Serve<L, S> {
    listener: L,
    service: S,
    limits: Limits,
    stats: Stats,
    signal: Pin<Box<dyn Future<Output = ()>>>,
}

impl<L, S> Serve<L, S> {
    /// Shuts down when `signal` is ready: the port is closed, idle connections too, requests in flight are finished. What is
    /// left after [`grace`](Self::grace) is cancelled with [`Reason::Shutdown`](context::Reason::Shutdown), and
    /// dropped.
    pub fn with_graceful_shutdown(mut self, signal: impl Future<Output = ()> + 'static) -> Self {
        self.signal = Box::pin(signal);
        self
    }

    /// How long a shutdown waits for requests in flight; 10 s by default.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.limits.grace = grace;
        self
    }

    /// Connections at most, 4,096 by default. Further ones wait in the listener's queue in the kernel.
    ///
    /// # Panics
    ///
    /// If it is 0.
    pub fn max_connections(mut self, connections: usize) -> Self {
        assert!(connections > 0, "a server needs at least one connection");
        self.limits.connections = connections;
        self
    }

    /// How long a client may take to send the head of a request, from the first byte of it or from the end of the one before:
    /// so it bounds idle connections too. 30 s by default.
    pub fn head_timeout(mut self, timeout: Duration) -> Self {
        self.limits.head_timeout = timeout;
        self
    }

    /// Bytes of the head of a request at most, 16 KiB by default; at least 8 KiB, which is read at once. Larger ones are
    /// answered with 431.
    pub fn max_head(mut self, bytes: usize) -> Self {
        self.limits.head = bytes.max(8 * 1024);
        self
    }

    /// Headers of a request at most, 100 by default. More are answered with 431.
    pub fn max_headers(mut self, headers: usize) -> Self {
        self.limits.headers = headers;
        self
    }

    /// Bytes of the body of a request at most, 2 MiB by default. Who reads a larger one gets an error.
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.limits.body = bytes;
        self
    }

    /// How long a client may stop in the middle: send nothing of a body that is read, or read nothing of its answer. 30 s by
    /// default.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.limits.stall = timeout;
        self
    }

    /// Its counters, to be read while it runs.
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }
}

impl<L, S, B> IntoFuture for Serve<L, S>
where
    L: Listener + 'static,
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Output = io::Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<()>>>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { listener, service, limits, stats, signal } = self;
        Box::pin(server::run(listener, service, limits, stats, signal))
    }
}

impl<L, S> fmt::Debug for Serve<L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("limits", &self.limits).finish_non_exhaustive()
    }
}
