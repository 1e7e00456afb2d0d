//! A server, running: the accept loop, the connections, the end.

use super::body::Body;
use super::bridge::Bridge;
use super::listen::Listener;
use super::peer::Peer;
use super::serve::Limits;
use super::stall::Watched;
use super::stats::{Count, Stats};
use super::timer::Timer;
use crate::join::JoinHandle;
use crate::spawn::spawn_in;
use crate::time::sleep;
use context::{Context, Reason};
use http::{Request, Response};
use hyper::server::conn::http1;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;
use tower_service::Service;

const LOG_TARGET: &str = "http::connection";

/// Pauses after a failure to accept: from here, doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);

pub(super) async fn run<L, S, B>(
    listener: L,
    service: S,
    limits: Limits,
    stats: Stats,
    signal: Pin<Box<dyn Future<Output = ()>>>,
) -> io::Result<()>
where
    L: Listener + 'static,
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let context = Context::root("infra:http");
    let server = Server {
        service,
        limits,
        http: http1(&limits),
        context: context.clone(),
        room: Rc::new(Room::new(stats.clone())),
        tasks: Vec::new(),
        stats,
    };
    context.run(server.run(listener, signal)).await
}

fn http1(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(Timer).header_read_timeout(limits.head_timeout).max_header_size(limits.head);
    if limits.headers != Limits::DEFAULT.headers {
        // hyper keeps its own number of them on the stack, any other on the heap.
        builder.max_headers(limits.headers);
    }
    builder
}

struct Server<S> {
    service: S,
    limits: Limits,
    http: http1::Builder,
    context: Context,
    room: Rc<Room>,
    /// Those of connections; finished ones are thrown out now and then.
    tasks: Vec<JoinHandle<()>>,
    stats: Stats,
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
        let mut pause = PAUSE_MIN;
        loop {
            let accepted = async {
                self.room.below(self.limits.connections).await;
                listener.accept().await
            };
            match unless(&mut signal, accepted).await {
                None => break,
                Some(Ok((stream, peer))) => {
                    pause = PAUSE_MIN;
                    self.start(stream, peer);
                }
                Some(Err(error)) if is_fatal(&error) => return Err(error),
                Some(Err(error)) => {
                    self.stats.add(Count::accept_errors);
                    if is_of_the_client(&error) {
                        continue;
                    }
                    // Out of descriptors, most likely. Trying on would only burn CPU until one is closed.
                    log::error!(target: LOG_TARGET, "cannot accept, trying again in {pause:?}: {error}");
                    if unless(&mut signal, sleep(pause)).await.is_none() {
                        break;
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
        drop(listener);
        self.shut_down().await;
        Ok(())
    }

    fn start<T>(&mut self, stream: T, peer: Peer)
    where
        T: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    {
        let Self { service, limits, http, stats, .. } = self;
        // It finishes when its task, the only one that holds it, is gone.
        let context = Context::builder("connection").parent(&self.context).build();
        let seat = Seat::take(&self.room);
        let stream = Watched::new(stream, limits.stall, stats.clone());
        let bridge =
            Bridge { service: service.clone(), peer: peer.clone(), limits: *limits, stats: stats.clone() };
        let connection = http.serve_connection(stream, bridge);
        let task = spawn_in(&context, drive(connection, peer, stats.clone(), seat));
        if self.tasks.len() >= 2 * self.room.open.get() + 16 {
            self.tasks.retain(|task| !task.is_finished());
        }
        self.tasks.push(task);
    }

    async fn shut_down(mut self) {
        // Every connection hears of it: they are below.
        self.context.cancel(Reason::Shutdown);
        let mut patience = pin!(sleep(self.limits.grace));
        if unless(&mut patience, self.room.below(1)).await.is_some() {
            return;
        }
        let left = self.room.open.get();
        log::warn!(target: LOG_TARGET, "shutting down: {left} connections are cut");
        for task in self.tasks.drain(..).filter(|task| !task.is_finished()) {
            self.stats.add(Count::cut);
            task.abort();
        }
        self.room.below(1).await;
    }
}

/// One connection, from its first byte to its last.
async fn drive<T, S, B>(
    connection: http1::Connection<Watched<T>, Bridge<S>>,
    peer: Peer,
    stats: Stats,
    seat: Seat,
) where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // In this order: they go in the reverse one.
    let _seat = seat;
    let mut connection = pin!(connection);
    let _parting = Parting(&peer);
    let context = Context::current();
    let mut closing = pin!(context.cancelled());
    let mut is_open = true;
    let result = poll_fn(|cx| {
        if is_open && closing.as_mut().poll(cx).is_ready() {
            is_open = false;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await;
    // What is unfinished now was left by the client.
    peer.lose(Reason::Disconnected);
    if let Err(error) = result {
        stats.add(classify(&error));
        log::debug!(target: LOG_TARGET, "{peer}: closed: {}", Chain(&error));
    }
}

/// Tells the requests on a connection why they end, if its task is dropped before them.
struct Parting<'a>(&'a Peer);

impl Drop for Parting<'_> {
    fn drop(&mut self) {
        if Context::current().cancel_reason().is_some() {
            self.0.lose(Reason::Shutdown);
        }
    }
}

fn classify(error: &hyper::Error) -> Count {
    if error.is_timeout() {
        Count::header_timeouts
    } else if error.is_parse_too_large() {
        Count::head_too_large
    } else if error.is_parse() {
        Count::malformed
    } else {
        Count::broken
    }
}

/// An error with its causes.
struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
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

/// How many connections are open, and who waits for that to change: the accept loop only.
struct Room {
    open: Cell<usize>,
    waiter: RefCell<Option<Waker>>,
    stats: Stats,
}

impl Room {
    fn new(stats: Stats) -> Self {
        Self { open: Cell::new(0), waiter: RefCell::new(None), stats }
    }

    /// Waits until fewer than `limit` are open.
    async fn below(&self, limit: usize) {
        let mut waited = false;
        poll_fn(|cx| {
            if self.open.get() < limit {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut waited, true) && limit > 1 {
                self.stats.add(Count::full);
            }
            let waker = cx.waker().clone();
            drop(self.waiter.replace(Some(waker)));
            Poll::Pending
        })
        .await
    }
}

/// One of the open connections.
struct Seat(Rc<Room>);

impl Seat {
    fn take(room: &Rc<Room>) -> Self {
        room.open.set(room.open.get() + 1);
        room.stats.add(Count::accepted);
        room.stats.add(Count::open);
        Self(room.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.stats.closed();
        let waiter = self.0.waiter.take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}
