//! Accepting connections.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use mio::Interest;
use mio::net::TcpListener as Source;

use super::addrs::ToSocketAddrs;
use super::resolve::first_of;
use super::stream::is_of_one_connection;
use super::tcp_stream::TcpStream;
use crate::reactor::{Direction, Initially};
use crate::registered::Registered;

/// A socket that accepts TCP connections.
///
/// ```
/// use runtime::net::{TcpListener, TcpStream};
///
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let client = TcpStream::connect(listener.local_addr()?).await?;
/// let (server, from) = listener.accept().await?;
/// assert_eq!(client.local_addr()?, from);
/// assert_eq!(client.peer_addr()?, server.local_addr()?);
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Debug)]
pub struct TcpListener {
    pub(super) io: Registered<Source>,
}

impl TcpListener {
    /// Listens, with the address reusable at once after a restart (`SO_REUSEADDR`) and a backlog as large as the system
    /// allows. Of several addresses the first is taken that can be had. Port 0 is any free one.
    ///
    /// # Errors
    ///
    /// What the system says of the last address, or of the name; and if no runtime runs on this thread.
    pub async fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        first_of(addr.to_target(), async |addr| Self::register(Source::bind(addr)?)).await
    }

    /// Takes over a listener of the standard library; makes it non-blocking.
    ///
    /// # Errors
    ///
    /// What the system says, and if no runtime runs on this thread.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Self::register(Source::from_std(listener))
    }

    fn register(source: Source) -> io::Result<Self> {
        let io = Registered::new(source, Interest::READABLE, Initially::Unknown, "a TCP listener")?;
        Ok(Self { io })
    }

    /// Gives the listener to the standard library. It stays non-blocking.
    ///
    /// # Errors
    ///
    /// Away from the runtime it was made on; it is closed then.
    pub fn into_std(self) -> io::Result<std::net::TcpListener> {
        self.io.into_source().map(std::net::TcpListener::from)
    }

    /// Waits for a connection, and who it is from. Dropping the future loses none.
    ///
    /// # Errors
    ///
    /// What the system says when it cannot give out connections: `EMFILE` (the limit of open files), `ENOMEM`. They wait
    /// then and the next call tries again, so let some time pass, or finish connections, before that. Connections that
    /// fail before they are accepted are no errors. And away from the runtime it was made on.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// [`accept`](Self::accept) for those who write futures by hand.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let accepted = self.io.poll_with(Direction::Read, cx, |source| {
            loop {
                match source.accept() {
                    Err(error) if is_of_one_connection(&error) => {}
                    result => return result,
                }
            }
        });
        let (source, from) = ready!(accepted)?;
        Poll::Ready(TcpStream::accepted(source).map(|stream| (stream, from)))
    }

    /// The address it listens on.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.source().local_addr()
    }

    /// The number of hops a packet may take, of connections accepted from here.
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
}
