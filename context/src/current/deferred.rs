//! User code that a switch leads to: it is put aside, and runs when the switch is complete.
//!
//! **Nothing runs inside a switch.** A switch ([`switch`](super::switch)) and the repair of guards
//! ([`frames`](super::frames)) change several cells that belong together, so no code of a user may see them half changed,
//! or unwind through them. Neither of the two calls any: what is to be told is pushed to a list of the thread
//! ([`Deferred`]), and [`Slot::catch_up`] tells it after the last of those cells is set. This file is the only one of
//! `current` that calls user code, which is: listeners of reports, the logger of the process, hooks, and destructors of
//! what a context was made with. (The test of the house checks that.)
//!
//! User code that is called from here
//!
//! 1. runs in a frame of its own ([`isolated`]). Guards that it enters are undone at the end of that frame; guards from
//!    outside that it drops are undone later, by their own frame. So the cells are the same before and after.
//! 2. runs in a stated context. Hooks run in the context of which they are told. Listeners and the logger run on the
//!    account of the loop, `(runtime)`, where no context is current. What the end of a context leads to (finish hooks,
//!    destructors) runs where its last handle is dropped; if a switch gives that up, on the account `(runtime)`; and if the
//!    end is a call of `finish`, as that says.
//! 3. cannot unwind further. A panic is caught here and reported.
//! 4. is not told of what it causes. A report that is made on a thread while a report is told there is counted and not
//!    told: a listener that makes a report would never come to an end. No hook is called while a hook runs or a report is
//!    told.
//!
//! None of this is on the plain path: the list is empty there, which is one comparison at the end of a frame.

use super::frames::{Frame, FrameKind};
use super::share::{Held, Share, address_of};
use super::{Place, SLOT, Slot, charge};
use crate::clock::Rung;
use crate::journal;
use crate::node::hooks::{self, Hooks, Observer};
use crate::node::{Aside, Context, Name, Node, UserCode};
use crate::panics::{contain_panic, discard_panic, panic_message};
use crate::report::{Report, ReportKind};
use crate::usage::Usage;
use std::any::Any;
use std::fmt::Display;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::time::Duration;

/// What is to be done when a switch is complete.
pub(super) enum Deferred {
    /// Work went on in a context that had finished: how long ago, ns, and the CPU of the slice.
    LateWork { name: Name, place: Place, age: u64, cpu: u64 },
    /// The thread gave up the CPU of its own accord for that long, ns.
    BlockingCall { name: Name, place: Place, off: u64 },
    /// A guard was left behind or dropped out of order. What was current before it is to be released.
    Misuse { kind: ReportKind, name: Name, place: Place, how: Misuse, before: Held },
    /// What was current before a guard is to be released.
    Release(Held),
    /// The thread's CPU clock was chosen.
    Clock(Rung),
    /// The hooks are to be told of the context that is current now.
    Resumed,
}

/// How a guard was misused.
pub(super) enum Misuse {
    /// It outlived the frame that began there.
    Outlived(Option<Place>),
    /// It was dropped while a later one was alive.
    BeforeLater,
    /// It was dropped in a poll or closure that began after it.
    InsideFrame,
}

impl Deferred {
    /// What is to be released, and what is to be told.
    fn split(self) -> (Held, Option<Self>) {
        match self {
            Self::Release(before) => (before, None),
            Self::Misuse { kind, name, place, how, before } => {
                (before, Some(Self::Misuse { kind, name, place, how, before: Held::NOBODY }))
            }
            other => (Held::NOBODY, Some(other)),
        }
    }
}

impl Display for Misuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Outlived(Some(place)) => write!(f, "in work that began at {place}"),
            Self::Outlived(None) => Ok(()),
            Self::BeforeLater => f.write_str("a later guard was still alive"),
            Self::InsideFrame => f.write_str("dropped inside another poll or closure"),
        }
    }
}

/// The list of one thread. It has no destructor, as the slot must have none; the end of the thread empties it.
pub(super) type List = ManuallyDrop<Vec<Deferred>>;

impl Slot {
    /// Puts something aside until [`catch_up`](Self::catch_up). Runs no user code.
    #[cold]
    pub(super) fn defer(&self, deferred: Deferred) {
        let mut list = self.deferred.take();
        list.push(deferred);
        self.deferred.set(list);
        self.to_do.set(self.to_do.get() + 1);
    }

    /// Does what was put aside, and undoes guards that were dropped in a frame which was not theirs. Called when the
    /// switch is complete, and the frame, if one began or ended.
    #[inline(always)]
    pub(super) fn catch_up(&self) {
        if self.to_do.get() != 0 {
            self.catch_up_now();
        }
    }

    /// The same, and gives up what was current. One branch for both.
    #[inline(always)]
    pub(super) fn catch_up_and_release(&self, was_current: Held) {
        if (self.to_do.get() as usize | was_current.owned_mark()) != 0 {
            self.catch_up_and_release_now(was_current);
        } else {
            // Not to be looked at a second time.
            std::mem::forget(was_current);
        }
    }

