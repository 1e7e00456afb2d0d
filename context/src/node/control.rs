//! The part of a context that changes rarely: finish, hooks, cancellation.

use super::late::Late;
use crate::cancel::{Cancelled, Waiters};
use crate::deadline::Deadline;
use crate::node::hooks::Observer;
use crate::usage::Usage;
use crate::value::Value;
use parking_lot::Mutex;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

pub(crate) type FinishHook = Box<dyn FnOnce(&Usage) + Send>;

pub(crate) struct Control {
    /// Open: how many holds there are, and [`WANTED`] if it is to finish with the last of them. Finished: [`FINISHED`] and
    /// the wall ticks at that time. One word, so that a hold and a finish never miss each other.
    life: AtomicU64,
    aside: Late<Aside>,
}

const FINISHED: u64 = 1 << 63;
const WANTED: u64 = 1 << 62;

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
    pub(crate) cpu_budget: Option<Duration>,
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
    pub(crate) own: AtomicU64,
    pub(crate) total: AtomicU64,
}

impl Control {
    pub(super) const fn new() -> Self {
        Self { life: AtomicU64::new(0), aside: Late::new() }
    }

    /// Of a new context. The old one left nothing: see [`end`](Self::end).
    #[inline]
    pub(super) fn begin(&mut self, aside: Option<Box<Aside>>) {
        *self.life.get_mut() = 0;
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
        let finished = FINISHED | now;
        self.life.compare_exchange(0, finished, Ordering::SeqCst, Ordering::Relaxed).is_ok()
            || self.finish_unusual(finished)
    }

    /// It is held, was held, or has finished.
    #[cold]
    #[inline(never)]
    fn finish_unusual(&self, finished: u64) -> bool {
        let next = |life| match life {
            0 | WANTED => Some(finished),
            held if held & FINISHED == 0 => Some(held | WANTED),
            _ => None,
        };
        let before = self.life.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        matches!(before, Ok(0 | WANTED))
    }

    /// The same for who has it alone, when nobody is left to ask for the time.
    #[inline]
    pub(super) fn finish_alone(&self) -> bool {
        let is_open = matches!(self.life.load(Ordering::Relaxed), 0 | WANTED);
        if is_open {
            self.life.store(FINISHED | 1, Ordering::Release);
        }
        is_open
    }

    #[inline]
    pub(crate) fn finished_at(&self) -> Option<u64> {
        let life = self.life.load(Ordering::Acquire);
        (life & FINISHED != 0).then_some(life & !FINISHED)
    }

    /// Keeps it open until [`release`](Self::release). False if it has finished.
    pub(crate) fn hold(&self) -> bool {
        let next = |life| (life & FINISHED == 0).then_some(life + 1);
        self.life.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok()
    }

    /// Ends one hold. Whether it was the last of a context that is to finish: the caller finishes it.
    pub(crate) fn release(&self) -> bool {
        self.life.fetch_sub(1, Ordering::SeqCst) == WANTED + 1
    }

    /// Stores a hook, or gives it back if the context has finished.
    pub(crate) fn add_hook(&self, hook: FinishHook) -> Result<(), FinishHook> {
        let aside = self.aside();
        let mut rare = aside.rare.lock();
        // First say that there are hooks, then look whether it has finished; `finish` does it the other way round. All
        // are SeqCst, so at least one of the two sees the other, and the lock sorts out the rest.
        aside.hooked.store(true, Ordering::SeqCst);
        if self.life.load(Ordering::SeqCst) & FINISHED != 0 {
            return Err(hook);
        }
        rare.hooks.push(hook);
        Ok(())
    }

    /// Whether hooks are to run at the finish, or somebody waits for it.
    #[inline]
    pub(crate) fn has_finish_work(&self) -> bool {
        let aside = self.aside.get();
        aside.is_some_and(|aside| aside.hooked.load(Ordering::SeqCst) || aside.awaited.load(Ordering::SeqCst))
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
        // First say that somebody waits, then look whether it has finished; a finish does it the other way round. All are
        // SeqCst, so at least one of the two sees the other.
        aside.awaited.store(true, Ordering::SeqCst);
        if self.cancelled().is_some() || self.life.load(Ordering::SeqCst) & FINISHED != 0 {
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
    /// Whether there is anything in it that may have a destructor of the user's.
    pub(crate) fn has_user_code(&self) -> bool {
        let Extras { values, fields: _, deadline: _, cpu_budget: _, observers } = &self.extras;
        let is_plain = values.is_empty() && observers.is_empty();
        !is_plain || self.hooked.load(Ordering::Relaxed) || !self.rare.lock().waiters.is_empty()
    }
}

impl fmt::Debug for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aside").field("fields", &self.extras.fields).finish_non_exhaustive()
    }
}
