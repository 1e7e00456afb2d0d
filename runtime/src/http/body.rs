//! The body of a request: bounded in size, and in how long it may stop.

use super::stall::Stall;
use super::stats::{Count, Stats};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// The body of a request, as it comes in. It fails when it is larger than [`Serve::max_body`](super::Serve::max_body),
/// or stops for longer than [`Serve::stall_timeout`](super::Serve::stall_timeout).
pub struct Body {
    incoming: Incoming,
    limit: u64,
    left: u64,
    stall: Stall,
    stats: Stats,
}

impl Body {
    pub(super) fn new(incoming: Incoming, limit: u64, patience: Duration, stats: Stats) -> Self {
        Self { incoming, limit, left: limit, stall: Stall::new(patience), stats }
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
        self.stats.add(Count::body_too_large);
        BodyError::TooLarge { limit: self.limit }
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
        this.stall.watch(cx, poll).map(|frame| match frame {
            None => {
                this.stats.add(Count::stalls);
                Some(Err(BodyError::Stalled { patience: this.stall.patience() }))
            }
            Some(Some(Ok(frame))) => {
                let size = frame.data_ref().map_or(0, Bytes::len);
                Some(this.take(size).map(|()| frame))
            }
            Some(Some(Err(error))) => Some(Err(BodyError::Broken(error))),
            Some(None) => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
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
    /// The connection broke, or this is not how HTTP frames a body.
    Broken(hyper::Error),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit } => write!(f, "the body is larger than {limit} bytes"),
            Self::Stalled { patience } => write!(f, "nothing of the body came for {patience:?}"),
            Self::Broken(error) => write!(f, "the body broke off: {error}"),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Broken(error) => Some(error),
            Self::TooLarge { .. } | Self::Stalled { .. } => None,
        }
    }
}
