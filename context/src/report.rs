//! What the sentinel says: plain values.

use std::fmt;
use std::panic::Location;
use std::time::{Duration, SystemTime};

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ReportKind {
    /// A poll ended while an [`Entered`](crate::Entered) guard made in it was alive.
    GuardAcrossAwait,
    /// A guard was dropped while one entered after it was still alive, or in another frame than its own.
    GuardOutOfOrder,
    /// A task was spawned where no context was current.
    SpawnedInSentinel,
    /// A database transaction was begun where no context was current.
    TransactionInSentinel,
    /// A blocking job was started where no context was current.
    BlockingInSentinel,
    /// Work went on in a context that had finished.
    LateWork,
    /// A task panicked and nobody awaits it.
    UnhandledPanic,
    /// A background process failed.
    UnhandledError,
    /// A task is idle and nothing is left that could wake it.
    Orphaned,
    /// A task was still there when the shutdown's deadline passed.
    Straggler,
    /// The limit of classes was reached; new ones are counted as `(other)`.
    TooManyClasses,
    /// One poll held the thread for longer than the threshold.
    SlowPoll,
    /// A poll gave up the CPU of its own accord: a blocking call.
    BlockingCall,
}

/// One line of the sentinel's ledger: everything of one kind at one place.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// What happened.
    pub kind: ReportKind,
    /// The name of the context it happened in, as of the first time.
    pub context: String,
    /// Where: the line of `enter`, `spawn`, `begin` and so on.
    pub place: &'static Location<'static>,
    /// What else there is to say, as of the first time; may be empty.
    pub detail: String,
    /// How often.
    pub count: u64,
    /// CPU that was charged there, of [`LateWork`](ReportKind::LateWork): late work by place. Zero for other kinds.
    pub cpu: Duration,
    /// When for the first time.
    pub first_seen: SystemTime,
    /// When for the last time.
    pub last_seen: SystemTime,
}

impl fmt::Display for ReportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GuardAcrossAwait => "guard held across an await",
            Self::GuardOutOfOrder => "guard dropped out of order",
            Self::SpawnedInSentinel => "task spawned without a context",
            Self::TransactionInSentinel => "transaction begun without a context",
            Self::BlockingInSentinel => "blocking job started without a context",
            Self::LateWork => "work after its context finished",
            Self::UnhandledPanic => "panic in a task that nobody awaits",
            Self::UnhandledError => "background process failed",
            Self::Orphaned => "task that nothing can wake any more",
            Self::Straggler => "task outlived the shutdown",
            Self::TooManyClasses => "too many classes",
            Self::SlowPoll => "slow poll",
            Self::BlockingCall => "blocking call inside a poll",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} at {}", self.kind, self.context, self.place)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        if !self.cpu.is_zero() {
            write!(f, ", {:?} of CPU in all", self.cpu)?;
        }
        if self.count > 1 {
            write!(f, " ({} times)", self.count)?;
        }
        Ok(())
    }
}
