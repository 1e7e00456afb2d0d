//! Forked children, and `exit` on top of a loop. Fenced, for fork(2). Each test runs in a process of its own, with one thread.
#![allow(unsafe_code)]

use super::child::{alone, ends_well};
use crate::books::lives;
use crate::trace::{PanicOnDrop, Trace};
use context::{Clock, Context, FutureExt, harness};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use runtime::Runtime;
use runtime::net::{TcpListener, TcpStream};
use std::cell::Cell;
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use std::task::{Poll, Waker};
use std::time::Duration;
use std::{process, ptr, thread};

const TEXT: &str = "the process has forked";

/// Forks, and runs `f` in the child. Returns, in the parent, how the child ended: well, or by what.
fn in_child(f: impl FnOnce()) {
    // SAFETY: no other thread of this process runs or holds a lock: see the module.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let ended = catch_unwind(AssertUnwindSafe(f));
        // SAFETY: ends the process, and runs nothing more.
        unsafe { libc::_exit(i32::from(ended.is_err())) }
    }
    assert_eq!(wait(child), 0, "how the child ended");
}

fn wait(child: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is valid for a write.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    status
}

/// `f` panics, and says why.
#[track_caller]
fn refuses<R>(f: impl FnOnce() -> R) {
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else { panic!("it did not panic") };
    let text = context::panic_message(&*payload);
    assert!(text.contains(TEXT), "{text}");
}

/// Leaves the CPU, so that no clock can go on by its mark.
fn rest() {
    let resting = thread::spawn(|| ());
    resting.join().unwrap();
}

#[test]
fn u10_a_child_that_exits_is_silent() {
    let said = ends_well("teardown::forks::u10_a_child_that_exits_is_silent", || {
        Context::root("u10").scope(|| ());
        in_child(|| process::exit(0));
        Runtime::new().unwrap().block_on(async {
            in_child(|| {
                rest();
                process::exit(0)
            });
        });
    });
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn u10_frames_and_guards_end_in_a_child_as_ever() {
    ends_well("teardown::forks::u10_frames_and_guards_end_in_a_child_as_ever", || {
        for clock in [Clock::Auto, Clock::PerfPage, Clock::ThreadTime] {
            drop(harness::enter_loop(clock, None));
            let (outer, inner) = (Context::root("u10 outer"), Context::root("u10 inner"));
            let id = outer.id();
            in_child(|| {
                outer.scope(|| {
                    rest();
                    let guard = inner.enter();
                    rest();
                    assert_eq!(Context::current(), inner);
                    drop(guard);
                    assert_eq!(Context::current(), outer);
                });
                assert!(Context::current().is_sentinel());
                drop((outer, inner));
                assert!(!lives(id));
            });
        }
        // The fork is inside of the frame.
        let outer = Context::root("u10 outer");
        let mut is_parent = true;
        // SAFETY: as in `in_child`.
        let child = outer.scope(|| unsafe { libc::fork() });
        if child == 0 {
            is_parent = false;
            rest();
        }
        assert!(Context::current().is_sentinel());
        drop(outer);
        assert!(Context::current().is_sentinel());
        if !is_parent {
            process::exit(0);
        }
        assert_eq!(wait(child), 0);
    });
}

#[test]
fn u10_what_a_child_cannot_do_fails_and_says_why() {
    ends_well("teardown::forks::u10_what_a_child_cannot_do_fails_and_says_why", || {
        let parent = Runtime::new().unwrap();
        let handle = parent.handle().clone();
        parent.block_on(async {
            let before = Context::current();
            in_child(|| {
                refuses(|| Context::root("u10"));
                refuses(|| before.child("u10"));
                refuses(|| runtime::spawn_in(&before, async {}));
                refuses(|| before.scope(|| runtime::spawn(async {})));
                refuses(|| before.scope(|| runtime::spawn_blocking(|| ())));
                refuses(|| parent.block_on(async {}));
                refuses(runtime::accounts);
                assert!(Runtime::new().unwrap_err().to_string().contains(TEXT));
                let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
                let bound = futures_lite::future::block_on(TcpListener::bind(address));
                assert!(bound.unwrap_err().to_string().contains(TEXT));
                // A thread of the child's own works; what is the parent's does not, there either.
                let own = thread::spawn(move || {
                    let runtime = Runtime::new().unwrap();
                    runtime.block_on(async move {
                        assert_eq!(runtime::spawn(async { 7 }).await.unwrap(), 7);
                        handle.spawn(async {}).await.unwrap_err().to_string()
                    })
                });
                assert!(own.join().unwrap().contains(TEXT));
            });
        });
        in_child(|| refuses(|| parent.block_on(async {})));
        parent.block_on(async {});
    });
}

#[test]
fn u10_a_loop_does_not_go_on_in_a_child() {
    ends_well("teardown::forks::u10_a_loop_does_not_go_on_in_a_child", || {
        let polled = Rc::new(Cell::new(0));
        let runtime = Runtime::new().unwrap();
        let (child, others) = (Rc::new(Cell::new(None)), polled.clone());
        let forked = child.clone();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async move {
                let fork = runtime::spawn(async move {
                    // SAFETY: as in `in_child`.
                    forked.set(Some(unsafe { libc::fork() }));
                });
                let after = runtime::spawn(async move { others.set(others.get() + 1) });
                fork.await.unwrap();
                after.await.unwrap();
            });
        }));
        if child.get() == Some(0) {
            let text = ended.map_err(|payload| context::panic_message(&*payload).to_owned()).unwrap_err();
            assert!(text.contains(TEXT), "{text}");
            assert_eq!(polled.get(), 0, "the task is the parent's");
            drop(runtime);
            process::exit(0);
        }
        assert!(ended.is_ok() && polled.get() == 1);
        assert_eq!(wait(child.get().unwrap()), 0);
    });
}

