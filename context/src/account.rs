//! Reading the books: of one context, of a class, of everything that lives, of a thread.

use crate::cancel::Reason;
use crate::cells::Tally;
use crate::class::{self, Class};
use crate::clock::{self, Rung};
use crate::current::{self, Frame, FrameKind, Share};
use crate::node::ledger::{ClassBooks, Everything, Ledger};
use crate::node::running::{RunningSlice, read_with};
use crate::node::{Context, FinishHook, Id, Node, Reading, UserCode};
use crate::usage::Usage;
use std::collections::HashMap;
use std::panic::Location;
use std::sync::atomic::{Ordering::Acquire, Ordering::Relaxed, fence};
use std::time::Duration;

impl Context {
    /// What was charged to this context and to everything below it, the slices that run now included.
    ///
    /// Walks the live descendants; what is gone was folded in. Never decreases.
    pub fn usage(&self) -> Usage {
        if self.is_sentinel() {
            return sentinel_usage();
        }
        let node = self.node();
        let total = self.read_at_rest(Node::total).unwrap_or_else(|| {
            current::settle();
            read_steadily(|slices| node.total(slices))
        });
        node.show_total(total).into()
    }

    /// What was charged to this context itself, the slice that runs now included. Never decreases.
    pub fn own_usage(&self) -> Usage {
        if self.is_sentinel() {
            return sentinel_usage();
        }
        let node = self.node();
        let own = self.read_at_rest(Node::own).unwrap_or_else(|| {
            current::settle();
            read_steadily(|slices| node.own(slices))
        });
        node.show_own(own).into()
    }

    /// Wall time from its making to its finish, or to now. Zero for the sentinel.
    pub fn elapsed(&self) -> Duration {
        elapsed_of(self.node())
    }

    /// Ends its scope: runs the finish hooks with the final usage, cancels what is left below, and returns that usage.
    ///
    /// Only the first call has an effect. If the context, or a part of it, is held ([`hold`](Self::hold)), it takes effect
    /// when the last hold ends, and this call returns what was used so far.
    ///
    /// The final usage is complete: it has what ran in the context and its parts until now, on every thread, running slices
    /// included, and is not less than what [`usage`](Self::usage) returned before. What runs in them afterwards, also in parts
    /// that are made later, is late and reported; of the CPU times in `usage()`, `late_cpu` alone grows from here on. (Other
    /// counters count late work as any other.) The hooks run outside this context: their CPU goes to the parent, or to
    /// `(runtime)`.
    pub fn finish(&self) -> Usage {
        self.notice_deadline();
        let is_current = current::settle_within(self.node());
        let bill = self.end_at(current::ticks(), is_current, Self::bill);
        bill.or_else(|| self.usage_if_whole()).unwrap_or_else(|| self.usage())
    }

    /// [`finish`](Self::finish) for those who do not want the sum.
    pub(crate) fn end(&self) {
        self.notice_deadline();
        let is_current = current::settle_within(self.node());
        self.end_at(current::ticks(), is_current, |_, _| Usage::default());
    }

    /// The same for who left it at the last switch on this thread, and did nothing since: the time is known.
    #[inline]
    pub(crate) fn end_left(&self) {
        self.notice_deadline();
        let is_current = current::settle_within(self.node());
        self.end_at(current::last_switch(), is_current, |_, _| Usage::default());
    }

    /// What `untold` says of the finish, if it was this one and nobody was told; else the bill that the hooks were told.
    /// `None` in the usual case, where nothing is to be done but to say that it has finished, and if it had finished before.
    #[inline]
    fn end_at(&self, now: u64, is_current: bool, untold: fn(&Self, bool) -> Usage) -> Option<Usage> {
        let node = self.node();
        if !node.finish(now) {
            return None;
        }
        let alone = node.close_alone(current::owner());
        let told = (!alone || node.has_finish_work()).then(|| self.end_with_care(alone, untold));
        if is_current {
            current::begin_tail();
        }
        told
    }

