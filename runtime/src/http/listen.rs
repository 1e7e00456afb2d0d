//! Where connections come from.

use super::peer::Peer;
use crate::net::{TcpListener, TcpStream};
use hyper::rt::{Read, Write};
use std::future::Future;
use std::io;

/// Where [`serve`](super::serve) takes connections from. Write one to put TLS in between: but shake hands in the stream, at its
/// first read, not in `accept`, which one slow client must not hold up.
pub trait Listener {
    /// A connection.
    type Stream: Read + Write + Unpin + 'static;

    /// Waits for the next connection. Dropping the future loses none.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>>;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, addr) = Self::accept(self).await?;
        // Answers are written whole: waiting to fill a packet would only delay them. If it fails the connection
        // is gone already, and reading it will say so.
        let _ = stream.set_nodelay(true);
        Ok((stream, Peer::new(Some(addr))))
    }
}
