//! The loop, and the swap: the seam between the runtime and its contexts.
//!
//! One turn: what other threads sent, then the tasks that are ready, then I/O, then timers, each bounded in number and in
//! time, so that none starves another. Tasks are polled and dropped in their own context (P2), by [`context::harness`];
//! whatever the loop does for itself is charged to `(runtime)`.

use crate::current::{self, BUDGET, Core};
use crate::handle::Packed;
use crate::inbox::Woken;
use crate::pace::{TURN, TURN_POLLS};
use crate::reactor::Wait;
use crate::task::joiners::{Joiner, NO_JOINER};
use crate::task::raw::Task;
use crate::task::table::{Finished, Next, Polling};
use crate::task::tracking::Tracking;
use crate::task::{Ending, JoinFailure};
use crate::waker::{self, waker};
use context::ReportKind;
use context::harness::{self, Share, contain_panic, discard_panic, drop_contained};
use std::any::Any;
use std::fmt::Display;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

type Place = &'static Location<'static>;
type Panic = Box<dyn Any + Send>;

/// How many messages of other threads the loop takes at one look, and for how long, ns. The rest waits for the next look.
const MESSAGES_MAX: u32 = 32;
const MESSAGES_TIME: u64 = 50_000;

/// Runs `future`, and everything that was spawned, until `future` is ready.
///
/// It is polled and dropped in its context, and a panic of it goes on when that is done; those of tasks do not come out.
pub(crate) fn block_on<F: Future>(core: &Core, future: F, share: &Share, place: Place) -> F::Output {
    let mut future = pin!(Some(future));
    let root = Root::new(core, share, place);
    let waker = waker(root.handle);
    let mut ended = None;
    while ended.is_none() {
        let mut poll_root = |woken| {
            core.budget.set(BUDGET);
            let Some(future) = future.as_mut().as_pin_mut() else { return true };
            // Gone at the end of the poll: what is left of it then is what can wake the future.
            let tracked = core.tracking.as_ref().map(|tracking| waker::tracked(core, tracking, root.handle));
            let mut cx = Context::from_waker(tracked.as_ref().unwrap_or(&waker));
            let poll = AssertUnwindSafe(|| future.poll(&mut cx));
            let began = core.watches_polls.then(harness::ticks);
            ended = match harness::poll(share, place, woken, || catch_unwind(poll)) {
                Ok(Poll::Pending) => None,
                Ok(Poll::Ready(output)) => Some(Ok(output)),
                Err(panic) => Some(Err(panic)),
            };
            if let Some(began) = began {
                look_for_slow_poll(core, share, place, began);
            }
            ended.is_some()
        };
        turn(core, &mut poll_root, &|| false);
    }
    let dropped = harness::visit(share, place, || catch_unwind(AssertUnwindSafe(|| future.set(None))));
    harness::idle();
    match (ended, dropped) {
        (Some(Ok(output)), Ok(())) => output,
        // The first panic goes on. What else there is must not be dropped while it unwinds: a destructor that panics then
        // would abort the process.
        (Some(Err(panic)), second) => {
            second.err().into_iter().for_each(discard_panic);
            resume_unwind(panic)
        }
        (output, Err(panic)) => {
            harness::visit(share, place, || {
                drop_contained(output, |text| {
                    context::sentinel::report(ReportKind::UnhandledPanic, &share.context(), place, text);
                });
            });
            harness::idle();
            resume_unwind(panic)
        }
        (None, Ok(())) => unreachable!("the loop above ends with an output or a panic"),
    }
}

/// Runs the loop until `is_done`, polling tasks but no root: shutdown.
pub(crate) fn run_until(core: &Core, is_done: impl Fn() -> bool) {
    while !is_done() {
        turn(core, &mut |_| false, &is_done);
    }
}

/// The slot of `block_on`'s own future, which is polled only when it was woken, like any task.
struct Root<'a> {
    core: &'a Core,
    handle: Packed,
}

