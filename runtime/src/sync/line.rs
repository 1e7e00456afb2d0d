//! The waiting lines of the keyed locks: one line for each key in use, strictly first come, first served.
//!
//! ```text
//!   key ---> | outside: 7w 6r 5r |  -->  | inside: 4r 3r |          capacity: all; a reader takes 1, a writer takes all
//!              ^ join                      | leave
//! ```
//!
//! Whoever is first outside goes in as soon as there is room for it; nobody overtakes. That one rule is the limit of a
//! [`Linearizer`](super::Linearizer) (everyone takes 1 of `max`) and the fairness of a
//! [`ReadWriteLock`](super::ReadWriteLock).
//!
//! Going in is done by the one who leaves, not by the one who is woken: from that moment the waiter *holds* the key,
//! though its task has not run yet. If it is dropped before it runs, it leaves like any holder, and the next one goes
//! in. So no hand-off can be lost.
//!
//! A line knows contexts by number and class only: a lock pins no request. Of user code only the key's `Hash` and `Eq`
//! run while the lines are locked; they must not use the same lock.

use super::{poll_leaf, wake_all};
use crate::time::Instant;
use context::{Context, Id};
use parking_lot::Mutex;
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, Waker};
use std::time::Duration;

/// Who holds a key or waits for it: an answer of `holders` and `waiters` of the keyed locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// The class of the context that queued.
    pub class: &'static str,
    /// The number of that context; the sentinel's is 0.
    pub context: Id,
    /// The line that queued.
    pub place: &'static Location<'static>,
    /// When it got the key; of one that waits, when it queued.
    pub since: Instant,
}

impl Claim {
    /// The claim of the current context, as of now.
    pub(super) fn here(place: &'static Location<'static>) -> Self {
        let context = Context::current();
        Self { class: context.class(), context: context.id(), place, since: Instant::now() }
    }

    /// The context by name, `class#id`, as in logs.
    pub fn name(&self) -> String {
        let Self { class, context, .. } = self;
        if context.as_u64() == 0 { (*class).to_owned() } else { format!("{class}#{context}") }
    }

    /// How long ago that was.
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} for {:?}", self.name(), self.place, self.elapsed())
    }
}

/// What a keyed lock has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockStats {
    /// How often a key was got.
    pub acquired: u64,
    /// How many of those had to wait first.
    pub contended: u64,
    /// How often a waiter was dropped before it got its key.
    pub abandoned: u64,
    /// Wall time spent waiting, of the abandoned ones too; those that wait now are not in it yet.
    pub waited: Duration,
}

/// The lines of one lock.
pub(super) struct Lines<K> {
    name: &'static str,
    capacity: u32,
    state: Mutex<State<K>>,
}

struct State<K> {
    lines: HashMap<K, Line>,
    tickets: u64,
    stats: LockStats,
}

/// The line of one key. There is one only while somebody is in it.
#[derive(Default)]
struct Line {
    /// By ticket, so by the time they queued.
    inside: BTreeMap<u64, Entrant>,
    outside: BTreeMap<u64, (Entrant, Waker)>,
    /// How much of the capacity those inside take.
    taken: u32,
}

#[derive(Clone, Copy)]
struct Entrant {
    claim: Claim,
    takes: u32,
    waited: Duration,
}

/// What is left to do when the lines are unlocked: foreign code runs here.
#[must_use = "wakers are to be woken"]
struct Aftermath<K> {
    woken: Vec<Waker>,
    _dropped: (Option<(K, Line)>, Option<Waker>),
}

impl<K> Aftermath<K> {
    fn done(self) {
        wake_all(self.woken);
    }
}

