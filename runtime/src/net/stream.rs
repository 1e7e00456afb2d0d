//! What all streams have in common: moving bytes, the traits of `futures-io`, and what halves are made of.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::task::{Context, Poll};

use mio::event::Source;

use crate::current;
use crate::reactor::Direction;
use crate::registered::Registered;

/// For the kernel one buffer is less work than a list of two: some 250 ns less, be it 100 bytes or 2,000 (head and body of
/// a short answer). Of more the copy is dearer than that.
const GATHERED_MAX: usize = 1024;

/// What can be split in halves.
pub(super) mod sealed {
    use super::*;

    pub trait Stream {
        fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;
        fn poll_read_vectored(
            &self,
            cx: &mut Context<'_>,
            bufs: &mut [IoSliceMut<'_>],
        ) -> Poll<io::Result<usize>>;
        fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;
        fn poll_write_vectored(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;
        fn shut_down(&self, how: Shutdown) -> io::Result<()>;
    }
}

impl<S: Source> Registered<S>
where
    for<'a> &'a S: Read + Write,
{
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_transfer(Direction::Read, buf.len(), cx, |mut source| source.read(buf))
    }

    pub(super) fn poll_read_vectored(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let room = room(bufs.iter().map(|buf| buf.len()));
        self.poll_transfer(Direction::Read, room, cx, |mut source| source.read_vectored(bufs))
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_transfer(Direction::Write, buf.len(), cx, |mut source| source.write(buf))
    }

    pub(super) fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = room(bufs.iter().map(|buf| buf.len()));
        self.poll_transfer(Direction::Write, length, cx, |source| write_several(source, bufs, length))
    }

    pub(super) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.try_transfer(Direction::Read, buf.len(), |mut source| source.read(buf))
    }

    pub(super) fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let room = room(bufs.iter().map(|buf| buf.len()));
        self.try_transfer(Direction::Read, room, |mut source| source.read_vectored(bufs))
    }

    pub(super) fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.try_transfer(Direction::Write, buf.len(), |mut source| source.write(buf))
    }

    pub(super) fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let length = room(bufs.iter().map(|buf| buf.len()));
        self.try_transfer(Direction::Write, length, |source| write_several(source, bufs, length))
    }
}

/// Writes what a list of buffers holds, `length` bytes as [`room`] counts them.
///
/// Up to [`GATHERED_MAX`] bytes are put together and sent as one buffer.
fn write_several<S>(mut source: &S, bufs: &[IoSlice<'_>], length: usize) -> io::Result<usize>
where
    for<'a> &'a S: Write,
{
    if bufs.len() < 2 || length == 0 || length > GATHERED_MAX {
        return source.write_vectored(bufs);
    }
    current::with(|core| {
        let Some(core) = core else { return source.write_vectored(bufs) };
        let mut gathered = core.gathered.take();
        gathered.clear();
        bufs.iter().for_each(|buf| gathered.extend_from_slice(buf));
        let written = source.write(&gathered);
        core.gathered.set(gathered);
        written
    })
}

/// What a list of buffers holds. The kernel takes no more than 1024 of them at a time, and what it leaves then is no sign
/// that nothing is left: such a list counts as nothing, so that nothing follows from it.
fn room(lengths: impl ExactSizeIterator<Item = usize>) -> usize {
    const SLICES_MAX: usize = 1024;
    if lengths.len() > SLICES_MAX { 0 } else { lengths.sum() }
}

/// Closing what the other side has closed before is no error.
pub(super) fn close(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        result => result,
    }
}

/// Whether an error of `accept` is that of the one connection which was to be accepted (Linux passes on what has happened
/// to it): then the next may be fine.
pub(super) fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | HostUnreachable | NetworkDown | NetworkUnreachable
    )
}

/// `futures_io::AsyncRead` for something that gets at a [`sealed::Stream`] by `$stream`.
macro_rules! impl_read {
    ([$($generics:tt)*] $type:ty, $self:ident => $stream:expr) => {
        const _: () = {
            use $crate::net::stream::sealed::Stream;
            use std::io;
            use std::pin::Pin;
            use std::task::{Context, Poll};

            impl<$($generics)*> futures_io::AsyncRead for $type {
                fn poll_read(
                    $self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    buf: &mut [u8],
                ) -> Poll<io::Result<usize>> {
                    Stream::poll_read($stream, cx, buf)
                }

                fn poll_read_vectored(
                    $self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    bufs: &mut [io::IoSliceMut<'_>],
                ) -> Poll<io::Result<usize>> {
                    Stream::poll_read_vectored($stream, cx, bufs)
                }
            }
        };
    };
}

/// The same for `futures_io::AsyncWrite`. Flushing does nothing: there is no buffer on this side of the kernel. Closing
/// shuts the writing side down.
macro_rules! impl_write {
    ([$($generics:tt)*] $type:ty, $self:ident => $stream:expr) => {
        const _: () = {
            use $crate::net::stream::{close, sealed::Stream};
            use std::io;
            use std::net::Shutdown;
            use std::pin::Pin;
            use std::task::{Context, Poll};

            impl<$($generics)*> futures_io::AsyncWrite for $type {
                fn poll_write(
                    $self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    buf: &[u8],
                ) -> Poll<io::Result<usize>> {
                    Stream::poll_write($stream, cx, buf)
                }

                fn poll_write_vectored(
                    $self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    bufs: &[io::IoSlice<'_>],
                ) -> Poll<io::Result<usize>> {
                    Stream::poll_write_vectored($stream, cx, bufs)
                }

                fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                    Poll::Ready(Ok(()))
                }

                fn poll_close($self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                    Poll::Ready(close(Stream::shut_down($stream, Shutdown::Write)))
                }
            }
        };
    };
}

/// All of this for a stream with a field `io`, and for shared references to it.
macro_rules! impl_stream {
    ($stream:ty) => {
        impl $crate::net::stream::sealed::Stream for $stream {
            fn poll_read(
                &self,
                cx: &mut std::task::Context<'_>,
                buf: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.io.poll_read(cx, buf)
            }

            fn poll_read_vectored(
                &self,
                cx: &mut std::task::Context<'_>,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.io.poll_read_vectored(cx, bufs)
            }

            fn poll_write(
                &self,
                cx: &mut std::task::Context<'_>,
                buf: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.io.poll_write(cx, buf)
            }

            fn poll_write_vectored(
                &self,
                cx: &mut std::task::Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.io.poll_write_vectored(cx, bufs)
            }

            fn shut_down(&self, how: std::net::Shutdown) -> std::io::Result<()> {
                self.io.source().shutdown(how)
            }
        }

        $crate::net::stream::impl_read!([] $stream, self => &*self);
        $crate::net::stream::impl_write!([] $stream, self => &*self);
        $crate::net::stream::impl_read!([] &$stream, self => &**self);
        $crate::net::stream::impl_write!([] &$stream, self => &**self);
    };
}

pub(super) use {impl_read, impl_stream, impl_write};
