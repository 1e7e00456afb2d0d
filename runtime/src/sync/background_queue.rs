//! A queue with a worker that is there while there is work.

use super::caught::caught;
use super::wake_all;
use crate::current;
use crate::inbox::Remote;
use crate::spawn;
use crate::time::{Sleep, sleep};
use context::harness::Share;
use context::{Context, ReportKind, WaitCancelled};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{self, Poll, Waker};
use std::time::Duration;

/// A bounded queue whose items are handled one at a time by a background process.
///
/// The process is started by the first item and ends when nothing came for `idle`; the next item starts another one.
/// So work that comes in bursts has one context a burst, whose cost is known when it is over, and a queue that is not
/// used costs nothing.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// use runtime::sync::BackgroundQueue;
/// use std::time::Duration;
///
/// let (sent, mut outbox) = tokio::sync::mpsc::unbounded_channel();
/// let mails = BackgroundQueue::new("send mail", 100, Duration::from_secs(30), move |mail: String| {
///     let sent = sent.clone();
///     async move { sent.send(mail).map_err(|_| "nobody receives") }
/// });
/// mails.add("hello".to_owned()).unwrap();
/// assert_eq!(outbox.recv().await.as_deref(), Some("hello"));
/// # });
/// # Ok(())
/// # }
/// ```
///
/// # Failures
///
/// An item whose handling fails or panics is reported ([`ReportKind::UnhandledError`], [`ReportKind::UnhandledPanic`]),
/// with the line that made the queue; the worker goes on with the next.
///
/// # Shutdown
///
/// When a worker's context is cancelled it does not wait for items any more, but handles those that are there, and so
/// do the workers after it. What the runtime's patience does not suffice for is logged as lost.
///
/// # Absent
///
/// Adding does not wait for room. Items carry no context: the work is the queue's. Dropping all handles ends nothing
/// but the adding.
pub struct BackgroundQueue<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    class: &'static str,
    place: &'static Location<'static>,
    items_max: usize,
    idle: Duration,
    /// The runtime of the workers.
    home: Weak<Remote>,
    state: Mutex<State<T>>,
}

struct State<T> {
    items: VecDeque<T>,
    /// At home here while there is no worker.
    handler: Option<Handler<T>>,
    /// The worker, while it waits.
    waiting: Option<Waker>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Workers do not wait any more.
    Draining,
    /// A worker was dropped, and so is its runtime.
    Closed,
}

type Handling = Pin<Box<dyn Future<Output = Result<(), String>>>>;
type Handler<T> = Box<dyn FnMut(T) -> Handling + Send>;

/// Why an item was not added; it is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError<T> {
    /// There is no room.
    Full(T),
    /// The runtime of the queue is gone.
    Closed(T),
}

impl<T> AddError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(item) | Self::Closed(item) => item,
        }
    }
}

impl<T> fmt::Display for AddError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the queue is full",
            Self::Closed(_) => "the runtime of the queue is gone",
        })
    }
}

impl<T: fmt::Debug> std::error::Error for AddError<T> {}

impl<T: Send + 'static> BackgroundQueue<T> {
    /// A queue for at most `items_max` items; its workers are contexts of class `class`, and exit after `idle`.
    ///
    /// The future that `handle` makes need not be `Send`: it stays on the thread of the runtime this is called on.
    ///
    /// # Panics
    ///
    /// If no runtime runs on this thread, and if `items_max` is 0.
    #[track_caller]
    pub fn new<H, F, E>(class: &'static str, items_max: usize, idle: Duration, mut handle: H) -> Self
    where
        H: FnMut(T) -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + 'static,
        E: fmt::Display,
    {
        assert!(items_max > 0, "a queue has room for at least one item");
        let home = current::with(|core| core.map(|core| Arc::downgrade(core.inbox.remote())));
        let home =
            home.unwrap_or_else(|| panic!("there is no runtime on this thread for the workers of a queue"));
        let handler: Handler<T> = Box::new(move |item| {
            let handling = handle(item);
            Box::pin(async move { handling.await.map_err(|error| error.to_string()) })
        });
        let (items, phase) = (VecDeque::new(), Phase::Open);
        let state = Mutex::new(State { items, handler: Some(handler), waiting: None, phase });
        let place = Location::caller();
        Self { shared: Arc::new(Shared { class, place, items_max, idle, home, state }) }
    }

    /// Adds an item; from any thread.
    ///
    /// # Errors
    ///
    /// If there is no room for it, or nobody left to handle it.
    pub fn add(&self, item: T) -> Result<(), AddError<T>> {
        loop {
            let mut state = self.shared.state.lock();
            if state.phase == Phase::Closed {
                return Err(AddError::Closed(item));
            }
            if state.items.len() >= self.shared.items_max {
                return Err(AddError::Full(item));
            }
            let Some(handler) = state.handler.take() else {
                // There is a worker.
                state.items.push_back(item);
                let waiting = state.waiting.take();
                drop(state);
                wake_all(waiting);
                return Ok(());
            };
            drop(state);
            Worker { shared: self.shared.clone(), handler: Some(handler) }.start();
            // If it could not be started the queue is closed now.
        }
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.shared.state.lock().items.len()
    }

    /// Whether no item waits. One may be being handled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is a worker: handling an item, or waiting for one.
    pub fn is_working(&self) -> bool {
        self.shared.state.lock().handler.is_none()
    }
}

