//! The current context of each thread.
//!
//! A thread's [`Slot`] holds the context that is current: it borrows it from the share of the task that is polled, or from
//! a handle that outlives the frame in which it was entered, or owns a share of it; so the pointer in it cannot dangle,
//! whatever user code does with its own handles ([`share`]). Frames (one poll, one closure) and guards keep what was
//! current before them, and put it back.

#[cfg(not(any(bursar_charging = "none", bursar_charging = "swap")))]
mod charge;
#[cfg(bursar_charging = "none")]
#[path = "charge_none.rs"]
mod charge;
#[cfg(bursar_charging = "swap")]
#[path = "charge_swap.rs"]
mod charge;

mod deferred;
mod forks;
mod frames;
mod here;
mod share;
mod switch;
pub(crate) mod tag;
mod time;
mod watched;

pub(crate) use charge::stamp;
pub(crate) use deferred::call_hook;
pub use deferred::report;
use forks::watch_forks;
pub(crate) use forks::{FORKED, check_process, has_forked};
pub use frames::Entered;
use frames::{Counted, Visit};
pub(crate) use frames::{Frame, FrameKind};
pub use share::Share;
pub use time::{Alarm, Timer};
pub(crate) use time::{Armed, alarm, deadline, now, set_time_source, set_timer};
pub(crate) use watched::{
    begin_job, count_db_span, end_job, may_block, take_longest_slice, watch_blocking, watch_slices,
};

use crate::cells::Tally;
use crate::class::{self, Class, Interned};
use crate::clock::{Clock, RemoteClock, Rung, ThreadClock};
use crate::deadline::TimeSource;
use crate::node::hooks::{self, Observer};
use crate::node::ledger::Ledger;
use crate::node::{Context, Name, Node};
use crate::report::ReportKind;
use deferred::Deferred;
use share::NOBODY;
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

type Place = &'static Location<'static>;

thread_local! {
    /// Const-initialised and without destructor: one plain load, and alive while other thread-locals are destroyed.
    static SLOT: Slot = const { Slot::new() };
    /// The timer of the event loop that runs on this thread.
    static TIMER: Cell<Option<&'static dyn Timer>> = const { Cell::new(None) };
    /// See [`tag`].
    static TAG: Cell<u64> = const { Cell::new(0) };
    /// The clock of deadlines on this thread, if it is not the timer's alone.
    static TIME: Cell<Option<Arc<dyn TimeSource>>> = const { Cell::new(None) };
    /// What needs a destructor: closes the thread's ledger.
    static CLEANUP: Cleanup = const { Cleanup::new() };
}

