//! One thread of a program, and what its threads have in common.

use crate::callbacks::Spy;
use crate::model::{Begun, Model, Who};
use crate::random::Random;
use context::harness::{LoopGuard, Observing, Share};
use context::sentinel::Listening;
use context::{Context, Entered, Usage};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// What the classes of all contexts of programs begin with.
pub(crate) const CLASS: &str = "fuzz";

pub(crate) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What all threads of a program reach.
pub(crate) struct Shared {
    pub(crate) contexts: Mutex<Vec<Context>>,
    pub(crate) work: Mutex<Vec<Work>>,
    pub(crate) spies: Mutex<Vec<Arc<Spy>>>,
    pub(crate) steps: AtomicU64,
    traced: bool,
    turns: Mutex<Turns>,
    turned: Condvar,
    wrong: Mutex<Vec<String>>,
}

/// Whose turn it is: one thread at a time works, so that a seed says all. Every fourth program runs free.
struct Turns {
    random: Random,
    free: bool,
    turn: usize,
    alive: Vec<usize>,
}

// `Random` is a cell, and used under the lock.
impl Turns {
    fn next(&mut self) {
        if !self.alive.is_empty() {
            self.turn = self.alive[self.random.below(self.alive.len() as u64) as usize];
        }
    }
}

impl Shared {
    pub(crate) fn new(seed: u64, threads: usize) -> Self {
        let random = Random::new(seed ^ 0x5eed);
        let turns = Turns { random, free: seed % 4 == 3, turn: 0, alive: (0..threads).collect() };
        Self {
            contexts: Mutex::default(),
            work: Mutex::default(),
            spies: Mutex::default(),
            steps: AtomicU64::new(0),
            traced: std::env::var_os("BURSAR_FUZZ_TRACE").is_some(),
            turns: Mutex::new(turns),
            turned: Condvar::new(),
            wrong: Mutex::default(),
        }
    }

    /// Lets go of everything.
    pub(crate) fn clear(&self) {
        let work = std::mem::take(&mut *self.work.lock().unwrap());
        drop(work);
        let contexts = std::mem::take(&mut *self.contexts.lock().unwrap());
        drop(contexts);
    }

    pub(crate) fn check_observers(&self) {
        for spy in std::mem::take(&mut *self.spies.lock().unwrap()) {
            let open = spy.open();
            if !open.is_empty() {
                self.blame(format!("resumed, and never suspended: {open:?}"));
            }
        }
    }

    /// Something is wrong. Not by a panic, which the library would contain.
    pub(crate) fn blame(&self, what: String) {
        if self.traced {
            let _ = writeln!(io::stderr(), "WRONG: {what}");
        }
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    pub(crate) fn wrong(&self) -> Vec<String> {
        std::mem::take(&mut *self.wrong.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for this thread's turn. With `pass`, somebody else may have one before.
    fn take_turn(&self, thread: usize, pass: bool) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.free {
            return;
        }
        if pass && turns.random.one_in(3) {
            turns.next();
            self.turned.notify_all();
        }
        while turns.turn != thread {
            turns = self.turned.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn retire(&self, thread: usize) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.alive.retain(|other| *other != thread);
        turns.next();
        self.turned.notify_all();
    }
}

/// Something that makes a context, or the account of a loop, current while it lives.
pub(crate) enum Guard {
    Entered(Entered),
    Loop(LoopGuard),
}

/// What one thread has.
pub(crate) struct World {
    pub(crate) shared: Arc<Shared>,
    pub(crate) random: Random,
    /// With their numbers in the model.
    pub(crate) guards: RefCell<Vec<(u64, Guard)>>,
    pub(crate) shares: RefCell<Vec<Share>>,
    pub(crate) observing: RefCell<Vec<Observing>>,
    pub(crate) listening: RefCell<Vec<Listening>>,
    pub(crate) transactions: RefCell<Vec<context::db::Transaction>>,
    pub(crate) seen: RefCell<HashMap<u64, Usage>>,
    pub(crate) model: RefCell<Model>,
    /// How many callbacks are on the stack.
    pub(crate) callbacks: Cell<u32>,
    /// How many steps are.
    pub(crate) depth: Cell<u32>,
    left: Cell<u64>,
    thread: usize,
}

thread_local! {
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// The world of this thread; none when the thread is being destroyed, or is no thread of a program.
pub(crate) fn here() -> Option<Rc<World>> {
    WORLD.try_with(|world| world.borrow().clone()).ok().flatten()
}

/// A panic that a program makes on purpose.
struct Quiet;

/// Another one, whose payload panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            resume_unwind(Box::new(Quiet));
        }
    }
}

/// Panics without the noise of a panic hook.
pub(crate) fn panic_quietly(random: &Random) {
    resume_unwind(if random.one_in(4) { Box::new(Bomb) } else { Box::new(Quiet) })
}

struct Alive<'a>(&'a Shared, usize);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.retire(self.1);
    }
}

