//! Deadlines: a moment, and the clock by which it passes.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// The clock of one executor, which may be read on any thread: paused time, for one, stands still wherever it is read.
///
/// A context keeps the time source of the thread on which its deadline was set, so the deadline passes at the same moment
/// for every thread that asks.
pub trait TimeSource: Send + Sync {
    /// What time it is.
    fn now(&self) -> Instant;
}

/// The clock by which a deadline passes.
#[derive(Clone)]
pub(crate) enum Source {
    Shared(Arc<dyn TimeSource>),
    /// The clock of the thread that asks.
    Thread(fn() -> Instant),
}

impl Source {
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Shared(source) => source.now(),
            Self::Thread(now) => now(),
        }
    }

    /// Whether the two are one clock.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Shared(one), Self::Shared(other)) => Arc::ptr_eq(one, other),
            (Self::Thread(_), Self::Thread(_)) => true,
            _ => false,
        }
    }
}

/// A deadline of a context.
#[derive(Clone)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) source: Source,
}

impl Deadline {
    /// Reads the clock, which may be code of the executor: not to be called under a lock.
    pub(crate) fn has_passed(&self) -> bool {
        self.source.now() >= self.at
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)
    }
}

/// Readings of some clocks, taken before a lock under which none may be read.
#[derive(Default)]
pub(crate) struct Readings(Vec<(Source, Instant)>);

impl Readings {
    /// Whether `deadline` has passed. `None` if its clock was not read.
    pub(crate) fn has_passed(&self, deadline: &Deadline) -> Option<bool> {
        let reading = self.0.iter().find(|(source, _)| source.is(&deadline.source));
        reading.map(|(_, now)| *now >= deadline.at)
    }

    /// Reads further clocks.
    pub(crate) fn read(&mut self, sources: Vec<Source>) {
        for source in sources {
            if !self.0.iter().any(|(read, _)| read.is(&source)) {
                let now = source.now();
                self.0.push((source, now));
            }
        }
    }
}
