//! Building a runtime, entering it, reaching it from other threads, ending it.

use crate::config::{Config, is_large};
use crate::current::{self, Core, OnTime};
use crate::error::{JoinError, Straggler};
use crate::executor;
use crate::inbox::Remote;
use crate::join::{Job, JoinHandle};
use crate::shutdown;
use crate::signal;
use crate::spawn;
use crate::task::JoinFailure;
use crate::time;
use context::harness::{self, Share};
use context::sentinel::Listening;
use context::{Accounts, Clock, Context, Hooks, Report, ReportKind};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

type Listener = Box<dyn Fn(&Report) + Send + Sync>;

/// How long the jobs that still run are waited for when a program ends after a signal.
const LAST_JOBS: Duration = Duration::from_secs(1);

/// Settings for a [`Runtime`]; see [`Runtime::builder`].
#[must_use = "nothing is built before `build`"]
pub struct Builder {
    config: Config,
    on_report: Vec<Listener>,
}

impl Builder {
    /// The name, for logs and for the threads of the pools.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = name.into();
        self
    }

    /// The class of the context in which the future of [`Runtime::block_on`] runs; `main` by default.
    pub fn class(mut self, class: impl Into<String>) -> Self {
        self.config.main_class = Some(class.into());
        self
    }

    /// How CPU time is read; by default the cheapest way that this machine offers.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.config.clock = clock;
        self
    }

    /// Threads of the blocking pool at most; 64 by default, started when needed.
    ///
    /// More of them take more memory after a burst, for glibc's allocator keeps what they have freed; 10 s after the last job
    /// ([`blocking_keep_alive`](Self::blocking_keep_alive)), when all have left, the runtime has it give that back. Jobs that wait for
    /// one another need a thread each.
    ///
    /// # Panics
    ///
    /// If it is 0.
    pub fn blocking_threads(mut self, threads: usize) -> Self {
        assert!(threads > 0, "the blocking pool needs at least one thread");
        self.config.blocking_threads_max = threads;
        self
    }

    /// Jobs that may wait for a thread of the blocking pool; 16,384 by default. Further ones are refused with an error.
    pub fn blocking_queue(mut self, jobs: usize) -> Self {
        self.config.blocking_queue_max = jobs;
        self
    }

    /// How long an idle thread of the blocking pool stays; 10 s by default.
    pub fn blocking_keep_alive(mut self, keep_alive: Duration) -> Self {
        self.config.blocking_keep_alive = keep_alive;
        self
    }

    /// Reports polls that hold the thread for longer than this ([`ReportKind::SlowPoll`]); 100 ms by default, `None` for
    /// not at all.
    ///
    /// It costs nothing from 1 ms on: such polls are found where the time of their context is charged. (Polls of one
    /// context that follow each other directly are one then; the loop makes no more than four in a row before it knows
    /// that they are slow, and one when it does.) For less the clock is read around each poll, and so it is where wakers
    /// are tracked.
    pub fn slow_poll(mut self, threshold: impl Into<Option<Duration>>) -> Self {
        self.config.slow_poll = threshold.into();
        self
    }

    /// Reports polls that sleep for this long or longer in a blocking call
    /// ([`ReportKind::BlockingCall`]); 1 ms by default, `None` for not at all. It costs nothing while no poll leaves the
    /// CPU.
    pub fn blocking_call(mut self, min: Option<Duration>) -> Self {
        self.config.blocking_call = min;
        self
    }

    /// Counts the wakers of each task, and reports a task that is idle and that nothing can wake any more
    /// ([`ReportKind::Orphaned`]), once, with its context and the line that spawned it.
    ///
    /// Costs an atomic operation for each clone and drop of a waker, and an allocation for a task: on by default in builds
    /// with debug assertions, off in others.
    pub fn track_wakers(mut self, track: bool) -> Self {
        self.config.track_wakers = track;
        self
    }

    /// Tells `hooks` of every context that becomes or ceases to be current on this runtime's threads (its own and those of
    /// its pools), and of every one that finishes while the runtime works.
    pub fn hooks(mut self, hooks: impl Hooks + 'static) -> Self {
        self.config.hooks.0.push(Arc::new(hooks));
        self
    }

    /// Calls `listener` at every report of the sentinel while the runtime lives.
    pub fn on_report(mut self, listener: impl Fn(&Report) + Send + Sync + 'static) -> Self {
        self.on_report.push(Box::new(listener));
        self
    }

    /// Time stands still, and jumps to the next deadline when nothing is left to do. For tests.
    pub fn paused(mut self, paused: bool) -> Self {
        self.config.paused = paused;
        self
    }

    /// Shuffles the run queue, by this seed. For tests.
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = Some(seed);
        self
    }

    /// `block_on`'s future runs in the sentinel. For tests, which begin with no context (P22).
    pub(crate) fn without_main(mut self) -> Self {
        self.config.main_class = None;
        self
    }

    /// Builds it.
    ///
    /// # Errors
    ///
    /// When the process is out of file descriptors, or 65,535 runtimes are alive in it.
    pub fn build(self) -> io::Result<Runtime> {
        let core = Rc::new(Core::new(self.config)?);
        let listening = self.on_report.into_iter().map(context::sentinel::on_report).collect();
        let handle = Handle {
            shared: Arc::new(Shared {
                name: core.config.name.clone(),
                remote: core.inbox.remote().clone(),
                process: harness::process_id(),
            }),
        };
        Ok(Runtime { core, handle, _listening: listening })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A single-threaded runtime: the loop, its timers and I/O, and the books of everything that runs on it.
///
/// It belongs to the thread that built it, and so do the tasks on it, which need not be `Send`. Dropping it drops every
/// task, each in its own context; jobs of the blocking pool that were not begun are dropped, those that run are waited
/// for. ([`Runtime::shutdown_timeout`] puts a limit to that.)
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let rt = runtime::Runtime::builder().name("api").build()?;
/// let n = rt.block_on(async { runtime::spawn(async { 1 + 1 }).await.unwrap() });
/// assert_eq!(n, 2);
/// # Ok(())
/// # }
/// ```
pub struct Runtime {
    /// Counted once; and once more, for good, in a forked child, where it is not dropped.
    core: Rc<Core>,
    handle: Handle,
    _listening: Vec<Listening>,
}

impl Runtime {
    /// A runtime with the default settings.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    pub fn new() -> io::Result<Self> {
        Self::builder().build()
    }

    /// Settings to build a runtime with.
    pub fn builder() -> Builder {
        Builder { config: Config::default(), on_report: Vec::new() }
    }

    /// Reaches this runtime from any thread.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs `future`, and everything that it spawns, until it is ready. What was spawned and is not done stays, and
    /// goes on in the next `block_on`.
    ///
    /// The future runs in a new root context of class `main` ([`Builder::class`]).
    ///
    /// # Panics
    ///
    /// If a runtime runs on this thread already: a `block_on` inside of a task would stop all others. And with the
    /// panic of `future`, if it panics.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let place = Location::caller();
        if const { is_large::<F>() } { self.run(Box::pin(future), place) } else { self.run(future, place) }
    }

    #[track_caller]
    fn run<F: Future>(&self, future: F, place: &'static Location<'static>) -> F::Output {
        self.within(|| {
            let Some(class) = &self.core.config.main_class else {
                return executor::block_on(&self.core, future, &Share::nobody(), place);
            };
            let main = Finished(Context::root(class), &self.core);
            let share = Share::of(&main.0);
            self.core.main.set(Some(main.0.clone()));
            executor::block_on(&self.core, future, &share, place)
        })
    }

    /// Runs `future` as a program: what `#[runtime::main]` expands to. [`block_on`](Self::block_on), and an end in order after a
    /// signal that asks for one (`SIGINT`, `SIGTERM`, `SIGHUP`).
    ///
    /// - The program may listen for these signals ([`signal`](crate::signal)); then they are its own.
    /// - One that it does not listen for drops `future`, then the tasks that are left, each in its own context, and ends the
    ///   process with the status 128 + its number. So a signal during the start of a program ends that in order.
    /// - A second one ends the process at once, with 128 + its number.
    /// - After such a signal jobs of the blocking pool that still run are waited for at most a second; without one until
    ///   they end.
    ///
    /// # Panics
    ///
    /// As [`block_on`](Self::block_on).
    #[track_caller]
    pub fn run_main<F: Future>(self, future: F) -> F::Output {
        if const { is_large::<F>() } { self.run_as_main(Box::pin(future)) } else { self.run_as_main(future) }
    }

    fn run_as_main<F: Future>(self, future: F) -> F::Output {
        let ended = self.block_on(async {
            // Without descriptors for it the signals do what they always did.
            let mut unheard = signal::Unheard::listen().ok();
            let mut future = pin!(future);
            poll_fn(|cx| {
                if let Poll::Ready(output) = future.as_mut().poll(cx) {
                    return Poll::Ready(Ok(output));
                }
                let unheard = unheard.as_mut().map_or(Poll::Pending, |unheard| unheard.poll(cx));
                unheard.map(Err)
            })
            .await
        });
        if signal::was_asked() || ended.is_err() {
            self.shutdown_timeout(LAST_JOBS);
        } else {
            drop(self);
        }
        ended.unwrap_or_else(|kind| {
            log::warn!("bursar: ended by signal {}", kind.as_raw_value());
            std::process::exit(128 + kind.as_raw_value())
        })
    }

    /// Ends it: cancels the contexts of the tasks that are left with [`Reason::Shutdown`](context::Reason::Shutdown),
    /// lets them run for up to `patience`, then drops what is left, each task in its own context. Those are reported
    /// as [`ReportKind::Straggler`], and returned.
    ///
    /// Jobs of the blocking pool are waited for as well. Those that were not begun by then are dropped; one that runs
    /// cannot be interrupted: it is reported, and its thread runs on with nobody waiting for it.
    pub fn shutdown_timeout(self, patience: Duration) -> Vec<Straggler> {
        self.within(|| {
            shutdown::cancel_all(&self.core);
            let patience = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
            let end = self.core.time.now().saturating_add(patience);
            // So that the loop does not sleep past the end.
            self.core.timers.borrow_mut().insert(end, Waker::noop().clone());
            let is_idle = || self.core.tasks.live() == 0 && !self.core.has_work_elsewhere();
            executor::run_until(&self.core, || is_idle() || self.core.time.now() >= end);
            self.close_pool();
            let mut stragglers = self.drop_tasks();
            stragglers.iter().for_each(|straggler| straggler.report("dropped at shutdown"));
            let left = Duration::from_nanos(end.saturating_sub(self.core.time.now()));
            for job in self.core.pool.join(Some(left)) {
                let straggler = Straggler::new(&job.context, job.place);
                straggler.report("a blocking job, which runs on");
                stragglers.push(straggler);
            }
            stragglers
        })
    }

    /// Runs `f` as this runtime.
    #[track_caller]
    fn within<R>(&self, f: impl FnOnce() -> R) -> R {
        harness::check_process();
        assert!(!self.core.is_of_parent(), "{}", harness::FORKED);
        let nested = current::with(|core| core.is_some());
        assert!(!nested, "a runtime runs on this thread already: await instead of `block_on`");
        let thread = harness::enter_loop(self.core.config.clock, Some(&TIMER));
        if let Some(min) = self.core.config.blocking_call {
            thread.report_blocking_calls(min);
        }
        if let Some(min) = self.core.config.slow_poll {
            thread.look_for_long_slices(min);
        }
        let _observing = self.core.config.hooks.observe();
        let _time = OnTime::of(&self.core.deadlines);
        current::set(&self.core, f)
    }

    /// Refuses new jobs of the blocking pool, and drops those that were not begun, each in its own context.
    fn close_pool(&self) {
        self.core.pool.close();
        drop(self.core.pool.drain());
    }

    /// Drops every task in its own context; what its destructors spawn is refused.
    fn drop_tasks(&self) -> Vec<Straggler> {
        self.core.tasks.close();
        let mut stragglers = Vec::new();
        while let Some(mut task) = self.core.tasks.seize() {
            let context = task.split().0.context();
            stragglers.push(Straggler::new(&context, task.place()));
            executor::drop_task(task, JoinFailure::Cancelled);
        }
        self.core.tasks.seize_ended().for_each(executor::drop_ended);
        self.core.tasks.leave_group();
        harness::idle();
        stragglers
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("config", &self.core.config).finish_non_exhaustive()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if self.core.is_of_parent() {
            // A forked child. Its tasks and sockets are the parent's, and the threads of its pool are not there: nothing of it
            // is touched or waited for.
            std::mem::forget(self.core.clone());
            return current::forget(&self.core);
        }
        // A runtime may be dropped inside another's task, or while its thread is being destroyed.
        let _loop = harness::enter_loop(self.core.config.clock, None);
        let _observing = self.core.config.hooks.observe();
        let _time = OnTime::of(&self.core.deadlines);
        current::set(&self.core, || {
            self.close_pool();
            self.drop_tasks();
            self.core.pool.join(None);
            // Jobs sent from other threads that were not begun: their destructors complete them as aborted.
            while let Some(message) = self.core.inbox.last_message() {
                drop(message);
            }
        });
        // Its loop may be below on the stack, if `exit` was called in a task.
        current::forget(&self.core);
    }
}

