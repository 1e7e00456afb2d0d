//! Groups of tasks that stand or fall together (P15).

mod member;
mod state;
#[cfg(test)]
mod tests;

use crate::config::is_large;
use crate::spawn::spawn_at;
use context::harness::Share;
use context::{Context, Reason};
use member::Member;
use parking_lot::Mutex;
use state::{Failure, State};
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{Location, resume_unwind};
use std::sync::Arc;
use std::task::{Poll, Waker};

type Shared<T, E> = Arc<Mutex<State<T, E>>>;

/// Tasks that stand or fall together: Go's `errgroup`, with results.
///
/// The group has a context of its own, a part of the one it was made in, and its tasks run there. The first error (or
/// panic) cancels the rest with [`Reason::Sibling`]: they are dropped, in their context, where they wait.
/// [`join`](Self::join) waits until all have ended and returns the outputs in the order of the spawns, or that very
/// first error. Dropping the group cancels and drops its tasks.
///
/// A failure that `join` does not return is reported by the sentinel, with the line of the spawn
/// ([`ReportKind::UnhandledPanic`](context::ReportKind), `UnhandledError`): the first one when the group is dropped without
/// `join`, any other when it happens.
///
/// A group may serve for long: of a task that has ended it keeps the output, for `join`, and nothing else. Outputs of a type
/// without a size, such as `()`, take no memory.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// use runtime::TaskGroup;
///
/// let mut group = TaskGroup::new("fetch");
/// for n in 1..=3 {
///     group.spawn(async move { Ok::<_, String>(n * n) });
/// }
/// assert_eq!(group.join().await, Ok(vec![1, 4, 9]));
///
/// let mut group = TaskGroup::new("fetch");
/// group.spawn(std::future::pending());
/// group.spawn(async { Err::<(), _>("no route") });
/// assert_eq!(group.join().await, Err("no route"));
/// # });
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the group cancels its tasks"]
pub struct TaskGroup<T, E: 'static> {
    context: Context,
    shared: Shared<T, E>,
}

impl<T: 'static, E: 'static> TaskGroup<T, E> {
    /// A group whose context is a part of the current one, of that class.
    #[track_caller]
    pub fn new(class: &str) -> Self {
        Self::with_limit(class, usize::MAX)
    }

    /// The same, of whose tasks only `limit` run at a time, in the order of the spawns.
    ///
    /// # Panics
    ///
    /// If the limit is 0.
    #[track_caller]
    pub fn with_limit(class: &str, limit: usize) -> Self {
        assert!(limit > 0, "a group that may run nothing would never end");
        let context = Context::current().child(class);
        Self { context, shared: Arc::new(Mutex::new(State::new(limit))) }
    }

    /// The group's context: what all its tasks cost is its usage.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Starts a task in the group's context.
    ///
    /// # Panics
    ///
    /// If no runtime runs on this thread.
    #[track_caller]
    pub fn spawn<F>(&mut self, future: F)
    where
        F: Future<Output = Result<T, E>> + 'static,
    {
        let (context, place) = (self.context.clone(), Location::caller());
        if const { is_large::<F>() } {
            self.spawn_task(&context, Box::pin(future), place);
        } else {
            self.spawn_task(&context, future, place);
        }
    }

    /// Starts a task in a context of its own, a part of the group's, of that class: what it costs is seen apart.
    ///
    /// # Panics
    ///
    /// If no runtime runs on this thread.
    #[track_caller]
    pub fn spawn_part<F>(&mut self, class: &str, future: F)
    where
        F: Future<Output = Result<T, E>> + 'static,
    {
        let (part, place) = (self.context.child(class), Location::caller());
        if const { is_large::<F>() } {
            self.spawn_task(&part, Box::pin(future), place);
        } else {
            self.spawn_task(&part, future, place);
        }
    }

    fn spawn_task<F>(&mut self, context: &Context, future: F, place: &'static Location<'static>)
    where
        F: Future<Output = Result<T, E>> + 'static,
    {
        let seat = self.shared.lock().enter();
        let member = Member::new(seat, self.context.clone(), context.name(), place, self.shared.clone());
        // The group needs no handle: it wakes its members when they are to end.
        drop(spawn_at(Member::run(future, member), Share::of(context), place));
    }

    /// Waits until every task has ended, then finishes the group's context.
    ///
    /// # Errors
    ///
    /// The first error of a task, as it was.
    ///
    /// # Panics
    ///
    /// With the panic of the first task that failed, if it panicked; and if the tasks' runtime ended before they did.
    pub async fn join(self) -> Result<Vec<T>, E> {
        poll_fn(|cx| self.poll_ended(cx.waker())).await;
        let (outputs, failed) = {
            let mut state = self.shared.lock();
            (state.outputs.take(), state.failed.take())
        };
        self.context.finish();
        match failed.map(|failed| failed.failure) {
            None => Ok(outputs),
            Some(Failure::Error(error)) => Err(error),
            Some(Failure::Panic(payload)) => resume_unwind(payload),
            Some(Failure::Dropped) => panic!("a task of the group was dropped: its runtime ended"),
        }
    }

    fn poll_ended(&self, waker: &Waker) -> Poll<()> {
        // A clone may be foreign code: outside the lock.
        let fresh = waker.clone();
        let mut state = self.shared.lock();
        if state.members.is_empty() {
            drop(state);
            return Poll::Ready(());
        }
        let replaced = state.joiner.replace(fresh);
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl<T, E: 'static> TaskGroup<T, E> {
    /// The context finishes when the destructors of the last member have run: they are in the group's bill, and in that of what
    /// it is a part of.
    fn finish_with_members(&self) {
        if self.shared.lock().members.is_empty() {
            return;
        }
        let hold = self.context.hold();
        self.context.finish();
        let mut state = self.shared.lock();
        if !state.members.is_empty() {
            state.hold = Some(hold);
        }
    }
}

impl<T, E: 'static> Drop for TaskGroup<T, E> {
    fn drop(&mut self) {
        self.finish_with_members();
        let left = self.shared.lock().leave();
        if left.has_members {
            self.context.cancel(Reason::Custom("its group was dropped"));
        }
        state::wake(left.to_wake, self.context.name(), self.context.place());
        if let Some(failed) = left.failed {
            failed.report();
        }
        // What has ended well, last: a destructor of it may panic.
        drop(left.outputs);
    }
}

impl<T, E: 'static> fmt::Debug for TaskGroup<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (spawned, unfinished) = {
            let state = self.shared.lock();
            (state.spawned(), state.members.len())
        };
        f.debug_struct("TaskGroup")
            .field("context", &self.context)
            .field("spawned", &spawned)
            .field("unfinished", &unfinished)
            .finish_non_exhaustive()
    }
}
