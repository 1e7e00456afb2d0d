//! Datagrams over UDP.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

use mio::Interest;
use mio::net::UdpSocket as Source;

use super::addrs::ToSocketAddrs;
use super::resolve::{first_of, resolve};
use crate::reactor::{Direction, Initially};
use crate::registered::Registered;

/// A UDP socket: datagrams, each of which arrives whole or not at all.
///
/// ```
/// use runtime::net::UdpSocket;
///
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// let server = UdpSocket::bind("127.0.0.1:0").await?;
/// let client = UdpSocket::bind("127.0.0.1:0").await?;
/// client.send_to(b"ping", server.local_addr()?).await?;
///
/// let mut buf = [0; 1500];
/// let (length, from) = server.recv_from(&mut buf).await?;
/// assert_eq!(&buf[..length], b"ping");
/// assert_eq!(from, client.local_addr()?);
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    pub(super) io: Registered<Source>,
}

impl UdpSocket {
    /// A socket at `addr`. Of several addresses the first is taken that can be had. Port 0 is any free one.
    ///
    /// # Errors
    ///
    /// What the system says of the last address, or of the name; and if no runtime runs on this thread.
    pub async fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        first_of(addr.to_target(), async |addr| Self::register(Source::bind(addr)?)).await
    }

    /// Takes over a socket of the standard library; makes it non-blocking.
    ///
    /// # Errors
    ///
    /// What the system says, and if no runtime runs on this thread.
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Self::register(Source::from_std(socket))
    }

    /// A datagram can nearly always be sent, so that is tried before the kernel says so.
    fn register(source: Source) -> io::Result<Self> {
        let both = Interest::READABLE | Interest::WRITABLE;
        Ok(Self { io: Registered::new(source, both, Initially::Writable, "a UDP socket")? })
    }

    /// Gives the socket to the standard library. It stays non-blocking.
    ///
    /// # Errors
    ///
    /// Away from the runtime it was made on; it is closed then.
    pub fn into_std(self) -> io::Result<std::net::UdpSocket> {
        self.io.into_source().map(std::net::UdpSocket::from)
    }

    /// Fixes the peer: [`send`](Self::send) goes to it, and [`recv`](Self::recv) takes from no other. Nothing is sent.
    ///
    /// # Errors
    ///
    /// What the system says of the last address, or of the name.
    pub async fn connect(&self, addr: impl ToSocketAddrs) -> io::Result<()> {
        first_of(addr.to_target(), async |addr| self.io.source().connect(addr)).await
    }

    /// Sends to the peer of [`connect`](Self::connect).
    ///
    /// # Errors
    ///
    /// What the system says: `ConnectionRefused` if an earlier datagram found nobody. And away from the runtime it was
    /// made on.
    pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_send(cx, buf)).await
    }

    /// Sends to `target`, the first of its addresses.
    ///
    /// # Errors
    ///
    /// What the system says, also of the name; and away from the runtime it was made on.
    pub async fn send_to(&self, buf: &[u8], target: impl ToSocketAddrs) -> io::Result<usize> {
        let target = resolve(target.to_target()).await?.next();
        let target =
            target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no address to send to"))?;
        poll_fn(|cx| self.poll_send_to(cx, buf, target)).await
    }

    /// Receives from the peer of [`connect`](Self::connect). What does not fit in `buf` is lost.
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
        poll_fn(|cx| self.poll_recv_from(cx, buf)).await
    }

    /// [`recv_from`](Self::recv_from), but leaves the datagram there.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](Self::recv_from).
    pub async fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| self.io.poll_with(Direction::Read, cx, |source| source.peek_from(buf))).await
    }

    /// [`send`](Self::send) for those who write futures by hand.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.io.poll_with(Direction::Write, cx, |source| source.send(buf))
    }

    /// [`send_to`](Self::send_to) for those who write futures by hand.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to).
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
        target: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.io.poll_with(Direction::Write, cx, |source| source.send_to(buf, target))
    }

    /// [`recv`](Self::recv) for those who write futures by hand.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.io.poll_with(Direction::Read, cx, |source| source.recv(buf))
    }

    /// [`recv_from`](Self::recv_from) for those who write futures by hand.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](Self::recv_from).
    pub fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.io.poll_with(Direction::Read, cx, |source| source.recv_from(buf))
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
    pub fn try_send_to(&self, buf: &[u8], target: SocketAddr) -> io::Result<usize> {
        self.io.try_with(Direction::Write, |source| source.send_to(buf, target))
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

    /// The peer of [`connect`](Self::connect).
    ///
    /// # Errors
    ///
    /// What the system says: `NotConnected`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.source().peer_addr()
    }

    /// The error that is pending on the socket, taken off it.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.io.source().take_error()
    }

    /// Whether it may send to broadcast addresses.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.io.source().broadcast()
    }

    /// Sets [`broadcast`](Self::broadcast).
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn set_broadcast(&self, on: bool) -> io::Result<()> {
        self.io.source().set_broadcast(on)
    }

    /// The number of hops a datagram may take.
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

    /// Joins a group, on the interface of that address; `UNSPECIFIED` lets the system choose.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.source().join_multicast_v4(&group, &interface)
    }

    /// Leaves a group.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.source().leave_multicast_v4(&group, &interface)
    }

    /// Joins a group, on the interface of that index; 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.source().join_multicast_v6(group, interface)
    }

    /// Leaves a group.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.source().leave_multicast_v6(group, interface)
    }
}
