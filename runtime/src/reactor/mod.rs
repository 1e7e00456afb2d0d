//! Readiness of sockets, and the one place where a runtime sleeps: mio, edge-triggered.
//!
//! A source is registered once, for as long as it lives. The kernel reports changes, the reactor remembers them as
//! bits, and an operation asks the bits first: a read that is known to block is never tried. The other half is
//! the caller's duty: having seen `WouldBlock` (or a short read or write) it clears the bit, or the
//! task spins.
//!
//! Wakers may be foreign: waking, cloning and dropping one may run any code, which may come back here. So none of
//! that happens while anything in here is borrowed: wakers are collected and handed to the caller, clones are
//! made before, and drops happen after.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod alarm;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[path = "alarm_coarse.rs"]
mod alarm;
// So that the twin is compiled and tested where it is not used.
#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod alarm_coarse;
mod ready;
mod source;

use std::cell::{Cell, RefCell};
use std::io;
use std::task::{self, Poll, Waker};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Token};

use alarm::Alarm;
use ready::Ready;
use source::{Asked, Sources};

pub(crate) use ready::Direction;
pub(crate) use source::SourceKey;

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

    /// Ready if an attempt in this direction may succeed; else the task is woken when that changes.
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
        cx: &mut task::Context<'_>,
    ) -> Poll<io::Result<()>> {
        // Bound to a variable, so that the borrow ends before the clone below.
        let asked = self.sources.borrow().ask(key, direction, cx.waker());
        match asked {
            Asked::Ready => Poll::Ready(Ok(())),
            Asked::Waiting => Poll::Pending,
            Asked::NotWaiting => self.park(key, direction, cx.waker().clone()),
            Asked::Gone => Poll::Ready(Err(gone())),
        }
    }

    /// Whether an attempt in this direction may succeed. Nobody is woken when that changes.
    pub(crate) fn is_ready(&self, key: SourceKey, direction: Direction) -> bool {
        matches!(self.sources.borrow().ask(key, direction, Waker::noop()), Asked::Ready)
    }

    /// After an attempt that said `WouldBlock`: not ready until the next event. Stale keys are ignored.
    pub(crate) fn clear_ready(&self, key: SourceKey, direction: Direction) {
        self.sources.borrow_mut().change(key, |ready| ready.without(direction));
    }

    /// After a stream's read or write that moved less than was asked for: the next would say `WouldBlock`, so
    /// that system call is saved. Unlike [`clear_ready`](Self::clear_ready) it leaves a direction ready that is
    /// known to be closed, as no event will come to announce its end again. Stale keys are ignored.
    pub(crate) fn clear_ready_unless_closed(&self, key: SourceKey, direction: Direction) {
        self.sources.borrow_mut().change(key, |ready| ready.without_unless_closed(direction));
    }

    /// Waits as told, remembers what the events say and appends the wakers of those who waited for it to `woken`.
    /// The caller wakes them.
    ///
    /// # Errors
    ///
    /// What the kernel says of the poll set itself, which would be a defect of this crate. A signal is none: the
    /// turn ends early.
    pub(crate) fn turn(&self, wait: Wait, woken: &mut Vec<Waker>) -> io::Result<()> {
        let timeout = match wait {
            Wait::No => Some(Duration::ZERO),
            Wait::Until(deadline) => self.alarm.set(deadline)?,
            Wait::Forever => None,
        };
        let mut driver = self.driver.borrow_mut();
        let Driver { poll, events } = &mut *driver;
        match poll.poll(events, timeout) {
            Ok(()) => self.take_in(events, woken),
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

    fn take_in(&self, events: &Events, woken: &mut Vec<Waker>) {
        let mut sources = self.sources.borrow_mut();
        let mut seen = 0;
        for event in events {
            match event.token() {
                ALARM => self.alarm.rang(),
                // It is there to end the wait, and has.
                BELL => {}
                token => {
                    seen += 1;
                    sources.take_in(SourceKey::from(token), Ready::of(event), woken);
                }
            }
        }
        self.events_seen.set(self.events_seen.get() + seen);
    }

    /// Apart from `poll_ready`, which has to clone the waker first: that may have run foreign code, so everything
    /// is looked at again.
    fn park(&self, key: SourceKey, direction: Direction, waker: Waker) -> Poll<io::Result<()>> {
        // The second part is dropped on return, after the borrow.
        let (asked, _spare) = self.sources.borrow_mut().park(key, direction, waker);
        match asked {
            Asked::Ready => Poll::Ready(Ok(())),
            Asked::Waiting | Asked::NotWaiting => Poll::Pending,
            Asked::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn forget(&self, key: SourceKey) {
        // Bound to a variable, so that the wakers in it are dropped after the borrow.
        let removed = self.sources.borrow_mut().remove(key);
        drop(removed);
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the source is no longer registered with its runtime")
}

#[cfg(test)]
mod tests;