/// The model's view of a frame.
struct InFrame<'a>(&'a World, Begun);

impl Drop for InFrame<'_> {
    fn drop(&mut self) {
        self.0.model.borrow_mut().end(&self.1);
    }
}

struct Counted<'a>(&'a Cell<u32>);

impl<'a> Counted<'a> {
    fn one(cell: &'a Cell<u32>) -> Self {
        cell.set(cell.get() + 1);
        Self(cell)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl World {
    /// A thread's life.
    pub(crate) fn live_through(shared: Arc<Shared>, thread: usize, seed: u64, steps: u64) {
        let alive = shared.clone();
        let _alive = Alive(&alive, thread);
        shared.take_turn(thread, false);
        let world = Rc::new(Self {
            shared,
            random: Random::new(seed),
            guards: RefCell::default(),
            shares: RefCell::default(),
            observing: RefCell::default(),
            listening: RefCell::default(),
            transactions: RefCell::default(),
            seen: RefCell::default(),
            model: RefCell::new(Model::new()),
            callbacks: Cell::new(0),
            depth: Cell::new(0),
            left: Cell::new(steps),
            thread,
        });
        WORLD.with(|own| own.replace(Some(world.clone())));
        world.steps(u64::MAX);
        world.end();
    }

    /// What is left is dropped in any order, forgotten, or dropped with what is thread-local.
    fn end(self: Rc<Self>) {
        let how = self.random.below(4);
        if how == 0 {
            std::mem::take(&mut *self.guards.borrow_mut()).into_iter().for_each(std::mem::forget);
        }
        if how <= 1 {
            self.shed();
            let own = WORLD.with(RefCell::take);
            let shared = self.shared.clone();
            if catch_unwind(AssertUnwindSafe(|| drop((self, own)))).is_err() {
                shared.blame("a panic came out of the end of a thread".to_owned());
            }
        }
    }

    /// Drops all that it has.
    fn shed(&self) {
        self.caught(|| {
            let guards = std::mem::take(&mut *self.guards.borrow_mut());
            for (serial, guard) in guards {
                drop(guard);
                self.model.borrow_mut().leave(serial);
                self.model.borrow_mut().settle();
                self.check_current("after the last guards");
            }
        });
    }

    /// Takes up to `n` steps, as long as the thread has some left.
    pub(crate) fn steps(&self, n: u64) {
        let _depth = Counted::one(&self.depth);
        for _ in 0..n {
            let Some(left) = self.left.get().checked_sub(1) else { return };
            self.left.set(left);
            self.shared.steps.fetch_add(1, Ordering::Relaxed);
            self.shared.take_turn(self.thread, true);
            self.step();
            self.model.borrow_mut().settle();
            self.check_current("after a step");
        }
    }

    /// Runs `f` where the model's frame is a poll by a loop.
    pub(crate) fn polled(&self, who: u64, f: impl FnOnce()) {
        let begun = self.model.borrow_mut().begin(Some(who));
        let ended = catch_unwind(AssertUnwindSafe(f));
        self.model.borrow_mut().end_poll(&begun, who);
        ended.unwrap_or_else(|panic| resume_unwind(panic));
    }

    /// Runs `f` where the model's frame is one of `who`.
    pub(crate) fn within<R>(&self, who: Who, f: impl FnOnce() -> R) -> R {
        let begun = self.model.borrow_mut().begin(who);
        let _frame = InFrame(self, begun);
        f()
    }

    pub(crate) fn in_callback(&self, f: impl FnOnce()) {
        let _counted = Counted::one(&self.callbacks);
        f();
    }

    /// Runs what may panic on purpose.
    pub(crate) fn caught<R>(&self, f: impl FnOnce() -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(f)) {
            Ok(done) => Some(done),
            Err(panic) if panic.is::<Quiet>() => None,
            Err(panic) if panic.is::<Bomb>() => {
                std::mem::forget(panic);
                None
            }
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Runs what user code's panics must not come out of.
    pub(crate) fn contained<R>(&self, what: &str, f: impl FnOnce() -> R) -> Option<R> {
        let done = self.caught(f);
        if done.is_none() {
            self.shared.blame(format!("a panic came out of {what}"));
        }
        done
    }

    /// With `BURSAR_FUZZ_TRACE` set, says what happens.
    pub(crate) fn trace(&self, what: impl FnOnce() -> String) {
        if self.shared.traced {
            let (depth, thread, model) = (self.depth.get() as usize, self.thread, self.model.borrow());
            let line =
                format!("{thread}:{:depth$} {} (current: {}; {model:?})", "", what(), Context::current());
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    pub(crate) fn check_current(&self, when: &str) {
        let Some(expected) = self.model.borrow().current() else { return };
        let current = Context::current().id().as_u64();
        if current != expected {
            self.shared.blame(format!("{current} is current {when}, where {expected} should be"));
        }
    }
}
