//! The table of a runtime's tasks: what the executor and the join handles can do with them.
//!
//! Every operation takes `&self` and may be called from within a poll or a destructor of any task here. See the rules in
//! [the module above](crate::task).

use std::cell::Cell;
use std::panic::Location;
use std::task::Waker;

use crate::handle::Packed;
use crate::task::joiners::{FOREIGN_JOINER, Joiner, Joiners, NO_JOINER};
use crate::task::queue::{NO_GROUP, Queue};
use crate::task::raw::{Contents, Pool, Task, Ticket};
use crate::task::slots::{Entry, Slot};
use crate::task::state::{
    ABORTED, Abort, Begin, Finish, HANDLE, LIVE, QUEUED, RUNNING, Release, Settle, Word,
};
use crate::task::{Ending, JoinFailure};
use context::harness::{Share, contain_panic};

pub(crate) struct Table {
    queue: Queue,
    joiners: Joiners,
    pool: Pool,
    /// First of the vacant slots that were used before; they go on through their `group`s.
    free: Cell<u64>,
    /// Slots from here on were never used.
    used: Cell<u32>,
    occupied: Cell<u32>,
    closing: Cell<bool>,
    /// Slots below are done with, at shutdown.
    seized: Cell<u32>,
}

/// The end of the vacant slots.
const NO_SLOT: u64 = u64::MAX;

/// The right to insert one task.
pub(crate) struct Admission<'a> {
    table: &'a Table,
    ending: Ending,
}

/// Why a task was not admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// The runtime shuts down.
    Closing,
}

/// What came out of the queue.
pub(crate) enum Next<'a> {
    /// A task, which was polled.
    Polled,
    /// A task whose future is to be dropped.
    Aborted(Polling<'a>),
    /// This slot has no task in it ([`Table::reserve`]): its owner was woken, at these wall ticks.
    Bare { woken: u64 },
    /// Nothing to do: it finished while it was queued. Counts as one of the turn.
    Stale,
}

/// A task, out of its slot: being polled or dropped.
///
/// If it is dropped early (something unwound through the executor) the task goes back, to be polled or freed another time.
pub(crate) struct Polling<'a> {
    table: &'a Table,
    slot: &'a Slot,
    task: Option<Task>,
}

/// How a finished task goes on.
#[must_use]
pub(crate) enum Finished<'a> {
    /// The result waits for the join handle: wake the joiner. The context was given up; dropping it may run hooks.
    Awaited { joiner: Option<Joiner>, share: Share },
    /// Nobody will ask: [`Contents::discard`] the result on the task's account, then drop this, which frees the slot.
    Unwanted(Polling<'a>),
}

/// What a join handle gets.
#[must_use]
pub(crate) enum Joined<T> {
    /// Not yet: the waker is registered.
    Pending,
    /// The result; with it the handle has ended.
    Done(Result<T, JoinFailure>),
    /// There is no such task in this table (any more).
    Gone,
}

impl Table {
    /// The table of the runtime whose first slot has that handle in its first use.
    pub(crate) fn new(first: Packed) -> Table {
        Table {
            queue: Queue::new(first),
            joiners: Joiners::default(),
            pool: Pool::new(),
            free: Cell::new(NO_SLOT),
            used: Cell::new(0),
            occupied: Cell::new(0),
            closing: Cell::new(false),
            seized: Cell::new(0),
        }
    }

    // ---- for the executor

