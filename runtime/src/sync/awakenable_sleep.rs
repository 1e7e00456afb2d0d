//! Sleeps that can be ended early, by name.

use super::{poll_leaf, wake_all};
use crate::time::{self, Sleep};
use parking_lot::Mutex;
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, Waker};
use std::time::Duration;

/// Sleeps with names. [`wake`](Self::wake) ends all sleeps of a name at once: "try again now, the peer is back".
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// use runtime::sync::{AwakenableSleep, Woken};
/// use std::time::Duration;
///
/// let retries = AwakenableSleep::new();
/// let waiting = runtime::spawn(retries.sleep("peer.example", Duration::from_secs(3600)));
/// runtime::yield_now().await;
/// assert_eq!(retries.wake("peer.example"), 1);
/// assert_eq!(waiting.await.unwrap(), Woken::Early);
/// # });
/// # Ok(())
/// # }
/// ```
///
/// Cloning gives another handle of the same set. A wake ends the sleeps that go on; it is not kept for later ones.
pub struct AwakenableSleep<K> {
    sleepers: Arc<Sleepers<K>>,
}

struct Sleepers<K>(Mutex<State<K>>);

struct State<K> {
    /// Whom to wake, by ticket. Who is not there any more was woken.
    names: HashMap<K, BTreeMap<u64, Waker>>,
    tickets: u64,
}

/// Why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// It was woken by name.
    Early,
    /// Its time was over.
    InTime,
}

impl<K: Eq + Hash + Clone> AwakenableSleep<K> {
    /// Nobody sleeps.
    pub fn new() -> Self {
        let state = State { names: HashMap::new(), tickets: 0 };
        Self { sleepers: Arc::new(Sleepers(Mutex::new(state))) }
    }

    /// Sleeps for `duration`, counted from this call, or until `name` is woken. Can be woken from the first poll on.
    pub fn sleep(&self, name: K, duration: Duration) -> Nap<K> {
        Nap { sleepers: self.sleepers.clone(), name, ticket: None, sleep: time::sleep(duration) }
    }

    /// Ends the sleeps of `name`, from any thread. Returns how many there were.
    pub fn wake<Q: Eq + Hash + ?Sized>(&self, name: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        let woken = self.sleepers.0.lock().names.remove_entry(name);
        let (_name, woken) = woken.unzip();
        let woken = woken.unwrap_or_default();
        let count = woken.len();
        wake_all(woken.into_values());
        count
    }

    /// How many sleep by that name.
    pub fn sleeping<Q: Eq + Hash + ?Sized>(&self, name: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.sleepers.0.lock().names.get(name).map_or(0, BTreeMap::len)
    }
}

impl<K: Eq + Hash> Sleepers<K> {
    /// Lies down; the ticket is to get up with.
    fn lie_down(&self, name: &K, waker: Waker) -> u64
    where
        K: Clone,
    {
        let mut spare = Some(name.clone());
        let mut state = self.0.lock();
        let state = &mut *state;
        state.tickets += 1;
        if !state.names.contains_key(name) {
            state.names.extend(spare.take().map(|name| (name, BTreeMap::new())));
        }
        if let Some(sleepers) = state.names.get_mut(name) {
            sleepers.insert(state.tickets, waker);
        }
        state.tickets
    }

    /// Whether it still sleeps; then `waker` is woken when it is not any more.
    fn sleeps(&self, name: &K, ticket: u64, waker: Waker) -> bool {
        let mut spare = Some(waker);
        let mut state = self.0.lock();
        let place = state.names.get_mut(name).and_then(|sleepers| sleepers.get_mut(&ticket));
        let sleeps = place.is_some();
        if let (Some(place), Some(waker)) = (place, &mut spare) {
            std::mem::swap(place, waker);
        }
        drop(state);
        sleeps
    }

    fn get_up(&self, name: &K, ticket: u64) {
        let mut state = self.0.lock();
        let Some(sleepers) = state.names.get_mut(name) else { return };
        let waker = sleepers.remove(&ticket);
        let removed = if sleepers.is_empty() { state.names.remove_entry(name) } else { None };
        drop(state);
        drop((waker, removed));
    }
}

/// The future of [`AwakenableSleep::sleep`].
///
/// # Panics
///
/// When polled where no runtime runs, like [`Sleep`].
#[must_use = "futures do nothing unless polled"]
pub struct Nap<K: Eq + Hash> {
    sleepers: Arc<Sleepers<K>>,
    name: K,
    ticket: Option<u64>,
    sleep: Sleep,
}

