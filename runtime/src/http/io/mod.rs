//! hyper's traits on our streams. **Fenced**, for the buffer that hyper reads into: it is not initialised, and only
//! `unsafe` says so without writing zeros to it first (8 KiB a read, as much again as the read itself moves).

#![allow(unsafe_code)]

#[cfg(unix)]
mod unix;

use crate::net::TcpStream;
use futures_io::AsyncRead;
use hyper::rt::{Read, ReadBuf, ReadBufCursor};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// # Safety
///
/// `poll_read` of an implementor never reads from the buffer it is given, and when it returns `n`, the first `n` bytes of
/// the buffer were written, and `n` is not above its length.
unsafe trait FillsOnly: AsyncRead + Unpin {}

// SAFETY: each read is one `recv(2)` into the buffer, which returns how many bytes it has written.
unsafe impl FillsOnly for TcpStream {}

fn poll_fill<T: FillsOnly>(
    stream: &mut T,
    cx: &mut Context<'_>,
    mut cursor: ReadBufCursor<'_>,
) -> Poll<io::Result<()>> {
    // SAFETY: nothing is un-initialised: bytes are only written to it (`FillsOnly`).
    let free = unsafe { cursor.as_mut() };
    // SAFETY: the same memory, in which every byte pattern is valid; nobody reads it before it is written (`FillsOnly`).
    let free = unsafe { &mut *(std::ptr::from_mut(free) as *mut [u8]) };
    let filled = ready!(Pin::new(stream).poll_read(cx, free))?;
    // SAFETY: so many bytes were written (`FillsOnly`).
    unsafe { cursor.advance(filled) };
    Poll::Ready(Ok(()))
}

/// Reads, and says how much: a cursor does not tell who passes it on.
pub(super) fn poll_read_counted<T: Read + Unpin>(
    stream: &mut T,
    cx: &mut Context<'_>,
    mut cursor: ReadBufCursor<'_>,
) -> Poll<io::Result<usize>> {
    // SAFETY: nothing is un-initialised: `ReadBuf` only lets bytes be written to it.
    let free = unsafe { cursor.as_mut() };
    let mut buffer = ReadBuf::uninit(free);
    ready!(Pin::new(stream).poll_read(cx, buffer.unfilled()))?;
    let read = buffer.filled().len();
    // SAFETY: so many bytes were filled, says the `ReadBuf` over the same memory.
    unsafe { cursor.advance(read) };
    Poll::Ready(Ok(read))
}

macro_rules! impl_hyper {
    ($stream:ty) => {
        const _: () = {
            use futures_io::AsyncWrite;
            use hyper::rt::ReadBufCursor;
            use std::io::{self, IoSlice};
            use std::pin::Pin;
            use std::task::{Context, Poll};

            impl hyper::rt::Read for $stream {
                fn poll_read(
                    self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    buf: ReadBufCursor<'_>,
                ) -> Poll<io::Result<()>> {
                    $crate::http::io::poll_fill(self.get_mut(), cx, buf)
                }
            }

            impl hyper::rt::Write for $stream {
                fn poll_write(
                    self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    buf: &[u8],
                ) -> Poll<io::Result<usize>> {
                    AsyncWrite::poll_write(self, cx, buf)
                }

                fn is_write_vectored(&self) -> bool {
                    true
                }

                fn poll_write_vectored(
                    self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    bufs: &[IoSlice<'_>],
                ) -> Poll<io::Result<usize>> {
                    AsyncWrite::poll_write_vectored(self, cx, bufs)
                }

                fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                    AsyncWrite::poll_flush(self, cx)
                }

                fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                    AsyncWrite::poll_close(self, cx)
                }
            }
        };
    };
}

use impl_hyper;

impl_hyper!(TcpStream);
