//! What a thread may do in a step.

use crate::callbacks::{Poller, Spy, Trouble, at_finish, listen};
use crate::world::{CLASS, Guard, Work, World, panic_quietly};
use context::harness::{self, Share};
use context::{Clock, Context, FutureExt, Key, Reason, ReportKind, Usage};
use std::panic::Location;
use std::task::{Context as Cx, Poll, Waker};
use std::time::Duration;

static TROUBLE: Key<Trouble> = Key::new("trouble");

const DEPTH_MAX: u32 = 5;
/// So that lists stay short, and things end.
const KEPT_MAX: usize = 8;

impl World {
    /// One step. A panic of user code does not come out of what is called here, but where it is the closure's or the
    /// future's own.
    pub(crate) fn step(&self) {
        let shallow = self.depth.get() < DEPTH_MAX;
        let action = self.random.below(30);
        self.trace(|| format!("step {action}"));
        match action {
            0..4 => drop(self.make()),
            4 => self.forget_a_handle(),
            5..9 => self.enter(),
            9..13 => self.leave(),
            13 if shallow => self.scope(),
            14 if shallow => self.poll_as_a_loop(),
            15 => self.plan_work(),
            16 | 17 if shallow => self.poll_work(),
            18 => self.enter_loop(),
            19 => self.be_idle(),
            20 => self.observe(),
            21 => self.listen(),
            22 => self.share(),
            23 => self.transact(),
            24 => self.finish(),
            25 => self.report(),
            26 => self.count(),
            _ => self.read(),
        }
    }

    fn pick(&self) -> Option<Context> {
        let contexts = self.shared.contexts.lock().unwrap();
        let at = self.random.below(contexts.len().max(1) as u64) as usize;
        contexts.get(at).cloned()
    }

    fn any(&self) -> Context {
        self.pick().unwrap_or_else(|| self.make())
    }

    fn below(&self, len: usize) -> usize {
        self.random.below(len as u64) as usize
    }

    fn make(&self) -> Context {
        let class = ["fuzz a", "fuzz b", "fuzz c"][self.below(3)];
        debug_assert!(class.starts_with(CLASS));
        let context = match (self.random.below(5), self.pick()) {
            (0, _) | (_, None) => Context::root(class),
            (1, Some(parent)) => parent.child(class),
            (_, parent) => {
                let mut builder = Context::builder(class);
                if let Some(parent) = parent.as_ref().filter(|_| self.random.one_in(2)) {
                    builder = builder.parent(parent);
                }
                if self.random.one_in(2) {
                    builder = builder.value(&TROUBLE, Trouble);
                }
                if self.random.one_in(3) {
                    builder = builder.hooks(Spy::new(&self.shared));
                }
                if self.random.one_in(4) {
                    builder = builder.timeout(Duration::from_secs(self.random.below(2)));
                }
                if self.random.one_in(4) {
                    builder = builder.cpu_budget(Duration::from_nanos(self.random.below(1_000)));
                }
                builder.build()
            }
        };
        self.shared.contexts.lock().unwrap().push(context.clone());
        context
    }

    fn forget_a_handle(&self) {
        let taken = {
            let mut contexts = self.shared.contexts.lock().unwrap();
            let len = contexts.len();
            (len > 0).then(|| contexts.swap_remove(self.below(len)))
        };
        self.contained("the drop of a context", || drop(taken));
    }

    fn keep(&self, serial: u64, guard: Guard) {
        match self.random.below(8) {
            // Its frame undoes it, or the end of the thread.
            0 => std::mem::forget(guard),
            _ => self.guards.borrow_mut().push((serial, guard)),
        }
    }

    fn enter(&self) {
        let context = self.any();
        let who = context.id().as_u64();
        let Some(guard) = self.contained("enter", || context.enter()) else { return };
        let serial = self.model.borrow_mut().enter(who);
        self.keep(serial, Guard::Entered(guard));
        self.contained("the drop of a context", || drop(context));
    }

