//! Frames and guards: what is current while a closure, a poll or a guard lasts, and how misuse is undone.
//!
//! A frame is a stretch of the call stack (one poll, one closure). Frames are locals of this crate and are never
//! forgotten, so they nest. Guards do not: user code may keep one in a future across an await, forget it, or drop it in
//! another order or in another frame. So a guard is a number; what it stands for is an entry in a list of the thread, and
//! a frame that ends with more entries than it began with undoes the rest. The guard of an event loop is such a guard, too.
//!
//! Why no address in here dangles:
//!
//! 1. An address that is *lent*, by [`Frame::lend`], is in the slot and in the `before` of inner frames. Inner frames end
//!    first; the frame's own end takes it out of the slot, by a switch that cannot unwind; and the frame cannot outlive the
//!    handle that it borrows.
//! 2. Guards, which may outlive any frame, *own* what was current before them.
//! 3. A frame's `before` is lent from below on the stack while [`Slot::lends`] says so, and else it is owned.
#![allow(unsafe_code)]

use super::deferred::{Deferred, Misuse};
use super::here::here;
use super::share::{Held, Share};
use super::{CLEANUP, Place, SLOT, Slot, TIMER, Timer};
use crate::clock::Clock;
use crate::node::{Context, Name};
use crate::report::ReportKind;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::Location;

/// One guard that is alive.
pub(super) struct Guarded {
    serial: u64,
    /// What was current before it. Owned: see the head of this file.
    before: Held,
    /// The line that reports named before it.
    place_before: Option<Place>,
    /// The guard's own context and line, for reports.
    name: Name,
    place: Place,
    /// It was dropped in a frame that began after it, and is undone when its own frame is the innermost.
    dead: bool,
    /// Of a loop's guard.
    event_loop: Option<LoopBefore>,
}

/// What an event loop on this thread found when it began.
struct LoopBefore {
    timer: Option<&'static dyn Timer>,
    blocking_min: u64,
    long_min: u64,
    may_block: bool,
}

/// What a frame calls a guard that outlives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// A poll: the guard was held across an await.
    Poll,
    /// A closure: the guard was carried out of it or forgotten.
    Scope,
}

impl FrameKind {
    fn misuse(self) -> ReportKind {
        match self {
            Self::Poll => ReportKind::GuardAcrossAwait,
            Self::Scope => ReportKind::GuardOutOfOrder,
        }
    }
}

/// A stretch of the stack in which another context is current. Restores on drop, also on unwind; the drop cannot unwind.
pub(crate) struct Frame<'a> {
    /// Taken in the destructor.
    before: ManuallyDrop<Held>,
    lender: PhantomData<&'a Context>,
    place: Option<Place>,
    base: u32,
    lends: bool,
    kind: FrameKind,
}

impl<'a> Frame<'a> {
    /// With `context` current, which the frame borrows: four atomic operations less than with a share of its own.
    #[inline]
    pub(crate) fn lend(context: &'a Context, place: Place, kind: FrameKind) -> Self {
        // SAFETY: the handle is borrowed for as long as the frame lives, and the frame's drop takes the address out of the
        // slot. Who else may hold it, and that they end before, is said in the head of this file.
        Self::begin(unsafe { Held::lent(context) }, place, kind)
    }

    /// With `share` current, which the frame keeps.
    pub(crate) fn enter(share: Share, place: Place, kind: FrameKind) -> Self {
        Self::begin(Held::owning(share), place, kind)
    }

    #[inline(always)]
    fn begin(held: Held, place: Place, kind: FrameKind) -> Self {
        let slot = here();
        if kind == FrameKind::Poll {
            slot.count_poll(&held);
        }
        let before = slot.switch(held);
        Self::around(&slot, before, place, kind)
    }

    /// With what is current, which stays so: no slice ends here. For user code that is called on its behalf.
    pub(super) fn stay(place: Place) -> Frame<'static> {
        let slot = here();
        let own = Held::owning(slot.share_or_loop());
        let before = Held::from_raw(slot.current.replace(own.into_raw()));
        Frame::around(&slot, before, place, FrameKind::Scope)
    }

    /// The new context is current already; `before` was.
    #[inline(always)]
    fn around(slot: &Slot, before: Held, place: Place, kind: FrameKind) -> Self {
        let before = if slot.lends.get() { before } else { before.into_owned() };
        let place = slot.place.replace(Some(place));
        let lends = slot.lends.replace(true);
        let base = slot.base.replace(slot.guards.get());
        // Here, and not with the frame in hand: that would have to be in memory for the call.
        slot.catch_up();
        Self { before: ManuallyDrop::new(before), lender: PhantomData, place, base, lends, kind }
    }
}

