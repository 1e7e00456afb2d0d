//! Random programs.

use crate::books::{assert_whole, lives, residual, work};
use crate::promise::{both, cut};
use crate::random::Random;
use crate::trace::{PanicOnDrop, panic_quietly};
use context::{Accounts, Clock, Context, Entered, FutureExt, Id, Reason, Usage};
use runtime::time::{sleep, timeout};
use runtime::{Handle, JoinHandle, Runtime, TaskGroup, yield_now};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::sync::{Arc, Once, atomic::AtomicBool};
use std::thread;
use std::time::Duration;

/// The classes of all contexts that programs make. Only the property test uses these.
pub(super) const CLASSES: [&str; 5] =
    ["program main", "program request", "program part", "program process", "program far"];
/// For other tests of programs.
pub(super) const OTHER_CLASSES: [&str; 5] =
    ["other main", "other request", "other part", "other process", "other far"];

const STEPS: u32 = 150;
const DEPTH_MAX: u32 = 6;

type Body = Pin<Box<dyn Future<Output = ()>>>;
type Job = Box<dyn FnOnce() + Send>;

/// What is left of a program.
pub(super) struct Outcome {
    /// Of its two threads.
    pub(super) books: [Accounts; 2],
    /// Contexts that are alive although nobody holds them.
    pub(super) left: Vec<String>,
}

struct World {
    random: Random,
    classes: &'static [&'static str; 5],
    steps: Cell<u32>,
    contexts: RefCell<Vec<Context>>,
    ids: RefCell<Vec<Id>>,
    guards: RefCell<Vec<Entered>>,
    seen: RefCell<HashMap<Id, (Usage, Usage)>>,
    far: mpsc::Sender<Job>,
    handle: Handle,
    /// Whether work goes to the blocking pool, whose threads' books nobody sees.
    jobs: bool,
}

pub(super) fn run(seed: u64, clock: Clock) -> Outcome {
    run_in_classes(seed, clock, &CLASSES, false)
}

pub(super) fn run_in_classes(
    seed: u64,
    clock: Clock,
    classes: &'static [&'static str; 5],
    jobs: bool,
) -> Outcome {
    handle_signals();
    let (far, inbox) = mpsc::channel::<Job>();
    let far_thread = thread::spawn(move || {
        inbox.into_iter().for_each(|job| Context::root(classes[4]).scope(job));
        assert!(Context::current().is_sentinel());
        assert_whole()
    });
    let random = Random::new(seed);
    let mut builder = Runtime::builder().class(classes[0]).clock(clock);
    if random.one_in(2) {
        builder = builder.seed(seed);
    }
    let runtime = builder.build().unwrap();
    let world = Rc::new(World {
        random,
        classes,
        steps: Cell::new(STEPS),
        contexts: RefCell::default(),
        ids: RefCell::default(),
        guards: RefCell::default(),
        seen: RefCell::default(),
        far,
        handle: runtime.handle().clone(),
        jobs,
    });
    runtime.block_on(world.clone().main());
    end(runtime, &world);
    world.guards.take();
    assert!(Context::current().is_sentinel());
    world.contexts.take();
    let ids = world.ids.take();
    assert_eq!(Rc::strong_count(&world), 1, "a future that was not dropped");
    drop(world);
    let far = far_thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let left = context::live().into_iter().filter(|live| ids.contains(&live.id)).map(|live| live.name);
    let left = left.collect();
    Outcome { books: [assert_whole(), far], left }
}

fn end(runtime: Runtime, world: &World) {
    if world.random.one_in(3) {
        runtime.shutdown_timeout(Duration::from_micros(100));
    } else if world.random.one_in(3) {
        // Dropped where a context is current.
        Context::root(world.classes[1]).scope(|| drop(runtime));
    } else {
        drop(runtime);
    }
}

/// So that a raised signal is handled by code that does nothing.
fn handle_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let flag = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGUSR1, flag).unwrap();
    });
}

impl World {
    async fn main(self: Rc<Self>) {
        let own = Context::current();
        let mut children = Vec::new();
        for _ in 0..30 {
            if self.steps.get() == 0 {
                break;
            }
            let context = self.context();
            let task = runtime::spawn_in(&context, self.body(context.clone(), 0));
            match self.random.below(6) {
                0 => task.abort(),
                1 | 2 => children.push(task),
                _ => drop(task.await),
            }
            yield_now().await;
            assert_eq!(Context::current(), own);
        }
        // The others are left to the end of the runtime.
        for child in children {
            if self.random.one_in(2) {
                let _ = child.await;
            }
        }
    }

