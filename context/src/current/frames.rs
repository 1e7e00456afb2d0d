//! Frames and guards: what is current while a closure, a poll or a guard lasts, and how misuse is undone.
//!
//! A frame is a stretch of the call stack (one poll, one closure); frames nest by construction. Guards do not: user
//! code may keep one in a future across an await, forget it, or drop it in another order or another frame. So guards
//! are mere numbers; what they stand for is a list of the thread, and a frame that ends with more guards than it began
//! with undoes them. Nothing that was put in place within a frame outlasts it, so a frame may run on a context that is
//! only lent to it. Fenced, for that.
#![allow(unsafe_code)]

use super::here::here;
use super::share::{Held, Share};
use super::{CLEANUP, Place, SLOT, Slot};
use crate::clock::Clock;
use crate::journal as sentinel;
use crate::node::{Context, Name};
use crate::report::ReportKind;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;

/// One guard that is alive.
pub(super) struct Guarded {
    serial: u64,
    /// What was current before it.
    before: Held,
    /// The guard's own context, for reports.
    name: Name,
    place: Place,
    dead: bool,
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

/// A stretch of the stack in which another context is current. Restores on drop, also on unwind.
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
        // SAFETY: the handle is borrowed for as long as the frame lives. The frame's drop takes the address out of the
        // slot, and before that the guards that were entered within, some of which may hold it as what was before them.
        // Frames are locals of this crate, never forgotten; but the loop's, which keeps nothing lent.
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
        let before = slot.switch_to(held);
        let place = slot.place.replace(Some(place));
        let lends = slot.lends.replace(true);
        let base = slot.base.replace(slot.guards.get());
        Self { before: ManuallyDrop::new(before), lender: PhantomData, place, base, lends, kind }
    }

    /// The frame of an event loop: between polls its own account is current.
    pub(crate) fn enter_loop(clock: Clock, place: Place) -> Self {
        SLOT.with(|slot| slot.use_clock(clock));
        let mut frame = Self::begin(Held::LOOP, place, FrameKind::Scope);
        // A loop's guard may be carried out of the frame it began in, so it must not keep what was lent to that.
        let before = std::mem::replace(&mut *frame.before, Held::NOBODY);
        *frame.before = before.into_owned();
        frame
    }
}

impl Drop for Frame<'_> {
    #[inline]
    fn drop(&mut self) {
        let slot = here();
        if slot.guards.get() != slot.base.get() {
            undo_guards(&slot, self.kind);
        }
        slot.base.set(self.base);
        slot.place.set(self.place);
        slot.lends.set(self.lends);
        // SAFETY: taken here alone, and this is the destructor.
        let before = unsafe { ManuallyDrop::take(&mut self.before) };
        let inner = slot.switch(before);
        if slot.dead.get() > 0 {
            reap(&slot);
        }
        drop(inner);
    }
}

/// The end of what the loop does in a context, a poll or not: guards that were left behind are undone, and the context
/// is put back.
pub(super) struct Visit<'a> {
    pub(super) slot: &'a Slot,
    pub(super) share: &'a Share,
}

