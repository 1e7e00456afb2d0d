//! What other threads send to a runtime, and the list of the process's runtimes by which they find it.
//!
//! # Waking the loop at most once per sleep
//!
//! One atomic, `state`, besides the channel:
//!
//! | `state` | meaning | set by |
//! |---|---|---|
//! | `AWAKE` | the loop works, and has seen every message whose sender is through | the loop, before it empties the channel |
//! | `NOTIFIED` | there may be messages which the loop has not seen | a sender, after its push |
//! | `ASLEEP` | the loop is in the kernel, or on its way there | the loop, only from `AWAKE` |
//!
//! A sender pushes and *then* swaps in `NOTIFIED`; if it swapped out `ASLEEP` it is the one that rings. The loop swaps in
//! `AWAKE` and *then* empties the channel. All are read-modify-writes of one atomic, so they have one order: a sender's swap before
//! the loop's makes its message visible to the loop (release, acquire), and one after leaves `NOTIFIED`, with which the
//! loop does not sleep. Nothing is lost, and the check on the loop's hot path is one plain load.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::RwLock;

use crate::handle::Packed;

/// What a thread may ask of a runtime.
pub(crate) enum Message {
    /// Wake this task; the wall ticks when that was wanted.
    Wake(Packed, u64),
    /// Run this on the runtime's thread.
    Run(Box<dyn FnOnce() + Send>),
}

/// The senders' end. Anyone may have it, and keep it beyond the runtime's life.
pub(crate) struct Remote {
    sender: Sender<Message>,
    state: AtomicU8,
    bell: mio::Waker,
}

/// The runtime's end. Dropping it drops what is left inside, and fails later sends.
pub(crate) struct Inbox {
    receiver: Receiver<Message>,
    remote: Arc<Remote>,
}

/// What the loop does while a message reaches it.
#[must_use]
enum Pushed {
    Awake,
    /// It has to be rung out of its sleep, by this sender.
    Asleep,
}

const AWAKE: u8 = 0;
const NOTIFIED: u8 = 1;
const ASLEEP: u8 = 2;

impl Inbox {
    /// `bell` ends the sleep of this runtime's poll.
    pub(crate) fn new(bell: mio::Waker) -> Inbox {
        let (sender, receiver) = unbounded();
        Inbox { receiver, remote: Arc::new(Remote { sender, state: AtomicU8::new(AWAKE), bell }) }
    }

    pub(crate) fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }

    /// Whether to [`Inbox::open`]. One plain load: for every turn of the loop.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.remote.state.load(Ordering::Relaxed) == NOTIFIED
    }

    /// Says that the messages are about to be taken: now take them with [`Inbox::take`] until `None`. Also ends a sleep.
    pub(crate) fn open(&self) {
        self.remote.state.swap(AWAKE, Ordering::AcqRel);
    }

    /// The next message.
    pub(crate) fn take(&self) -> Option<Message> {
        self.receiver.try_recv().ok()
    }

    /// Before the loop blocks. `false`: there are messages, do not. `true`: a message from now on will ring the bell; call
    /// [`Inbox::open`] afterwards.
    #[must_use]
    pub(crate) fn fall_asleep(&self) -> bool {
        let before = self.remote.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire);
        before != Err(NOTIFIED)
    }
}

impl Remote {
    /// Never blocks; rings if the loop sleeps.
    ///
    /// # Errors
    ///
    /// Gives the message back if the runtime is gone. (One that is accepted and then never read is dropped with the runtime.)
    pub(crate) fn send(&self, message: Message) -> Result<(), Message> {
        if let Pushed::Asleep = self.push(message)? {
            self.ring();
        }
        Ok(())
    }

    fn push(&self, message: Message) -> Result<Pushed, Message> {
        self.sender.send(message).map_err(|error| error.into_inner())?;
        match self.state.swap(NOTIFIED, Ordering::AcqRel) {
            ASLEEP => Ok(Pushed::Asleep),
            _ => Ok(Pushed::Awake),
        }
    }

    #[cold]
    fn ring(&self) {
        // An eventfd write fails only if its counter is full, and then the loop wakes anyway.
        if let Err(error) = self.bell.wake() {
            log::error!("bursar: cannot wake a sleeping runtime: {error}");
        }
    }
}

