//! One task of a group.

use super::Shared;
use super::state::{self, Failed, Failure, Seat, Stage};
use crate::unread;
use context::{Context, Name, Reason};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{self, Poll, Waker};

/// However it ends, its destructor lets the next one run and tells who joins.
pub(super) struct Member<T, E: 'static> {
    seat: Seat,
    group: Context,
    /// Of the task, and where it was spawned: for reports.
    context: Name,
    place: &'static Location<'static>,
    shared: Shared<T, E>,
}

impl<T, E: 'static> Member<T, E> {
    pub(super) fn new(
        seat: Seat,
        group: Context,
        context: Name,
        place: &'static Location<'static>,
        shared: Shared<T, E>,
    ) -> Self {
        Self { seat, group, context, place, shared }
    }

    /// The future first: of a task that was never polled the arguments are dropped in this order, and the group is to hear of
    /// the end when the future is gone.
    pub(super) async fn run<F: Future<Output = Result<T, E>>>(future: F, member: Self) {
        let mut future = pin!(Some(future));
        let result = poll_fn(|cx| member.poll(cx, future.as_mut())).await;
        // Gone before the group hears of it. A panic of its destructor is its failure, if it has no other.
        let dropped = catch_unwind(AssertUnwindSafe(|| future.set(None)));
        let result = match (result, dropped) {
            (result, Ok(())) => result,
            (Ok(_) | Err(Failure::Dropped), Err(payload)) => Err(Failure::Panic(payload)),
            (Err(failure), Err(payload)) => {
                unread::report_panic(payload, &member.context, member.place);
                Err(failure)
            }
        };
        member.end(result);
    }

    /// Waits for its turn, then polls the future. Ends early if another member failed.
    fn poll<F: Future<Output = Result<T, E>>>(
        &self,
        cx: &mut task::Context<'_>,
        future: Pin<&mut Option<F>>,
    ) -> Poll<Result<T, Failure<E>>> {
        if self.prepare(cx.waker())?.is_pending() {
            return Poll::Pending;
        }
        let Some(future) = future.as_pin_mut() else { return Poll::Pending };
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => Poll::Ready(result.map_err(Failure::Error)),
            Err(payload) => Poll::Ready(Err(Failure::Panic(payload))),
        }
    }

    /// Ready: it may run. Pending: not yet. An error: it need not any more.
    fn prepare(&self, waker: &Waker) -> Result<Poll<()>, Failure<E>> {
        self.keep(waker);
        let admitted = self.shared.lock().admit(self.seat);
        let (stage, next) = admitted.ok_or(Failure::Dropped)?;
        state::wake(next.into_iter().collect(), self.context, self.place);
        Ok(if stage == Stage::Running { Poll::Ready(()) } else { Poll::Pending })
    }

    /// Has `waker` woken when it is this member's turn, or when it is to end.
    fn keep(&self, waker: &Waker) {
        let is_kept = {
            let mut state = self.shared.lock();
            let place = state.members.get(self.seat);
            place.is_none_or(|place| place.waker.as_ref().is_some_and(|kept| kept.will_wake(waker)))
        };
        if is_kept {
            return;
        }
        // A clone may be foreign code, and so may the drop of what it replaces: outside the lock.
        let fresh = waker.clone();
        let replaced = match self.shared.lock().members.get(self.seat) {
            Some(place) => place.waker.replace(fresh),
            None => Some(fresh),
        };
        drop(replaced);
    }

    fn end(&self, result: Result<T, Failure<E>>) {
        let failed = |failure| Failed { failure, context: self.context, place: self.place };
        let mut ended = self.shared.lock().end(self.seat, result.map_err(failed));
        // Dropped last, also if a destructor below panics: what they cost is in the bill.
        let _hold = ended.hold.take();
        if ended.is_first_failure {
            self.group.cancel(Reason::Sibling);
        }
        state::wake(ended.to_wake, self.context, self.place);
        if let Some(surplus) = ended.surplus {
            surplus.report();
        }
        // Last: its destructor may panic.
        drop(ended.output);
    }
}

impl<T, E: 'static> Drop for Member<T, E> {
    fn drop(&mut self) {
        self.end(Err(Failure::Dropped));
    }
}