impl<'a> Root<'a> {
    fn new(core: &'a Core, share: &Share, place: Place) -> Self {
        let handle = core.tasks.reserve(share.id());
        core.root.set(Some((handle, place)));
        core.tasks.queue().schedule(handle, harness::ticks);
        Self { core, handle }
    }
}

impl Drop for Root<'_> {
    fn drop(&mut self) {
        self.core.root.set(None);
        self.core.tracking.iter().for_each(|tracking| tracking.forget(self.handle));
        self.core.tasks.unreserve(self.handle);
    }
}

/// One turn of the loop. `root` polls the future of `block_on` and says whether it is done; `is_done` is asked before
/// the loop would sleep for what nobody waits for any more.
///
/// # Panics
///
/// In a forked child: the events, and the tasks, are the parent's.
fn turn(core: &Core, root: &mut dyn FnMut(u64) -> bool, is_done: &dyn Fn() -> bool) {
    harness::check_process();
    take_remote(core);
    let done = run_ready(core, root);
    core.tasks.leave_group();
    harness::idle();
    if let Some(slice) = harness::take_longest_slice() {
        report_long_slice(core, &slice);
    }
    if let Some(tracking) = core.tracking.as_ref().filter(|_| !done) {
        report_orphans(core, tracking);
    }
    if !done && !is_done() {
        poll_io(core);
    }
}

/// Takes what other threads sent, or a share of it if it is much.
#[inline]
fn take_remote(core: &Core) {
    if core.inbox.is_waiting() {
        take_remote_now(core);
    }
}

/// Wakes what they woke, then runs what they sent. A flood of either goes on with the next look: between two of them
/// tasks are polled, and at the latest after [`TURN`] the loop sees to timers and I/O.
#[inline(never)]
fn take_remote_now(core: &Core) {
    let queue = core.tasks.queue();
    // The task that was polled last has nothing to do with this.
    core.tasks.leave_group();
    core.inbox.take_wakes(|woken, stamp| match woken {
        Woken::Task(task) => {
            queue.schedule(task, || stamp);
        }
        Woken::Slot(slot) => queue.schedule_slot(slot, || stamp),
    });
    let mut began = None;
    for _ in 0..MESSAGES_MAX {
        let Some(message) = core.inbox.next_message() else { break };
        let began = *began.get_or_insert_with(|| {
            harness::idle();
            harness::ticks()
        });
        contained("a message to the runtime", &RUNTIME, Location::caller(), message);
        if has_passed(began, harness::ticks(), MESSAGES_TIME) {
            break;
        }
    }
}

/// Whether so many ns lie between two readings of the ticks.
#[inline]
fn has_passed(began: u64, now: u64, ns: u64) -> bool {
    harness::ticks_to_ns(now.saturating_sub(began)) > ns * harness::slowness()
}

/// Polls what is ready, in order, a stretch at a time; what is woken meanwhile goes to the back. Says whether the root is
/// done.
fn run_ready(core: &Core, root: &mut dyn FnMut(u64) -> bool) -> bool {
    let began = harness::ticks();
    let (mut before, mut polls, mut polled) = (began, core.pace.first(), 0);
    while polled < TURN_POLLS {
        match run_stretch(core, root, polls) {
            Stretch::Empty => return false,
            Stretch::RootDone => return true,
            Stretch::Full => {}
        }
        // The next turn says why.
        if harness::has_forked() {
            return false;
        }
        take_remote(core);
        let now = harness::ticks();
        polled += polls;
        polls = core.pace.next(polls, harness::ticks_to_ns(now.saturating_sub(before)) / harness::slowness());
        if has_passed(began, now, TURN) {
            break;
        }
        before = now;
    }
    false
}

/// Why the loop looks up from its polls.
enum Stretch {
    /// Nothing is ready.
    Empty,
    RootDone,
    /// More may be ready.
    Full,
}

