//! What one connection and the requests on it know of each other.
//!
//! HTTP/1 has one request at a time on a connection, so the state of the current request is kept here as well. All of it is
//! used on the thread of the connection; it is atomic only because a [`Peer`](super::Peer) is in the extensions of a
//! request, which must be `Send`.

use super::line::Bill;
use crate::time::Instant;
use context::Reason;
use http::StatusCode;
use parking_lot::Mutex;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The end of the stream that comes this soon after the end of a request is taken for a client that has said all it has to
/// say, and still reads (`shutdown(SHUT_WR)`, `nc -N`). One that comes later is taken for a client that has gone.
///
/// TCP does not tell the two apart. A client that gives up does so after some time, and its request should end at once.
const HALF_CLOSE: Duration = Duration::from_millis(20);
/// How long the service may take to begin its answer to a client that has closed its end: it may have gone after all.
pub(super) const HALF_CLOSED_PATIENCE: Duration = Duration::from_secs(2);

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Nothing has come yet.
    Fresh,
    /// Between two requests.
    Idle,
    /// A part of the head of a request has come.
    Head,
    /// The service has a request.
    Serving,
    /// An answer is being sent, until its last byte is written.
    Answering,
    /// The last answer was sent; what the client still sends is thrown away.
    Closing,
}

impl Phase {
    const ALL: [Self; 6] =
        [Self::Fresh, Self::Idle, Self::Head, Self::Serving, Self::Answering, Self::Closing];

    /// Closing the connection takes nothing from its client.
    pub(super) fn is_idle(self) -> bool {
        matches!(self, Self::Fresh | Self::Idle | Self::Closing)
    }
}

/// What became of a connection, for the requests that are still on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Fate {
    Whole,
    /// The client went away, or was too slow.
    Broken,
    /// The grace of a shutdown is over.
    Cut,
    /// The current request has taken too long. The connection stays.
    Late,
}

/// Why the body of the current request could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum BodyFailure {
    None,
    TooLarge,
    TooSlow,
}

pub(super) struct Link {
    addr: Option<SocketAddr>,
    made: Instant,
    fate: AtomicU8,
    phase: AtomicU8,
    /// The phase has changed, or there was progress in it, since the driver looked.
    moved: AtomicBool,
    /// When the current request was read, in nanoseconds since `made`.
    begun: AtomicU64,
    /// The client has closed its end with a request, and is taken for one that still reads.
    is_half_closed: AtomicBool,
    /// A request may begin in this poll of the connection.
    may_begin: AtomicBool,
    /// The current request has taken too long.
    is_late: AtomicBool,
    /// The body of the current request is being received.
    has_body: AtomicBool,
    body_failure: AtomicU8,
    /// The client may still be sending a body that nobody reads.
    has_unread: AtomicBool,
    /// The current answer is handed over in full.
    is_handed_over: AtomicBool,
    /// Some of the current answer was written to the connection.
    has_written: AtomicBool,
    /// Bytes of the current answer's body that were.
    written: AtomicU64,
    /// Accounts of answers that are handed over in full and not written yet.
    unsent: Mutex<Vec<Arc<Bill>>>,
    has_unsent: AtomicBool,
}

impl Link {
    pub(super) fn new(addr: Option<SocketAddr>) -> Self {
        Self {
            addr,
            made: Instant::now(),
            fate: AtomicU8::new(Fate::Whole as u8),
            phase: AtomicU8::new(Phase::Fresh as u8),
            moved: AtomicBool::new(true),
            begun: AtomicU64::new(0),
            is_half_closed: AtomicBool::new(false),
            may_begin: AtomicBool::new(true),
            is_late: AtomicBool::new(false),
            has_body: AtomicBool::new(false),
            body_failure: AtomicU8::new(BodyFailure::None as u8),
            has_unread: AtomicBool::new(false),
            is_handed_over: AtomicBool::new(false),
            has_written: AtomicBool::new(false),
            written: AtomicU64::new(0),
            unsent: Mutex::new(Vec::new()),
            has_unsent: AtomicBool::new(false),
        }
    }

    pub(super) fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    pub(super) fn made(&self) -> Instant {
        self.made
    }