/// The process's runtimes by index.
static RUNTIMES: RwLock<Runtimes> = RwLock::new(Runtimes { entries: Vec::new(), next: 0 });

/// Runtimes alive at once in one process.
pub(crate) const RUNTIMES_MAX: usize = u16::MAX as usize;

struct Runtimes {
    entries: Vec<Option<Arc<Remote>>>,
    /// Where to look first. Goes round, so that an index rests as long as possible before it is another runtime's.
    next: usize,
}

/// A runtime's place in the list of the process. Dropping it takes the runtime off.
pub(crate) struct Seat {
    index: u16,
}

impl Seat {
    /// # Errors
    ///
    /// If 65,535 runtimes are alive.
    pub(crate) fn take(remote: &Arc<Remote>) -> io::Result<Seat> {
        match RUNTIMES.write().add(remote) {
            Some(index) => Ok(Seat { index }),
            None => Err(io::Error::other(format!(
                "bursar: {RUNTIMES_MAX} runtimes are alive in this process, the most possible"
            ))),
        }
    }

    pub(crate) fn index(&self) -> u16 {
        self.index
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let remote = RUNTIMES.write().entries[self.index as usize].take();
        // Outside of the lock: it may be the last reference, and close the bell.
        drop(remote);
    }
}

impl Runtimes {
    fn add(&mut self, remote: &Arc<Remote>) -> Option<u16> {
        let index = self.vacant()?;
        self.entries[index] = Some(remote.clone());
        self.next = (index + 1) % RUNTIMES_MAX;
        Some(index as u16)
    }

    /// The entries grow until each index was used once: to 512 KiB, after 65,535 runtimes.
    fn vacant(&mut self) -> Option<usize> {
        if self.next == self.entries.len() {
            self.entries.push(None);
        }
        let (before, from) = self.entries.split_at(self.next);
        let free = |entries: &[Option<Arc<Remote>>]| entries.iter().position(Option::is_none);
        free(from).map(|at| at + self.next).or_else(|| free(before))
    }
}

/// Whether there is a runtime of that index.
pub(crate) fn is_alive(runtime: u16) -> bool {
    matches!(RUNTIMES.read().entries.get(runtime as usize), Some(Some(_)))
}

