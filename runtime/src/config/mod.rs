//! What a runtime is built with: plain values.

#[cfg(debug_assertions)]
#[path = "debug.rs"]
mod build;
#[cfg(not(debug_assertions))]
#[path = "release.rs"]
mod build;

#[cfg(not(bursar_no_reuse))]
mod reuse;
#[cfg(bursar_no_reuse)]
#[path = "reuse_none.rs"]
mod reuse;

pub(crate) use reuse::TASK_KEPT_MAX;

use context::harness::{self, Observing};
use context::{Clock, Hooks};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Whether a future is so large that it is put into a box before it is handed on: its size in bytes, then, is what the caller's
/// stack needs once or twice, and not for each function on the way to the task.
pub(crate) const fn is_large<F>() -> bool {
    size_of::<F>() > build::BOX_MIN
}

/// Threads of the blocking pool at most. Each that works at a time keeps memory, and few disks do more than this at once.
pub(crate) const BLOCKING_THREADS_MAX: usize = 64;
/// Jobs that may wait for a thread of the pool; further ones are refused with an error.
pub(crate) const BLOCKING_QUEUE_MAX: usize = 16_384;
/// How long a poll may sleep before it is called blocking. Locks that are held for microseconds are no news.
pub(crate) const BLOCKING_CALL_MIN: Duration = Duration::from_millis(1);
/// How long a poll may hold the thread before it is called slow.
pub(crate) const SLOW_POLL_MIN: Duration = Duration::from_millis(100);
/// Slow polls that are at least as long are found among the slices of contexts, which costs nothing. To find shorter ones
/// the clock is read around each poll.
pub(crate) const LONG_SLICE_MIN: Duration = Duration::from_millis(1);
/// How long an idle thread of the pool stays.
pub(crate) const BLOCKING_KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The settings of one runtime; see [`Builder`](crate::Builder).
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) name: String,
    /// The class of the context that `block_on`'s future runs in. `None`: the sentinel (tests).
    pub(crate) main_class: Option<String>,
    pub(crate) clock: Clock,
    pub(crate) blocking_threads_max: usize,
    pub(crate) blocking_queue_max: usize,
    pub(crate) blocking_keep_alive: Duration,
    /// Time stands still unless nothing is left to do, then it jumps to the next deadline.
    pub(crate) paused: bool,
    /// Seed by which the run queue is shuffled.
    pub(crate) seed: Option<u64>,
    /// Idle tasks that nothing can wake are found and reported.
    pub(crate) track_wakers: bool,
    /// A blocking call in a poll is reported if it takes this long; `None`: none is.
    pub(crate) blocking_call: Option<Duration>,
    /// A poll longer than this is reported; `None`: none is.
    pub(crate) slow_poll: Option<Duration>,
    pub(crate) hooks: HookList,
}

/// Who wants to know of the contexts on the runtime's threads.
#[derive(Clone, Default)]
pub(crate) struct HookList(pub(crate) Vec<Arc<dyn Hooks>>);

impl HookList {
    /// Tells them of this thread's contexts while the result lives.
    pub(crate) fn observe(&self) -> Vec<Observing> {
        self.0.iter().cloned().map(harness::observe).collect()
    }
}

impl fmt::Debug for HookList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} hooks", self.0.len())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "bursar".to_owned(),
            main_class: Some("main".to_owned()),
            clock: Clock::Auto,
            blocking_threads_max: BLOCKING_THREADS_MAX,
            blocking_queue_max: BLOCKING_QUEUE_MAX,
            blocking_keep_alive: BLOCKING_KEEP_ALIVE,
            paused: false,
            seed: None,
            track_wakers: build::TRACK_WAKERS,
            blocking_call: Some(BLOCKING_CALL_MIN),
            slow_poll: Some(SLOW_POLL_MIN),
            hooks: HookList::default(),
        }
    }
}
