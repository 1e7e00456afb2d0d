//! The body of a request: bounded in size, and in how long it may stop.

use super::link::BodyFailure;
use super::pace::{Pace, TooSlow};
use super::peer::Peer;
use super::serve::Limits;
use super::server::LOG_TARGET;
use super::stats::{Count, Stats};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The body of a request, as it comes in. It fails when it is larger than [`Serve::max_body`](super::Serve::max_body),
/// stops for longer than [`Serve::stall_timeout`](super::Serve::stall_timeout), or is slower than
/// [`Serve::min_rate`](super::Serve::min_rate).
///
/// A service need not tell these apart: if it answers with the status 400 or 500, the client gets 413 for a body that is too
/// large and 408 for one that is too slow.
pub struct Body {
    incoming: Incoming,
    limit: u64,
    left: u64,
    pace: Pace,
    peer: Peer,
    stats: Stats,
}

impl Body {
    pub(super) fn new(incoming: Incoming, limits: &Limits, peer: Peer, stats: Stats) -> Self {
        let pace = Pace::new(limits.stall, limits.rate);
        Self { incoming, limit: limits.body, left: limits.body, pace, peer, stats }
    }

    fn take(&mut self, bytes: usize) -> Result<(), BodyError> {
        match self.left.checked_sub(bytes as u64) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.too_large()),
        }
    }

    fn too_large(&self) -> BodyError {
        let error = BodyError::TooLarge { limit: self.limit };
        self.fail(BodyFailure::TooLarge, Count::body_too_large, &error);
        error
    }

    fn too_slow(&self, why: TooSlow) -> BodyError {
        let (error, count) = match why {
            TooSlow::Stalled(patience) => (BodyError::Stalled { patience }, Count::stalls),
            TooSlow::BelowRate(rate) => (BodyError::TooSlow { rate }, Count::too_slow),
        };
        self.fail(BodyFailure::TooSlow, count, &error);
        error
    }

    fn fail(&self, failure: BodyFailure, count: Count, error: &BodyError) {
        self.stats.add(count);
        self.peer.link().fail_body(failure);
        log::info!(target: LOG_TARGET, "{}: {error}", self.peer);
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.peer.link().end_body(self.incoming.is_end_stream());
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.incoming.size_hint().lower() > this.left {
            // It says so itself: not a byte of it is read.
            return Poll::Ready(Some(Err(this.too_large())));
        }
        let poll = Pin::new(&mut this.incoming).poll_frame(cx);
        let frame = match ready!(this.pace.watch(cx, poll, frame_length)) {
            Ok(frame) => frame,
            Err(why) => return Poll::Ready(Some(Err(this.too_slow(why)))),
        };
        this.peer.link().progress();
        if this.incoming.is_end_stream() {
            this.peer.link().end_body(true);
        }
        Poll::Ready(frame.map(|frame| match frame {
            Ok(frame) => {
                let size = frame.data_ref().map_or(0, Bytes::len);
                this.take(size).map(|()| frame)
            }
            Err(error) => Err(BodyError::Broken(error)),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

fn frame_length<E>(frame: &Option<Result<Frame<Bytes>, E>>) -> usize {
    match frame {
        Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
        _ => 0,
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("left", &self.left).finish_non_exhaustive()
    }
}

/// Why the body of a request ended early.
#[derive(Debug)]
#[non_exhaustive]
pub enum BodyError {
    /// It is larger than the server allows.
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// Nothing came for too long.
    Stalled {
        /// How long it may stop.
        patience: Duration,
    },
    /// It comes too slowly.
    TooSlow {
        /// How many bytes have to come in a second, on average.
        rate: u32,
    },
    /// The connection broke, or this is not how HTTP frames a body.
    Broken(hyper::Error),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit } => write!(f, "the body is larger than {limit} bytes"),
            Self::Stalled { patience } => write!(f, "nothing of the body came for {patience:?}"),
            Self::TooSlow { rate } => write!(f, "the body comes with less than {rate} bytes a second"),
            Self::Broken(error) => write!(f, "the body broke off: {error}"),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Broken(error) => Some(error),
            Self::TooLarge { .. } | Self::Stalled { .. } | Self::TooSlow { .. } => None,
        }
    }
}
