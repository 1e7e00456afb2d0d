//! Reading the books: of one context, of a class, of everything that lives, of a thread.

use crate::cancel::Reason;
use crate::cells::Tally;
use crate::class::{self, Class};
use crate::clock::{self, Rung};
use crate::current::{self, Frame, FrameKind, Share};
use crate::node::ledger::{ClassBooks, Ledger, RunningSlice};
use crate::node::{Context, FinishHook, Id, Node, Reading, Shown, UserCode};
use crate::usage::Usage;
use std::collections::HashMap;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

impl Context {
    /// What was charged to this context and to everything below it, the slices that run now included.
    ///
    /// Walks the live descendants; what is gone was folded in. Never decreases.
    pub fn usage(&self) -> Usage {
        if self.is_sentinel() {
            return sentinel_usage();
        }
        if let Some(usage) = self.usage_at_rest(Node::total, |shown| &shown.total) {
            return usage;
        }
        read_steadily(|slices| {
            let mut total = self.node().total(slices);
            self.show_cpu(&mut total, |shown| &shown.total);
            total.tally.into()
        })
    }

    /// What was charged to this context itself, the slice that runs now included. Never decreases.
    pub fn own_usage(&self) -> Usage {
        if self.is_sentinel() {
            return sentinel_usage();
        }
        if let Some(usage) = self.usage_at_rest(Node::own, |shown| &shown.own) {
            return usage;
        }
        read_steadily(|slices| {
            let mut own = self.node().own(slices);
            self.show_cpu(&mut own, |shown| &shown.own);
            own.tally.into()
        })
    }

    /// Wall time from its making to its finish, or to now. Zero for the sentinel.
    pub fn elapsed(&self) -> Duration {
        elapsed_of(self.node())
    }

    /// Ends its scope: runs the finish hooks with the final usage, cancels what is left below, and returns that usage.
    ///
    /// Only the first call does that, or, if the context is held ([`hold`](Self::hold)), the end of the last hold. Work that goes on in it is charged as late, and reported. The hooks run outside
    /// this context: their CPU goes to the parent, or to `(runtime)`.
    pub fn finish(&self) -> Usage {
        self.end();
        self.node().total(&[]).tally.into()
    }

    /// [`finish`](Self::finish) for those who do not want the sum.
    pub(crate) fn end(&self) {
        self.notice_deadline();
        let is_current = current::settle_within(self.node());
        self.end_at(current::ticks(), is_current);
    }

    /// The same for who left it at the last switch on this thread, and did nothing since: the time is known.
    #[inline]
    pub(crate) fn end_left(&self) {
        self.notice_deadline();
        let is_current = current::settle_within(self.node());
        self.end_at(current::last_switch(), is_current);
    }

