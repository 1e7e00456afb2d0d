//! The slice that runs on a thread now, for other threads: what it is worth, and how it is cut in two when its context
//! finishes meanwhile.
//!
//! One thread writes ([`Running::change`], [`Running::publish`]): its switches. Any thread reads, and any thread may
//! finish a context in which this one runs. What then ran before the finish belongs to the final bill, what comes after is
//! late; only the finisher knows where the line is, and only the running thread may close its books. So the finisher
//! leaves a *cut*, and the running thread charges by it at its next switch.
//!
//! # The protocol
//!
//! The words are `since` and `context` of this thread, its cut (`cut_slice`, `cut_at`), and the gate of the context's node.
//!
//! The running thread, at the end of a slice:
//! 1. `since = CHANGING` ([`change`](Running::change)).
//! 2. Reads the gate. If it is still this thread's own id, all of the slice is paid by the open context. Otherwise, after a
//!    SeqCst fence, [`split`](Running::split) decides: it reads the gate, then the cut.
//! 3. Charges the cells.
//! 4. `context`, `since` = the next slice ([`publish`](Running::publish)).
//!
//! Readers use `since` as a sequence lock over the cells: a value that is the same before and after a reading, and not
//! `CHANGING`, says that no slice was charged meanwhile. It is a different number for each slice of a thread.
//!
//! The finisher ([`tree::close`](super::tree::close)):
//! 1. Sets the gate of the context and of each of its parts to [`CLOSING`](super::raw::CLOSING), then a SeqCst fence.
//! 2. For each thread: waits while it is `CHANGING`; if the slice that runs is in one of these contexts, reads that thread's
//!    CPU clock and stores it as the cut of that slice. If the thread has switched by then, looks again.
//! 3. Sets the gates to 0: closed.
//!
//! A thread that finds the gate closed and no cut began its slice after step 2, so all of it is late. One that finds it
//! open or closing and no cut was `CHANGING` before step 2 passed it, so the finisher waits for its charge and finds it in the
//! cells. One that finds a cut is charged by it. The finisher reads the bill after step 3, so it has the cut slices up to
//! their cuts, and what is charged later for them is the same number.
//!
//! Step 2 of the running thread has no fence where the gate is its own id, since that is the path of every switch. It may
//! so miss a finisher whose stores are on their way; the slice is then charged whole, and the finisher's cut comes later by
//! the length of a store buffer: some ten nanoseconds of CPU that the bill has too much, once for each such event.

use super::raw::Node;
use crate::clock::RemoteClock;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// "Context X has been running on this thread since its CPU clock stood at Y."
#[derive(Debug)]
pub(crate) struct Running {
    /// The node's address, below some marks.
    context: AtomicU64,
    since: AtomicU64,
    /// Which slice was cut, by its `since`, and where. Written under the lock of `clock`, the place first.
    cut_slice: AtomicU64,
    cut_at: AtomicU64,
    clock: Mutex<Option<RemoteClock>>,
}

/// What a reader saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunningSlice {
    running: &'static Running,
    context: u64,
    since: u64,
    ns: u64,
}

/// What of a slice is paid by the open context, and what is late, ns. The first may be more than the slice: see [`Running::split`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) cpu: u64,
    pub(crate) late: u64,
}

impl RunningSlice {
    /// What of it is `node`'s. If the slice has ended meanwhile, another node may have come to that address: see
    /// [`runs_on`](Self::runs_on).
    pub(super) fn of(&self, node: &Node) -> Split {
        if self.context == address(node) {
            self.running.split(&node.gate, self.since, self.ns)
        } else {
            Split::default()
        }
    }

    /// Whether it has not ended; then its context has not gone, and it is not in the cells yet.
    pub(crate) fn runs_on(&self) -> bool {
        self.running.since.load(Ordering::Acquire) == self.since
    }
}

/// Reads with `slices`, and leaves out those that ended meanwhile: they are in the cells, or about to be.
pub(crate) fn read_with<R>(mut slices: Vec<RunningSlice>, read: impl Fn(&[RunningSlice]) -> R) -> R {
    loop {
        let result = read(&slices);
        let before = slices.len();
        // What was read of the cells is read before this.
        fence(Ordering::Acquire);
        slices.retain(RunningSlice::runs_on);
        if slices.len() == before {
            return result;
        }
    }
}

pub(super) fn address(node: &Node) -> u64 {
    std::ptr::from_ref(node).addr() as u64
}

/// In `since`: the owner is between two slices. In `cut_slice`: there is no cut.
const CHANGING: u64 = u64::MAX;
/// Nodes are aligned to more than the marks take.
const MARKS: u64 = 7;
/// How often a finisher looks at a thread that switches while it is looked at. Such a thread has only short slices.
const CUTS_MAX: usize = 8;
/// How often a reader yields to a thread that was preempted while it was changing: some milliseconds. (In a child of `fork`
/// such a thread is there no more, and changes for ever.)
const YIELDS_MAX: usize = 2_000;

impl Running {
    pub(super) const fn new() -> Self {
        Self {
            context: AtomicU64::new(0),
            since: AtomicU64::new(0),
            cut_slice: AtomicU64::new(CHANGING),
            cut_at: AtomicU64::new(0),
            clock: Mutex::new(None),
        }
    }

    pub(crate) fn open(&self, clock: Option<RemoteClock>) {
        *self.clock.lock() = clock;
    }

