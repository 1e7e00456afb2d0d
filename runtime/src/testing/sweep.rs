//! Cutting a request at every await it has (X3).

use super::{Options, Watch, quiet_runtime};
use crate::current::{self, Core};
use crate::spawn::yield_now;
use crate::time::{sleep, timeout};
use context::{Context, FutureExt, Reason};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// How a request is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Its future is dropped where it waits: the client went away.
    Drop,
    /// The same after what it waits for has come, before it is polled: the moment at which hand-offs are lost.
    DropWoken,
    /// Its context is cancelled, and it is awaited as `cancellable`.
    Cancel,
}

/// How long, in paused time, a request may take before it counts as stuck.
const STUCK: Duration = Duration::from_secs(24 * 60 * 60);
/// Turns for what a cut request left behind to come to rest.
const REST: usize = 256;

/// Re-runs the request that `make` makes, cut at each of its awaits in turn: by dropping it where it waits, by dropping
/// it when it has just been woken, and by cancelling its context. After each cut it looks whether the context has finished, whether the sentinel saw anything, and whether a
/// whole request still gets through: a lock whose hand-off was lost shows as one that does not.
///
/// `make` is called some six times for each await; what it captures is what the requests share (locks, caches,
/// pools), and is made inside, by `set_up`, since most of that belongs to a runtime. Time is paused. Returns at how many
/// awaits it was cut.
///
/// ```
/// use runtime::testing::sweep;
///
/// let cuts = sweep("doc", || (), |()| async {
///     runtime::yield_now().await;
///     runtime::yield_now().await;
/// });
/// assert_eq!(cuts, 2);
/// ```
///
/// # Panics
///
/// At the first cut that does harm, with what it did and at which await.
pub fn sweep<S, F>(name: &'static str, set_up: impl FnOnce() -> S, mut make: impl FnMut(&S) -> F) -> u32
where
    F: Future,
{
    let reports = Watch::new();
    let options = Options { name, paused: true, ..Options::default() };
    quiet_runtime(&options, None).block_on(async {
        let shared = set_up();
        whole(name, &mut || make(&shared), "before any cut").await;
        let mut cuts = 0;
        loop {
            // A job on another thread may be back before it is awaited: one that ended early is not the end.
            let mut ended = true;
            for cut in [Cut::Drop, Cut::DropWoken, Cut::Cancel] {
                ended &= cut_once(name, cut, cuts + 1, make(&shared), &reports).await;
                let when = format!("after a request was cut at await {} by {cut:?}", cuts + 1);
                whole(name, &mut || make(&shared), &when).await;
                judge(name, &reports, &when);
            }
            if ended {
                return cuts;
            }
            cuts += 1;
        }
    })
}

/// Runs a request up to its await number `at`, and cuts it there. Whether it ended before.
async fn cut_once<F: Future>(name: &str, cut: Cut, at: u32, request: F, reports: &Watch) -> bool {
    let context = Context::root(name);
    let mut future = Box::pin(context.run(request.cancellable()));
    let woken = cut == Cut::DropWoken;
    let cut_off = timeout(STUCK, run_to_await(future.as_mut(), at, woken)).await;
    let ended = cut_off.unwrap_or_else(|_| panic!("{name}: nothing wakes it from await {at}"));
    if !ended && cut == Cut::Cancel {
        context.cancel(Reason::Disconnected);
        let late = timeout(STUCK, future.as_mut()).await;
        assert!(late.is_ok(), "{name}: cancelled at await {at}, it never ended");
    }
    drop(future);
    rest().await;
    assert!(context.is_finished(), "{name}: cut at await {at} by {cut:?}, its context did not finish");
    judge(name, reports, &format!("cut at await {at} by {cut:?}"));
    ended
}

/// Waits until what was left behind has come to rest, jobs on other threads included.
async fn rest() {
    loop {
        for _ in 0..REST {
            yield_now().await;
        }
        if !current::with(|core| core.is_some_and(Core::has_work_elsewhere)) {
            return;
        }
        // Paused time moves when they are back.
        sleep(Duration::from_nanos(1)).await;
    }
}

/// Polls it whenever it is woken, until it has been pending `at` times; and then waits for the next wake, if `woken`.
async fn run_to_await<F: Future>(mut future: Pin<&mut F>, at: u32, woken: bool) -> bool {
    let mut awaits = 0;
    poll_fn(|cx| {
        if awaits == at {
            return Poll::Ready(false);
        }
        match future.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending => {
                awaits += 1;
                if awaits == at && !woken { Poll::Ready(false) } else { Poll::Pending }
            }
        }
    })
    .await
}

