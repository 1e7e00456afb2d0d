//! Connections over Unix sockets.

use super::listen::Listener;
use super::peer::Peer;
use crate::net::{UnixListener, UnixStream};
use std::io;

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&mut self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, _) = Self::accept(self).await?;
        Ok((stream, Peer::new(None)))
    }
}