impl Drop for Frame<'_> {
    #[inline]
    fn drop(&mut self) {
        let slot = here();
        // The base is this frame's own: inner frames have put it back, and nothing else changes it.
        let start = slot.base.get();
        if slot.guards.get() != start {
            slot.undo_guards(start, self.kind);
        }
        // SAFETY: taken here alone, and this is the destructor.
        let before = unsafe { ManuallyDrop::take(&mut self.before) };
        slot.lends.set(self.lends);
        // Before the rest: the slice that ends is laid to the line of this frame. Guards that hooks enter meanwhile own what
        // they keep, and end in a frame of their own.
        let inner = slot.switch(before);
        slot.base.set(self.base);
        slot.place.set(self.place);
        slot.catch_up_and_release(inner);
    }
}

/// The end of what the loop does in a context, a poll or not: guards that were left behind are undone, and the context
/// is put back.
pub(super) struct Visit<'a> {
    slot: &'a Slot,
    share: &'a Share,
    start: u32,
}

impl<'a> Visit<'a> {
    /// `share` is current.
    #[inline(always)]
    pub(super) fn begin(slot: &'a Slot, share: &'a Share) -> Self {
        Self { slot, share, start: slot.guards.get() }
    }
}

impl Drop for Visit<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.slot.guards.get() != self.start {
            put_back(self.slot, self.share, self.start);
        }
        self.slot.lends.set(false);
    }
}

/// Counts a poll that unwinds, or that is none of this thread's. (The usual one is counted where it is called; where it
/// cannot unwind, nothing of this is left in the program.)
pub(super) struct Counted<'a> {
    pub(super) slot: &'a Slot,
    pub(super) share: &'a Share,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.slot.count_poll(&Held::of(self.share));
    }
}

#[cold]
#[inline(never)]
fn put_back(slot: &Slot, share: &Share, start: u32) {
    let began = slot.undo_guards(start, FrameKind::Poll);
    let inner = slot.switch(Held::of(share));
    slot.place.set(began);
    slot.catch_up_and_release(inner);
}

impl Slot {
    /// Takes the guards beyond the first `start` out of the list: from now on they are inert. The caller switches to what was
    /// current before them, and then catches up with the reports.
    ///
    /// Returns the line that reports named before those guards.
    #[cold]
    #[inline(never)]
    fn undo_guards(&self, start: u32, kind: FrameKind) -> Option<Place> {
        let left = with_guards(|guards| guards.split_off((start as usize).min(guards.len())));
        let left = left.unwrap_or_default();
        self.guards.set(self.guards.get().min(start));
        let began = left.first().map_or(self.place.get(), |guard| guard.place_before);
        // The last one first: what it found, the one before it has set.
        for guard in left.into_iter().rev() {
            self.undo(guard, kind, began);
        }
        began
    }

    fn undo(&self, guard: Guarded, kind: FrameKind, began: Option<Place>) {
        let Guarded { name, place, before, event_loop, dead, .. } = guard;
        if let Some(event_loop) = event_loop {
            self.end_loop(event_loop);
        }
        if dead {
            self.to_do.set(self.to_do.get() - 1);
            self.defer(Deferred::Release(before));
        } else {
            let how = Misuse::Outlived(began);
            self.defer(Deferred::Misuse { kind: kind.misuse(), name, place, how, before });
        }
    }

    /// Undoes guards that were dropped in a frame which was not theirs, now that theirs is the innermost.
    pub(super) fn undo_dead_guards(&self) {
        while self.guards.get() > self.base.get() {
            let pop_dead = |guards: &mut Vec<Guarded>| {
                guards.last().is_some_and(|guard| guard.dead).then(|| guards.pop()).flatten()
            };
            let Some(guard) = with_guards(pop_dead).flatten() else { return };
            self.to_do.set(self.to_do.get() - 1);
            self.end_guard(guard);
        }
    }

    /// The guard that was entered last in this frame ends; it is out of the list.
    fn end_guard(&self, guard: Guarded) {
        self.guards.set(self.guards.get() - 1);
        let inner = self.switch(guard.before);
        self.place.set(guard.place_before);
        if let Some(event_loop) = guard.event_loop {
            self.end_loop(event_loop);
        }
        self.catch_up_and_release(inner);
    }

    fn end_loop(&self, before: LoopBefore) {
        TIMER.set(before.timer);
        self.blocking_min.set(before.blocking_min);
        self.long_min.set(before.long_min);
        self.may_block.set(before.may_block);
    }

