//! Waiting for a moment.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll, Waker};
use std::time::Duration;

use super::Instant;
use crate::current::{self, Core};
use crate::error;
use crate::handle::RuntimeId;
use crate::inbox;
use crate::timers::TimerKey;
use crate::waker;

/// Waits for `duration`, counted from this call. Never shorter, and usually less than 0.2 ms longer.
///
/// Nothing is registered before the first poll, and dropping it early costs next to nothing. It holds no context: a sleep
/// acts for whoever awaits it.
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// runtime::time::sleep(Duration::from_millis(1)).await;
/// # });
/// # Ok(())
/// # }
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(Instant::now().later(duration))
}

/// Waits until `deadline`.
///
/// ```
/// use runtime::time::{Instant, sleep_until};
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// let deadline = Instant::now() + Duration::from_millis(1);
/// sleep_until(deadline).await;
/// assert!(Instant::now() >= deadline);
/// # });
/// # Ok(())
/// # }
/// ```
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, timer: Timer::Unset }
}

/// The future of [`sleep`] and [`sleep_until`].
///
/// It belongs to the runtime that polls it first. It is `Send`, `Sync` and `Unpin`, so it goes into any struct, but is
/// awaited at home; it may be dropped anywhere.
///
/// # Panics
///
/// When polled where no runtime runs, or another than the one that polled it first.
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    deadline: Instant,
    timer: Timer,
}

enum Timer {
    /// Not polled since it was made or reset.
    Unset,
    /// A timer of that runtime. It has fired if that runtime does not know it any more.
    Set {
        runtime: RuntimeId,
        key: TimerKey,
    },
    Fired,
}

impl Sleep {
    /// When it ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the deadline has passed, as far as the runtime has noticed. One that was never polled has not noticed
    /// anything; of a runtime on another thread it is not known.
    pub fn is_elapsed(&self) -> bool {
        match self.timer {
            Timer::Unset => false,
            Timer::Set { runtime, key } => {
                at_home(runtime, |core| !core.timers.borrow().is_pending(key)).unwrap_or(false)
            }
            Timer::Fired => true,
        }
    }

    /// Moves the end to `deadline`, also if it has passed. A task that waits is woken then, without a further poll
    /// (at home; elsewhere it is the next poll that counts). Moving it later, as a timeout per request does, costs next to
    /// nothing.
    ///
    /// ```
    /// use runtime::time::{Instant, sleep};
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # runtime::Runtime::new()?.block_on(async {
    /// let mut sleep = sleep(Duration::from_secs(3600));
    /// sleep.reset(Instant::now());
    /// sleep.await;
    /// # });
    /// # Ok(())
    /// # }
    /// ```
    pub fn reset(&mut self, deadline: Instant) {
        self.deadline = deadline;
        let Timer::Set { runtime, key } = self.timer else {
            self.timer = Timer::Unset;
            return;
        };
        let still_set = at_home(runtime, |core| {
            let deadline = core.time.at(deadline.into_std());
            core.timers.borrow_mut().postpone(key, deadline)
        });
        if still_set != Some(true) {
            self.timer = Timer::Unset;
        }
        if still_set.is_none() {
            let_go(runtime, key);
        }
    }

    /// Whether it has ended; else the task is woken when it has. Asks nothing of the budget: for those who have asked.
    pub(super) fn poll_elapsed(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        current::with(|core| self.poll_on(core, cx))
    }

    fn poll_on(&mut self, core: Option<&Core>, cx: &mut task::Context<'_>) -> Poll<()> {
        let core = core.unwrap_or_else(|| current::none("there is no runtime on this thread to sleep on"));
        match self.timer {
            // The clock is not read: at worst a deadline that has passed just now is noticed at the end of the turn.
            Timer::Unset if self.deadline.into_std() > core.time.recent() => {
                self.set(core, cx.waker());
                Poll::Pending
            }
            Timer::Set { runtime, .. } if runtime != core.id => {
                panic!("{}", error::wrong_thread("a timer"))
            }
            Timer::Set { key, .. } if core.timers.borrow().is_pending(key) => {
                renew(core, key, cx.waker());
                Poll::Pending
            }
            Timer::Unset | Timer::Set { .. } | Timer::Fired => {
                self.timer = Timer::Fired;
                Poll::Ready(())
            }
        }
    }

    fn set(&mut self, core: &Core, waker: &Waker) {
        let deadline = core.time.at(self.deadline.into_std());
        let taken = core.timers.borrow_mut().take_over(deadline, waker);
        let key = taken.unwrap_or_else(|| insert(core, deadline, waker));
        self.timer = Timer::Set { runtime: core.id, key };
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        current::with(|core| match core {
            Some(home) => home.poll_leaf(cx.waker(), || self.poll_on(core, cx)),
            None => self.poll_on(None, cx),
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Timer::Set { runtime, key } = self.timer {
            let_go(runtime, key);
        }
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("deadline", &self.deadline)
            .field("elapsed", &self.is_elapsed())
            .finish_non_exhaustive()
    }
}

/// The clone of a waker may be foreign code, so it is made outside of the borrow.
fn insert(core: &Core, deadline: u64, waker: &Waker) -> TimerKey {
    let waker = waker.clone();
    core.timers.borrow_mut().insert(deadline, waker)
}

/// Lets the timer wake `waker`. Clones and drops may run foreign code, so they happen outside of the borrow.
fn renew(core: &Core, key: TimerKey, waker: &Waker) {
    if core.timers.borrow().will_wake(key, waker) {
        return;
    }
    let waker = waker.clone();
    let former = core.timers.borrow_mut().update(key, waker);
    drop(former);
}

/// Nobody waits for that timer any more; by a message, if its runtime runs elsewhere. The waker is dropped after the borrow.
fn let_go(runtime: RuntimeId, key: TimerKey) {
    let here = at_home(runtime, |core| core.timers.borrow_mut().let_go(key, is_a_number));
    if here.is_none() {
        // A runtime that is gone has no timers.
        let _ = inbox::send(runtime, Box::new(move || let_go(runtime, key)));
    }
}

/// Whether nothing happens when the waker is dropped.
fn is_a_number(waker: &Waker) -> bool {
    waker::target(waker).is_some()
}

/// Runs `f` with the core of that runtime, if it runs on this thread.
fn at_home<R>(runtime: RuntimeId, f: impl FnOnce(&Core) -> R) -> Option<R> {
    current::with(|core| core.filter(|core| core.id == runtime).map(f))
}
