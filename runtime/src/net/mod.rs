//! Sockets.
//!
//! Reading and writing streams is by the traits of `futures-io`, so the adaptors of `futures` and `futures-lite` apply;
//! what is here takes `&self` wherever the system call does.
//!
//! All sockets are `Send` and `Sync`, and belong to the runtime they were made on: used elsewhere they say so by an error
//! of kind [`Unsupported`](std::io::ErrorKind::Unsupported), and may be dropped anywhere. None holds a context: I/O acts
//! for whoever awaits it, and a pooled connection keeps no request alive.
//!
//! One task waits for each direction of a socket: the last one that asked. To serve one socket from several tasks, give
//! one the halves of it, or let one accept or receive and spawn the rest.
//!
//! Options that are not here are set through `AsFd` (`socket2::SockRef`), or before [`TcpListener::from_std`].

mod addrs;
#[cfg(unix)]
mod fd;
mod halves;
mod resolve;
mod stream;
mod tcp_listener;
mod tcp_stream;
mod udp;
#[cfg(unix)]
mod unix_datagram;
#[cfg(unix)]
mod unix_listener;
#[cfg(unix)]
mod unix_stream;

pub use addrs::ToSocketAddrs;
pub use halves::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
pub use resolve::lookup_host;
pub use tcp_listener::TcpListener;
pub use tcp_stream::TcpStream;
pub use udp::UdpSocket;
#[cfg(unix)]
pub use unix_datagram::UnixDatagram;
#[cfg(unix)]
pub use unix_listener::UnixListener;
#[cfg(unix)]
pub use unix_stream::UnixStream;

#[cfg(test)]
mod tests;
