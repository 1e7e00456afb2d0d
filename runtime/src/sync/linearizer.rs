//! A keyed limiter: at most `max` at a time for each key, in the order of their coming.

use super::line::{Claim, Lines, LockStats, Turn};
use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::panic::Location;
use std::sync::Arc;

/// Lets at most `max` pieces of work with the same key go on at a time; the others wait in order.
///
/// A key costs memory only while it is in use. Cloning gives another handle of the same limiter.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// use runtime::sync::Linearizer;
///
/// let accounts = Linearizer::new("account", 1);
/// let turn = accounts.queue("ann").await;
/// // Whoever else queues for "ann" waits now. Who is it waiting for?
/// let holder = accounts.holders("ann")[0];
/// assert!(holder.name().starts_with("main#"));
/// assert_eq!(holder.place.file(), file!());
/// drop(turn);
/// assert!(accounts.holders("ann").is_empty());
/// # });
/// # Ok(())
/// # }
/// ```
///
/// A wait ends early like any future: wrap it in [`cancellable`](context::FutureExt::cancellable), or drop it.
///
/// # Waiting is counted
///
/// [`KeyGuard::waited`](super::KeyGuard::waited) has it for the one who waited, [`stats`](Self::stats) the sum. In its
/// context's elapsed time it is part of the rest, beside I/O and timers.
pub struct Linearizer<K> {
    lines: Arc<Lines<K>>,
}

impl<K: Eq + Hash + Clone> Linearizer<K> {
    /// A limiter; `name` is for reading its figures.
    ///
    /// # Panics
    ///
    /// If `max` is 0: nobody could ever go on.
    #[track_caller]
    pub fn new(name: &'static str, max: u32) -> Self {
        assert!(max > 0, "a linearizer lets at least one go on at a time");
        Self { lines: Lines::new(name, max) }
    }

    /// Waits until fewer than `max` hold `key` and all who queued before have had their turn.
    ///
    /// Queues when it is first polled.
    #[track_caller]
    pub fn queue(&self, key: K) -> Turn<K> {
        self.lines.turn(key, 1, Location::caller())
    }

    /// Whether somebody waits for `key`.
    pub fn is_queued<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.lines.is_queued(key)
    }

    /// Who holds `key`, the first come first.
    pub fn holders<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Vec<Claim>
    where
        K: Borrow<Q>,
    {
        self.lines.holders(key)
    }

    /// Who waits for `key`, the next one first.
    pub fn waiters<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Vec<Claim>
    where
        K: Borrow<Q>,
    {
        self.lines.waiters(key)
    }

    /// How many keys are in use.
    pub fn keys(&self) -> usize {
        self.lines.keys()
    }

    /// What it has seen so far, all keys together.
    pub fn stats(&self) -> LockStats {
        self.lines.stats()
    }

    /// The name it was made with.
    pub fn name(&self) -> &'static str {
        self.lines.name()
    }
}

impl<K> Clone for Linearizer<K> {
    fn clone(&self) -> Self {
        Self { lines: self.lines.clone() }
    }
}

impl<K: Eq + Hash + Clone> fmt::Debug for Linearizer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linearizer").field("name", &self.name()).field("keys", &self.keys()).finish()
    }
}

#[cfg(test)]
mod tests;