/// The drop of the runtime in the child drops no task, waits for no thread, and takes no socket from the parent's poll set.
#[test]
fn u10_a_runtime_that_is_dropped_in_a_child_leaves_the_parent_alone() {
    let name = "teardown::forks::u10_a_runtime_that_is_dropped_in_a_child_leaves_the_parent_alone";
    ends_well(name, || {
        let runtime = Runtime::new().unwrap();
        let trace = Trace::new();
        let (noted, bomb) = (trace.on_drop("task"), PanicOnDrop("in a child"));
        let (listener, mut client, mut served) = runtime.block_on(async {
            drop(runtime::spawn_in(&Context::root("u10 task"), async move {
                let _both = (noted, bomb);
                pending::<()>().await
            }));
            runtime::spawn_blocking(|| ()).await.unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (served, _) = listener.accept().await.unwrap();
            (listener, client, served)
        });
        // SAFETY: as in `in_child`. (The idle thread of the pool waits in the kernel.)
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop((listener, client, served));
            drop(runtime);
            trace.expect(&[]);
            process::exit(0);
        }
        assert_eq!(wait(child), 0);
        runtime.block_on(async {
            let (mut sent, mut got) = (0, 0);
            let mut bytes = [0; 4];
            while got < 4 {
                sent += client.write(&b"ping"[sent..]).await.unwrap();
                got += served.read(&mut bytes[got..]).await.unwrap();
            }
            assert_eq!(&bytes, b"ping");
        });
        std::mem::forget(runtime);
    });
}

unsafe extern "C" {
    fn pthread_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
    ) -> libc::c_int;
}

static MAPPED: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// What the handler of an allocator or a tracer does. The kernel gives it the hole where the page of the clock was.
unsafe extern "C" fn map_in_child() {
    let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, wherever the kernel likes.
    let page = unsafe { libc::mmap(ptr::null_mut(), 4096, rights, kind, -1, 0) }.cast::<u8>();
    // SAFETY: it is ours, and writable.
    unsafe { page.write(7) };
    MAPPED.store(page, Relaxed);
}

#[test]
fn u11_a_page_that_another_handler_maps_in_the_child_stays_as_it_is() {
    ends_well("teardown::forks::u11_a_page_that_another_handler_maps_in_the_child_stays_as_it_is", || {
        // SAFETY: the handler does only what is allowed in a child.
        assert_eq!(unsafe { pthread_atfork(None, None, Some(map_in_child)) }, 0);
        for clock in [Clock::PerfPage, Clock::Auto] {
            let _loop = harness::enter_loop(clock, None);
            in_child(|| {
                rest();
                harness::idle();
                Context::sentinel().scope(|| ());
                let page = MAPPED.load(Relaxed);
                // SAFETY: the handler mapped it, readable and writable.
                assert_eq!(unsafe { page.read() }, 7);
                // SAFETY: the same.
                unsafe { page.write(8) };
            });
            // The parent's clock goes on.
            Context::root("u11").scope(rest);
            assert!(context::accounts().is_some());
        }
    });
}

thread_local! {
    static LAST: Late = const { Late };
    static RUNTIME: Runtime = Runtime::new().unwrap();
}

/// Its destructor runs after that of [`RUNTIME`], which was initialised later.
struct Late;

impl Drop for Late {
    fn drop(&mut self) {
        let mut sleep = std::pin::pin!(runtime::time::sleep(Duration::from_secs(1)));
        let mut cx = std::task::Context::from_waker(Waker::noop());
        let slept = catch_unwind(AssertUnwindSafe(|| sleep.as_mut().poll(&mut cx)));
        assert!(slept.is_err(), "there is no runtime any more");
        assert!(catch_unwind(|| drop(runtime::spawn(async {}))).is_err());
        // The timer of the loop is still the thread's, and does not reach for its runtime.
        let context = Context::builder("u7").timeout(Duration::from_secs(1)).build();
        let mut wait = std::pin::pin!(pending::<()>().cancellable());
        let waits = context.scope(|| wait.as_mut().poll(&mut cx));
        assert!(matches!(waits, Poll::Pending | Poll::Ready(Err(_))));
        eprintln!("the last destructor has run");
    }
}

#[test]
fn u7_exit_in_a_task_of_a_runtime_in_a_thread_local() {
    let output = alone("teardown::forks::u7_exit_in_a_task_of_a_runtime_in_a_thread_local", || {
        LAST.with(|_| ());
        RUNTIME.with(|runtime| {
            runtime.block_on(async {
                for _ in 0..100 {
                    drop(runtime::spawn(runtime::time::sleep(Duration::from_secs(9))));
                }
                runtime::yield_now().await;
                process::exit(0)
            })
        })
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    assert!(said.contains("the last destructor has run"), "{said}");
}
