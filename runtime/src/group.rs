//! Groups of tasks that stand or fall together (P15).

use crate::join::JoinHandle;
use crate::spawn::spawn_at;
use context::harness::Share;
use context::{Context, Reason};
use parking_lot::Mutex;
use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Poll, Waker};

/// Tasks that stand or fall together: Go's `errgroup`, with results.
///
/// The group has a context of its own, a part of the one it was made in, and its tasks run there. The first error (or
/// panic) cancels the rest with [`Reason::Sibling`]: they are dropped, in their
/// context, where they wait.
/// [`join`](Self::join) waits until all have ended and returns the outputs in the order of the spawns, or that very
/// first error. Dropping the group cancels and drops its tasks.
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
pub struct TaskGroup<T, E> {
    context: Context,
    shared: Arc<Mutex<State<T, E>>>,
    tasks: Vec<JoinHandle<()>>,
}

struct State<T, E> {
    outputs: Vec<Option<T>>,
    failure: Option<Failure<E>>,
    running: usize,
    /// How many may run; the others wait, in the order of their spawns.
    limit: usize,
    waiting: VecDeque<usize>,
    members: Vec<Bookmark>,
    unfinished: usize,
    joiner: Option<Waker>,
}

/// Where one member stands.
struct Bookmark {
    stage: Stage,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Running,
    Ended,
}

enum Failure<E> {
    Error(E),
    Panic(Box<dyn Any + Send>),
    /// It did not get to an end of its own: another failed, or the group or the runtime was dropped.
    Dropped,
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
        let state = State {
            outputs: Vec::new(),
            failure: None,
            running: 0,
            limit,
            waiting: VecDeque::new(),
            members: Vec::new(),
            unfinished: 0,
            joiner: None,
        };
        let context = Context::current().child(class);
        Self { context, shared: Arc::new(Mutex::new(state)), tasks: Vec::new() }
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
        let context = self.context.clone();
        self.spawn_task(&context, future, Location::caller());
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
        let part = self.context.child(class);
        self.spawn_task(&part, future, Location::caller());
    }

    fn spawn_task<F>(&mut self, context: &Context, future: F, place: &'static Location<'static>)
    where
        F: Future<Output = Result<T, E>> + 'static,
    {
        let number = {
            let mut state = self.shared.lock();
            let number = state.outputs.len();
            state.outputs.push(None);
            state.members.push(Bookmark { stage: Stage::Waiting, waker: None });
            state.waiting.push_back(number);
            state.unfinished += 1;
            number
        };
        let member = Member { number, group: self.context.clone(), shared: self.shared.clone() };
        self.tasks.push(spawn_at(member.run(future), Share::of(context), place));
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
        let (outputs, failure) = {
            let mut state = self.shared.lock();
            (std::mem::take(&mut state.outputs), state.failure.take())
        };
        self.context.finish();
        match failure {
            None => Ok(outputs.into_iter().flatten().collect()),
            Some(Failure::Error(error)) => Err(error),
            Some(Failure::Panic(payload)) => resume_unwind(payload),
            Some(Failure::Dropped) => panic!("a task of the group was dropped: its runtime ended"),
        }
    }

    fn poll_ended(&self, waker: &Waker) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.unfinished == 0 {
            return Poll::Ready(());
        }
        let replaced = state.joiner.replace(waker.clone());
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl<T, E> Drop for TaskGroup<T, E> {
    fn drop(&mut self) {
        if self.shared.lock().unfinished > 0 {
            self.context.cancel(Reason::Custom("its group was dropped"));
            self.tasks.iter().for_each(JoinHandle::abort);
        }
    }
}

impl<T, E> fmt::Debug for TaskGroup<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("TaskGroup")
            .field("context", &self.context)
            .field("spawned", &state.outputs.len())
            .field("unfinished", &state.unfinished)
            .finish_non_exhaustive()
    }
}

/// One task of a group. However it ends, its destructor lets the next one run and tells who joins.
struct Member<T, E> {
    number: usize,
    group: Context,
    shared: Arc<Mutex<State<T, E>>>,
}

impl<T, E> Member<T, E> {
    async fn run<F: Future<Output = Result<T, E>>>(self, future: F) {
        let mut future = pin!(Some(future));
        let result = poll_fn(|cx| self.poll(cx, future.as_mut())).await;
        // Gone before the group hears of it.
        future.set(None);
        self.end(result);
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
        let fresh = waker.clone();
        let mut state = self.shared.lock();
        if state.failure.is_some() {
            return Err(Failure::Dropped);
        }
        let stage = match state.members[self.number].stage {
            Stage::Waiting if state.running < state.limit && state.waiting.front() == Some(&self.number) => {
                state.waiting.pop_front();
                state.running += 1;
                Stage::Running
            }
            stage => stage,
        };
        let member = &mut state.members[self.number];
        member.stage = stage;
        let replaced = member.waker.replace(fresh);
        let next = state.next_to_run();
        drop(state);
        drop(replaced);
        next.into_iter().for_each(Waker::wake);
        Ok(if stage == Stage::Running { Poll::Ready(()) } else { Poll::Pending })
    }

    fn end(&self, result: Result<T, Failure<E>>) {
        let (surplus, to_wake, first_failure) = self.shared.lock().end(self.number, result);
        drop(surplus);
        if first_failure {
            self.group.cancel(Reason::Sibling);
        }
        to_wake.into_iter().for_each(Waker::wake);
    }
}

