//! Clients that stop in the middle: a limit on how long nothing may happen.

use super::stats::{Count, Stats};
use crate::time::{Sleep, sleep};
use hyper::rt::{Read, ReadBufCursor, Write};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// A patience that begins anew with each progress. Costs nothing while nobody waits.
pub(super) struct Stall {
    patience: Duration,
    running: Option<Sleep>,
}

impl Stall {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, running: None }
    }

    /// What `poll` says; ready with `None` if that was pending for too long.
    pub(super) fn watch<T>(&mut self, cx: &mut Context<'_>, poll: Poll<T>) -> Poll<Option<T>> {
        if let Poll::Ready(value) = poll {
            self.running = None;
            return Poll::Ready(Some(value));
        }
        let patience = self.patience;
        let running = self.running.get_or_insert_with(|| sleep(patience));
        Pin::new(running).poll(cx).map(|()| None)
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }
}

/// A stream whose writes fail if the other end does not read.
pub(super) struct Watched<T> {
    stream: T,
    stall: Stall,
    stats: Stats,
}

impl<T> Watched<T> {
    pub(super) fn new(stream: T, patience: Duration, stats: Stats) -> Self {
        Self { stream, stall: Stall::new(patience), stats }
    }

    fn watch<R>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        self.stall.watch(cx, poll).map(|done| {
            done.unwrap_or_else(|| {
                self.stats.add(Count::stalls);
                let text = format!("the client has read nothing for {:?}", self.stall.patience());
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            })
        })
    }
}

impl<T: Read + Unpin> Read for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, poll)
    }
}
