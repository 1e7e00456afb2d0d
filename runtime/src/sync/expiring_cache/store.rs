//! The entries of a cache: by key, by age and by use; and the reaper, which takes out what has expired.
//!
//! Every entry lives equally long, so the oldest is the next to expire, and the reaper needs one timer. No key, value
//! or waker is dropped while the store is locked.

use crate::time::{Instant, Sleep, sleep_until};
use parking_lot::Mutex;
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What a cache has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Look-ups that found a value.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Values that went because there was no room.
    pub evicted: u64,
    /// Values that went because their time was over.
    pub expired: u64,
}

pub(super) struct Store<K, V> {
    ttl: Duration,
    entries_max: usize,
    state: Mutex<State<K, V>>,
}

struct State<K, V> {
    /// By number: the oldest first.
    entries: BTreeMap<u64, Entry<K, V>>,
    by_key: HashMap<K, u64>,
    /// From the moment of the last use, as a number, to the entry.
    by_use: BTreeMap<u64, u64>,
    /// The last number given out, for entries and for uses.
    numbers: u64,
    stats: CacheStats,
    /// The reaper, while there is nothing that could expire.
    reaper: Option<Waker>,
}

struct Entry<K, V> {
    key: K,
    value: Arc<V>,
    expires: Instant,
    used: u64,
}

/// What is to be dropped outside the lock: an entry and the key of its index.
type Removed<K, V> = (Entry<K, V>, K);

impl<K: Eq + Hash + Clone, V> Store<K, V> {
    pub(super) fn new(ttl: Duration, entries_max: usize) -> Arc<Self> {
        let state = State {
            entries: BTreeMap::new(),
            by_key: HashMap::new(),
            by_use: BTreeMap::new(),
            numbers: 0,
            stats: CacheStats::default(),
            reaper: None,
        };
        Arc::new(Self { ttl, entries_max, state: Mutex::new(state) })
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().entries.len()
    }

    pub(super) fn stats(&self) -> CacheStats {
        self.state.lock().stats
    }

    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
    {
        let now = Instant::now();
        let mut state = self.state.lock();
        let found = state.look_up(key, now);
        match found {
            Some(_) => state.stats.hits += 1,
            None => state.stats.misses += 1,
        }
        found
    }

    /// Puts a value in, if `agree` lets it: that is asked while the store is locked, so that nobody removes the key
    /// between the question and the answer. Gives back what `agree` said.
    pub(super) fn insert<R, N>(
        &self,
        key: &K,
        value: V,
        agree: impl FnOnce() -> Result<R, N>,
    ) -> Result<R, N> {
        let expires = Instant::now().checked_add(self.ttl).unwrap_or_else(|| Instant::now() + FAR);
        let (keys, value) = ((key.clone(), key.clone()), Arc::new(value));
        let mut state = self.state.lock();
        let agreed = match agree() {
            Ok(agreed) => agreed,
            Err(refusal) => {
                drop(state);
                return Err(refusal);
            }
        };
        let replaced = state.take_out(key);
        let evicted = if state.entries.len() >= self.entries_max { state.evict() } else { None };
        state.put_in(keys, value, expires);
        let reaper = state.reaper.take();
        drop(state);
        drop((replaced, evicted));
        if let Some(reaper) = reaper {
            reaper.wake();
        }
        Ok(agreed)
    }

    /// Takes a value out; `also` is called while the store is locked.
    pub(super) fn remove<Q: Eq + Hash + ?Sized, R>(
        &self,
        key: &Q,
        also: impl FnOnce() -> R,
    ) -> (Option<Arc<V>>, R)
    where
        K: Borrow<Q>,
    {
        let now = Instant::now();
        let mut state = self.state.lock();
        let (removed, other) = (state.take_out(key), also());
        drop(state);
        let entry = removed.map(|(entry, _)| entry);
        (entry.filter(|entry| entry.expires > now).map(|entry| entry.value), other)
    }

