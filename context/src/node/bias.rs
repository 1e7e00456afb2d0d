//! A lock that costs its owner nothing. Fenced.
//!
//! A thread's registry is changed by that thread at every context that comes or goes, and read by others when somebody
//! looks at the books. So the lock is *biased*: the owner enters by two plain stores and a load. Whoever else comes takes
//! the bias away first, and then both use a mutex; the owner takes it back after a while without visits.
//!
//! ```text
//!   the owner                                 any other thread
//!   ---------                                 ----------------
//!   busy = true                               lock the mutex
//!   (light barrier)                           if biased:
//!   biased?                                       biased = false
//!     yes: the section; busy = false              (heavy barrier)
//!     no:  busy = false                           wait until not busy
//!          lock the mutex                     the section
//!          biased = true, if the last         unlock
//!            visit was long ago
//!          the section
//!          unlock
//! ```
//!
//! Why never two at a time: `biased` is written under the mutex only, so of two that hold the mutex one waits. An owner
//! without the mutex has read `biased == true`. Either it read that after the barrier of whoever took the bias away last;
//! then it was given back since, by the owner itself, under the mutex, and everybody who came before is gone. Or it read
//! it before the barrier; then its `busy = true` stands before its reading and so before the barrier, and the other sees
//! it and waits. What each wrote in its section the next sees: by the mutex, or by `busy = false` (release, acquire). The
//! model below goes through all interleavings.
//!
//! What it costs: a visitor half a microsecond once in [`PATIENCE`] entries of the owner, and longer if the owner loses
//! its CPU in the ten nanoseconds of a section.
#![allow(unsafe_code)]

use crate::barrier;
use parking_lot::{Mutex, MutexGuard};
use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

/// How many times the owner uses the mutex after a visit, before it bothers to take the bias back: contexts that end on
/// other threads cost a mutex each then, as they would without all this.
const PATIENCE: u32 = 1_000;

pub(super) struct Biased<T> {
    biased: AtomicBool,
    busy: AtomicBool,
    /// How often the owner is still to use the mutex before it takes the bias back.
    patience: Mutex<u32>,
    value: UnsafeCell<T>,
}

// SAFETY: only one thread at a time reaches the value (see above), so it need not be `Sync`.
unsafe impl<T: Send> Sync for Biased<T> {}

impl<T> Biased<T> {
    pub(super) const fn new(value: T) -> Self {
        Self {
            biased: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            patience: Mutex::new(0),
            value: UnsafeCell::new(value),
        }
    }

    /// The value, alone; `as_owner` is whether the caller is the owner.
    ///
    /// # Safety
    ///
    /// - At most one thread is the owner at a time; another one becomes it after a [`lock`](Self::lock) that followed the
    ///   last entry of the one before.
    /// - While the owner is inside it neither enters nor locks again: it calls nothing that it does not know.
    #[inline(always)]
    pub(super) unsafe fn enter(&self, as_owner: bool) -> Inside<'_, T> {
        if as_owner {
            self.busy.store(true, Ordering::Relaxed);
            barrier::light();
            if self.biased.load(Ordering::Relaxed) {
                return Inside { lock: self, by_mutex: None };
            }
        }
        self.enter_by_mutex(as_owner)
    }

    #[cold]
    #[inline(never)]
    fn enter_by_mutex(&self, as_owner: bool) -> Inside<'_, T> {
        if !as_owner {
            return self.lock();
        }
        self.busy.store(false, Ordering::Release);
        let mut patience = self.patience.lock();
        if *patience > 0 {
            *patience -= 1;
        } else {
            // Nobody reads it before the mutex is free.
            self.biased.store(barrier::is_available(), Ordering::Relaxed);
        }
        Inside { lock: self, by_mutex: Some(patience) }
    }

    /// The same for any thread, the owner included.
    pub(super) fn lock(&self) -> Inside<'_, T> {
        let mut patience = self.patience.lock();
        if self.biased.load(Ordering::Relaxed) {
            self.biased.store(false, Ordering::Relaxed);
            barrier::heavy();
            while self.busy.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
        }
        *patience = PATIENCE;
        Inside { lock: self, by_mutex: Some(patience) }
    }
}

/// The value, as long as this thread has it.
pub(super) struct Inside<'a, T> {
    lock: &'a Biased<T>,
    /// `None`: this is the owner, and biased.
    by_mutex: Option<MutexGuard<'a, u32>>,
}

impl<T> Deref for Inside<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: this thread is alone inside, as is shown above.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Inside<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Inside<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.by_mutex.is_none() {
            self.lock.busy.store(false, Ordering::Release);
        }
    }
}

