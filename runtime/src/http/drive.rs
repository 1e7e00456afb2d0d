//! One connection, from its first byte to its last: polled by hyper, watched here.

use super::body::Body;
use super::bridge::Bridge;
use super::link::{HALF_CLOSED_PATIENCE, Link, Phase};
use super::pace::Watched;
use super::peer::Peer;
use super::room::{Order, Seat, Taken};
use super::serve::Limits;
use super::server::LOG_TARGET;
use super::stats::{Count, Stats};
use crate::time::{Instant, Sleep, sleep_until};
use context::{Context, Reason};
use http::{Request, Response};
use hyper::server::conn::http1;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{self, Poll, ready};
use std::time::Duration;
use tower_service::Service;

type Connection<T, S> = http1::Connection<Watched<T>, Bridge<S>>;

/// How long a client that has connected shortly before a shutdown may take to send its first request, and one that is in the
/// middle of a head to send the rest.
const LAST_REQUEST: Duration = Duration::from_millis(500);

/// Drives a connection to its end. `taken` goes last.
pub(super) async fn drive<T, S, B>(
    connection: Connection<T, S>,
    peer: Peer,
    limits: Limits,
    stats: Stats,
    taken: Taken,
) where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // In this order: they go in the reverse one.
    let taken = taken;
    let mut connection = pin!(connection);
    let _parting = Parting(&peer);
    let context = Context::current();
    let mut closing = pin!(context.cancelled());
    let seat = taken.seat();
    let link = peer.link();
    let mut watch =
        Watch { link, seat, limits, stats: &stats, timer: None, closing_since: None, leaves: false };
    let end = poll_fn(|cx| {
        loop {
            watch.link.begin_poll();
            if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                return Poll::Ready(End::Of(result));
            }
            if watch.closing_since.is_none() && closing.as_mut().poll(cx).is_ready() {
                watch.closing_since = Some(Instant::now());
            }
            match ready!(watch.poll(cx)) {
                Step::Leave => connection.as_mut().graceful_shutdown(),
                Step::Again => {}
                Step::End(end) => return Poll::Ready(end),
            }
        }
    })
    .await;
    end.note(&peer, &stats);
}

/// How a connection ended.
enum End {
    Of(hyper::Result<()>),
    HeadTooSlow(Duration),
    Cut,
}

impl End {
    fn note(self, peer: &Peer, stats: &Stats) {
        match self {
            Self::Cut => {
                stats.add(Count::cut);
                return peer.link().lose(Reason::Shutdown);
            }
            Self::HeadTooSlow(limit) => {
                stats.add(Count::header_timeouts);
                log::info!(target: LOG_TARGET, "{peer}: closed: no whole head of a request within {limit:?}");
            }
            Self::Of(Err(error)) => {
                stats.add(classify(&error));
                log::debug!(target: LOG_TARGET, "{peer}: closed: {}", Chain(&error));
            }
            Self::Of(Ok(())) => {}
        }
        // What is unfinished now was left by the client.
        peer.link().lose(Reason::Disconnected);
    }
}

/// Looks after the limits of a connection, and after what it is told.
struct Watch<'a> {
    link: &'a Link,
    seat: &'a Seat,
    limits: Limits,
    stats: &'a Stats,
    /// Fires when the limit of the phase is reached, or before: it is not moved for each request.
    timer: Option<Sleep>,
    /// The server shuts down.
    closing_since: Option<Instant>,
    /// hyper was told to close the connection when it can.
    leaves: bool,
}

enum Step {
    /// hyper is to close the connection when it can.
    Leave,
    /// hyper is to look again.
    Again,
    End(End),
}

impl Watch<'_> {
    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Step> {
        if self.link.has_moved() {
            self.seat.begin_phase(Instant::now());
        }
        let order = self.seat.order(cx);
        if order == Order::Cut {
            return Poll::Ready(Step::End(End::Cut));
        }
        let phase = self.link.phase();
        let may_leave = order == Order::Leave
            || self.closing_since.is_some() && !matches!(phase, Phase::Fresh | Phase::Head);
        if may_leave && !self.leaves {
            self.leaves = true;
            return Poll::Ready(Step::Leave);
        }
        let Some(limit) = self.limit(phase) else { return Poll::Pending };
        ready!(self.poll_timer(cx, limit));
        Poll::Ready(self.limit_reached(phase))
    }

    /// How long the connection may stay in this phase, from when it began.
    fn limit(&self, phase: Phase) -> Option<Duration> {
        let Limits { header_read, idle, request, .. } = self.limits;
        let limit = match phase {
            Phase::Fresh | Phase::Idle => idle,
            Phase::Head => header_read,
            Phase::Serving if self.link.is_half_closed() => request.min(HALF_CLOSED_PATIENCE),
            Phase::Serving => request,
            // Watched by the stream.
            Phase::Answering | Phase::Closing => return None,
        };
        let Some(closing) = self.closing_since.filter(|_| matches!(phase, Phase::Fresh | Phase::Head)) else {
            return Some(limit);
        };
        let since = self.seat.since();
        let begin = if phase == Phase::Fresh { since } else { closing.max(since) };
        Some(limit.min(begin.saturating_duration_since(since) + LAST_REQUEST))
    }

    fn poll_timer(&mut self, cx: &mut task::Context<'_>, limit: Duration) -> Poll<()> {
        let Some(due) = self.seat.since().checked_add(limit) else { return Poll::Pending };
        loop {
            let timer = self.timer.get_or_insert_with(|| sleep_until(due));
            if timer.deadline() > due {
                timer.reset(due);
            }
            ready!(Pin::new(&mut *timer).poll(cx));
            if timer.deadline() >= due {
                self.timer = None;
                return Poll::Ready(());
            }
            timer.reset(due);
        }
    }

    fn limit_reached(&mut self, phase: Phase) -> Step {
        match phase {
            Phase::Head => Step::End(End::HeadTooSlow(self.limits.header_read)),
            // It has gone, after all.
            Phase::Serving if self.link.is_half_closed() => Step::End(End::Of(Ok(()))),
            Phase::Serving => {
                self.link.expire();
                self.link.progress();
                Step::Again
            }
            _ => {
                self.stats.add(Count::idle_timeouts);
                if self.leaves {
                    // hyper has not closed it although it could.
                    return Step::End(End::Of(Ok(())));
                }
                self.leaves = true;
                Step::Leave
            }
        }
    }
}

/// Tells the requests on a connection why they end, if its task is dropped before them.
struct Parting<'a>(&'a Peer);

impl Drop for Parting<'_> {
    fn drop(&mut self) {
        let link = self.0.link();
        if Context::current().cancel_reason().is_some() {
            link.lose(Reason::Shutdown);
        }
        link.lose(Reason::Disconnected);
        link.release();
    }
}

fn classify(error: &hyper::Error) -> Count {
    if error.is_parse_too_large() {
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