pub(crate) struct Slot {
    /// See [`share::Held`].
    current: Cell<*const Node>,
    /// What is current is borrowed from something below on the stack, or owned: it may be kept until that frame ends. Not
    /// so between two polls, when the task whose poll was the last may go at any time.
    lends: Cell<bool>,
    /// The line to name when something is found wrong in this frame: where the task was spawned, say.
    place: Cell<Option<Place>>,
    /// Guards alive on this thread, and how many were when the innermost frame began.
    guards: Cell<u32>,
    base: Cell<u32>,
    /// What the next [`catch_up`](Self::catch_up) has to do: what was put aside, and guards that were dropped in a frame that
    /// is not their own, left in the list for their own frame to undo.
    to_do: Cell<u32>,
    deferred: Cell<deferred::List>,
    /// A report is being told: those that this leads to are not.
    telling: Cell<bool>,
    /// Hooks are being told, or a report is: switches are not told meanwhile.
    hooks_off: Cell<bool>,
    /// What the running poll's task waited for the thread, in ticks, until the first context polled in it is charged. Not
    /// above 0: it did not.
    waited: Cell<u64>,
    clock: ThreadClock,
    /// [`Ledger::limbo`] while there are no books.
    ledger: Cell<&'static Ledger>,
    has_books: Cell<bool>,
    /// The ledger's id; 0 before there is one, and kept when the thread ends.
    id: Cell<u64>,
    /// The chain's reading at which the ledger began.
    start: Cell<u64>,
    /// Blocking calls in polls are reported from this long on, ns; 0: they are not looked for.
    blocking_min: Cell<u64>,
    /// Time off the CPU is not charged as `blocked`: the thread belongs to a pool, whose jobs are timed as a whole.
    may_block: Cell<bool>,
    /// The job that runs on this thread: when it began, in wall ticks, and how many of its ticks database spans have.
    job: Cell<(u64, u64)>,
    /// The thread's voluntary switches, when they were last read.
    voluntary: Cell<u64>,
    /// The number of what is current if it finished while it was: see [`begin_tail`](Self::begin_tail). Else 0.
    tail_of: Cell<u64>,
    /// Slices that take this long or longer, ns of wall time, are looked for.
    long_min: Cell<u64>,
    /// How long the longest of them took since it was last asked for; 0 if there was none.
    longest: Cell<u64>,
    /// Whose it was, and the location that the visit it ended with named.
    longest_of: Cell<Option<(Name, Place)>>,
    /// The number of the context whose leftovers are dropped: see [`visit_leftover`]. Else 0.
    leftover_of: Cell<u64>,
    /// Numbers for contexts and guards that this thread may give out: next and end.
    ids: Cell<(u64, u64)>,
    /// The classes this thread used last, by address of the text: saves a lock and a hash for literals.
    classes: [Cell<Option<&'static Class>>; CLASS_CACHE],
}

const CLASS_CACHE: usize = 32;

/// So many numbers a thread is given at once.
const BLOCK: u64 = 256;

struct Cleanup {
    guards: RefCell<Vec<frames::Guarded>>,
    /// Who wants to know of every context on this thread.
    observers: RefCell<Vec<Watching>>,
}

impl Cleanup {
    const fn new() -> Self {
        Self { guards: RefCell::new(Vec::new()), observers: RefCell::new(Vec::new()) }
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let entries = std::mem::take(&mut *self.guards.borrow_mut());
        let observers = std::mem::take(&mut *self.observers.borrow_mut());
        SLOT.with(|slot| {
            let resumed = observers.iter().filter(|watching| watching.resumed);
            slot.tell_last(resumed.map(|watching| watching.observer.clone()));
            slot.guards.set(0);
            slot.become_nobody();
            slot.close();
            slot.catch_up();
        });
        observers.iter().for_each(|watching| hooks::remove_finish(&watching.observer));
        drop((entries, observers));
        // Its memory: nothing is put aside from here on.
        SLOT.with(|slot| drop(ManuallyDrop::into_inner(slot.deferred.take())));
    }
}

impl Slot {
    const fn new() -> Self {
        Self {
            current: Cell::new(NOBODY),
            lends: Cell::new(false),
            place: Cell::new(None),
            guards: Cell::new(0),
            base: Cell::new(0),
            to_do: Cell::new(0),
            deferred: Cell::new(ManuallyDrop::new(Vec::new())),
            telling: Cell::new(false),
            hooks_off: Cell::new(false),
            waited: Cell::new(0),
            clock: ThreadClock::new(),
            ledger: Cell::new(Ledger::limbo()),
            has_books: Cell::new(false),
            id: Cell::new(0),
            start: Cell::new(0),
            blocking_min: Cell::new(0),
            may_block: Cell::new(false),
            job: Cell::new((0, 0)),
            voluntary: Cell::new(0),
            tail_of: Cell::new(0),
            long_min: Cell::new(u64::MAX),
            longest: Cell::new(0),
            longest_of: Cell::new(None),
            leftover_of: Cell::new(0),
            ids: Cell::new((0, 0)),
            classes: [const { Cell::new(None) }; CLASS_CACHE],
        }
    }

    /// Opens the thread's books at its first use. False while the thread is being destroyed: nothing is charged then.
    #[inline]
    fn ready(&self) -> bool {
        self.has_books.get() || self.open(Clock::Auto)
    }

    /// The thread's ledger, from the first use until the thread ends.
    #[inline]
    fn books(&self) -> Option<&'static Ledger> {
        self.has_books.get().then(|| self.ledger.get())
    }

    #[cold]
    fn open(&self, clock: Clock) -> bool {
        if self.clock.is_abandoned() || CLEANUP.try_with(|_| ()).is_err() {
            return false;
        }
        let rung = self.clock.start(clock, watch_forks());
        let ledger = Ledger::open();
        self.id.set(ledger.id());
        ledger.running.open((rung != Rung::Manual).then(RemoteClock::this_thread));
        self.ledger.set(ledger);
        self.has_books.set(true);
        self.defer(Deferred::Clock(rung));
        // Last: opening the books is nobody's cost.
        self.begin_at_now();
        true
    }

    fn begin_at_now(&self) {
        let stamp = self.clock.resync();
        self.publish(stamp.cpu);
        self.start.set(stamp.cpu);
    }

