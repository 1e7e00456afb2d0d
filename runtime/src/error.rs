//! Why a task has no result.

use context::{Reason, ReportKind, panic_message};
use parking_lot::Mutex;
use std::any::Any;
use std::fmt;
use std::io;
use std::panic::Location;

/// The error of a [`JoinHandle`](crate::JoinHandle): the task has no output.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let rt = runtime::Runtime::new()?;
/// rt.block_on(async {
///     let error = runtime::spawn(async { panic!("no such user") }).await.unwrap_err();
///     assert!(error.is_panic());
///     assert_eq!(error.to_string(), "task panicked: no such user");
/// });
/// # Ok(())
/// # }
/// ```
pub struct JoinError(pub(crate) Kind);

pub(crate) enum Kind {
    /// It panicked, with this payload; locked, so that the error is `Sync` as errors are expected to be.
    Panicked(Mutex<Box<dyn Any + Send>>),
    /// It was aborted, or its runtime ended.
    Cancelled(Reason),
    /// The handle was polled on a thread that does not run the task's runtime.
    WrongThread,
    /// The blocking pool's queue is full.
    QueueFull,
    /// The blocking pool has no thread, and the system gives it none.
    NoThread(io::Error),
    /// The result was taken before.
    Taken,
    /// This is a forked child, and the runtime its parent's.
    Forked,
}

impl JoinError {
    pub(crate) const ABORTED: Self = Self(Kind::Cancelled(Reason::Custom("aborted")));
    pub(crate) const FORKED: Self = Self(Kind::Forked);
    pub(crate) const SHUTDOWN: Self = Self(Kind::Cancelled(Reason::Shutdown));

    pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Self {
        Self(Kind::Panicked(Mutex::new(payload)))
    }

    /// Whether the task panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.0, Kind::Panicked(_))
    }

    /// Whether it was aborted, or its runtime ended before it did.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0, Kind::Cancelled(_))
    }

    /// Whether the blocking pool did not take the job, which was not run: its queue is full, or it has no thread and the
    /// system gives it none. (The text of the error tells which.)
    pub fn is_refused(&self) -> bool {
        matches!(self.0, Kind::QueueFull | Kind::NoThread(_))
    }

    /// Why it was cancelled.
    pub fn reason(&self) -> Option<Reason> {
        if let Kind::Cancelled(reason) = self.0 { Some(reason) } else { None }
    }

    /// The payload of the panic, for [`std::panic::resume_unwind`].
    ///
    /// # Panics
    ///
    /// If the task did not panic; ask [`is_panic`](Self::is_panic) first, or use [`try_into_panic`](Self::try_into_panic).
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        self.try_into_panic().unwrap_or_else(|other| panic!("the task did not panic: {other}"))
    }

    /// The payload of the panic.
    ///
    /// # Errors
    ///
    /// The error itself if the task did not panic.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, Self> {
        match self.0 {
            Kind::Panicked(payload) => Ok(payload.into_inner()),
            other => Err(Self(other)),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Panicked(payload) => write!(f, "task panicked: {}", panic_message(&**payload.lock())),
            Kind::Cancelled(reason) => write!(f, "task cancelled: {reason}"),
            Kind::WrongThread => f.write_str("join handle polled away from the thread of its runtime"),
            Kind::QueueFull => f.write_str("the queue of the blocking pool is full"),
            Kind::NoThread(error) => write!(f, "the blocking pool cannot start a thread: {error}"),
            Kind::Forked => f.write_str(context::harness::FORKED),
            Kind::Taken => f.write_str("the result of the task was taken before"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Kind::NoThread(error) = &self.0 { Some(error) } else { None }
    }
}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> Self {
        Self::other(error)
    }
}

/// A task, a blocking job or a transaction that was still there when the patience of a shutdown ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Straggler {
    /// The name of its context.
    pub context: String,
    /// The line that spawned or sent it.
    pub place: &'static Location<'static>,
}

impl Straggler {
    pub(crate) fn new(context: &dyn fmt::Display, place: &'static Location<'static>) -> Self {
        Self { context: context.to_string(), place }
    }

    pub(crate) fn report(&self, detail: &str) {
        context::sentinel::report(ReportKind::Straggler, &self.context, self.place, detail);
    }
}

/// The error of a leaf operation (a timer, a socket) used where its runtime does not run: a programming error, said
/// plainly instead of a hang.
#[cold]
#[inline(never)]
pub(crate) fn wrong_thread(what: &str) -> io::Error {
    if context::harness::has_forked() {
        return io::Error::other(context::harness::FORKED);
    }
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!(
            "{what} used away from the thread of its runtime (each belongs to the runtime it was made on)"
        ),
    )
}
