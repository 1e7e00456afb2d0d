//! P24: random programs whose work runs on, and ends on, several threads; and what their bills say.
//!
//! A program is two requests with parts. A part may run jobs on the pool, be worked for and closed by plain threads, be a
//! group, be shielded; a request may be cut anywhere, and any context may finish at any time. All handles are kept. At the end
//! each thread says what it has charged to contexts, and the contexts say what they were charged with.
//!
//! `BURSAR_PROGRAM_SEED=17` begins with that one; the seed of a program that fails is printed.

use super::{Running, number};
use crate::books::{assert_whole, on_own_thread, work};
use crate::promise::cut;
use crate::random::Random;
use context::{Accounts, Clock, Context, FutureExt, Usage};
use runtime::{Runtime, TaskGroup, yield_now};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, pending};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

const PROGRAMS: u64 = 120;
const POOL: usize = 2;
const DEPTH: u64 = 3;

/// A slice that is read from another thread is measured by the kernel's clock, and charged by another one. (And a switch that
/// meets a finish may be missed by the length of a store buffer.)
const READING_MAX: Duration = Duration::from_micros(2);

/// Every context of a program, and the bills that its hooks heard, by number.
#[derive(Clone, Default)]
struct Contexts(Arc<Mutex<Vec<Context>>>, Arc<Mutex<HashMap<u64, Vec<Usage>>>>);

impl Contexts {
    fn watch(&self, context: Context) -> Context {
        let (id, bills) = (context.id().as_u64(), self.1.clone());
        context.on_finish(move |usage| bills.lock().unwrap().entry(id).or_default().push(*usage));
        self.0.lock().unwrap().push(context.clone());
        context
    }

    fn part(&self, of: &Context) -> Context {
        self.watch(of.child("p24 random part"))
    }

    fn any(&self, random: &Random) -> Context {
        let contexts = self.0.lock().unwrap();
        contexts[random.below(contexts.len() as u64) as usize].clone()
    }
}

/// What is charged to contexts by one thread.
fn charged(books: Accounts) -> Duration {
    books.contexts + books.late
}

struct World {
    random: Random,
    contexts: Contexts,
    threads: RefCell<Vec<thread::JoinHandle<Duration>>>,
    tasks: RefCell<Vec<runtime::JoinHandle<()>>>,
    /// Pieces of work that have not ended.
    alive: Cell<u32>,
}

struct Alive(Rc<World>);

impl Drop for Alive {
    fn drop(&mut self) {
        work(self.0.random.below(2_000));
        self.0.alive.set(self.0.alive.get() - 1);
    }
}

impl World {
    /// A thread of its own works for `context`, and perhaps ends it, or a part of it.
    fn plain_thread(&self, context: Context) {
        let (contexts, random) = (self.contexts.clone(), Random::new(self.random.next()));
        self.threads.borrow_mut().push(thread::spawn(move || {
            for _ in 0..1 + random.below(4) {
                context.scope(|| work(random.below(60_000)));
                match random.below(6) {
                    0 => drop(context.finish()),
                    1 => drop(contexts.part(&context).scope(|| Some(work(random.below(5_000))))),
                    2 => drop(contexts.part(&context).finish()),
                    _ => drop(context.usage()),
                }
            }
            drop(context);
            charged(assert_whole())
        }));
    }

    fn job(&self, context: &Context) -> runtime::JoinHandle<u64> {
        let (rounds, inner) = (self.random.below(60_000), self.contexts.clone());
        let nested = self.random.one_in(4);
        context.scope(|| {
            runtime::spawn_blocking(move || {
                if nested {
                    inner.part(&Context::current()).scope(|| work(rounds));
                }
                work(rounds)
            })
        })
    }
}

/// Some random steps in what is current.
fn steps(world: &Rc<World>, depth: u64) -> Pin<Box<dyn Future<Output = ()>>> {
    world.alive.set(world.alive.get() + 1);
    let (world, alive) = (world.clone(), Alive(world.clone()));
    Box::pin(async move {
        let _alive = alive;
        for _ in 0..1 + world.random.below(5) {
            step(&world, depth).await;
        }
    })
}

async fn step(world: &Rc<World>, depth: u64) {
    let random = &world.random;
    let part = world.contexts.part(&Context::current());
    if depth == 0 || random.one_in(4) {
        work(random.below(10_000));
        return yield_now().await;
    }
    let inner = || steps(world, depth - 1);
    match random.below(9) {
        0 => part.run(inner()).await,
        1 => inner().in_context(part).await,
        2 => world.tasks.borrow_mut().push(runtime::spawn_in(&part, inner())),
        3 => drop(world.job(&part).await),
        4 => drop(world.job(&part)),
        5 => world.plain_thread(if random.one_in(2) { part } else { Context::current() }),
        6 => group(world, depth).await,
        7 => {
            let shield = part.scope(|| runtime::shield(inner()));
            if random.one_in(2) { shield.await } else { drop(shield) }
        }
        _ => drop(world.contexts.any(random).finish()),
    }
}