/// Whoever has the handler. Dropped with it, it was not allowed to do its work to the end.
struct Worker<T> {
    shared: Arc<Shared<T>>,
    handler: Option<Handler<T>>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts it at home. If home is gone it is dropped.
    fn start(self) {
        let Some(home) = self.shared.home.upgrade() else { return };
        if current::with(|core| core.is_some_and(|core| Arc::ptr_eq(core.inbox.remote(), &home))) {
            let context = Context::root(self.shared.class);
            let place = self.shared.place;
            drop(spawn::spawn_at(self.work(), Share::of(&context), place));
        } else {
            let _ = home.send(Box::new(move || self.start()));
        }
    }

    async fn work(mut self) {
        loop {
            while let Some(item) = self.next() {
                self.handle(item).await;
            }
            if self.shared.state.lock().phase == Phase::Open {
                let (sleep, cancelled) = (sleep(self.shared.idle), Context::current().cancelled());
                Idle { shared: &self.shared, sleep, cancelled }.await;
            }
            if self.retire() {
                return;
            }
        }
    }

    fn next(&self) -> Option<T> {
        self.shared.state.lock().items.pop_front()
    }

    async fn handle(&mut self, item: T) {
        let handler = self.handler.as_mut();
        let handled = caught(async {
            match handler {
                Some(handler) => handler(item).await,
                None => Ok(()),
            }
        });
        let (kind, text) = match handled.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => (ReportKind::UnhandledError, error),
            Err(panic) => (ReportKind::UnhandledPanic, panic),
        };
        let context = Context::current();
        log::error!("{context}: an item of the queue failed: {text}");
        context::sentinel::report(kind, &context, self.shared.place, &text);
    }

    /// Gives the handler back, unless there is something to do.
    fn retire(&mut self) -> bool {
        let mut state = self.shared.state.lock();
        if state.items.is_empty() {
            state.handler = self.handler.take();
        }
        self.handler.is_none()
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        if self.handler.is_none() {
            return;
        }
        let mut state = self.shared.state.lock();
        state.phase = Phase::Closed;
        let lost = std::mem::take(&mut state.items);
        drop(state);
        if !lost.is_empty() {
            let Shared { class, place, .. } = &*self.shared;
            log::error!("{class} at {place}: the runtime ended, {} items of the queue are lost", lost.len());
        }
    }
}

/// Waits until there is an item, the time is over, or the worker is cancelled.
struct Idle<'a, T> {
    shared: &'a Shared<T>,
    sleep: Sleep,
    cancelled: WaitCancelled,
}

impl<T> Future for Idle<'_, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut state = self.shared.state.lock();
        let has_items = !state.items.is_empty();
        let replaced = state.waiting.replace(waker);
        drop(state);
        drop(replaced);
        if Pin::new(&mut self.cancelled).poll(cx).is_ready() {
            self.shared.state.lock().phase = Phase::Draining;
            return Poll::Ready(());
        }
        if has_items { Poll::Ready(()) } else { Pin::new(&mut self.sleep).poll(cx) }
    }
}

