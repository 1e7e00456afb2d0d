//! The part of a context that changes rarely: finish, hooks, cancellation.

use super::budget::Budget;
use super::late::Late;
use super::life::{Life, was_said};
use crate::cancel::{Cancelled, Waiters};
use crate::cells::Tally;
use crate::deadline::Deadline;
use crate::node::hooks::Observer;
use crate::usage::Usage;
use crate::value::Value;
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

pub(crate) type FinishHook = Box<dyn FnOnce(&Usage) + Send>;

pub(crate) struct Control {
    life: Life,
    aside: Late<Aside>,
}

/// What most contexts never have, in a box of its own: they pay a pointer for it.
#[derive(Default)]
pub(crate) struct Aside {
    /// What the context was made with; never changes afterwards.
    pub(crate) extras: Extras,
    /// There are hooks, or were.
    hooked: AtomicBool,
    /// Somebody waits for a cancellation or the finish.
    awaited: AtomicBool,
    /// First wins; never taken back.
    cancelled: OnceLock<Cancelled>,
    rare: Mutex<Rare>,
    shown: Shown,
}

/// Set when the context is built.
#[derive(Default)]
pub(crate) struct Extras {
    pub(crate) values: Vec<Value>,
    pub(crate) fields: Vec<(&'static str, Box<str>)>,
    /// Its own deadline, earlier than the parent's. If `None`, the nearest ancestor's applies.
    pub(crate) deadline: Option<Deadline>,
    /// Its own limit of the total CPU.
    pub(crate) cpu_budget: Option<Duration>,
    /// The nearest budget: its own or an ancestor's.
    pub(crate) budget: Option<Arc<Budget>>,
    pub(crate) observers: Vec<Observer>,
}

#[derive(Default)]
struct Rare {
    hooks: Vec<FinishHook>,
    waiters: Waiters,
}

/// The largest CPU that any reader was told, ns: a reading never decreases.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(crate) own: ShownCpu,
    pub(crate) total: ShownCpu,
}

/// One of the two.
#[derive(Debug, Default)]
pub(crate) struct ShownCpu {
    cpu: AtomicU64,
    late: AtomicU64,
}

impl ShownCpu {
    /// Raises `tally` to what was shown before.
    pub(super) fn recall(&self, tally: &mut Tally) {
        tally.cpu = tally.cpu.max(self.cpu.load(Ordering::Relaxed));
        tally.late_cpu = tally.late_cpu.max(self.late.load(Ordering::Relaxed));
    }

    /// The same, and remembers what is shown now.
    pub(super) fn remember(&self, tally: &mut Tally) {
        tally.cpu = self.cpu.fetch_max(tally.cpu, Ordering::Relaxed).max(tally.cpu);
        tally.late_cpu = self.late.fetch_max(tally.late_cpu, Ordering::Relaxed).max(tally.late_cpu);
    }
}

impl Control {
    pub(super) const fn new() -> Self {
        Self { life: Life::new(AtomicU64::new(0)), aside: Late::new() }
    }

    /// Of a new context. The old one left nothing: see [`end`](Self::end).
    #[inline]
    pub(super) fn begin(&mut self, aside: Option<Box<Aside>>) {
        self.life.begin();
        if aside.is_some() {
            self.aside.set(aside);
        }
    }

    /// The context is gone. What is to be dropped, outside all locks.
    #[inline]
    pub(super) fn end(&mut self) -> Option<Box<Aside>> {
        self.aside.take()
    }

    /// Whether this call is the one that finishes it. If it is held, the last hold will.
    #[inline]
    pub(crate) fn finish(&self, now: u64) -> bool {
        self.life.finish(now)
    }

    /// The same for who has it alone, when nobody is left to ask for the time.
    #[inline]
    pub(super) fn finish_alone(&self) -> bool {
        self.life.finish_alone()
    }

    #[inline]
    pub(crate) fn finished_at(&self) -> Option<u64> {
        self.life.finished_at()
    }

    /// Keeps it open until [`release`](Self::release). False if it has finished.
    pub(crate) fn hold(&self) -> bool {
        self.life.hold()
    }

    /// Ends one hold. Whether it was the last of a context that is to finish: the caller finishes it
    /// ([`is_released`](Self::is_released)).
    pub(crate) fn release(&self) -> bool {
        self.life.release()
    }

    /// Whether it is to finish and nobody holds it any more. Whoever released it last finishes it, unless somebody else does
    /// before, or holds it anew.
    pub(crate) fn is_released(&self) -> bool {
        self.life.is_released()
    }