    /// Makes `held` current until the guard of the returned number ends.
    fn begin_guard(&self, held: Held, name: Name, place: Place, event_loop: Option<LoopBefore>) -> u64 {
        let serial = self.fresh_id();
        let before = self.switch(held).into_owned();
        let place_before = self.place.replace(Some(place));
        let mut guard = Some(Guarded { serial, before, place_before, name, place, dead: false, event_loop });
        if with_guards(|guards| guards.extend(guard.take())).is_some() {
            self.guards.set(self.guards.get() + 1);
        }
        // Not taken, since the thread is being destroyed: things are left as they were.
        if let Some(Guarded { before, place_before, .. }) = guard {
            drop(self.switch(before));
            self.place.set(place_before);
        }
        self.catch_up();
        serial
    }
}

/// `None` while the thread is being destroyed: guards are inert then.
fn with_guards<R>(f: impl FnOnce(&mut Vec<Guarded>) -> R) -> Option<R> {
    CLEANUP.try_with(|cleanup| f(&mut cleanup.guards.borrow_mut())).ok()
}

/// A guard: while it lives, its context is current on this thread. For synchronous code; made by [`Context::enter`].
///
/// Not `Send`. If a poll ends while it lives (it was held across an `.await`), the runtime puts the task's own context
/// back, reports [`ReportKind::GuardAcrossAwait`] with the line of `enter`, and the guard is inert from then on. Guards
/// dropped out of order, or forgotten, are put right and reported in the same way.
///
/// ```
/// use context::Context;
///
/// let request = Context::root("GET /x");
/// {
///     let _entered = request.enter();
///     assert_eq!(Context::current(), request);
/// }
/// assert!(Context::current().is_sentinel());
/// ```
#[derive(Debug)]
#[must_use = "the context is current only while the guard lives"]
pub struct Entered {
    serial: u64,
    not_send: PhantomData<*const ()>,
}

impl Context {
    /// Makes this context current until the guard is dropped. For synchronous code; see [`Entered`].
    #[track_caller]
    pub fn enter(&self) -> Entered {
        let held = Held::owning(Share::of(self));
        let serial = here().begin_guard(held, self.node().name(), Location::caller(), None);
        Entered { serial, not_send: PhantomData }
    }

    /// Runs `f` with this context current, and puts back what was, also on unwind.
    #[track_caller]
    pub fn scope<R>(&self, f: impl FnOnce() -> R) -> R {
        let _frame = Frame::lend(self, Location::caller(), FrameKind::Scope);
        f()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        SLOT.with(|slot| leave(slot, self.serial));
    }
}

impl Entered {
    /// The guard of an event loop: between polls the account of the loop is current.
    pub(crate) fn event_loop(clock: Clock, timer: Option<&'static dyn Timer>, place: Place) -> Self {
        let slot = here();
        slot.use_clock(clock);
        let before = LoopBefore {
            timer: TIMER.replace(timer),
            blocking_min: slot.blocking_min.replace(0),
            long_min: slot.long_min.replace(u64::MAX),
            may_block: slot.may_block.replace(false),
        };
        let serial = slot.begin_guard(Held::LOOP, Name::of_the_loop(), place, Some(before));
        Self { serial, not_send: PhantomData }
    }
}

fn leave(slot: &Slot, serial: u64) {
    let find = |guards: &mut Vec<Guarded>| guards.iter().rposition(|guard| guard.serial == serial);
    // Not in the list: its frame ended before it, and undid and reported it then.
    let Some(Some(at)) = with_guards(find) else { return };
    if at < slot.base.get() as usize {
        disown(slot, at);
    } else if at + 1 == slot.guards.get() as usize {
        let Some(Some(guard)) = with_guards(Vec::pop) else { return };
        slot.end_guard(guard);
    } else {
        unthread(slot, at);
    }
    slot.catch_up();
}

/// Dropped before a guard that was entered later in the same frame: what is current stays, and the later guard will
/// restore what was before this one.
#[cold]
fn unthread(slot: &Slot, at: usize) {
    let removed = with_guards(|guards| {
        let guard = guards.remove(at);
        let after = &mut guards[at];
        after.place_before = guard.place_before;
        let own = std::mem::replace(&mut after.before, guard.before);
        // What a later loop found was set by this one: it is to restore what this one found.
        let later = guards[at..].iter_mut().find_map(|guard| guard.event_loop.as_mut());
        let event_loop = match (guard.event_loop, later) {
            (Some(found), Some(later)) => {
                *later = found;
                None
            }
            (found, _) => found,
        };
        (guard.name, guard.place, own, event_loop)
    });
    slot.guards.set(slot.guards.get() - 1);
    if let Some((name, place, before, event_loop)) = removed {
        if let Some(event_loop) = event_loop {
            slot.end_loop(event_loop);
        }
        let (kind, how) = (ReportKind::GuardOutOfOrder, Misuse::BeforeLater);
        slot.defer(Deferred::Misuse { kind, name, place, how, before });
    }
}