/// A few polls in a row. Its own function, so that what it needs stays in registers.
#[inline(never)]
fn run_stretch(core: &Core, root: &mut dyn FnMut(u64) -> bool, polls: u32) -> Stretch {
    for _ in 0..polls {
        match core.tasks.next(|task| poll_task(core, task)) {
            None => return Stretch::Empty,
            Some(Next::Polled | Next::Stale) => {}
            Some(Next::Aborted(task)) => drop_task(task, JoinFailure::Cancelled),
            Some(Next::Bare { woken }) => {
                if root(woken) {
                    return Stretch::RootDone;
                }
            }
        }
    }
    Stretch::Full
}

#[inline(always)]
fn poll_task(core: &Core, task: Polling<'_>) {
    core.budget.set(BUDGET);
    if core.watches_polls {
        return poll_watched(core, task);
    }
    // The destructor of this waker does nothing; not to call that is worth a nanosecond a poll.
    let waker = ManuallyDrop::new(waker(task.handle()));
    poll_with(task, &waker, |_, _| ());
}

/// With wakers that are counted, or a look at how long it takes.
#[cold]
#[inline(never)]
fn poll_watched(core: &Core, task: Polling<'_>) {
    let handle = task.handle();
    let waker = match &core.tracking {
        None => waker(handle),
        Some(tracking) => waker::tracked(core, tracking, handle),
    };
    let began = harness::ticks();
    poll_with(task, &waker, |share, place| look_for_slow_poll(core, share, place, began));
    if let Some(tracking) = &core.tracking {
        if core.tasks.idle(handle).is_none() && !core.tasks.is_live(handle) {
            tracking.forget(handle);
        }
    }
    // When the task is back in its slot, so that it is seen idle.
    drop(waker);
}

/// The future of `block_on`, if that is what `handle` names and it waits: then nothing will ever end the loop.
fn idle_root(core: &Core, handle: Packed) -> Option<(context::Context, Place)> {
    let (root, place) = core.root.get()?;
    let main = core.main.take();
    core.main.set(main.clone());
    let waits = root == handle && core.tasks.waits(handle);
    waits.then(|| (main.unwrap_or_else(context::Context::sentinel), place))
}

/// Reports the tasks that nothing can wake any more (P19).
#[cold]
fn report_orphans(core: &Core, tracking: &Tracking) {
    let suspects = tracking.take_suspects();
    if suspects.is_empty() {
        return;
    }
    // The last act of a waker on another thread may have been to wake: then the task's cell says so by now.
    for handle in suspects.into_iter().filter(|handle| !core.inbox.is_woken(*handle)) {
        let Some((context, place)) = core.tasks.idle(handle).or_else(|| idle_root(core, handle)) else {
            continue;
        };
        tracking.forget(handle);
        let detail = "idle, and no waker of it is left";
        context::sentinel::report(ReportKind::Orphaned, &context, place, detail);
    }
}

/// Always inlined: for the usual poll the call, and the task passed through memory, would be a tenth of the work.
#[inline(always)]
fn poll_with(mut task: Polling<'_>, waker: &Waker, look: impl FnOnce(&Share, Place)) {
    let mut cx = Context::from_waker(waker);
    let (place, woken) = (task.place(), task.woken());
    let (share, mut contents) = task.split();
    // A panic of the future is caught below this call.
    let polled = harness::poll(share, place, woken, || contents.poll(&mut cx));
    look(share, place);
    if polled.is_pending() {
        return task.suspend();
    }
    match polled.into_panic() {
        None if task.ends_plainly() => finish_plainly(task),
        None => finish_task(task),
        Some(panic) => fail_task(task, panic),
    }
}

/// Where the clock is not read around each poll: polls of one context that follow each other directly count as one. At
/// the beginning of a turn, and after slow ones, few do ([`crate::pace`]).
#[cold]
fn report_long_slice(core: &Core, slice: &harness::LongSlice) {
    if !core.watches_polls {
        let detail = format!("held the thread for {:?}", slice.length);
        context::sentinel::report(ReportKind::SlowPoll, &slice.context, slice.place, &detail);
    }
}

