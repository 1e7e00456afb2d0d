//! What is said of a request when it is over, and the account that is kept until then.

use super::link::Link;
use super::peer::Peer;
use context::{Context, Reason, Usage};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The whole answer was written to the connection: what its head announces, to the last byte.
    Sent,
    /// The client went away before, or was too slow. Logged with the status 499.
    ClientGone,
    /// The server ended before. Logged with the status 503.
    ShutDown,
    /// The handler took longer than [`Serve::request_timeout`](super::Serve::request_timeout) and was dropped. Logged with the
    /// status 503, which is what the client got.
    TimedOut,
    /// The handler panicked. Logged with the status 500, which is what the client got, unless it was the body that panicked,
    /// when the head was sent.
    Panicked,
    /// The service returned an error instead of a response. Logged with the status 500, which is what the client got.
    ServiceFailed,
    /// The body of the response ended in an error, or before the length that its head announces. The client sees the
    /// connection end. Logged with the status that was sent, or 500 if that was not written yet.
    BodyFailed,
}

/// A request that is over: what the log line of a request says, and how to read it.
///
/// ```text
/// 127.0.0.1:40312 GET /search#17 200 1832B 3.120ms cpu=1.204ms queued=0.031ms blocked=0.000ms db=(0.040ms/1.520ms/1/12) blocking=(0.000ms/0)
/// ```
///
/// From the left: peer, class and number of the context, status, bytes of the body, elapsed time from when the request's
/// head was read to when its answer was written or given up; then its [`Usage`]: on the CPU, runnable but waiting for the thread, off the CPU within a poll, the
/// database (waiting for a connection / in transactions / transactions / rows), the blocking pool (waiting for a
/// thread / jobs). The wait for the thread begins when the connection's task is woken, so it may exceed the elapsed time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestLine {
    /// Who asked, if the server said so.
    pub peer: Option<Peer>,
    /// The context of the request, which has finished: all work that was begun for it has ended.
    pub context: Context,
    /// The status of the response; 499, 503 or 500 where [`outcome`](Self::outcome) says why there was none.
    pub status: u16,
    /// The status that was written to the connection, if one was.
    pub sent_status: Option<u16>,
    /// Bytes of the body that were written to the connection.
    pub bytes: u64,
    /// From when the head of the request was read to when its answer was written, or given up. Work that was begun for it may
    /// have gone on; then the [`usage`](Self::usage) has that work, too.
    pub elapsed: Duration,
    /// What it cost, and everything below it.
    pub usage: Usage,
    /// How it ended.
    pub outcome: Outcome,
}

impl fmt::Display for RequestLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.peer {
            Some(peer) => write!(f, "{peer} ")?,
            None => f.write_str("- ")?,
        }
        let us = self.elapsed.as_micros();
        let (context, status, bytes) = (&self.context, self.status, self.bytes);
        write!(f, "{context} {status} {bytes}B {}.{:03}ms {}", us / 1_000, us % 1_000, self.usage)?;
        let why = match self.outcome {
            Outcome::Sent => return Ok(()),
            Outcome::ClientGone => "client gone",
            Outcome::ShutDown => "shut down",
            Outcome::TimedOut => "timed out",
            Outcome::Panicked => "panicked",
            Outcome::ServiceFailed => "service failed",
            Outcome::BodyFailed => "body failed",
        };
        match self.sent_status {
            Some(sent) if sent != self.status => write!(f, " ({why} after {sent})"),
            _ => write!(f, " ({why})"),
        }
    }
}

/// What becomes of the line of a request that is over.
#[derive(Clone)]
pub(super) enum Report {
    /// It is logged.
    Log,
    /// Somebody is told.
    To(Arc<dyn Fn(&RequestLine) + Send + Sync>),
}

const LOG_TARGET: &str = "http::request";

impl Report {
    /// Whether anybody hears of it. If not, the line is not made.
    fn is_heard(&self) -> bool {
        match self {
            Self::Log => log::log_enabled!(target: LOG_TARGET, log::Level::Info),
            Self::To(_) => true,
        }
    }

    fn tell(&self, line: &RequestLine) {
        match self {
            Self::Log => log::info!(target: LOG_TARGET, "{line}"),
            Self::To(report) => report(line),
        }
    }
}

