//! Usage as it grows: integer cells which one thread adds to and every thread may read.

use crate::usage::{BlockingUsage, DbUsage, Usage};
use std::ops::AddAssign;
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

    /// The same for amounts of any size: what callers measured. The sum stops at the largest value.
    fn add_any(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).saturating_add(n), Relaxed);
    }

    /// The addition for every other thread. The sum stops at the largest value.
    pub(crate) fn add_shared(&self, n: u64) {
        // Cannot fail: there always is a sum.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |sum| Some(sum.saturating_add(n)));
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    #[inline]
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }
}

macro_rules! fields {
    ($($field:ident),* $(,)?) => {
        /// One [`Usage`] in cells; times in nanoseconds. Laid out as it stands: what every poll writes comes first.
        #[repr(C)]
        #[derive(Debug, Default)]
        pub(crate) struct Cells {
            $(pub(crate) $field: Cell64,)*
        }

        /// One [`Usage`] in plain numbers, which are added at a quarter of the price of durations.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct Tally {
            $(pub(crate) $field: u64,)*
        }

        impl Cells {
            pub(crate) const fn new() -> Self {
                Self { $($field: Cell64::new(),)* }
            }

            #[inline]
            pub(crate) fn read(&self) -> Tally {
                Tally { $($field: self.$field.get(),)* }
            }

            /// Adds from any thread. Zero fields cost a compare, not an atomic addition: most of them are zero.
            pub(crate) fn absorb(&self, tally: &Tally) {
                $(if tally.$field != 0 {
                    self.$field.add_shared(tally.$field);
                })*
            }

            /// Adds from the owner's thread.
            pub(crate) fn add(&self, tally: &Tally) {
                $(self.$field.add_any(tally.$field);)*
            }
        }

        impl AddAssign<&Tally> for Tally {
            #[inline]
            fn add_assign(&mut self, other: &Tally) {
                $(self.$field = self.$field.saturating_add(other.$field);)*
            }
        }
    };
}

fields!(
    cpu,
    polls,
    queued,
    blocked,
    late_cpu,
    blocking_jobs,
    blocking_queued,
    blocking_running,
    db_transactions,
    db_in_transaction,
    db_waiting,
    db_rows,
);

impl Tally {
    /// Whether there is anything in what each poll counts.
    pub(crate) fn has_polls(&self) -> bool {
        self.cpu | self.polls | self.queued | self.blocked != 0
    }
}

impl Cells {
    /// Adds what is in here to `tally`; unless `all`, only what polls write, since the rest is zero.
    #[inline]
    pub(crate) fn add_to(&self, tally: &mut Tally, all: bool) {
        if all {
            *tally += &self.read();
            return;
        }
        tally.cpu = tally.cpu.saturating_add(self.cpu.get());
        tally.polls = tally.polls.saturating_add(self.polls.get());
        tally.queued = tally.queued.saturating_add(self.queued.get());
        tally.blocked = tally.blocked.saturating_add(self.blocked.get());
    }

    /// Sets them to zero; unless `all`, only what polls write.
    #[inline]
    pub(crate) fn clear(&mut self, all: bool) {
        if all {
            *self = Self::new();
            return;
        }
        [&self.cpu, &self.polls, &self.queued, &self.blocked].into_iter().for_each(|cell| cell.set(0));
    }
}

impl From<Usage> for Tally {
    fn from(usage: Usage) -> Self {
        Self {
            cpu: nanos(usage.cpu),
            polls: usage.polls,
            queued: nanos(usage.queued),
            blocked: nanos(usage.blocked),
            late_cpu: nanos(usage.late_cpu),
            blocking_jobs: usage.blocking.jobs,
            blocking_queued: nanos(usage.blocking.queued),
            blocking_running: nanos(usage.blocking.running),
            db_transactions: usage.db.transactions,
            db_in_transaction: nanos(usage.db.in_transaction),
            db_waiting: nanos(usage.db.waiting),
            db_rows: usage.db.rows,
        }
    }
}

impl From<Tally> for Usage {
    fn from(tally: Tally) -> Self {
        let ns = Duration::from_nanos;
        Self {
            cpu: ns(tally.cpu),
            polls: tally.polls,
            queued: ns(tally.queued),
            blocked: ns(tally.blocked),
            late_cpu: ns(tally.late_cpu),
            blocking: BlockingUsage {
                jobs: tally.blocking_jobs,
                queued: ns(tally.blocking_queued),
                running: ns(tally.blocking_running),
            },
            db: DbUsage {
                transactions: tally.db_transactions,
                in_transaction: ns(tally.db_in_transaction),
                waiting: ns(tally.db_waiting),
                rows: tally.db_rows,
            },
        }
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
        cells.absorb(&usage.into());
        assert_eq!(Usage::from(cells.read()), usage);
        cells.add(&usage.into());
        assert_eq!(Usage::from(cells.read()), usage + usage);
    }

    #[test]
    fn b20_cells_stop_at_the_largest_value() {
        let most = Tally { cpu: u64::MAX, db_rows: u64::MAX, ..Tally::default() };
        let cells = Cells::new();
        for _ in 0..2 {
            cells.absorb(&most);
            cells.add(&most);
        }
        let mut sum = cells.read();
        cells.add_to(&mut sum, true);
        cells.add_to(&mut sum, false);
        assert_eq!(sum, most);
    }
}
