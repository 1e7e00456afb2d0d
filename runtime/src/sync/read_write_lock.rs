//! A keyed read/write lock, fair in the strictest sense.

use super::line::{Claim, Lines, LockStats, Turn};
use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::panic::Location;
use std::sync::Arc;

/// For each key: any number of readers, or one writer, in the order of their coming.
///
/// A writer waits for all who came before; a reader waits for the writers who came before, not for other readers. So
/// readers cannot starve a writer: those who come after it wait for it, though they could read now. Where that is too
/// fair, a [`Linearizer`](super::Linearizer) for the writers alone may do.
///
/// It protects no value: it orders work on something that is elsewhere (a room, an account, a file). For a value
/// behind a lock use `async_lock::RwLock`; see the [module](super).
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// use runtime::sync::ReadWriteLock;
///
/// let rooms = ReadWriteLock::new("room");
/// let (one, two) = (rooms.read(7).await, rooms.read(7).await);
/// let purge = runtime::spawn({
///     let rooms = rooms.clone();
///     async move { rooms.write(7).await.waited() }
/// });
/// runtime::yield_now().await;
/// assert_eq!((rooms.holders(&7).len(), rooms.waiters(&7).len()), (2, 1));
/// drop((one, two));
/// purge.await.unwrap();
/// # });
/// # Ok(())
/// # }
/// ```
pub struct ReadWriteLock<K> {
    lines: Arc<Lines<K>>,
}

/// What a reader takes of a key; a writer takes all there is.
const READER: u32 = 1;
const WRITER: u32 = u32::MAX;

impl<K: Eq + Hash + Clone> ReadWriteLock<K> {
    /// A lock with no keys in use; `name` is for reading its figures.
    pub fn new(name: &'static str) -> Self {
        Self { lines: Lines::new(name, WRITER) }
    }

    /// Waits for all writers of `key` that queued before. Queues when it is first polled.
    #[track_caller]
    pub fn read(&self, key: K) -> Turn<K> {
        self.lines.turn(key, READER, Location::caller())
    }

    /// Waits for everyone who queued for `key` before. Queues when it is first polled.
    #[track_caller]
    pub fn write(&self, key: K) -> Turn<K> {
        self.lines.turn(key, WRITER, Location::caller())
    }

    /// Who holds `key`, the first come first: some readers, or one writer.
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

impl<K> Clone for ReadWriteLock<K> {
    fn clone(&self) -> Self {
        Self { lines: self.lines.clone() }
    }
}

impl<K: Eq + Hash + Clone> fmt::Debug for ReadWriteLock<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadWriteLock").field("name", &self.name()).field("keys", &self.keys()).finish()
    }
}

#[cfg(test)]
mod tests;
