//! Time in the hand of a test.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use crate::current::{self, Core};

/// Stops the time of this thread's runtime. From here it moves only by [`advance`], and by jumps to the next deadline
/// when nothing else is left to do.
///
/// Sockets go on in real time: while a task waits for one and nothing else is ready, time jumps. A runtime may also be
/// [built](crate::Builder::paused) with its time paused.
///
/// ```
/// use runtime::time::{self, Instant};
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// time::pause();
/// let start = Instant::now();
/// assert_eq!(start.elapsed(), Duration::ZERO);
/// time::advance(Duration::from_secs(60)).await;
/// assert_eq!(start.elapsed(), Duration::from_secs(60));
/// time::resume();
/// # });
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// If it is paused already, or no runtime runs on this thread.
#[track_caller]
pub fn pause() {
    let was_running = with_core(|core| core.time.pause());
    assert!(was_running, "time is paused already");
}

/// Lets time run on from where it is.
///
/// # Panics
///
/// If it is not paused, or no runtime runs on this thread.
#[track_caller]
pub fn resume() {
    let was_paused = with_core(|core| core.time.resume());
    assert!(was_paused, "time is not paused, so it cannot be resumed");
}

/// Moves paused time on by `duration`, in one jump. Timers that are due by then fire in order, and the tasks they wake
/// are polled before this returns. (Timers which those set are later by the whole jump: to go through several, advance
/// in steps, or sleep.)
///
/// # Panics
///
/// If time is not paused, or no runtime runs on this thread.
pub async fn advance(duration: Duration) {
    with_core(|core| move_on(core, duration));
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Wakes outside of the borrow: a waker may use the timers.
fn move_on(core: &Core, duration: Duration) {
    assert!(core.time.is_paused(), "time is not paused: call `time::pause` before `time::advance`");
    let duration = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    core.time.advance_to(core.time.now().saturating_add(duration));
    let mut due = Vec::new();
    core.timers.borrow_mut().advance_exact(core.time.now(), &mut due);
    due.into_iter().for_each(|waker| waker.wake());
}

#[track_caller]
fn with_core<R>(f: impl FnOnce(&Core) -> R) -> R {
    current::with(|core| {
        f(core.unwrap_or_else(|| panic!("there is no runtime on this thread whose time could be paused")))
    })
}
