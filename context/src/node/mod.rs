//! Contexts as data: the node, its relatives, its ledger, its end. Reads no clock and knows no thread.

mod atomics;
mod budget;
mod control;
#[cfg(test)]
mod foreign_wakers;
mod handles;
pub(crate) mod hooks;
mod late;
pub(crate) mod ledger;
mod life;
mod memory;
mod raw;
pub(crate) mod running;
mod tree;

#[cfg(all(test, bursar_loom))]
mod models;

#[cfg(not(bursar_no_reuse))]
mod spare;
#[cfg(bursar_no_reuse)]
#[path = "spare_none.rs"]
mod spare;

pub(crate) use budget::Budget;
pub(crate) use control::{Aside, Extras, FinishHook};
use control::{Shown, ShownCpu};
pub use raw::Context;
pub(crate) use raw::{Birth, Node, Plan};

use crate::cancel::{Cancelled, Reason};
use crate::cells::Tally;
use crate::class;
use crate::deadline::{Deadline, Readings};
use crate::usage::Usage;
use crate::value::Key;
use hooks::Observer;
use ledger::Ledger;
use running::{RunningSlice, Split};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::task::Waker;

/// The number of a context: unique in the process, never used again, 0 for the sentinel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub(crate) u64);

impl Id {
    /// The number itself.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

static SENTINEL: LazyLock<Context> = LazyLock::new(|| {
    let ledger = Ledger::limbo();
    let birth = Birth {
        ledger,
        owner: ledger.id(),
        class: class::sentinel(),
        parent: None,
        opened: 0,
        place: Location::caller(),
        made_in: None,
        made_in_id: 0,
    };
    Context::new(Plan { id: 0, budgeted: false, timed: false, birth, aside: None })
});

impl Context {
    /// The context that stands for "nobody". Its [`usage`](Self::usage) is what ran without a context.
    pub fn sentinel() -> Self {
        SENTINEL.clone()
    }

    /// Whether this is the sentinel.
    pub fn is_sentinel(&self) -> bool {
        self.node().id == 0
    }

    /// The low-cardinality label it was made with, or `(other)` above the limit of classes.
    pub fn class(&self) -> &'static str {
        self.node().birth.class.name
    }

    /// Its number.
    pub fn id(&self) -> Id {
        Id(self.node().id)
    }

    /// `class#id`, for logs.
    pub fn name(&self) -> Name {
        self.node().name()
    }

    /// The context it is a part of.
    pub fn parent(&self) -> Option<Self> {
        self.node().birth.parent.clone()
    }

    /// The line that made it.
    pub fn place(&self) -> &'static Location<'static> {
        self.node().birth.place
    }

    /// Whether its scope has ended. Work in it goes on all the same, and is charged as late.
    pub fn is_finished(&self) -> bool {
        self.node().control.finished_at().is_some()
    }

    /// The context that was current where this one was made: who started a background process, say. It may be gone;
    /// for a part it usually is the parent. `None` if none was current.
    pub fn made_in(&self) -> Option<Name> {
        self.node().made_in()
    }

    /// The value of `key` here or in the nearest ancestor that has one and lets it be inherited.
    pub fn get<T: Send + Sync + 'static>(&self, key: &Key<T>) -> Option<&T> {
        let id = key.id();
        let own =
            self.node().extras().and_then(|extras| extras.values.iter().find_map(|value| value.get(id)));
        own.or_else(|| {
            self.ancestors().filter_map(Node::extras).find_map(|extras| {
                extras.values.iter().filter(|value| value.reaches_children()).find_map(|value| value.get(id))
            })
        })
    }

    /// Calls `visit` with each field and each logged value, the nearest first; one name may come more than once.
    pub fn visit_fields<'a>(&'a self, mut visit: impl FnMut(&'static str, &'a str)) {
        self.visit_own_fields(&mut visit);
        for extras in self.ancestors().filter_map(Node::extras) {
            extras.fields.iter().for_each(|(name, value)| visit(name, value));
            let inherited = extras.values.iter().filter(|value| value.reaches_children());
            inherited.filter_map(|value| value.shown()).for_each(|(name, value)| visit(name, value));
        }
    }

    /// Calls `visit` with each field and each logged value that this context itself was made with.
    pub fn visit_own_fields<'a>(&'a self, mut visit: impl FnMut(&'static str, &'a str)) {
        let Some(extras) = self.node().extras() else { return };
        extras.fields.iter().for_each(|(name, value)| visit(name, value));
        let shown = extras.values.iter().filter_map(|value| value.shown());
        shown.for_each(|(name, value)| visit(name, value));
    }

    fn ancestors(&self) -> impl Iterator<Item = &Node> {
        self.node().ancestors()
    }
}

impl Node {
    fn ancestors(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(self.birth.parent.as_ref(), |context| context.node().birth.parent.as_ref())
            .map(Context::node)
    }

    /// Why work in it is to end: it was cancelled, or has finished.
    pub(crate) fn ended(&self) -> Option<Cancelled> {
        let finished = || Cancelled { reason: Reason::Finished, place: self.birth.place };
        self.control.cancelled().or_else(|| self.control.finished_at().map(|_| finished()))
    }