    #[inline]
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Takes the next one out of the queue, and a task out of its slot, and makes its group the running one. A task that is
    /// to be polled is handed to `poll`.
    // One caller, the loop. By a closure, so that the task does not go through memory.
    #[inline(always)]
    pub(crate) fn next<'a>(&'a self, poll: impl FnOnce(Polling<'a>)) -> Option<Next<'a>> {
        let slot = self.queue.pop()?;
        let begin = slot.word.get().begin();
        let Begin::Poll(word) = begin else { return Some(self.next_unusual(slot, begin)) };
        self.queue.set_running_group(slot.group.get());
        let Some(task) = slot.task.take() else {
            slot.word.set(word.suspend());
            return Some(Next::Bare { woken: slot.woken.get() });
        };
        slot.word.set(word);
        poll(Polling { table: self, slot, task: Some(task) });
        Some(Next::Polled)
    }

    /// To be dropped, or finished while it was queued.
    #[cold]
    #[inline(never)]
    fn next_unusual<'a>(&'a self, slot: &'a Slot, begin: Begin) -> Next<'a> {
        let (Begin::Poll(word) | Begin::Drop(word) | Begin::Leave(word) | Begin::Free(word)) = begin;
        match begin {
            Begin::Poll(_) | Begin::Drop(_) => {
                self.queue.set_running_group(slot.group.get());
                if let Some(task) = slot.task.take() {
                    slot.word.set(word);
                    return Next::Aborted(Polling { table: self, slot, task: Some(task) });
                }
                slot.word.set(word.suspend());
            }
            Begin::Leave(_) => slot.word.set(word),
            Begin::Free(_) => {
                slot.word.set(word);
                self.add_free(slot);
            }
        }
        Next::Stale
    }

    /// The loop itself works from now on: wakes are from outside of every group.
    #[inline]
    pub(crate) fn leave_group(&self) {
        self.queue.set_running_group(NO_GROUP);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closing.get()
    }

    /// Refuses new tasks from now on.
    pub(crate) fn close(&self) {
        self.closing.set(true);
    }

    /// Takes out the next task with a future, queued or not, so that the caller drops it: shutdown. Call it until `None`.
    ///
    /// That ends, as a closed table gets no new tasks: each slot is looked at once.
    ///
    /// # Panics
    ///
    /// In debug builds if the table is not closed.
    pub(crate) fn seize(&self) -> Option<Polling<'_>> {
        debug_assert!(self.closing.get(), "a table is closed before it is emptied");
        while self.seized.get() < self.used.get() {
            let number = self.seized.replace(self.seized.get() + 1);
            let Some(slot) = self.queue.slots.get(number) else { continue };
            let Some(word) = slot.word.get().seize() else { continue };
            // A bare slot stays with its owner.
            let Some(task) = slot.task.take() else { continue };
            slot.word.set(word);
            self.queue.set_running_group(slot.group.get());
            return Some(Polling { table: self, slot, task: Some(task) });
        }
        None
    }

    /// Whether that very task has not finished.
    pub(crate) fn is_live(&self, handle: Packed) -> bool {
        self.word(handle).is_some_and(|word| word.has(LIVE))
    }

    /// Context and place of the task, if it waits for a wake: neither queued nor running nor done.
    pub(crate) fn idle(&self, handle: Packed) -> Option<(context::Context, &'static Location<'static>)> {
        if self.waits(handle) { look(self.queue.slots.get(handle.slot())?) } else { None }
    }

    /// Whether that very task, or bare slot, waits for a wake.
    pub(crate) fn waits(&self, handle: Packed) -> bool {
        self.word(handle).is_some_and(|word| word.has(LIVE) && !word.has(QUEUED | RUNNING))
    }

    fn word(&self, handle: Packed) -> Option<Word> {
        let slot = self.queue.slots.get(handle.slot())?;
        (slot.handle.get() == handle).then(|| slot.word.get())
    }

    /// Aborts every task that waits or is queued; says whose they were, and where they were spawned.
    pub(crate) fn abort_all(&self) -> Vec<(context::Context, &'static Location<'static>)> {
        let idle = self.living().filter(|slot| !slot.word.get().has(RUNNING));
        let aborted = idle.filter_map(|slot| {
            let found = look(slot)?;
            self.mark_aborted(slot, || 0);
            Some(found)
        });
        aborted.collect()
    }

    /// How many tasks have not finished. Bare slots count.
    pub(crate) fn live(&self) -> usize {
        self.living().count()
    }