#[cold]
fn look_for_slow_poll(core: &Core, share: &Share, place: Place, began: u64) {
    let held = Duration::from_nanos(harness::ticks_to_ns(harness::ticks() - began));
    if core.config.slow_poll.is_some_and(|threshold| held > threshold) {
        let detail = format!("held the thread for {held:?}");
        context::sentinel::report(ReportKind::SlowPoll, &share.context(), place, &detail);
    }
}

/// The poll, or the drop of the finished future, panicked.
#[cold]
fn fail_task(mut task: Polling<'_>, panic: Panic) {
    if !task.is_awaited() {
        report_panic(&mut task, &*panic);
    }
    let context = task.split().0.context().to_string();
    drop_task(task, JoinFailure::Panicked(panic, context.into()));
}

/// Drops the future in its context; `failure` is the task's result.
pub(crate) fn drop_task(mut task: Polling<'_>, failure: JoinFailure) {
    let place = task.place();
    let (share, mut contents) = task.split();
    let dropped = harness::visit(share, place, || {
        let dropped = catch_unwind(AssertUnwindSafe(|| contents.discard()));
        contents.fail(failure);
        dropped
    });
    if let Err(panic) = dropped {
        // The task has a result already: this panic has nobody to go to.
        report_panic(&mut task, &*panic);
        discard_panic(panic);
    }
    finish_task(task);
}

/// The usual end of a task, see [`Polling::ends_plainly`].
#[inline]
fn finish_plainly(task: Polling<'_>) {
    let (joiner, share) = task.finish_plainly();
    if joiner != NO_JOINER {
        waker::wake(joiner);
    }
    drop(share);
}

fn finish_task(mut task: Polling<'_>) {
    let place = task.place();
    let ending = task.ending();
    let ended = if ending == Ending::Stay { None } else { Some(task.split().0.context()) };
    match task.finish() {
        Finished::Awaited { joiner, share } => {
            if let Some(joiner) = joiner {
                wake_joiner(joiner, &share, place);
            }
        }
        Finished::Unwanted(unwanted) => drop_unwanted(unwanted, place),
    }
    if let Some(context) = ended {
        end_context(&context, ending);
    }
}

/// A waker may be foreign code: that runs on the account of the task that ends.
#[inline]
fn wake_joiner(joiner: Joiner, share: &Share, place: Place) {
    match joiner {
        Joiner::Task(task) => waker::wake(task),
        Joiner::Foreign(waker) => harness::visit(share, place, || {
            contained("a join waker", &share.context(), place, || waker.wake());
        }),
    }
}

/// Nobody will ask for the result.
fn drop_unwanted(mut task: Polling<'_>, place: Place) {
    let failure = task.take_failure();
    let (share, mut contents) = task.split();
    let dropped = harness::visit(share, place, || {
        if let Some(JoinFailure::Panicked(payload, _)) = failure {
            // It was reported when it happened.
            discard_panic(payload);
        }
        catch_unwind(AssertUnwindSafe(|| contents.discard()))
    });
    if let Err(panic) = dropped {
        report_panic(&mut task, &*panic);
        discard_panic(panic);
    }
    task.retire();
}

/// Drops the result of an ended task, which nobody takes any more, on the task's account; a panic is reported.
pub(crate) fn drop_ended(mut task: Task) {
    current::in_turn(move || {
        if let Some(failure) = task.take_failure() {
            report_unheard(failure, task.place());
        }
        let (share, place) = (task.release(), task.place());
        let context = share.context();
        contain_panic(
            || harness::visit_leftover(&share, place, || task.contents().discard()),
            |text| context::sentinel::report(ReportKind::UnhandledPanic, &context, place, text),
        );
        current::with(|core| {
            if let Some(core) = core {
                core.tasks.keep(task);
            }
        });
    });
}

fn report_unheard(failure: JoinFailure, place: Place) {
    if let JoinFailure::Panicked(payload, context) = failure {
        let text = context::panic_message(&*payload);
        context::sentinel::report(ReportKind::UnhandledPanic, &context, place, text);
        discard_panic(payload);
    }
}

