//! A source of events and its registration with the runtime it was made on: what sockets and signals are made of.
//!
//! The registration is a number, not a pointer, so the whole may be sent and shared. Used away from home it says so by an
//! error; dropped there it sends a message home, where the registration is forgotten. (The source itself is closed at
//! once; the reactor ignores what may still be reported of it.)

use std::fmt;
use std::io;
use std::task::{self, Poll, Waker};

use mio::Interest;
use mio::event::Source;

use crate::current::{self, Core};
use crate::error;
use crate::handle::{Packed, RuntimeId};
use crate::inbox;
use crate::reactor::{Asker, Attempt, Direction, Initially, SourceKey};
use crate::waker;

/// A source that is registered with the runtime of the thread it was made on.
pub(crate) struct Registered<S> {
    // In this order: forgotten first, then closed.
    registration: Registration,
    source: S,
}

impl<S: Source> Registered<S> {
    /// Registers with the runtime of this thread. `what` names the source in errors: "a TCP stream".
    ///
    /// # Errors
    ///
    /// If there is no runtime, or the kernel's limit of watched descriptors is reached.
    pub(crate) fn new(
        mut source: S,
        interest: Interest,
        is: Initially,
        what: &'static str,
    ) -> io::Result<Self> {
        let registration = current::with(|core| {
            let core = core.ok_or_else(|| no_runtime(what))?;
            let key = core.reactor.register(&mut source, interest, is)?;
            Ok::<_, io::Error>(Registration { runtime: core.id, key, what })
        })?;
        Ok(Self { registration, source })
    }

    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    /// The source, no longer registered.
    ///
    /// # Errors
    ///
    /// Away from home; the source is closed then.
    pub(crate) fn into_source(mut self) -> io::Result<S> {
        let key = self.registration.key;
        let source = &mut self.source;
        self.registration.at_home(|core| {
            core.reactor.deregister(key, Some(source));
            Ok(())
        })?;
        Ok(self.source)
    }

    /// Ready if an attempt in this direction may succeed.
    pub(crate) fn poll_ready(
        &self,
        direction: Direction,
        cx: &mut task::Context<'_>,
    ) -> Poll<io::Result<()>> {
        let key = self.registration.key;
        let waker = cx.waker();
        self.poll_at_home(waker, |core| {
            core.reactor.poll_ready(key, direction, Asker { task: task(core, waker), waker })
        })
    }

    /// Tries `operation`, a system call and no more, if it may succeed, and waits if it may not or says `WouldBlock`.
    pub(crate) fn poll_with<T>(
        &self,
        direction: Direction,
        cx: &mut task::Context<'_>,
        operation: impl FnOnce(&S) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        self.poll_attempt(direction, cx, operation, |_| false)
    }

    /// Like [`poll_with`](Self::poll_with), for a stream that is asked to move `wanted` bytes. If it moves fewer, it would
    /// move none the next time, so that system call is saved.
    #[inline]
    pub(crate) fn poll_transfer(
        &self,
        direction: Direction,
        wanted: usize,
        cx: &mut task::Context<'_>,
        operation: impl FnOnce(&S) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.poll_attempt(direction, cx, operation, |moved| is_short(*moved, wanted))
    }

    /// Tries `operation` now; `WouldBlock` if that is known or turns out to be so.
    pub(crate) fn try_with<T>(
        &self,
        direction: Direction,
        operation: impl FnMut(&S) -> io::Result<T>,
    ) -> io::Result<T> {
        self.try_attempt(direction, operation, |_| false)
    }

    /// [`try_with`](Self::try_with), with what [`poll_transfer`](Self::poll_transfer) adds.
    pub(crate) fn try_transfer(
        &self,
        direction: Direction,
        wanted: usize,
        operation: impl FnMut(&S) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.try_attempt(direction, operation, |moved| is_short(*moved, wanted))
    }

    #[inline]
    fn poll_attempt<T>(
        &self,
        direction: Direction,
        cx: &mut task::Context<'_>,
        operation: impl FnOnce(&S) -> io::Result<T>,
        exhausts: impl FnOnce(&T) -> bool,
    ) -> Poll<io::Result<T>> {
        let (key, source, waker) = (self.registration.key, &self.source, cx.waker());
        self.poll_at_home(waker, |core| {
            let task = || task(core, waker);
            match core.reactor.attempt(key, direction, task, || operation(source), exhausts) {
                Attempt::Done(done) => Poll::Ready(Ok(done)),
                Attempt::Waiting => Poll::Pending,
                Attempt::Failed(error) => poll_rarely(core, key, direction, waker, Some(error)).map(Err),
                Attempt::NotMade => poll_rarely(core, key, direction, waker, None).map(Err),
            }
        })
    }

    fn try_attempt<T>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&S) -> io::Result<T>,
        exhausts: impl Fn(&T) -> bool,
    ) -> io::Result<T> {
        let (key, source) = (self.registration.key, &self.source);
        self.registration
            .at_home(|core| core.reactor.try_attempt(key, direction, || operation(source), exhausts))
    }

    /// One leaf operation, by the runtime that knows this source.
    #[inline]
    fn poll_at_home<T>(
        &self,
        waker: &Waker,
        operation: impl FnOnce(&Core) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        current::with(|core| match core {
            Some(core) if core.id == self.registration.runtime => core.poll_leaf(waker, || operation(core)),
            _ => Poll::Ready(Err(error::wrong_thread(self.registration.what))),
        })
    }
}

