//! The ledger of one thread: what it charged that is not in a context's own cells, and which contexts it owns.

use super::memory::Nodes;
use super::raw::Node;
use super::running::{Running, RunningSlice};
use crate::cancel::Reason;
use crate::cells::{Cell64, Cells, Tally};
use crate::class::Class;
use parking_lot::{Mutex, MutexGuard, RwLock};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// One thread's books. Made when the thread first charges anything, kept for as long as a context it owns lives, then
/// used again for another thread: their number is bounded by the threads and the contexts alive at one time.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Process-unique for each thread that keeps this ledger; what a node's gate is compared with.
    id: AtomicU64,
    /// CPU and counters of this thread's sentinel.
    pub(crate) sentinel: Cells,
    /// Where the sentinel's CPU stood when the ledger was opened for this thread, ns.
    sentinel_before: Cell64,
    /// The loop's, driver's and timers' own CPU, ns: the context `(runtime)`.
    pub(crate) runtime: Cell64,
    /// What this thread charged to contexts that another thread owns, ns.
    pub(crate) foreign: Cell64,
    /// What this thread charged to finished contexts, ns.
    pub(crate) late: Cell64,
    /// Slices that came out negative, ns, as a positive number.
    pub(crate) negative: Cell64,
    /// Wall time the loop was off the CPU, ns.
    pub(crate) parked: Cell64,
    /// Which context's slice runs now, for readers on other threads.
    pub(crate) running: Running,
    pub(super) live: Mutex<Live>,
}

/// The contexts of one ledger: those that are not gone, and what is left of those that are.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) nodes: Nodes,
    /// By the number of the class.
    classes: Vec<ClassBooks>,
    /// Of those that are gone, what was cancelled: by the number of the class and the reason.
    cancelled: BTreeMap<(usize, Reason), CancelledBooks>,
    /// CPU in the cells of contexts that are gone, ns.
    gone: u64,
}

/// What cancelled contexts of one class and one reason have cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CancelledBooks {
    pub(crate) contexts: u64,
    pub(crate) own: Tally,
}

/// What the contexts of one class that this ledger owned have cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClassBooks {
    /// Contexts that are gone.
    pub(crate) gone: u64,
    /// Own usage of those that are gone.
    pub(crate) own: Tally,
    /// Usage of what was below them.
    pub(crate) below: Tally,
}

impl ClassBooks {
    pub(crate) fn add(&mut self, other: &Self) {
        self.gone += other.gone;
        self.own += &other.own;
        self.below += &other.below;
    }
}

impl Live {
    const fn new() -> Self {
        Self { nodes: Nodes::new(), classes: Vec::new(), cancelled: BTreeMap::new(), gone: 0 }
    }

    /// Settles the books of a context that goes, in one step with its end: a reader sees it here or in its class, never
    /// in both and never in neither.
    #[inline(always)]
    pub(super) fn settle(&mut self, node: &Node) {
        self.gone += node.local.cpu.get();
        if let Some(books) = self.class(node.birth.class) {
            books.gone += 1;
            node.local.add_to(&mut books.own, node.is_spread());
        }
        if node.has_more() {
            self.settle_more(node);
        }
    }

    /// What came from outside; what was for nothing.
    #[cold]
    #[inline(never)]
    fn settle_more(&mut self, node: &Node) {
        if let (Some(books), Some(abroad)) = (self.class(node.birth.class), node.abroad_if_any()) {
            books.own += &abroad.shared.read();
            books.below += &abroad.folded.read();
        }
        if let Some(cancelled) = node.control.cancelled() {
            let books = self.cancelled.entry((node.birth.class.index, cancelled.reason)).or_default();
            books.contexts += 1;
            books.own += &node.own_tally();
        }
    }

    /// `None` for the sentinel's class, which has no books.
    #[inline]
    fn class(&mut self, class: &Class) -> Option<&mut ClassBooks> {
        if class.index >= self.classes.len() {
            self.open_class(class)?;
        }
        self.classes.get_mut(class.index)
    }

    #[cold]
    fn open_class(&mut self, class: &Class) -> Option<()> {
        let len = class.index.checked_add(1)?;
        self.classes.resize(len, ClassBooks::default());
        Some(())
    }
}

static LEDGERS: RwLock<Vec<&'static Ledger>> = RwLock::new(Vec::new());
static FREE: Mutex<Vec<&'static Ledger>> = Mutex::new(Vec::new());
static IDS: AtomicU64 = AtomicU64::new(1);

/// Books of threads that are being destroyed, whose thread-locals are gone. Owns contexts, charges nothing.
static LIMBO: Ledger = Ledger::new();

impl Ledger {
    const fn new() -> Self {
        Self {
            id: AtomicU64::new(u64::MAX),
            sentinel: Cells::new(),
            sentinel_before: Cell64::new(),
            runtime: Cell64::new(),
            foreign: Cell64::new(),
            late: Cell64::new(),
            negative: Cell64::new(),
            parked: Cell64::new(),
            running: Running::new(),
            live: Mutex::new(Live::new()),
        }
    }

