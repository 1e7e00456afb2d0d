//! What other threads send to a runtime: wakes, which are coalesced in [`wake_cells`], and messages, which are boxed
//! closures in a channel. [`endpoints`] is how they find it.
//!
//! A message is put into the channel, and then a cell of the list of wakes announces that there are some. So one list
//! tells the loop of both, and one rule keeps it from sleeping; a thousand messages are one entry of it.
//!
//! The loop takes a bounded share at each look ([`Inbox::take_wakes`], [`Inbox::next_message`]) and keeps count of what
//! it left, so that it does not sleep before it is worked off. There is no order between wakes and messages.

#[cfg(not(all(test, bursar_loom)))]
mod atomics;
#[cfg(all(test, bursar_loom))]
#[path = "atomics_loom.rs"]
mod atomics;
mod endpoints;
#[cfg(all(test, bursar_loom))]
mod models;
#[cfg(test)]
mod tests;
mod wake_cells;

use crate::handle::{Packed, RuntimeId};
use crossbeam_channel::{Receiver, Sender, unbounded};
use endpoints::{Endpoint, Registration};
use std::cell::Cell;
use std::io;
use std::sync::Arc;
use wake_cells::{Drain, Found};

/// What is to be run on the runtime's thread.
pub(crate) type Message = Box<dyn FnOnce() + Send>;

/// How much of the list of wakes one look takes: each entry takes two steps, some 25 ns together.
const STEPS_PER_LOOK: u32 = 512;

/// The senders' end. Any thread may have it, and keep it beyond the runtime's life.
pub(crate) struct Remote {
    id: RuntimeId,
    endpoint: &'static Endpoint,
    sender: Sender<Message>,
}

/// The runtime's end. Dropping it drops the messages that are left, and fails later ones.
pub(crate) struct Inbox {
    receiver: Receiver<Message>,
    remote: Arc<Remote>,
    drain: Drain,
    /// Messages were announced, and the channel was not seen empty since.
    has_messages: Cell<bool>,
    /// Something was left over by the last look.
    has_rest: Cell<bool>,
    /// The last to go: it frees the endpoint.
    registration: Registration,
}

/// What a look of the loop finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// That task, if it is still there.
    Task(Packed),
    /// Whatever task is in that slot.
    Slot(u32),
}

impl Inbox {
    /// `notifier` ends the sleep of this runtime's poll.
    ///
    /// # Errors
    ///
    /// If 65,535 runtimes are alive.
    pub(crate) fn new(notifier: mio::Waker) -> io::Result<Inbox> {
        let registration = Registration::new()?;
        let (sender, receiver) = unbounded();
        let remote = Arc::new(Remote { id: registration.id(), endpoint: registration.endpoint, sender });
        registration.open(remote.clone(), notifier);
        Ok(Inbox {
            receiver,
            remote,
            drain: Drain::new(),
            has_messages: Cell::new(false),
            has_rest: Cell::new(false),
            registration,
        })
    }

    /// The runtime's own id.
    pub(crate) fn id(&self) -> RuntimeId {
        self.registration.id()
    }

    pub(crate) fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }

    /// Whether there is something to take. For every look of the loop: two plain loads.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.remote.endpoint.cells.is_waiting() | self.has_rest.get()
    }

    /// Hands out the tasks that other threads woke, the longest pending first, with the ticks of the wake: what was there
    /// at the start, and no more than a look's share. Also ends a sleep. Messages are taken after it.
    pub(crate) fn take_wakes(&self, mut wake: impl FnMut(Woken, u64)) {
        let first = self.id().first_handle();
        self.drain.take(&self.remote.endpoint.cells, STEPS_PER_LOOK, |found, stamp| match found {
            Found::Task { slot, generation } => {
                wake(Woken::Task(Packed::new(first.runtime(), generation, slot)), stamp);
            }
            Found::Slot(slot) => wake(Woken::Slot(slot), stamp),
            Found::Messages => self.has_messages.set(true),
        });
        self.note_rest();
    }

    /// The next message that was announced.
    pub(crate) fn next_message(&self) -> Option<Message> {
        if !self.has_messages.get() {
            return None;
        }
        let message = self.receiver.try_recv().ok();
        if message.is_none() {
            // One that comes from now on is announced anew.
            self.has_messages.set(false);
            self.note_rest();
        }
        message
    }

    /// The next message, announced or not: at the end of the runtime.
    pub(crate) fn last_message(&self) -> Option<Message> {
        self.receiver.try_recv().ok()
    }

    /// Whether another thread woke that task, and the loop has not yet taken that.
    pub(crate) fn is_woken(&self, task: Packed) -> bool {
        self.remote.endpoint.cells.is_pending(task.slot())
    }

    /// Before the loop blocks. `false`: there is something to take, do not. `true`: the first to send something from now
    /// on notifies the loop; call [`Inbox::take_wakes`] afterwards.
    #[must_use]
    pub(crate) fn fall_asleep(&self) -> bool {
        !self.has_rest.get() && self.remote.endpoint.cells.fall_asleep()
    }

    fn note_rest(&self) {
        self.has_rest.set(self.has_messages.get() || !self.drain.is_empty());
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.drain.abandon(&self.remote.endpoint.cells);
    }
}

impl Remote {
    /// Never blocks; notifies the loop if it sleeps.
    ///
    /// # Errors
    ///
    /// Gives the message back if the runtime is gone. (One that is accepted and then never taken is dropped with the
    /// runtime.)
    pub(crate) fn send(&self, message: Message) -> Result<(), Message> {
        self.sender.send(message).map_err(|error| error.into_inner())?;
        self.nudge();
        Ok(())
    }

    /// Lets the loop look again at whatever it looks at before it sleeps.
    pub(crate) fn nudge(&self) {
        self.endpoint.notify(self.endpoint.cells.announce_messages());
    }
}

/// Wakes a task of another thread's runtime, or of none that runs. `stamp` gives the wall ticks. Never blocks; notifies
/// the loop if it sleeps. The runtime may be gone.
#[inline]
pub(crate) fn wake(task: Packed, stamp: impl FnOnce() -> u64) {
    if let Some(endpoint) = endpoints::find(task.runtime()) {
        endpoint.notify(endpoint.cells.wake(task.slot(), task.generation(), stamp));
    }
}

/// Whether that runtime is alive.
pub(crate) fn is_alive(runtime: RuntimeId) -> bool {
    endpoints::remote(runtime).is_some()
}

/// Sends to that very runtime.
///
/// # Errors
///
/// Gives the message back if it is gone.
pub(crate) fn send(runtime: RuntimeId, message: Message) -> Result<(), Message> {
    match endpoints::remote(runtime) {
        Some(remote) => remote.send(message),
        None => Err(message),
    }
}