    fn close(&self) {
        let Some(ledger) = self.books() else { return };
        self.settle_now();
        self.clock.stop();
        self.has_books.set(false);
        self.ledger.set(Ledger::limbo());
        ledger.close();
    }

    /// Changes the rung; the chain goes on from where it is. A thread without books opens them on that rung.
    fn use_clock(&self, clock: Clock) {
        let Some(ledger) = self.books() else {
            self.open(clock);
            return;
        };
        if self.clock.rung().is_some_and(|rung| is_met(clock, rung)) {
            return;
        }
        self.settle_resynced();
        let charged = self.last_cpu().wrapping_sub(self.start.get());
        self.clock.stop();
        let rung = self.clock.start(clock, watch_forks());
        let stamp = self.clock.resync();
        self.start.set(stamp.cpu.wrapping_sub(charged));
        self.publish(stamp.cpu);
        ledger.running.open((rung != Rung::Manual).then(RemoteClock::this_thread));
        self.defer(Deferred::Clock(rung));
    }
}

// ---- what the rest of the crate asks of the current thread ------------------------------------------------------

impl Context {
    /// The context that is current on this thread; the sentinel where none is.
    pub fn current() -> Self {
        SLOT.with(Slot::share).context()
    }
}

/// Who observes a thread, and was told of a resume and not yet of the suspend. (One that comes while hooks are not called is
/// told of the next resume first.)
struct Watching {
    observer: Observer,
    resumed: bool,
}

/// Who is to be told of a resume, or of a suspend, of what is current on this thread.
fn observers(resumed: bool) -> Vec<Observer> {
    let due = |cleanup: &Cleanup| {
        let mut all = cleanup.observers.borrow_mut();
        let due = all.iter_mut().filter(|watching| watching.resumed != resumed);
        due.map(|watching| {
            watching.resumed = resumed;
            watching.observer.clone()
        })
        .collect()
    };
    CLEANUP.try_with(due).unwrap_or_default()
}

/// Tells `observer` of every context on this thread from here on, beginning with the one that is current.
pub(crate) fn add_observer(observer: Observer) {
    SLOT.with(|slot| {
        let resumed = slot.may_tell();
        // First, for what it is told may lead to a switch, of which it is to be told too.
        let watching = Watching { observer: observer.clone(), resumed };
        let _ = CLEANUP.try_with(|cleanup| cleanup.observers.borrow_mut().push(watching));
        if resumed {
            slot.tell_each(vec![observer], |hooks, context| hooks.on_resume(context));
            slot.catch_up();
        }
    });
}

/// False if it was removed before: when the thread ended. The caller holds another handle, so that the last one is not
/// dropped inside of the borrow.
pub(crate) fn remove_observer(observer: &Observer) -> bool {
    let is_it = |other: &Watching| Arc::ptr_eq(&other.observer.0, &observer.0);
    let remove = |cleanup: &Cleanup| {
        let mut observers = cleanup.observers.borrow_mut();
        observers.iter().rposition(is_it).map(|at| observers.remove(at))
    };
    let removed = CLEANUP.try_with(remove).ok().flatten();
    if removed.as_ref().is_some_and(|watching| watching.resumed) {
        SLOT.with(|slot| {
            slot.tell_each(vec![observer.clone()], |hooks, context| hooks.on_suspend(context));
            slot.catch_up();
        });
    }
    removed.is_some()
}

/// Whether a thread that reads by `rung` already has what `wanted` asks for.
fn is_met(wanted: Clock, rung: Rung) -> bool {
    match wanted {
        Clock::Auto => rung != Rung::Manual,
        Clock::Rseq => rung == Rung::Rseq,
        Clock::PerfPage => rung == Rung::PerfPage,
        Clock::ThreadTime => rung == Rung::ThreadTime,
        Clock::Manual => rung == Rung::Manual,
    }
}

