//! A cache whose entries live for a given time, filled by shared work.

mod store;

use super::single_flight::{FlightError, SingleFlight};
use crate::join::JoinHandle;
use crate::spawn;
use context::FutureExt;
use std::borrow::Borrow;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;
pub use store::CacheStats;
use store::{Reaper, Store};

/// Keeps values for `ttl`, and at most `max_entries` of them: then the one that was used least recently goes.
///
/// What is not there is fetched once, however many ask for it ([`SingleFlight`]). Errors go to all who waited and are
/// not kept. Cloning gives another handle of the same cache.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// use runtime::sync::ExpiringCache;
/// use std::time::Duration;
///
/// let users: ExpiringCache<u64, String> = ExpiringCache::new("user", Duration::from_secs(60), 1_000);
/// let name = users.get_or_insert_with(17, || async { "ann".to_owned() }).await;
/// assert_eq!(name.as_deref(), Ok("ann"));
/// assert_eq!(users.get(&17).as_deref(), Some("ann"));
/// # });
/// # Ok(())
/// # }
/// ```
///
/// # Who pays
///
/// Fetching, and dropping what has expired, is work of the class `cache:<name>`: each fetch in a context of its own,
/// dropping in a background process (the reaper) that starts with the cache and ends with it. So no request pays for
/// another one's rubbish. [`CacheBuilder::charge_to_initiator`] lets whoever asked first pay for a fetch.
///
/// # Shutdown
///
/// The reaper ends when its context is cancelled. Entries expire all the same, but their memory stays as long as the
/// cache.
pub struct ExpiringCache<K, V, E = Infallible> {
    shared: Arc<Shared<K, V, E>>,
}

struct Shared<K, V, E> {
    name: &'static str,
    store: Arc<Store<K, V>>,
    flights: SingleFlight<K, Result<V, E>>,
    reaper: JoinHandle<Result<(), Infallible>>,
}

impl<K, V, E> Drop for Shared<K, V, E> {
    fn drop(&mut self) {
        self.reaper.abort();
    }
}

/// Settings for an [`ExpiringCache`]; see [`ExpiringCache::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is built before `build`"]
pub struct CacheBuilder {
    name: &'static str,
    ttl: Duration,
    entries_max: usize,
    charge_to_initiator: bool,
    stop_when_unwanted: bool,
}

impl CacheBuilder {
    /// Fetching is charged to who asked first; see [`SingleFlight`].
    pub fn charge_to_initiator(mut self) -> Self {
        self.charge_to_initiator = true;
        self
    }

    /// A fetch is dropped when nobody waits for it any more.
    pub fn stop_when_unwanted(mut self) -> Self {
        self.stop_when_unwanted = true;
        self
    }

    /// Makes the cache, and starts its reaper.
    ///
    /// # Panics
    ///
    /// If no runtime runs on this thread.
    #[track_caller]
    pub fn build<K, V, E>(self) -> ExpiringCache<K, V, E>
    where
        K: Eq + Hash + Clone + 'static,
        V: Clone + 'static,
        E: Clone + 'static,
    {
        let class = format!("cache:{}", self.name);
        let store = Store::new(self.ttl, self.entries_max);
        let reaper = Reaper::new(store.clone()).cancellable();
        let reaper = spawn::background(&class, async {
            // Cancelled is shutdown: nothing is left to do.
            let _ = reaper.await;
            Ok(())
        });
        let mut flights = SingleFlight::new(class);
        if self.charge_to_initiator {
            flights = flights.charge_to_initiator();
        }
        if self.stop_when_unwanted {
            flights = flights.stop_when_unwanted();
        }
        ExpiringCache { shared: Arc::new(Shared { name: self.name, store, flights, reaper }) }
    }
}

impl ExpiringCache<(), (), Infallible> {
    /// Settings of a cache.
    ///
    /// # Panics
    ///
    /// If `max_entries` is 0.
    #[track_caller]
    pub fn builder(name: &'static str, ttl: Duration, max_entries: usize) -> CacheBuilder {
        assert!(max_entries > 0, "a cache has room for at least one entry");
        let (charge_to_initiator, stop_when_unwanted) = (false, false);
        CacheBuilder { name, ttl, entries_max: max_entries, charge_to_initiator, stop_when_unwanted }
    }
}

