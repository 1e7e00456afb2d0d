//! The word which the kernel changes when it switches this thread out.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
    compiler_fence,
};

use super::{perf_page, rseq};

/// What a mark that never holds points at; [`Mark::armed`] is then a value it does not have.
static NEVER: AtomicU64 = AtomicU64::new(0);
const UNLIKE_NEVER: u64 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Never intact: every stamp reads the real clock.
    Never,
    /// The `rseq_cs` slot: we write our descriptor's address, the kernel clears it.
    Rseq,
    /// The perf page: we note its `lock`, the kernel counts it up.
    PerfPage,
}

/// A mark belongs to the thread that made it. It is neither `Send` nor `Sync` (raw pointer, cells), and has no `Drop`,
/// so that it can live in a thread-local without destructor: [`release`](Mark::release) is called by the owner.
///
/// All kinds answer [`intact`](Mark::intact) with the same two loads and a comparison, so the hot path has no branch on
/// the kind.
pub(super) struct Mark {
    word: Cell<*const AtomicU64>,
    armed: Cell<u64>,
    kind: Cell<Kind>,
    /// What `word` and `armed` were before a fork that is going on.
    suspended: Cell<Option<(*const AtomicU64, u64)>>,
}

impl Mark {
    /// A mark that is never intact.
    pub(super) const fn never() -> Mark {
        Mark {
            word: Cell::new(&raw const NEVER),
            armed: Cell::new(UNLIKE_NEVER),
            kind: Cell::new(Kind::Never),
            suspended: Cell::new(None),
        }
    }

    /// Uses this thread's `rseq_cs` slot. False if the thread has none.
    pub(super) fn use_rseq(&self) -> bool {
        self.release();
        let Some(slot) = rseq::slot() else { return false };
        self.set(Kind::Rseq, slot.as_ptr(), rseq::descriptor());
        true
    }

    /// Opens a perf event and uses its page. False if the kernel refuses.
    pub(super) fn use_perf_page(&self) -> bool {
        self.release();
        let Some(word) = perf_page::open() else { return false };
        self.set(Kind::PerfPage, word.as_ptr(), perf_page::NEVER_LOCKED);
        true
    }

    /// Disarms, gives back what the mark holds, and is never intact from here on.
    pub(super) fn release(&self) {
        let (kind, word) = (self.kind.get(), self.word.get());
        let ours = self.intact();
        self.set(Kind::Never, &raw const NEVER, UNLIKE_NEVER);
        match kind {
            Kind::Never => {}
            // Another user of rseq may have put its own descriptor there: not ours to clear.
            Kind::Rseq if ours => rseq::disarm(),
            Kind::Rseq => {}
            Kind::PerfPage => perf_page::close(word),
        }
    }

    /// Before a fork: never intact until [`resume`](Mark::resume), so that whatever runs in the child does not read a page which
    /// that does not have.
    pub(super) fn suspend(&self) {
        self.suspended.set(Some((self.word.get(), self.armed.get())));
        self.set(self.kind.get(), &raw const NEVER, UNLIKE_NEVER);
    }

    /// After the fork, in the parent.
    pub(super) fn resume(&self) {
        if let Some((word, armed)) = self.suspended.take() {
            self.set(self.kind.get(), word, armed);
        }
    }

    /// In a forked child: never intact any more. What it had is not given back: a page is not there, and where it was another
    /// handler of the fork may have mapped its own.
    pub(super) fn abandon(&self) {
        self.suspended.set(None);
        self.set(Kind::Never, &raw const NEVER, UNLIKE_NEVER);
    }

    /// Sets the mark: from here on [`intact`](Mark::intact) says whether the thread has been on its CPU ever since.
    pub(super) fn arm(&self) {
        match self.kind.get() {
            Kind::Never => {}
            Kind::Rseq => self.word().store(self.armed.get(), Relaxed),
            Kind::PerfPage => self.armed.set(self.word().load(Relaxed)),
        }
        compiler_fence(SeqCst);
    }

    /// True if the thread has not been switched out since [`arm`](Mark::arm).
    ///
    /// What was read before this call in program order was read before the switch, if there was one: interrupts are
    /// precise, so only the compiler must be kept from reordering. Anything but our own value counts as cleared, also a
    /// descriptor which somebody else (tcmalloc, librseq) has put into the slot.
    #[inline(always)]
    pub(super) fn intact(&self) -> bool {
        compiler_fence(SeqCst);
        self.word().load(Relaxed) == self.armed.get()
    }

    fn set(&self, kind: Kind, word: *const AtomicU64, armed: u64) {
        self.kind.set(kind);
        self.word.set(word);
        self.armed.set(armed);
    }

    #[inline(always)]
    fn word(&self) -> &AtomicU64 {
        // SAFETY: `word` is never null. It points at `NEVER` (static), at the rseq area of this thread, which lives as
        // long as the thread and is only reached from it because `Mark` is neither Send nor Sync, or at a mapped page
        // which stays mapped until `release` has stopped pointing at it (in a child it is not mapped: see `suspend`).
        unsafe { &*self.word.get() }
    }
}
