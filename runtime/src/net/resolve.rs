//! From names to addresses, off the loop.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::panic::Location;

use super::addrs::sealed::Target;
use super::addrs::{Addrs, ToSocketAddrs};
use crate::blocking;

/// The addresses of a host. What is an address already needs no look-up; a name is looked up on the blocking pool, on the
/// account of the caller.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// let addrs = runtime::net::lookup_host("localhost:80").await?;
/// assert!(addrs.into_iter().all(|addr| addr.ip().is_loopback() && addr.port() == 80));
/// # Ok(())
/// # })
/// # }
/// ```
///
/// # Errors
///
/// What the resolver of the system says, and `InvalidInput` for text that has not the form `host:port`.
pub async fn lookup_host(host: impl ToSocketAddrs) -> io::Result<impl Iterator<Item = SocketAddr>> {
    resolve(host.to_target()).await
}

pub(super) async fn resolve(target: io::Result<Target>) -> io::Result<Addrs> {
    match target? {
        Target::Known(addrs) => Ok(addrs),
        Target::Name(host, port) => {
            let look_up = move || (host.as_str(), port).to_socket_addrs();
            let addrs = blocking::run(Location::caller(), look_up).await??;
            Ok(Addrs::Many(addrs))
        }
    }
}

/// Tries one address after the other, until one succeeds.
///
/// # Errors
///
/// That of the last one.
pub(super) async fn first_of<T>(
    target: io::Result<Target>,
    mut attempt: impl AsyncFnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for addr in resolve(target).await? {
        match attempt(addr).await {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the name has no address")))
}
