//! The part of a context that changes rarely: finish, hooks, cancellation.

use crate::cancel::{Cancelled, Waiters};
use crate::usage::Usage;
use parking_lot::Mutex;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

pub(crate) type FinishHook = Box<dyn FnOnce(&Usage) + Send>;

pub(crate) struct Control {
    /// Open: how many holds there are, and [`WANTED`] if it is to finish with the last of them. Finished: [`FINISHED`] and
    /// the wall ticks at that time. One word, so that a hold and a finish never miss each other.
    life: AtomicU64,
    /// There are hooks, or were.
    hooked: AtomicBool,
    /// There is something in `rare`, or was.
    touched: AtomicBool,
    /// First wins; never taken back.
    cancelled: OnceLock<Cancelled>,
    rare: Mutex<Rare>,
}

const FINISHED: u64 = 1 << 63;
const WANTED: u64 = 1 << 62;

#[derive(Default)]
struct Rare {
    hooks: Vec<FinishHook>,
    waiters: Waiters,
}

impl Control {
    pub(super) const fn new() -> Self {
        let rare = Rare { hooks: Vec::new(), waiters: Waiters::new() };
        Self {
            life: AtomicU64::new(0),
            hooked: AtomicBool::new(false),
            touched: AtomicBool::new(false),
            cancelled: OnceLock::new(),
            rare: Mutex::new(rare),
        }
    }

    /// Whether this call is the one that finishes it. If it is held, the last hold will.
    pub(crate) fn finish(&self, now: u64) -> bool {
        let next = |life| match life {
            0 | WANTED => Some(FINISHED | now),
            held if held & FINISHED == 0 => Some(held | WANTED),
            _ => None,
        };
        let before = self.life.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        matches!(before, Ok(0 | WANTED))
    }

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
        let mut rare = self.rare.lock();
        // First say that there are hooks, then look whether it has finished; `finish` does it the other way round. All
        // are SeqCst, so at least one of the two sees the other, and the lock sorts out the rest.
        self.hooked.store(true, Ordering::SeqCst);
        if self.life.load(Ordering::SeqCst) & FINISHED != 0 {
            return Err(hook);
        }
        self.touched.store(true, Ordering::Relaxed);
        rare.hooks.push(hook);
        Ok(())
    }

    /// Whether it owns anything that is to be dropped. For who has it alone.
    pub(super) fn is_bare(&self) -> bool {
        !self.touched.load(Ordering::Relaxed)
    }

    pub(crate) fn has_hooks(&self) -> bool {
        self.hooked.load(Ordering::SeqCst)
    }

    pub(crate) fn take_hooks(&self) -> Vec<FinishHook> {
        std::mem::take(&mut self.rare.lock().hooks)
    }

    pub(crate) fn cancelled(&self) -> Option<Cancelled> {
        self.cancelled.get().copied()
    }

    /// Whom to wake if this is the first cancellation.
    #[must_use = "the wakers are to be woken outside all locks"]
    pub(crate) fn cancel(&self, cancelled: Cancelled) -> Option<Vec<Waker>> {
        // Under the lock, so that a waiter either sees the reason or is seen here.
        let mut rare = self.rare.lock();
        self.cancelled.set(cancelled).ok()?;
        Some(rare.waiters.take())
    }

    /// Registers a waiter unless the context is cancelled already.
    pub(crate) fn wait(&self, key: &mut Option<usize>, waker: &Waker) -> Result<(), Cancelled> {
        let replaced = {
            let mut rare = self.rare.lock();
            if let Some(cancelled) = self.cancelled() {
                *key = None;
                return Err(cancelled);
            }
            self.touched.store(true, Ordering::Relaxed);
            rare.waiters.register(key, waker)
        };
        drop(replaced);
        Ok(())
    }

    pub(crate) fn stop_waiting(&self, key: usize) {
        let removed = {
            let mut rare = self.rare.lock();
            // A cancelled context has given all its waiters away; the key means nothing any more.
            if self.cancelled().is_none() { rare.waiters.remove(key) } else { None }
        };
        drop(removed);
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
