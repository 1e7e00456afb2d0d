//! Threads that take work from a bounded queue: the mechanism under the blocking pool and under the database pools. It
//! knows no future; whose work it is it knows only to name it.
//!
//! Threads are started when there is more work than threads, and leave when they were idle for long enough. Each keeps
//! a value of its own (`S`: a database connection, say), made, used and dropped on it.
//!
//! All of it is under one lock: how many threads there are, how many of them are free, what waits and whether there is
//! room are one decision. A lock-free queue would not take the lock away, only a part of what it protects. It costs
//! two uncontended lock operations a job, against some microseconds for waking a thread.

use crate::config::HookList;
use context::harness::{self, contain_panic};
use context::{Clock, Name};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// What a pool is built with.
pub(crate) struct Settings {
    /// The threads are called so, and numbered.
    pub(crate) name: String,
    pub(crate) threads_max: usize,
    /// Work that may wait when all threads are busy.
    pub(crate) queue_max: usize,
    /// How long an idle thread stays; `None`: until the pool is closed.
    pub(crate) keep_alive: Option<Duration>,
    /// Called by the last thread that leaves an open pool, if there were many.
    pub(crate) after_burst: fn(),
    /// How the threads' CPU time is read.
    pub(crate) clock: Clock,
    /// Who wants to know of the contexts on the threads.
    pub(crate) hooks: HookList,
}

/// So many threads at a time are a burst.
const BURST: usize = 8;

/// One piece of work. Dropped unrun it has to tell whoever waits for it.
pub(crate) struct Work<S> {
    /// By which it can be withdrawn: unique in the process.
    pub(crate) id: u64,
    pub(crate) label: Label,
    /// Asks it to end while it runs; `None`: it cannot be interrupted.
    pub(crate) stop: Option<Arc<dyn Stop>>,
    pub(crate) run: Run<S>,
}

type Run<S> = Box<dyn FnOnce(&mut S, &AtWork<'_>) + Send>;

/// Work that can be asked to end before it is done.
pub(crate) trait Stop: Send + Sync {
    /// Called once at most, from any thread; after the work has ended, too.
    fn stop(&self);
}

/// The queue of a pool, for code that sent work and may have no more use for it.
pub(crate) trait Withdraw: Send + Sync {
    /// Takes that work out of the queue, and drops it here. False if it was begun, or dropped, before.
    fn withdraw(&self, id: u64) -> bool;
}

/// Whose work it is. Names, and pins nothing.
#[derive(Clone, Copy)]
pub(crate) struct Label {
    pub(crate) context: Name,
    pub(crate) place: &'static Location<'static>,
    /// [`harness::tag`] of the thread that sent it.
    pub(crate) tag: u64,
}

/// The thread that does a piece of work, as that work sees it.
pub(crate) struct AtWork<'a>(&'a dyn Fn());

impl AtWork<'_> {
    /// The thread may be counted on again: to be called before the result is published, so that who waits for it finds
    /// the pool as free as it is.
    pub(crate) fn is_over(&self) {
        (self.0)();
    }
}

/// Work that was not taken.
pub(crate) struct Refused<S> {
    pub(crate) work: Work<S>,
    pub(crate) why: Why,
}

pub(crate) enum Why {
    /// All threads are busy and the queue is full.
    Full,
    Closed,
    /// There is no thread and none could be started.
    NoThread(io::Error),
}

/// The owner's end. Closed when it is dropped; then the threads end by themselves.
pub(crate) struct Pool<S: 'static> {
    shared: Arc<Shared<S>>,
}

struct Shared<S> {
    settings: Settings,
    /// The process in which the threads are.
    process: u32,
    make: Box<dyn Fn() -> S + Send + Sync>,
    state: Mutex<State<S>>,
    work_came: Condvar,
    somebody_left: Condvar,
}

struct State<S> {
    stage: Stage,
    queue: VecDeque<Work<S>>,
    /// The threads, from their start to after the drop of their value.
    workers: BTreeMap<u64, Worker>,
    next_worker: u64,
    /// The most there were since there was none.
    workers_peak: usize,
    /// Of those, how many do work.
    busy: usize,
    /// And how many take none any more.
    leaving: usize,
    /// The thread that left last; joined by the next one, or by [`Pool::join`].
    left: Option<thread::JoinHandle<()>>,
    at_end: Vec<Box<dyn FnOnce() + Send>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// No new work; what waits is done.
    Closed,
    /// Closed, and somebody's patience ended: the threads that are left are nobody's concern.
    Abandoned,
}

