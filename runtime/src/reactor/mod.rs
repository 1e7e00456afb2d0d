//! Readiness of sockets, and the one place where a runtime sleeps: mio, edge-triggered.
//!
//! A source is registered once, for as long as it lives. The kernel reports changes, the reactor remembers them as
//! bits, and an operation asks the bits first: a read that is known to block is never tried. Having seen `WouldBlock`
//! (or a short read or write) it clears the bit, or the task would spin.
//!
//! Wakers may be foreign: waking, cloning and dropping one may run any code, which may come back here. So none of
//! that happens while anything in here is borrowed: wakers are collected and handed to the caller, clones are
//! made before, and drops happen after. Tasks of this runtime, which nearly all are, wait by number and are queued on
//! the spot, which runs nothing (trap 12).

#[cfg(all(not(miri), any(target_os = "linux", target_os = "android")))]
mod alarm;
#[cfg(not(all(not(miri), any(target_os = "linux", target_os = "android"))))]
#[path = "alarm_coarse.rs"]
mod alarm;
// So that the twin is compiled and tested where it is not used.
#[cfg(all(test, not(miri), any(target_os = "linux", target_os = "android")))]
mod alarm_coarse;
mod ready;
mod source;

use std::cell::{Cell, RefCell};
use std::io;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Token};

use alarm::Alarm;
use ready::Ready;
use source::Sources;

use crate::handle::Packed;

pub(crate) use ready::Direction;
pub(crate) use source::{Asker, SourceKey};

/// How many events one system call may bring. What does not fit comes with the next turn.
pub(crate) const EVENTS_DEFAULT: usize = 1024;

/// The tokens that are not sources. No source can have them: slots are limited by the number of descriptors.
const ALARM: Token = Token(usize::MAX);
const BELL: Token = Token(usize::MAX - 1);

/// How long a turn may wait for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all.
    No,
    /// Until this many ns after the reactor's epoch. It may be less: a turn that ends early has found nothing,
    /// and the caller asks again.
    Until(u64),
    /// Until something happens.
    Forever,
}

/// What a source is known to be at its registration, so that nothing is awaited which need not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initially {
    /// Nothing: listeners, datagram sockets, connections in progress.
    Unknown,
    /// There is room to write: a stream just connected or accepted.
    Writable,
}

/// What came of an attempt.
#[must_use]
pub(crate) enum Attempt<T> {
    Done(T),
    Failed(io::Error),
    /// It would have blocked: the task waits.
    Waiting,
    /// It would have blocked and nobody waits yet, or there is no such source any more.
    NotMade,
}

/// The reactor of one runtime. Not `Sync`: only the [`mio::Waker`] made with it crosses threads.
pub(crate) struct Reactor {
    driver: RefCell<Driver>,
    sources: RefCell<Sources>,
    alarm: Alarm,
    events_seen: Cell<u64>,
}

struct Driver {
    poll: mio::Poll,
    events: Events,
}

impl Reactor {
    /// A reactor whose deadlines count from `epoch`, and the bell that ends its wait from any thread.
    ///
    /// # Errors
    ///
    /// When the process or the system is out of file descriptors (three are needed) or memory.
    pub(crate) fn new(epoch: Instant, events_max: usize) -> io::Result<(Reactor, mio::Waker)> {
        let poll = mio::Poll::new()?;
        let bell = mio::Waker::new(poll.registry(), BELL)?;
        let alarm = Alarm::new(poll.registry(), ALARM, epoch)?;
        let events = Events::with_capacity(events_max.max(1));
        let reactor = Reactor {
            driver: RefCell::new(Driver { poll, events }),
            sources: RefCell::new(Sources::new()),
            alarm,
            events_seen: Cell::new(0),
        };
        Ok((reactor, bell))
    }