    /// The contexts of the tasks that have not finished; those of running ones, which are out of their slots, excepted.
    pub(crate) fn contexts(&self) -> Vec<context::Context> {
        self.living().filter_map(look).map(|(context, _)| context).collect()
    }

    fn living(&self) -> impl Iterator<Item = &Slot> {
        let used = (0..self.used.get()).filter_map(|number| self.queue.slots.get(number));
        used.filter(|slot| slot.word.get().has(LIVE))
    }

    #[cfg(test)]
    /// How many slots are in use: live tasks, results that wait for their handles, and bare slots.
    pub(crate) fn len(&self) -> usize {
        self.occupied.get() as usize
    }

    #[cfg(test)]
    /// How often the allocator was asked for a task's memory. In steady state this does not grow.
    pub(crate) fn refills(&self) -> u64 {
        self.pool.refills()
    }

    /// A slot without a task, for a future that is kept elsewhere (`block_on`'s): it can be woken and comes out of the queue
    /// as [`Next::Bare`]. Not queued yet.
    ///
    /// # Panics
    ///
    /// Beyond 2^24 slots.
    pub(crate) fn reserve(&self, group: u64) -> Packed {
        let slot = self.occupy(group, 0).slot();
        slot.word.set(slot.word.get().reserve());
        slot.handle.get()
    }

    /// Gives back what [`Table::reserve`] gave. Wakes of it are stale from now on.
    pub(crate) fn unreserve(&self, handle: Packed) {
        let Some(slot) = self.queue.slots.get(handle.slot()) else { return };
        let Some(word) = slot.word.get().seize() else { return };
        if let Finish::Discard(word) = word.finish() {
            slot.word.set(word);
            self.settle(slot);
        }
    }

    // ---- for spawn and join handles

