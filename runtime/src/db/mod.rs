//! Databases with a blocking driver: connections on threads of their own (P11).
//!
//! A [`Pool`] has up to as many threads as connections, each of which owns one. A transaction is a closure that is sent
//! there; it runs in the context of who sent it, so its CPU is charged there, and
//! [`Usage::db`](context::Usage::db) counts transactions, the time in them, the wait for a connection, and rows.
//!
//! ```
//! # #[cfg(feature = "sqlite")] {
//! # let file = std::env::temp_dir().join(format!("bursar-doc-db-{}", std::process::id()));
//! # runtime::Runtime::new().unwrap().block_on(async {
//! use runtime::db::sqlite;
//!
//! let pool = sqlite::Pool::open(&file)?;
//! pool.interact("create table", |tx| tx.execute_batch("CREATE TABLE IF NOT EXISTS users (name TEXT)")).await?;
//! pool.interact("store user", |tx| tx.execute("INSERT INTO users VALUES (?1)", ["ann"])).await?;
//! let name: String =
//!     pool.read("load user", |tx| tx.query_row("SELECT name FROM users", [], |row| row.get(0))).await?;
//! assert_eq!(name, "ann");
//!
//! let cost = context::Context::current().usage().db;
//! assert!(cost.transactions == 3 && cost.rows >= 1);
//! pool.close().await;
//! # Ok::<(), sqlite::Error>(())
//! # }).unwrap();
//! # let _ = std::fs::remove_file(file);
//! # }
//! ```
//!
//! # What is promised
//!
//! - A transaction that was accepted ends, in a commit or a roll-back, and its callbacks are called, whether or not anyone
//!   still awaits it: a cancelled request tears nothing.
//! - If the database was busy, or the transaction lost against another, it is tried again, up to a number of times: the closure
//!   may be called more than once, so what it does besides SQL belongs into [`Transaction::call_after`]. It counts as one
//!   transaction.
//! - `Err` and panics roll back. After a panic the connection is used again only if nothing is left open in it.
//! - Nothing waits without a bound: a full queue is an error at once.
//! - Connections are closed before [`Pool::close`] is over, or the last [`Pool`] has been dropped.
//!
//! For an asynchronous driver use [`context::FutureExt::db_transaction`].

mod connection;
mod error;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(test)]
mod tests;
mod transaction;

pub use connection::{Access, Connection};
pub use error::Error;
pub use transaction::Transaction;

use crate::blocking::errand::Errand;
use crate::config::HookList;
use crate::current::{self, Core};
use crate::join::{Job, JoinHandle};
use crate::pool::{self, Why};
use crate::task::raw::fresh_id;
use context::{Clock, Context, ReportKind};
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;
use transaction::{Plan, Slot};

type Place = &'static Location<'static>;

/// Connections of a pool, unless it is told otherwise.
pub const CONNECTIONS_DEFAULT: usize = 4;
/// Transactions that may wait for a connection, unless the pool is told otherwise.
pub const QUEUE_DEFAULT: usize = 1_024;
/// How often a transaction is tried again, unless the pool is told otherwise.
pub const RETRIES_DEFAULT: u32 = 5;
const BACKOFF_DEFAULT: Duration = Duration::from_millis(2);

/// Settings for a [`Pool`].
#[must_use = "nothing is built before `build`"]
pub struct Builder<C: Connection> {
    name: String,
    open: transaction::Open<C>,
    connections: usize,
    queue: usize,
    retries: u32,
    backoff: Duration,
}

impl<C: Connection> Builder<C> {
    fn new(open: transaction::Open<C>) -> Self {
        Self {
            name: "bursar-db".to_owned(),
            open,
            connections: CONNECTIONS_DEFAULT,
            queue: QUEUE_DEFAULT,
            retries: RETRIES_DEFAULT,
            backoff: BACKOFF_DEFAULT,
        }
    }

    /// What the threads are called.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Connections at most, and threads; 4 by default, opened when needed.
    ///
    /// # Panics
    ///
    /// If it is 0.
    pub fn connections(mut self, connections: usize) -> Self {
        assert!(connections > 0, "a database pool needs at least one connection");
        self.connections = connections;
        self
    }

