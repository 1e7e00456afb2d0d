//! What an executor has the switch look for on its thread: blocking calls, long slices; and how long a job takes without the
//! database.

use super::{Place, SLOT};
use crate::node::Name;

/// Reports blocking calls from `min` ns on, until the loop on this thread ends.
pub(crate) fn watch_blocking(min: u64) {
    SLOT.with(|slot| {
        if slot.ready() {
            slot.voluntary.set(slot.clock.voluntary_switches());
        }
        slot.blocking_min.set(min);
    });
}

/// Leaves time off the CPU out of `blocked` on this thread, until its loop ends.
pub(crate) fn may_block() {
    SLOT.with(|slot| slot.may_block.set(true));
}

/// A job begins on this thread. Returns what was noted of the one around it, for [`end_job`].
pub(crate) fn begin_job() -> (u64, u64) {
    SLOT.with(|slot| slot.job.replace((slot.clock.wall(), 0)))
}

/// The job ends: the ticks it took, without those of database spans.
pub(crate) fn end_job(outer: (u64, u64)) -> u64 {
    SLOT.with(|slot| {
        let (since, elsewhere) = slot.job.replace(outer);
        slot.clock.wall().saturating_sub(since).saturating_sub(elsewhere)
    })
}

/// A database span ended on this thread: its time is in the columns of `db`, and in no other.
pub(crate) fn count_db_span(from: u64, to: u64) {
    SLOT.with(|slot| {
        let (since, elsewhere) = slot.job.get();
        slot.job.set((since, elsewhere + to.saturating_sub(from.max(since))));
    });
}

/// Looks for slices of contexts that take `min` ns or longer.
pub(crate) fn watch_slices(min: u64) {
    SLOT.with(|slot| slot.long_min.set(min));
}

/// The longest such slice since the last call: how long it took, in ns, whose it was, and where it ended.
#[inline]
pub(crate) fn take_longest_slice() -> Option<(u64, Name, Place)> {
    SLOT.with(|slot| {
        if slot.longest.get() == 0 {
            return None;
        }
        let length = slot.longest.take();
        slot.longest_of.take().map(|(name, place)| (length, name, place))
    })
}
