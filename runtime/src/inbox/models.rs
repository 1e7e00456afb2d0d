//! Models of the protocol between wakers and the loop, over the code as it is shipped ([`super::wake_cells`]): loom tries
//! all orders in which the threads may run, with up to three preemptions, and all values that a load may see.
//!
//! ```sh
//! RUSTFLAGS='--cfg bursar_loom' cargo test -p bursar-runtime --lib --release --target-dir target/loom loom
//! ```
//!
//! What a thread did before a wake must be seen by the poll that follows it: so each waker sets a flag, relaxed, and the
//! loop goes on until it has seen all flags in polls. If a wake is lost it sleeps for ever, which loom reports as a
//! deadlock. `docs/reliability.md` has the list of changes to the code that each of the models was seen to catch.

use super::wake_cells::{Drain, Found, Loop, WakeCells};
use loom::model::Builder;
use loom::sync::Notify;
use loom::sync::atomic::AtomicBool;
use loom::thread::{self, JoinHandle};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// A runtime and its sleep.
struct Shared {
    cells: WakeCells,
    sleeper: Notify,
    /// For one bound each: no threads of the model meet in these, so they are not loom's.
    sleeps: AtomicUsize,
    notified: AtomicUsize,
}

/// Enough for everything.
const ALL: u32 = u32::MAX;

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// The cells of slots 0 and 1 are made.
fn shared() -> Arc<Shared> {
    let shared = Shared {
        cells: WakeCells::new(),
        sleeper: Notify::new(),
        sleeps: AtomicUsize::new(0),
        notified: AtomicUsize::new(0),
    };
    let _ = shared.cells.make(0);
    Arc::new(shared)
}

fn flag() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(false))
}

impl Shared {
    /// As an endpoint does.
    fn notify(&self, is: Loop) {
        if is == Loop::Asleep {
            self.notified.fetch_add(1, Relaxed);
            self.sleeper.notify();
        }
    }

    fn wake(&self, slot: u32, generation: u32) {
        self.notify(self.cells.wake(slot, generation, || 1));
    }

    /// The loop of one runtime, until a poll says that it is done. `steps`: what a look may take.
    fn run(&self, steps: u32, mut is_done: impl FnMut(Found) -> bool) {
        let drain = Drain::new();
        let mut done = false;
        while !done {
            drain.take(&self.cells, steps, |found, _| done |= is_done(found));
            if !done && drain.is_empty() && self.cells.fall_asleep() {
                self.sleeps.fetch_add(1, Relaxed);
                self.sleeper.wait();
            }
            assert!(
                self.notified.load(Relaxed) <= self.sleeps.load(Relaxed),
                "notified once a sleep at most"
            );
        }
    }
}

/// A thread that sets a flag and then wakes.
fn waker(shared: &Arc<Shared>, slot: u32, generation: u32) -> (Arc<AtomicBool>, JoinHandle<()>) {
    let (flag, shared) = (flag(), shared.clone());
    let set = flag.clone();
    let thread = thread::spawn(move || {
        set.store(true, Relaxed);
        shared.wake(slot, generation);
    });
    (flag, thread)
}

fn are_set(flags: &[&Arc<AtomicBool>]) -> bool {
    flags.iter().all(|flag| flag.load(Relaxed))
}

#[test]
fn loom_trap_03_two_wakers_one_task() {
    check(|| {
        let shared = shared();
        let (one, first) = waker(&shared, 0, 1);
        let (two, second) = waker(&shared, 0, 1);
        shared.run(ALL, |_| are_set(&[&one, &two]));
        first.join().unwrap();
        second.join().unwrap();
    });
}

/// The slot has a task of generation 1; a waker of its predecessor is late.
#[test]
fn loom_trap_03_a_stale_waker_and_a_live_one() {
    check(|| {
        let shared = shared();
        let (_, stale) = waker(&shared, 0, 0);
        let (flag, live) = waker(&shared, 0, 1);
        shared.run(ALL, |found| match found {
            Found::Task { generation: 1, .. } | Found::Slot(_) => are_set(&[&flag]),
            _ => false,
        });
        stale.join().unwrap();
        live.join().unwrap();
    });
}

