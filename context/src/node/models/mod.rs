//! Models of the counts of a node, over the code as it is shipped: loom tries every order in which the threads may run, and
//! every value that a load may see.
//!
//! ```sh
//! RUSTFLAGS='--cfg bursar_loom' cargo test -p bursar-context --lib --release --target-dir target/loom loom_
//! ```

mod atomics;
#[path = "../handles.rs"]
mod handles;
// What only one thread may call is in no model.
#[allow(dead_code)]
#[path = "../life.rs"]
mod life;

use atomics::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use handles::Handles;
use life::{Life, was_said};
use loom::sync::Mutex;
use loom::thread;
use std::sync::Arc;

/// A node, as far as handles go.
struct Node {
    handles: Handles,
    /// What each holder did with it, relaxed: the one who ends it has to see all.
    used: [AtomicUsize; 3],
    ends: AtomicUsize,
}

impl Node {
    fn new(handles: usize) -> Arc<Self> {
        let used = std::array::from_fn(|_| AtomicUsize::new(0));
        Arc::new(Self { handles: Handles::new(AtomicUsize::new(handles)), used, ends: AtomicUsize::new(0) })
    }

    /// Uses a handle and gives it up.
    fn drop_handle(&self, user: usize, users: usize) {
        self.used[user].store(1, Ordering::Relaxed);
        if self.handles.give_up() {
            self.end(users);
        }
    }

    fn end(&self, users: usize) {
        let seen = self.used[..users].iter().filter(|used| used.load(Ordering::Relaxed) == 1).count();
        assert_eq!(seen, users, "who ends it sees what all others did");
        assert_eq!(self.ends.fetch_add(1, Ordering::Relaxed), 0, "it ends once");
    }

    fn assert_ended(&self) {
        assert_eq!(self.ends.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn loom_the_last_of_three_handles_ends_the_context_and_sees_all() {
    loom::model(|| {
        let node = Node::new(3);
        let others = [1, 2].map(|user| {
            let node = node.clone();
            thread::spawn(move || node.drop_handle(user, 3))
        });
        node.drop_handle(0, 3);
        others.into_iter().for_each(|other| other.join().unwrap());
        node.assert_ended();
    });
}

#[test]
fn loom_a_handle_made_from_one_that_goes_keeps_the_context() {
    loom::model(|| {
        let node = Node::new(1);
        node.handles.add();
        let other = {
            let node = node.clone();
            thread::spawn(move || {
                node.handles.add();
                node.drop_handle(1, 2);
                node.drop_handle(1, 2);
            })
        };
        node.drop_handle(0, 2);
        other.join().unwrap();
        node.assert_ended();
    });
}

/// The last handle went, hooks get one that is lent, and one of them keeps a handle, which ends on another thread.
#[test]
fn loom_a_context_that_hooks_keep_ends_once() {
    loom::model(|| {
        let node = Node::new(0);
        node.handles.be_one();
        node.handles.add();
        let keeper = {
            let node = node.clone();
            thread::spawn(move || node.drop_handle(1, 2))
        };
        node.used[0].store(1, Ordering::Relaxed);
        if node.handles.take_back() {
            node.end(2);
        }
        keeper.join().unwrap();
        node.assert_ended();
    });
}

/// A context that one thread holds and others finish.
struct Open {
    life: Life,
    finishes: AtomicUsize,
    hooked: AtomicBool,
    hooks: Mutex<usize>,
    ran: AtomicUsize,
}

impl Open {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            life: Life::new(AtomicU64::new(0)),
            finishes: AtomicUsize::new(0),
            hooked: AtomicBool::new(false),
            hooks: Mutex::new(0),
            ran: AtomicUsize::new(0),
        })
    }

    fn finish(&self, now: u64) {
        if self.life.finish(now) {
            self.finishes.fetch_add(1, Ordering::Relaxed);
            if was_said(&self.hooked) {
                let hooks = std::mem::take(&mut *self.hooks.lock().unwrap());
                self.ran.fetch_add(hooks, Ordering::Relaxed);
            }
        }
    }

    /// As `on_finish` does: a hook that comes too late runs at once.
    fn add_hook(&self) {
        let mut hooks = self.hooks.lock().unwrap();
        if self.life.say_unless_finished(&self.hooked) {
            *hooks += 1;
        } else {
            drop(hooks);
            self.ran.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn finishes(&self) -> usize {
        self.finishes.load(Ordering::Relaxed)
    }
}

fn on_thread(open: &Arc<Open>, f: impl FnOnce(&Open) + Send + 'static) -> thread::JoinHandle<()> {
    let open = open.clone();
    thread::spawn(move || f(&open))
}

#[test]
fn loom_two_who_finish_are_one_finish() {
    loom::model(|| {
        let open = Open::new();
        let other = on_thread(&open, |open| open.finish(7));
        open.finish(9);
        other.join().unwrap();
        assert_eq!(open.finishes(), 1);
        assert!(matches!(open.life.finished_at(), Some(7 | 9)));
    });
}

#[test]
fn loom_a_finish_waits_for_the_last_hold() {
    loom::model(|| {
        let open = Open::new();
        let holder = on_thread(&open, |open| {
            if open.life.hold() {
                assert_eq!(open.finishes(), 0, "it is held");
                if open.life.release() {
                    open.finish(5);
                }
            } else {
                assert!(open.life.finished_at().is_some());
            }
        });
        let other = on_thread(&open, |open| open.finish(3));
        open.finish(4);
        holder.join().unwrap();
        other.join().unwrap();
        assert_eq!(open.finishes(), 1);
    });
}

#[test]
fn loom_a_hook_runs_once_whether_it_comes_before_the_finish_or_after() {
    loom::model(|| {
        let open = Open::new();
        let finisher = on_thread(&open, |open| open.finish(3));
        let hooker = on_thread(&open, Open::add_hook);
        open.add_hook();
        finisher.join().unwrap();
        hooker.join().unwrap();
        assert_eq!(open.ran.load(Ordering::Relaxed), 2);
    });
}
