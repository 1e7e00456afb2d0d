//! Open, held or finished: one word, so that a hold, a finish and those who wait for one never miss each other.
//!
//! `models` checks this file, as it is, in every order in which threads may run it.

use super::atomics::{AtomicBool, AtomicU64, Ordering};

/// Open: how many holds there are, and [`WANTED`] if it is to finish with the last of them. Finished: [`FINISHED`] and the
/// wall ticks at that time.
#[derive(Debug)]
pub(super) struct Life(AtomicU64);

const FINISHED: u64 = 1 << 63;
const WANTED: u64 = 1 << 62;

impl Life {
    /// The word of an open context is 0.
    pub(super) const fn new(word: AtomicU64) -> Self {
        Self(word)
    }

    /// Open, and nobody holds it. The caller has it alone.
    #[inline]
    pub(super) fn begin(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether this call is the one that finishes it. If it is held, the last hold will.
    #[inline]
    pub(super) fn finish(&self, now: u64) -> bool {
        let finished = FINISHED | now;
        self.0.compare_exchange(0, finished, Ordering::SeqCst, Ordering::Relaxed).is_ok()
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
        let before = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        matches!(before, Ok(0 | WANTED))
    }

    /// The same for who has it alone, when nobody is left to ask for the time.
    #[inline]
    pub(super) fn finish_alone(&self) -> bool {
        let is_open = matches!(self.0.load(Ordering::Relaxed), 0 | WANTED);
        if is_open {
            self.0.store(FINISHED | 1, Ordering::Release);
        }
        is_open
    }

    #[inline]
    pub(super) fn finished_at(&self) -> Option<u64> {
        let life = self.0.load(Ordering::Acquire);
        (life & FINISHED != 0).then_some(life & !FINISHED)
    }

    /// Says `what`, which the one who finishes looks for afterwards ([`was_said`]), then looks whether that has happened
    /// already. All is SeqCst, so at least one of the two sees the other.
    pub(super) fn say_unless_finished(&self, what: &AtomicBool) -> bool {
        what.store(true, Ordering::SeqCst);
        self.0.load(Ordering::SeqCst) & FINISHED == 0
    }

    /// Keeps it open until [`release`](Self::release). False if it has finished.
    pub(super) fn hold(&self) -> bool {
        let next = |life| (life & FINISHED == 0).then_some(life + 1);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok()
    }

    /// Ends one hold. Whether it was the last of a context that is to finish: the caller finishes it.
    pub(super) fn release(&self) -> bool {
        self.0.fetch_sub(1, Ordering::SeqCst) == WANTED + 1
    }

    /// Whether it is to finish and nobody holds it any more.
    pub(super) fn is_released(&self) -> bool {
        self.0.load(Ordering::SeqCst) == WANTED
    }
}

/// After a finish: see [`Life::say_unless_finished`].
#[inline]
pub(super) fn was_said(what: &AtomicBool) -> bool {
    what.load(Ordering::SeqCst)
}