    /// The deadline that applies here, and the node that has it: this one or an ancestor.
    pub(crate) fn deadline(&self) -> Option<(&Deadline, &Self)> {
        if !self.timed {
            return None;
        }
        // The nearest is the earliest.
        let mut path = std::iter::once(self).chain(self.ancestors());
        path.find_map(|node| Some((node.own_deadline()?, node)))
    }

    fn own_deadline(&self) -> Option<&Deadline> {
        self.extras().and_then(|extras| extras.deadline.as_ref())
    }

    /// What to say when its own deadline has passed.
    pub(crate) fn too_late(&self) -> Cancelled {
        Cancelled { reason: Reason::Deadline, place: self.birth.place }
    }

    /// The nearest budget that its CPU is counted against.
    pub(crate) fn budget(&self) -> Option<&Arc<Budget>> {
        self.extras().and_then(|extras| extras.budget.as_ref())
    }

    /// Cancels the contexts whose budget is spent, this one or ancestors.
    #[cold]
    pub(crate) fn check_budgets(&self) {
        let Some(nearest) = self.budget() else { return };
        let mut path = std::iter::once(self).chain(self.ancestors());
        for spent in nearest.newly_spent() {
            let has_it = |node: &&Self| {
                let own = node.extras().filter(|extras| extras.cpu_budget.is_some());
                own.and_then(|extras| extras.budget.as_deref()).is_some_and(|own| std::ptr::eq(own, spent))
            };
            // From the nearest upwards, as the budgets are.
            if let Some(owner) = path.find(has_it) {
                owner.cancel(Cancelled { reason: Reason::CpuBudget, place: owner.birth.place });
            }
        }
    }

    /// Cancels this context and everything below it that has not ended; a deadline that has passed unnoticed is the reason
    /// where it applies. Returns whether this was the first cancellation here.
    pub(crate) fn cancel(&self, cancelled: Cancelled) -> bool {
        let own = self.control.cancel(cancelled);
        let first = own.is_some();
        self.wake(own.unwrap_or_default());
        self.cancel_below(self.control.cancelled().unwrap_or(cancelled));
        first
    }

    fn cancel_below(&self, cancelled: Cancelled) {
        let mut readings = Readings::default();
        loop {
            let below = tree::cancel_below(self, cancelled, &readings);
            self.wake(below.wakers);
            if below.unread.is_empty() {
                return;
            }
            readings.read(below.unread);
        }
    }

    /// Wakes those who wait for a cancellation. Wakers may be foreign code: a panic in one is reported, and the others are
    /// woken.
    fn wake(&self, wakers: Vec<Waker>) {
        for waker in wakers {
            self.contain(|| waker.wake());
        }
    }

    pub(crate) fn extras(&self) -> Option<&Extras> {
        self.control.extras()
    }

    pub(crate) fn background_values(&self) -> impl Iterator<Item = &crate::value::Value> {
        self.extras().into_iter().flat_map(|extras| &extras.values).filter(|value| value.reaches_background())
    }

    pub(crate) fn name(&self) -> Name {
        Name { class: self.birth.class.name, id: self.id }
    }

    /// Own usage; `slices` are those that run now.
    pub(crate) fn own(&self, slices: &[RunningSlice]) -> Reading {
        let mut own = Reading { tally: self.own_tally(), running: 0 };
        own.add_running(tree::slice_of(self, slices));
        own
    }

    /// Own usage and everything below.
    pub(crate) fn total(&self, slices: &[RunningSlice]) -> Reading {
        tree::total(self, slices)
    }

    /// What to show of a reading of [`own`](Self::own) that is sure to be one moment's: no less than was shown before.
    pub(crate) fn show_own(&self, own: Reading) -> Tally {
        self.show(own, |shown| &shown.own)
    }

    /// The same of [`total`](Self::total).
    pub(crate) fn show_total(&self, total: Reading) -> Tally {
        self.show(total, |shown| &shown.total)
    }

    /// The running slice of another thread is measured by the kernel's clock, its charge later by extrapolation; the two
    /// may differ by some nanoseconds. What was shown once is never taken back.
    fn show(&self, reading: Reading, which: fn(&Shown) -> &ShownCpu) -> Tally {
        let Reading { mut tally, running } = reading;
        if running != 0 {
            which(self.control.show()).remember(&mut tally);
        } else if let Some(shown) = self.control.shown() {
            which(shown).recall(&mut tally);
        }
        tally
    }

    /// Whether there is anything below it.
    pub(crate) fn has_children(&self) -> bool {
        self.links.has_children()
    }

    /// Whether no thread but that of `ledger` was ever in it.
    pub(crate) fn is_private_to(&self, ledger: &Ledger) -> bool {
        self.birth.owner == ledger.id() && !self.is_visited()
    }

    pub(crate) fn is_timed(&self) -> bool {
        self.timed
    }

    /// Ends it, once. Returns whether this call did it: then the caller closes it, and has charged the running slice
    /// before.
    #[inline]
    pub(crate) fn finish(&self, now: u64) -> bool {
        self.id != 0 && self.control.finish(now)
    }