#[derive(Default)]
struct Worker {
    /// What it does.
    label: Option<Label>,
    stop: Option<Arc<dyn Stop>>,
    leaving: bool,
    /// `None` once abandoned.
    thread: Option<thread::JoinHandle<()>>,
}

impl<S: 'static> Pool<S> {
    /// Starts no thread yet. Each will call `make` once.
    pub(crate) fn new(settings: Settings, make: impl Fn() -> S + Send + Sync + 'static) -> Self {
        let state = State {
            stage: Stage::Open,
            queue: VecDeque::new(),
            workers: BTreeMap::new(),
            next_worker: 0,
            workers_peak: 0,
            busy: 0,
            leaving: 0,
            left: None,
            at_end: Vec::new(),
        };
        Self {
            shared: Arc::new(Shared {
                settings,
                process: harness::process_id(),
                make: Box::new(make),
                state: Mutex::new(state),
                work_came: Condvar::new(),
                somebody_left: Condvar::new(),
            }),
        }
    }

    /// Gives work to a thread, now or when one is free.
    ///
    /// # Errors
    ///
    /// Gives it back if there is no room for it.
    pub(crate) fn submit(&self, work: Work<S>) -> Result<(), Refused<S>> {
        if self.is_of_parent() {
            return Err(Refused { work, why: Why::NoThread(io::Error::other(harness::FORKED)) });
        }
        let settings = &self.shared.settings;
        let mut state = self.shared.state.lock();
        if state.stage != Stage::Open {
            return Err(Refused { work, why: Why::Closed });
        }
        let claims = state.busy + state.queue.len();
        if claims >= settings.threads_max.saturating_add(settings.queue_max) {
            return Err(Refused { work, why: Why::Full });
        }
        let threads = state.workers.len() - state.leaving;
        if claims >= threads && threads < settings.threads_max {
            match self.shared.start(&mut state) {
                Ok(()) => {}
                Err(error) if threads == 0 => return Err(Refused { work, why: Why::NoThread(error) }),
                // The others will come to it.
                Err(error) => log::warn!("bursar: no further thread for {}: {error}", settings.name),
            }
        }
        state.queue.push_back(work);
        drop(state);
        self.shared.work_came.notify_one();
        Ok(())
    }

    /// Whether this is a forked child: the threads are the parent's. One of them may have held the lock, for ever.
    fn is_of_parent(&self) -> bool {
        self.shared.process != harness::process_id()
    }

    /// Takes no new work. What waits is done, unless it is taken out with [`drain`](Self::drain).
    pub(crate) fn close(&self) {
        if self.is_of_parent() {
            return;
        }
        let mut state = self.shared.state.lock();
        if state.stage == Stage::Open {
            state.stage = Stage::Closed;
        }
        drop(state);
        self.shared.work_came.notify_all();
    }

    /// What waits, to be dropped by the caller.
    pub(crate) fn drain(&self) -> VecDeque<Work<S>> {
        std::mem::take(&mut self.shared.state.lock().queue)
    }

    /// The queue alone: it keeps no pool open.
    pub(crate) fn queue(&self) -> Arc<dyn Withdraw> {
        self.shared.clone()
    }

    /// Asks all work that runs, and can be interrupted, to end.
    pub(crate) fn stop_running(&self) {
        let stops: Vec<_> = {
            let state = self.shared.state.lock();
            state.workers.values().filter_map(|worker| worker.stop.clone()).collect()
        };
        stops.iter().for_each(|stop| contained("an interrupt", || stop.stop()));
    }

    /// Gives up the threads of the closed pool: nobody waits for them any more. What they still do is returned.
    pub(crate) fn abandon(&self) -> Vec<Label> {
        let mut state = self.shared.state.lock();
        debug_assert!(state.stage != Stage::Open, "an open pool is at work");
        state.stage = Stage::Abandoned;
        state.workers.values_mut().for_each(|worker| worker.thread = None);
        let stragglers = state.workers.values().filter_map(|worker| worker.label).collect();
        let at_end = std::mem::take(&mut state.at_end);
        drop(state);
        self.shared.somebody_left.notify_all();
        at_end.into_iter().for_each(|f| contained("the end", f));
        stragglers
    }

    /// Waits until all threads of the closed pool have ended, but at most `patience`. What runs on after that is
    /// returned, and never waited for again.
    ///
    /// Called on one of the threads it waits for nobody.
    pub(crate) fn join(&self, patience: Option<Duration>) -> Vec<Label> {
        if self.is_of_parent() {
            return Vec::new();
        }
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut state = self.shared.state.lock();
        debug_assert!(state.stage != Stage::Open, "an open pool does not end");
        while state.stage == Stage::Closed && !state.workers.is_empty() {
            if state.is_worker(thread::current().id()) || self.shared.has_timed_out(&mut state, until) {
                state.stage = Stage::Abandoned;
            }
        }
        state.workers.values_mut().for_each(|worker| worker.thread = None);
        let stragglers = state.workers.values().filter_map(|worker| worker.label).collect();
        let left = state.left.take();
        drop(state);
        join_thread(left);
        stragglers
    }

    /// Calls `f` on the last thread when the pool is closed and all threads have dropped their values; at once if none
    /// is left, or if they were given up.
    pub(crate) fn at_end(&self, f: impl FnOnce() + Send + 'static) {
        if self.is_of_parent() {
            return f();
        }
        let mut state = self.shared.state.lock();
        if state.has_ended() || state.stage == Stage::Abandoned {
            drop(state);
            f();
        } else {
            state.at_end.push(Box::new(f));
        }
    }
}

