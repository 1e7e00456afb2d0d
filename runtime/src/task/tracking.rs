//! Which wakers of a task are alive (P19): with tracking on, a task's wakers are counted, and when the last one goes while
//! the task is idle, nothing is left that could ever wake it.
//!
//! Counting is what a plain waker spares ([`crate::waker`]): an atomic addition for each clone and each drop. Hence
//! only in debug builds, unless asked for.
//!
//! Not seen: a task that is kept by a waker inside of its own future, as by a channel whose both ends it holds.

use crate::handle::{Packed, RuntimeId};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Weak};
use std::task::Wake;

/// What all wakers of one task share; counted by `Arc`, so its destructor is the end of the last of them.
pub(crate) struct Tracked {
    runtime: RuntimeId,
    handle: Packed,
    /// What a wake does, and what the end of the last waker does: given by the code that knows how to reach the runtime.
    wake: fn(Packed),
    gone: fn(RuntimeId, Packed),
}

impl Wake for Tracked {
    fn wake(self: Arc<Self>) {
        (self.wake)(self.handle);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        (self.wake)(self.handle);
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        (self.gone)(self.runtime, self.handle);
    }
}

/// The tracked tasks of one runtime.
pub(crate) struct Tracking {
    runtime: RuntimeId,
    wakers: RefCell<HashMap<Packed, Weak<Tracked>>>,
    /// Tasks whose last waker went since the loop last looked.
    suspects: Cell<Vec<Packed>>,
}

impl Tracking {
    /// Those of that runtime.
    pub(crate) fn new(runtime: RuntimeId) -> Self {
        Self { runtime, wakers: RefCell::default(), suspects: Cell::default() }
    }

    /// The task's wakers, to poll it with one more.
    pub(crate) fn waker(
        &self,
        handle: Packed,
        wake: fn(Packed),
        gone: fn(RuntimeId, Packed),
    ) -> Arc<Tracked> {
        let mut wakers = self.wakers.borrow_mut();
        let entry = wakers.entry(handle).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let tracked = Arc::new(Tracked { runtime: self.runtime, handle, wake, gone });
            *entry = Arc::downgrade(&tracked);
            tracked
        })
    }

    /// The task is done: whatever becomes of its wakers.
    pub(crate) fn forget(&self, handle: Packed) {
        self.wakers.borrow_mut().remove(&handle);
    }

    pub(crate) fn suspect(&self, handle: Packed) {
        let mut suspects = self.suspects.take();
        suspects.push(handle);
        self.suspects.set(suspects);
    }

    /// The suspects that have no waker; each comes up once.
    pub(crate) fn take_suspects(&self) -> Vec<Packed> {
        let mut suspects = self.suspects.take();
        if !suspects.is_empty() {
            let wakers = self.wakers.borrow();
            suspects.retain(|handle| wakers.get(handle).is_some_and(|weak| weak.strong_count() == 0));
            // What the last holder did before, a wake say, happened before what follows here.
            fence(Ordering::Acquire);
        }
        suspects
    }
}

#[cfg(test)]
mod tests {
    use crate::Runtime;
    use context::{Context, Report, ReportKind};
    use std::cell::RefCell;
    use std::future::{Future, pending, poll_fn};
    use std::rc::Rc;
    use std::sync::{Arc, Mutex};
    use std::task::{Poll, Waker};

    /// The orphans that are reported while `future` runs with its wakers tracked.
    fn orphans(future: impl Future<Output = ()>) -> Vec<Report> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (sink, thread) = (seen.clone(), std::thread::current().id());
        let builder = Runtime::builder().track_wakers(true).on_report(move |report| {
            if report.kind == ReportKind::Orphaned && std::thread::current().id() == thread {
                sink.lock().unwrap().push(report.clone());
            }
        });
        builder.build().unwrap().block_on(future);
        let seen = seen.lock().unwrap();
        seen.clone()
    }

    async fn turns(n: usize) {
        for _ in 0..n {
            crate::yield_now().await;
        }
    }

    #[test]
    fn p19_a_task_that_left_no_waker_is_reported_once_with_its_name_and_line() {
        let line = line!() + 3;
        let found = orphans(async {
            let context = Context::root("p19 lost");
            drop(crate::spawn_in(&context, pending::<()>()));
            turns(600).await;
        });
        let [report] = &found[..] else { panic!("{found:?}") };
        assert!(report.context.starts_with("p19 lost#"), "{report}");
        assert_eq!((report.place.line(), report.place.file()), (line, file!()));
    }

    #[test]
    fn p19_a_task_is_an_orphan_when_its_last_waker_goes_and_not_before() {
        let kept: Rc<RefCell<Option<Waker>>> = Rc::default();
        let keep = kept.clone();
        let found = orphans(async move {
            drop(crate::spawn(poll_fn(move |cx| {
                *keep.borrow_mut() = Some(cx.waker().clone());
                Poll::<()>::Pending
            })));
            turns(600).await;
            assert!(kept.borrow().is_some());
            let waker = kept.borrow_mut().take();
            std::thread::spawn(move || drop(waker)).join().unwrap();
            turns(600).await;
        });
        assert_eq!(found.len(), 1, "{found:?}");
    }

    /// The wake comes from another thread and is still in the inbox when the last waker goes here.
    #[test]
    fn p19_a_task_whose_wake_is_on_its_way_is_no_orphan() {
        let kept: Rc<RefCell<Option<Waker>>> = Rc::default();
        let keep = kept.clone();
        let found = orphans(async move {
            let woken = crate::spawn(poll_fn(move |cx| {
                let before = keep.borrow_mut().replace(cx.waker().clone());
                if before.is_some() { Poll::Ready(()) } else { Poll::Pending }
            }));
            turns(2).await;
            let waker = kept.borrow_mut().replace(Waker::noop().clone()).expect("it was polled");
            let waker = std::thread::spawn(move || {
                waker.wake_by_ref();
                waker
            });
            drop(waker.join().unwrap());
            woken.await.unwrap();
        });
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn p19_a_main_future_that_nothing_can_wake_is_reported_with_its_context_and_line() {
        let (told, hear) = std::sync::mpsc::channel();
        let stuck = std::thread::spawn(move || {
            let builder = Runtime::builder().class("p19 main").track_wakers(true);
            let runtime = builder.on_report(move |report| drop(told.send(report.clone()))).build().unwrap();
            runtime.block_on(pending::<()>());
        });
        let report = loop {
            let report = hear.recv().unwrap();
            if report.kind == ReportKind::Orphaned && report.context.starts_with("p19 main#") {
                break report;
            }
        };
        assert_eq!(report.place.file(), file!());
        // Nothing can end that loop; the thread goes with the process.
        drop(stuck);
    }

    #[test]
    fn p19_tasks_that_are_woken_in_time_are_no_orphans() {
        let found = orphans(async {
            let sleeper = crate::spawn(crate::time::sleep(std::time::Duration::from_millis(1)));
            let yielder = crate::spawn(turns(100));
            let joiner = crate::spawn(async move { yielder.await.unwrap() });
            sleeper.await.unwrap();
            joiner.await.unwrap();
        });
        assert!(found.is_empty(), "{found:?}");
    }
}
