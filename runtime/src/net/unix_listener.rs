//! Accepting connections within the machine.

use std::future::poll_fn;
use std::io;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::task::{Context, Poll, ready};

use mio::Interest;
use mio::net::UnixListener as Source;

use super::stream::is_of_one_connection;
use super::unix_stream::UnixStream;
use crate::reactor::{Direction, Initially};
use crate::registered::Registered;

/// A Unix socket that accepts connections.
///
/// ```
/// use runtime::net::{UnixListener, UnixStream};
///
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// let path = std::env::temp_dir().join(format!("listener-{}", std::process::id()));
/// let listener = UnixListener::bind(&path)?;
/// let client = UnixStream::connect(&path).await?;
/// let (server, _) = listener.accept().await?;
/// std::fs::remove_file(&path)?;
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Debug)]
pub struct UnixListener {
    pub(super) io: Registered<Source>,
}

impl UnixListener {
    /// Listens at `path`, which must not exist, and which nobody removes.
    ///
    /// # Errors
    ///
    /// What the system says, and if no runtime runs on this thread.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::register(Source::bind(path)?)
    }

    /// Takes over a listener of the standard library; makes it non-blocking.
    ///
    /// # Errors
    ///
    /// What the system says, and if no runtime runs on this thread.
    pub fn from_std(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Self::register(Source::from_std(listener))
    }

    fn register(source: Source) -> io::Result<Self> {
        let io = Registered::new(source, Interest::READABLE, Initially::Unknown, "a Unix listener")?;
        Ok(Self { io })
    }

    /// Gives the listener to the standard library. It stays non-blocking.
    ///
    /// # Errors
    ///
    /// Away from the runtime it was made on; it is closed then.
    pub fn into_std(self) -> io::Result<std::os::unix::net::UnixListener> {
        self.io.into_source().map(std::os::unix::net::UnixListener::from)
    }

    /// Waits for a connection, and who it is from. Dropping the future loses none.
    ///
    /// # Errors
    ///
    /// As [`TcpListener::accept`](super::TcpListener::accept).
    pub async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// [`accept`](Self::accept) for those who write futures by hand.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(UnixStream, SocketAddr)>> {
        let accepted = self.io.poll_with(Direction::Read, cx, |source| {
            loop {
                match source.accept() {
                    Err(error) if is_of_one_connection(&error) => {}
                    result => return result,
                }
            }
        });
        let (source, from) = ready!(accepted)?;
        Poll::Ready(UnixStream::connected(source).map(|stream| (stream, from)))
    }

    /// The address it listens on.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.source().local_addr()
    }
}
