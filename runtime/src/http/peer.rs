//! The other end of a connection, as its requests see it.

use super::link::Link;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// The client: in the extensions of every request that [`serve`](super::serve) hands on.
///
/// ```
/// # fn handler(request: http::Request<()>) -> Option<std::net::SocketAddr> {
/// request.extensions().get::<runtime::http::Peer>()?.addr()
/// # }
/// # assert_eq!(handler(http::Request::default()), None);
/// ```
#[derive(Clone, Debug)]
pub struct Peer(Arc<Link>);

impl Peer {
    /// `None`: a Unix socket, whose other end has no name.
    pub(super) fn new(addr: Option<SocketAddr>) -> Self {
        Self(Arc::new(Link::new(addr)))
    }

    /// The address; `None` for a Unix socket.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.link().addr()
    }

    pub(super) fn link(&self) -> &Link {
        &self.0
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr() {
            Some(addr) => addr.fmt(f),
            None => f.write_str("unix"),
        }
    }
}