    #[inline]
    fn end_at(&self, now: u64, is_current: bool) {
        if self.node().finish(now) {
            if self.node().has_finish_work() {
                self.tell_of_finish();
            }
            if is_current {
                current::begin_tail();
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_of_finish(&self) {
        let around = self.parent().filter(|parent| !parent.is_finished());
        let share = around.as_ref().map_or_else(Share::bookkeeping, Share::of);
        let frame = Frame::enter(share, self.place(), FrameKind::Scope);
        <Node as UserCode>::run_finish_hooks(self);
        self.node().cancel_remains();
        drop(frame);
    }

    /// The usual case, a request that reads its own bill: no part of it is left, and no other thread works for it. Then
    /// nobody else's clock is asked.
    fn usage_at_rest(
        &self,
        read: fn(&Node, &[RunningSlice]) -> Reading,
        which: fn(&Shown) -> &AtomicU64,
    ) -> Option<Usage> {
        let node = self.node();
        if node.has_children() {
            return None;
        }
        let own = current::ledger()?;
        let before = own.others_without(node)?;
        current::settle();
        let mut reading = read(node, &[]);
        // What this thread alone has charged nobody can have changed meanwhile.
        if !node.is_whole_at(own) && own.others_without(node) != Some(before) {
            return None;
        }
        self.show_cpu(&mut reading, which);
        Some(reading.tally.into())
    }

    /// The running slice of another thread is measured by the kernel's clock, its charge later by extrapolation; the two
    /// may differ by some nanoseconds. What was shown once is never taken back.
    fn show_cpu(&self, reading: &mut Reading, which: fn(&Shown) -> &AtomicU64) {
        let cpu = &mut reading.tally.cpu;
        if reading.running != 0 {
            *cpu = which(self.node().control.show()).fetch_max(*cpu, Relaxed).max(*cpu);
        } else if let Some(shown) = self.node().control.shown() {
            *cpu = which(shown).load(Relaxed).max(*cpu);
        }
    }

    /// Keeps this context open: a [`finish`](Self::finish) takes effect when the last hold is dropped. That is how
    /// shielded work outlives its request without being late. On a finished context it does nothing.
    pub fn hold(&self) -> Hold {
        Hold(self.count_hold().then(|| self.clone()))
    }

    /// A hold without a handle; whether it is one.
    pub(crate) fn count_hold(&self) -> bool {
        self.node().control.hold()
    }

    /// A hold that is counted already.
    pub(crate) fn take_over_hold(&self) -> Hold {
        Hold((!self.is_finished()).then(|| self.clone()))
    }

    /// Ends a hold that is counted; whether it is now to be finished.
    pub(crate) fn end_hold(&self) -> bool {
        !self.is_finished() && self.node().control.release()
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

/// Keeps a context open while it lives; made by [`Context::hold`].
#[derive(Debug)]
#[must_use = "the context is held only while this lives"]
pub struct Hold(Option<Context>);

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(context) = self.0.take().filter(|context| context.node().control.release()) {
            context.finish();
        }
    }
}

/// Reads with the slices that run now on any thread; again if one of those threads switched meanwhile.
fn read_steadily(read: impl Fn(&[RunningSlice]) -> Usage) -> Usage {
    const TRIES: usize = 8;
    current::settle();
    let own = current::ledger();
    let ledgers = Ledger::all();
    let others = || ledgers.iter().filter(|ledger| !own.is_some_and(|own| std::ptr::eq(own, **ledger)));
    for _ in 0..TRIES {
        let before: Vec<u64> = others().map(|ledger| ledger.running.sequence()).collect();
        let slices: Vec<_> = others().filter_map(|ledger| ledger.running.read()).collect();
        let usage = read(&slices);
        if others().map(|ledger| ledger.running.sequence()).eq(before) {
            return usage;
        }
    }
    // Threads that switch faster than we read have only short slices: leave them out.
    read(&[])
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
    let mut slices: Vec<_> = Ledger::all().iter().filter_map(|ledger| ledger.running.read()).collect();
    let mut live: Vec<_> = Ledger::with_everything(|everything| {
        slices.retain(RunningSlice::runs_on);
        everything.nodes().filter(|node| node.id != 0).map(|node| snapshot(node, &slices)).collect()
    });
    live.sort_unstable_by_key(|snapshot: &Snapshot| snapshot.id);
    live
}

fn snapshot(node: &Node, slices: &[RunningSlice]) -> Snapshot {
    Snapshot {
        name: node.name().to_string(),
        class: node.birth.class.name,
        id: Id(node.id),
        parent: node.birth.parent.as_ref().map(Context::id),
        place: node.birth.place,
        finished: node.control.finished_at().is_some(),
        elapsed: elapsed_of(node),
        own: node.own(slices).tally.into(),
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
    Ledger::with_everything(|everything| {
        let mut living: HashMap<&str, Living> = HashMap::new();
        for node in everything.nodes() {
            let living = living.entry(node.birth.class.name).or_default();
            living.contexts += 1;
            living.own += &node.own_tally();
            living.finished += u64::from(node.control.finished_at().is_some());
        }
        let usage = |class: &'static Class| {
            let living = living.get(class.name).copied().unwrap_or_default();
            let cancelled = everything.cancelled(class).into_iter();
            let cancelled = cancelled.map(|(reason, books)| CancelledUsage {
                reason,
                contexts: books.contexts,
                own: books.own.into(),
            });
            class_usage(class.name, everything.class(class), living, cancelled.collect())
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

fn class_usage(
    class: &'static str,
    gone: ClassBooks,
    living: Living,
    cancelled: Vec<CancelledUsage>,
) -> ClassUsage {
    let (mut own, mut total) = (gone.own, gone.own);
    own += &living.own;
    total += &gone.below;
    ClassUsage {
        class,
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
