//! A server, running: the accept loop, and the end.

use super::body::Body;
use super::bridge::Bridge;
use super::drive::drive;
use super::listen::Listener;
use super::pace::Watched;
use super::panics;
use super::peer::Peer;
use super::readiness::Readiness;
use super::room::{Room, Vacancy};
use super::serve::Limits;
use super::stats::{Count, Stats};
use crate::spawn::spawn_in;
use crate::time::{Instant, sleep, sleep_until};
use context::{Context, Reason};
use http::{Request, Response};
use hyper::server::conn::http1;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tower_service::Service;

pub(super) const LOG_TARGET: &str = "http::connection";

/// Pauses after a failure to accept: from here, doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The log says at most that often that there is no room for further connections.
const FULL_LINE: Duration = Duration::from_secs(10);
/// After so long the loop has asked the kernel what has come in.
const TURN: Duration = Duration::from_millis(1);
/// What is taken at most, at a shutdown, of the connections that the kernel has accepted: others may come as fast.
const DRAIN_MAX: usize = 65_536;

/// What a server is made of.
pub(super) struct Parts<S> {
    pub(super) service: S,
    pub(super) limits: Limits,
    pub(super) stats: Stats,
    pub(super) readiness: Readiness,
}

pub(super) async fn run<L, S, B>(
    listener: L,
    parts: Parts<S>,
    signal: Pin<Box<dyn Future<Output = ()>>>,
) -> io::Result<()>
where
    L: Listener + 'static,
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    panics::note_places();
    let context = Context::root("infra:http");
    let server = Server {
        http: http1(&parts.limits),
        context: context.clone(),
        room: Rc::new(Room::new(parts.stats.clone())),
        full_said: None,
        parts,
    };
    context.run(server.run(listener, signal)).await
}

fn http1(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The time for a head is watched by `drive`, with one timer a connection instead of one a request.
    builder.header_read_timeout(None).max_header_size(limits.head);
    if limits.headers != Limits::DEFAULT.headers {
        // hyper keeps its own number of them on the stack, any other on the heap.
        builder.max_headers(limits.headers);
    }
    builder
}

struct Server<S> {
    parts: Parts<S>,
    http: http1::Builder,
    context: Context,
    room: Rc<Room>,
    /// When the log said last that there is no room.
    full_said: Option<Instant>,
}