    /// Closes it, if nobody but its owner's thread, which has this ledger id and is the caller's, can be in it or below it:
    /// from here on work in it is late. False: not done, see [`close`](Self::close).
    #[inline]
    pub(crate) fn close_alone(&self, owner: u64) -> bool {
        let alone = self.gate.load(Ordering::Relaxed) == owner && !self.is_visited() && !self.has_children();
        if alone {
            self.gate.store(0, Ordering::Release);
        }
        alone
    }

    /// Closes it and what is below it: from here on work in it is late, and what other threads run in it is cut. Whether
    /// there may be such threads.
    pub(crate) fn close(&self, own: Option<&Ledger>) -> bool {
        tree::close(self, own)
    }

    /// Whether it or something above it has finished: work in it is late.
    pub(crate) fn is_closed(&self) -> bool {
        self.gate.load(Ordering::Acquire) == 0
    }

    /// Since when work in it is late: when it or the first of those above it finished, in wall ticks.
    pub(crate) fn late_since(&self) -> Option<u64> {
        let above =
            std::iter::successors(self.birth.parent.as_ref(), |context| context.node().birth.parent.as_ref());
        std::iter::once(self)
            .chain(above.map(Context::node))
            .filter_map(|node| node.control.finished_at())
            .min()
    }

    /// Who wants to know of this very context.
    pub(crate) fn observers(&self) -> impl Iterator<Item = Observer> {
        self.extras().into_iter().flat_map(|extras| &extras.observers).cloned()
    }

    /// Whether anyone is to be told of the end: hooks, those who wait, or children. Most contexts have none of them.
    pub(crate) fn has_finish_work(&self) -> bool {
        hooks::anyone() || self.control.has_finish_work() || self.has_children()
    }

    /// Why what is below it is cancelled when it finishes.
    fn end_of_scope(&self) -> Cancelled {
        Cancelled { reason: Reason::Finished, place: self.birth.place }
    }

    /// Ends the waits in a context that has finished, and cancels what is left below it.
    pub(crate) fn cancel_remains(&self) {
        self.wake(self.control.take_waiters());
        self.cancel_below(self.end_of_scope());
    }
}

/// What was read of a context.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) tally: Tally,
    /// How much of that is in slices that run now on other threads, ns.
    pub(crate) running: u64,
}

impl Reading {
    fn add_running(&mut self, slice: Split) {
        self.running = self.running.saturating_add(slice.cpu).saturating_add(slice.late);
        self.tally.cpu = self.tally.cpu.saturating_add(slice.cpu);
        self.tally.late_cpu = self.tally.late_cpu.saturating_add(slice.late);
    }
}

/// The name of a context, `class#id`: a value that outlives the context and does not hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    class: &'static str,
    id: u64,
}

impl Name {
    /// The account of an event loop, which is no context.
    pub(crate) fn of_the_loop() -> Self {
        Self { class: "(runtime)", id: 0 }
    }

    /// The number of the context.
    pub fn id(self) -> Id {
        Id(self.id)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.id == 0 { f.write_str(self.class) } else { write!(f, "{}#{}", self.class, self.id) }
    }
}

/// The last handle went: if nobody finished the context, its scope ends here. Whether somebody is to be told.
fn finish_at_last(node: &Node) -> bool {
    if node.timed && node.ended().is_none() {
        expire_at_last(node);
    }
    let told = node.control.finish_alone() && node.has_finish_work();
    if told {
        // One of those who are told may keep it: then work in it is late.
        node.gate.store(0, Ordering::Release);
    }
    told
}

/// Tells of the end of a context whose last handle went. Nobody can be running in it.
fn tell_last(context: &Context) {
    let node = context.node();
    <Node as UserCode>::run_finish_hooks(context, &node.show_total(node.total(&[])).into());
}

/// Nobody asked, but it finishes after its deadline. (There is nobody to be woken: who waits has a handle.)
#[cold]
fn expire_at_last(node: &Node) {
    if let Some((_, owner)) = node.deadline().filter(|(deadline, _)| deadline.has_passed()) {
        let _ = node.control.cancel(owner.too_late());
    }
}

/// Unlinks from the parent, which is given the total.
#[inline]
fn fold(node: &Node, address: NonNull<Node>) {
    if node.birth.parent.is_none() {
        return;
    }
    // It has no children: each holds a handle of it.
    tree::unlink(node, address, || tree::without_children(node));
}

/// User code that the end of a context leads to. `current` implements it, since it knows in which context that code runs.
pub(crate) trait UserCode {
    /// Runs the finish hooks of `context` with its final total.
    fn run_finish_hooks(context: &Context, usage: &Usage);

    /// Runs user code that concerns this context. A panic in it is reported and goes no further.
    fn contain(&self, f: impl FnOnce());

    /// Drops what a context was made with.
    fn discard(name: Name, place: &'static Location<'static>, aside: Box<Aside>);
}

impl PartialEq for Context {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.node(), other.node())
    }
}

impl Eq for Context {}

impl Hash for Context {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node().name().fmt(f)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({self})")
    }
}