/// One thread wakes both tasks, another the first one again: a cell may be pushed anew while the list is worked off.
#[test]
fn loom_trap_03_two_slots() {
    for steps in [1, ALL] {
        check(move || {
            let shared = shared();
            let (one, both, last) = (flag(), flag(), shared.clone());
            let (set_one, set_both) = (one.clone(), both.clone());
            let thread = thread::spawn(move || {
                last.wake(0, 1);
                set_one.store(true, Relaxed);
                last.wake(1, 1);
                set_both.store(true, Relaxed);
                last.wake(0, 1);
            });
            let (mut first_done, mut second_done) = (false, false);
            shared.run(steps, |found| {
                let Found::Task { slot, .. } = found else { return false };
                match slot {
                    0 => first_done |= are_set(&[&both]),
                    _ => second_done |= are_set(&[&one]),
                }
                first_done && second_done
            });
            thread.join().unwrap();
        });
    }
}

/// Two threads push at the same time.
#[test]
fn loom_trap_03_two_slots_of_two_threads() {
    check(|| {
        let shared = shared();
        let (one, first) = waker(&shared, 0, 1);
        let (two, second) = waker(&shared, 1, 1);
        let mut done = [false; 2];
        shared.run(ALL, |found| {
            let Found::Task { slot, .. } = found else { return false };
            done[slot as usize] |= are_set(&[[&one, &two][slot as usize]]);
            done == [true; 2]
        });
        first.join().unwrap();
        second.join().unwrap();
    });
}

/// Both find no cells yet.
#[test]
fn loom_trap_03_two_wakers_make_the_cells() {
    check(|| {
        let shared = shared();
        let (one, first) = waker(&shared, 2, 1);
        let (two, second) = waker(&shared, 3, 1);
        let mut done = [false; 2];
        shared.run(ALL, |found| {
            let Found::Task { slot, .. } = found else { return false };
            let at = slot as usize - 2;
            done[at] |= are_set(&[[&one, &two][at]]);
            done == [true; 2]
        });
        first.join().unwrap();
        second.join().unwrap();
    });
}

/// A message and a wake, and a loop that sleeps whenever it may. It is notified once a sleep at most, and whenever it
/// must be.
#[test]
fn loom_trap_03_a_loop_that_sleeps_is_notified_once() {
    check(|| {
        let shared = shared();
        let (sent, sender) = (flag(), shared.clone());
        let channel = sent.clone();
        let sender = thread::spawn(move || {
            channel.store(true, Relaxed);
            sender.notify(sender.cells.announce_messages());
        });
        let (woken, thread) = waker(&shared, 0, 1);
        let (mut has_message, mut is_woken) = (false, false);
        shared.run(ALL, |found| {
            match found {
                Found::Messages => has_message |= are_set(&[&sent]),
                _ => is_woken |= are_set(&[&woken]),
            }
            has_message && is_woken
        });
        sender.join().unwrap();
        thread.join().unwrap();
    });
}

/// A runtime ends in the middle of a list, with a waker of it still at work; then another one has the cells.
#[test]
fn loom_trap_02_the_end_of_a_runtime() {
    check(|| {
        let shared = shared();
        shared.wake(1, 0);
        let (_, late) = waker(&shared, 0, 0);
        let drain = Drain::new();
        drain.take(&shared.cells, 1, |_, _| ());
        drain.abandon(&shared.cells);
        let (flag, live) = waker(&shared, 0, 1);
        let mut done = [false; 2];
        shared.wake(1, 1);
        shared.run(ALL, |found| {
            match found {
                Found::Task { slot: 0, generation: 1 } | Found::Slot(0) => done[0] |= are_set(&[&flag]),
                Found::Task { slot: 1, generation: 1 } | Found::Slot(1) => done[1] = true,
                _ => {}
            }
            done == [true; 2]
        });
        late.join().unwrap();
        live.join().unwrap();
    });
}
