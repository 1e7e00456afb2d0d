//! The two directions of a stream, apart: for two tasks, or two futures of one.

use std::fmt;
use std::net::Shutdown;
use std::sync::Arc;

use super::stream::sealed::Stream;
use super::stream::{impl_read, impl_write};

/// The reading half of a stream, borrowed; see [`TcpStream::split`](super::TcpStream::split).
#[derive(Debug)]
pub struct ReadHalf<'a, S>(&'a S);

/// The writing half of a stream, borrowed; see [`TcpStream::split`](super::TcpStream::split).
#[derive(Debug)]
pub struct WriteHalf<'a, S>(&'a S);

/// The reading half of a stream; see [`TcpStream::into_split`](super::TcpStream::into_split).
#[derive(Debug)]
pub struct OwnedReadHalf<S>(Arc<S>);

/// The writing half of a stream; see [`TcpStream::into_split`](super::TcpStream::into_split). Dropping it shuts the
/// writing side down: the peer reads the end of the stream.
#[derive(Debug)]
pub struct OwnedWriteHalf<S: Stream> {
    stream: Arc<S>,
    /// What the drop does, it does not do for a half that is joined again.
    shut_down_on_drop: bool,
}

pub(super) fn split<S>(stream: &S) -> (ReadHalf<'_, S>, WriteHalf<'_, S>) {
    (ReadHalf(stream), WriteHalf(stream))
}

pub(super) fn into_split<S: Stream>(stream: S) -> (OwnedReadHalf<S>, OwnedWriteHalf<S>) {
    let stream = Arc::new(stream);
    (OwnedReadHalf(stream.clone()), OwnedWriteHalf { stream, shut_down_on_drop: true })
}

impl<S> AsRef<S> for ReadHalf<'_, S> {
    fn as_ref(&self) -> &S {
        self.0
    }
}

impl<S> AsRef<S> for WriteHalf<'_, S> {
    fn as_ref(&self) -> &S {
        self.0
    }
}

impl<S> AsRef<S> for OwnedReadHalf<S> {
    fn as_ref(&self) -> &S {
        &self.0
    }
}

impl<S: Stream> AsRef<S> for OwnedWriteHalf<S> {
    fn as_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: Stream> OwnedReadHalf<S> {
    /// The stream again.
    ///
    /// # Errors
    ///
    /// Both halves, if they are not of the same stream.
    pub fn reunite(self, write: OwnedWriteHalf<S>) -> Result<S, ReuniteError<S>> {
        reunite(self, write)
    }
}

impl<S: Stream> OwnedWriteHalf<S> {
    /// The stream again.
    ///
    /// # Errors
    ///
    /// Both halves, if they are not of the same stream.
    pub fn reunite(self, read: OwnedReadHalf<S>) -> Result<S, ReuniteError<S>> {
        reunite(read, self)
    }

    /// Drops it, but leaves the writing side open.
    pub fn forget(mut self) {
        self.shut_down_on_drop = false;
    }
}

impl<S: Stream> Drop for OwnedWriteHalf<S> {
    fn drop(&mut self) {
        if self.shut_down_on_drop {
            // The peer may have closed it before.
            let _ = self.stream.shut_down(Shutdown::Write);
        }
    }
}

fn reunite<S: Stream>(read: OwnedReadHalf<S>, write: OwnedWriteHalf<S>) -> Result<S, ReuniteError<S>> {
    if !Arc::ptr_eq(&read.0, &write.stream) {
        return Err(ReuniteError(read, write));
    }
    write.forget();
    Ok(Arc::into_inner(read.0).expect("a stream has two halves, and this is the last"))
}

/// The halves are of different streams. They are inside.
#[derive(Debug)]
pub struct ReuniteError<S: Stream>(pub OwnedReadHalf<S>, pub OwnedWriteHalf<S>);

impl<S: Stream> fmt::Display for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves are not of the same stream")
    }
}

impl<S: Stream + fmt::Debug> std::error::Error for ReuniteError<S> {}

impl_read!([S: Stream] ReadHalf<'_, S>, self => self.0);
impl_write!([S: Stream] WriteHalf<'_, S>, self => self.0);
impl_read!([S: Stream] OwnedReadHalf<S>, self => &*self.0);
impl_write!([S: Stream] OwnedWriteHalf<S>, self => &*self.stream);