/// The account of one request. It is held by the future of the response, then by its body and each piece of it that is not
/// written yet: when the last of them goes the answer is over. The line is told when the work is over as well.
pub(super) struct Bill {
    context: Context,
    peer: Option<Peer>,
    report: Report,
    /// 0 = nothing was sent.
    status: AtomicU16,
    /// Bytes that were handed over.
    bytes: AtomicU64,
    /// The body was handed over to its end.
    complete: AtomicBool,
    panicked: AtomicBool,
    failed: AtomicBool,
}

impl Bill {
    pub(super) fn open(context: Context, peer: Option<Peer>, report: Report) -> Arc<Self> {
        Arc::new(Self {
            context,
            peer,
            report,
            status: AtomicU16::new(0),
            bytes: AtomicU64::new(0),
            complete: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        })
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    pub(super) fn link(&self) -> Option<&Link> {
        self.peer.as_ref().map(Peer::link)
    }

    pub(super) fn answer(&self, status: http::StatusCode) {
        self.status.store(status.as_u16(), Relaxed);
    }

    pub(super) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn complete(&self) {
        self.complete.store(true, Relaxed);
    }

    pub(super) fn panicked(&self) {
        self.panicked.store(true, Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.store(true, Relaxed);
    }

    /// What is left of the request is about to be dropped: first its work is told why.
    pub(super) fn abandon(&self) {
        if self.is_abandoned() {
            self.context.cancel(self.lost().unwrap_or(Reason::Disconnected));
        }
    }

    fn is_abandoned(&self) -> bool {
        ![&self.complete, &self.panicked, &self.failed].into_iter().any(|flag| flag.load(Relaxed))
    }

    /// If all was handed over: the answer is over when the connection has written it.
    pub(super) fn hold_until_written(self: &Arc<Self>) {
        if let Some(link) = self.link().filter(|_| self.complete.load(Relaxed)) {
            link.hold_until_written(self.clone());
        }
    }

    fn lost(&self) -> Option<Reason> {
        self.link().and_then(Link::lost)
    }

    fn outcome(&self) -> Outcome {
        let answered = self.status.load(Relaxed) != 0;
        if self.panicked.load(Relaxed) {
            return Outcome::Panicked;
        }
        if self.failed.load(Relaxed) {
            return if answered { Outcome::BodyFailed } else { Outcome::ServiceFailed };
        }
        match self.lost() {
            Some(Reason::Shutdown) => Outcome::ShutDown,
            Some(Reason::Deadline) => Outcome::TimedOut,
            // All of it was handed over, but the connection broke with a part of it unsent, which held this account.
            Some(_) => Outcome::ClientGone,
            None if self.complete.load(Relaxed) => Outcome::Sent,
            None => Outcome::ClientGone,
        }
    }

    fn line(&self, outcome: Outcome) -> RequestLine {
        let was_written = self.link().is_none_or(Link::has_written);
        let sent_status = Some(self.status.load(Relaxed)).filter(|status| *status != 0 && was_written);
        let status = match outcome {
            Outcome::Sent => sent_status.unwrap_or(0),
            Outcome::BodyFailed => sent_status.unwrap_or(500),
            Outcome::ClientGone => 499,
            Outcome::ShutDown | Outcome::TimedOut => 503,
            Outcome::Panicked | Outcome::ServiceFailed => 500,
        };
        RequestLine {
            peer: self.peer.clone(),
            context: self.context.clone(),
            status,
            sent_status,
            bytes: self.link().map_or_else(|| self.bytes.load(Relaxed), Link::written),
            elapsed: self.context.elapsed(),
            usage: Usage::default(),
            outcome,
        }
    }
}

impl Drop for Bill {
    fn drop(&mut self) {
        let outcome = self.outcome();
        if matches!(outcome, Outcome::ClientGone | Outcome::ShutDown | Outcome::TimedOut) {
            self.context.cancel(self.lost().unwrap_or(Reason::Disconnected));
        }
        if self.report.is_heard() {
            // What the answer was is known now; what the request cost, when its work has ended.
            let (mut line, report) = (self.line(outcome), self.report.clone());
            self.context.on_finish(move |usage| {
                line.usage = *usage;
                report.tell(&line);
            });
        }
        self.context.finish();
    }
}