impl<K: Eq + Hash + Clone> Lines<K> {
    pub(super) fn new(name: &'static str, capacity: u32) -> Arc<Self> {
        let state = State { lines: HashMap::new(), tickets: 0, stats: LockStats::default() };
        Arc::new(Self { name, capacity, state: Mutex::new(state) })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn stats(&self) -> LockStats {
        self.state.lock().stats
    }

    /// How many keys are in use.
    pub(super) fn keys(&self) -> usize {
        self.state.lock().lines.len()
    }

    pub(super) fn holders<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Vec<Claim>
    where
        K: Borrow<Q>,
    {
        let state = self.state.lock();
        let line = state.lines.get(key);
        line.into_iter().flat_map(|line| line.inside.values().map(|entrant| entrant.claim)).collect()
    }

    pub(super) fn waiters<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Vec<Claim>
    where
        K: Borrow<Q>,
    {
        let state = self.state.lock();
        let line = state.lines.get(key);
        line.into_iter().flat_map(|line| line.outside.values().map(|(entrant, _)| entrant.claim)).collect()
    }

    pub(super) fn is_queued<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.state.lock().lines.get(key).is_some_and(|line| !line.outside.is_empty())
    }

    pub(super) fn turn(self: &Arc<Self>, key: K, takes: u32, place: &'static Location<'static>) -> Turn<K> {
        Turn { lines: self.clone(), takes, place, stage: Stage::New(key) }
    }

    /// Takes a ticket, and goes in at once if nobody is before it: then how long it waited is known.
    fn join(&self, key: &K, entrant: Entrant, waker: &Waker) -> (u64, Option<Duration>) {
        // Declared before the lock is taken: what is not used of them is dropped after it.
        let (mut new, mut waker) = (Some(key.clone()), Some(waker.clone()));
        let mut state = self.state.lock();
        let state = &mut *state;
        state.tickets += 1;
        let ticket = state.tickets;
        if !state.lines.contains_key(key) {
            state.lines.extend(new.take().map(|key| (key, Line::default())));
        }
        let line = state.lines.get_mut(key).expect("it is there, or its `Eq` is none");
        if line.outside.is_empty() && line.has_room(self.capacity, entrant.takes) {
            line.let_in(ticket, entrant);
            state.stats.acquired += 1;
            (ticket, Some(Duration::ZERO))
        } else {
            line.outside.extend(waker.take().map(|waker| (ticket, (entrant, waker))));
            (ticket, None)
        }
    }

    /// How long it waited, if it is inside. Else `waker` is woken when it is.
    fn look(&self, key: &K, ticket: u64, waker: &Waker) -> Option<Duration> {
        let fresh = waker.clone();
        let mut state = self.state.lock();
        let line = state.lines.get_mut(key)?;
        if let Some(entrant) = line.inside.get(&ticket) {
            return Some(entrant.waited);
        }
        let replaced = line.outside.get_mut(&ticket).map(|(_, waker)| std::mem::replace(waker, fresh));
        drop(state);
        drop(replaced);
        None
    }

    /// Leaves, from wherever it is, and lets in who is next.
    fn leave(&self, key: &K, ticket: u64) {
        let now = Instant::now();
        let aftermath = self.state.lock().leave(key, ticket, self.capacity, now);
        aftermath.done();
    }
}

impl<K: Eq + Hash> State<K> {
    fn leave(&mut self, key: &K, ticket: u64, capacity: u32, now: Instant) -> Aftermath<K> {
        let mut aftermath = Aftermath { woken: Vec::new(), _dropped: (None, None) };
        let Some(line) = self.lines.get_mut(key) else { return aftermath };
        if let Some(entrant) = line.inside.remove(&ticket) {
            line.taken -= entrant.takes;
        } else if let Some((entrant, waker)) = line.outside.remove(&ticket) {
            self.stats.abandoned += 1;
            self.stats.waited += now.duration_since(entrant.claim.since);
            aftermath._dropped.1 = Some(waker);
        }
        while let Some((waited, waker)) = line.admit(capacity, now) {
            self.stats.acquired += 1;
            self.stats.contended += 1;
            self.stats.waited += waited;
            aftermath.woken.push(waker);
        }
        if line.inside.is_empty() {
            // Then nobody is outside either: there is always room for the first.
            aftermath._dropped.0 = self.lines.remove_entry(key);
        }
        aftermath
    }
}