    fn enter_loop(&self) {
        let clock = [Clock::Auto, Clock::ThreadTime, Clock::Manual][self.below(3)];
        let Some(guard) = self.contained("enter_loop", || harness::enter_loop(clock, None)) else { return };
        let serial = self.model.borrow_mut().enter(0);
        harness::advance_manual_clock(self.random.below(1_000), 1_000);
        self.keep(serial, Guard::Loop(guard));
    }

    /// The last guard, or any.
    fn leave(&self) {
        let taken = {
            let mut guards = self.guards.borrow_mut();
            let len = guards.len();
            match len {
                0 => None,
                _ if self.random.one_in(2) => guards.pop(),
                _ => Some(guards.swap_remove(self.below(len))),
            }
        };
        if let Some((serial, guard)) = taken {
            self.contained("the drop of a guard", || match guard {
                Guard::Entered(guard) => drop(guard),
                Guard::Loop(guard) => drop(guard),
            });
            self.model.borrow_mut().leave(serial);
        }
    }

    fn scope(&self) {
        let context = self.any();
        let who = Some(context.id().as_u64());
        self.caught(|| {
            context.scope(|| {
                self.within(who, || {
                    self.check_current("at the begin of a closure");
                    self.steps(self.random.below(6));
                    if self.random.one_in(5) {
                        panic_quietly(&self.random);
                    }
                });
            });
        });
    }

    fn share(&self) {
        let mut shares = std::mem::take(&mut *self.shares.borrow_mut());
        if self.random.one_in(2) && !shares.is_empty() {
            let taken = shares.swap_remove(self.below(shares.len()));
            self.contained("the drop of a share", || drop(taken));
        } else if shares.len() < KEPT_MAX {
            let share = match (self.random.below(3), shares.last()) {
                (0, Some(share)) => share.clone(),
                (1, _) => Share::current(),
                _ => Share::of(&self.any()),
            };
            shares.push(share);
        }
        self.shares.borrow_mut().append(&mut shares);
    }

    /// As an executor polls a task: its context stays current until the loop is idle or polls another one.
    fn poll_as_a_loop(&self) {
        let share = Share::of(&self.any());
        let who = share.id();
        let woken = if self.random.one_in(2) { harness::stamp() } else { 0 };
        let f = || {
            self.polled(who, || {
                self.check_current("in a poll of a loop");
                self.steps(self.random.below(5));
                if self.random.one_in(6) {
                    panic_quietly(&self.random);
                }
            });
        };
        // A task does not have the guards of its executor. If it has, the rules do not say what is current then.
        let astray = self.random.one_in(8);
        let hidden = if astray { Vec::new() } else { std::mem::take(&mut *self.guards.borrow_mut()) };
        if astray {
            self.model.borrow_mut().lose();
        }
        self.caught(|| match self.random.below(3) {
            0 => harness::visit(&share, Location::caller(), f),
            _ => harness::poll(&share, Location::caller(), woken, f),
        });
        self.guards.borrow_mut().extend(hidden);
        if self.random.one_in(2) {
            self.be_idle();
        } else {
            self.contained("the drop of a share", || drop(share));
        }
    }

    fn be_idle(&self) {
        self.contained("idle", harness::idle);
        self.model.borrow_mut().stay(0);
    }

    fn plan_work(&self) {
        let context = self.any();
        let poller =
            Poller { polls: 1 + self.random.below(3), who: Some(context.id().as_u64()), polled: false };
        let work: Work = match self.random.below(4) {
            0 => Box::pin(context.run(poller)),
            1 => {
                let work = poller.cancellable();
                Box::pin(async move { _ = work.await }.in_context(context))
            }
            2 => Box::pin(async move { _ = context.cancelled().await }),
            _ => Box::pin(poller.in_context(context)),
        };
        let mut all = self.shared.work.lock().unwrap();
        let old = if all.len() < KEPT_MAX { None } else { Some(all.swap_remove(self.below(KEPT_MAX))) };
        all.push(work);
        drop(all);
        self.caught(|| drop(old));
    }

