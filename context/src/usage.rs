//! What a piece of work has used: plain values, added and subtracted, never sampled.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// What was charged to a context.
///
/// All times are exact to the nanosecond of the source they came from; nothing is sampled. The fields follow the
/// resource usage that Matrix Synapse keeps for each log context (CPU, transactions, time in them, time waiting for a
/// connection, rows), plus where the rest of the wall time went.
///
/// ```
/// use context::Usage;
/// use std::time::Duration;
///
/// let mut a = Usage::default();
/// a.cpu = Duration::from_micros(1_500);
/// let b = a + a;
/// assert_eq!(b.cpu, Duration::from_millis(3));
/// assert_eq!(b - a, a);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Time on a CPU, as `CLOCK_THREAD_CPUTIME_ID` means it: preemption and blocking calls are not in it.
    pub cpu: Duration,
    /// How often a task of this context was polled.
    pub polls: u64,
    /// Runnable, but waiting for the thread: from the wake to the poll.
    pub queued: Duration,
    /// Inside its polls but off the CPU: a blocking call, or preemption by another process. A job on a thread of a pool does
    /// not hold up the loop: see [`BlockingUsage::running`] and [`DbUsage::in_transaction`].
    pub blocked: Duration,
    /// CPU spent after the context finished. Not part of [`cpu`](Self::cpu).
    pub late_cpu: Duration,
    /// Work on the blocking pool.
    pub blocking: BlockingUsage,
    /// Work on databases.
    pub db: DbUsage,
}

/// The part of [`Usage`] that the blocking pool adds. The CPU of the jobs is in [`Usage::cpu`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockingUsage {
    /// Jobs handed to the pool.
    pub jobs: u64,
    /// Time the jobs waited for a thread of the pool.
    pub queued: Duration,
    /// Wall time the jobs ran, on a CPU or not, without the time of transactions in them.
    pub running: Duration,
}

/// The part of [`Usage`] that databases add.
///
/// Synapse's `db_txn_count`, `db_txn_duration_sec`, `db_sched_duration_sec` and `evt_db_fetch_count`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DbUsage {
    /// Transactions begun. The retries of one transaction count once.
    pub transactions: u64,
    /// Wall time between obtaining a connection and the end of the transaction.
    pub in_transaction: Duration,
    /// Wall time waiting for a connection.
    pub waiting: Duration,
    /// Rows fetched.
    pub rows: u64,
}

macro_rules! fieldwise {
    ($type:ident { $($field:ident),* }) => {
        impl AddAssign for $type {
            /// The sum of each field, or the largest value there is.
            fn add_assign(&mut self, other: Self) {
                $(self.$field = Bounded::plus(self.$field, other.$field);)*
            }
        }
        impl Add for $type {
            type Output = Self;
            fn add(mut self, other: Self) -> Self {
                self += other;
                self
            }
        }
        impl Sub for $type {
            type Output = Self;
            /// The difference of each field, nothing below zero.
            fn sub(self, other: Self) -> Self {
                let mut difference = self;
                $(difference.$field = Bounded::less(self.$field, other.$field);)*
                difference
            }
        }
    };
}

fieldwise!(Usage { cpu, polls, queued, blocked, late_cpu, blocking, db });
fieldwise!(BlockingUsage { jobs, queued, running });
fieldwise!(DbUsage { transactions, in_transaction, waiting, rows });

/// Sums and differences that stop at the ends of the range, for counts, durations and the parts of a usage alike.
trait Bounded: Sized {
    fn plus(self, other: Self) -> Self;
    fn less(self, other: Self) -> Self;
}

macro_rules! bounded {
    ($($number:ident),* ; $($part:ident),*) => {
        $(impl Bounded for $number {
            fn plus(self, other: Self) -> Self {
                self.saturating_add(other)
            }

            fn less(self, other: Self) -> Self {
                self.saturating_sub(other)
            }
        })*
        $(impl Bounded for $part {
            fn plus(self, other: Self) -> Self {
                self + other
            }

            fn less(self, other: Self) -> Self {
                self - other
            }
        })*
    };
}

bounded!(u64, Duration; BlockingUsage, DbUsage);

impl std::iter::Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(usages: I) -> Self {
        usages.fold(Self::default(), Add::add)
    }
}

/// The cost part of a request line.
///
/// ```
/// let usage = context::Usage::default();
/// assert_eq!(
///     usage.to_string(),
///     "cpu=0.000ms queued=0.000ms blocked=0.000ms db=(0.000ms/0.000ms/0/0) blocking=(0.000ms/0)"
/// );
/// ```
impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cpu={} queued={} blocked={}",
            Millis(self.cpu),
            Millis(self.queued),
            Millis(self.blocked)
        )?;
        if !self.late_cpu.is_zero() {
            write!(f, " late={}", Millis(self.late_cpu))?;
        }
        let DbUsage { transactions, in_transaction, waiting, rows } = self.db;
        write!(f, " db=({}/{}/{transactions}/{rows})", Millis(waiting), Millis(in_transaction))?;
        write!(f, " blocking=({}/{})", Millis(self.blocking.queued), self.blocking.jobs)
    }
}

/// A duration in milliseconds with three decimals, whatever its size: columns of a log stay comparable.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0.as_micros();
        write!(f, "{}.{:03}ms", us / 1_000, us % 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_never_goes_below_zero() {
        let used = Usage { polls: 1, cpu: Duration::from_nanos(5), ..Usage::default() };
        assert_eq!(Usage::default() - used, Usage::default());
        assert_eq!((used + used) - used, used);
    }

    #[test]
    fn b20_a_sum_never_goes_beyond_the_largest_value() {
        let mut most = Usage { polls: u64::MAX, cpu: Duration::MAX, ..Usage::default() };
        most.db.rows = u64::MAX;
        most.blocking.running = Duration::MAX;
        assert_eq!(most + most, most);
        assert_eq!([most, most, most].into_iter().sum::<Usage>(), most);
    }

    #[test]
    fn the_cost_line_reads_in_milliseconds() {
        let mut used = Usage { cpu: Duration::from_nanos(1_234_567), ..Usage::default() };
        used.db.rows = 17;
        used.late_cpu = Duration::from_micros(9);
        assert_eq!(
            used.to_string(),
            "cpu=1.234ms queued=0.000ms blocked=0.000ms late=0.009ms db=(0.000ms/0.000ms/0/17) blocking=(0.000ms/0)"
        );
    }
}
