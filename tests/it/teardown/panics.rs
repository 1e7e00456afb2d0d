//! A payload whose destructor panics; a future whose destructor panics on its way from another thread.

use super::{About, Bomb, explode};
use crate::trace::PanicOnDrop;
use context::Context;
use runtime::time::timeout;
use runtime::{JoinError, JoinHandle, Runtime};
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

fn survives(class: &'static str, work: impl AsyncFnOnce(&Context)) {
    let about = About::class(class);
    let runtime = Runtime::new().unwrap();
    let context = Context::root(class);
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work(&context))));
    if let Err(payload) = ended {
        std::mem::forget(payload);
        panic!("it came out of `block_on`");
    }
    drop(runtime);
    assert_eq!(about.panics(), 1);
}

#[test]
fn u9_a_payload_that_explodes_stays_with_its_task() {
    survives("u9 task", async |context| {
        drop(runtime::spawn_in(context, async { explode() }));
        runtime::yield_now().await;
        runtime::spawn_in(context, async {}).await.unwrap();
    });
}

#[test]
fn u9_a_payload_that_explodes_is_dropped_with_the_handle() {
    survives("u9 ended", async |context| {
        let task = runtime::spawn_in(context, async { explode() });
        while !task.is_finished() {
            runtime::yield_now().await;
        }
        drop(task);
    });
}

#[test]
fn u9_a_payload_that_explodes_stays_with_its_job() {
    survives("u9 job", async |context| {
        drop(context.scope(|| runtime::spawn_blocking(|| explode())));
        // There is one thread, unless the first one is still busy.
        context.scope(|| runtime::spawn_blocking(|| ())).await.unwrap();
    });
}

#[test]
fn u9_the_future_of_block_on_panics_in_its_poll_and_in_its_drop() {
    let runtime = Runtime::new().unwrap();
    let bomb = Bomb(3);
    let future = poll_fn(move |_| -> Poll<()> {
        let _kept_until_the_drop = &bomb;
        std::panic::resume_unwind(Box::new("first"))
    });
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(future)));
    assert_eq!(ended.unwrap_err().downcast_ref(), Some(&"first"));
}

#[test]
fn u9_the_output_of_block_on_explodes_as_the_future_did() {
    let about = About::class("u9 main");
    let runtime = Runtime::builder().class("u9 main").build().unwrap();
    let bomb = PanicOnDrop("the future");
    let future = poll_fn(move |_| {
        let _kept_until_the_drop = &bomb;
        Poll::Ready(Bomb(3))
    });
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(future).0));
    assert_eq!(ended.unwrap_err().downcast_ref(), Some(&"the future"));
    assert_eq!(about.panics(), 1, "the output's");
}

/// How `job` ends; it does not hang.
async fn end<T>(job: JoinHandle<T>) -> Result<T, JoinError> {
    timeout(Duration::from_secs(20), job).await.expect("it hangs")
}

fn is_panic<T>(ended: Result<T, JoinError>) -> bool {
    ended.is_err_and(|error| error.is_panic())
}

#[test]
fn r2_a_sent_future_whose_drop_panics_completes_as_panicked() {
    let home = Runtime::new().unwrap();
    let handle = home.handle().clone();
    let (step, steps) = mpsc::channel();
    let (go, goes) = mpsc::channel();
    let other = thread::spawn(move || {
        let send = |wait: bool| {
            let bomb = PanicOnDrop("r2");
            Context::root("r2").scope(|| {
                handle.spawn(async move {
                    let _bomb = bomb;
                    if wait {
                        pending::<()>().await;
                    }
                })
            })
        };
        let (completes, waits, before) = (send(false), send(true), send(false));
        before.abort();
        step.send(()).unwrap();
        goes.recv().unwrap();
        waits.abort();
        let undelivered = send(false);
        step.send(()).unwrap();
        goes.recv().unwrap();
        let refused = send(false);
        Runtime::new().unwrap().block_on(async {
            let mut all = Vec::new();
            for job in [completes, waits, before, undelivered, refused] {
                all.push(is_panic(end(job).await));
            }
            all
        })
    });
    steps.recv().unwrap();
    home.block_on(runtime::time::sleep(Duration::from_millis(1)));
    go.send(()).unwrap();
    steps.recv().unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(home))).is_ok(), "it came out of the drop of the runtime");
    go.send(()).unwrap();
    assert_eq!(other.join().unwrap(), [true; 5]);
}

#[test]
fn r2_a_runtime_that_is_dropped_while_its_thread_panics_drops_what_was_sent() {
    let ended = catch_unwind(|| {
        let runtime = Runtime::new().unwrap();
        let bomb = Bomb(3);
        let _job = Context::root("r2 unwinding").scope(|| {
            runtime.handle().spawn(async move {
                let _bomb = bomb;
            })
        });
        std::panic::resume_unwind(Box::new("first"))
    });
    let payload = ended.map(|(): ()| ()).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"first"));
}

/// Refused at shutdown, it is dropped in its context.
#[test]
fn r2_a_future_that_is_refused_and_explodes_does_not_panic_the_one_that_spawns() {
    struct Spawns(mpsc::Sender<bool>);
    impl Drop for Spawns {
        fn drop(&mut self) {
            let bomb = PanicOnDrop("r2 refused");
            let refused = runtime::spawn_in(&Context::root("r2 refused"), async move {
                let _bomb = bomb;
            });
            self.0.send(refused.is_finished()).unwrap();
        }
    }
    let about = About::class("r2 refused");
    let (told, tells) = mpsc::channel();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let spawns = Spawns(told);
        drop(runtime::spawn_in(&Context::root("r2 leftover"), async move {
            let _spawns = spawns;
            pending::<()>().await;
        }));
        runtime::yield_now().await;
    });
    drop(runtime);
    assert_eq!(tells.try_recv(), Ok(true));
    assert_eq!(about.panics(), 1, "nobody took it");
}