impl<S, B> Server<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    async fn run<L: Listener>(
        mut self,
        mut listener: L,
        mut signal: Pin<Box<dyn Future<Output = ()>>>,
    ) -> io::Result<()> {
        self.accept_until(&mut signal, &mut listener).await?;
        let Limits { grace, delay, .. } = self.parts.limits;
        let end = Instant::now().checked_add(grace);
        self.parts.readiness.end();
        if !delay.is_zero() {
            self.accept_until(&mut pin!(sleep(delay.min(grace))), &mut listener).await?;
        }
        self.drain(&mut listener).await;
        drop(listener);
        self.shut_down(end).await;
        Ok(())
    }

    async fn accept_until<L: Listener>(
        &mut self,
        stop: &mut (impl Future<Output = ()> + Unpin),
        listener: &mut L,
    ) -> io::Result<()> {
        let mut pause = PAUSE_MIN;
        loop {
            let accepted = async {
                self.find_room().await;
                listener.accept().await
            };
            match unless(&mut *stop, accepted).await {
                None => return Ok(()),
                Some(Ok((stream, peer))) => {
                    pause = PAUSE_MIN;
                    self.start(stream, peer);
                }
                Some(Err(error)) if is_fatal(&error) => return Err(error),
                Some(Err(error)) => {
                    self.parts.stats.add(Count::accept_errors);
                    if is_of_the_client(&error) {
                        continue;
                    }
                    // Out of descriptors, most likely. Trying on would only burn CPU until one is closed.
                    log::error!(target: LOG_TARGET, "cannot accept, trying again in {pause:?}: {error}");
                    self.room.evict();
                    if unless(&mut *stop, sleep(pause)).await.is_none() {
                        return Ok(());
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Waits until there is room for one more connection, if only by closing an idle one.
    async fn find_room(&mut self) {
        let limit = self.parts.limits.connections;
        let mut waited = false;
        while let Vacancy::Later(wait) = self.room.vacancy(limit) {
            if !std::mem::replace(&mut waited, true) {
                self.parts.stats.add(Count::full);
                self.say_full("none of them is idle, so further ones wait");
            }
            unless(&mut pin!(sleep(wait)), self.room.changed()).await;
        }
    }

    fn say_full(&mut self, what: &str) {
        if self.full_said.is_none_or(|said| said.elapsed() >= FULL_LINE) {
            self.full_said = Some(Instant::now());
            let limit = self.parts.limits.connections;
            log::warn!(target: LOG_TARGET, "the limit of {limit} connections is reached: {what}");
        }
    }

    fn start<T>(&mut self, stream: T, peer: Peer)
    where
        T: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    {
        if self.room.open() >= self.parts.limits.connections && self.room.evict() {
            self.say_full("idle ones are closed for new ones");
        }
        let Parts { service, limits, stats, .. } = &self.parts;
        // It finishes when its task, the only one that holds it, is gone.
        let context = Context::builder("connection").parent(&self.context).build();
        let taken = self.room.take(peer.clone());
        let stream = Watched::new(stream, limits, peer.clone(), stats.clone());
        let bridge =
            Bridge { service: service.clone(), peer: peer.clone(), limits: *limits, stats: stats.clone() };
        let connection = self.http.serve_connection(stream, bridge);
        let driven = drive(connection, peer, *limits, stats.clone(), taken);
        // A connection may outlive the server's future: the server's context finishes with the last of them, so none is late.
        let hold = self.context.hold();
        // Nobody awaits it, so a panic that gets that far is reported when it happens.
        drop(spawn_in(&context, async move {
            driven.await;
            drop(hold);
        }));
    }

    /// Takes the connections that the kernel has accepted already: their clients think that they are served.
    async fn drain<L: Listener>(&mut self, listener: &mut L) {
        let mut is_empty = false;
        for _ in 0..DRAIN_MAX {
            let accepted = {
                let mut accepting = pin!(listener.accept());
                poll_fn(|cx| {
                    Poll::Ready(match accepting.as_mut().poll(cx) {
                        Poll::Ready(accepted) => Some(accepted),
                        Poll::Pending => None,
                    })
                })
                .await
            };
            match accepted {
                Some(Ok((stream, peer))) => self.start(stream, peer),
                Some(Err(error)) if is_of_the_client(&error) => self.parts.stats.add(Count::accept_errors),
                Some(Err(_)) => return,
                // It may be that the loop has not asked the kernel since they came, or that the budget of this poll is used
                // up.
                None if is_empty => return,
                None => {
                    is_empty = true;
                    sleep(TURN).await;
                    continue;
                }
            }
            is_empty = false;
        }
    }

    async fn shut_down(self, end: Option<Instant>) {
        // Requests may have come in that the loop has not heard of.
        sleep(TURN).await;
        // Every connection hears of it: they are below.
        self.context.cancel(Reason::Shutdown);
        let Some(end) = end else { return self.room.empty().await };
        if unless(&mut pin!(sleep_until(end)), self.room.empty()).await.is_some() {
            return;
        }
        let left = self.room.cut();
        log::warn!(target: LOG_TARGET, "shutting down: {left} connections are cut");
        self.room.empty().await;
    }
}

/// The listener is of no use: it is none, or it belongs to another runtime.
fn is_fatal(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, NotConnected, Unsupported};
    matches!(error.kind(), InvalidInput | NotConnected | Unsupported)
}

/// The connection was gone before it was accepted.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | HostUnreachable | Interrupted | NetworkUnreachable
    )
}

/// What `future` yields; `None` if `stop` is ready first. `stop` is asked first.
async fn unless<T>(mut stop: impl Future<Output = ()> + Unpin, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match Pin::new(&mut stop).poll(cx) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => future.as_mut().poll(cx).map(Some),
    })
    .await
}