/// Sends to the runtime of that index.
///
/// # Errors
///
/// Gives the message back if there is none.
pub(crate) fn send(runtime: u16, message: Message) -> Result<(), Message> {
    // The lock is held while pushing, to spare the count of an `Arc` a wake. Nothing foreign runs under it: what cannot
    // be delivered comes back and is dropped by the caller, and the bell (a syscall, and a logger if it fails) is rung outside.
    let sleeper = {
        let runtimes = RUNTIMES.read();
        let Some(Some(remote)) = runtimes.entries.get(runtime as usize) else { return Err(message) };
        match remote.push(message)? {
            Pushed::Awake => return Ok(()),
            Pushed::Asleep => remote.clone(),
        }
    };
    sleeper.ring();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::thread;

    fn inbox() -> (mio::Poll, Inbox) {
        let poll = mio::Poll::new().unwrap();
        let bell = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        (poll, Inbox::new(bell))
    }

    fn wake(n: u64) -> Message {
        Message::Wake(Packed::from_bits(n), n)
    }

    #[test]
    fn messages_come_in_order_and_the_check_is_true_until_opened() {
        let (_poll, inbox) = inbox();
        assert!(!inbox.is_waiting());
        (0..3).for_each(|n| assert!(inbox.remote().send(wake(n)).is_ok()));
        assert!(inbox.is_waiting() && !inbox.fall_asleep());
        inbox.open();
        let got: Vec<_> = std::iter::from_fn(|| inbox.take())
            .map(|message| match message {
                Message::Wake(_, n) => n,
                Message::Run(_) => unreachable!(),
            })
            .collect();
        assert_eq!(got, [0, 1, 2]);
        assert!(!inbox.is_waiting() && inbox.fall_asleep() && inbox.fall_asleep());
    }

    #[test]
    fn a_message_to_a_runtime_that_is_gone_comes_back() {
        let (_poll, inbox) = inbox();
        let remote = inbox.remote().clone();
        drop(inbox);
        assert!(matches!(remote.send(Message::Run(Box::new(|| ()))), Err(Message::Run(_))));
    }

    /// Every interleaving of two senders and a loop that goes to sleep whenever it may, at the grain of single steps.
    /// The loop never ends up asleep for good with a message inside, and the bell rings at most once a sleep.
    #[test]
    fn trap_03_no_interleaving_loses_a_wake() {
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        struct Model {
            messages: u8,
            state: u8,
            bell: u8,
            /// Steps done: push, swap (and ring).
            senders: [u8; 2],
            at: Loop,
        }
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        enum Loop {
            Open,
            Take,
            FallAsleep,
            Asleep,
        }
        fn next(m: Model) -> Vec<Model> {
            let mut all = Vec::new();
            for n in 0..2 {
                let mut to = m;
                to.senders[n] += 1;
                match m.senders[n] {
                    0 => to.messages += 1,
                    1 => {
                        to.bell += u8::from(m.state == ASLEEP);
                        to.state = NOTIFIED;
                    }
                    _ => continue,
                }
                all.push(to);
            }
            let looped = match m.at {
                Loop::Open => Model { state: AWAKE, at: Loop::Take, ..m },
                Loop::Take if m.messages > 0 => Model { messages: m.messages - 1, ..m },
                Loop::Take => Model { at: Loop::FallAsleep, ..m },
                Loop::FallAsleep if m.state == NOTIFIED => Model { at: Loop::Open, ..m },
                Loop::FallAsleep => Model { state: ASLEEP, at: Loop::Asleep, ..m },
                Loop::Asleep if m.bell > 0 => Model { bell: 0, at: Loop::Open, ..m },
                Loop::Asleep => return all,
            };
            all.push(looped);
            all
        }
        let first = Model { messages: 0, state: AWAKE, bell: 0, senders: [0, 0], at: Loop::Open };
        let (mut seen, mut todo) = (HashSet::from([first]), vec![first]);
        while let Some(m) = todo.pop() {
            assert!(m.bell <= 1, "{m:?}");
            let after = next(m);
            assert!(!after.is_empty() || m.messages == 0, "asleep for good with a message: {m:?}");
            todo.extend(after.into_iter().filter(|m| seen.insert(*m)));
        }
        assert!(seen.len() > 50);
    }

    /// The same with real threads and a real poll, which would hang if a wake were lost.
    #[test]
    fn trap_03_senders_on_threads_reach_a_loop_that_sleeps() {
        const EACH: u64 = 5_000;
        let (mut poll, inbox) = inbox();
        let mut events = mio::Events::with_capacity(4);
        let mut got = 0;
        thread::scope(|scope| {
            for _ in 0..2 {
                let remote = inbox.remote().clone();
                scope.spawn(move || (0..EACH).for_each(|n| assert!(remote.send(wake(n)).is_ok())));
            }
            while got < 2 * EACH {
                if inbox.fall_asleep() {
                    poll.poll(&mut events, None).unwrap();
                }
                inbox.open();
                got += std::iter::from_fn(|| inbox.take()).count() as u64;
            }
        });
        assert!(inbox.take().is_none());
    }

    #[test]
    fn trap_08_indexes_go_round_and_run_out() {
        let (_poll, inbox) = inbox();
        let mut runtimes = Runtimes { entries: Vec::new(), next: 0 };
        assert_eq!(runtimes.add(inbox.remote()), Some(0));
        runtimes.entries[0] = None;
        assert_eq!(runtimes.add(inbox.remote()), Some(1), "the index that was freed last rests");
        for _ in 2..RUNTIMES_MAX {
            runtimes.add(inbox.remote()).unwrap();
        }
        assert_eq!(runtimes.add(inbox.remote()), Some(0));
        assert_eq!(runtimes.add(inbox.remote()), None);
        runtimes.entries[77] = None;
        assert_eq!(runtimes.add(inbox.remote()), Some(77));
        assert_eq!(runtimes.add(inbox.remote()), None);
    }

    #[test]
    fn a_seat_is_found_until_it_is_left() {
        let (_poll, inbox) = inbox();
        let seat = Seat::take(inbox.remote()).unwrap();
        let index = seat.index();
        assert!(send(index, wake(1)).is_ok());
        drop(seat);
        assert!(send(index, wake(2)).is_err());
        assert_eq!(std::iter::from_fn(|| inbox.take()).count(), 1);
    }
}
