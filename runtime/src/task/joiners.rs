//! Who waits for tasks.
//!
//! A joiner that is a task of the same runtime is its handle, in the slot of the task that it waits for: to register and
//! to wake it runs no foreign code and counts nothing. Wakers of all others are kept aside.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::task::Waker;

use crate::handle::Packed;
use crate::task::slots::Slot;

/// Who waits for a task.
pub(crate) enum Joiner {
    /// A task of this runtime.
    Task(Packed),
    /// Anyone else.
    Foreign(Waker),
}

/// Nobody waits. No handle of a task has these bits: no runtime has that index.
pub(crate) const NO_JOINER: Packed = Packed::from_bits(u64::MAX);
/// Somebody waits whose waker is kept aside.
pub(crate) const FOREIGN_JOINER: Packed = Packed::from_bits(u64::MAX - 1);

/// The wakers that are kept aside, by slot.
#[derive(Default)]
pub(crate) struct Joiners {
    foreign: Cell<BTreeMap<u32, Waker>>,
}

impl Joiners {
    /// `joiner` waits from now on, and nobody else.
    #[inline]
    pub(crate) fn register(&self, slot: &Slot, joiner: Packed) {
        if slot.joiner.replace(joiner) == FOREIGN_JOINER {
            drop(self.take_foreign(slot));
        }
    }

    /// The same for a waker, unless one that wakes the same is there.
    ///
    /// Clones and drops wakers: foreign code may run, and unwind, when everything is written.
    #[cold]
    pub(crate) fn register_foreign(&self, slot: &Slot, waker: &Waker) {
        let is_foreign = slot.joiner.get() == FOREIGN_JOINER;
        let old = if is_foreign { self.take_foreign(slot) } else { None };
        let (kept, dropped) = match old {
            Some(old) if old.will_wake(waker) => (old, None),
            old => (waker.clone(), old),
        };
        slot.joiner.set(FOREIGN_JOINER);
        let mut all = self.foreign.take();
        all.insert(slot.number(), kept);
        self.foreign.set(all);
        drop(dropped);
    }

    /// Who waits, and nobody waits any more.
    #[inline]
    pub(crate) fn take(&self, slot: &Slot) -> Option<Joiner> {
        match slot.joiner.replace(NO_JOINER) {
            NO_JOINER => None,
            FOREIGN_JOINER => self.take_foreign(slot).map(Joiner::Foreign),
            task => Some(Joiner::Task(task)),
        }
    }

    #[cold]
    fn take_foreign(&self, slot: &Slot) -> Option<Waker> {
        let mut all = self.foreign.take();
        let waker = all.remove(&slot.number());
        self.foreign.set(all);
        waker
    }
}