    pub(crate) const fn limbo() -> &'static Self {
        &LIMBO
    }

    /// A ledger for the calling thread.
    pub(crate) fn open() -> &'static Self {
        let ledger = Self::reuse().unwrap_or_else(|| {
            let ledger: &'static Self = Box::leak(Box::new(Self::new()));
            LEDGERS.write().push(ledger);
            ledger
        });
        ledger.id.store(IDS.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        ledger
    }

    fn reuse() -> Option<&'static Self> {
        let mut free = FREE.lock();
        let at = free.iter().position(|ledger| ledger.live.lock().nodes.is_empty())?;
        let ledger = free.swap_remove(at);
        ledger.live.lock().gone = 0;
        // The sentinel's counters stay: they are summed over all ledgers of the process.
        ledger.sentinel_before.set(ledger.sentinel.cpu.get());
        for cell in [&ledger.runtime, &ledger.foreign, &ledger.late, &ledger.negative, &ledger.parked] {
            cell.set(0);
        }
        Some(ledger)
    }

    /// The thread is ending.
    pub(crate) fn close(&'static self) {
        self.running.close();
        FREE.lock().push(self);
    }

    pub(crate) fn id(&self) -> u64 {
        self.id.load(Ordering::Relaxed)
    }

    /// Every ledger of the process, limbo last.
    pub(crate) fn all() -> Vec<&'static Self> {
        let mut ledgers = LEDGERS.read().clone();
        ledgers.push(&LIMBO);
        ledgers
    }

    /// The slices that run now on the threads of all ledgers but this one.
    pub(crate) fn slices_elsewhere(own: Option<&Self>) -> Vec<RunningSlice> {
        let is_own = |ledger: &Self| own.is_some_and(|own| std::ptr::eq(own, ledger));
        let ledgers = Self::all().into_iter().filter(|ledger| !is_own(ledger));
        ledgers.filter_map(|ledger| ledger.running.read()).collect()
    }

    /// Cuts the slices that run now in a context which is about to close, on the threads of all ledgers but `own`.
    pub(super) fn cut_elsewhere(own: Option<&Self>, is_closing: impl Fn(u64) -> bool) {
        for ledger in
            LEDGERS.read().iter().filter(|ledger| !own.is_some_and(|own| std::ptr::eq(own, **ledger)))
        {
            ledger.running.cut_while(&is_closing);
        }
    }

    /// `None` if a slice of `node` may be running on another thread than this ledger's. Else what tells whether one of these
    /// threads has switched since: the sum of where their slices began.
    pub(crate) fn others_without(&self, node: &Node) -> Option<u64> {
        let ledgers = LEDGERS.read();
        let mut others = ledgers.iter().filter(|other| !std::ptr::eq(**other, self));
        others.try_fold(0, |sum: u64, other| Some(sum.wrapping_add(other.running.since_without(node)?)))
    }

    /// CPU this thread spent with no context since the ledger was opened, ns.
    pub(crate) fn sentinel_cpu(&self) -> u64 {
        self.sentinel.cpu.get() - self.sentinel_before.get()
    }

    /// CPU charged by this thread to contexts while they were open, ns.
    pub(crate) fn contexts(&self) -> u64 {
        let live = self.live.lock();
        let living: u64 = live.nodes.iter().map(|node| node.local.cpu.get()).sum();
        living + live.gone + self.foreign.get()
    }

    /// Runs `f` with all registries held: nothing comes or goes meanwhile.
    pub(crate) fn with_everything<R>(f: impl FnOnce(&Everything<'_>) -> R) -> R {
        let ledgers = Self::all();
        // Everyone who takes more than one of these locks is here, and takes them in the order of the list.
        f(&Everything(ledgers.iter().map(|ledger| ledger.live.lock()).collect()))
    }
}

/// All registries of the process, held.
pub(crate) struct Everything<'a>(Vec<MutexGuard<'a, Live>>);

impl Everything<'_> {
    /// Every node that is not gone.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.0.iter().flat_map(|live| live.nodes.iter())
    }

    /// What was cancelled in one class, by reason, on all threads.
    pub(crate) fn cancelled(&self, class: &Class) -> BTreeMap<Reason, CancelledBooks> {
        let mut sum: BTreeMap<Reason, CancelledBooks> = BTreeMap::new();
        for ((index, reason), books) in self.0.iter().flat_map(|live| &live.cancelled) {
            if *index == class.index {
                let entry = sum.entry(*reason).or_default();
                entry.contexts += books.contexts;
                entry.own += &books.own;
            }
        }
        sum
    }

    /// The books of one class, on all threads.
    pub(crate) fn class(&self, class: &Class) -> ClassBooks {
        let mut sum = ClassBooks::default();
        self.0.iter().filter_map(|live| live.classes.get(class.index)).for_each(|books| sum.add(books));
        sum
    }
}
