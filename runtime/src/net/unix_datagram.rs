//! Datagrams within the machine.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::task::{Context, Poll};

use mio::Interest;
use mio::net::UnixDatagram as Source;

use crate::reactor::{Direction, Initially};
use crate::registered::Registered;

/// A Unix datagram socket.
///
/// ```
/// use runtime::net::UnixDatagram;
///
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// let (one, other) = UnixDatagram::pair()?;
/// one.send(b"ping").await?;
/// let mut buf = [0; 16];
/// assert_eq!(other.recv(&mut buf).await?, 4);
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Debug)]
pub struct UnixDatagram {
    pub(super) io: Registered<Source>,
}

impl UnixDatagram {
    /// A socket at `path`, which must not exist, and which nobody removes.
    ///
    /// # Errors
    ///
    /// What the system says, and if no runtime runs on this thread.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::register(Source::bind(path)?)
    }

    /// Two that are connected with each other.
    ///
    /// # Errors
    ///
    /// What the system says, and if no runtime runs on this thread.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = Source::pair()?;
        Ok((Self::register(one)?, Self::register(other)?))
    }

    /// A socket without an address: it can send.
    ///
    /// # Errors
    ///
    /// What the system says, and if no runtime runs on this thread.
    pub fn unbound() -> io::Result<Self> {
        Self::register(Source::unbound()?)
    }

    /// Takes over a socket of the standard library; makes it non-blocking.
    ///
    /// # Errors
    ///
    /// What the system says, and if no runtime runs on this thread.
    pub fn from_std(socket: std::os::unix::net::UnixDatagram) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Self::register(Source::from_std(socket))
    }

    fn register(source: Source) -> io::Result<Self> {
        let both = Interest::READABLE | Interest::WRITABLE;
        Ok(Self { io: Registered::new(source, both, Initially::Writable, "a Unix datagram socket")? })
    }

    /// Gives the socket to the standard library. It stays non-blocking.
    ///
    /// # Errors
    ///
    /// Away from the runtime it was made on; it is closed then.
    pub fn into_std(self) -> io::Result<std::os::unix::net::UnixDatagram> {
        self.io.into_source().map(std::os::unix::net::UnixDatagram::from)
    }

    /// Fixes the peer: [`send`](Self::send) goes to it, and [`recv`](Self::recv) takes from no other.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.io.source().connect(path)
    }

    /// Sends to the peer; waits while it has no room.
    ///
    /// # Errors
    ///
    /// What the system says, and away from the runtime it was made on.
    pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| self.io.poll_with(Direction::Write, cx, |source| source.send(buf))).await
    }

    /// Sends to the socket at `path`. The kernel does not tell when a receiver that was full has room again, unless it is
    /// the peer: [`connect`](Self::connect) to send much.
    ///
    /// # Errors
    ///
    /// What the system says, and away from the runtime it was made on.
    pub async fn send_to(&self, buf: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        let path = path.as_ref();
        poll_fn(|cx| self.io.poll_with(Direction::Write, cx, |source| source.send_to(buf, path))).await
    }

    /// Receives from the peer. What does not fit in `buf` is lost.
    ///
    /// # Errors
    ///
    /// What the system says, and away from the runtime it was made on.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_recv(cx, buf)).await
    }

    /// Receives, and says from whom. What does not fit in `buf` is lost.
    ///
    /// # Errors
    ///
    /// What the system says, and away from the runtime it was made on.
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| self.io.poll_with(Direction::Read, cx, |source| source.recv_from(buf))).await
    }

    /// [`recv`](Self::recv) for those who write futures by hand.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.io.poll_with(Direction::Read, cx, |source| source.recv(buf))
    }

    /// Waits until there is probably a datagram, or an error.
    ///
    /// # Errors
    ///
    /// Away from the runtime it was made on.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.io.poll_ready(Direction::Read, cx)).await
    }

    /// Waits until one can probably be sent.
    ///
    /// # Errors
    ///
    /// Away from the runtime it was made on.
    pub async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| self.io.poll_ready(Direction::Write, cx)).await
    }

    /// [`send`](Self::send) now.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if that is known to be impossible, which only [`writable`](Self::writable) or a send finds out to
    /// have changed. Else as [`send`](Self::send).
    pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        self.io.try_with(Direction::Write, |source| source.send(buf))
    }

    /// [`send_to`](Self::send_to) now.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send).
    pub fn try_send_to(&self, buf: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        let path = path.as_ref();
        self.io.try_with(Direction::Write, |source| source.send_to(buf, path))
    }

    /// [`recv`](Self::recv) now.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is known to be there, which only [`readable`](Self::readable) or a receive finds out. Else
    /// as [`recv`](Self::recv).
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.try_with(Direction::Read, |source| source.recv(buf))
    }

    /// [`recv_from`](Self::recv_from) now.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.try_with(Direction::Read, |source| source.recv_from(buf))
    }

    /// The address of this side.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.source().local_addr()
    }

    /// The address of the peer.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.source().peer_addr()
    }

    /// Shuts a side down, or both.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.source().shutdown(how)
    }

    /// The error that is pending on the socket, taken off it.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.io.source().take_error()
    }
}