/// The task of this runtime that the waker wakes. It may be that of a task of another, which is polled here by somebody's
/// hand.
#[inline]
fn task(core: &Core, waker: &Waker) -> Option<Packed> {
    waker::target(waker).filter(|task| task.runtime() == core.index)
}

#[cold]
#[inline(never)]
fn poll_rarely(
    core: &Core,
    key: SourceKey,
    direction: Direction,
    waker: &Waker,
    failure: Option<io::Error>,
) -> Poll<io::Error> {
    core.reactor.poll_rarely(key, direction, Asker { task: task(core, waker), waker }, failure)
}

impl<S: fmt::Debug> fmt::Debug for Registered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

/// 0 of a read is the end of the stream, which stays readable.
#[inline]
fn is_short(moved: usize, wanted: usize) -> bool {
    0 < moved && moved < wanted
}

/// Forgotten by the reactor when it is dropped.
struct Registration {
    runtime: RuntimeId,
    key: SourceKey,
    what: &'static str,
}

impl Registration {
    fn at_home<T>(&self, f: impl FnOnce(&Core) -> io::Result<T>) -> io::Result<T> {
        current::with(|core| match core {
            Some(core) if core.id == self.runtime => f(core),
            _ => Err(error::wrong_thread(self.what)),
        })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        forget(self.runtime, self.key);
    }
}

/// The descriptor is closed by its owner, which takes it out of the poll set: one system call less.
fn forget(runtime: RuntimeId, key: SourceKey) {
    let here = current::with(|core| {
        core.filter(|core| core.id == runtime).map(|core| core.reactor.deregister(key, None))
    });
    if here.is_none() {
        // A runtime that is gone has forgotten it already.
        let _ = inbox::send(runtime, Box::new(move || forget(runtime, key)));
    }
}

fn no_runtime(what: &str) -> io::Error {
    if context::harness::has_forked() {
        return io::Error::other(context::harness::FORKED);
    }
    io::Error::other(format!(
        "there is no runtime on this thread for {what}: make it within `Runtime::block_on`"
    ))
}

#[cfg(test)]
mod tests {
    use crate::net::UnixStream;
    use crate::time::sleep;
    use crate::{Runtime, current};
    use futures_lite::{AsyncReadExt, AsyncWriteExt};
    use std::future::{Future, pending, poll_fn};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    fn paused() -> Runtime {
        Runtime::builder().paused(true).build().unwrap()
    }

    fn index(runtime: &Runtime) -> u16 {
        runtime.block_on(async { current::with(|core| core.unwrap().index) })
    }

    /// A runtime has the same slots, timers and sources as the one before it, and soon the same index.
    #[test]
    fn r3_trap_08_handles_of_a_dead_runtime_touch_nothing_of_the_one_that_has_its_index() {
        let dead = paused();
        let (mut old_sleeps, old_sockets, mut old_tasks) = dead.block_on(async {
            let mut sleeps: Vec<_> = (0..3).map(|_| Box::pin(sleep(Duration::from_secs(60)))).collect();
            poll_fn(|cx| {
                sleeps.iter_mut().for_each(|sleep| assert!(sleep.as_mut().poll(cx).is_pending()));
                Poll::Ready(())
            })
            .await;
            let tasks: Vec<_> = (0..3).map(|_| crate::spawn(pending::<()>())).collect();
            (sleeps, UnixStream::pair().unwrap(), tasks)
        });
        let dead_index = index(&dead);
        drop(dead);
        let heir = std::iter::repeat_with(paused).find(|heir| index(heir) == dead_index).unwrap();
        heir.block_on(async {
            let sleepers: Vec<_> = (0..3).map(|_| crate::spawn(sleep(Duration::from_millis(50)))).collect();
            let (mut near, mut far) = UnixStream::pair().unwrap();
            let reader = crate::spawn(async move {
                let mut text = [0; 2];
                near.read_exact(&mut text).await.map(|()| text)
            });
            crate::yield_now().await;
            assert!(!old_sleeps[0].is_elapsed(), "what became of it is not known");
            let later = old_sleeps[1].deadline() + Duration::from_secs(60);
            old_sleeps[1].as_mut().get_mut().reset(later);
            assert!(old_tasks.iter().all(|task| task.is_finished()));
            old_tasks[0].abort();
            let mut cx = Context::from_waker(Waker::noop());
            let Poll::Ready(Err(error)) = pin!(&mut old_tasks[1]).poll(&mut cx) else {
                panic!("it never ends")
            };
            assert!(error.is_cancelled(), "{error}");
            drop((old_sleeps, old_sockets, old_tasks));
            far.write_all(b"hi").await.unwrap();
            assert_eq!(reader.await.unwrap().unwrap(), *b"hi");
            for sleeper in sleepers {
                sleeper.await.unwrap();
            }
        });
    }
}
