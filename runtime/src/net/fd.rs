//! The descriptors, for options that have no method here.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use super::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};

macro_rules! impl_fd {
    ($($socket:ident)*) => {
        $(
            impl AsFd for $socket {
                fn as_fd(&self) -> BorrowedFd<'_> {
                    self.io.source().as_fd()
                }
            }

            impl AsRawFd for $socket {
                fn as_raw_fd(&self) -> RawFd {
                    self.io.source().as_raw_fd()
                }
            }
        )*
    };
}

impl_fd!(TcpListener TcpStream UdpSocket UnixDatagram UnixListener UnixStream);
