//! For those who write executors: the seam between a loop and the contexts of its tasks.
//!
//! A loop holds a [`LoopGuard`] while it runs, calls [`poll`] around every poll of a task and [`visit`] around every
//! drop, and [`idle`] before it does work of its own. That is all: the switch, the charging and the repair of guards follow.
//!
//! ```
//! use context::harness::{self, Share};
//! use context::{Clock, Context};
//! use std::panic::Location;
//!
//! let request = Context::root("GET /x");
//! let share = Share::of(&request);
//! let _loop = harness::enter_loop(Clock::Auto, None);
//! harness::poll(&share, Location::caller(), 0, || assert_eq!(Context::current(), request));
//! harness::idle();
//! assert!(Context::current().is_sentinel());
//! assert_eq!(request.own_usage().polls, 1);
//! ```

pub use crate::current::{Alarm, Share, Timer};
pub use crate::deadline::TimeSource;
pub use crate::panics::{contain_panic, discard_panic, drop_contained};

use crate::cells::nanos;
use crate::clock::{self, Clock, Rung};
use crate::current::{self, Entered, tag};
use crate::node::hooks::{self, Hooks, Observer};
use crate::node::{Context, Name};
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// While it lives, this thread is an event loop: between polls its CPU goes to the account `(runtime)`.
///
/// Not `Send`. It is put right and reported like an [`Entered`] if it is forgotten, dropped out of order or
/// carried out of the poll or closure in which the loop was entered.
#[must_use = "the loop's account is current only while the guard lives"]
pub struct LoopGuard {
    _entered: Entered,
}

/// Makes this thread an event loop, measured by `clock`, until the guard is dropped.
///
/// Changing the clock of a thread that was measured already loses nothing: the books go on. `timer` is who wakes those
/// that wait for a deadline; without one deadlines are noticed when somebody asks.
#[track_caller]
pub fn enter_loop(clock: Clock, timer: Option<&'static dyn Timer>) -> LoopGuard {
    LoopGuard { _entered: Entered::event_loop(clock, timer, Location::caller()) }
}

impl LoopGuard {
    /// Reports polls of this loop that give up the CPU of their own accord for this long or longer
    /// ([`ReportKind::BlockingCall`](crate::ReportKind::BlockingCall)). Shorter ones are charged as `blocked` only.
    pub fn report_blocking_calls(&self, min: Duration) {
        current::watch_blocking(nanos(min).max(1));
    }

    /// Looks for slices that take this long or longer, for [`take_longest_slice`]. Costs nothing while slices are shorter.
    /// Below 0.1 ms not all are seen.
    pub fn look_for_long_slices(&self, min: Duration) {
        current::watch_slices(nanos(min).max(1));
    }

    /// Does not charge `blocked` on this thread: for threads of a pool, whose work may block, and is timed from its begin
    /// to its end by the code that sends it ([`BlockingUsage::running`](crate::BlockingUsage::running),
    /// [`DbUsage::in_transaction`](crate::DbUsage::in_transaction)). CPU time is charged as everywhere.
    ///
    /// ```
    /// use context::harness::{self, Share};
    /// use context::{Clock, Context};
    /// use std::panic::Location;
    ///
    /// let request = Context::root("GET /x");
    /// let worker = harness::enter_loop(Clock::Manual, None);
    /// worker.may_block();
    /// harness::visit(&Share::of(&request), Location::caller(), || harness::block_manual_clock(1_000_000));
    /// harness::idle();
    /// assert!(request.usage().blocked.is_zero());
    /// ```
    pub fn may_block(&self) {
        current::may_block();
    }
}

/// Runs `f`, one poll of a task, in the context of `share`.
///
/// `place` is named in reports (where the task was spawned). `woken` is when the task became runnable, in [`ticks`];
/// 0 if it was woken by work of its own context, which then does not wait before it leaves the thread.
///
/// The context stays current afterwards (the next poll is often for the same, and then nothing is read): call
/// [`idle`] before running anything that is not a task's.
#[inline(always)]
pub fn poll<R>(share: &Share, place: &'static Location<'static>, woken: u64, f: impl FnOnce() -> R) -> R {
    current::poll(share, place, woken, f)
}

/// Runs `f` on the account of `share` like [`poll`], but counts no poll: for the drop of a task, or its last wake.
#[inline]
pub fn visit<R>(share: &Share, place: &'static Location<'static>, f: impl FnOnce() -> R) -> R {
    current::visit(share, place, f)
}

