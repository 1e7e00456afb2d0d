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
use context::harness;
use std::cell::{Cell, RefCell};
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
    pub(crate) panicked: Cell<Option<&'static Location<'static>>>,
    /// The last to be dropped: from then on another runtime may have the index.
    pub(crate) inbox: Inbox,
}

impl Core {
    pub(crate) fn new(config: Config) -> io::Result<Self> {
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
}

/// Makes `core` this thread's runtime during `f`, and what was before again afterwards, also on unwind.
pub(crate) fn set<R>(core: &Core, f: impl FnOnce() -> R) -> R {
    struct Reset(*const Core);
    impl Drop for Reset {
        fn drop(&mut self) {
            HERE.set(self.0);
        }
    }
    let _reset = Reset(HERE.replace(core));
    f()
}

/// Lets `f` look at this thread's runtime.
//
// Always inlined: in a wake the call would be a tenth of the work.
#[inline(always)]
pub(crate) fn with<R>(f: impl FnOnce(Option<&Core>) -> R) -> R {
    let core = HERE.get();
    // SAFETY: null, or put there by a `set` on this thread, which holds the borrow of the core until it has taken the pointer away
    // again. Its frame is below ours, so that is after `f`, and `f` cannot keep the reference.
    f(unsafe { core.as_ref() })
}
