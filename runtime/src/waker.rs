//! Waking a task, from anywhere. **Fenced**, for the vtable that a [`Waker`] is made of.
//!
//! A waker is a [`Packed`] handle where others keep a pointer. It owns nothing: a clone is a copy, a drop does nothing, none of the
//! two touches memory, and a waker may be kept, sent or leaked for as long as one likes. Waking looks the handle up in the
//! runtime of this thread:
//!
//! - a task there has it: queue the task. One comparison, no atomic instruction;
//! - it is another runtime's (on another thread, or outside of its loop): mark the task in its inbox, see
//!   [`crate::inbox`]. One atomic operation if it is marked already;
//! - it is stale, or its runtime is gone: nothing.
//!
//! Wakes only queue. They run no user code, drop no future and do not block.
//!
//! One static vtable, in one place, so that [`Waker::will_wake`] is right however many codegen units there are.

#![allow(unsafe_code)]

use std::ptr;
use std::task::{RawWaker, RawWakerVTable, Waker};

use crate::current::{self, Core};
use crate::handle::{Packed, RuntimeId};
use crate::inbox;
use crate::task::tracking::Tracking;
use context::harness::stamp;

/// The waker of that task.
#[inline]
pub(crate) fn waker(handle: Packed) -> Waker {
    // SAFETY: the functions of the vtable take any data whatever (they read it as a number), from any thread; and no clone
    // or drop can be one too many, as there is nothing to count.
    unsafe { Waker::from_raw(raw(handle)) }
}

/// The same, counted ([`crate::task::tracking`]).
pub(crate) fn tracked(core: &Core, tracking: &Tracking, handle: Packed) -> Waker {
    debug_assert_eq!(core.index, handle.runtime());
    Waker::from(tracking.waker(handle, wake, last_waker_gone))
}

