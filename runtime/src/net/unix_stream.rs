//! Connections within the machine.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::unix::net::SocketAddr;
use std::path::Path;

use mio::Interest;
use mio::net::UnixStream as Source;

use super::halves::{self, OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use super::stream::impl_stream;
use crate::reactor::{Direction, Initially};
use crate::registered::Registered;

/// A connection of Unix sockets: what [`TcpStream`](super::TcpStream) is, within one machine.
///
/// ```
/// use futures_lite::{AsyncReadExt, AsyncWriteExt};
/// use runtime::net::UnixStream;
///
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// let (mut one, mut other) = UnixStream::pair()?;
/// one.write_all(b"hello").await?;
/// drop(one);
/// let mut text = String::new();
/// other.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Debug)]
pub struct UnixStream {
    pub(super) io: Registered<Source>,
}

impl UnixStream {
    /// Connects to the listener at `path`.
    ///
    /// # Errors
    ///
    /// What the system says: `WouldBlock` if the listener's backlog is full, and nobody tells when it is not. And if no
    /// runtime runs on this thread.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let stream = Self::register(Source::connect(path)?, Initially::Unknown)?;
        poll_fn(|cx| stream.io.poll_ready(Direction::Write, cx)).await?;
        match stream.io.source().take_error()? {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }

    /// Two ends of one connection.
    ///
    /// # Errors
    ///
    /// What the system says, and if no runtime runs on this thread.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = Source::pair()?;
        Ok((Self::connected(one)?, Self::connected(other)?))
    }

    /// Takes over a connection of the standard library; makes it non-blocking.
    ///
    /// # Errors
    ///
    /// What the system says, and if no runtime runs on this thread.
    pub fn from_std(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Self::register(Source::from_std(stream), Initially::Unknown)
    }

    pub(super) fn connected(source: Source) -> io::Result<Self> {
        Self::register(source, Initially::Writable)
    }

    fn register(source: Source, is: Initially) -> io::Result<Self> {
        let both = Interest::READABLE | Interest::WRITABLE;
        Ok(Self { io: Registered::new(source, both, is, "a Unix stream")? })
    }

    /// Gives the connection to the standard library. It stays non-blocking.
    ///
    /// # Errors
    ///
    /// Away from the runtime it was made on; it is closed then.
    pub fn into_std(self) -> io::Result<std::os::unix::net::UnixStream> {
        self.io.into_source().map(std::os::unix::net::UnixStream::from)
    }

    /// The address of this side.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.source().local_addr()
    }

    /// The address of the other side.
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

    /// Waits until a read will probably not block: there is something, or the end, or an error.
    ///
    /// # Errors
    ///
    /// Away from the runtime it was made on.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.io.poll_ready(Direction::Read, cx)).await
    }

    /// Waits until a write will probably not block.
    ///
    /// # Errors
    ///
    /// Away from the runtime it was made on.
    pub async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| self.io.poll_ready(Direction::Write, cx)).await
    }

    /// Reads what is there now. 0 is the end of the stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is known to be there, which only [`readable`](Self::readable) or a read finds out. Else
    /// what the system says; and away from the runtime it was made on.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.try_read(buf)
    }

    /// [`try_read`](Self::try_read), into several buffers.
    ///
    /// # Errors
    ///
    /// As [`try_read`](Self::try_read).
    pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.io.try_read_vectored(bufs)
    }

    /// Writes as much as there is room for now.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if no room is known to be there, which only [`writable`](Self::writable) or a write finds out. Else
    /// what the system says; and away from the runtime it was made on.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.io.try_write(buf)
    }

    /// [`try_write`](Self::try_write), of several buffers.
    ///
    /// # Errors
    ///
    /// As [`try_write`](Self::try_write).
    pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.io.try_write_vectored(bufs)
    }

    /// Both directions, for two futures of one task.
    pub fn split(&mut self) -> (ReadHalf<'_, Self>, WriteHalf<'_, Self>) {
        halves::split(self)
    }

    /// Both directions, for two tasks. Costs an allocation.
    pub fn into_split(self) -> (OwnedReadHalf<Self>, OwnedWriteHalf<Self>) {
        halves::into_split(self)
    }
}

impl_stream!(UnixStream);
