//! A server, described.

use super::body::Body;
use super::listen::Listener;
use super::readiness::Readiness;
use super::server::{self, Parts};
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
    pub(super) header_read: Duration,
    pub(super) idle: Duration,
    pub(super) request: Duration,
    pub(super) headers: usize,
    pub(super) head: usize,
    pub(super) body: u64,
    pub(super) stall: Duration,
    pub(super) rate: u32,
    pub(super) grace: Duration,
    pub(super) delay: Duration,
}

impl Limits {
    pub(super) const DEFAULT: Self = Self {
        connections: 4_096,
        header_read: Duration::from_secs(10),
        idle: Duration::from_secs(30),
        request: Duration::from_secs(30),
        headers: 100,
        head: 16 * 1024,
        body: u64::MAX,
        stall: Duration::from_secs(30),
        rate: 1_024,
        grace: Duration::from_secs(10),
        delay: Duration::ZERO,
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
///     .with_graceful_shutdown(async { drop(runtime::signal::terminate().await) })
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
    let parts =
        Parts { service, limits: Limits::DEFAULT, stats: Stats::default(), readiness: Readiness::default() };
    Serve { listener, parts, signal: Box::pin(pending()) }
}

/// A server; made by [`serve`].
#[must_use = "nothing is served before it is awaited"]
pub struct Serve<L, S> {
    listener: L,
    parts: Parts<S>,
    signal: Pin<Box<dyn Future<Output = ()>>>,
}

impl<L, S> Serve<L, S> {
    /// Shuts down when `signal` is ready.
    ///
    /// [`Readiness`] ends at once. After [`shutdown_delay`](Self::shutdown_delay) the connections that the kernel has accepted
    /// by then are taken, and the port is closed. Idle connections are closed; requests in flight are finished. What is left
    /// when the [`grace`](Self::grace) is over is cancelled with [`Reason::Shutdown`](context::Reason::Shutdown), and
    /// dropped. A head that is not complete within half a second is not waited for.
    pub fn with_graceful_shutdown(mut self, signal: impl Future<Output = ()> + 'static) -> Self {
        self.signal = Box::pin(signal);
        self
    }

    /// How long a shutdown may take, from the signal on; 10 s by default.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.parts.limits.grace = grace;
        self
    }

    /// How long a shutdown goes on accepting connections, so that those who send them hear that the server is not
    /// [ready](Self::readiness) any more; not at all by default. It is a part of the [`grace`](Self::grace).
    pub fn shutdown_delay(mut self, delay: Duration) -> Self {
        self.parts.limits.delay = delay;
        self
    }

    /// Connections at most, 4,096 by default.
    ///
    /// If so many are open and another one comes, the one that has been idle for longest is closed for it, if one has been
    /// idle for half a second. If there is none, further ones wait in the listener's queue in the kernel. Both are counted,
    /// and said in the log, at most once in ten seconds.
    ///
    /// # Panics
    ///
    /// If it is 0.
    pub fn max_connections(mut self, connections: usize) -> Self {
        assert!(connections > 0, "a server needs at least one connection");
        self.parts.limits.connections = connections;
        self
    }

    /// How long a client may take to send the head of a request, from its first byte to its last; 10 s by default. Then the
    /// connection is closed.
    pub fn header_read_timeout(mut self, timeout: Duration) -> Self {
        self.parts.limits.header_read = timeout;
        self
    }

    /// How long a connection may be idle, before its first request or between two; 30 s by default.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.parts.limits.idle = timeout;
        self
    }

    /// How long the service may take to begin its answer; 30 s by default. The time in which the body of the request comes in
    /// does not count. Then the service's future is dropped, its context cancelled with
    /// [`Reason::Deadline`](context::Reason::Deadline), and the client gets the status 503.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.parts.limits.request = timeout;
        self
    }

    /// Bytes of the head of a request at most, 16 KiB by default; at least 8 KiB, which is read at once. Larger ones are
    /// answered with 431.
    pub fn max_header_bytes(mut self, bytes: usize) -> Self {
        self.parts.limits.head = bytes.max(8 * 1024);
        self
    }

    /// Headers of a request at most, 100 by default. More are answered with 431.
    pub fn max_headers(mut self, headers: usize) -> Self {
        self.parts.limits.headers = headers;
        self
    }

    /// Bytes of the body of a request at most; reading a larger one fails, and is answered with 413. There is no limit by
    /// default: what is kept in memory is for the service to bound, as axum does with its extractors (2 MB by default,
    /// `DefaultBodyLimit`).
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.parts.limits.body = bytes;
        self
    }

    /// How long a client may stop in the middle: send nothing of a body that is read (408), or read nothing of its answer. 30 s by
    /// default.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.parts.limits.stall = timeout;
        self
    }

    /// Bytes a second that a client must send of a body that is read (or it gets 408), and must read of its answer; 1,024 by
    /// default, 0 for no limit. It is the average over the time in which the client is waited for, looked at after each ten
    /// seconds of it: a slow producer of an answer (server-sent events, say) is not affected.
    pub fn min_rate(mut self, bytes_per_second: u32) -> Self {
        self.parts.limits.rate = bytes_per_second;
        self
    }

    /// Its counters, to be read while it runs.
    pub fn stats(&self) -> Stats {
        self.parts.stats.clone()
    }

    /// Whether it wants to be sent requests.
    pub fn readiness(&self) -> Readiness {
        self.parts.readiness.clone()
    }

    /// Uses `readiness`, which a handler may have already, for [`readiness`](Self::readiness).
    pub fn with_readiness(mut self, readiness: Readiness) -> Self {
        self.parts.readiness = readiness;
        self
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
        let Self { listener, parts, signal } = self;
        Box::pin(server::run(listener, parts, signal))
    }
}

impl<L, S> fmt::Debug for Serve<L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("limits", &self.parts.limits).finish_non_exhaustive()
    }
}