    /// Other threads may be in it, or there are hooks or parts.
    #[cold]
    #[inline(never)]
    fn end_with_care(&self, alone: bool, untold: fn(&Self, bool) -> Usage) -> Usage {
        let elsewhere = !alone && self.node().close(current::ledger());
        if !self.node().has_finish_work() {
            return untold(self, elsewhere);
        }
        let bill = self.bill(elsewhere);
        let around = self.parent().filter(|parent| !parent.node().is_closed());
        let share = around.as_ref().map_or_else(Share::bookkeeping, Share::of);
        let frame = Frame::enter(share, self.place(), FrameKind::Scope);
        <Node as UserCode>::run_finish_hooks(self, &bill);
        self.node().cancel_remains();
        drop(frame);
        bill
    }

    /// What a context that was just closed has used, the running slices of other threads up to where they were cut.
    fn bill(&self, elsewhere: bool) -> Usage {
        let node = self.node();
        let total = if elsewhere { read_steadily(|slices| node.total(slices)) } else { node.total(&[]) };
        node.show_total(total).into()
    }

    /// The total of a finished context that has no parts and that no other thread was ever in.
    fn usage_if_whole(&self) -> Option<Usage> {
        let node = self.node();
        let is_whole = self.is_finished() && !node.has_children() && node.is_private_to(current::ledger()?);
        is_whole.then(|| node.show_total(node.total(&[])).into())
    }

    /// The usual case, a request that reads its own bill: no part of it is left, and no other thread works for it. Then
    /// nobody else's clock is asked.
    fn read_at_rest(&self, read: fn(&Node, &[RunningSlice]) -> Reading) -> Option<Reading> {
        let node = self.node();
        if node.has_children() {
            return None;
        }
        let own = current::ledger()?;
        let is_private = node.is_private_to(own);
        let before = if is_private { 0 } else { own.others_without(node)? };
        current::settle();
        let reading = read(node, &[]);
        if !is_private && own.others_without(node) != Some(before) {
            return None;
        }
        Some(reading)
    }

    /// Keeps this context open, and those that it is a part of: a [`finish`](Self::finish) of one of them takes effect when
    /// the last hold is dropped. That is how shielded work, or a job on another thread, outlives its request without being
    /// late, and how the request's bill is complete. Those that have finished already stay finished.
    pub fn hold(&self) -> Hold {
        Hold(self.count_hold().then(|| self.clone()))
    }

    /// A hold without a handle, on this context and on everything above it that is open; whether it is one.
    ///
    /// A context that is held cannot finish before the hold ends. So what was open here is what is open when the hold ends,
    /// and nothing needs to be remembered.
    pub(crate) fn count_hold(&self) -> bool {
        self.with_ancestors().fold(false, |held, context| context.node().control.hold() | held)
    }

    /// Ends a hold that is counted, and runs no foreign code. Whether it was the last one of something that is to finish:
    /// then the caller calls [`finish_released`](Self::finish_released).
    pub(crate) fn end_hold(&self) -> bool {
        let open = self.with_ancestors().filter(|context| !context.is_finished());
        open.fold(false, |last, context| context.node().control.release() | last)
    }

    /// Finishes what of this context and everything above it is to finish and is not held any more, from below: so the bill
    /// of what is above has all.
    pub(crate) fn finish_released(&self) {
        // Outside of all of them: what is current here has been charged, and nothing of the way up is late.
        current::with_tail(|| {
            let _frame = Frame::enter(Share::bookkeeping(), self.place(), FrameKind::Scope);
            let released = self.with_ancestors().filter(|context| context.node().control.is_released());
            released.for_each(Self::end);
        });
    }

    /// This context, what it is a part of, and so on.
    fn with_ancestors(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |context| context.node().birth.parent.as_ref())
    }

    /// Calls `hook` with the total usage when this context finishes. On a finished one it is called at once.
    ///
    /// A panic in it is reported and stops there.
    pub fn on_finish(&self, hook: impl FnOnce(&Usage) + Send + 'static) {
        let hook: FinishHook = Box::new(hook);
        if let Err(hook) = self.node().control.add_hook(hook) {
            let usage = self.usage();
            current::call_hook(self, || hook(&usage));
        }
    }

    /// Adds to its counters what an executor or a driver measured itself. From any thread.
    pub fn charge(&self, usage: Usage) {
        current::charge(self.node(), &usage.into());
    }
}