async fn group(world: &Rc<World>, depth: u64) {
    let mut group = TaskGroup::<(), ()>::new("p24 random group");
    world.contexts.watch(group.context().clone());
    let joined = world.random.one_in(2);
    for _ in 0..world.random.below(4) {
        let (member, ends) = (steps(world, depth - 1), joined || world.random.one_in(2));
        group.spawn(async move {
            member.await;
            if ends { Ok(()) } else { pending().await }
        });
    }
    for _ in 0..world.random.below(3) {
        yield_now().await;
    }
    if joined {
        // A member that was dropped with its runtime would be a panic; there is none.
        let _ = group.join().await;
    }
}

/// What came of one program.
struct Outcome {
    contexts: Contexts,
    /// By all threads.
    charged: Duration,
    main: Context,
}

fn run(seed: u64) -> Outcome {
    let runtime = Runtime::builder().clock(Clock::Auto).blocking_threads(POOL).build().unwrap();
    let contexts = Contexts::default();
    let (main, elsewhere) = runtime.block_on(async {
        let world = Rc::new(World {
            random: Random::new(seed),
            contexts: contexts.clone(),
            threads: RefCell::default(),
            tasks: RefCell::default(),
            alive: Cell::new(0),
        });
        for _ in 0..2 {
            let request = contexts.watch(Context::root("p24 random"));
            let handler = request.run(steps(&world, DEPTH));
            cut(handler, 1 + world.random.below(12)).await;
        }
        (Context::current(), rest(&world).await)
    });
    drop(runtime);
    Outcome { contexts, charged: charged(assert_whole()) + elsewhere, main }
}

/// Waits until nothing works any more. What other threads have charged.
async fn rest(world: &World) -> Duration {
    let mut charged_elsewhere = Duration::ZERO;
    loop {
        let (tasks, threads) = (world.tasks.take(), world.threads.take());
        if tasks.is_empty() && threads.is_empty() && world.alive.get() == 0 {
            break;
        }
        for task in tasks {
            task.await.unwrap();
        }
        charged_elsewhere += threads.into_iter().map(|thread| thread.join().unwrap()).sum::<Duration>();
        yield_now().await;
    }
    // One job on each thread of the pool at once, in nobody's context; behind all others.
    let all = Arc::new(Barrier::new(POOL));
    let read = || {
        let all = all.clone();
        Context::sentinel().scope(|| {
            runtime::spawn_blocking(move || {
                all.wait();
                charged(assert_whole())
            })
        })
    };
    for job in [(); POOL].map(|()| read()) {
        charged_elsewhere += job.await.unwrap();
    }
    charged_elsewhere
}

fn spent(usage: Usage) -> Duration {
    usage.cpu + usage.late_cpu
}

fn assert_near(left: Duration, right: Duration, readings: u32, what: &str) {
    assert!(left.abs_diff(right) <= READING_MAX * readings, "{what}: {left:?}, {right:?}");
}

/// Of the programs, how many had late work, and a bill with work of other threads.
fn check(outcome: &Outcome) -> (bool, bool) {
    let Outcome { contexts: Contexts(contexts, bills), charged, main } = outcome;
    let contexts = std::mem::take(&mut *contexts.lock().unwrap());
    let count = contexts.len() as u32;
    // Nothing twice, nothing lost.
    let own: Duration = contexts.iter().map(|context| spent(context.own_usage())).sum();
    assert_near(own + spent(main.own_usage()), *charged, count, "contexts, threads");
    let roots = contexts.iter().filter(|context| context.parent().is_none());
    let total: Duration = roots.map(|context| spent(context.usage())).sum();
    assert_near(own, total, count, "own, total");
    // A bill does not change.
    let late = contexts.iter().any(|context| !context.usage().late_cpu.is_zero());
    let mut jobs = false;
    for context in &contexts {
        let heard = bills.lock().unwrap().get(&context.id().as_u64()).cloned().unwrap_or_default();
        assert_eq!(heard.len(), usize::from(context.is_finished()), "{context}");
        for bill in heard {
            assert_near(bill.cpu, context.usage().cpu, 1, "bill, usage");
            assert!(context.usage().late_cpu >= bill.late_cpu);
            jobs |= bill.blocking.jobs > 0;
        }
    }
    let ids: Vec<_> = contexts.iter().map(|context| context.id().as_u64()).collect();
    drop(contexts);
    let bills = bills.lock().unwrap();
    assert!(ids.iter().all(|id| bills[id].len() == 1), "each is told once");
    (late, jobs)
}

#[test]
fn p24_random_programs_are_billed_for_everything_once() {
    let first = number("BURSAR_PROGRAM_SEED", 0);
    let (mut late, mut jobs) = (0, 0);
    for seed in first..first + PROGRAMS {
        let running = Running(seed);
        let (had_late, had_jobs) = check(&on_own_thread(|| run(seed)));
        late += u64::from(had_late);
        jobs += u64::from(had_jobs);
        drop(running);
    }
    assert!(late > PROGRAMS / 10 && jobs > PROGRAMS / 10, "{late} had late work, {jobs} jobs in a bill");
}