/// Outside of the context, so that nothing of the way out is late.
#[cold]
fn end_context(context: &context::Context, ending: Ending) {
    harness::idle();
    match ending {
        Ending::Stay => {}
        Ending::Finish => {
            context.finish();
        }
        Ending::Release => harness::release(context),
    }
}

fn report_panic(task: &mut Polling<'_>, panic: &(dyn Any + Send)) {
    let place = task.place();
    let name = task.split().0.context();
    context::sentinel::report(ReportKind::UnhandledPanic, &name, place, context::panic_message(panic));
}

/// Waits for I/O until something is ready or the next timer is due; only looks if tasks are ready. Then wakes whom that
/// concerns, I/O before timers: so what was there in time wins over its timeout.
///
/// Timers are looked at after the wait and not before, so that a timer's wake-up costs one system call to wait, and not a
/// second one to look again for I/O.
fn poll_io(core: &Core) {
    core.timers.borrow_mut().clear_aside();
    let asleep = core.tasks.queue().is_empty() && core.inbox.fall_asleep();
    let jump = if asleep { jump_target(core) } else { None };
    let wait = if asleep && jump.is_none() { until_next_timer(core) } else { Wait::No };
    let mut woken = core.due.take();
    // One reading for all that a wait brings: they became ready before it ended.
    let mut stamp = None;
    let wake = |task| {
        core.tasks.queue().schedule(task, || *stamp.get_or_insert_with(harness::ticks));
    };
    if let Err(error) = core.reactor.turn(wait, wake, &mut woken) {
        log::error!("bursar: the I/O driver failed, trying again: {error}");
    }
    harness::parked();
    if asleep {
        // Also says that the loop is awake again.
        take_remote(core);
    }
    if let (Some(deadline), true, true) = (jump, woken.is_empty(), core.tasks.queue().is_empty()) {
        core.time.advance_to(deadline);
    }
    collect_timers(core, &mut woken);
    wake_all(core, woken);
}

/// Where paused time jumps to if nothing happens until then: the next deadline, unless something is going on elsewhere.
fn jump_target(core: &Core) -> Option<u64> {
    let may_jump = core.time.is_paused() && !core.has_work_elsewhere();
    if may_jump { core.timers.borrow_mut().next_exact() } else { None }
}

/// How long a loop with nothing to do sleeps.
fn until_next_timer(core: &Core) -> Wait {
    if core.time.is_paused() {
        return Wait::Forever;
    }
    match core.timers.borrow_mut().next_wake() {
        // By the clock as it was read last: one that has come due since then ends the wait at once.
        Some(wake) if wake <= core.time.recent_ns() => Wait::No,
        Some(wake) => Wait::Until(core.time.real_at(wake)),
        None => Wait::Forever,
    }
}

/// Appends the wakers of the timers that are due. They are woken later, so that a waker may use the timers (trap 12).
fn collect_timers(core: &Core, due: &mut Vec<Waker>) {
    let mut timers = core.timers.borrow_mut();
    if timers.len() == 0 {
        return;
    }
    let now = core.time.passed();
    if core.time.is_paused() {
        timers.advance_exact(now, due);
    } else {
        timers.advance(now, due);
    }
}

/// First collected, then woken: see [`collect_timers`].
fn wake_all(core: &Core, mut wakers: Vec<Waker>) {
    for waker in wakers.drain(..) {
        // Ours only queue. A foreign one may do anything, and may panic.
        contained("a waker", &RUNTIME, Location::caller(), || waker.wake());
    }
    core.due.set(wakers);
}

/// In whose place a panic is reported that belongs to no context: the loop's account.
const RUNTIME: &str = "(runtime)";

/// Runs foreign code whose panic must not end the loop: it is reported.
fn contained(what: &str, context: &dyn Display, place: Place, f: impl FnOnce()) {
    contain_panic(f, |text| {
        context::sentinel::report(ReportKind::UnhandledPanic, context, place, &format!("{what}: {text}"));
    });
}