impl Drop for Visit<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.slot.guards.get() != self.slot.base.get() {
            put_back(self.slot, self.share);
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
fn put_back(slot: &Slot, share: &Share) {
    undo_guards(slot, FrameKind::Poll);
    drop(slot.switch(Held::of(share)));
}

/// Takes the guards of the frame that ends out of the list: from now on they are inert.
#[cold]
#[inline(never)]
fn undo_guards(slot: &Slot, kind: FrameKind) {
    let left = with_guards(|guards| guards.split_off((slot.base.get() as usize).min(guards.len())));
    let left = left.unwrap_or_default();
    slot.guards.set(slot.base.get());
    for guard in &left {
        if guard.dead {
            slot.dead.set(slot.dead.get() - 1);
            continue;
        }
        let detail =
            slot.place.get().map_or_else(String::new, |place| format!("in work that began at {place}"));
        sentinel::report(kind.misuse(), &guard.name, guard.place, &detail);
    }
}

/// Undoes guards that were dropped in a frame which was not theirs, now that theirs is the innermost.
#[cold]
#[inline(never)]
fn reap(slot: &Slot) {
    while slot.guards.get() > slot.base.get() {
        let pop_dead =
            |guards: &mut Vec<Guarded>| guards.last().is_some_and(|guard| guard.dead).then(|| guards.pop());
        let Some(Some(Some(guard))) = with_guards(pop_dead) else { return };
        slot.guards.set(slot.guards.get() - 1);
        slot.dead.set(slot.dead.get() - 1);
        drop(slot.switch(guard.before));
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
        let place = std::panic::Location::caller();
        let held = Held::owning(Share::of(self));
        let name = self.node().name();
        SLOT.with(|slot| {
            let serial = slot.fresh_id();
            let before = slot.switch_to(held);
            let mut guarded = Some(Guarded { serial, before, name, place, dead: false });
            match with_guards(|guards| guards.extend(guarded.take())) {
                Some(()) => slot.guards.set(slot.guards.get() + 1),
                // The thread is being destroyed: leave things as they were.
                None => {
                    if let Some(guarded) = guarded {
                        drop(slot.switch(guarded.before));
                    }
                }
            }
            Entered { serial, not_send: PhantomData }
        })
    }

    /// Runs `f` with this context current, and puts back what was, also on unwind.
    #[track_caller]
    pub fn scope<R>(&self, f: impl FnOnce() -> R) -> R {
        let _frame = Frame::lend(self, std::panic::Location::caller(), FrameKind::Scope);
        f()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        SLOT.with(|slot| leave(slot, self.serial));
    }
}

fn leave(slot: &Slot, serial: u64) {
    let find = |guards: &mut Vec<Guarded>| guards.iter().rposition(|guard| guard.serial == serial);
    // Not in the list: its frame ended before it, and undid and reported it then.
    let Some(Some(at)) = with_guards(find) else { return };
    let base = slot.base.get() as usize;
    if at < base {
        disown(slot, at);
    } else if at + 1 == slot.guards.get() as usize {
        let Some(Some(guard)) = with_guards(Vec::pop) else { return };
        slot.guards.set(slot.guards.get() - 1);
        drop(slot.switch(guard.before));
        if slot.dead.get() > 0 {
            reap(slot);
        }
    } else {
        unthread(slot, at);
    }
}

/// Dropped before a guard that was entered later in the same frame: what is current stays, and the later guard will
/// restore what was before this one.
#[cold]
fn unthread(slot: &Slot, at: usize) {
    let removed = with_guards(|guards| {
        let guard = guards.remove(at);
        let after = &mut guards[at];
        let own = std::mem::replace(&mut after.before, guard.before);
        (guard.name, guard.place, own)
    });
    slot.guards.set(slot.guards.get() - 1);
    if let Some((name, place, own)) = removed {
        sentinel::report(ReportKind::GuardOutOfOrder, &name, place, "a later guard was still alive");
        drop(own);
    }
}

/// Dropped inside a frame that began after it: its own frame undoes it when it is the innermost again.
#[cold]
fn disown(slot: &Slot, at: usize) {
    let found = with_guards(|guards| {
        guards[at].dead = true;
        (guards[at].name, guards[at].place)
    });
    slot.dead.set(slot.dead.get() + 1);
    if let Some((name, place)) = found {
        sentinel::report(ReportKind::GuardOutOfOrder, &name, place, "dropped inside another poll or closure");
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

    #[test]
    fn a_loop_carried_out_of_a_frame_keeps_nothing_lent() {
        let request = Context::root("GET /x");
        let id = request.id();
        let carried = request.scope(|| harness::enter_loop(Clock::Auto, None));
        drop(request);
        drop(carried);
        // Wrong, as what was carried out was, but alive.
        assert_eq!(Context::current().id(), id);
        drop(SLOT.with(|slot| slot.switch(Held::NOBODY)));
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