/// Keeps a context, and those that it is a part of, open while it lives; made by [`Context::hold`].
#[derive(Debug)]
#[must_use = "the context is held only while this lives"]
pub struct Hold(Option<Context>);

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(context) = self.0.take().filter(Context::end_hold) {
            context.finish_released();
        }
    }
}

/// Reads with the slices that run now on other threads; again if one of those threads switched meanwhile.
fn read_steadily(read: impl Fn(&[RunningSlice]) -> Reading) -> Reading {
    const TRIES: usize = 8;
    let own = current::ledger();
    let ledgers = Ledger::all();
    let others = || ledgers.iter().filter(|ledger| !own.is_some_and(|own| std::ptr::eq(own, **ledger)));
    for _ in 0..TRIES {
        let before: Option<Vec<u64>> = others().map(|ledger| ledger.running.sequence()).collect();
        let slices: Vec<_> = others().filter_map(|ledger| ledger.running.read()).collect();
        let reading = read(&slices);
        fence(Acquire);
        // One of them is in the middle of a switch, perhaps preempted there.
        let Some(before) = before else {
            std::thread::yield_now();
            continue;
        };
        if others().map(|ledger| ledger.running.sequence()).eq(before.into_iter().map(Some)) {
            return reading;
        }
    }
    // Threads that switch faster than we read have only short slices: leave those out, and no others.
    read_with(Ledger::slices_elsewhere(own), read)
}

/// What ran in no context, on all threads.
pub fn sentinel_usage() -> Usage {
    current::settle();
    let mut sum = Context::sentinel().node().own_tally();
    Ledger::all().iter().for_each(|ledger| sum += &ledger.sentinel.read());
    sum.into()
}

fn elapsed_of(node: &Node) -> Duration {
    if node.id == 0 {
        return Duration::ZERO;
    }
    let end = node.control.finished_at().unwrap_or_else(current::ticks);
    Duration::from_nanos(current::ticks_to_ns(end.saturating_sub(node.birth.opened)))
}

/// One live context, as of the moment of the call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// `class#id`.
    pub name: String,
    /// Its class.
    pub class: &'static str,
    /// Its number.
    pub id: Id,
    /// The number of what it is a part of.
    pub parent: Option<Id>,
    /// The line that made it.
    pub place: &'static Location<'static>,
    /// Whether its scope has ended; then something still holds it.
    pub finished: bool,
    /// Wall time since its making, or from there to its finish.
    pub elapsed: Duration,
    /// Own usage.
    pub own: Usage,
}

/// Every context that is not gone, the oldest numbers first.
///
/// Cost: all registries are held while the nodes are read, some 100 ns for each.
pub fn live() -> Vec<Snapshot> {
    current::settle();
    let slices = Ledger::slices_elsewhere(current::ledger());
    let mut live: Vec<_> = Ledger::with_everything(|everything| {
        let nodes = read_with(slices, |slices| {
            everything.nodes().map(|node| (node, node.own(slices))).collect::<Vec<_>>()
        });
        nodes.into_iter().map(|(node, own)| snapshot(node, own)).collect()
    });
    live.sort_unstable_by_key(|snapshot: &Snapshot| snapshot.id);
    live
}

fn snapshot(node: &Node, own: Reading) -> Snapshot {
    Snapshot {
        name: node.name().to_string(),
        class: node.birth.class.name,
        id: Id(node.id),
        parent: node.birth.parent.as_ref().map(Context::id),
        place: node.birth.place,
        finished: node.control.finished_at().is_some(),
        elapsed: elapsed_of(node),
        own: node.show_own(own).into(),
    }
}

/// What all contexts of one class have cost.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClassUsage {
    /// The class.
    pub class: &'static str,
    /// Contexts ever made in it.
    pub opened: u64,
    /// Of those, how many are not finished.
    pub open: u64,
    /// The sum of their own usage, running ones included: over all classes, everything that was charged to contexts.
    pub own: Usage,
    /// The sum of the total usage of those that are gone, children included.
    pub total: Usage,
    /// What was for nothing: of those that are gone, the cancelled ones, by reason.
    pub cancelled: Vec<CancelledUsage>,
}

