//! Why a transaction has no result.

use crate::error::{JoinError, Kind};
use context::Cancelled;
use std::fmt;
use std::io;
use std::time::Duration;

/// The error of a [`Pool`](super::Pool); `E` is the driver's.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error<E> {
    /// The driver's: of a statement, or of the commit. The transaction was rolled back.
    Driver(E),
    /// No connection could be opened.
    Connect(E),
    /// The closure panicked, and the transaction was rolled back. Others are not affected.
    Panicked(JoinError),
    /// All connections are busy and the queue is full: nothing was done.
    QueueFull,
    /// It waited for a connection for longer than [`Builder::queue_timeout`](super::Builder::queue_timeout), this long:
    /// nothing was done.
    QueueTimeout(Duration),
    /// Its context was cancelled while it waited, or while it read: nothing was done.
    Cancelled(Cancelled),
    /// A read was interrupted because the pool closes, or nobody awaits it any more.
    Interrupted,
    /// The pool was closed before: nothing was done.
    Closed,
    /// There is no thread for a connection, and none could be started: nothing was done.
    NoThread(io::Error),
}

impl<E> Error<E> {
    /// The driver's own error, if it is one.
    pub fn driver(&self) -> Option<&E> {
        if let Self::Driver(error) | Self::Connect(error) = self { Some(error) } else { None }
    }

    /// Of a job that did not come back with an outcome of its own.
    pub(super) fn of_job(error: JoinError) -> Self {
        match error.0 {
            Kind::QueueFull => Self::QueueFull,
            Kind::NoThread(error) => Self::NoThread(error),
            Kind::Panicked(_) => Self::Panicked(error),
            Kind::Cancelled(_) | Kind::WrongThread | Kind::Forked => Self::Closed,
            Kind::Taken => panic!("`Interaction` polled after completion"),
        }
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(error) => write!(f, "transaction failed: {error}"),
            Self::Connect(error) => write!(f, "cannot connect to the database: {error}"),
            Self::Panicked(error) => write!(f, "transaction rolled back: {error}"),
            Self::QueueFull => f.write_str("the queue of the database pool is full"),
            Self::QueueTimeout(age) => {
                write!(f, "no connection of the database pool was free for {age:?}")
            }
            Self::Cancelled(cancelled) => write!(f, "transaction {cancelled}"),
            Self::Interrupted => f.write_str("read interrupted"),
            Self::Closed => f.write_str("the database pool is closed"),
            Self::NoThread(error) => write!(f, "no thread for a database connection: {error}"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Driver(error) | Self::Connect(error) => Some(error),
            Self::Panicked(error) => Some(error),
            Self::Cancelled(cancelled) => Some(cancelled),
            Self::NoThread(error) => Some(error),
            Self::QueueFull | Self::QueueTimeout(_) | Self::Interrupted | Self::Closed => None,
        }
    }
}