impl Line {
    fn has_room(&self, capacity: u32, takes: u32) -> bool {
        takes <= capacity - self.taken
    }

    fn let_in(&mut self, ticket: u64, entrant: Entrant) {
        self.taken += entrant.takes;
        self.inside.insert(ticket, entrant);
    }

    /// Lets in the first outside, if there is room for it.
    fn admit(&mut self, capacity: u32, now: Instant) -> Option<(Duration, Waker)> {
        let first = self.outside.first_entry()?;
        let takes = first.get().0.takes;
        if takes > capacity - self.taken {
            return None;
        }
        let (ticket, (mut entrant, waker)) = first.remove_entry();
        entrant.waited = now.duration_since(entrant.claim.since);
        entrant.claim.since = now;
        self.let_in(ticket, entrant);
        Some((entrant.waited, waker))
    }
}

/// The wait for a key: the future of [`Linearizer::queue`](super::Linearizer::queue),
/// [`ReadWriteLock::read`](super::ReadWriteLock::read) and [`ReadWriteLock::write`](super::ReadWriteLock::write).
///
/// It queues at its first poll, for the context that polls it. Dropped before it is ready it gives up its place; if the
/// key was handed to it already, the next one gets it.
#[must_use = "futures do nothing unless polled"]
pub struct Turn<K: Eq + Hash + Clone> {
    lines: Arc<Lines<K>>,
    takes: u32,
    place: &'static Location<'static>,
    stage: Stage<K>,
}

enum Stage<K> {
    New(K),
    Queued(K, u64),
    Over,
}

impl<K: Eq + Hash + Clone> Unpin for Turn<K> {}

impl<K: Eq + Hash + Clone> Turn<K> {
    fn entrant(&self) -> Entrant {
        Entrant { claim: Claim::here(self.place), takes: self.takes, waited: Duration::ZERO }
    }

    fn poll_turn(&mut self, waker: &Waker) -> Poll<KeyGuard<K>> {
        let (key, ticket, waited) = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::New(key) => {
                let (ticket, waited) = self.lines.join(&key, self.entrant(), waker);
                (key, ticket, waited)
            }
            Stage::Queued(key, ticket) => {
                let waited = self.lines.look(&key, ticket, waker);
                (key, ticket, waited)
            }
            Stage::Over => panic!("`Turn` polled after completion"),
        };
        match waited {
            Some(waited) => Poll::Ready(KeyGuard { lines: self.lines.clone(), key, ticket, waited }),
            None => {
                self.stage = Stage::Queued(key, ticket);
                Poll::Pending
            }
        }
    }
}

impl<K: Eq + Hash + Clone> Future for Turn<K> {
    type Output = KeyGuard<K>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<KeyGuard<K>> {
        poll_leaf(cx.waker(), || self.poll_turn(cx.waker()))
    }
}

impl<K: Eq + Hash + Clone> Drop for Turn<K> {
    fn drop(&mut self) {
        if let Stage::Queued(key, ticket) = &self.stage {
            self.lines.leave(key, *ticket);
        }
    }
}

impl<K: Eq + Hash + Clone> fmt::Debug for Turn<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("lock", &self.lines.name).finish_non_exhaustive()
    }
}

/// The right to a key, until it is dropped; then the next one in line has it. May be dropped on any thread.
#[must_use = "the key is given back when the guard is dropped"]
pub struct KeyGuard<K: Eq + Hash + Clone> {
    lines: Arc<Lines<K>>,
    key: K,
    ticket: u64,
    waited: Duration,
}

impl<K: Eq + Hash + Clone> KeyGuard<K> {
    /// The key.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Wall time from queueing until the key was handed over. From there to the task's next poll it was runnable: that
    /// is `queued` in its context's usage.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl<K: Eq + Hash + Clone> Drop for KeyGuard<K> {
    fn drop(&mut self) {
        self.lines.leave(&self.key, self.ticket);
    }
}

impl<K: Eq + Hash + Clone + fmt::Debug> fmt::Debug for KeyGuard<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyGuard")
            .field("lock", &self.lines.name)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