    /// # Errors
    ///
    /// While the runtime shuts down. The caller keeps the future, and drops it in the right context.
    #[inline]
    pub(crate) fn admit(&self) -> Result<Admission<'_>, Refused> {
        if self.closing.get() {
            Err(Refused::Closing)
        } else {
            Ok(Admission { table: self, ending: Ending::Stay })
        }
    }

    /// The same for a task that takes its context along when it ends.
    ///
    /// # Errors
    ///
    /// As [`Table::admit`].
    pub(crate) fn admit_ending(&self, ending: Ending) -> Result<Admission<'_>, Refused> {
        self.admit().map(|admission| Admission { ending, ..admission })
    }

    /// Moves the result out, or registers `joiner` to be handed out by [`Polling::finish`]. `foreign` gives a waker, if it is
    /// no task of this runtime.
    ///
    /// Clones and drops such wakers, and drops the task: foreign code may run, and unwind, when everything is written.
    pub(crate) fn poll_join<T>(
        &self,
        handle: Packed,
        ticket: &Ticket<T>,
        joiner: Option<Packed>,
        foreign: &Waker,
    ) -> Joined<T> {
        let Some(slot) = self.held(handle, ticket.id()) else { return Joined::Gone };
        if slot.word.get().has(LIVE) {
            match joiner {
                Some(task) => self.joiners.register(slot, task),
                None => self.joiners.register_foreign(slot, foreign),
            }
            return Joined::Pending;
        }
        let Some(mut leftover) = self.release(slot) else { return Joined::Gone };
        let result = leftover.task.as_mut().and_then(|task| task.take(ticket));
        // Kept for the destructor of an output that has one; not needed any more. It goes when everything is written.
        let _share = match &mut leftover.task {
            Some(task) if std::mem::needs_drop::<T>() => task.release(),
            _ => Share::nobody(),
        };
        match leftover.task.take() {
            Some(task) if task.is_bare() => {
                self.pool.keep(task);
                self.settle(slot);
            }
            task => Polling { task, ..leftover }.retire(),
        }
        result.map_or(Joined::Gone, Joined::Done)
    }

    /// The handle is gone: the task runs on, and frees its slot when it is done. If it has ended its slot is freed, and the task
    /// returned with the result in it, for the caller to drop.
    ///
    /// Does nothing if there is no such task.
    pub(crate) fn detach(&self, handle: Packed, id: u64) -> Option<Task> {
        let slot = self.held(handle, id)?;
        let joiner = self.joiners.take(slot);
        let ended = self.release(slot).and_then(|mut leftover| {
            let task = leftover.task.take();
            self.settle(slot);
            task
        });
        // A foreign waker, whose destructor may panic.
        quietly(|| drop(joiner));
        ended
    }

    /// Takes the results that nobody took out of their slots, for the caller to drop: shutdown. Destructors may run in between.
    pub(crate) fn seize_ended(&self) -> impl Iterator<Item = Task> + '_ {
        let used = (0..self.used.get()).filter_map(|number| self.queue.slots.get(number));
        let ended = used.filter(|slot| !slot.word.get().has(LIVE | RUNNING));
        ended.filter_map(|slot| slot.task.take())
    }

    /// Keeps the memory of a task in which nothing is left.
    pub(crate) fn keep(&self, task: Task) {
        self.pool.keep(task);
    }

    /// Asks for the task's future to be dropped instead of polled, at its turn. Nothing is dropped here and now. Returns
    /// whether it was in time.
    pub(crate) fn abort(&self, handle: Packed, id: u64, stamp: impl FnOnce() -> u64) -> bool {
        self.held(handle, id).is_some_and(|slot| self.mark_aborted(slot, stamp))
    }

    /// Whether the task has finished, or there is none.
    pub(crate) fn is_finished(&self, handle: Packed, id: u64) -> bool {
        self.held(handle, id).is_none_or(|slot| !slot.word.get().has(LIVE))
    }

    // ---- private

    /// The slot of the very task that has this id. Ids are unique in the process, so this is exact even for a handle of another
    /// runtime, or of a generation that has come round again.
    #[inline]
    fn held(&self, handle: Packed, id: u64) -> Option<&Slot> {
        self.queue.slots.get(handle.slot()).filter(|slot| slot.id.get() == id)
    }

    /// A vacant slot, no longer on the free list.
    #[inline]
    fn occupy(&self, group: u64, id: u64) -> Entry<'_> {
        let entry = match self.free.get() {
            NO_SLOT => self.occupy_fresh(),
            number => {
                let entry = self.queue.slots.entry(number as u32).expect("a vacant slot is a slot");
                self.free.set(entry.slot().group.get());
                entry
            }
        };
        self.occupied.set(self.occupied.get() + 1);
        entry.slot().group.set(group);
        entry.slot().id.set(id);
        entry
    }

    #[cold]
    fn occupy_fresh(&self) -> Entry<'_> {
        let number = self.used.get();
        let entry = self.queue.slots.make(number);
        self.used.set(number + 1);
        entry
    }

    #[inline]
    fn add_free(&self, slot: &Slot) {
        self.occupied.set(self.occupied.get() - 1);
        slot.id.set(0);
        let handle = slot.handle.get();
        slot.handle.set(handle.next());
        slot.group.set(self.free.replace(handle.slot() as u64));
    }

    /// The end of `RUNNING` for a slot that has neither future nor result nor handle.
    #[inline]
    fn settle(&self, slot: &Slot) {
        match slot.word.get().settle() {
            Settle::Wait(word) => slot.word.set(word),
            Settle::Free(word) => {
                slot.word.set(word);
                self.add_free(slot);
            }
        }
    }

    /// The end of a handle. Gives what is left to move out or drop; dropping that frees the slot.
    fn release<'a>(&'a self, slot: &'a Slot) -> Option<Polling<'a>> {
        slot.id.set(0);
        match slot.word.get().release() {
            Release::Later(word) => {
                slot.word.set(word);
                None
            }
            Release::Take(word) => {
                slot.word.set(word);
                Some(Polling { table: self, slot, task: slot.task.take() })
            }
        }
    }

    fn mark_aborted(&self, slot: &Slot, stamp: impl FnOnce() -> u64) -> bool {
        match slot.word.get().abort() {
            Abort::TooLate => return false,
            Abort::Mark(word) => slot.word.set(word),
            Abort::Push(word) => {
                let Some(entry) = self.queue.slots.entry(slot.number()) else { return false };
                slot.word.set(word);
                self.queue.link(entry, stamp);
            }
        }
        true
    }
}