    pub(super) fn close(&self) {
        self.change();
        self.publish(0, 0);
        *self.clock.lock() = None;
        // The next thread's clock begins anew, so the numbers of its slices may be those of this one's.
        self.cut_slice.store(CHANGING, Ordering::Relaxed);
    }

    /// A slice ends: what is charged from here to [`publish`](Self::publish) is one step for readers. Owner only.
    #[inline(always)]
    pub(crate) fn change(&self) {
        self.since.store(CHANGING, Ordering::Relaxed);
        // A reader that sees a cell as charged below sees this, too.
        fence(Ordering::Release);
    }

    /// The next slice began. Owner only, after [`change`](Self::change).
    #[inline(always)]
    pub(crate) fn publish(&self, context: u64, since: u64) {
        self.context.store(context, Ordering::Relaxed);
        self.since.store(since, Ordering::Release);
    }

    /// Where the running slice began. Owner only, not between [`change`](Self::change) and [`publish`](Self::publish).
    #[inline(always)]
    pub(crate) fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// Which slice runs: another number for each. `None`: it is being changed.
    pub(crate) fn sequence(&self) -> Option<u64> {
        Some(self.since.load(Ordering::Acquire)).filter(|since| *since != CHANGING)
    }

    /// The [`sequence`](Self::sequence), waited for; still `None` if that takes too long.
    fn settled(&self) -> Option<u64> {
        let mut sequence = self.sequence();
        for _ in 0..YIELDS_MAX {
            if sequence.is_some() {
                break;
            }
            std::thread::yield_now();
            sequence = self.sequence();
        }
        sequence
    }

    /// [`sequence`](Self::sequence), unless the slice that runs may be `node`'s. What a slice that ended before has charged
    /// is seen after this.
    pub(super) fn since_without(&self, node: &Node) -> Option<u64> {
        let since = self.sequence()?;
        let context = self.context.load(Ordering::Relaxed) & !MARKS;
        (context != address(node)).then_some(since)
    }

    /// What runs and since when, if both are of one slice.
    fn slice(&self) -> Option<(u64, u64)> {
        let since = self.settled()?;
        let context = self.context.load(Ordering::Relaxed) & !MARKS;
        fence(Ordering::Acquire);
        (self.since.load(Ordering::Relaxed) == since).then_some((context, since))
    }

    /// The slice that runs on this ledger's thread now, by that thread's own clock. `None`: none, a manual clock, or
    /// the thread switched while we looked.
    pub(crate) fn read(&'static self) -> Option<RunningSlice> {
        let (context, since) = self.slice().filter(|(context, _)| *context != 0)?;
        // Held while reading, so that the thread cannot end and its id be given to another meanwhile.
        let now = (*self.clock.lock())?.read()?;
        // What was read above was published before `since` changed, if it did: then that is seen here.
        fence(Ordering::Acquire);
        let slice = RunningSlice { running: self, context, since, ns: now.saturating_sub(since) };
        slice.runs_on().then_some(slice)
    }

    /// Step 2 of the finisher, for one thread. `is_closing` is asked with the address of what runs there.
    pub(super) fn cut_while(&self, is_closing: impl Fn(u64) -> bool) {
        for _ in 0..CUTS_MAX {
            let Some((context, since)) = self.slice() else { continue };
            if context == 0 || !is_closing(context) || self.cut(since) {
                return;
            }
        }
    }

    /// Cuts the slice that began at `since` where it stands now, if it is not cut. False if it has ended meanwhile: then the
    /// running thread may have seen the cut or not, and what it charged is in the cells.
    fn cut(&self, since: u64) -> bool {
        let clock = self.clock.lock();
        if self.cut_of(since).is_some() {
            return true;
        }
        // Where the clock cannot be read from outside there is no cut: the slice is late as a whole.
        let Some(now) = clock.as_ref().and_then(|clock| clock.read()) else { return true };
        // A cut of a slice that is over must not take the place of one that counts.
        if self.since.load(Ordering::Relaxed) != since {
            return false;
        }
        self.cut_at.store(now, Ordering::Relaxed);
        self.cut_slice.store(since, Ordering::Release);
        fence(Ordering::SeqCst);
        self.since.load(Ordering::Relaxed) == since
    }

    /// Where the slice that began at `since` was cut.
    fn cut_of(&self, since: u64) -> Option<u64> {
        (self.cut_slice.load(Ordering::Acquire) == since).then(|| self.cut_at.load(Ordering::Relaxed))
    }

    /// What of a slice of `ns` that began at `since` is paid by the context with that gate, and what is late. The owner
    /// calls [`fence_before_split`] before. A cut counts as it is, since the bill has it: by the kernel's clock, to which
    /// the owner's own may be some nanoseconds behind.
    pub(crate) fn split(&self, gate: &AtomicU64, since: u64, ns: u64) -> Split {
        // The gate first: who sees it closed sees the cut that came before.
        let gate = gate.load(Ordering::Acquire);
        let cpu = match self.cut_of(since) {
            Some(cut) => cut.saturating_sub(since),
            None if gate == 0 => 0,
            None => ns,
        };
        Split { cpu, late: ns.saturating_sub(cpu) }
    }
}

/// Between `change` and `split`, on the running thread: either it sees the cut, or the finisher sees that it changes.
pub(crate) fn fence_before_split() {
    fence(Ordering::SeqCst);
}
