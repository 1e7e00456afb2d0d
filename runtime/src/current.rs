//! Which runtime runs on this thread. **Fenced**, for one pointer; and the crate's only thread-local.
//!
//! The thread-local is initialised by a constant and has no destructor. So looking costs one plain load, and works at any
//! time in a thread's life, during the destruction of its other thread-locals too (where it says "none").

#![allow(unsafe_code)]

use crate::clockwork::{RemoteTime, TimeSource};
use crate::config::{Config, LONG_SLICE_MIN};
use crate::handle::{Packed, RuntimeId};
use crate::inbox::{Inbox, Remote};
use crate::pace::Pace;
use crate::pool::{self, Pool};
use crate::reactor::{EVENTS_DEFAULT, Reactor};
use crate::sys;
use crate::task::table::Table;
use crate::task::tracking::Tracking;
use crate::timers::Timers;
use context::Context;
use context::harness::{self, contain_panic};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::panic::Location;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Instant;

/// What the leaf operations of one poll may do before they yield (tokio's number).
pub(crate) const BUDGET: u32 = 128;

/// The mechanisms of one runtime, as its thread sees them. No file above changes them but by these.
pub(crate) struct Core {
    /// Which runtime this is: what a handle that does more than wake compares.
    pub(crate) id: RuntimeId,
    /// The index that its wakers carry.
    pub(crate) index: u16,
    /// The process in which it was made: it does not work in a forked child.
    process: u32,
    pub(crate) config: Config,
    pub(crate) tasks: Table,
    pub(crate) timers: RefCell<Timers>,
    pub(crate) time: TimeSource,
    /// The clock of deadlines that are set on this runtime and its pools.
    pub(crate) deadlines: Arc<dyn harness::TimeSource>,
    pub(crate) reactor: Reactor,
    /// What the leaf operations of the running poll may still do before they yield.
    pub(crate) budget: Cell<u32>,
    /// How many polls come between two looks at the clock.
    pub(crate) pace: Pace,
    /// Wakers are tracked, or the clock is read around each poll.
    pub(crate) watches_polls: bool,
    /// A list of wakers that is empty between uses; kept for its memory.
    pub(crate) due: Cell<Vec<Waker>>,
    /// Short buffers that are written as one; kept for its memory.
    pub(crate) gathered: Cell<Vec<u8>>,
    /// The threads of `spawn_blocking`.
    pub(crate) pool: Pool<()>,
    /// Jobs on other threads whose end will wake somebody here: paused time does not jump over them.
    elsewhere: Arc<AtomicUsize>,
    /// The wakers of all tasks, if they are tracked.
    pub(crate) tracking: Option<Tracking>,
    /// The context of `block_on`'s future, while there is one.
    pub(crate) main: Cell<Option<Context>>,
    /// The slot of that future, and the line of `block_on`.
    pub(crate) root: Cell<Option<(Packed, &'static Location<'static>)>>,
    /// `shutdown` was asked for.
    pub(crate) stopping: Cell<bool>,
    /// Where the last panic on this thread came from, if somebody notes that.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only the server asks"))]
    pub(crate) panicked: Cell<Option<&'static Location<'static>>>,
    /// The last to be dropped: from then on another runtime may have the index.
    pub(crate) inbox: Inbox,
}

impl Core {
    pub(crate) fn new(config: Config) -> io::Result<Self> {
        if harness::has_forked() {
            return Err(io::Error::other(harness::FORKED));
        }
        harness::in_forked_child(abandon);
        let epoch = Instant::now();
        let (reactor, notifier) = Reactor::new(epoch, EVENTS_DEFAULT)?;
        let inbox = Inbox::new(notifier)?;
        let id = inbox.id();
        let tasks = Table::new(id.first_handle());
        if let Some(seed) = config.seed {
            tasks.queue().shuffle(seed);
        }
        let time = TimeSource::new(epoch, config.paused);
        Ok(Self {
            id,
            index: id.index(),
            process: harness::process_id(),
            deadlines: Arc::new(LoopTime(time.remote().clone())),
            tasks,
            timers: RefCell::new(Timers::new()),
            time,
            reactor,
            budget: Cell::new(BUDGET),
            pace: Pace::new(),
            watches_polls: config.track_wakers || config.slow_poll.is_some_and(|min| min < LONG_SLICE_MIN),
            due: Cell::new(Vec::new()),
            gathered: Cell::new(Vec::new()),
            pool: Pool::new(pool_settings(&config), || ()),
            elsewhere: Arc::default(),
            tracking: config.track_wakers.then(|| Tracking::new(id)),
            main: Cell::new(None),
            root: Cell::new(None),
            stopping: Cell::new(false),
            panicked: Cell::new(None),
            config,
            inbox,
        })
    }