/// Dropped inside a frame that began after it: its own frame undoes it when it is the innermost again.
#[cold]
fn disown(slot: &Slot, at: usize) {
    let found = with_guards(|guards| {
        let guard = &mut guards[at];
        (!std::mem::replace(&mut guard.dead, true)).then_some((guard.name, guard.place))
    });
    if let Some(Some((name, place))) = found {
        slot.to_do.set(slot.to_do.get() + 1);
        let (kind, how) = (ReportKind::GuardOutOfOrder, Misuse::InsideFrame);
        slot.defer(Deferred::Misuse { kind, name, place, how, before: Held::NOBODY });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::future::FutureExt;
    use crate::harness;
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::task::{Context as Cx, Poll, Waker};

    /// What is taken of a lent context counts, and lives on when the lender is gone.
    #[test]
    fn a_share_taken_within_a_frame_outlives_it() {
        let request = Context::root("GET /x");
        let id = request.id();
        let (share, current) = request.scope(|| (Share::current(), Context::current()));
        drop(request);
        assert_eq!((share.id(), current.id()), (id.as_u64(), id));
        drop(current);
        assert_eq!(share.context().id(), id);
    }

    #[test]
    fn a_context_of_another_thread_is_lent_too() {
        let request = Context::root("GET /x");
        let here = std::thread::scope(|scope| {
            scope.spawn(|| request.scope(|| (0..3).map(|_| Context::current()).collect::<Vec<_>>())).join()
        });
        assert!(here.unwrap().iter().all(|context| *context == request));
        let polls = pin!(poll_fn(|_| Poll::<()>::Pending).in_context(request.clone()));
        assert!(polls.poll(&mut Cx::from_waker(Waker::noop())).is_pending());
        assert_eq!(request.own_usage().polls, 1);
    }

    /// A guard remembers what was before it, which was only lent: when the frame ends it must forget that.
    #[test]
    fn a_guard_carried_out_of_a_frame_keeps_nothing_lent() {
        let (outer, inner) = (Context::root("outer"), Context::root("inner"));
        let guard = outer.scope(|| inner.enter());
        drop((outer, inner));
        assert!(Context::current().is_sentinel());
        drop(guard);
        assert!(Context::current().is_sentinel());
    }

    /// The frame ends before the guard of the loop, so it undoes that.
    #[test]
    fn u5_a_loop_carried_out_of_a_frame_keeps_nothing_lent() {
        let request = Context::root("GET /x");
        let carried = request.scope(|| harness::enter_loop(Clock::Auto, None));
        drop(request);
        assert!(Context::current().is_sentinel());
        drop(carried);
        assert!(Context::current().is_sentinel());
    }

    #[test]
    fn u5_a_loop_that_is_forgotten_in_a_frame_hides_no_guard_from_it() {
        let (lent, entered) = (Context::root("lent"), Context::root("entered"));
        let mut carried = None;
        lent.scope(|| {
            carried = Some(entered.enter());
            std::mem::forget(harness::enter_loop(Clock::Auto, None));
        });
        drop((lent, entered));
        assert!(Context::current().is_sentinel());
        drop(carried);
        assert!(Context::current().is_sentinel());
    }

    /// The same in a poll, whose context is borrowed from the task's share.
    #[test]
    fn u5_a_loop_that_is_forgotten_in_a_poll_hides_no_guard_from_it() {
        let _loop = harness::enter_loop(Clock::Auto, None);
        let entered = Context::root("entered");
        let share = Share::of(&Context::root("polled"));
        let mut carried = None;
        harness::poll(&share, Location::caller(), 0, || {
            carried = Some(entered.enter());
            std::mem::forget(harness::enter_loop(Clock::Auto, None));
        });
        assert_eq!(Context::current().id().as_u64(), share.id());
        harness::idle();
        drop((share, carried));
        assert!(Context::current().is_sentinel());
    }

    /// Outer loops go first, or in the middle of an inner frame: what each found is put back in the end.
    #[test]
    fn loops_that_end_out_of_order_put_back_what_the_first_one_found() {
        let request = Context::root("GET /x");
        let guard = request.enter();
        let first = harness::enter_loop(Clock::Auto, None);
        let second = harness::enter_loop(Clock::Auto, None);
        drop(first);
        let third = harness::enter_loop(Clock::Auto, None);
        Context::root("inner").scope(|| drop(third));
        drop(second);
        assert_eq!(Context::current(), request);
        drop(guard);
        assert!(Context::current().is_sentinel());
    }

    #[test]
    fn frames_within_frames_put_back_what_was_lent() {
        let (a, b) = (Context::root("a"), Context::root("b"));
        a.scope(|| {
            b.scope(|| a.scope(|| assert_eq!(Context::current(), a)));
            let _guard = b.enter();
            assert_eq!(Context::current(), b);
        });
        assert!(Context::current().is_sentinel());
    }
}
