//! Traps 20 and 25: what must not stay active, and what must not keep a request alive.

use crate::books::{current_class, lives, on_own_thread};
use crate::promise::{Promise, cut};
use crate::trace::panic_quietly;
use crate::watch::Watch;
use context::{Context, FutureExt, ReportKind};
use runtime::{Runtime, yield_now};
use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;

/// How a piece of work leaves the thread.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    Yields,
    Panics,
    Pends,
}

async fn leave(how: Leaves) {
    match how {
        Leaves::Yields => yield_now().await,
        Leaves::Panics => panic_quietly("trap 20"),
        Leaves::Pends => pending().await,
    }
}

/// By enumeration: how it leaves, in a task of its own or as a part of one, with a guard or without.
#[test]
fn trap_20_nothing_stays_active_however_a_future_leaves() {
    on_own_thread(|| {
        let watch = Watch::here();
        // What pends has no waker, and is an orphan whenever a turn ends before it is aborted: that is no matter here.
        let runtime = Runtime::builder().track_wakers(false).build().unwrap();
        runtime.block_on(async {
            for how in [Leaves::Yields, Leaves::Panics, Leaves::Pends] {
                for (part, guarded) in [(false, false), (false, true), (true, false), (true, true)] {
                    let work = async move {
                        let guard = guarded.then(|| Context::root("trap 20 guard").enter());
                        leave(how).await;
                        assert_eq!(current_class(), if part { "trap 20 part" } else { "trap 20 task" });
                        drop(guard);
                    };
                    let context = Context::root("trap 20 task");
                    let task = if part {
                        runtime::spawn_in(&context, work.in_context(Context::root("trap 20 part")))
                    } else {
                        runtime::spawn_in(&context, work)
                    };
                    let next = runtime::spawn(async { current_class() });
                    assert_eq!(next.await.unwrap(), "main", "{how:?} {part} {guarded}");
                    task.abort();
                    let _ = task.await;
                    assert_eq!(current_class(), "main", "{how:?} {part} {guarded}");
                }
            }
        });
        let reports = watch.kinds();
        // With the panic the guard is let go on unwind.
        assert_eq!(reports, [ReportKind::GuardAcrossAwait; 4]);
    });
}

#[runtime::test]
async fn trap_20_a_context_finished_and_gone_while_current_is_no_harm() {
    let context = Context::root("trap 20 gone");
    let (id, only) = (context.id(), RefCell::new(Some(context.clone())));
    context.run(async { drop(only.take()) }).await;
    assert!(lives(id));
    drop(context);
    assert!(!lives(id));
    let task = runtime::spawn_in(&Context::root("trap 20 alone"), async { Context::current().id() });
    let id = task.await.unwrap();
    assert!(!lives(id));
}

/// Whatever was made in a request and is kept by others: no part of it holds the request.
#[runtime::test]
async fn trap_25_locks_and_wakers_kept_elsewhere_do_not_keep_a_request() {
    let request = Context::root("trap 25");
    let id = request.id();
    let promise: Promise<()> = Promise::new();
    let wakers = Rc::new(RefCell::new(Vec::new()));
    let (waits, left) = (promise.clone(), wakers.clone());
    let work = request.run(async move {
        poll_fn(|cx| {
            left.borrow_mut().push(cx.waker().clone());
            Poll::Ready(())
        })
        .await;
        waits.await
    });
    assert!(cut(work, 1).await.is_none());
    drop(request);
    assert!(!lives(id), "the promise still has its waker, and not its request");
    promise.complete(());
    wakers.borrow_mut().drain(..).for_each(std::task::Waker::wake);
}