    /// Whether this is a forked child, and the runtime its parent's.
    pub(crate) fn is_of_parent(&self) -> bool {
        self.process != harness::process_id()
    }

    pub(crate) fn has_work_elsewhere(&self) -> bool {
        self.elsewhere.load(Ordering::Acquire) > 0
    }

    /// To be held by a job on another thread until it is done.
    pub(crate) fn away(&self) -> Away {
        self.elsewhere.fetch_add(1, Ordering::Relaxed);
        Away {
            elsewhere: self.elsewhere.clone(),
            home: self.inbox.remote().clone(),
            deadlines: self.deadlines.clone(),
        }
    }

    /// One leaf operation. It spends a unit of the running poll's budget if it comes to something; without budget it is
    /// not tried, and `waker` is woken at once, so that the task goes on after the others.
    ///
    /// Waiting is free: a task that polls a thousand idle sockets in one go would spin if it was not.
    #[inline]
    pub(crate) fn poll_leaf<T>(&self, waker: &Waker, operation: impl FnOnce() -> Poll<T>) -> Poll<T> {
        let left = self.budget.get();
        if left == 0 {
            return exhausted(waker);
        }
        let poll = operation();
        if poll.is_ready() {
            self.budget.set(left - 1);
        }
        poll
    }
}

#[cold]
#[inline(never)]
fn exhausted<T>(waker: &Waker) -> Poll<T> {
    waker.wake_by_ref();
    Poll::Pending
}

fn pool_settings(config: &Config) -> pool::Settings {
    pool::Settings {
        name: format!("{}-blocking", config.name),
        threads_max: config.blocking_threads_max,
        queue_max: config.blocking_queue_max,
        keep_alive: Some(config.blocking_keep_alive),
        after_burst: sys::memory::give_back,
        clock: config.clock,
        hooks: config.hooks.clone(),
    }
}

/// The time of one runtime, on any thread.
struct LoopTime(Arc<RemoteTime>);

impl harness::TimeSource for LoopTime {
    fn now(&self) -> Instant {
        let at_home = with(|core| {
            let core = core.filter(|core| Arc::ptr_eq(core.time.remote(), &self.0));
            core.map(|core| core.time.now_instant())
        });
        at_home.unwrap_or_else(|| self.0.now())
    }
}

/// While it lives, something that concerns this runtime goes on on another thread: paused time waits for it.
pub(crate) struct Away {
    elsewhere: Arc<AtomicUsize>,
    home: Arc<Remote>,
    deadlines: Arc<dyn harness::TimeSource>,
}

impl Away {
    /// Runs `f` by the time of the runtime that it is for.
    pub(crate) fn on_its_time<R>(&self, f: impl FnOnce() -> R) -> R {
        let _time = OnTime::of(&self.deadlines);
        f()
    }
}

/// While it lives, deadlines of this thread go by the time of a runtime.
pub(crate) struct OnTime(Option<Arc<dyn harness::TimeSource>>);

impl OnTime {
    pub(crate) fn of(deadlines: &Arc<dyn harness::TimeSource>) -> Self {
        Self(harness::set_time_source(Some(deadlines.clone())))
    }
}

impl Drop for OnTime {
    fn drop(&mut self) {
        harness::set_time_source(self.0.take());
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        self.elsewhere.fetch_sub(1, Ordering::Release);
        // A loop that sleeps for this alone looks again. Nobody else may wake it: a job need not be awaited.
        self.home.nudge();
    }
}

thread_local! {
    /// The runtime whose loop is on this thread's stack; null = none.
    static HERE: Cell<*const Core> = const { Cell::new(ptr::null()) };
    /// The innermost [`set`] on this thread's stack; null = none.
    static INNERMOST: Cell<*const Saved> = const { Cell::new(ptr::null()) };
    /// What waits in [`in_turn`].
    static TURNS: Turns = const { Turns { busy: Cell::new(false), waiting: RefCell::new(VecDeque::new()) } };
}

