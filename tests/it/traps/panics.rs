//! Trap 16: panics where nobody expects them. By enumeration: where it panics, and what becomes of the handle.

use crate::books::on_balanced_thread;
use crate::trace::{PanicOnDrop, panic_quietly};
use crate::watch::Watch;
use context::{Context, ReportKind};
use runtime::{JoinHandle, Runtime, yield_now};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Wake, Waker};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bomb {
    None,
    Poll,
    LatePoll,
    Drop,
    PollAndDrop,
    Output,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Owner {
    Awaits,
    AwaitsLate,
    DropsAtOnce,
    DropsLate,
    Aborts,
    AbortsLate,
    LeavesItToShutdown,
}

use Owner::*;

const BOMBS: [Bomb; 6] =
    [Bomb::None, Bomb::Poll, Bomb::LatePoll, Bomb::Drop, Bomb::PollAndDrop, Bomb::Output];
const OWNERS: [Owner; 7] =
    [Awaits, AwaitsLate, DropsAtOnce, DropsLate, Aborts, AbortsLate, LeavesItToShutdown];

/// What is alive, and explodes if it is to.
struct Load(#[allow(dead_code, reason = "counts")] Option<Rc<()>>, Option<&'static str>);

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(text) = self.1.take() {
            drop(PanicOnDrop(text));
        }
    }
}

async fn explosive(bomb: Bomb, alive: Rc<()>) -> Load {
    let on_drop = matches!(bomb, Bomb::Drop | Bomb::PollAndDrop).then_some("future");
    let _load = Load(Some(alive.clone()), on_drop);
    if bomb == Bomb::Poll || bomb == Bomb::PollAndDrop {
        panic_quietly("poll");
    }
    yield_now().await;
    if bomb == Bomb::LatePoll {
        panic_quietly("late poll");
    }
    if bomb == Bomb::Drop {
        // An output beside a local whose destructor panics is leaked by the compiler (rust-lang/rust#47949).
        return Load(None, None);
    }
    Load(Some(alive), (bomb == Bomb::Output).then_some("output"))
}

async fn settle() {
    for _ in 0..4 {
        yield_now().await;
    }
}

/// Does what the owner does; `Some` = how the task ended.
async fn treat(task: JoinHandle<Load>, owner: Owner) -> Option<&'static str> {
    match owner {
        AwaitsLate | DropsLate | AbortsLate => settle().await,
        Awaits | DropsAtOnce | Aborts | LeavesItToShutdown => {}
    }
    match owner {
        DropsAtOnce | DropsLate => {
            let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(task)));
            let _ = dropped.map_err(drop);
            return None;
        }
        LeavesItToShutdown => {
            drop(task);
            return None;
        }
        Aborts | AbortsLate => task.abort(),
        Awaits | AwaitsLate => {}
    }
    Some(match task.await {
        Ok(mut output) => {
            output.1 = None;
            "done"
        }
        Err(error) if error.is_panic() => "panic",
        Err(_) => "cancelled",
    })
}

fn expected(bomb: Bomb, owner: Owner) -> Option<&'static str> {
    let ends = match bomb {
        Bomb::None | Bomb::Output => "done",
        // The destructor runs inside the last poll.
        Bomb::Poll | Bomb::LatePoll | Bomb::Drop | Bomb::PollAndDrop => "panic",
    };
    match owner {
        Awaits | AwaitsLate | AbortsLate => Some(ends),
        Aborts => Some("cancelled"),
        DropsAtOnce | DropsLate | LeavesItToShutdown => None,
    }
}

#[test]
fn trap_16_every_panic_with_every_end_of_the_handle() {
    on_balanced_thread(|clock| {
        let watch = Watch::here();
        for bomb in BOMBS {
            for owner in OWNERS {
                let alive = Rc::new(());
                let runtime = Runtime::builder().clock(clock).build().unwrap();
                runtime.block_on(async {
                    let task = runtime::spawn_in(&Context::root("trap 16"), explosive(bomb, alive.clone()));
                    assert_eq!(treat(task, owner).await, expected(bomb, owner), "{bomb:?} {owner:?}");
                    assert_eq!(Context::current().class(), "main", "{bomb:?} {owner:?}");
                    if owner != LeavesItToShutdown {
                        settle().await;
                        assert_eq!(runtime::spawn(async { 1 }).await.unwrap(), 1);
                    }
                });
                drop(runtime);
                assert_eq!(Rc::strong_count(&alive), 1, "{bomb:?} {owner:?}");
                assert!(Context::current().is_sentinel());
                let unheard = watch.kinds();
                let heard =
                    bomb == Bomb::None || expected(bomb, owner).is_some() || owner == LeavesItToShutdown;
                assert_eq!(unheard.is_empty(), heard, "{bomb:?} {owner:?}: {unheard:?}");
                assert!(unheard.iter().all(|kind| *kind == ReportKind::UnhandledPanic));
            }
        }
    });
}

struct Explodes;

impl Wake for Explodes {
    fn wake(self: Arc<Self>) {
        panic_quietly("waker")
    }
}

impl Drop for Explodes {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic_quietly("waker's drop")
        }
    }
}

#[test]
fn trap_16_a_join_waker_that_panics_when_woken_and_when_dropped() {
    on_balanced_thread(|clock| {
        let runtime = Runtime::builder().clock(clock).build().unwrap();
        runtime.block_on(async {
            let mut task = Box::pin(runtime::spawn_in(&Context::root("trap 16"), yield_now()));
            let foreign = Waker::from(Arc::new(Explodes));
            let mut cx = std::task::Context::from_waker(&foreign);
            assert!(task.as_mut().poll(&mut cx).is_pending());
            settle().await;
            task.await.unwrap();
            let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(foreign)));
            assert!(dropped.is_err());
            assert_eq!(Context::current().class(), "main");
        });
    });
}

/// A destructor that spawns, aborts and drops handles while its thread panics.
#[test]
fn trap_16_a_destructor_may_use_the_runtime_while_panicking() {
    struct Busy;
    impl Drop for Busy {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            let task = runtime::spawn(async {});
            task.abort();
            let _entered = Context::root("trap 16 unwinding").enter();
            Context::root("trap 16 scope").scope(|| ());
        }
    }
    on_balanced_thread(|clock| {
        let runtime = Runtime::builder().clock(clock).build().unwrap();
        runtime.block_on(async {
            let task = runtime::spawn_in(&Context::root("trap 16"), async {
                let _busy = Busy;
                panic_quietly("first");
            });
            assert!(task.await.unwrap_err().is_panic());
            settle().await;
            assert_eq!(Context::current().class(), "main");
        });
    });
}
