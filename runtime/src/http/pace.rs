//! Clients that stop in the middle, or hardly move: limits on how long nothing may happen, and on how little.

use super::io::poll_read_counted;
use super::link::Phase;
use super::peer::Peer;
use super::serve::Limits;
use super::server::LOG_TARGET;
use super::stats::{Count, Stats};
use crate::time::{Instant, Sleep, sleep};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The rate is looked at whenever the client was waited for that long in all.
const WINDOW: Duration = Duration::from_secs(10);
/// How long, and for how many bytes, a client is listened to that still sends when all was answered. If the connection were
/// closed at once the system would tell the client to throw the answer away.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Why a client is given up.
pub(super) enum TooSlow {
    Stalled(Duration),
    BelowRate(u32),
}

/// Watches one direction of a transfer. Costs two looks at the clock for each wait, and nothing while nobody waits.
pub(super) struct Pace {
    patience: Duration,
    /// Bytes a second; 0: as slow as it likes.
    rate: u32,
    /// How long was waited without any progress, up to the running wait.
    quiet: Duration,
    /// How long was waited in this window, up to the running wait.
    waited: Duration,
    /// Bytes that have moved in this window.
    moved: u64,
    waiting: Option<(Instant, Sleep)>,
}

impl Pace {
    pub(super) fn new(patience: Duration, rate: u32) -> Self {
        let zero = Duration::ZERO;
        Self { patience, rate, quiet: zero, waited: zero, moved: 0, waiting: None }
    }

    /// What `poll` says, of which `length` bytes have moved; an error if that was pending for too long.
    pub(super) fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<T>,
        length: impl FnOnce(&T) -> usize,
    ) -> Poll<Result<T, TooSlow>> {
        let Poll::Ready(value) = poll else { return self.wait(cx).map(Err) };
        self.moved += length(&value) as u64;
        if let Some((since, _)) = self.waiting.take() {
            self.waited += since.elapsed();
        }
        self.quiet = Duration::ZERO;
        Poll::Ready(Ok(value))
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<TooSlow> {
        loop {
            if self.waiting.is_none() {
                if self.is_below_rate() {
                    return Poll::Ready(TooSlow::BelowRate(self.rate));
                }
                let look = if self.rate == 0 { Duration::MAX } else { WINDOW - self.waited };
                let next = look.min(self.patience.saturating_sub(self.quiet));
                self.waiting = Some((Instant::now(), sleep(next)));
            }
            let Some((since, end)) = &mut self.waiting else { unreachable!("it was set above") };
            ready!(Pin::new(end).poll(cx));
            let waited = since.elapsed();
            self.waiting = None;
            self.quiet += waited;
            self.waited += waited;
            if self.quiet >= self.patience {
                return Poll::Ready(TooSlow::Stalled(self.patience));
            }
        }
    }

    /// Looks at the end of a window, and begins the next one.
    fn is_below_rate(&mut self) -> bool {
        if self.rate == 0 || self.waited < WINDOW {
            return false;
        }
        let waited = std::mem::take(&mut self.waited);
        let moved = std::mem::take(&mut self.moved);
        (moved as f64) < f64::from(self.rate) * waited.as_secs_f64()
    }
}

/// The stream of a connection: it tells the connection's state what comes and goes, and its writes fail if the other end
/// does not read.
pub(super) struct Watched<T> {
    stream: T,
    peer: Peer,
    stats: Stats,
    writing: Pace,
    /// The client will send nothing more, and still reads.
    has_ended: bool,
    shutdown: Shutdown,
}

enum Shutdown {
    No,
    /// Our end is closed; so many bytes and so long the client is still listened to.
    Lingering {
        left: usize,
        end: Option<Sleep>,
    },
    Done,
}

impl<T> Watched<T> {
    pub(super) fn new(stream: T, limits: &Limits, peer: Peer, stats: Stats) -> Self {
        let writing = Pace::new(limits.stall, limits.rate);
        Self { stream, peer, stats, writing, has_ended: false, shutdown: Shutdown::No }
    }

    fn watch(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let length = |done: &io::Result<usize>| *done.as_ref().unwrap_or(&0);
        let done = ready!(self.writing.watch(cx, poll, length));
        if matches!(done, Ok(Ok(written)) if written > 0) {
            self.peer.link().wrote();
        }
        Poll::Ready(done.unwrap_or_else(|why| Err(self.give_up(why))))
    }

    #[cold]
    fn give_up(&self, why: TooSlow) -> io::Error {
        let (count, text) = match why {
            TooSlow::Stalled(patience) => {
                (Count::stalls, format!("the client has read nothing for {patience:?}"))
            }
            TooSlow::BelowRate(rate) => {
                (Count::too_slow, format!("the client reads less than {rate} bytes a second"))
            }
        };
        self.stats.add(count);
        log::info!(target: LOG_TARGET, "{}: closed: {text}", self.peer);
        io::Error::new(io::ErrorKind::TimedOut, text)
    }
}

impl<T: Read + Unpin> Watched<T> {
    /// Throws away what the client still sends, for a while.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Shutdown::Lingering { left, end } = &mut self.shutdown else { return Poll::Ready(()) };
        let mut bytes = [0; 4 * 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(cx, buffer.unfilled()) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    *left = left.saturating_sub(buffer.filled().len());
                    if *left == 0 {
                        return Poll::Ready(());
                    }
                    // It does send: then the rest is listened to as well.
                    end.get_or_insert_with(|| sleep(LINGER));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    let Some(end) = end else { return Poll::Ready(()) };
                    return Pin::new(end).poll(cx);
                }
            }
        }
    }
}

impl<T: Read + Unpin> Read for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let link = this.peer.link();
        if !this.has_ended {
            let read = ready!(poll_read_counted(&mut this.stream, cx, buf))?;
            if read > 0 {
                link.received();
                return Poll::Ready(Ok(()));
            }
            this.has_ended = link.end_stream();
        }
        // The end of the stream. A client that has only closed its own end gets its answer first.
        if this.has_ended && link.is_answering() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl<T: Read + Write + Unpin> Write for Watched<T> {
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
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        // hyper asks for it when its own buffers are empty.
        self.peer.link().flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if matches!(this.shutdown, Shutdown::No) {
            let poll = Pin::new(&mut this.stream).poll_shutdown(cx).map_ok(|()| 0);
            ready!(this.watch(cx, poll))?;
            let link = this.peer.link();
            link.enter(Phase::Closing);
            let end = link.has_unread().then(|| sleep(LINGER));
            this.shutdown = Shutdown::Lingering { left: LINGER_BYTES, end };
        }
        ready!(this.poll_linger(cx));
        this.shutdown = Shutdown::Done;
        Poll::Ready(Ok(()))
    }
}