    /// Takes everything out; `also` is called while the store is locked.
    pub(super) fn clear<A: FnOnce() -> R, R>(&self, also: A) -> impl Sized + use<A, R, K, V> {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.by_use.clear();
        (std::mem::take(&mut state.entries), std::mem::take(&mut state.by_key), also())
    }

    /// Takes out some of what has expired, and says when to come again: at once if that was not all. Without a moment,
    /// `waker` is woken when there is something to wait for.
    fn reap(&self, waker: &Waker) -> (Vec<Removed<K, V>>, Option<Instant>) {
        let (now, waker) = (Instant::now(), waker.clone());
        let mut removed = Vec::new();
        let mut state = self.state.lock();
        while let Some(number) = state.first_expired(now).filter(|_| removed.len() < REAPED_MAX) {
            removed.extend(state.take_out_entry(number));
            state.stats.expired += 1;
        }
        let next = state.entries.first_key_value().map(|(_, entry)| entry.expires);
        let unused = match next {
            Some(_) => Some(waker),
            None => state.reaper.replace(waker),
        };
        drop(state);
        drop(unused);
        (removed, next)
    }
}

impl<K: Eq + Hash, V> State<K, V> {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn look_up<Q: Eq + Hash + ?Sized>(&mut self, key: &Q, now: Instant) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
    {
        let number = *self.by_key.get(key)?;
        let used = self.number();
        let entry = self.entries.get_mut(&number).filter(|entry| entry.expires > now)?;
        self.by_use.remove(&entry.used);
        self.by_use.insert(used, number);
        entry.used = used;
        Some(entry.value.clone())
    }

    fn put_in(&mut self, keys: (K, K), value: Arc<V>, expires: Instant) {
        let (number, used) = (self.number(), self.number());
        self.by_use.insert(used, number);
        self.by_key.insert(keys.0, number);
        self.entries.insert(number, Entry { key: keys.1, value, expires, used });
    }

    fn take_out<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<Removed<K, V>>
    where
        K: Borrow<Q>,
    {
        let (key, number) = self.by_key.remove_entry(key)?;
        let entry = self.entries.remove(&number)?;
        self.by_use.remove(&entry.used);
        Some((entry, key))
    }

    fn take_out_entry(&mut self, number: u64) -> Option<Removed<K, V>> {
        let entry = self.entries.remove(&number)?;
        self.by_use.remove(&entry.used);
        let (key, _) = self.by_key.remove_entry(&entry.key)?;
        Some((entry, key))
    }

    fn evict(&mut self) -> Option<Removed<K, V>> {
        let (_, number) = self.by_use.pop_first()?;
        self.stats.evicted += 1;
        self.take_out_entry(number)
    }

    fn first_expired(&self, now: Instant) -> Option<u64> {
        let (number, entry) = self.entries.first_key_value()?;
        (entry.expires <= now).then_some(*number)
    }
}

/// Takes out what has expired, for ever: a future for a background process.
pub(super) struct Reaper<K, V> {
    store: Arc<Store<K, V>>,
    sleep: Option<Sleep>,
}

impl<K, V> Unpin for Reaper<K, V> {}

impl<K, V> Reaper<K, V> {
    pub(super) fn new(store: Arc<Store<K, V>>) -> Self {
        Self { store, sleep: None }
    }
}

impl<K: Eq + Hash + Clone, V> Future for Reaper<K, V> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let (removed, next) = self.store.reap(cx.waker());
            let again = removed.len() == REAPED_MAX;
            drop(removed);
            let Some(next) = next else {
                self.sleep = None;
                return Poll::Pending;
            };
            if again {
                // Destructors may be slow: others first.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let sleep = self.sleep.get_or_insert_with(|| sleep_until(next));
            if sleep.deadline() != next {
                sleep.reset(next);
            }
            std::task::ready!(Pin::new(sleep).poll(cx));
        }
    }
}

/// Dropped in one poll at most.
const REAPED_MAX: usize = 256;

/// For a `ttl` that means "never".
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