    #[cold]
    #[inline(never)]
    fn catch_up_and_release_now(&self, was_current: Held) {
        self.catch_up();
        release(was_current);
    }

    #[cold]
    #[inline(never)]
    fn catch_up_now(&self) {
        // The whole list at once: what is put aside from here on is caused by what is told here.
        let mut list = ManuallyDrop::into_inner(self.deferred.take());
        self.to_do.set(self.to_do.get() - u32::try_from(list.len()).unwrap_or(0));
        let told = list.len();
        list.retain(|deferred| !matches!(deferred, Deferred::Resumed));
        if list.len() < told {
            self.tell_hooks(true);
        }
        let (owned, reports): (Vec<_>, Vec<_>) = list.into_iter().map(Deferred::split).unzip();
        if reports.iter().any(Option::is_some) {
            // One frame for all: to leave a finished context for each would be late work each time, and so a report.
            self.on_account_of_loop(Location::caller(), || {
                reports.into_iter().flatten().for_each(tell_deferred)
            });
        }
        owned.into_iter().for_each(release);
        self.undo_dead_guards();
    }

    /// Runs `f`, which calls listeners or the logger, on the account `(runtime)`. Hooks are not told of the way there and
    /// back: what is current has not stopped being so for those who look at it.
    fn on_account_of_loop(&self, place: Place, f: impl FnOnce()) {
        let hooks_off = self.hooks_off.replace(true);
        let base = self.hold_guards();
        let frame = Frame::enter(Share::bookkeeping(), place, FrameKind::Scope);
        f();
        drop(frame);
        self.base.set(base);
        self.hooks_off.set(hooks_off);
        self.catch_up();
    }

    /// From here on none of the guards that are there is undone, until `base` is what this returns: a switch may be under
    /// way, and hooks could not be told.
    fn hold_guards(&self) -> u32 {
        self.base.replace(self.guards.get())
    }

    /// Makes `next` current, with the hooks told before, and told after by the next [`catch_up`](Self::catch_up). Returns what
    /// was current. Everything but the plainest poll switches by this.
    #[inline(always)]
    pub(super) fn switch(&self, next: Held) -> Held {
        let next = next.into_raw();
        if hooks::anyone() {
            self.tell_suspend(next);
        }
        Held::from_raw(charge::swap(self, next))
    }

    /// Before a switch begins.
    #[cold]
    #[inline(never)]
    fn tell_suspend(&self, next: *const Node) {
        // What is held of one context may differ by its marks.
        if self.hooks_off.get() || address_of(self.current.get()) == address_of(next) {
            return;
        }
        self.tell_hooks(false);
        if address_of(next).is_some() {
            self.defer(Deferred::Resumed);
        }
    }

    /// Tells the hooks of this thread, and those of the current context, of that context.
    fn tell_hooks(&self, resumed: bool) {
        let Some(node) = self.current_node().filter(|_| self.may_tell()) else { return };
        let all = super::observers(resumed).into_iter().chain(node.observers()).collect();
        if resumed {
            self.tell_each(all, |hooks, context| hooks.on_resume(context));
        } else {
            self.tell_each(all, |hooks, context| hooks.on_suspend(context));
        }
    }

    /// Whether a context is current, and hooks may be called.
    pub(super) fn may_tell(&self) -> bool {
        !self.hooks_off.get() && self.current_node().is_some()
    }

    /// Tells some observers of what is current.
    pub(super) fn tell_each(&self, observers: Vec<Observer>, what: impl Fn(&dyn Hooks, &Context)) {
        if self.current_node().is_none() || self.hooks_off.replace(true) {
            return;
        }
        let base = self.hold_guards();
        // Counted: what a hook drops may be what kept the context until here.
        let context = self.share().context();
        for observer in observers {
            // Not by a switch: that ends a slice, which is a report if the context has finished.
            let frame = Frame::stay(context.place());
            let call = || what(&*observer.0, &context);
            contained(frame, context.node().name(), context.place(), call);
        }
        self.base.set(base);
        self.hooks_off.set(false);
    }

    /// The thread ends with a context current, by a forgotten guard: that is a suspend too.
    pub(super) fn tell_last(&self, observers: impl Iterator<Item = Observer>) {
        self.tell_each(observers.collect(), |hooks, context| hooks.on_suspend(context));
    }
}

fn tell_deferred(deferred: Deferred) {
    match deferred {
        Deferred::LateWork { name, place, age, cpu } => {
            let age = Duration::from_nanos(age);
            let detail = format!("finished {age:?} ago, work that began at {place} still charges it");
            let cpu = Duration::from_nanos(cpu);
            tell(&journal::enter(ReportKind::LateWork, name.to_string(), place, &detail, cpu));
        }
        Deferred::BlockingCall { name, place, off } => {
            let detail = format!("the thread slept for {:?}", Duration::from_nanos(off));
            report(ReportKind::BlockingCall, &name, place, &detail);
        }
        Deferred::Misuse { kind, name, place, how, .. } => report(kind, &name, place, &how.to_string()),
        Deferred::Clock(rung) => tell_user_code(Location::caller(), || {
            log::debug!(target: "context::clock", "CPU time of this thread is read by: {rung}");
        }),
        Deferred::Release(_) | Deferred::Resumed => {}
    }
}