/// What the contexts of one class that were cancelled for one reason have cost.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CancelledUsage {
    /// Why they were cancelled.
    pub reason: Reason,
    /// How many.
    pub contexts: u64,
    /// The sum of their own usage.
    pub own: Usage,
}

/// Every class ever used, by name.
pub fn classes() -> Vec<ClassUsage> {
    current::settle();
    let slices = Ledger::slices_elsewhere(current::ledger());
    Ledger::with_everything(|everything| {
        let living = read_with(slices, |slices| living(everything, slices));
        let usage = |class: &'static Class| {
            let living = living.get(class.name).copied().unwrap_or_default();
            let cancelled = everything.cancelled(class).into_iter();
            let cancelled = cancelled.map(|(reason, books)| CancelledUsage {
                reason,
                contexts: books.contexts,
                own: books.own.into(),
            });
            class_usage(class, everything.class(class), living, cancelled.collect())
        };
        class::all().into_iter().map(usage).collect()
    })
}

/// The contexts of one class that are not gone.
#[derive(Clone, Copy, Default)]
struct Living {
    contexts: u64,
    own: Tally,
    finished: u64,
}

/// The contexts that are not gone, by class.
fn living(everything: &Everything<'_>, slices: &[RunningSlice]) -> HashMap<&'static str, Living> {
    let mut living: HashMap<_, Living> = HashMap::new();
    for node in everything.nodes() {
        let living = living.entry(node.birth.class.name).or_default();
        living.contexts += 1;
        living.own += &node.own(slices).tally;
        living.finished += u64::from(node.control.finished_at().is_some());
    }
    living
}

/// The caller holds all registries: so one reading of a class comes after the other.
fn class_usage(
    class: &'static Class,
    gone: ClassBooks,
    living: Living,
    cancelled: Vec<CancelledUsage>,
) -> ClassUsage {
    let (mut own, mut total) = (gone.own, gone.own);
    own += &living.own;
    total += &gone.below;
    // As for a context: a running slice was measured by another clock than its charge will be.
    own.cpu = class.shown_cpu.fetch_max(own.cpu, Relaxed).max(own.cpu);
    own.late_cpu = class.shown_late.fetch_max(own.late_cpu, Relaxed).max(own.late_cpu);
    ClassUsage {
        class: class.name,
        opened: gone.gone + living.contexts,
        open: living.contexts - living.finished,
        own: own.into(),
        total: total.into(),
        cancelled,
    }
}

/// The books of one thread (P7): `thread_cpu = contexts + late + sentinel + runtime + correction`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Accounts {
    /// CPU time of this thread since its books were opened, as the kernel says now.
    pub thread_cpu: Duration,
    /// Charged to contexts while they were open: the sum over their own cells.
    pub contexts: Duration,
    /// Charged to contexts after they finished.
    pub late: Duration,
    /// Spent with no context.
    pub sentinel: Duration,
    /// The loop's, the driver's and the timers' own: the account `(runtime)`.
    pub runtime: Duration,
    /// Nanoseconds by which the parts exceed (-) or miss (+) the whole: drift between the cheap clock and the kernel's.
    pub correction: i64,
    /// Wall time the loop was parked, waiting for something to do.
    pub parked: Duration,
    /// Time this thread was runnable while another had its CPU, as the kernel's scheduler counts it, over the thread's
    /// life; zero where the kernel does not tell.
    pub steal: Duration,
    /// How CPU time is read here.
    pub rung: Rung,
}

/// The books of the calling thread. `None` while it is being destroyed.
///
/// Reads the kernel's clock and walks the thread's live contexts.
pub fn accounts() -> Option<Accounts> {
    let (ledger, thread_cpu) = current::settled_ledger()?;
    let ns = Duration::from_nanos;
    Some(Accounts {
        thread_cpu: ns(thread_cpu),
        contexts: ns(ledger.contexts()),
        late: ns(ledger.late.get()),
        sentinel: ns(ledger.sentinel_cpu()),
        runtime: ns(ledger.runtime.get()),
        correction: -i64::try_from(ledger.negative.get()).unwrap_or(i64::MAX),
        parked: ns(ledger.parked.get()),
        steal: ns(clock::run_delay().unwrap_or(0)),
        rung: current::rung()?,
    })
}

#[cfg(test)]
mod tests;