impl<T> Clone for BackgroundQueue<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T> fmt::Debug for BackgroundQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundQueue").field("class", &self.shared.class).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::trace::{Gate, Trace, clean, settle, task};
    use super::*;
    use crate::Runtime;
    use crate::testing::{self, Options};

    const SECOND: Duration = Duration::from_secs(1);

    /// Each item says that it began, waits for the gate, and says that it ended.
    fn queue(class: &'static str, trace: &Trace, gate: &Gate) -> BackgroundQueue<u32> {
        let (trace, gate) = (trace.clone(), gate.clone());
        BackgroundQueue::new(class, 3, SECOND * 10, move |item| {
            let (trace, gate) = (trace.clone(), gate.clone());
            async move {
                assert_eq!(Context::current().class(), class);
                trace.say(format_args!("{item}+"));
                gate.pass().await;
                trace.say(format_args!("{item}-"));
                match item {
                    13 => Err("thirteen"),
                    14 => panic!("fourteen"),
                    _ => Ok(()),
                }
            }
        })
    }

    fn opened(class: &str) -> (u64, u64) {
        let usage = context::classes().into_iter().find(|usage| usage.class == class);
        usage.map_or((0, 0), |usage| (usage.opened, usage.open))
    }

    #[test]
    fn g06_one_item_at_a_time_in_order_and_bounded() {
        clean("g06", async {
            let (trace, gate) = (Trace::default(), Gate::default());
            let queue = queue("g06 one", &trace, &gate);
            assert_eq!((queue.is_working(), opened("g06 one")), (false, (0, 0)));
            queue.add(1).unwrap();
            settle().await;
            (2..5).for_each(|item| queue.add(item).unwrap());
            assert_eq!(queue.add(5), Err(AddError::Full(5)));
            settle().await;
            assert_eq!((trace.take().as_str(), queue.len()), ("1+", 3));
            gate.open();
            settle().await;
            assert_eq!(trace.take(), "1- 2+ 2- 3+ 3- 4+ 4-");
            assert!(queue.is_empty() && queue.is_working());
        });
    }

    #[test]
    fn g06_g07_the_worker_is_used_again_while_idle_exits_after_and_is_started_again() {
        clean("g07", async {
            let (trace, gate) = (Trace::default(), Gate::default());
            gate.open();
            let queue = queue("g07", &trace, &gate);
            queue.add(1).unwrap();
            sleep(SECOND * 9).await;
            queue.add(2).unwrap();
            sleep(SECOND * 9).await;
            assert_eq!((trace.take().as_str(), opened("g07")), ("1+ 1- 2+ 2-", (1, 1)), "reused");
            sleep(SECOND * 2).await;
            assert_eq!((queue.is_working(), opened("g07")), (false, (1, 0)), "exited");
            queue.add(3).unwrap();
            settle().await;
            assert_eq!((trace.take().as_str(), opened("g07")), ("3+ 3-", (2, 1)), "restarted");
        });
    }

    #[test]
    fn g09_p17_a_failing_item_is_reported_and_the_next_one_handled() {
        let options = Options { name: "p17", paused: true, allow_reports: true, ..Options::default() };
        testing::run(options, async {
            let (trace, gate) = (Trace::default(), Gate::default());
            gate.open();
            let queue = queue("p17 queue", &trace, &gate);
            [13, 14, 15].into_iter().for_each(|item| queue.add(item).unwrap());
            settle().await;
            assert_eq!(trace.take(), "13+ 13- 14+ 14- 15+ 15-");
            let reports: Vec<_> = context::sentinel::reports().into_iter().collect();
            let of = |text: &str| reports.iter().find(|report| report.detail == text).expect("reported");
            assert_eq!(of("thirteen").kind, ReportKind::UnhandledError);
            assert_eq!(of("fourteen").kind, ReportKind::UnhandledPanic);
            assert!(of("fourteen").context.starts_with("p17 queue#"));
        });
    }

    #[test]
    fn g05_an_idle_worker_is_no_straggler_and_a_busy_one_ends_its_items() {
        let (trace, gate) = (Trace::default(), Gate::default());
        gate.open();
        let rt = Runtime::builder().paused(true).build().unwrap();
        let queue = rt.block_on(async {
            let queue = queue("g05 queue", &trace, &gate);
            queue.add(1).unwrap();
            settle().await;
            queue.add(2).unwrap();
            queue
        });
        assert!(rt.shutdown_timeout(SECOND).is_empty());
        assert_eq!(trace.take(), "1+ 1- 2+ 2-");
        assert_eq!(queue.add(3), Err(AddError::Closed(3)));
    }

    #[test]
    fn g05_a_worker_that_is_started_during_the_shutdown_does_not_wait() {
        let (trace, gate) = (Trace::default(), Gate::default());
        gate.open();
        let rt = Runtime::builder().paused(true).build().unwrap();
        rt.block_on(async {
            let queue = queue("g05 late", &trace, &gate);
            queue.add(1).unwrap();
            settle().await;
            let late = async move {
                Context::current().cancelled().await;
                settle().await;
                assert!(!queue.is_working(), "the first one has gone");
                queue.add(2).unwrap();
            };
            drop(task("request", late));
        });
        assert!(rt.shutdown_timeout(SECOND).is_empty());
        assert_eq!(trace.take(), "1+ 1- 2+ 2-");
    }

    #[test]
    fn trap_17_a_queue_outlives_its_runtime_and_says_so() {
        let (trace, gate) = (Trace::default(), Gate::default());
        let rt = Runtime::new().unwrap();
        let queue = rt.block_on(async { queue("trap 17", &trace, &gate) });
        queue.add(1).unwrap();
        rt.block_on(settle());
        assert_eq!(trace.take(), "1+");
        drop(rt);
        assert_eq!(queue.add(2).map_err(AddError::into_inner), Err(2));
    }

    #[test]
    fn trap_08_no_other_runtime_takes_over() {
        let (trace, gate) = (Trace::default(), Gate::default());
        let rt = Runtime::new().unwrap();
        let queue = rt.block_on(async { queue("trap 8", &trace, &gate) });
        drop(rt);
        let other = Runtime::new().unwrap();
        other.block_on(async { assert_eq!(queue.add(1), Err(AddError::Closed(1))) });
    }

    #[test]
    fn items_may_be_added_from_other_threads() {
        let rt = Runtime::new().unwrap();
        rt.block_on(async {
            let (done, finished) = async_channel::bounded(1);
            let queue = BackgroundQueue::new("foreign", 3, SECOND, move |item: u32| {
                let done = done.clone();
                async move { done.send((item, Context::current().class())).await }
            });
            let adding = std::thread::spawn(move || queue.add(7));
            assert_eq!(finished.recv().await, Ok((7, "foreign")));
            adding.join().unwrap().unwrap();
        });
    }
}