    /// Adds a source to the poll set. Each direction that will be waited for must be in `interest`: a wait for
    /// another one ends only on failure or hang-up.
    ///
    /// # Errors
    ///
    /// What the kernel says: usually that the source is registered already, or a limit.
    pub(crate) fn register<S>(
        &self,
        source: &mut S,
        interest: Interest,
        is: Initially,
    ) -> io::Result<SourceKey>
    where
        S: mio::event::Source + ?Sized,
    {
        let ready = match is {
            Initially::Unknown => Ready::NOTHING,
            Initially::Writable => Ready::WRITE,
        };
        let key = self.sources.borrow_mut().insert(ready);
        let registered = self.driver.borrow().poll.registry().register(source, key.token(), interest);
        if let Err(error) = registered {
            self.forget(key);
            return Err(error);
        }
        Ok(key)
    }

    /// Forgets a source. Tasks that still wait for it are not woken; the key is stale from here on.
    ///
    /// With `source` it is also taken out of the poll set. Without, the caller closes it, which does the same if
    /// there is no duplicate of the descriptor, and is harmless if there is: its events are ignored. A source that
    /// is closed already is no error either.
    pub(crate) fn deregister(&self, key: SourceKey, source: Option<&mut dyn mio::event::Source>) {
        if let Some(source) = source {
            // All that can go wrong is that it was not in the set, which is what is wanted.
            let _ = self.driver.borrow().poll.registry().deregister(source);
        }
        self.forget(key);
    }

    /// Ready if an attempt in this direction may succeed; else `asker` is woken when that changes.
    ///
    /// One task waits for each direction of a source: the last one that asked.
    ///
    /// # Errors
    ///
    /// If the source was deregistered.
    pub(crate) fn poll_ready(
        &self,
        key: SourceKey,
        direction: Direction,
        asker: Asker<'_>,
    ) -> Poll<io::Result<()>> {
        // Each part ends its borrow before the next.
        let waits = match self.sources.borrow().get(key) {
            None => return Poll::Ready(Err(gone())),
            Some(source) if source.is_ready(direction) => return Poll::Ready(Ok(())),
            Some(source) => source.waits(direction, asker),
        };
        if waits { Poll::Pending } else { self.park(key, direction, asker) }
    }

    /// Tries `operation` if it may succeed, once; else lets `task` wait, if there is one. The rest of a leaf operation is
    /// [`poll_rarely`](Self::poll_rarely).
    ///
    /// `exhausts` says of a result whether the next attempt would block: a stream's read or write that moved less than
    /// was asked for. So that system call is saved. A direction that is known to be closed stays ready all the same, as no
    /// event will come to announce its end again.
    ///
    /// `operation` is a system call and no more: the table of sources is in use meanwhile.
    //
    // One attempt and no loop, and nothing in here that is rare: with all of it in one function a read took 30
    // instructions more.
    #[inline]
    pub(crate) fn attempt<T>(
        &self,
        key: SourceKey,
        direction: Direction,
        task: impl FnOnce() -> Option<Packed>,
        operation: impl FnOnce() -> io::Result<T>,
        exhausts: impl FnOnce(&T) -> bool,
    ) -> Attempt<T> {
        let sources = self.sources.borrow();
        let Some(source) = sources.get(key) else { return Attempt::NotMade };
        if !source.is_ready(direction) {
            return match task() {
                Some(task) if source.wait_by_number(direction, task) => Attempt::Waiting,
                _ => Attempt::NotMade,
            };
        }
        match operation() {
            Ok(done) => {
                if exhausts(&done) {
                    source.fell_short(direction);
                }
                Attempt::Done(done)
            }
            Err(error) => Attempt::Failed(error),
        }
    }

