//! P13, P18: wakers of those who wait for a cancellation may be foreign code.

use crate::trace::panic_quietly;
use crate::watch::Watch;
use context::{Context, Reason, ReportKind};
use runtime::Runtime;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::task::{self, Wake, Waker};

#[derive(Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic_quietly("b16 waker");
    }
}

type Waits = Vec<Pin<Box<context::WaitCancelled>>>;

/// Ten who wait, the fourth of whom has a waker that panics.
fn ten_waits(context: &Context) -> (Waits, Arc<Count>) {
    let count = Arc::new(Count::default());
    let (good, bad) = (Waker::from(count.clone()), Waker::from(Arc::new(Panics)));
    let mut waits: Waits = (0..10).map(|_| Box::pin(context.cancelled())).collect();
    for (n, wait) in waits.iter_mut().enumerate() {
        let waker = if n == 3 { &bad } else { &good };
        assert!(wait.as_mut().poll(&mut task::Context::from_waker(waker)).is_pending());
    }
    (waits, count)
}

#[test]
fn p17_b16_a_waker_that_panics_keeps_no_other_from_being_woken_by_a_cancel() {
    let watch = Watch::here();
    let (root, ways) = (Context::root("b16 root"), ["b16 itself", "b16 below"]);
    for (class, top) in ways.into_iter().zip([None, Some(&root)]) {
        let context = root.child(class);
        let (waits, count) = ten_waits(&context);
        assert!(top.unwrap_or(&context).cancel(Reason::Shutdown));
        assert_eq!(count.0.load(SeqCst), 9, "{class}");
        let report = watch.only();
        assert_eq!((report.kind, report.detail.as_str()), (ReportKind::UnhandledPanic, "b16 waker"));
        drop(waits);
    }
}

#[test]
fn p17_b16_nor_by_a_finish() {
    let watch = Watch::here();
    let runtime = Runtime::new().unwrap();
    for below in [false, true] {
        let request = Context::root("b16 finishes");
        let context = if below { request.child("b16 part") } else { request.clone() };
        let (waits, count) = ten_waits(&context);
        let current = runtime.block_on(async {
            request.run(async {}).await;
            Context::current().class()
        });
        assert_eq!(
            (current, count.0.load(SeqCst), watch.only().kind),
            ("main", 9, ReportKind::UnhandledPanic)
        );
        drop(waits);
    }
}

/// A waker whose end takes the lock of its context: adding a hook does.
struct EndsLocked(Context);

impl Wake for EndsLocked {
    fn wake(self: Arc<Self>) {}
}

impl Drop for EndsLocked {
    fn drop(&mut self) {
        self.0.on_finish(|_| ());
    }
}

/// If they ended under the lock, this would hang.
#[test]
fn p13_u12_wakers_end_outside_of_all_locks() {
    let request = Context::root("u12 request");
    let waker = || Waker::from(Arc::new(EndsLocked(request.clone())));
    let poll = |wait: &mut Pin<Box<context::WaitCancelled>>| {
        assert!(wait.as_mut().poll(&mut task::Context::from_waker(&waker())).is_pending());
    };
    let [mut replaced, mut dropped, mut cancelled] = [(); 3].map(|()| Box::pin(request.cancelled()));
    poll(&mut replaced);
    poll(&mut replaced);
    poll(&mut dropped);
    drop(dropped);
    poll(&mut cancelled);
    request.cancel(Reason::Shutdown);
    drop((replaced, cancelled));
}

/// The mutant: those who have gone stay in the list.
#[test]
fn p13_m95_waits_that_were_dropped_leave_nothing_behind() {
    let request = Context::root("m95 request");
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    for _ in 0..100 {
        let mut wait = Box::pin(request.cancelled());
        assert!(wait.as_mut().poll(&mut task::Context::from_waker(&waker)).is_pending());
    }
    // Its own, and the one here.
    assert_eq!(Arc::strong_count(&count), 2);
    request.cancel(Reason::Shutdown);
    assert_eq!(count.0.load(SeqCst), 0, "nobody is left to be woken");
}

struct PanicsAtItsEnd;

impl Wake for PanicsAtItsEnd {
    fn wake(self: Arc<Self>) {}
}

impl Drop for PanicsAtItsEnd {
    fn drop(&mut self) {
        panic_quietly("b16 end of a waker");
    }
}

#[test]
fn p17_b16_the_end_of_a_waker_may_panic_too() {
    let watch = Watch::here();
    let request = Context::root("b16 ends");
    let mut wait = Box::pin(request.cancelled());
    {
        let waker = Waker::from(Arc::new(PanicsAtItsEnd));
        assert!(wait.as_mut().poll(&mut task::Context::from_waker(&waker)).is_pending());
        // The list has the last one from here on.
    }
    drop(wait);
    assert_eq!(watch.only().detail, "b16 end of a waker");
}
