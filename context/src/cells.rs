//! Usage as it grows: integer cells which one thread adds to and every thread may read.

use crate::usage::{BlockingUsage, DbUsage, Usage};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A counter with a single writer.
///
/// `add` is a plain load and store (no `lock` prefix, ~18 cycles saved), so only the owner's thread may call it; any
/// thread may read, and reads a whole value.
#[derive(Debug, Default)]
pub(crate) struct Cell64(AtomicU64);

impl Cell64 {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The addition for every other thread.
    pub(crate) fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    #[inline]
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub(crate) fn take(&self) -> u64 {
        self.0.swap(0, Relaxed)
    }
}

/// One [`Usage`] in cells; times in nanoseconds. Laid out as it stands: what every poll writes comes first.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Cells {
    pub(crate) cpu: Cell64,
    pub(crate) polls: Cell64,
    pub(crate) queued: Cell64,
    pub(crate) blocked: Cell64,
    pub(crate) late_cpu: Cell64,
    pub(crate) blocking_jobs: Cell64,
    pub(crate) blocking_queued: Cell64,
    pub(crate) blocking_running: Cell64,
    pub(crate) db_transactions: Cell64,
    pub(crate) db_in_transaction: Cell64,
    pub(crate) db_waiting: Cell64,
    pub(crate) db_rows: Cell64,
}

impl Cells {
    pub(crate) const fn new() -> Self {
        Self {
            cpu: Cell64::new(),
            polls: Cell64::new(),
            queued: Cell64::new(),
            blocked: Cell64::new(),
            late_cpu: Cell64::new(),
            blocking_jobs: Cell64::new(),
            blocking_queued: Cell64::new(),
            blocking_running: Cell64::new(),
            db_transactions: Cell64::new(),
            db_in_transaction: Cell64::new(),
            db_waiting: Cell64::new(),
            db_rows: Cell64::new(),
        }
    }

    pub(crate) fn read(&self) -> Usage {
        let ns = |cell: &Cell64| Duration::from_nanos(cell.get());
        Usage {
            cpu: ns(&self.cpu),
            polls: self.polls.get(),
            queued: ns(&self.queued),
            blocked: ns(&self.blocked),
            late_cpu: ns(&self.late_cpu),
            blocking: BlockingUsage {
                jobs: self.blocking_jobs.get(),
                queued: ns(&self.blocking_queued),
                running: ns(&self.blocking_running),
            },
            db: DbUsage {
                transactions: self.db_transactions.get(),
                in_transaction: ns(&self.db_in_transaction),
                waiting: ns(&self.db_waiting),
                rows: self.db_rows.get(),
            },
        }
    }

    /// Adds `usage` from any thread. Zero fields cost a compare, not an atomic addition: most of them are zero.
    pub(crate) fn absorb(&self, usage: Usage) {
        let add = |cell: &Cell64, n: u64| {
            if n != 0 {
                cell.add_shared(n);
            }
        };
        add(&self.cpu, nanos(usage.cpu));
        add(&self.polls, usage.polls);
        add(&self.queued, nanos(usage.queued));
        add(&self.blocked, nanos(usage.blocked));
        add(&self.late_cpu, nanos(usage.late_cpu));
        add(&self.blocking_jobs, usage.blocking.jobs);
        add(&self.blocking_queued, nanos(usage.blocking.queued));
        add(&self.blocking_running, nanos(usage.blocking.running));
        add(&self.db_transactions, usage.db.transactions);
        add(&self.db_in_transaction, nanos(usage.db.in_transaction));
        add(&self.db_waiting, nanos(usage.db.waiting));
        add(&self.db_rows, usage.db.rows);
    }
}

/// Whole nanoseconds of a duration; 584 years saturate.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absorbed_is_read_back_field_by_field() {
        let mut usage = Usage::default();
        let mut n = 0;
        let mut next = || {
            n += 1;
            n
        };
        usage.cpu = Duration::from_nanos(next());
        usage.polls = next();
        usage.queued = Duration::from_nanos(next());
        usage.blocked = Duration::from_nanos(next());
        usage.late_cpu = Duration::from_nanos(next());
        usage.blocking.jobs = next();
        usage.blocking.queued = Duration::from_nanos(next());
        usage.blocking.running = Duration::from_nanos(next());
        usage.db.transactions = next();
        usage.db.in_transaction = Duration::from_nanos(next());
        usage.db.waiting = Duration::from_nanos(next());
        usage.db.rows = next();

        let cells = Cells::new();
        cells.absorb(usage);
        assert_eq!(cells.read(), usage);
        cells.absorb(usage);
        assert_eq!(cells.read(), usage + usage);
    }
}
