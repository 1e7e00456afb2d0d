//! Tasks: their memory, their states, the table that holds them and the queue that orders them. Pure mechanisms: no
//! clock, no context is entered here, and nobody is woken; the executor does that.
//!
//! # The life of a task
//!
//! ```text
//!          Admission::insert                  Table::next                  Polling::suspend
//!  vacant --------------------> runnable ------------------> polled ------------------------> idle
//!    ^                           |  ^ ^                      |    |                            |
//!    |                           |  | '-- Queue::schedule ---'    |                            |
//!    |                           |  |     (woken while polled)    |                            |
//!    |                           |  |                             |                            |
//!    |                           |  '---------- Queue::schedule (a wake), Table::abort --------'
//!    |               Table::next |                                |
//!    |  (aborted), Table::seize  |                                | Contents::poll is ready
//!    |                           v                                | (it dropped the future)
//!    |                        dropping                            |
//!    |                           |  Contents::discard             |
//!    |                           |  Contents::fail                |
//!    |                           v                                v
//!    |                         +-------------------------------------+
//!    |                         |           Polling::finish           |
//!    |                         +-------------------------------------+
//!    |                            | no handle                   | a handle
//!    |                            v                             v
//!    |                        unwanted                       complete: the joiner is woken
//!    |                            | Contents::discard           | Table::poll_join (output moved out)
//!    |     dropping the Polling   v                             v Table::detach    (output dropped)
//!    '-------------------------- freed <------------------------'
//!          (or Table::next, if it was still queued: a queued slot is never freed)
//! ```
//!
//! # Who may touch what, and when
//!
//! A slot ([`slots::Slot`]) is reached by anyone on the runtime's thread, at any time, through `Cell`s. The task in it has
//! one owner at a time:
//!
//! 1. `word` is the only truth about who may do what; it is changed only by the transitions of [`state::Word`], and
//!    written back before any user code runs.
//! 2. While `RUNNING` the task is **out** of its slot, owned by a [`table::Polling`] on somebody's stack. Whatever the future does
//!    meanwhile - spawn, wake or abort itself, drop its own handle - finds the slot without a task, and changes the word
//!    at most. So no memory can go away under a poll, by ownership and not by protocol.
//! 3. While not `RUNNING` the slot owns the task, and nothing runs in it.
//! 4. `joiner` is the join handle's. A waker that is no task's of this runtime is taken out ([`joiners`]), never borrowed,
//!    before it is woken, compared or dropped, since all of these run foreign code.
//! 5. `id` is set from [`table::Admission::insert`] until the slot is freed or its handle gone. Operations for handles begin
//!    with comparing it, exactly; a generation is enough only for a wake.
//! 6. A slot is freed only when it is not queued: its link belongs to the run queue while `QUEUED`, and its `group` to the
//!    list of vacant slots while vacant.
//! 7. Nothing of ours is borrowed while user code runs: a poll, a destructor, or the clone, drop or wake of a waker. There
//!    is no `RefCell` here at all, and each function ends its writes before it lets such code run.

pub(crate) mod joiners;
pub(crate) mod queue;
pub(crate) mod raw;
pub(crate) mod slots;
pub(crate) mod state;
pub(crate) mod table;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod tracking;

use std::any::Any;

/// What happens to a task's context when the task has ended and the loop has left it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// Nothing: it is the context of others, too.
    Stay,
    /// It finishes: it was made for this task.
    Finish,
    /// It is not held open for this task any more.
    Release,
}

/// Why a task has no output.
pub(crate) enum JoinFailure {
    /// Its `poll` or a destructor panicked, with this payload; and the name of its context, which the task no longer holds.
    Panicked(Box<dyn Any + Send>, Box<str>),
    /// It was aborted, or dropped at shutdown.
    Cancelled,
}