impl Admission<'_> {
    /// A new task around `future`, on `share`'s account, queued. `stamp`: see [`Queue::schedule`]. Runs no user code.
    ///
    /// # Panics
    ///
    /// Beyond 2^24 slots.
    #[inline]
    pub(crate) fn insert<F>(
        self,
        future: F,
        share: Share,
        place: &'static Location<'static>,
        stamp: impl FnOnce() -> u64,
    ) -> (Packed, Ticket<F::Output>)
    where
        F: Future + 'static,
    {
        let table = self.table;
        let group = share.id();
        let (mut task, ticket) = table.pool.task(future, share, place);
        if self.ending != Ending::Stay {
            task.set_ending(self.ending);
        }
        let entry = table.occupy(group, ticket.id());
        let slot = entry.slot();
        slot.put(Some(task));
        slot.word.set(slot.word.get().occupy());
        table.queue.link(entry, stamp);
        (slot.handle.get(), ticket)
    }
}

impl<'a> Polling<'a> {
    /// The account, and what is to be polled or dropped on it.
    #[inline]
    pub(crate) fn split(&mut self) -> (&Share, Contents<'_>) {
        match &mut self.task {
            Some(task) => task.split(),
            None => unreachable!("a task that is out is here until it is finished"),
        }
    }

    /// Names the task, for its waker.
    #[inline]
    pub(crate) fn handle(&self) -> Packed {
        self.slot.handle.get()
    }

    /// Where it was spawned.
    #[inline]
    pub(crate) fn place(&self) -> &'static Location<'static> {
        self.task.as_ref().map_or_else(Location::caller, Task::place)
    }

    /// Wall ticks of the wake; 0 = from within its own group.
    #[inline]
    pub(crate) fn woken(&self) -> u64 {
        self.slot.woken.get()
    }

    /// What is to happen to the context after the task.
    #[inline]
    pub(crate) fn ending(&self) -> Ending {
        self.task.as_ref().map_or(Ending::Stay, Task::ending)
    }

    /// Whether its result waits for a handle, of a task here if anyone's, and its context stays as it is: then nothing
    /// comes after [`Polling::finish`] but the wake of that task.
    #[inline]
    pub(crate) fn ends_plainly(&self) -> bool {
        self.is_awaited() && self.slot.joiner.get() != FOREIGN_JOINER && self.ending() == Ending::Stay
    }

    /// Moves the failure out, if that is its result.
    pub(crate) fn take_failure(&mut self) -> Option<JoinFailure> {
        self.task.as_mut().and_then(Task::take_failure)
    }

    /// Whether somebody may still ask for the result. If not, a failure has to be reported at once.
    pub(crate) fn is_awaited(&self) -> bool {
        self.slot.word.get().has(HANDLE)
    }

    /// The future was polled and is not ready: back into the slot.
    #[inline]
    pub(crate) fn suspend(mut self) {
        self.put_back();
        // Nothing is left to do for the destructor; this spares the call.
        std::mem::forget(self);
    }