/// What was this thread's runtime before a [`set`] that is on its stack, and the `set` before that.
struct Saved {
    core: Cell<*const Core>,
    outer: *const Saved,
}

struct Turns {
    busy: Cell<bool>,
    waiting: RefCell<VecDeque<Box<dyn FnOnce()>>>,
}

/// Runs `f`, a destructor of user code, now; but if one is run here already, further down on the stack, then when that has
/// ended. So a chain of values, each of which holds the handle of the next, is dropped without recursion.
///
/// What `f` itself does not contain of a panic is logged.
pub(crate) fn in_turn(f: impl FnOnce() + 'static) {
    let f = || contain_panic(f, |text| log::error!("bursar: a destructor panicked: {text}"));
    let nested = TURNS.try_with(|turns| turns.busy.replace(true));
    match nested {
        Ok(true) => TURNS.with(|turns| turns.waiting.borrow_mut().push_back(Box::new(f))),
        Ok(false) => {
            f();
            while let Some(next) = TURNS.with(next_turn) {
                next();
            }
        }
        // The thread is being destroyed: nobody could come back for it.
        Err(_) => f(),
    }
}

/// The next one, or the end.
fn next_turn(turns: &Turns) -> Option<Box<dyn FnOnce()>> {
    let next = turns.waiting.borrow_mut().pop_front();
    turns.busy.set(next.is_some());
    next
}

/// Makes `core` this thread's runtime during `f`, and what was before again afterwards, also on unwind.
pub(crate) fn set<R>(core: &Core, f: impl FnOnce() -> R) -> R {
    struct Reset<'a>(&'a Saved);
    impl Drop for Reset<'_> {
        fn drop(&mut self) {
            INNERMOST.set(self.0.outer);
            HERE.set(self.0.core.get());
        }
    }
    let saved = Saved { core: Cell::new(HERE.replace(core)), outer: INNERMOST.get() };
    INNERMOST.set(&raw const saved);
    let _reset = Reset(&saved);
    f()
}

/// In a forked child: the loops on this thread find nothing ready any more, and say why they end before they would sleep
/// (`executor::turn`). For everything else there is no runtime here.
fn abandon() {
    let mut core = HERE.replace(ptr::null());
    let mut next = INNERMOST.get();
    loop {
        // SAFETY: as in `with`.
        if let Some(core) = unsafe { core.as_ref() } {
            core.tasks.queue().abandon();
        }
        // SAFETY: as in `forget`.
        let Some(saved) = (unsafe { next.as_ref() }) else { return };
        core = saved.core.replace(ptr::null());
        next = saved.outer;
    }
}

/// Panics because no runtime runs on this thread, with `text` unless there is a better reason.
#[cold]
#[track_caller]
pub(crate) fn none(text: impl std::fmt::Display) -> ! {
    harness::check_process();
    panic!("{text}")
}

/// No `set` on this thread makes `core` current any more, now or when it ends: `core` is about to be dropped.
///
/// A thread's destructors may run on top of a loop (`exit` called in a task), and drop the runtime of that very loop.
pub(crate) fn forget(core: &Core) {
    if ptr::eq(HERE.get(), core) {
        HERE.set(ptr::null());
    }
    let mut next = INNERMOST.get();
    // SAFETY: null, or a local of a `set` that is on this thread's stack, and alive as its destructor takes it off the list.
    while let Some(saved) = unsafe { next.as_ref() } {
        if ptr::eq(saved.core.get(), core) {
            saved.core.set(ptr::null());
        }
        next = saved.outer;
    }
}

/// Lets `f` look at this thread's runtime.
//
// Always inlined: in a wake the call would be a tenth of the work.
#[inline(always)]
pub(crate) fn with<R>(f: impl FnOnce(Option<&Core>) -> R) -> R {
    let core = HERE.get();
    // SAFETY: null, or put there by a `set` on this thread, which holds the borrow of the core until it has taken the pointer away
    // again. Its frame is below ours, so that is after `f`, and `f` cannot keep the reference. (If `exit` runs the destructors
    // of the thread on top of that frame, the runtime that one of them drops takes the pointer away: `forget`.)
    f(unsafe { core.as_ref() })
}
