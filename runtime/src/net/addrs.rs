//! What may stand for the address of a socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::{io, vec};

use sealed::Target;

/// An address, several of them, or a name with a port: what `bind`, `connect` and `send_to` take.
///
/// Implemented for what [`std::net::ToSocketAddrs`] is implemented for. Addresses, also as text, are used as they are;
/// names are resolved on the blocking pool, never on the loop.
///
/// ```
/// use runtime::net::TcpListener;
/// use std::net::Ipv4Addr;
///
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// let one = TcpListener::bind("127.0.0.1:0").await?;
/// let another = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
/// assert_ne!(one.local_addr()?, another.local_addr()?);
/// # Ok(())
/// # })
/// # }
/// ```
pub trait ToSocketAddrs: sealed::ToTarget {}

impl<T: sealed::ToTarget + ?Sized> ToSocketAddrs for T {}

pub(super) mod sealed {
    use super::Addrs;
    use std::io;

    pub trait ToTarget {
        #[doc(hidden)]
        fn to_target(&self) -> io::Result<Target>;
    }

    /// Addresses, or what has to be looked up.
    #[derive(Debug)]
    pub enum Target {
        Known(Addrs),
        Name(String, u16),
    }
}

/// Addresses to try, in order. The usual single one takes no allocation.
#[derive(Debug)]
pub enum Addrs {
    One(Option<SocketAddr>),
    Many(vec::IntoIter<SocketAddr>),
}

impl Iterator for Addrs {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        match self {
            Self::One(addr) => addr.take(),
            Self::Many(addrs) => addrs.next(),
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(addr: SocketAddr) -> Self {
        Self::Known(Addrs::One(Some(addr)))
    }
}

impl sealed::ToTarget for SocketAddr {
    fn to_target(&self) -> io::Result<Target> {
        Ok(Target::from(*self))
    }
}

impl sealed::ToTarget for SocketAddrV4 {
    fn to_target(&self) -> io::Result<Target> {
        Ok(SocketAddr::from(*self).into())
    }
}

impl sealed::ToTarget for SocketAddrV6 {
    fn to_target(&self) -> io::Result<Target> {
        Ok(SocketAddr::from(*self).into())
    }
}

impl sealed::ToTarget for (IpAddr, u16) {
    fn to_target(&self) -> io::Result<Target> {
        Ok(SocketAddr::from(*self).into())
    }
}

impl sealed::ToTarget for (Ipv4Addr, u16) {
    fn to_target(&self) -> io::Result<Target> {
        Ok(SocketAddr::from(*self).into())
    }
}

impl sealed::ToTarget for (Ipv6Addr, u16) {
    fn to_target(&self) -> io::Result<Target> {
        Ok(SocketAddr::from(*self).into())
    }
}

impl sealed::ToTarget for [SocketAddr] {
    fn to_target(&self) -> io::Result<Target> {
        Ok(Target::Known(Addrs::Many(Vec::from(self).into_iter())))
    }
}

impl sealed::ToTarget for (&str, u16) {
    fn to_target(&self) -> io::Result<Target> {
        let (host, port) = *self;
        Ok(match host.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, port).into(),
            Err(_) => Target::Name(host.to_owned(), port),
        })
    }
}

impl sealed::ToTarget for (String, u16) {
    fn to_target(&self) -> io::Result<Target> {
        (self.0.as_str(), self.1).to_target()
    }
}

impl sealed::ToTarget for str {
    fn to_target(&self) -> io::Result<Target> {
        if let Ok(addr) = self.parse::<SocketAddr>() {
            return Ok(addr.into());
        }
        let (host, port) = self.rsplit_once(':').ok_or_else(|| invalid("no port: write `host:port`"))?;
        let port = port.parse().map_err(|_| invalid("the port is not a number up to 65535"))?;
        Ok(Target::Name(host.to_owned(), port))
    }
}

impl sealed::ToTarget for String {
    fn to_target(&self) -> io::Result<Target> {
        self.as_str().to_target()
    }
}

impl<T: sealed::ToTarget + ?Sized> sealed::ToTarget for &T {
    fn to_target(&self) -> io::Result<Target> {
        (**self).to_target()
    }
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::sealed::ToTarget;
    use super::*;

    #[track_caller]
    fn known(target: impl ToTarget) -> Vec<SocketAddr> {
        match target.to_target() {
            Ok(Target::Known(addrs)) => addrs.collect(),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn name(target: impl ToTarget) -> (String, u16) {
        match target.to_target() {
            Ok(Target::Name(host, port)) => (host, port),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn addresses_are_used_as_they_are() {
        let v4 = SocketAddr::from(([127, 0, 0, 1], 80));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 80));
        for addrs in [
            known(v4),
            known("127.0.0.1:80"),
            known("127.0.0.1:80".to_owned()),
            known(("127.0.0.1", 80)),
            known(("127.0.0.1".to_owned(), 80)),
            known((Ipv4Addr::LOCALHOST, 80)),
            known((IpAddr::from(Ipv4Addr::LOCALHOST), 80)),
            known(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80)),
        ] {
            assert_eq!(addrs, [v4]);
        }
        for addrs in [
            known("[::1]:80"),
            known(("::1", 80)),
            known((Ipv6Addr::LOCALHOST, 80)),
            known(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 0, 0)),
        ] {
            assert_eq!(addrs, [v6]);
        }
        assert_eq!(known(&[v4, v6][..]), [v4, v6]);
    }

    #[test]
    fn names_are_left_to_be_looked_up() {
        assert_eq!(name("localhost:80"), ("localhost".to_owned(), 80));
        assert_eq!(name(("localhost", 80)), ("localhost".to_owned(), 80));
    }

    #[test]
    fn nonsense_is_an_error() {
        for text in ["", "localhost", "localhost:", "localhost:http", "localhost:65536"] {
            assert_eq!(text.to_target().unwrap_err().kind(), io::ErrorKind::InvalidInput, "{text}");
        }
    }
}