static TIMER: LoopTimer = LoopTimer;

/// The runtime's timers, for deadlines of contexts.
struct LoopTimer;

impl harness::Timer for LoopTimer {
    fn now(&self) -> std::time::Instant {
        time::Instant::now().into_std()
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> harness::Alarm {
        // It stays the timer of a thread on which `exit` drops the runtime on top of its loop.
        if current::with(|core| core.is_none()) {
            return Box::pin(std::future::pending());
        }
        Box::pin(time::sleep_until(deadline.into()))
    }
}

/// Finishes its context when the loop has left it, also on unwind: nothing of the way out is late.
struct Finished<'a>(Context, &'a Core);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.1.main.set(None);
        self.0.finish();
    }
}

/// Reaches a runtime from any thread. Cloning is cheap.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    remote: Arc<Remote>,
    /// The process in which the runtime is.
    process: u32,
}

impl Handle {
    /// The name of the runtime.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Starts a task on the runtime from any thread, in the context that is current on *this* thread. The returned
    /// handle may be awaited anywhere, on another runtime too.
    ///
    /// If the runtime is gone the handle yields an error at once; in a forked child, too.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let place = Location::caller();
        let context = Context::current();
        if context.is_sentinel() {
            let detail = "sent from a thread with no context";
            context::sentinel::report(ReportKind::SpawnedInSentinel, &context, place, detail);
        }
        if self.shared.process != harness::process_id() {
            return JoinHandle::refused(JoinError::FORKED, context.name(), place);
        }
        let job = Job::new(crate::task::raw::fresh_id(), context.name(), place);
        let sent = Undelivered { future: Some(Box::pin(future)), context, job: job.clone() };
        let _ = self.shared.remote.send(Box::new(move || sent.deliver()));
        JoinHandle::job(job)
    }
}