    /// What follows from an attempt that failed, or was not made: an error, or `asker` waits.
    ///
    /// # Errors
    ///
    /// If the source was deregistered; and those of the attempt.
    #[cold]
    #[inline(never)]
    pub(crate) fn poll_rarely(
        &self,
        key: SourceKey,
        direction: Direction,
        asker: Asker<'_>,
        failure: Option<io::Error>,
    ) -> Poll<io::Error> {
        match failure.as_ref().map(io::Error::kind) {
            None => {}
            Some(io::ErrorKind::WouldBlock) => {
                let sources = self.sources.borrow();
                if let Some(source) = sources.get(key) {
                    source.would_block(direction);
                    if source.waits(direction, asker) {
                        return Poll::Pending;
                    }
                }
            }
            // By a signal: tried again when it is the task's turn again.
            Some(io::ErrorKind::Interrupted) => {
                asker.waker.wake_by_ref();
                return Poll::Pending;
            }
            Some(_) => return failure.map_or(Poll::Pending, Poll::Ready),
        }
        match self.poll_ready(key, direction, asker) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(error),
            // It became so while the waker was cloned.
            Poll::Ready(Ok(())) => {
                asker.waker.wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// Tries `operation` now; `WouldBlock` if that is known or turns out to be so. Nobody is woken when that changes.
    ///
    /// # Errors
    ///
    /// As [`poll_rarely`](Self::poll_rarely).
    pub(crate) fn try_attempt<T>(
        &self,
        key: SourceKey,
        direction: Direction,
        mut operation: impl FnMut() -> io::Result<T>,
        exhausts: impl Fn(&T) -> bool,
    ) -> io::Result<T> {
        let sources = self.sources.borrow();
        let source = sources.get(key).ok_or_else(gone)?;
        while source.is_ready(direction) {
            match operation() {
                Ok(done) => {
                    if exhausts(&done) {
                        source.fell_short(direction);
                    }
                    return Ok(done);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => source.would_block(direction),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Waits as told and remembers what the events say. Tasks that waited for it are handed to `wake`, which only
    /// queues; the wakers of others are appended to `woken`, for the caller to wake.
    ///
    /// # Errors
    ///
    /// What the kernel says of the poll set itself, which would be a defect of this crate. A signal is none: the
    /// turn ends early.
    #[inline]
    pub(crate) fn turn(
        &self,
        wait: Wait,
        wake: impl FnMut(Packed),
        woken: &mut Vec<Waker>,
    ) -> io::Result<()> {
        let timeout = match wait {
            Wait::No => Some(Duration::ZERO),
            Wait::Until(deadline) => self.alarm.set(deadline)?,
            Wait::Forever => None,
        };
        let mut driver = self.driver.borrow_mut();
        let Driver { poll, events } = &mut *driver;
        match poll.poll(events, timeout) {
            Ok(()) => self.take_in(events, wake, woken),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    #[cfg(test)]
    /// How many events of sources came so far.
    pub(crate) fn events_seen(&self) -> u64 {
        self.events_seen.get()
    }

    #[cfg(test)]
    /// How many sources are registered.
    pub(crate) fn len(&self) -> usize {
        self.sources.borrow().len()
    }

    #[inline]
    fn take_in(&self, events: &Events, mut wake: impl FnMut(Packed), woken: &mut Vec<Waker>) {
        let sources = self.sources.borrow();
        let mut seen = 0;
        for event in events {
            match event.token() {
                ALARM => self.alarm.rang(),
                // It is there to end the wait, and has.
                BELL => {}
                token => {
                    seen += 1;
                    // Without one it is no longer registered, but a duplicate of its descriptor keeps it in the poll set.
                    if let Some(source) = sources.get(SourceKey::from(token)) {
                        source.take_in(Ready::of(event), &mut wake, woken);
                    }
                }
            }
        }
        self.events_seen.set(self.events_seen.get() + seen);
    }

    /// Lets a new waiter in for whatever waits there. That may run foreign code, by the clone of a waker or the drop of
    /// another; so everything is looked at again after the one, and nothing is borrowed during the other.
    #[cold]
    fn park(&self, key: SourceKey, direction: Direction, asker: Asker<'_>) -> Poll<io::Result<()>> {
        let waiter = asker.waiter();
        let spare = match self.sources.borrow().get(key) {
            None => return Poll::Ready(Err(gone())),
            Some(source) if source.is_ready(direction) => return Poll::Ready(Ok(())),
            Some(source) => source.park(direction, waiter),
        };
        drop(spare);
        Poll::Pending
    }

    fn forget(&self, key: SourceKey) {
        // Bound to a variable, so that the wakers in it are dropped after the borrow.
        let removed = self.sources.borrow_mut().remove(key);
        drop(removed);
    }
}

#[cold]
fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the source is no longer registered with its runtime")
}

#[cfg(test)]
mod tests;