/// The last waker of a tracked task is gone: the loop looks whether the task still needs one.
fn last_waker_gone(runtime: RuntimeId, handle: Packed) {
    let local = current::with(|core| {
        let core = core.filter(|core| core.id == runtime);
        core.map(|core| core.tracking.iter().for_each(|tracking| tracking.suspect(handle)))
    });
    if local.is_none() {
        let _ = inbox::send(runtime, Box::new(move || last_waker_gone(runtime, handle)));
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake_raw, wake_raw, drop_raw);

/// The task that `waker` wakes, if it is one of ours: then waking runs no foreign code.
#[inline]
pub(crate) fn target(waker: &Waker) -> Option<Packed> {
    ptr::eq(waker.vtable(), &VTABLE).then(|| handle(waker.data()))
}

fn raw(handle: Packed) -> RawWaker {
    RawWaker::new(ptr::without_provenance(handle.bits() as usize), &VTABLE)
}

fn handle(data: *const ()) -> Packed {
    Packed::from_bits(data.addr() as u64)
}

/// # Safety
///
/// None needed; the vtable wants the signature. The same for the two below.
unsafe fn clone(data: *const ()) -> RawWaker {
    raw(handle(data))
}

/// # Safety
///
/// See [`clone`].
unsafe fn wake_raw(data: *const ()) {
    wake(handle(data));
}

/// # Safety
///
/// See [`clone`].
unsafe fn drop_raw(_: *const ()) {}

/// Queues the task, here or in its runtime's inbox. The one place that decides.
#[inline]
pub(crate) fn wake(handle: Packed) {
    let local = current::with(|core| core.is_some_and(|core| core.tasks.queue().schedule(handle, stamp)));
    if !local {
        wake_remotely(handle);
    }
}

/// No task here has that handle.
#[cold]
#[inline(never)]
fn wake_remotely(handle: Packed) {
    let stale = current::with(|core| core.is_some_and(|core| core.index == handle.runtime()));
    if !stale {
        inbox::wake(handle, stamp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::inbox::Woken;
    use crate::task::table::Joined;
    use crate::task::tests::{cancel, spawn, turn};
    use std::cell::{Cell, RefCell};
    use std::future::{pending, poll_fn};
    use std::rc::Rc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Barrier};
    use std::task::Poll;
    use std::thread;

    /// A runtime without a loop.
    struct Rig {
        core: Core,
    }

    impl Rig {
        fn new() -> Rig {
            let rig = Rig { core: Core::new(Config::default()).unwrap() };
            // What late wakers of other tests left for the runtime that had the index before.
            rig.turn();
            rig
        }

        fn turn(&self) {
            current::set(&self.core, || {
                let queue = self.core.tasks.queue();
                self.core.inbox.take_wakes(|woken, ticks| match woken {
                    Woken::Task(task) => {
                        queue.schedule(task, || ticks);
                    }
                    Woken::Slot(slot) => queue.schedule_slot(slot, || ticks),
                });
                while let Some(message) = self.core.inbox.next_message() {
                    message();
                }
                turn(&self.core.tasks, waker);
            });
        }

        /// A task that counts its polls and leaves its waker.
        fn counter(&self) -> (Waker, Rc<Cell<u32>>) {
            let (polls, left) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(None)));
            let (count, leave) = (polls.clone(), left.clone());
            spawn(
                &self.core.tasks,
                poll_fn(move |cx| {
                    count.set(count.get() + 1);
                    *leave.borrow_mut() = Some(cx.waker().clone());
                    Poll::<()>::Pending
                }),
            );
            self.turn();
            (left.take().unwrap(), polls)
        }
    }

    #[test]
    fn a_waker_is_its_handle() {
        let one = waker(Packed::new(u16::MAX, 5, 6));
        assert!(one.will_wake(&one.clone()));
        assert!(!one.will_wake(&waker(Packed::new(u16::MAX, 5, 7))));
        assert_eq!(handle(one.data()), Packed::new(u16::MAX, 5, 6));
        assert_eq!(handle(waker(Packed::from_bits(0)).data()).bits(), 0, "null is a handle like any other");
    }

    #[test]
    fn a_local_wake_queues_once_and_sends_nothing() {
        let rig = Rig::new();
        let (waker, polls) = rig.counter();
        current::set(&rig.core, || {
            let other = waker.clone();
            waker.wake_by_ref();
            other.wake();
        });
        assert!(!rig.core.inbox.is_waiting());
        assert_eq!(rig.core.tasks.queue().len(), 1);
        rig.turn();
        assert_eq!(polls.get(), 2);
    }

    #[test]
    fn trap_01_wakers_are_cloned_woken_and_dropped_on_any_thread() {
        let rig = Rig::new();
        let (waker, polls) = rig.counter();
        for with_runtime in [false, true] {
            let waker = waker.clone();
            let elsewhere = thread::spawn(move || {
                let act = || {
                    let other = waker.clone();
                    other.wake();
                    waker.wake_by_ref();
                    drop(waker);
                };
                if with_runtime { current::set(&Rig::new().core, act) } else { act() }
            });
            elsewhere.join().unwrap();
            assert!(rig.core.inbox.is_waiting());
            let before = polls.get();
            rig.turn();
            assert_eq!(polls.get(), before + 1);
        }
    }

    #[test]
    fn trap_02_wakes_during_and_after_the_end_of_the_runtime() {
        for _ in 0..50 {
            let rig = Rig::new();
            let (waker, _) = rig.counter();
            let (stop, start) = (Arc::new(AtomicBool::new(false)), Arc::new(Barrier::new(2)));
            let (stopped, started) = (stop.clone(), start.clone());
            let hammer = thread::spawn(move || {
                started.wait();
                while !stopped.load(Ordering::Relaxed) {
                    let other = waker.clone();
                    other.wake();
                }
                waker
            });
            start.wait();
            rig.turn();
            drop(rig);
            stop.store(true, Ordering::Relaxed);
            hammer.join().unwrap().wake();
        }
    }

    /// The future's home is this thread; a waker elsewhere is the last to go.
    #[test]
    fn trap_04_06_a_waker_kept_elsewhere_holds_no_task() {
        struct Home(thread::ThreadId, Rc<Cell<u32>>);
        impl Drop for Home {
            fn drop(&mut self) {
                assert_eq!(self.0, thread::current().id());
                self.1.set(self.1.get() + 1);
            }
        }
        let rig = Rig::new();
        let drops = Rc::new(Cell::new(0));
        let home = Home(thread::current().id(), drops.clone());
        let (handle, ticket) = spawn(&rig.core.tasks, async move {
            let _home = home;
            pending::<()>().await
        });
        rig.turn();
        let kept = waker(handle);
        rig.core.tasks.abort(handle, ticket.id(), || 0);
        rig.core.tasks.detach(handle, ticket.id());
        rig.turn();
        assert_eq!((drops.get(), rig.core.tasks.len()), (1, 0));
        drop(rig);
        thread::spawn(move || {
            kept.wake_by_ref();
            drop(kept.clone());
            drop(kept);
        })
        .join()
        .unwrap();
        assert_eq!(drops.get(), 1);
    }

    #[test]
    fn trap_08_09_two_runtimes_on_one_thread_are_told_apart() {
        let (one, two) = (Rig::new(), Rig::new());
        let ((waker_one, polls_one), (waker_two, polls_two)) = (one.counter(), two.counter());
        current::set(&one.core, || {
            waker_two.wake_by_ref();
            current::set(&two.core, || waker_one.wake_by_ref());
        });
        let queued = [&one, &two].map(|rig| (rig.core.tasks.queue().len(), rig.core.inbox.is_waiting()));
        assert_eq!(queued, [(0, true), (0, true)], "each by its own inbox");
        one.turn();
        assert_eq!((polls_one.get(), polls_two.get()), (2, 1));
        two.turn();
        assert_eq!((polls_one.get(), polls_two.get()), (2, 2));
    }

    #[test]
    fn trap_09_a_wake_outside_of_the_loop_is_kept_for_it() {
        let rig = Rig::new();
        let (waker, polls) = rig.counter();
        waker.wake();
        assert!(rig.core.inbox.is_waiting() && !rig.core.inbox.fall_asleep());
        rig.turn();
        assert_eq!(polls.get(), 2);
    }

    /// The runtime that has the index of a runtime that is gone.
    fn successor(index: u16) -> Rig {
        std::iter::repeat_with(Rig::new).find(|rig| rig.core.index == index).unwrap()
    }

    #[test]
    fn trap_08_r3_a_waker_of_a_dead_runtime_whose_index_lives_on_wakes_nobody() {
        let dead = Rig::new();
        let (stale, _) = dead.counter();
        let (index, id) = (dead.core.index, dead.core.id);
        drop(dead);
        let rig = successor(index);
        let (waker, polls) = rig.counter();
        assert_eq!(super::handle(waker.data()).slot(), super::handle(stale.data()).slot());
        assert!(!stale.will_wake(&waker), "the generations of the two runtimes differ");
        stale.wake_by_ref();
        current::set(&rig.core, || stale.wake_by_ref());
        // The last waker of a task of the dead runtime.
        last_waker_gone(id, super::handle(waker.data()));
        rig.turn();
        assert_eq!(polls.get(), 1);
        assert!(rig.core.tracking.as_ref().is_none_or(|tracking| tracking.take_suspects().is_empty()));
    }

    /// After 2^24 uses of a slot, or as many runtimes, a stale waker may match.
    #[test]
    fn trap_08_24_a_waker_that_matches_again_is_a_spurious_poll() {
        let rig = Rig::new();
        let (handle, ticket) = spawn(&rig.core.tasks, async { 5 });
        waker(handle).wake();
        thread::spawn(move || waker(handle).wake()).join().unwrap();
        rig.turn();
        assert!(matches!(
            rig.core.tasks.poll_join(handle, &ticket, None, Waker::noop()),
            Joined::Done(Ok(5))
        ));
    }

    #[test]
    fn trap_11_a_wake_runs_no_user_code_even_of_an_aborted_task() {
        let rig = Rig::new();
        let dropped = Rc::new(Cell::new(false));
        struct Tell(Rc<Cell<bool>>);
        impl Drop for Tell {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let tell = Tell(dropped.clone());
        let (handle, ticket) = spawn(&rig.core.tasks, async move {
            let _tell = tell;
            pending::<()>().await
        });
        rig.turn();
        let borrowed = RefCell::new(());
        current::set(&rig.core, || {
            let _held = borrowed.borrow_mut();
            rig.core.tasks.abort(handle, ticket.id(), || 0);
            wake(handle);
            assert!(!dropped.get());
        });
        rig.turn();
        assert!(dropped.get());
    }

    #[test]
    fn trap_13_wakes_while_thread_locals_are_destroyed() {
        struct Late(RefCell<Vec<Waker>>);
        impl Drop for Late {
            fn drop(&mut self) {
                self.0.take().into_iter().for_each(Waker::wake);
            }
        }
        thread_local! {
            static LATE: Late = const { Late(RefCell::new(Vec::new())) };
        }
        let rig = Rig::new();
        let (waker, polls) = rig.counter();
        thread::spawn(move || LATE.with(|late| late.0.borrow_mut().push(waker))).join().unwrap();
        rig.turn();
        assert_eq!(polls.get(), 2);
        // And a whole runtime whose wakers come back to it too late.
        thread::spawn(|| {
            let rig = Rig::new();
            let (waker, _) = rig.counter();
            LATE.with(|late| late.0.borrow_mut().push(waker));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn shutdown_drops_each_task_while_wakes_arrive() {
        let rig = Rig::new();
        let (waker, polls) = rig.counter();
        rig.core.tasks.close();
        current::set(&rig.core, || {
            while let Some(polling) = rig.core.tasks.seize() {
                waker.wake_by_ref();
                cancel(polling);
                waker.wake_by_ref();
            }
        });
        rig.turn();
        assert_eq!((polls.get(), Rc::strong_count(&polls)), (1, 1));
    }

    #[test]
    fn current_is_scoped_and_comes_back_on_unwind() {
        let index = || current::with(|core| core.map(|core| core.index));
        let (one, two) = (Rig::new(), Rig::new());
        assert_eq!(index(), None);
        current::set(&one.core, || {
            let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                current::set(&two.core, || {
                    assert_eq!(index(), Some(two.core.index));
                    std::panic::resume_unwind(Box::new(()));
                })
            }));
            assert!(unwound.is_err());
            assert_eq!(index(), Some(one.core.index));
        });
        assert_eq!(index(), None);
    }
}
