//! User code that the library calls: hooks, listeners, the logger, destructors, futures. Each does what a step does.

use crate::model::Who;
use crate::world::{Shared, World, here, panic_quietly};
use context::{Context, Hooks, Report, Usage};
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context as Cx, Poll};
use std::thread::{self, ThreadId};

/// Does something on this thread, and may panic.
fn mischief(who: Who, expected: &str) {
    let Some(world) = here() else { return };
    world.within(who, || {
        world.trace(|| expected.to_owned());
        world.check_current(expected);
        if world.may_do_mischief() {
            world.in_callback(|| world.steps(1 + world.random.below(3)));
            if world.random.one_in(4) {
                world.trace(|| "a panic".to_owned());
                panic_quietly(&world.random);
            }
        }
        world.trace(|| format!("end of what is done {expected}"));
    });
}

/// An observer, of a thread or of one context. Looks whether it is told in pairs.
pub(crate) struct Spy {
    shared: Weak<Shared>,
    /// What is resumed on each thread.
    resumed: Mutex<HashMap<ThreadId, Vec<u64>>>,
    finished: Mutex<HashSet<u64>>,
}

impl Spy {
    pub(crate) fn new(shared: &Arc<Shared>) -> Arc<Self> {
        let spy =
            Self { shared: Arc::downgrade(shared), resumed: Mutex::default(), finished: Mutex::default() };
        let spy = Arc::new(spy);
        shared.spies.lock().unwrap().push(spy.clone());
        spy
    }

    fn expect(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            if let Some(shared) = self.shared.upgrade() {
                shared.blame(what());
            }
        }
    }

    /// What was resumed and not suspended, on all threads.
    pub(crate) fn open(&self) -> Vec<u64> {
        self.resumed.lock().unwrap().values().flatten().copied().collect()
    }

    /// It observes a thread twice: then it hears everything twice, and pairs are of both.
    fn note(&self, id: u64, resume: bool) {
        if let Some(world) = here() {
            let what = if resume { "resume" } else { "suspend" };
            world.trace(|| format!("{:p} is told: {what} {id}", self));
        }
        let mut resumed = self.resumed.lock().unwrap();
        let open = resumed.entry(thread::current().id()).or_default();
        let at = open.iter().rposition(|other| *other == id);
        if resume {
            let stale = open.iter().any(|other| *other != id);
            open.push(id);
            let told = open.clone();
            drop(resumed);
            self.expect(!stale, || format!("{id} was resumed, and others not suspended: {told:?}"));
        } else {
            at.map(|at| open.remove(at));
            drop(resumed);
            self.expect(at.is_some(), || format!("{id} was suspended, and not resumed before"));
        }
    }
}

impl Hooks for Spy {
    fn on_resume(&self, context: &Context) {
        self.note(context.id().as_u64(), true);
        mischief(Some(context.id().as_u64()), "in a hook that is told of a resume");
    }

    fn on_suspend(&self, context: &Context) {
        self.note(context.id().as_u64(), false);
        mischief(Some(context.id().as_u64()), "in a hook that is told of a suspend");
    }

    fn on_finish(&self, context: &Context, _: &Usage) {
        let id = context.id().as_u64();
        let first = self.finished.lock().unwrap().insert(id);
        self.expect(first, || format!("{id} finished twice"));
        mischief(None, "in a hook that is told of a finish");
    }
}

pub(crate) fn listen(_: &Report) {
    mischief(Some(0), "in a listener");
}

pub(crate) fn at_finish(_: &Usage) {
    mischief(None, "in a finish hook");
}

/// A value whose destructor is user code.
pub(crate) struct Trouble;

impl Drop for Trouble {
    fn drop(&mut self) {
        mischief(None, "in a destructor");
    }
}

/// A future that takes a few polls.
pub(crate) struct Poller {
    pub(crate) polls: u64,
    /// In whose context it is polled.
    pub(crate) who: Who,
    pub(crate) polled: bool,
}

impl Future for Poller {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Cx<'_>) -> Poll<()> {
        let Some(world) = here() else { return Poll::Ready(()) };
        world.within(self.who, || {
            world.check_current("in a poll");
            world.steps(1 + world.random.below(4));
            if world.random.one_in(10) {
                panic_quietly(&world.random);
            }
        });
        self.polled = true;
        self.polls = self.polls.saturating_sub(1);
        if self.polls == 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        // No more than a panic, and that once it was polled: what it is dropped by is no frame everywhere.
        let Some(world) = here() else { return };
        if self.polled && !thread::panicking() && world.random.one_in(6) {
            panic_quietly(&world.random);
        }
    }
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &log::Record<'_>) {
        mischief(Some(0), "in the logger");
    }

    fn flush(&self) {}
}

/// The logger of this process: user code, too.
pub(crate) fn install_logger() {
    log::set_logger(&Logger).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
}

impl World {
    /// Not always, and not deeper than a callback in a callback.
    fn may_do_mischief(&self) -> bool {
        self.callbacks.get() < 2 && self.random.one_in(3)
    }
}