    /// Transactions that may wait for a connection; 1,024 by default. Further ones fail with [`Error::QueueFull`].
    pub fn queue(mut self, transactions: usize) -> Self {
        self.queue = transactions;
        self
    }

    /// How often a transaction is tried again that failed for a passing reason; 5 by default, so 6 attempts.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// The pause before the first retry, 2 ms by default; doubled before each further one, up to 256 times as
    /// long. The connection waits meanwhile.
    pub fn backoff(mut self, pause: Duration) -> Self {
        self.backoff = pause;
        self
    }

    /// Does something with each new connection before it is used. An error closes it and fails the transaction.
    pub fn on_connect(mut self, f: impl Fn(&mut C) -> Result<(), C::Error> + Send + Sync + 'static) -> Self {
        let open = self.open;
        self.open = Arc::new(move || {
            let mut connection = open()?;
            f(&mut connection)?;
            Ok(connection)
        });
        self
    }

    /// Builds it. Nothing is opened yet.
    ///
    /// The threads read CPU time as the runtime does that runs here, if one does, and tell its hooks.
    pub fn build(self) -> Pool<C> {
        let Self { name, open, connections, queue, retries, backoff } = self;
        let (clock, hooks) = current::with(|core| {
            core.map_or_else(
                || (Clock::Auto, HookList::default()),
                |core| (core.config.clock, core.config.hooks.clone()),
            )
        });
        let settings = pool::Settings {
            name,
            threads_max: connections,
            queue_max: queue,
            keep_alive: None,
            clock,
            hooks,
        };
        let threads = pool::Pool::new(settings, move || Slot::new(open.clone()));
        Pool { inner: Arc::new(Inner { threads, retries, backoff }) }
    }
}

impl<C: Connection> fmt::Debug for Builder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("connections", &self.connections)
            .field("queue", &self.queue)
            .field("retries", &self.retries)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

/// Connections to a database, each on a thread of its own. Cloning is cheap; any thread and any runtime may use it.
///
/// See the [module](self) for what it promises. When the last clone is dropped the pool is closed, and the drop waits
/// for what was accepted; [`close`](Self::close) does so without blocking the thread.
pub struct Pool<C: Connection> {
    inner: Arc<Inner<C>>,
}

struct Inner<C: Connection> {
    threads: pool::Pool<Slot<C>>,
    retries: u32,
    backoff: Duration,
}

impl<C: Connection> Pool<C> {
    /// Settings for a pool whose connections are opened by `open`, on their threads.
    pub fn builder(open: impl Fn() -> Result<C, C::Error> + Send + Sync + 'static) -> Builder<C> {
        Builder::new(Arc::new(open))
    }