/// Runs user code in `frame`, which isolates it. See the head of this file.
fn isolated(frame: Frame<'_>, f: impl FnOnce()) -> Result<(), Box<dyn Any + Send>> {
    let ended = catch_unwind(AssertUnwindSafe(f));
    drop(frame);
    ended
}

/// Runs user code in `frame`. A panic in it is reported as one of `name`'s.
fn contained(frame: Frame<'_>, name: Name, place: Place, f: impl FnOnce()) {
    if let Err(panic) = isolated(frame, f) {
        report(ReportKind::UnhandledPanic, &name, place, panic_message(&*panic));
        discard_panic(panic);
    }
}

/// Calls a hook of `context` where no switch leads to it.
pub(crate) fn call_hook(context: &Context, hook: impl FnOnce()) {
    contained(Frame::stay(context.place()), context.node().name(), context.place(), hook);
}

/// Enters one occurrence in the ledger of the sentinel and tells it: to the log the first time and then at every power of
/// two, to the listeners each time. For executors; anyone may call it, and it never panics.
///
/// Listeners and the logger run with no context current, on the account `(runtime)` of this thread. What is reported on this
/// thread while they run is counted but not told.
pub fn report(kind: ReportKind, context: &dyn Display, place: Place, detail: &str) {
    let mut name = String::new();
    // The caller's code: not under the lock of the ledger.
    contain_panic(|| name = context.to_string(), |_| ());
    tell(&journal::enter(kind, name, place, detail, Duration::ZERO));
}

fn tell(report: &Report) {
    let listeners = journal::listeners();
    let is_logged = report.count.is_power_of_two();
    let is_wanted = is_logged || !listeners.is_empty();
    if !is_wanted || SLOT.with(|slot| slot.telling.get()) {
        return;
    }
    let place = report.place;
    SLOT.with(|slot| {
        // What the switch into this finds was not caused by a listener, and so is told in there.
        slot.on_account_of_loop(place, || {
            if is_logged {
                tell_user_code(place, || log::warn!(target: journal::LOG_TARGET, "{report}"));
            }
            listeners.into_iter().for_each(|listener| tell_listener(report, move || listener(report)));
        });
    });
}

fn tell_listener(report: &Report, listener: impl FnOnce()) {
    let mut panicked = true;
    tell_user_code(report.place, || {
        listener();
        panicked = false;
    });
    if panicked {
        let complain = || log::error!(target: journal::LOG_TARGET, "a listener panicked over: {report}");
        tell_user_code(report.place, complain);
    }
}

/// Tells something to a listener or the logger, unless one of them led to it. If it panics there is nobody left to tell: the
/// panic hook has been called.
fn tell_user_code(place: Place, f: impl FnOnce()) {
    SLOT.with(|slot| {
        if !slot.telling.replace(true) {
            if let Err(panic) = isolated(Frame::stay(place), f) {
                discard_panic(panic);
            }
            slot.telling.set(false);
        }
    });
}

/// What the end of a context leads to.
impl UserCode for Node {
    fn run_finish_hooks(context: &Context, usage: &Usage) {
        let node = context.node();
        let hooks = node.control.take_hooks();
        let observers = if hooks::anyone() { hooks::finish_observers() } else { Vec::new() };
        if hooks.is_empty() && observers.is_empty() && node.observers().next().is_none() {
            return;
        }
        for hook in hooks {
            contained(Frame::stay(context.place()), node.name(), context.place(), || hook(usage));
        }
        for observer in observers.into_iter().chain(node.observers()) {
            let call = || observer.0.on_finish(context, usage);
            contained(Frame::stay(context.place()), node.name(), context.place(), call);
        }
    }

    fn contain(&self, f: impl FnOnce()) {
        contained(Frame::stay(self.birth.place), self.name(), self.birth.place, f);
    }

    fn discard(name: Name, place: Place, aside: Box<Aside>) {
        if aside.has_user_code() {
            contained(Frame::stay(place), name, place, || drop(aside));
        }
    }
}

/// Gives up what was current, after a switch and the catching up. If that is the end of a context, it is no matter of what is current now: what
/// the end leads to runs on the account `(runtime)`.
#[inline(always)]
fn release(held: Held) {
    if held.is_owned() {
        release_owned(held);
    }
}

#[cold]
#[inline(never)]
fn release_owned(held: Held) {
    let may_lead_to_user_code = held.node().is_some_and(|node| hooks::anyone() || node.control.has_aside());
    if may_lead_to_user_code && held.is_last() {
        let _frame = Frame::enter(Share::bookkeeping(), Location::caller(), FrameKind::Scope);
        drop(held);
    }
}
