//! The runtimes of the process, as other threads find them: by index, and without a lock.
//!
//! An [`Endpoint`] is what a waker needs of a runtime, and is never freed: a waker that is late finds it as it was. When
//! its runtime ends it becomes the endpoint of a later one. Wakers carry the index only, so they may reach that; whatever
//! does more than wake carries the [`RuntimeId`], and is refused there.

use super::Remote;
use super::wake_cells::{Loop, WakeCells};
use crate::handle::RuntimeId;
use context::harness;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock};

/// Runtimes alive at once in one process. (No handle has the index after the last: `NO_JOINER` and others rely on it.)
pub(crate) const RUNTIMES_MAX: usize = u16::MAX as usize;

/// So many endpoints rest before the one that rests longest is used again: until then few wakers of its last runtime are
/// left, which would cause spurious polls.
const RESTING_MIN: usize = 64;

/// Where other threads reach one runtime after another.
pub(super) struct Endpoint {
    pub(super) cells: WakeCells,
    /// The runtime that has it now. Locked to notify the loop, so that nobody writes to a descriptor that was closed and
    /// is another one's already; to send by id; and at the ends of a runtime's life.
    occupant: Mutex<Option<Occupant>>,
}

struct Occupant {
    remote: Arc<Remote>,
    notifier: mio::Waker,
}

const FAN: usize = 256;
type Page = [OnceLock<&'static Endpoint>; FAN];

/// By the upper and the lower half of the index. Entries are set once.
static ENDPOINTS: [OnceLock<Box<Page>>; FAN] = [const { OnceLock::new() }; FAN];

/// Which indices are free.
static FREE: Mutex<Free> = Mutex::new(Free { resting: VecDeque::new(), used: 0, serial: 0 });

struct Free {
    /// Indices whose runtimes have ended, the longest ago first.
    resting: VecDeque<u16>,
    /// Indices from here on were never used.
    used: usize,
    /// How many runtimes there were.
    serial: u64,
}

impl Free {
    /// The id of a new runtime. `None` if too many are alive.
    fn allot(&mut self) -> Option<RuntimeId> {
        let rested = self.resting.len() >= RESTING_MIN || self.used >= RUNTIMES_MAX;
        let index = if rested { self.resting.pop_front()? } else { self.used as u16 };
        let id = RuntimeId::new(self.serial + 1, index)?;
        self.serial += 1;
        self.used = self.used.max(usize::from(index) + 1);
        Some(id)
    }
}

/// The endpoint with that index, if any runtime ever had it. Two loads, which acquire.
#[inline]
pub(super) fn find(index: u16) -> Option<&'static Endpoint> {
    let [upper, lower] = index.to_be_bytes().map(usize::from);
    ENDPOINTS[upper].get()?[lower].get().copied()
}

fn make(index: u16) -> &'static Endpoint {
    let [upper, lower] = index.to_be_bytes().map(usize::from);
    let page = ENDPOINTS[upper].get_or_init(|| Box::new([const { OnceLock::new() }; FAN]));
    page[lower]
        .get_or_init(|| Box::leak(Box::new(Endpoint { cells: WakeCells::new(), occupant: Mutex::new(None) })))
}

/// The runtime with that id, if it is alive.
pub(super) fn remote(id: RuntimeId) -> Option<Arc<Remote>> {
    // In a forked child it is the parent's, and its lock may be held for ever by a thread that is in the parent only.
    if harness::has_forked() {
        return None;
    }
    let occupant = find(id.index())?.occupant.lock();
    occupant.as_ref().filter(|occupant| occupant.remote.id == id).map(|occupant| occupant.remote.clone())
}

impl Endpoint {
    /// Ends the loop's sleep, if the caller is the one who has to.
    #[inline]
    pub(super) fn notify(&self, is: Loop) {
        if is == Loop::Asleep {
            self.notify_now();
        }
    }

    #[cold]
    fn notify_now(&self) {
        if harness::has_forked() {
            return;
        }
        let notified = match &*self.occupant.lock() {
            Some(occupant) => occupant.notifier.wake(),
            // It ended asleep, by a panic: its successor looks at the list before it sleeps.
            None => Ok(()),
        };
        // An eventfd write fails only if its counter is full, and then the loop wakes anyway.
        if let Err(error) = notified {
            log::error!("bursar: cannot wake a sleeping runtime: {error}");
        }
    }
}

/// A runtime's right to its endpoint. Dropping it frees the endpoint for another runtime.
pub(super) struct Registration {
    id: RuntimeId,
    pub(super) endpoint: &'static Endpoint,
}

impl Registration {
    /// An endpoint for a new runtime.
    ///
    /// # Errors
    ///
    /// If 65,535 runtimes are alive.
    pub(super) fn new() -> io::Result<Registration> {
        let id = FREE.lock().allot().ok_or_else(|| {
            io::Error::other(format!(
                "bursar: {RUNTIMES_MAX} runtimes are alive in this process, the most possible"
            ))
        })?;
        Ok(Registration { id, endpoint: make(id.index()) })
    }

    pub(super) fn id(&self) -> RuntimeId {
        self.id
    }

    /// From here on the runtime is reached by its id, and its loop is notified.
    pub(super) fn open(&self, remote: Arc<Remote>, notifier: mio::Waker) {
        let before = self.endpoint.occupant.lock().replace(Occupant { remote, notifier });
        debug_assert!(before.is_none(), "an endpoint has one runtime at a time");
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // As in `remote`: nothing is given back there.
        if harness::has_forked() {
            return;
        }
        let occupant = self.endpoint.occupant.lock().take();
        // Outside of the lock: it may be the last reference, and close a descriptor.
        drop(occupant);
        FREE.lock().resting.push_back(self.id.index());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r3_indices_rest_and_run_out_and_ids_are_never_used_again() {
        let mut free = Free { resting: VecDeque::new(), used: 0, serial: 0 };
        let mut ids = std::collections::HashSet::new();
        let mut allot = |free: &mut Free| {
            let id = free.allot()?;
            assert!(ids.insert(id.first_handle().bits()), "{id:?} was given out before");
            Some(id.index())
        };
        for n in 0..RESTING_MIN as u16 {
            assert_eq!(allot(&mut free), Some(n), "an index that was freed just now rests");
            free.resting.push_back(n);
        }
        for n in 0..1_000 {
            let index = n % RESTING_MIN as u16;
            assert_eq!(allot(&mut free), Some(index), "the one that rests longest is used again");
            free.resting.push_back(index);
        }
        free.resting.truncate(RESTING_MIN - 1);
        for n in RESTING_MIN..RUNTIMES_MAX {
            assert_eq!(allot(&mut free), Some(n as u16));
        }
        free.resting.clear();
        assert_eq!(allot(&mut free), None, "no index is left");
        free.resting.push_back(77);
        assert_eq!((allot(&mut free), allot(&mut free)), (Some(77), None));
    }

    #[test]
    fn an_index_that_was_never_used_has_no_endpoint() {
        assert!(find(u16::MAX).is_none());
        let registration = Registration::new().unwrap();
        assert!(
            find(registration.id().index()).is_some_and(|found| std::ptr::eq(found, registration.endpoint))
        );
    }
}