/// What a new context needs to know of the thread that makes it.
pub(crate) struct Origin {
    pub(crate) ledger: &'static Ledger,
    pub(crate) owner: u64,
    pub(crate) id: u64,
    pub(crate) now: u64,
    pub(crate) class: &'static Class,
    /// What was current there.
    pub(crate) made_in: Option<(&'static Class, u64)>,
}

#[inline(always)]
pub(crate) fn origin(class: &str, place: Place) -> Origin {
    let slot = here::here();
    if !slot.ready() {
        check_process();
    }
    let ledger = slot.ledger.get();
    let class = slot.class(class, place);
    let made_in = slot.current_node().map(|node| (node.birth.class, node.id));
    let (owner, id, now) = (ledger.id(), slot.fresh_id(), slot.clock.wall());
    Origin { ledger, owner, id, now, class, made_in }
}

/// Wall ticks of this thread's clock.
#[inline]
pub(crate) fn ticks() -> u64 {
    SLOT.with(|slot| slot.clock.wall())
}

/// A difference of [`ticks`], in nanoseconds.
pub(crate) fn ticks_to_ns(ticks: u64) -> u64 {
    SLOT.with(|slot| slot.clock.ticks_to_ns(ticks))
}

/// Wall ticks at the last switch on this thread: for what follows it at once.
#[inline]
pub(crate) fn last_switch() -> u64 {
    SLOT.with(|slot| if slot.books().is_some() { slot.clock.last_wall() } else { slot.clock.wall() })
}

/// Charges the slice that runs on this thread up to now.
pub(crate) fn settle() {
    SLOT.with(|slot| {
        if slot.ready() {
            slot.settle_now();
            slot.catch_up();
        }
    });
}

/// The same, if what runs is `node` or something below it. (If it is not, the running slice is nobody's here.) Whether it
/// is that.
pub(crate) fn settle_within(node: &Node) -> bool {
    SLOT.with(|slot| {
        let mut running = slot.current_node();
        while let Some(inner) = running {
            if std::ptr::eq(inner, node) {
                settle();
                return true;
            }
            running = inner.birth.parent.as_ref().map(Context::node);
        }
        false
    })
}

/// Adds to a context's cells what somebody measured elsewhere.
///
/// The local cells of CPU are what this thread's own clock measured: they are its books (P7), so CPU goes to the others.
/// So do the others that each poll adds to: those additions do not look whether the sum is too large, and need not, since
/// no amount from outside comes there.
pub(crate) fn charge(node: &Node, tally: &Tally) {
    if let Some(budget) = node.budget().filter(|_| tally.cpu != 0) {
        budget.spend(tally.cpu);
    }
    SLOT.with(|slot| {
        if node.birth.owner == slot.id.get() && !tally.has_polls() {
            node.add(tally);
        } else {
            node.abroad().shared.absorb(tally);
        }
    });
}

/// The ledger of this thread, settled by a reading of the kernel's own clock, and its CPU time since it was opened.
pub(crate) fn settled_ledger() -> Option<(&'static Ledger, u64)> {
    SLOT.with(|slot| {
        slot.ready();
        let ledger = slot.books()?;
        slot.settle_resynced();
        if slot.to_do.get() != 0 {
            slot.catch_up();
            // What the telling cost belongs to the same moment as what is read now.
            slot.settle_resynced();
        }
        Some((ledger, slot.last_cpu().wrapping_sub(slot.start.get())))
    })
}

/// The number by which this thread's own contexts know it; 0 before it has books.
#[inline]
pub(crate) fn owner() -> u64 {
    SLOT.with(|slot| slot.id.get())
}

/// This thread's ledger, if it has one, without settling.
pub(crate) fn ledger() -> Option<&'static Ledger> {
    SLOT.with(Slot::books)
}

pub(crate) fn rung() -> Option<Rung> {
    SLOT.with(|slot| slot.clock.rung())
}

/// Reads the kernel's clock where the cheap mark would not tell that the thread was parked.
pub(crate) fn resync_if_blind() {
    SLOT.with(|slot| {
        if slot.clock.blind_to_blocking() {
            slot.settle_resynced();
            slot.catch_up();
        }
    });
}

pub(crate) fn manual_block(wall: u64) {
    SLOT.with(|slot| slot.clock.manual_block(wall));
}

#[cfg(test)]
pub(crate) fn manual_go_back(cpu: u64) {
    SLOT.with(|slot| slot.clock.manual_go_back(cpu));
}

pub(crate) fn manual_advance(cpu: u64, wall: u64) {
    SLOT.with(|slot| slot.clock.manual_advance(cpu, wall));
}

/// What is current has just finished: what runs in it from here to the next switch is its tail.
#[cold]
pub(crate) fn begin_tail() {
    SLOT.with(Slot::begin_tail);
}

/// Runs `f`, which may finish what is current, or something above it: then what runs from here on is its tail.
pub(crate) fn with_tail(f: impl FnOnce()) {
    let is_late = || SLOT.with(|slot| slot.current_node().is_some_and(Node::is_closed));
    let was_late = is_late();
    f();
    if !was_late && is_late() {
        SLOT.with(Slot::begin_tail);
    }
}