impl<K: Eq + Hash> Unpin for Nap<K> {}

impl<K: Eq + Hash + Clone> Future for Nap<K> {
    type Output = Woken;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Woken> {
        let nap = &mut *self;
        match nap.ticket {
            None => nap.ticket = Some(nap.sleepers.lie_down(&nap.name, cx.waker().clone())),
            Some(ticket) => {
                let look = || match nap.sleepers.sleeps(&nap.name, ticket, cx.waker().clone()) {
                    true => Poll::Pending,
                    false => Poll::Ready(Woken::Early),
                };
                if let Poll::Ready(woken) = poll_leaf(cx.waker(), look) {
                    return Poll::Ready(woken);
                }
            }
        }
        Pin::new(&mut nap.sleep).poll(cx).map(|()| Woken::InTime)
    }
}

impl<K: Eq + Hash> Drop for Nap<K> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.sleepers.get_up(&self.name, ticket);
        }
    }
}

impl<K: Eq + Hash> fmt::Debug for Nap<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nap").field("sleep", &self.sleep).finish_non_exhaustive()
    }
}

impl<K> Clone for AwakenableSleep<K> {
    fn clone(&self) -> Self {
        Self { sleepers: self.sleepers.clone() }
    }
}

impl<K: Eq + Hash + Clone> Default for AwakenableSleep<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> fmt::Debug for AwakenableSleep<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwakenableSleep").field("names", &self.sleepers.0.lock().names.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::trace::{Trace, clean, settle, task};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sleeper(all: &AwakenableSleep<&'static str>, name: &'static str, seconds: u32, trace: &Trace) {
        let (nap, trace) = (all.sleep(name, SECOND * seconds), trace.clone());
        drop(task(name, async move {
            let woken = nap.await;
            trace.say(format_args!("{name}:{woken:?}"));
        }));
    }

    #[test]
    fn a20_it_sleeps_until_the_deadline_not_shorter() {
        clean("a20", async {
            let (all, trace) = (AwakenableSleep::new(), Trace::default());
            sleeper(&all, "a", 10, &trace);
            time::sleep(SECOND * 9).await;
            assert_eq!((trace.take().as_str(), all.sleeping("a")), ("", 1));
            time::sleep(SECOND * 2).await;
            assert_eq!((trace.take().as_str(), all.sleeping("a")), ("a:InTime", 0));
        });
    }

    #[test]
    fn a21_it_can_be_woken_early() {
        clean("a21", async {
            let (all, trace) = (AwakenableSleep::new(), Trace::default());
            sleeper(&all, "a", 10, &trace);
            settle().await;
            assert_eq!((all.wake("b"), all.wake("a"), all.wake("a")), (0, 1, 0));
            settle().await;
            assert_eq!(trace.take(), "a:Early");
        });
    }

    #[test]
    fn a22_two_time_out_separately() {
        clean("a22", async {
            let (all, trace) = (AwakenableSleep::new(), Trace::default());
            sleeper(&all, "a", 20, &trace);
            sleeper(&all, "a", 10, &trace);
            time::sleep(SECOND * 11).await;
            assert_eq!((trace.take().as_str(), all.sleeping("a")), ("a:InTime", 1));
            time::sleep(SECOND * 10).await;
            assert_eq!((trace.take().as_str(), all.sleeping("a")), ("a:InTime", 0));
        });
    }

    #[test]
    fn a23_one_wake_wakes_all_of_that_name() {
        clean("a23", async {
            let (all, trace) = (AwakenableSleep::new(), Trace::default());
            sleeper(&all, "a", 20, &trace);
            sleeper(&all, "b", 20, &trace);
            sleeper(&all, "a", 10, &trace);
            settle().await;
            assert_eq!(all.wake("a"), 2);
            settle().await;
            assert_eq!(trace.take(), "a:Early a:Early");
            time::sleep(SECOND * 21).await;
            assert_eq!(trace.take(), "b:InTime");
        });
    }

    #[test]
    fn a_dropped_sleep_leaves_nothing_behind() {
        clean("dropped", async {
            let all = AwakenableSleep::new();
            let nap = task("nap", all.sleep(String::from("a"), SECOND));
            settle().await;
            assert_eq!(all.sleeping("a"), 1);
            nap.abort();
            assert!(nap.await.is_err());
            assert_eq!((all.sleeping("a"), all.wake("a")), (0, 0));
        });
    }
}