/// Times one job on a thread of a pool, from [`begin`](Self::begin) to [`end`](Self::end).
///
/// The time of transactions in it ([`db`](crate::db)) is in the columns of [`DbUsage`](crate::DbUsage) already, so it is left
/// out here: each instant is in one column.
///
/// ```
/// use context::harness::JobTimer;
/// use std::time::{Duration, Instant};
///
/// let begun = Instant::now();
/// let job = JobTimer::begin();
/// let mut transaction = context::db::begin("load user");
/// transaction.connected();
/// while begun.elapsed() < Duration::from_millis(1) {}
/// drop(transaction);
/// assert!(job.end() < begun.elapsed());
/// ```
#[derive(Debug)]
#[must_use = "the job is over when `end` is called"]
pub struct JobTimer {
    outer: (u64, u64),
    not_send: PhantomData<*const ()>,
}

impl JobTimer {
    /// The job begins on this thread.
    pub fn begin() -> Self {
        Self { outer: current::begin_job(), not_send: PhantomData }
    }

    /// The wall time of the job without that of its transactions.
    pub fn end(self) -> Duration {
        Duration::from_nanos(current::ticks_to_ns(current::end_job(self.outer)))
    }
}

/// Runs `f`, which drops what work of `share` has left behind (the output of a task that nobody took), in its context.
///
/// Unlike [`visit`] it may be called anywhere, in a poll of another task too: what was current before is current again
/// afterwards. If the context has finished, the cost of `f` is late, as always, but it is not reported.
pub fn visit_leftover<R>(share: &Share, place: &'static Location<'static>, f: impl FnOnce() -> R) -> R {
    current::visit_leftover(share, place, f)
}

/// Holds `context` and what it is a part of open until [`release`], like a [`Hold`](crate::Hold) but without a handle of it:
/// for a loop that has one with the task, and lets go when it has left the task's context. What has finished stays so.
pub fn hold(context: &Context) {
    context.count_hold();
}

/// Gives up one [`hold`].
pub fn release(context: &Context) {
    if context.end_hold() {
        context.finish_released();
    }
}

/// Gives up one [`hold`] where no foreign code may run, under a lock say. If it returns true, the caller has to call
/// [`finish_released`]: a finish was asked for meanwhile, and this was the last hold.
pub fn let_go(context: &Context) -> bool {
    context.end_hold()
}

/// The second half of [`release`], after a [`let_go`] that returned true: finishes what of `context` and those above it waited
/// for the end of the last hold.
pub fn finish_released(context: &Context) {
    context.finish_released();
}

/// Tells `hooks` of every context that becomes or ceases to be current on this thread, and of every one that finishes
/// on any thread, until the returned value is dropped or the thread ends. It may be called on many threads with the
/// same `hooks`: they hear of a finish once.
///
/// What is current now counts as resumed here, and what is current when it ends as suspended there. Inside of a hook, a
/// listener or the logger no hook is called: one that begins to observe there hears of the next resume first, and one that
/// ends there hears nothing more.
#[must_use = "the hooks are removed when this is dropped"]
pub fn observe(hooks: Arc<dyn Hooks>) -> Observing {
    hooks::announce();
    let observer = Observer(hooks);
    hooks::add_finish(&observer);
    current::add_observer(observer.clone());
    Observing { observer, not_send: PhantomData }
}

/// Keeps the hooks of [`observe`] in place.
#[derive(Debug)]
#[must_use = "the hooks are removed when this is dropped"]
pub struct Observing {
    observer: Observer,
    not_send: PhantomData<*const ()>,
}

impl Drop for Observing {
    fn drop(&mut self) {
        if current::remove_observer(&self.observer) {
            hooks::remove_finish(&self.observer);
        }
    }
}

/// Makes `timer` the one that wakes those on this thread who wait for a deadline, and returns the one before.
///
/// For executors that do not call [`enter_loop`]: once on each of their threads, where threads start. Without a timer
/// deadlines are noticed when somebody asks.
pub fn set_timer(timer: Option<&'static dyn Timer>) -> Option<&'static dyn Timer> {
    current::set_timer(timer)
}

/// Makes `source` the clock of deadlines that are set on this thread, and returns the one before.
///
/// For executors with pools of threads, or with time that can be paused: set the same source on the thread of the loop and
/// on those of its pools, and a deadline passes for all of them at once. Without one, a deadline passes by the [`Timer`] of
/// the thread that asks, or by the system's clock.
pub fn set_time_source(source: Option<Arc<dyn TimeSource>>) -> Option<Arc<dyn TimeSource>> {
    current::set_time_source(source)
}

/// What time it is on this thread, by its time source, its timer, or the system's clock.
pub fn now() -> Instant {
    current::now()
}

/// The loop works for itself from here: its account is charged, and the sentinel is current.
#[inline]
pub fn idle() {
    current::idle();
}

/// Call it after a system call that may have parked the thread: reads the kernel's clock, but only where this
/// machine's cheap clock cannot tell that the thread was off the CPU.
#[inline]
pub fn parked() {
    current::resync_if_blind();
}

/// The stamp of a wake that happens now, for [`poll`].
#[inline]
pub fn stamp() -> u64 {
    current::stamp()
}

/// The wall clock of wake stamps, in ticks of an unspecified length; about 10 ns.
#[inline]
pub fn ticks() -> u64 {
    current::ticks()
}

/// A difference of [`ticks`], in nanoseconds.
pub fn ticks_to_ns(ticks: u64) -> u64 {
    current::ticks_to_ns(ticks)
}

/// A stretch of time for which one context had the thread without a break: one poll, or several in a row.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LongSlice {
    /// How long, in wall time.
    pub length: Duration,
    /// Whose it was.
    pub context: Name,
    /// Where the task was spawned that was polled last in it.
    pub place: &'static Location<'static>,
}