impl<K: Eq + Hash + Clone + 'static, V: Clone + 'static, E: Clone + 'static> ExpiringCache<K, V, E> {
    /// A cache with the default settings.
    ///
    /// # Panics
    ///
    /// If `max_entries` is 0, and if no runtime runs on this thread.
    #[track_caller]
    pub fn new(name: &'static str, ttl: Duration, max_entries: usize) -> Self {
        ExpiringCache::builder(name, ttl, max_entries).build()
    }

    /// The value of `key`, if it is there and has not expired. It is now the one used last.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        // Cloned here, outside the lock.
        self.shared.store.get(key).map(|value| (*value).clone())
    }

    /// Puts a value in, for a `ttl` from now. What is being fetched for `key` is not kept.
    pub fn insert(&self, key: K, value: V) {
        let forgotten = self
            .shared
            .store
            .insert(&key, value, || Ok::<_, Infallible>(self.shared.flights.take_off_map(&key)));
        drop(forgotten);
    }

    /// The value of `key`; if it is not there, `make` fetches it, once for all who ask meanwhile.
    ///
    /// # Errors
    ///
    /// The outer error: the fetching panicked or was dropped. The inner one is that of `make`; it is not kept. With
    /// `await??` both are handed on.
    ///
    /// # Panics
    ///
    /// When polled with no runtime on this thread, if something is to be fetched.
    #[track_caller]
    pub fn get_or_try_insert_with<M, F>(
        &self,
        key: K,
        make: M,
    ) -> impl Future<Output = Result<Result<V, E>, FlightError>> + use<K, V, E, M, F>
    where
        M: FnOnce() -> F + 'static,
        F: Future<Output = Result<V, E>> + 'static,
    {
        let (cache, place) = (self.clone(), Location::caller());
        async move {
            if let Some(value) = cache.get(&key) {
                return Ok(Ok(value));
            }
            let store = cache.shared.store.clone();
            let fetch = cache.shared.flights.run_on_course(
                key,
                move |course| async move {
                    let result = make().await;
                    if let Ok(value) = &result {
                        // Unless it was removed or replaced meanwhile: then this value is out of date.
                        let wanted = || if course.is_current() { Ok(()) } else { Err(()) };
                        let _ = store.insert(course.key(), value.clone(), wanted);
                    }
                    result
                },
                place,
            );
            fetch.await
        }
    }

    /// Removes the value of `key`; what is being fetched for it is not kept. Returns the value if it had not expired.
    pub fn remove<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (value, forgotten) = self.shared.store.remove(key, || self.shared.flights.take_off_map(key));
        drop(forgotten);
        value.map(|value| (*value).clone())
    }

    /// Removes everything; what is being fetched is not kept.
    pub fn clear(&self) {
        let removed = self.shared.store.clear(|| self.shared.flights.clear_map());
        drop(removed);
    }

    /// How many values it holds. Expired ones count until they are removed, which is done soon.
    pub fn len(&self) -> usize {
        self.shared.store.len()
    }

    /// Whether it holds no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it has seen so far.
    pub fn stats(&self) -> CacheStats {
        self.shared.store.stats()
    }
}

impl<K: Eq + Hash + Clone + 'static, V: Clone + 'static> ExpiringCache<K, V, Infallible> {
    /// [`get_or_try_insert_with`](Self::get_or_try_insert_with) for work that cannot fail.
    ///
    /// # Errors
    ///
    /// If the fetching panicked or was dropped.
    ///
    /// # Panics
    ///
    /// When polled with no runtime on this thread, if something is to be fetched.
    #[track_caller]
    pub fn get_or_insert_with<M, F>(
        &self,
        key: K,
        make: M,
    ) -> impl Future<Output = Result<V, FlightError>> + use<K, V, M, F>
    where
        M: FnOnce() -> F + 'static,
        F: Future<Output = V> + 'static,
    {
        let fetch = self.get_or_try_insert_with(key, || async { Ok(make().await) });
        async { fetch.await.map(|result| result.unwrap_or_else(|never| match never {})) }
    }
}

impl<K, V, E> Clone for ExpiringCache<K, V, E> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K, V, E> fmt::Debug for ExpiringCache<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpiringCache").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