    /// Runs `f` inside of one transaction, which is committed if it returns `Ok`.
    ///
    /// It is sent off now, not at the first poll, and dropping the returned future does not stop it. `description` is
    /// what the sentinel names if no context is current. Of the contexts, the one that is current here pays.
    ///
    /// # Errors
    ///
    /// The driver's [`Error::Driver`] after the last retry, and the other cases of [`Error`].
    #[track_caller]
    pub fn interact<T, F>(&self, description: &'static str, f: F) -> Interaction<T, C::Error>
    where
        F: FnMut(&mut Transaction<'_, C>) -> Result<T, C::Error> + Send + 'static,
        T: Send + 'static,
    {
        self.transact(description, Access::Write, f)
    }

    /// The same for a transaction that only reads, which databases can often do side by side with others
    /// ([`Access::Read`]). If it writes all the same, that is committed.
    ///
    /// # Errors
    ///
    /// As [`interact`](Self::interact).
    #[track_caller]
    pub fn read<T, F>(&self, description: &'static str, f: F) -> Interaction<T, C::Error>
    where
        F: FnMut(&mut Transaction<'_, C>) -> Result<T, C::Error> + Send + 'static,
        T: Send + 'static,
    {
        self.transact(description, Access::Read, f)
    }

    /// Lets `f` have a connection with no transaction around it, for what cannot be in one (`VACUUM`, say). It counts as
    /// a transaction, and is not tried again. If it leaves one open, that is rolled back and the connection closed.
    ///
    /// # Errors
    ///
    /// As [`interact`](Self::interact).
    #[track_caller]
    pub fn with_connection<T, F>(&self, description: &'static str, f: F) -> Interaction<T, C::Error>
    where
        F: FnOnce(&mut C) -> Result<T, C::Error> + Send + 'static,
        T: Send + 'static,
    {
        let bill = context::db::begin(description);
        self.send(Location::caller(), bill.context().clone(), move |slot| transaction::lend(slot, bill, f))
    }

    /// Takes no further transactions, and resolves when those that were accepted have ended and all connections are closed.
    ///
    /// Closed it is at once, also if the future is dropped.
    #[track_caller]
    pub fn close(&self) -> impl Future<Output = ()> + Send + 'static + use<C> {
        let closed = Job::new(fresh_id(), Context::current().name(), Location::caller());
        let away = current::with(|core| core.map(Core::away));
        let threads = &self.inner.threads;
        threads.close();
        let last = closed.clone();
        threads.at_end(move || {
            last.complete(Ok(()));
            drop(away);
        });
        async {
            // It cannot fail: nobody aborts it and it does not panic.
            let _ = JoinHandle::job(closed).await;
        }
    }

    #[track_caller]
    fn transact<T, F>(&self, description: &'static str, access: Access, f: F) -> Interaction<T, C::Error>
    where
        F: FnMut(&mut Transaction<'_, C>) -> Result<T, C::Error> + Send + 'static,
        T: Send + 'static,
    {
        let Inner { retries, backoff, .. } = *self.inner;
        let place = Location::caller();
        let plan = Plan { access, retries_max: retries, backoff, place };
        let bill = context::db::begin(description);
        let context = bill.context().clone();
        self.send(place, context, move |slot| transaction::transact(slot, bill, plan, f))
    }

    fn send<T, F>(&self, place: Place, context: Context, f: F) -> Interaction<T, C::Error>
    where
        F: FnOnce(&mut Slot<C>) -> Outcome<T, C::Error> + Send + 'static,
        T: Send + 'static,
    {
        let away = current::with(|core| core.map(Core::away));
        let errand = Errand { context, place, away, unheard: report_unheard };
        Interaction(match errand.send(&self.inner.threads, f) {
            Ok(handle) => Stage::Sent(handle),
            Err(Why::Full) => Stage::Refused(Some(Error::QueueFull)),
            Err(Why::Closed) => Stage::Refused(Some(Error::Closed)),
            Err(Why::NoThread(error)) => {
                log::error!("bursar: no thread for a database connection: {error}");
                Stage::Refused(Some(Error::QueueFull))
            }
        })
    }
}

type Outcome<T, E> = Result<T, Error<E>>;

/// Nobody awaits it any more: what failed is said here (P17).
fn report_unheard<T, E: fmt::Display>(outcome: &Outcome<T, E>, context: &Context, place: Place) {
    let Err(error) = outcome else { return };
    let kind = match error {
        Error::Panicked(_) => ReportKind::UnhandledPanic,
        _ => ReportKind::UnhandledError,
    };
    context::sentinel::report(kind, context, place, &error.to_string());
}

impl<C: Connection> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<C: Connection> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("retries", &self.inner.retries).finish_non_exhaustive()
    }
}

impl<C: Connection> Drop for Inner<C> {
    fn drop(&mut self) {
        self.threads.close();
        self.threads.join(None);
    }
}

/// The result to come of a transaction. Dropping it does not stop the transaction; if that fails then, the sentinel
/// reports it.
#[must_use = "a transaction may fail: await it"]
pub struct Interaction<T, E>(Stage<T, E>);

enum Stage<T, E> {
    Sent(JoinHandle<Outcome<T, E>>),
    Refused(Option<Error<E>>),
}

/// Nothing in it is pinned.
impl<T, E> Unpin for Interaction<T, E> {}

impl<T, E> Future for Interaction<T, E> {
    type Output = Result<T, Error<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Stage::Sent(handle) => Pin::new(handle).poll(cx).map(|joined| joined.map_err(Error::of_job)?),
            Stage::Refused(error) => Poll::Ready(Err(error.take().unwrap_or(Error::Closed))),
        }
    }
}

impl<T, E> fmt::Debug for Interaction<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Stage::Sent(handle) => write!(f, "Interaction({})", handle.id()),
            Stage::Refused(_) => f.write_str("Interaction(refused)"),
        }
    }
}