    fn class(&self) -> &'static str {
        self.classes[1 + self.random.below(3) as usize]
    }

    fn add(&self, context: Context) -> Context {
        self.ids.borrow_mut().push(context.id());
        let mut contexts = self.contexts.borrow_mut();
        contexts.push(context.clone());
        if contexts.len() > 8 {
            let at = self.random.below(8) as usize;
            let gone = contexts.swap_remove(at);
            drop(contexts);
            drop(gone);
        }
        context
    }

    /// A new one, or one that is there.
    fn context(&self) -> Context {
        let there = {
            let contexts = self.contexts.borrow();
            let at = self.random.below(contexts.len() as u64 + 1) as usize;
            contexts.get(at).cloned()
        };
        match there {
            Some(context) if self.random.one_in(2) => context,
            Some(parent) if self.random.one_in(2) => self.add(parent.child(self.class())),
            _ => self.add(Context::root(self.class())),
        }
    }

    fn work(&self) {
        work(self.random.below(300) * self.random.below(10));
    }

    /// What a task does. `own` is the context in which every one of its polls must be.
    fn body(self: &Rc<Self>, own: Context, depth: u32) -> Body {
        let world = self.clone();
        Box::pin(async move {
            let _bomb = world.random.one_in(20).then_some(PanicOnDrop("future"));
            let _costly = Costly(world.clone());
            let mut children = Vec::new();
            for _ in 0..1 + world.random.below(8) {
                let steps = world.steps.get();
                if steps == 0 {
                    break;
                }
                world.steps.set(steps - 1);
                match world.random.below(4) {
                    0 => world.misuse(&own),
                    1 => world.abroad(&own),
                    _ => world.clone().step(&own, depth, &mut children).await,
                }
                if world.random.one_in(2) {
                    yield_now().await;
                    assert_eq!(Context::current(), own, "each poll begins in its own context");
                }
            }
        })
    }

    /// A part of the work, of those that may suspend.
    async fn step(self: Rc<Self>, own: &Context, depth: u32, children: &mut Vec<JoinHandle<()>>) {
        let deeper = if depth < DEPTH_MAX { 18 } else { 4 };
        match self.random.below(deeper) {
            0 => self.work(),
            1 => self.observe(),
            2 => children.iter().for_each(JoinHandle::abort),
            3 => drop(children.pop()),
            4 => children.push(runtime::spawn(self.body(own.clone(), depth + 1))),
            5 | 6 => {
                let context = self.context();
                children.push(runtime::spawn_in(&context, self.body(context.clone(), depth + 1)));
            }
            7 => drop(self.process(depth)),
            8 => {
                let context = self.add(own.child(self.class()));
                self.body(context.clone(), depth + 1).in_context(context).await;
            }
            9 => {
                let context = self.context();
                context.run(self.body(context.clone(), depth + 1)).await;
            }
            10 => {
                let [a, b] = [self.context(), self.context()];
                let branches = [&a, &b].map(|context| self.body(context.clone(), depth + 1));
                let [left, right] = branches;
                both(left.in_context(a), right.in_context(b)).await;
            }
            11 => {
                let context = self.context();
                let part = self.body(context.clone(), depth + 1).in_context(context);
                cut(part, self.random.below(3)).await;
            }
            12 => {
                let context = self.context();
                let part = self.body(context.clone(), depth + 1).cancellable();
                let _ = part.in_context(context).await;
            }
            13 | 14 => self.serve(own, depth).await,
            _ => {
                if let Some(child) = children.pop() {
                    let _ = child.await;
                }
            }
        }
    }

    /// What the runtime's services do: timers, groups, shields, detached work, jobs on other threads.
    async fn serve(self: &Rc<Self>, own: &Context, depth: u32) {
        let wait = Duration::from_micros(self.random.below(50));
        match self.random.below(6) {
            0 => sleep(wait).await,
            1 => {
                let limited = self.add(Context::builder(self.class()).parent(own).timeout(wait).build());
                let body = self.body(limited.clone(), depth + 1).cancellable();
                let _ = body.in_context(limited).await;
            }
            2 => {
                let context = self.context();
                let body = self.body(context.clone(), depth + 1).in_context(context);
                let _ = timeout(wait, body).await;
            }
            3 => {
                let mut group: TaskGroup<(), &str> = TaskGroup::with_limit(self.class(), 2);
                let context = group.context().clone();
                self.ids.borrow_mut().push(context.id());
                for _ in 0..3 {
                    let (body, fails) = (self.body(context.clone(), depth + 1), self.random.one_in(3));
                    group.spawn(async move {
                        body.await;
                        if fails { Err("on purpose") } else { Ok(()) }
                    });
                }
                if self.random.one_in(2) {
                    let _ = group.join().await;
                }
            }
            4 => {
                let shield = runtime::shield(self.body(own.clone(), depth + 1));
                cut(shield, 1 + self.random.below(2)).await;
            }
            _ => {
                if self.jobs {
                    let rounds = self.random.below(3_000);
                    let job = runtime::spawn_blocking(move || {
                        work(rounds);
                        assert_eq!(residual(&context::accounts().unwrap()), 0);
                    });
                    if self.random.one_in(2) {
                        job.await.unwrap();
                    }
                }
            }
        }
    }

    fn process(self: &Rc<Self>, depth: u32) -> JoinHandle<Result<(), &'static str>> {
        let world = self.clone();
        runtime::background(self.classes[3], async move {
            let own = Context::current();
            world.ids.borrow_mut().push(own.id());
            world.body(own, depth + 1).await;
            if world.random.one_in(2) { Ok(()) } else { Err("on purpose") }
        })
    }

    /// What a user should not do, or rarely does. In the poll of `own`.
    fn misuse(self: &Rc<Self>, own: &Context) {
        match self.random.below(12) {
            0 => drop(self.context().finish()),
            1 => drop(own.finish()),
            2 => drop(self.context().cancel(Reason::Disconnected)),
            3 => {
                let guard = self.context().enter();
                self.work();
                self.guards.borrow_mut().push(guard);
            }
            4 => {
                let guards = &self.guards;
                let count = guards.borrow().len() as u64;
                if count > 0 {
                    let guard = guards.borrow_mut().swap_remove(self.random.below(count) as usize);
                    drop(guard);
                }
            }
            5 => std::mem::forget(self.context().enter()),
            6 => self.context().scope(|| {
                self.work();
                let guard = self.context().enter();
                self.work();
                if self.random.one_in(3) {
                    self.guards.borrow_mut().push(guard);
                }
            }),
            7 if self.random.one_in(2) => panic_quietly("poll"),
            8 => thread::sleep(Duration::from_micros(self.random.below(20))),
            9 => signal_hook::low_level::raise(signal_hook::consts::SIGUSR1).unwrap(),
            10 => {
                let mut transaction = context::db::begin("random");
                transaction.connected();
                self.work();
            }
            _ => {
                let context = self.context();
                let noisy = self.clone();
                drop(runtime::spawn_in(&context, async move {
                    let _costly = Costly(noisy);
                    pending::<()>().await
                }));
            }
        }
    }

    /// Lets the other thread do something with the contexts of this one.
    fn abroad(&self, own: &Context) {
        let (context, own, class) = (self.context(), own.clone(), self.classes[4]);
        let rounds = self.random.below(3_000);
        let handle = self.handle.clone();
        let job: Job = match self.random.below(8) {
            0 => Box::new(move || {
                let _ = context.scope(|| work(rounds));
            }),
            1 => Box::new(move || {
                let guard = context.enter();
                work(rounds);
                own.scope(|| work(rounds));
                drop(guard);
            }),
            2 => Box::new(move || std::mem::forget(context.enter())),
            3 => Box::new(move || {
                let _ = context.finish();
            }),
            4 => Box::new(move || {
                let _ = context.cancel(Reason::Shutdown);
            }),
            5 => Box::new(move || {
                let _ = context.child(class).scope(|| work(rounds));
            }),
            6 => Box::new(move || {
                let sent = context.scope(|| {
                    handle.spawn(async move {
                        work(rounds);
                        yield_now().await;
                        work(rounds);
                    })
                });
                if rounds % 2 == 0 {
                    sent.abort();
                }
            }),
            _ => Box::new(move || {
                let before = (context.own_usage(), context.usage());
                work(rounds);
                let after = (context.own_usage(), context.usage());
                assert_grows(before.0, after.0);
                assert_grows(before.1, after.1);
            }),
        };
        self.far.send(job).unwrap();
    }

    /// What must be true at any moment.
    fn observe(&self) {
        let books = context::accounts().unwrap();
        assert_eq!(residual(&books), 0, "{books:?}");
        let contexts = self.contexts.borrow().clone();
        for context in &contexts {
            let parts: Usage = children(context, &contexts).map(Context::usage).sum();
            let now = (context.own_usage(), context.usage());
            assert_grows(now.0 + parts - SLACK.with_cpu(), now.1);
            let before = self.seen.borrow_mut().insert(context.id(), now);
            if let Some(before) = before {
                assert_grows(before.0, now.0);
                assert_grows(before.1, now.1);
            }
            assert!(lives(context.id()));
        }
    }
}

/// A slice of another thread is first read from the kernel's clock and then charged from ours, which may differ a
/// little: so much may be missing from a total while such a slice ends.
struct Slack(u64);

const SLACK: Slack = Slack(20_000);

impl Slack {
    fn with_cpu(&self) -> Usage {
        let mut usage = Usage::default();
        usage.cpu = Duration::from_nanos(self.0);
        usage
    }
}

fn children<'a>(of: &Context, among: &'a [Context]) -> impl Iterator<Item = &'a Context> + use<'a> {
    let of = of.clone();
    among.iter().filter(move |context| context.parent().as_ref() == Some(&of))
}

/// No field of `after` is less.
#[track_caller]
fn assert_grows(before: Usage, after: Usage) {
    assert_eq!(before - after, Usage::default(), "{before:?} then {after:?}");
}

/// Work in a destructor, and now and then a spawn.
struct Costly(Rc<World>);

impl Drop for Costly {
    fn drop(&mut self) {
        self.0.work();
        if self.0.random.one_in(10) {
            drop(runtime::spawn(yield_now()));
        }
    }
}