impl<S: 'static> Drop for Pool<S> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<S> State<S> {
    fn has_ended(&self) -> bool {
        self.stage != Stage::Open && self.workers.is_empty()
    }

    fn is_worker(&self, thread: thread::ThreadId) -> bool {
        let mut threads = self.workers.values().filter_map(|worker| worker.thread.as_ref());
        threads.any(|handle| handle.thread().id() == thread)
    }

    /// The work of this thread is over, if it had any.
    fn finish_work(&mut self, id: u64) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.stop = None;
        if worker.label.take().is_some() {
            self.busy -= 1;
        }
    }

    fn begin_work(&mut self, id: u64, work: &Work<S>) {
        self.busy += 1;
        let worker = self.workers.entry(id).or_default();
        worker.label = Some(work.label);
        worker.stop.clone_from(&work.stop);
    }

    fn begin_leaving(&mut self, id: u64) {
        self.leaving += 1;
        self.workers.entry(id).or_default().leaving = true;
    }

    /// Whether the last thread of a burst has left. Says so once.
    fn take_burst(&mut self) -> bool {
        self.stage == Stage::Open
            && self.workers.is_empty()
            && std::mem::take(&mut self.workers_peak) >= BURST
    }

    /// Returns the thread that left before.
    fn leave(&mut self, id: u64) -> Option<thread::JoinHandle<()>> {
        self.finish_work(id);
        let worker = self.workers.remove(&id)?;
        self.leaving -= usize::from(worker.leaving);
        let thread = worker.thread?;
        self.left.replace(thread)
    }
}

impl<S> Withdraw for Shared<S> {
    fn withdraw(&self, id: u64) -> bool {
        let mut state = self.state.lock();
        let at = state.queue.iter().position(|work| work.id == id);
        let withdrawn = at.and_then(|at| state.queue.remove(at));
        drop(state);
        withdrawn.is_some()
    }
}

impl<S: 'static> Shared<S> {
    /// Under the lock, which the thread waits for: it finds itself among the workers.
    fn start(self: &Arc<Self>, state: &mut State<S>) -> io::Result<()> {
        let id = state.next_worker;
        let shared = self.clone();
        let name = format!("{}-{id}", self.settings.name);
        let thread = thread::Builder::new().name(name).spawn(move || shared.work(id))?;
        state.next_worker += 1;
        state.workers.insert(id, Worker { thread: Some(thread), ..Worker::default() });
        state.workers_peak = state.workers_peak.max(state.workers.len());
        Ok(())
    }

    /// The life of a thread. What it does for itself is charged to `(runtime)`.
    fn work(&self, id: u64) {
        let worker = harness::enter_loop(self.settings.clock, None);
        worker.may_block();
        let _observing = self.settings.hooks.observe();
        let _membership = Membership { shared: self, id };
        let mut own = (self.make)();
        while let Some(work) = self.next(id) {
            harness::set_tag(work.label.tag);
            let is_over = || self.state.lock().finish_work(id);
            contained("work", || (work.run)(&mut own, &AtWork(&is_over)));
            harness::idle();
        }
        contained("the end", || drop(own));
    }

    /// The next piece of work; `None` when the thread is to end.
    fn next(&self, id: u64) -> Option<Work<S>> {
        let mut state = self.state.lock();
        state.finish_work(id);
        let mut waited = false;
        loop {
            if let Some(work) = state.queue.pop_front() {
                state.begin_work(id, &work);
                return Some(work);
            }
            if waited || state.stage != Stage::Open {
                state.begin_leaving(id);
                return None;
            }
            waited = self.wait_for_work(&mut state);
            harness::parked();
        }
    }

    /// Whether it waited for as long as an idle thread stays.
    fn wait_for_work(&self, state: &mut MutexGuard<'_, State<S>>) -> bool {
        match self.settings.keep_alive {
            Some(keep_alive) => self.work_came.wait_for(state, keep_alive).timed_out(),
            None => {
                self.work_came.wait(state);
                false
            }
        }
    }

    fn has_timed_out(&self, state: &mut MutexGuard<'_, State<S>>, until: Option<Instant>) -> bool {
        match until {
            Some(until) => self.somebody_left.wait_until(state, until).timed_out(),
            None => {
                self.somebody_left.wait(state);
                false
            }
        }
    }
}