/// One whole request, which must get through.
async fn whole<F: Future>(name: &str, make: &mut dyn FnMut() -> F, when: &str) {
    let done = timeout(STUCK, Context::root(name).run(make())).await;
    assert!(done.is_ok(), "{name}: a whole request is stuck {when}");
}

fn judge(name: &str, reports: &Watch, when: &str) {
    let here = Context::current();
    assert!(here.is_sentinel(), "{name}: {here} is current in the loop {when}");
    let seen = reports.take();
    assert!(seen.is_empty(), "{name}: the sentinel reported, {when}: {}", seen[0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;
    use std::rc::Rc;
    use std::task::Waker;

    /// A lock that forgets its waiters when one of them goes after it was chosen: the planted bug, if `careless`.
    #[derive(Default)]
    struct Lock {
        held: Cell<bool>,
        waiters: RefCell<VecDeque<Rc<Waiter>>>,
        careless: bool,
    }

    #[derive(Default)]
    struct Waiter {
        chosen: Cell<bool>,
        waker: RefCell<Option<Waker>>,
    }

    struct Turn<'a>(&'a Lock, Rc<Waiter>, bool);

    impl Lock {
        fn lock(&self) -> Turn<'_> {
            let waiter = Rc::new(Waiter::default());
            if self.held.replace(true) {
                self.waiters.borrow_mut().push_back(waiter.clone());
            } else {
                waiter.chosen.set(true);
            }
            Turn(self, waiter, false)
        }

        fn unlock(&self) {
            let next = self.waiters.borrow_mut().pop_front();
            match next {
                Some(next) => {
                    next.chosen.set(true);
                    next.waker.borrow_mut().take().into_iter().for_each(Waker::wake);
                }
                None => self.held.set(false),
            }
        }
    }

    impl Future for Turn<'_> {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<()> {
            if self.1.chosen.get() {
                self.2 = true;
                return Poll::Ready(());
            }
            *self.1.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        }
    }

    impl Drop for Turn<'_> {
        fn drop(&mut self) {
            let (lock, waiter) = (self.0, self.1.clone());
            if !waiter.chosen.get() {
                lock.waiters.borrow_mut().retain(|other| !Rc::ptr_eq(other, &waiter));
            } else if !self.2 && !lock.careless {
                lock.unlock();
            }
        }
    }

    struct Unlock<'a>(&'a Lock);

    impl Drop for Unlock<'_> {
        fn drop(&mut self) {
            self.0.unlock();
        }
    }

    /// Another task holds the lock for a while, then hands it to the request.
    async fn request(lock: Rc<Lock>) {
        let other = lock.clone();
        let holder = crate::background("x3 other", async move {
            other.lock().await;
            let _unlock = Unlock(&other);
            crate::yield_now().await;
            Ok::<_, String>(())
        });
        crate::yield_now().await;
        lock.lock().await;
        let _unlock = Unlock(&lock);
        crate::yield_now().await;
        drop(holder);
    }

    #[test]
    fn x3_a_correct_request_survives_a_cut_at_every_await() {
        let cuts = sweep("x3 sound", || Rc::new(Lock::default()), |lock| request(lock.clone()));
        assert!(cuts >= 3, "{cuts}");
    }

    #[test]
    fn x3_a_lock_that_loses_its_hand_off_is_found() {
        let lock = || Rc::new(Lock { careless: true, ..Lock::default() });
        let found = std::panic::catch_unwind(|| sweep("x3 careless", lock, |lock| request(lock.clone())));
        let panic = found.unwrap_err();
        let text = context::panic_message(&*panic);
        assert!(text.contains("a whole request is stuck after a request was cut"), "{text}");
    }
}