/// The longest slice that ended since the last call, of those that this loop looks for
/// ([`LoopGuard::look_for_long_slices`]). Call it where the loop works for itself, after [`idle`].
#[inline]
pub fn take_longest_slice() -> Option<LongSlice> {
    let (length, context, place) = current::take_longest_slice()?;
    Some(LongSlice { length: Duration::from_nanos(length), context, place })
}

/// Whether this thread is that of a forked child which had contexts before the fork. Nothing is charged on it any more.
#[inline]
pub fn has_forked() -> bool {
    current::has_forked()
}

/// For what cannot be done in a forked child: a task cannot be started there, nor a runtime that is the parent's go on.
///
/// # Panics
///
/// If this thread is that of a forked child which had contexts before the fork, with a text that says so.
#[track_caller]
pub fn check_process() {
    current::check_process();
}

/// What a [`check_process`] that fails says, for errors that are no panic.
pub const FORKED: &str = current::FORKED;

/// The number of this process. A load, where the system has pages that a fork empties; else a system call.
pub fn process_id() -> u32 {
    clock::process_id()
}

/// Has `f` called in every forked child, on its thread, from here on. For executors: once, with a function that takes the
/// loop of that thread out of use. It must not allocate, lock or panic. The first four different functions are taken.
pub fn in_forked_child(f: fn()) {
    clock::in_child(f);
}

/// Tells the work of one test from that of others which run in the same process.
///
/// The thread that makes it has the tag until it is dropped. Threads that it starts have it too, and threads that those start
/// (Linux only; elsewhere such a thread has none). A pool gives its threads the tag of whoever sent the job ([`set_tag`]).
#[derive(Debug)]
#[must_use = "the tag is gone when this is dropped"]
pub struct Tagged {
    tag: u64,
    mark: u32,
    before: (u64, Option<u32>),
    not_send: PhantomData<*const ()>,
}

impl Tagged {
    /// Gives this thread a tag of its own.
    #[expect(clippy::new_without_default, reason = "it changes the thread")]
    pub fn new() -> Self {
        let (tag, mark) = tag::fresh();
        let before = (tag::set(tag), clock::thread_mark());
        clock::set_thread_mark(Some(mark));
        Self { tag, mark, before, not_send: PhantomData }
    }

    /// The tag.
    pub fn tag(&self) -> u64 {
        self.tag
    }
}

impl Drop for Tagged {
    fn drop(&mut self) {
        let (before, mark) = self.before;
        tag::set(before);
        clock::set_thread_mark(mark);
        tag::retire(self.tag, self.mark);
    }
}

/// The tag of this thread; 0 for none.
pub fn tag() -> u64 {
    tag::here()
}

/// Makes this thread work for `tag`, or for none by 0, and returns the one before.
pub fn set_tag(tag: u64) -> u64 {
    tag::set(tag)
}

/// The tag of the thread that made the context of that number; `None` if it had none, or that is not known.
pub fn tag_of(id: u64) -> Option<u64> {
    tag::of_context(id)
}

/// How this thread's CPU time is read; `None` before anything was charged on it.
pub fn rung() -> Option<Rung> {
    current::rung()
}

/// Advances this thread's manual clock (see [`Clock::Manual`]), in nanoseconds. Nothing happens with another clock.
pub fn advance_manual_clock(cpu: u64, wall: u64) {
    if current::rung() == Some(Rung::Manual) {
        current::manual_advance(cpu, wall);
    }
}

/// A blocking call of `wall` nanoseconds, on this thread's manual clock. Nothing happens with another clock.
pub fn block_manual_clock(wall: u64) {
    if current::rung() == Some(Rung::Manual) {
        current::manual_block(wall);
    }
}

/// How many times slower than a CPU this process runs: 1, but under an emulator. Bounds in wall time are as much longer.
#[doc(hidden)]
#[inline]
pub fn slowness() -> u64 {
    clock::slowness()
}

/// Says so, before the first context is made: for the bench that counts instructions, and for nothing else.
#[doc(hidden)]
pub fn set_slowness(factor: u64) {
    clock::set_slowness(factor);
}