impl<T> fmt::Debug for Biased<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Biased").field("biased", &self.biased).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The owner and one visitor, or two, at the grain of single steps, on a machine that keeps each thread's stores back
    /// in order for as long as it likes. Instructions with a lock prefix write all back first.
    #[derive(Clone, PartialEq, Eq, Hash, Debug)]
    struct Model {
        biased: bool,
        busy: bool,
        /// Who holds the mutex.
        mutex: Option<usize>,
        patience: u8,
        /// Stores of the owner to `busy` that others do not see yet.
        kept: Vec<bool>,
        owner: Owner,
        visitors: [Visitor; 2],
        /// What is left to do.
        entries: u8,
        has_barrier: bool,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    enum Owner {
        Out,
        Announced,
        In,
        Refused,
        WantsMutex,
        InByMutex,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    enum Visitor {
        Out,
        HasMutex,
        TookBias,
        Waits,
        In,
        Gone,
    }

    impl Model {
        fn new(has_barrier: bool) -> Self {
            Self {
                biased: true,
                busy: false,
                mutex: None,
                patience: 0,
                kept: Vec::new(),
                owner: Owner::Out,
                visitors: [Visitor::Out; 2],
                entries: 4,
                has_barrier,
            }
        }

        fn inside(&self) -> usize {
            let visitors = self.visitors.iter().filter(|visitor| **visitor == Visitor::In).count();
            visitors + usize::from(matches!(self.owner, Owner::In | Owner::InByMutex))
        }

        fn is_done(&self) -> bool {
            self.entries == 0 && self.owner == Owner::Out && self.visitors == [Visitor::Gone; 2]
        }

        fn write_back(&mut self) {
            self.kept.drain(..).for_each(|busy| self.busy = busy);
        }

        fn next(&self) -> Vec<Self> {
            let mut all = Vec::new();
            if !self.kept.is_empty() {
                let mut to = self.clone();
                to.busy = to.kept.remove(0);
                all.push(to);
            }
            all.extend(self.step_of_owner());
            all.extend((0..2).filter_map(|n| self.step_of_visitor(n)));
            all
        }

        fn step_of_owner(&self) -> Option<Self> {
            let mut to = self.clone();
            to.owner = match self.owner {
                Owner::Out if self.entries == 0 => return None,
                Owner::Out => {
                    to.entries -= 1;
                    to.kept.push(true);
                    Owner::Announced
                }
                Owner::Announced if self.biased => Owner::In,
                Owner::Announced => Owner::Refused,
                Owner::In => {
                    to.kept.push(false);
                    Owner::Out
                }
                Owner::Refused => {
                    to.kept.push(false);
                    Owner::WantsMutex
                }
                Owner::WantsMutex if self.mutex.is_some() => return None,
                Owner::WantsMutex => {
                    to.write_back();
                    to.mutex = Some(9);
                    to.biased = self.patience == 0;
                    to.patience = self.patience.saturating_sub(1);
                    Owner::InByMutex
                }
                Owner::InByMutex => {
                    to.mutex = None;
                    Owner::Out
                }
            };
            Some(to)
        }

        fn step_of_visitor(&self, n: usize) -> Option<Self> {
            let mut to = self.clone();
            to.visitors[n] = match self.visitors[n] {
                Visitor::Out if self.mutex.is_some() => return None,
                Visitor::Out => {
                    to.mutex = Some(n);
                    Visitor::HasMutex
                }
                Visitor::HasMutex if self.biased => {
                    to.biased = false;
                    Visitor::TookBias
                }
                Visitor::HasMutex => Visitor::In,
                Visitor::TookBias => {
                    if self.has_barrier {
                        to.write_back();
                    }
                    Visitor::Waits
                }
                Visitor::Waits if self.busy => return None,
                Visitor::Waits => Visitor::In,
                Visitor::In => {
                    to.patience = 1;
                    to.mutex = None;
                    Visitor::Gone
                }
                Visitor::Gone => return None,
            };
            Some(to)
        }
    }

    /// How many states there are, and whether two were inside in one of them.
    fn explore(first: Model) -> (usize, bool) {
        let (mut seen, mut todo) = (HashSet::from([first.clone()]), vec![first]);
        let mut clashed = false;
        while let Some(model) = todo.pop() {
            clashed |= model.inside() > 1;
            let after = model.next();
            assert!(!after.is_empty() || model.is_done(), "stuck: {model:?}");
            todo.extend(after.into_iter().filter(|model| seen.insert(model.clone())));
        }
        (seen.len(), clashed)
    }

    #[test]
    fn no_interleaving_lets_two_in() {
        let (states, clashed) = explore(Model::new(true));
        assert!(!clashed);
        assert!(states > 500, "{states}");
    }

    #[test]
    fn without_the_barrier_some_interleaving_does() {
        assert!(explore(Model::new(false)).1);
    }

    /// Two numbers that are equal whenever nobody is inside, and plain additions that would be lost.
    #[test]
    fn threads_that_visit_an_owner_lose_nothing() {
        const ENTRIES: u64 = 200_000;
        const VISITS: u64 = 300;
        let lock = Biased::new((0u64, 0u64));
        let add = |pair: &mut (u64, u64)| {
            assert_eq!(pair.0, pair.1);
            pair.0 += 1;
            std::hint::black_box(&mut *pair);
            pair.1 += 1;
        };
        let visitors = std::thread::scope(|scope| {
            let visitors: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        (0..VISITS).for_each(|_| {
                            add(&mut lock.lock());
                            std::thread::yield_now();
                        });
                    })
                })
                .collect();
            // SAFETY: this thread alone is the owner, and `add` enters nothing.
            let enter = || add(&mut *unsafe { lock.enter(true) });
            let mut entries = 0;
            while entries < ENTRIES || visitors.iter().any(|visitor| !visitor.is_finished()) {
                enter();
                entries += 1;
            }
            entries
        });
        assert_eq!(*lock.lock(), (visitors + 2 * VISITS, visitors + 2 * VISITS));
    }

    #[test]
    fn the_owner_takes_the_bias_back_after_a_while() {
        let lock = Biased::new(0);
        // SAFETY: as above.
        let enter = || *unsafe { lock.enter(true) } += 1;
        enter();
        assert_eq!(lock.biased.load(Ordering::Relaxed), barrier::is_available());
        drop(lock.lock());
        (0..PATIENCE).for_each(|_| enter());
        assert!(!lock.biased.load(Ordering::Relaxed));
        enter();
        assert_eq!(lock.biased.load(Ordering::Relaxed), barrier::is_available());
        assert_eq!(*lock.lock(), PATIENCE + 2);
    }
}