    pub(super) fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Relaxed))]
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        self.moved.store(true, Relaxed);
    }

    /// There was progress: the limit of the phase begins anew.
    pub(super) fn progress(&self) {
        self.moved.store(true, Relaxed);
    }

    /// Whether the phase has changed, or there was progress in it, since the last call.
    pub(super) fn has_moved(&self) -> bool {
        self.moved.load(Relaxed) && self.moved.swap(false, Relaxed)
    }

    /// Bytes have come in.
    pub(super) fn received(&self) {
        if matches!(self.phase(), Phase::Fresh | Phase::Idle) {
            self.enter(Phase::Head);
        }
    }

    /// A poll of the connection begins. Each begins one request at most, so that a client that pipelines many does not keep
    /// others waiting.
    pub(super) fn begin_poll(&self) {
        self.may_begin.store(true, Relaxed);
    }

    /// Whether a request may begin in this poll.
    pub(super) fn take_turn(&self) -> bool {
        self.may_begin.swap(false, Relaxed)
    }

    /// A request was read; `has_body`: its body has not come in full.
    pub(super) fn begin_request(&self, has_body: bool) {
        let age = Instant::now().saturating_duration_since(self.made);
        self.begun.store(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.is_late.store(false, Relaxed);
        self.has_body.store(has_body, Relaxed);
        self.body_failure.store(BodyFailure::None as u8, Relaxed);
        self.has_written.store(false, Relaxed);
        self.written.store(0, Relaxed);
        self.enter(Phase::Serving);
    }

    /// The body of the current request ends: it has come in full, or nobody reads it any more.
    pub(super) fn end_body(&self, is_whole: bool) {
        self.has_body.store(false, Relaxed);
        if !is_whole {
            self.has_unread.store(true, Relaxed);
        }
    }

    pub(super) fn fail_body(&self, failure: BodyFailure) {
        self.body_failure.store(failure as u8, Relaxed);
    }

    /// The status that says why the body of the current request could not be read, in place of one that a service gives to
    /// any error it does not know.
    pub(super) fn status_instead_of(&self, status: StatusCode) -> Option<StatusCode> {
        let failure = self.body_failure.load(Relaxed);
        if failure == BodyFailure::None as u8 {
            return None;
        }
        let is_general = [StatusCode::BAD_REQUEST, StatusCode::INTERNAL_SERVER_ERROR].contains(&status);
        let exact = if failure == BodyFailure::TooLarge as u8 {
            StatusCode::PAYLOAD_TOO_LARGE
        } else {
            StatusCode::REQUEST_TIMEOUT
        };
        is_general.then_some(exact)
    }

    pub(super) fn has_unread(&self) -> bool {
        self.has_unread.load(Relaxed)
    }

    /// The end of the stream has come. Whether it is taken for that of a client that still waits for its answer.
    pub(super) fn end_stream(&self) -> bool {
        let is_half_closed = self.is_early_end();
        self.is_half_closed.store(is_half_closed, Relaxed);
        is_half_closed
    }

    /// Whether the client has closed its end and is waited for all the same.
    pub(super) fn is_half_closed(&self) -> bool {
        self.is_half_closed.load(Relaxed)
    }

    fn is_early_end(&self) -> bool {
        let is_waiting = matches!(self.phase(), Phase::Serving | Phase::Answering);
        if !is_waiting || self.has_body.load(Relaxed) {
            return false;
        }
        let begun = Duration::from_nanos(self.begun.load(Relaxed));
        Instant::now().saturating_duration_since(self.made).saturating_sub(begun) < HALF_CLOSE
    }

    pub(super) fn is_answering(&self) -> bool {
        matches!(self.phase(), Phase::Serving | Phase::Answering)
    }

    /// The current request has taken too long.
    pub(super) fn expire(&self) {
        self.is_late.store(true, Relaxed);
    }

    /// Drops the work of the current request if it has taken too long; its work is told why. Whether that is so.
    pub(super) fn end_late(&self, drop_work: impl FnOnce()) -> bool {
        if !self.is_late.load(Relaxed) {
            return false;
        }
        self.lose_as(Fate::Late);
        drop_work();
        let _ = self.fate.compare_exchange(Fate::Late as u8, Fate::Whole as u8, Relaxed, Relaxed);
        true
    }

    /// Something was written. Before the service has answered that is a `100 Continue`.
    pub(super) fn wrote(&self) {
        if self.phase() != Phase::Serving {
            self.has_written.store(true, Relaxed);
        }
    }

    /// Whether some of the current answer was written, so its head.
    pub(super) fn has_written(&self) -> bool {
        self.has_written.load(Relaxed)
    }

    pub(super) fn add_written(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Said before the connection is dropped, so that what is dropped with it knows why. The first word counts.
    pub(super) fn lose(&self, reason: Reason) {
        self.lose_as(if reason == Reason::Shutdown { Fate::Cut } else { Fate::Broken });
    }

    fn lose_as(&self, fate: Fate) {
        let _ = self.fate.compare_exchange(Fate::Whole as u8, fate as u8, Relaxed, Relaxed);
    }

    /// Why the connection was lost, or the current request dropped, if that is so.
    pub(super) fn lost(&self) -> Option<Reason> {
        match self.fate.load(Relaxed) {
            fate if fate == Fate::Broken as u8 => Some(Reason::Disconnected),
            fate if fate == Fate::Cut as u8 => Some(Reason::Shutdown),
            fate if fate == Fate::Late as u8 => Some(Reason::Deadline),
            _ => None,
        }
    }

    /// Nothing more of the current answer is to come: what there is is on its way.
    pub(super) fn handed_over(&self) {
        self.is_handed_over.store(true, Relaxed);
    }

    /// All that was handed over is written.
    pub(super) fn flushed(&self) {
        if self.is_handed_over.load(Relaxed) {
            self.is_handed_over.store(false, Relaxed);
            self.enter(Phase::Idle);
            self.release();
        }
    }

    /// Keeps the account of an answer that is handed over in full until it is written.
    pub(super) fn hold_until_written(&self, bill: Arc<Bill>) {
        if self.lost().is_none() {
            self.unsent.lock().push(bill);
            self.has_unsent.store(true, Relaxed);
        }
    }

    /// What was handed over is written, or never will be: [`lost`](Self::lost) tells.
    pub(super) fn release(&self) {
        if self.has_unsent.load(Relaxed) {
            self.has_unsent.store(false, Relaxed);
            // They are dropped without the lock: a report of a request is code of the user.
            let bills = std::mem::take(&mut *self.unsent.lock());
            drop(bills);
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("addr", &self.addr).field("phase", &self.phase()).finish_non_exhaustive()
    }
}