    /// Stores a hook, or gives it back if the context has finished.
    pub(crate) fn add_hook(&self, hook: FinishHook) -> Result<(), FinishHook> {
        let aside = self.aside();
        let mut rare = aside.rare.lock();
        // A finish looks the other way round, and the lock sorts out the rest.
        if !self.life.say_unless_finished(&aside.hooked) {
            return Err(hook);
        }
        rare.hooks.push(hook);
        Ok(())
    }

    /// Whether hooks are to run at the finish, or somebody waits for it.
    #[inline]
    pub(crate) fn has_finish_work(&self) -> bool {
        let aside = self.aside.get();
        aside.is_some_and(|aside| was_said(&aside.hooked) || was_said(&aside.awaited))
    }

    pub(crate) fn take_hooks(&self) -> Vec<FinishHook> {
        self.aside.get().map(|aside| std::mem::take(&mut aside.rare.lock().hooks)).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn cancelled(&self) -> Option<Cancelled> {
        self.aside.get().and_then(|aside| aside.cancelled.get().copied())
    }

    /// Whom to wake if this is the first cancellation. A context that has finished is not cancelled any more.
    #[must_use = "the wakers are to be woken outside all locks"]
    pub(crate) fn cancel(&self, cancelled: Cancelled) -> Option<Vec<Waker>> {
        if self.cancelled().is_some() || self.finished_at().is_some() {
            return None;
        }
        let aside = self.aside();
        // Under the lock, so that a waiter either sees the reason or is seen here.
        let mut rare = aside.rare.lock();
        aside.cancelled.set(cancelled).ok()?;
        Some(rare.waiters.take())
    }

    /// Those who wait, after a finish: nobody comes to wait any more.
    #[must_use = "the wakers are to be woken outside all locks"]
    pub(crate) fn take_waiters(&self) -> Vec<Waker> {
        self.aside.get().map(|aside| aside.rare.lock().waiters.take()).unwrap_or_default()
    }

    /// Registers a waiter. False if there is nothing to wait for: the context was cancelled or has finished.
    pub(crate) fn wait(&self, key: &mut Option<usize>, waker: &Waker) -> bool {
        let aside = self.aside();
        if aside.rare.lock().waiters.has(*key, waker) {
            return true;
        }
        // A clone may be foreign code, and so may the drop of what it replaces: outside the lock.
        let fresh = waker.clone();
        let mut rare = aside.rare.lock();
        // A finish looks the other way round.
        if !self.life.say_unless_finished(&aside.awaited) || self.cancelled().is_some() {
            drop(rare);
            *key = None;
            return false;
        }
        let replaced = rare.waiters.register(key, fresh);
        drop(rare);
        drop(replaced);
        true
    }

    /// The waker, to be dropped by the caller. After a cancellation or a finish the key means nothing any more: all waiters
    /// were taken then, and none came after.
    pub(crate) fn stop_waiting(&self, key: usize) -> Option<Waker> {
        let aside = self.aside.get()?;
        let mut rare = aside.rare.lock();
        let removed = rare.waiters.remove(key);
        if rare.waiters.is_empty() {
            aside.awaited.store(false, Ordering::SeqCst);
        }
        removed
    }

    #[inline]
    pub(crate) fn has_aside(&self) -> bool {
        self.aside.get().is_some()
    }

    /// What it was made with besides a class, if anything.
    #[inline]
    pub(super) fn extras(&self) -> Option<&Extras> {
        self.aside.get().map(|aside| &aside.extras)
    }

    /// What readers were told, if they were told what may have to be remembered.
    pub(crate) fn shown(&self) -> Option<&Shown> {
        self.aside.get().map(|aside| &aside.shown)
    }

    /// The same, to be remembered from here on.
    pub(crate) fn show(&self) -> &Shown {
        &self.aside().shown
    }

    fn aside(&self) -> &Aside {
        self.aside.get_or_make(Aside::default)
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("finished_at", &self.finished_at())
            .field("cancelled", &self.cancelled())
            .finish_non_exhaustive()
    }
}

impl Aside {
    /// Whether there is anything in it that may have a destructor of the user's, or of the executor's: the clock of a deadline.
    pub(crate) fn has_user_code(&self) -> bool {
        let Extras { values, fields: _, deadline, cpu_budget: _, budget: _, observers } = &self.extras;
        let is_plain = values.is_empty() && observers.is_empty() && deadline.is_none();
        !is_plain || self.hooked.load(Ordering::Relaxed) || !self.rare.lock().waiters.is_empty()
    }
}

impl fmt::Debug for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aside").field("fields", &self.extras.fields).finish_non_exhaustive()
    }
}