    fn poll_work(&self) {
        let taken = {
            let mut all = self.shared.work.lock().unwrap();
            let len = all.len();
            (len > 0).then(|| all.swap_remove(self.below(len)))
        };
        let Some(mut work) = taken else { return };
        let polled = self.caught(|| work.as_mut().poll(&mut Cx::from_waker(Waker::noop())));
        if polled == Some(Poll::Pending) && !self.random.one_in(4) {
            self.shared.work.lock().unwrap().push(work);
        } else {
            self.caught(|| drop(work));
        }
    }

    fn observe(&self) {
        let mut observing = std::mem::take(&mut *self.observing.borrow_mut());
        // One that ends inside of a callback is told of nothing any more, not of a suspend either.
        if self.random.one_in(2) && !observing.is_empty() && self.callbacks.get() == 0 {
            let taken = observing.swap_remove(self.below(observing.len()));
            self.contained("the drop of an observer", || drop(taken));
        } else if observing.len() < 3 {
            let spy = Spy::new(&self.shared);
            observing.extend(self.contained("observe", || harness::observe(spy)));
        }
        self.observing.borrow_mut().append(&mut observing);
    }

    fn listen(&self) {
        let mut listening = std::mem::take(&mut *self.listening.borrow_mut());
        if self.random.one_in(2) && !listening.is_empty() {
            drop(listening.pop());
        } else if listening.len() < 2 {
            listening.push(context::sentinel::on_report(listen));
        }
        self.listening.borrow_mut().append(&mut listening);
    }

    fn transact(&self) {
        let mut transactions = std::mem::take(&mut *self.transactions.borrow_mut());
        if self.random.one_in(2) && !transactions.is_empty() {
            let taken = transactions.swap_remove(self.below(transactions.len()));
            self.contained("the drop of a transaction", || drop(taken));
        } else if transactions.len() < KEPT_MAX {
            let begun = self.contained("begin", || context::db::begin("fuzz"));
            transactions.extend(begun.inspect(|_| context::db::rows(self.random.below(9))));
        }
        self.transactions.borrow_mut().append(&mut transactions);
    }

    fn finish(&self) {
        let Some(context) = self.pick() else { return };
        match self.random.below(5) {
            0 => drop(self.contained("finish", || context.finish())),
            1 => drop(self.contained("on_finish", || context.on_finish(at_finish))),
            2 => drop(self.contained("cancel", || context.cancel(Reason::Disconnected))),
            3 => {
                let hold = context.hold();
                self.contained("finish", || context.finish());
                self.contained("the drop of a hold", || drop(hold));
            }
            _ => drop(self.contained("check", || context.check())),
        }
        self.contained("the drop of a context", || drop(context));
    }

    fn report(&self) {
        let kind = [ReportKind::Orphaned, ReportKind::Straggler, ReportKind::UnhandledError][self.below(3)];
        self.contained("report", || {
            context::sentinel::report(kind, &"fuzz", Location::caller(), "on purpose");
        });
    }

    fn count(&self) {
        let Some(context) = self.pick() else { return };
        let mut usage = Usage::default();
        (usage.polls, usage.db.rows) = (self.random.below(3), self.random.below(3));
        self.contained("charge", || context.charge(usage));
    }

    /// The books balance, and what was used is not taken back.
    fn read(&self) {
        let spent = (0..self.random.below(500)).fold(1, |sum: u64, n| std::hint::black_box(sum ^ n));
        std::hint::black_box(spent);
        if let Some(context) = self.pick() {
            let Some(now) = self.contained("own_usage", || (context.usage(), context.own_usage()).1) else {
                return;
            };
            let before = self.seen.borrow_mut().insert(context.id().as_u64(), now).unwrap_or_default();
            if before - now != Usage::default() {
                self.shared.blame(format!("usage fell: {before:?}, then {now:?}"));
            }
        }
        if let Some(Some(books)) = self.contained("accounts", context::accounts) {
            let parts = books.contexts + books.late + books.sentinel + books.runtime;
            let sum = parts.as_nanos() as i128 + i128::from(books.correction);
            if sum != books.thread_cpu.as_nanos() as i128 {
                self.shared.blame(format!("the books do not balance: {books:?}"));
            }
        }
    }
}
