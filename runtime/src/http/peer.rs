//! The other end of a connection, as its requests see it.

use context::Reason;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Who asks: in the extensions of every request that [`serve`](super::serve) hands on.
///
/// ```
/// # fn handler(request: http::Request<()>) -> Option<std::net::SocketAddr> {
/// request.extensions().get::<runtime::http::Peer>()?.addr()
/// # }
/// # assert_eq!(handler(http::Request::default()), None);
/// ```
#[derive(Clone, Debug)]
pub struct Peer(Arc<Link>);

#[derive(Debug)]
struct Link {
    addr: Option<SocketAddr>,
    /// A [`Fate`].
    fate: AtomicU8,
}

/// What became of a connection, for the requests that are still on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Fate {
    Whole = 0,
    /// The client went away, or was too slow.
    Broken = 1,
    /// We end it: the patience of a shutdown is over.
    Cut = 2,
}

impl Peer {
    /// `None`: a Unix socket, whose other end has no name.
    pub(super) fn new(addr: Option<SocketAddr>) -> Self {
        Self(Arc::new(Link { addr, fate: AtomicU8::new(Fate::Whole as u8) }))
    }

    /// The address; `None` for a Unix socket.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.0.addr
    }

    /// Said before the connection is dropped, so that what is dropped with it knows why. The first word counts.
    pub(super) fn lose(&self, reason: Reason) {
        let fate = if reason == Reason::Shutdown { Fate::Cut } else { Fate::Broken };
        let _ = self.0.fate.compare_exchange(Fate::Whole as u8, fate as u8, Relaxed, Relaxed);
    }

    /// Why the connection was lost, if it was.
    pub(super) fn lost(&self) -> Option<Reason> {
        match self.0.fate.load(Relaxed) {
            fate if fate == Fate::Broken as u8 => Some(Reason::Disconnected),
            fate if fate == Fate::Cut as u8 => Some(Reason::Shutdown),
            _ => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.addr {
            Some(addr) => addr.fmt(f),
            None => f.write_str("unix"),
        }
    }
}