impl Handle {
    /// Shuts the runtime down gracefully, as [`shutdown`](crate::shutdown) does from inside.
    ///
    /// If the runtime is gone there is nothing to do.
    #[track_caller]
    pub fn shutdown(&self, patience: Duration) {
        let place = Location::caller();
        let begin =
            move || current::with(|core| core.iter().for_each(|core| shutdown::begin(core, patience, place)));
        let _ = self.shared.remote.send(Box::new(begin));
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.shared.name)
    }
}

/// A future on its way to the runtime. If it never arrives its job ends all the same.
struct Undelivered<F: Future> {
    future: Option<Pin<Box<F>>>,
    context: Context,
    job: Arc<Job<F::Output>>,
}

impl<F: Future + 'static> Undelivered<F> {
    fn deliver(mut self) {
        if let Some(future) = self.future.take() {
            spawn::spawn_sent(future, &self.context, self.job.clone());
        }
    }
}

impl<F: Future> Drop for Undelivered<F> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            let dropped = || self.context.scope(|| drop(future));
            spawn::end_job(&self.job, &self.context, dropped, Err(JoinError::SHUTDOWN));
        }
    }
}

/// The books of this thread (P7): `thread_cpu = contexts + late + sentinel + runtime + correction`.
///
/// Reads the kernel's clock (~135 ns) and walks the thread's live contexts.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// let books = runtime::accounts();
/// let parts = books.contexts + books.late + books.sentinel + books.runtime;
/// let missing = books.thread_cpu.as_nanos() as i128 - parts.as_nanos() as i128 - i128::from(books.correction);
/// assert_eq!(missing, 0);
/// # });
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// While the thread is being destroyed, and in a forked child on the thread that forked.
pub fn accounts() -> Accounts {
    context::accounts().unwrap_or_else(|| {
        harness::check_process();
        panic!("a thread that is being destroyed has no accounts")
    })
}
