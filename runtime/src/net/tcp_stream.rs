//! Connections.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::task::{Context, Poll};

use mio::Interest;
use mio::net::TcpStream as Source;

use super::addrs::ToSocketAddrs;
use super::halves::{self, OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use super::resolve::first_of;
use super::stream::impl_stream;
use crate::reactor::{Direction, Initially};
use crate::registered::Registered;

/// A TCP connection.
///
/// Read and written by `futures_io::{AsyncRead, AsyncWrite}`, which are implemented for `&TcpStream` too. Dropping it
/// closes it; to tell the peer that no more will come while still reading, [`shutdown`](Self::shutdown) it or close the
/// writer.
///
/// ```
/// use futures_lite::{AsyncReadExt, AsyncWriteExt};
/// use runtime::net::{TcpListener, TcpStream};
///
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let mut client = TcpStream::connect(listener.local_addr()?).await?;
/// let (mut server, _) = listener.accept().await?;
///
/// client.write_all(b"hello").await?;
/// client.close().await?;
/// let mut text = String::new();
/// server.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Debug)]
pub struct TcpStream {
    pub(super) io: Registered<Source>,
}

const WHAT: &str = "a TCP stream";

impl TcpStream {
    /// Connects. Of several addresses the first is taken that answers.
    ///
    /// # Errors
    ///
    /// What the system says of the last address, or of the name; and if no runtime runs on this thread.
    pub async fn connect(addr: impl ToSocketAddrs) -> io::Result<Self> {
        first_of(addr.to_target(), Self::connect_to).await
    }

    async fn connect_to(addr: SocketAddr) -> io::Result<Self> {
        let stream = Self::register(Source::connect(addr)?, Initially::Unknown)?;
        poll_fn(|cx| stream.io.poll_with(Direction::Write, cx, connected)).await?;
        Ok(stream)
    }

    /// Takes over a connection of the standard library; makes it non-blocking.
    ///
    /// # Errors
    ///
    /// What the system says, and if no runtime runs on this thread.
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Self::register(Source::from_std(stream), Initially::Unknown)
    }

    /// `source` is connected.
    pub(super) fn accepted(source: Source) -> io::Result<Self> {
        Self::register(source, Initially::Writable)
    }

    fn register(source: Source, is: Initially) -> io::Result<Self> {
        Ok(Self { io: Registered::new(source, Interest::READABLE | Interest::WRITABLE, is, WHAT)? })
    }

    /// Gives the connection to the standard library. It stays non-blocking.
    ///
    /// # Errors
    ///
    /// Away from the runtime it was made on; it is closed then.
    pub fn into_std(self) -> io::Result<std::net::TcpStream> {
        self.io.into_source().map(std::net::TcpStream::from)
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
    /// What the system says: `NotConnected` after a reset.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.source().peer_addr()
    }

    /// Whether small writes are sent at once instead of being collected (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.io.source().nodelay()
    }

    /// Sets [`nodelay`](Self::nodelay). The system's default is off.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.io.source().set_nodelay(nodelay)
    }

    /// The number of hops a packet may take.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.source().ttl()
    }

    /// Sets [`ttl`](Self::ttl).
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn set_ttl(&self, hops: u32) -> io::Result<()> {
        self.io.source().set_ttl(hops)
    }

    /// Shuts a side down, or both.
    ///
    /// # Errors
    ///
    /// What the system says: `NotConnected` if the peer is gone.
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

    /// Reads what is there without taking it.
    ///
    /// # Errors
    ///
    /// What the system says, and away from the runtime it was made on.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.io.poll_with(Direction::Read, cx, |source| source.peek(buf))).await
    }

    /// Waits until a read will probably not block: there is something, or the end, or an error.
    ///
    /// ```
    /// use runtime::net::{TcpListener, TcpStream};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # runtime::Runtime::new()?.block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (server, _) = listener.accept().await?;
    /// client.try_write(b"ping")?;
    /// server.readable().await?;
    /// let mut buf = [0; 16];
    /// assert_eq!(server.try_read(&mut buf)?, 4);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
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
    ///
    /// ```
    /// use futures_lite::{AsyncReadExt, AsyncWriteExt};
    /// use runtime::net::{TcpListener, TcpStream};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # runtime::Runtime::new()?.block_on(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let client = TcpStream::connect(listener.local_addr()?).await?;
    /// # let (mut server, _) = listener.accept().await?;
    /// # server.write_all(b"pong").await?;
    /// let (mut read, mut write) = client.into_split();
    /// let reader = runtime::spawn(async move {
    ///     let mut buf = [0; 4];
    ///     read.read_exact(&mut buf).await.map(|()| buf)
    /// });
    /// write.write_all(b"ping").await?;
    /// assert_eq!(&reader.await??, b"pong");
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn into_split(self) -> (OwnedReadHalf<Self>, OwnedWriteHalf<Self>) {
        halves::into_split(self)
    }

    /// [`peek`](Self::peek) for those who write futures by hand.
    ///
    /// # Errors
    ///
    /// As [`peek`](Self::peek).
    pub fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.io.poll_with(Direction::Read, cx, |source| source.peek(buf))
    }
}

impl_stream!(TcpStream);

/// The outcome of a connection in progress, to be asked for when the socket is writable.
fn connected(source: &Source) -> io::Result<()> {
    if let Some(error) = source.take_error()? {
        return Err(error);
    }
    match source.peer_addr() {
        Ok(_) => Ok(()),
        // Woken too early.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error),
    }
}