/// The loop's own account is current from here on.
#[inline]
pub(crate) fn idle() {
    SLOT.with(Slot::idle);
}

/// One poll of a task from the loop: `share` is put in place if it is not, and stays; guards left behind are undone, and
/// a CPU budget is looked at.
#[inline(always)]
pub(crate) fn poll<R>(share: &Share, place: Place, woken: u64, f: impl FnOnce() -> R) -> R {
    SLOT.with(|slot| {
        let Some(node) = share.own_node() else { return poll_elsewhere(slot, share, place, woken, f) };
        charge::resume(slot, share, node, place, woken);
        let visit = Visit::begin(slot, share);
        let unwinding = Counted { slot, share };
        let output = f();
        std::mem::forget(unwinding);
        drop(visit);
        charge::count(slot, node);
        if node.budgeted {
            check_budget(share);
        }
        output
    })
}

#[cold]
#[inline(never)]
fn check_budget(share: &Share) {
    share.node().into_iter().for_each(check_budgets);
}

/// Cancels `node`, or ancestors, whose total CPU has reached their budget, the slice that runs here included.
#[cold]
#[inline(never)]
pub(crate) fn check_budgets(node: &Node) {
    // What runs on in a finished context counts against no budget.
    if node.control.finished_at().is_none() {
        settle();
    }
    node.check_budgets();
}

/// The same in a context that another thread made, or in none.
#[cold]
#[inline(never)]
fn poll_elsewhere<R>(slot: &Slot, share: &Share, place: Place, woken: u64, f: impl FnOnce() -> R) -> R {
    slot.resume_elsewhere(share, place, woken);
    let output = {
        let _visit = Visit::begin(slot, share);
        let _counted = Counted { slot, share };
        f()
    };
    if share.node().is_some_and(|node| node.budgeted) {
        check_budget(share);
    }
    output
}

/// The same for what is done on a task's account but is no poll of it.
#[inline]
pub(crate) fn visit<R>(share: &Share, place: Place, f: impl FnOnce() -> R) -> R {
    SLOT.with(|slot| {
        slot.put(share, place);
        let output = {
            let _visit = Visit::begin(slot, share);
            f()
        };
        if share.node().is_some_and(|node| node.budgeted) {
            check_budget(share);
        }
        output
    })
}

/// Runs `f`, which drops what work of `share` has left behind, in its context, from anywhere.
///
/// In a context that has finished its cost is late, but not reported: nobody did anything wrong.
pub(crate) fn visit_leftover<R>(share: &Share, place: Place, f: impl FnOnce() -> R) -> R {
    struct Leftover(u64);
    impl Drop for Leftover {
        fn drop(&mut self) {
            SLOT.with(|slot| slot.leftover_of.set(self.0));
        }
    }
    let of = share.node().map_or(0, |node| node.id);
    let _leftover = Leftover(SLOT.with(|slot| slot.leftover_of.replace(of)));
    let _frame = Frame::enter(share.clone(), place, FrameKind::Scope);
    f()
}

impl Slot {
    /// A number never given out before. Numbers come in blocks, so that a context costs no atomic operation here;
    /// across threads they are unique, not in order.
    #[inline]
    fn fresh_id(&self) -> u64 {
        let (next, end) = self.ids.get();
        if next == end {
            return self.fresh_block();
        }
        self.ids.set((next + 1, end));
        next
    }

    #[cold]
    #[inline(never)]
    fn fresh_block(&self) -> u64 {
        static BLOCKS: AtomicU64 = AtomicU64::new(1);
        let next = BLOCKS.fetch_add(BLOCK, Relaxed);
        tag::note_block(next);
        self.ids.set((next + 1, next + BLOCK));
        next
    }

    #[inline]
    fn class(&self, name: &str, place: Place) -> &'static Class {
        let cached = &self.classes[((name.as_ptr().addr() >> 4) ^ name.len()) % CLASS_CACHE];
        match cached.get() {
            Some(class) if class.name == name => class,
            _ => self.look_up_class(cached, name, place),
        }
    }

    #[cold]
    #[inline(never)]
    fn look_up_class(
        &self,
        cached: &Cell<Option<&'static Class>>,
        name: &str,
        place: Place,
    ) -> &'static Class {
        match class::intern(name) {
            Interned::Class(class) => {
                cached.set(Some(class));
                class
            }
            Interned::Refused(other) => {
                let detail = format!("no room for {name:?}");
                report(ReportKind::TooManyClasses, &other.name, place, &detail);
                other
            }
        }
    }
}