/// A thread's being one of the pool's, whatever way it ends.
struct Membership<'a, S: 'static> {
    shared: &'a Shared<S>,
    id: u64,
}

impl<S: 'static> Drop for Membership<'_, S> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        let left_before = state.leave(self.id);
        let was_burst = state.take_burst();
        let at_end = if state.has_ended() { std::mem::take(&mut state.at_end) } else { Vec::new() };
        drop(state);
        self.shared.somebody_left.notify_all();
        at_end.into_iter().for_each(|f| contained("the end", f));
        if was_burst {
            (self.shared.settings.after_burst)();
        }
        join_thread(left_before);
    }
}

/// It has left already: this waits for its thread-locals at most. (A panic of a destructor there has been printed.)
fn join_thread(thread: Option<thread::JoinHandle<()>>) {
    let _ = thread.map(thread::JoinHandle::join);
}

/// Runs what must not end the thread.
fn contained(what: &str, f: impl FnOnce()) {
    contain_panic(f, |text| log::error!("bursar: {what} on a thread of a pool panicked: {text}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use context::Context;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc;

    fn settings(threads_max: usize, queue_max: usize, keep_alive: Option<Duration>) -> Settings {
        Settings {
            name: "test".to_owned(),
            threads_max,
            queue_max,
            keep_alive,
            after_burst: || (),
            clock: Clock::Auto,
            hooks: HookList::default(),
        }
    }

    fn work<S>(f: impl FnOnce(&mut S) + Send + 'static) -> Work<S> {
        let label = Label { context: Context::sentinel().name(), place: Location::caller(), tag: 0 };
        Work { id: 0, label, stop: None, run: Box::new(move |own, _| f(own)) }
    }

    fn accepts<S: 'static>(pool: &Pool<S>, f: impl FnOnce(&mut S) + Send + 'static) -> bool {
        pool.submit(work(f)).is_ok()
    }

    /// Keeps a thread busy until the sender is used or dropped.
    fn occupy<S: 'static>(pool: &Pool<S>) -> mpsc::Sender<()> {
        let (begun, has_begun) = mpsc::channel();
        let (end, ends) = mpsc::channel();
        assert!(accepts(pool, move |_| {
            begun.send(()).unwrap();
            let _ = ends.recv();
        }));
        has_begun.recv().unwrap();
        end
    }

    fn end<S: 'static>(pool: &Pool<S>) {
        pool.close();
        assert!(pool.join(None).is_empty());
    }

    #[test]
    fn threads_come_when_needed_and_the_queue_is_bounded() {
        let pool = Pool::new(settings(2, 1, None), || ());
        let threads = || pool.shared.state.lock().workers.len();
        assert_eq!(threads(), 0);
        let first = occupy(&pool);
        assert_eq!(threads(), 1);
        let second = occupy(&pool);
        assert_eq!(threads(), 2);
        assert!(accepts(&pool, |()| ()));
        let refused = pool.submit(work(|()| ())).err().unwrap();
        assert!(matches!(refused.why, Why::Full));
        assert_eq!(threads(), 2);
        drop((first, second));
        end(&pool);
        let refused = pool.submit(work(|()| ())).err().unwrap();
        assert!(matches!(refused.why, Why::Closed));
    }

    #[test]
    fn an_idle_thread_leaves_and_another_comes() {
        let made = Arc::new(Mutex::new(0));
        let counter = made.clone();
        let pool = Pool::new(settings(1, 1, Some(Duration::ZERO)), move || *counter.lock() += 1);
        for rounds in 1..=3 {
            let (done, is_done) = mpsc::channel();
            assert!(accepts(&pool, move |()| done.send(()).unwrap()));
            is_done.recv().unwrap();
            let mut state = pool.shared.state.lock();
            while !state.workers.is_empty() {
                pool.shared.somebody_left.wait(&mut state);
            }
            assert_eq!(*made.lock(), rounds);
        }
        end(&pool);
    }

    /// When all threads of a burst have left, what they have freed can be given back: once, and not after a few threads.
    #[test]
    fn v12_the_last_thread_of_a_burst_says_so() {
        static SAID: AtomicUsize = AtomicUsize::new(0);
        let mut settings = settings(BURST, 0, Some(Duration::ZERO));
        settings.after_burst = || {
            SAID.fetch_add(1, SeqCst);
        };
        let pool = Pool::new(settings, || ());
        for (threads, said) in [(BURST - 1, 0), (BURST, 1), (1, 1)] {
            let busy: Vec<_> = (0..threads).map(|_| occupy(&pool)).collect();
            drop(busy);
            {
                let mut state = pool.shared.state.lock();
                while !state.workers.is_empty() {
                    pool.shared.somebody_left.wait(&mut state);
                }
                // The threads that have left are joined by one another, but for the last.
                let last = state.left.take();
                drop(state);
                join_thread(last);
            }
            assert_eq!(SAID.load(SeqCst), said, "after {threads} threads");
        }
        end(&pool);
    }

    /// What each thread owns is made, used and dropped on it, before the pool has ended.
    #[test]
    fn a_threads_own_value_stays_on_it() {
        struct Own(thread::ThreadId, mpsc::Sender<bool>);
        impl Drop for Own {
            fn drop(&mut self) {
                self.1.send(self.0 == thread::current().id()).unwrap();
            }
        }
        let (dropped, drops) = mpsc::channel();
        let ended = dropped.clone();
        let dropped = Mutex::new(dropped);
        let pool =
            Pool::new(settings(1, 0, None), move || Own(thread::current().id(), dropped.lock().clone()));
        drop(occupy(&pool));
        pool.at_end(move || ended.send(false).unwrap());
        end(&pool);
        assert_eq!(drops.try_iter().collect::<Vec<_>>(), [true, false], "dropped there, and then the end");
        let (late, is_late) = mpsc::channel();
        pool.at_end(move || late.send(()).unwrap());
        is_late.try_recv().expect("the end has been: at once");
    }

    #[test]
    fn a_closed_pool_does_what_waits_unless_it_is_drained() {
        let pool = Pool::new(settings(1, 2, None), || ());
        let busy = occupy(&pool);
        let (done, is_done) = mpsc::channel();
        let drained = done.clone();
        assert!(accepts(&pool, move |()| done.send("first").unwrap()));
        assert!(accepts(&pool, move |()| drained.send("second").unwrap()));
        let second = pool.shared.state.lock().queue.pop_back();
        pool.close();
        drop(busy);
        assert!(pool.join(None).is_empty());
        drop(second);
        assert_eq!(is_done.iter().collect::<Vec<_>>(), ["first"]);
    }

    #[test]
    fn a_pool_joined_on_its_own_thread_waits_for_nobody() {
        let pool = Arc::new(Pool::new(settings(1, 1, None), || ()));
        let (done, is_done) = mpsc::channel();
        let own = pool.clone();
        assert!(accepts(&pool, move |()| {
            own.close();
            done.send(own.join(None).len()).unwrap();
        }));
        assert_eq!(is_done.recv().unwrap(), 1, "itself");
    }

    #[test]
    fn who_runs_on_after_the_patience_is_named_and_left_alone() {
        let pool = Pool::new(settings(1, 1, None), || ());
        let busy = occupy(&pool);
        pool.close();
        assert_eq!(pool.join(Some(Duration::ZERO)).len(), 1);
        pool.join(None);
        drop(busy);
    }

    #[test]
    fn a_panic_does_not_end_the_thread() {
        let pool = Pool::new(settings(1, 1, None), || ());
        assert!(accepts(&pool, |()| panic!("this panic belongs to the test")));
        drop(occupy(&pool));
        assert_eq!(pool.shared.state.lock().next_worker, 1);
        end(&pool);
    }
}