    /// The future is gone and the result, if anyone wants it, is in the contents.
    #[inline]
    pub(crate) fn finish(mut self) -> Finished<'a> {
        debug_assert!(self.task.as_mut().is_none_or(|task| !task.contents().is_future()));
        match self.slot.word.get().finish() {
            Finish::Keep(word) => {
                let mut task = self.task.take();
                let share = task.as_mut().map_or_else(Share::nobody, Task::release_ended);
                self.slot.put(task);
                self.slot.word.set(word);
                let joiner = self.table.joiners.take(self.slot);
                std::mem::forget(self);
                Finished::Awaited { joiner, share }
            }
            Finish::Discard(word) => {
                self.slot.word.set(word);
                Finished::Unwanted(self)
            }
        }
    }

    /// The end of a task that has neither future nor handle: drops its result, if that is still there, keeps its memory and
    /// frees the slot, also if a destructor unwinds.
    #[inline]
    pub(crate) fn retire(mut self) {
        struct Settled<'a>(&'a Table, &'a Slot);
        impl Drop for Settled<'_> {
            fn drop(&mut self) {
                self.0.settle(self.1);
            }
        }
        let Some(task) = self.task.take() else { return };
        let _settled = Settled(self.table, self.slot);
        self.table.pool.reclaim(task);
    }

    /// Something unwound, or what was finished is dropped.
    #[cold]
    #[inline(never)]
    fn drop_early(mut self, task: Task) {
        if self.slot.word.get().has(LIVE) {
            self.recover(task);
        } else {
            Polling { table: self.table, slot: self.slot, task: Some(task) }.retire();
        }
    }

    /// [`finish`](Self::finish), if it [ends plainly](Self::ends_plainly): the task to be woken, or [`NO_JOINER`], and the
    /// context that was given up.
    #[inline]
    pub(crate) fn finish_plainly(mut self) -> (Packed, Share) {
        debug_assert!(self.ends_plainly());
        let (Finish::Keep(word) | Finish::Discard(word)) = self.slot.word.get().finish();
        let mut task = self.task.take();
        let share = task.as_mut().map_or_else(Share::nobody, Task::release_ended);
        self.slot.put(task);
        self.slot.word.set(word);
        (self.slot.joiner.replace(NO_JOINER), share)
    }

    #[inline]
    fn put_back(&mut self) {
        self.slot.put(self.task.take());
        self.slot.word.set(self.slot.word.get().suspend());
    }

    /// Something unwound through the executor. What is alive goes back (an aborted one into the queue again), what is not is
    /// finished.
    #[cold]
    fn recover(&mut self, mut task: Task) {
        if !task.contents().is_future() {
            if !task.contents().has_result() {
                task.contents().fail(JoinFailure::Cancelled);
            }
            let whole = Polling { table: self.table, slot: self.slot, task: Some(task) };
            match whole.finish() {
                Finished::Awaited { joiner: Some(Joiner::Foreign(joiner)), .. } => joiner.wake(),
                Finished::Awaited { joiner: Some(Joiner::Task(joiner)), .. } => {
                    self.table.queue.schedule(joiner, || 0);
                }
                _ => {}
            }
            return;
        }
        if self.slot.word.get().has(ABORTED) {
            self.table.mark_aborted(self.slot, || 0);
        }
        self.task = Some(task);
        self.put_back();
    }
}

impl Drop for Polling<'_> {
    // So that a task that is out can stay in registers: what is left to do is called by value.
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            Polling { table: self.table, slot: self.slot, task: None }.drop_early(task);
        }
    }
}

/// The last resort: an executor empties the table before. Each destructor is run, whatever the others do.
impl Drop for Table {
    fn drop(&mut self) {
        self.close();
        for number in 0..self.used.get() {
            let Some(slot) = self.queue.slots.get(number) else { continue };
            let (task, joiner) = (slot.task.take(), self.joiners.take(slot));
            quietly(|| drop(task));
            quietly(|| drop(joiner));
        }
    }
}

/// Whose the task in the slot is, and where it was spawned; `None` for a bare slot, and while it runs.
fn look(slot: &Slot) -> Option<(context::Context, &'static Location<'static>)> {
    let mut task = slot.task.take()?;
    let found = (task.split().0.context(), task.place());
    slot.task.set(Some(task));
    Some(found)
}

/// Nothing is left that a panic could be reported to here; the panic hook has printed it.
fn quietly(f: impl FnOnce()) {
    contain_panic(f, |_| ());
}