impl<T, E> State<T, E> {
    /// The member whose turn it is, if it has come to wait and there is room.
    fn next_to_run(&mut self) -> Option<Waker> {
        let next = *self.waiting.front().filter(|_| self.running < self.limit)?;
        self.members[next].waker.take()
    }

    /// Books the end of a member. Returns a failure that is not the first, whom to wake, and whether it was the first.
    fn end(
        &mut self,
        number: usize,
        result: Result<T, Failure<E>>,
    ) -> (Option<Failure<E>>, Vec<Waker>, bool) {
        let stage = std::mem::replace(&mut self.members[number].stage, Stage::Ended);
        self.members[number].waker = None;
        match stage {
            Stage::Running => self.running -= 1,
            Stage::Waiting => self.waiting.retain(|waiting| *waiting != number),
            Stage::Ended => return (result.err(), Vec::new(), false),
        }
        self.unfinished -= 1;
        let mut surplus = None;
        let mut first_failure = false;
        match result {
            Ok(output) => self.outputs[number] = Some(output),
            Err(failure) if self.failure.is_none() => {
                self.failure = Some(failure);
                first_failure = true;
            }
            Err(failure) => surplus = Some(failure),
        }
        let mut to_wake = Vec::new();
        if first_failure {
            to_wake.extend(self.members.iter_mut().filter_map(|member| member.waker.take()));
        } else {
            to_wake.extend(self.next_to_run());
        }
        if self.unfinished == 0 {
            to_wake.extend(self.joiner.take());
        }
        (surplus, to_wake, first_failure)
    }
}

impl<T, E> Drop for Member<T, E> {
    fn drop(&mut self) {
        self.end(Err(Failure::Dropped));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Options, run};
    use std::cell::{Cell, RefCell};
    use std::future::pending;
    use std::rc::Rc;

    fn in_request<F: Future>(name: &'static str, future: F) -> F::Output {
        let request = Context::root("request");
        run(Options { name, ..Options::default() }, async { request.run(future).await })
    }

    /// Leaves its context's class when it is dropped.
    struct Leaves(Rc<RefCell<Vec<&'static str>>>);

    impl Drop for Leaves {
        fn drop(&mut self) {
            self.0.borrow_mut().push(Context::current().class());
        }
    }

    #[test]
    fn p15_a24_outputs_come_in_the_order_of_the_spawns() {
        let joined = in_request("p15_order", async {
            let mut group = TaskGroup::new("group");
            for n in 0..5u32 {
                group.spawn(async move {
                    for _ in 0..5 - n {
                        crate::yield_now().await;
                    }
                    Ok::<_, ()>(n)
                });
            }
            group.join().await
        });
        assert_eq!(joined, Ok(vec![0, 1, 2, 3, 4]));
    }

    #[test]
    fn p15_a26_the_first_error_drops_the_rest_in_their_context_and_comes_back_as_it_was() {
        let dropped = Rc::new(RefCell::new(Vec::new()));
        let leaves = Leaves(dropped.clone());
        in_request("p15_error", async move {
            let mut group = TaskGroup::new("group");
            let context = group.context().clone();
            group.spawn_part("part", async move {
                let _leaves = leaves;
                pending().await
            });
            group.spawn(async {
                crate::yield_now().await;
                Err::<(), _>("no route")
            });
            assert_eq!(group.join().await, Err("no route"));
            assert_eq!(context.cancel_reason(), Some(Reason::Sibling));
            assert!(context.is_finished());
        });
        assert_eq!(*dropped.borrow(), ["part"]);
    }

    #[test]
    fn p15_a_panic_carries_across() {
        let joined = catch_unwind(|| {
            in_request("p15_panic", async {
                let mut group = TaskGroup::<(), ()>::new("group");
                group.spawn(pending());
                group.spawn(async { panic!("boom") });
                group.join().await
            })
        });
        assert_eq!(context::panic_message(&*joined.unwrap_err()), "boom");
    }

    #[test]
    fn p15_a09_exactly_as_many_as_the_limit_run_and_each_end_starts_the_next() {
        for seed in 1..20 {
            let (running, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
            let request = Context::root("request");
            let options = Options { name: "p15_limit", seed: Some(seed), ..Options::default() };
            let (runs, peak) = (running.clone(), most.clone());
            let joined = run(
                options,
                request.run(async move {
                    let mut group = TaskGroup::with_limit("group", 3);
                    for n in 0..10 {
                        let (runs, peak) = (runs.clone(), peak.clone());
                        group.spawn(async move {
                            runs.set(runs.get() + 1);
                            peak.set(peak.get().max(runs.get()));
                            // Long enough for the others to start, in whatever order they are polled.
                            for _ in 0..50 {
                                crate::yield_now().await;
                            }
                            runs.set(runs.get() - 1);
                            Ok::<_, ()>(n)
                        });
                    }
                    group.join().await
                }),
            );
            assert_eq!(
                (joined.map(|all| all.len()), most.get(), running.get()),
                (Ok(10), 3, 0),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn p15_dropping_a_group_drops_its_tasks_where_they_wait() {
        let dropped = Rc::new(RefCell::new(Vec::new()));
        let leaves = Leaves(dropped.clone());
        in_request("p15_drop", async move {
            let mut group = TaskGroup::<(), ()>::new("group");
            group.spawn(async move {
                let _leaves = leaves;
                pending().await
            });
            crate::yield_now().await;
            drop(group);
            crate::yield_now().await;
        });
        assert_eq!(*dropped.borrow(), ["group"]);
    }
}
