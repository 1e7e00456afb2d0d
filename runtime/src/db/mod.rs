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
//! - A transaction that was begun ends, in a commit or a roll-back, and its callbacks are called, whether or not anyone
//!   still awaits it: a cancelled request tears nothing.
//! - If the database was busy, or the transaction lost against another, it is tried again, up to a number of times: the closure
//!   may be called more than once, so what it does besides SQL belongs into [`Transaction::call_after`]. It counts as one
//!   transaction.
//! - `Err` and panics roll back. After a panic the connection is used again only if nothing is left open in it.
//! - Work for nobody stops. A [`read`](Pool::read) whose future was dropped, or whose context was cancelled, is not begun, or
//!   interrupted if it runs. A transaction that may write is not begun if its context is cancelled while it waits; what has
//!   begun runs to its end.
//! - Nothing waits without a bound: a full queue is an error at once, and [`Builder::queue_timeout`] limits the wait in it.
//! - Connections are closed before [`Pool::close`] is over, or the last [`Pool`] has been dropped. [`Pool::close_timeout`]
//!   waits for a limited time only, and says what is left.
//!
//! For an asynchronous driver use [`context::FutureExt::db_transaction`].

mod builder;
mod connection;
mod error;
mod interaction;
mod interrupt;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(test)]
mod tests;
mod transaction;

pub use builder::{Builder, CONNECTIONS_DEFAULT, QUEUE_DEFAULT, RETRIES_DEFAULT};
pub use connection::{Access, Connection};
pub use error::Error;
pub use interaction::Interaction;
pub use interrupt::Interrupt;
pub use transaction::Transaction;

use crate::blocking::errand::{self, Errand};
use crate::current::{self, Core};
use crate::error::Straggler;
use crate::join::{Job, JoinHandle};
use crate::pool::{self, Stop, Why, Work};
use crate::task::raw::fresh_id;
use crate::time::{Instant, sleep};
use crate::unread::Unread;
use context::{Context, Name, ReportKind};
use interaction::{Ticket, Waiting};
use interrupt::{Cause, Course, Watch};
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use transaction::{Plan, Slot};

type Place = &'static Location<'static>;

/// Connections to a database, each on a thread of its own. Cloning is cheap; any thread and any runtime may use it.
///
/// See the [module](self) for what it promises. When the last clone is dropped the pool is closed, and the drop waits
/// for what was accepted; [`close`](Self::close) does so without blocking the thread.
pub struct Pool<C: Connection> {
    inner: Arc<Inner<C>>,
}

struct Inner<C: Connection> {
    threads: pool::Pool<Slot<C>>,
    queue_timeout: Option<Duration>,
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
    /// It is sent off now, not at the first poll, and dropping the returned future does not stop it: once it has begun, it
    /// ends. It is not begun if its context is cancelled while it waits for a connection. Sent in a context that was cancelled
    /// before, as by code that cleans up, it is done.
    ///
    /// `description` is what the sentinel names if no context is current. Of the contexts, the one that is current here pays.
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
    /// A read is done for the code that awaits it. It is not begun, and interrupted if it runs, as soon as the returned future
    /// is dropped, its context is cancelled, the context's deadline passes or its CPU budget is spent. In a context that was
    /// cancelled before it fails at once. (That a context *finishes* stops nothing.) How soon a statement stops is up to the driver:
    /// see [`Connection::watch`], and [`sqlite`] for SQLite.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")] {
    /// # runtime::Runtime::new().unwrap().block_on(async {
    /// use context::{Context, FutureExt};
    /// use runtime::db::{Error, sqlite};
    /// use std::time::Duration;
    ///
    /// let pool = sqlite::Pool::open_in_memory();
    /// let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    /// let hasty = Context::builder("hasty").timeout(Duration::from_millis(5)).build();
    /// let read = async { pool.read("count", |tx| tx.query_row(endless, [], |row| row.get::<_, i64>(0))).await };
    /// assert!(matches!(read.in_context(hasty).await, Err(Error::Cancelled(_))));
    /// # });
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`interact`](Self::interact), and [`Error::Cancelled`].
    #[track_caller]
    pub fn read<T, F>(&self, description: &'static str, f: F) -> Interaction<T, C::Error>
    where
        F: FnMut(&mut Transaction<'_, C>) -> Result<T, C::Error> + Send + 'static,
        T: Send + 'static,
    {
        self.transact(description, Access::Read, f)
    }

    /// Lets `f` have a connection with no transaction around it, for what cannot be in one (`VACUUM`, say). It counts as
    /// a transaction, and is not tried again. If it leaves one open, that is rolled back and the connection closed. Dropping the
    /// future does not stop it.
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
        let place = Location::caller();
        let bill = context::db::begin(description);
        let watch = Watch::new(Access::Write, bill.context().clone());
        self.send(place, watch, move |slot, _| {
            let result = transaction::lend(slot, bill, f);
            (result.is_ok(), result)
        })
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
            last.complete(Ok(()), &Context::sentinel());
            drop(away);
        });
        async {
            // It cannot fail: nobody aborts it and it does not panic.
            let _ = JoinHandle::job(closed).await;
        }
    }

    /// The same, for at most that long. Then the reads that run are interrupted, transactions that were not begun are
    /// dropped ([`Error::Closed`]), and what still runs is left to itself: nothing waits for it any more, not even the drop
    /// of the pool. What was dropped or left is reported as [`ReportKind::Straggler`], and returned.
    ///
    /// Reads are interrupted a little before the end, a tenth of the time and 100 ms at most, so that they are not left.
    ///
    /// # Panics
    ///
    /// The future panics where no runtime runs.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")] {
    /// # runtime::Runtime::new().unwrap().block_on(async {
    /// use runtime::db::{Error, sqlite};
    /// use std::time::Duration;
    ///
    /// let pool = sqlite::Pool::open_in_memory();
    /// let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    /// let read = pool.read("count", |tx| tx.query_row(endless, [], |row| row.get::<_, i64>(0)));
    /// let stragglers = pool.close_timeout(Duration::from_secs(1)).await;
    /// assert!(stragglers.is_empty());
    /// assert!(matches!(read.await, Err(Error::Interrupted)));
    /// # });
    /// # }
    /// ```
    #[track_caller]
    pub fn close_timeout(
        &self,
        patience: Duration,
    ) -> impl Future<Output = Vec<Straggler>> + Send + 'static + use<C> {
        let closed = self.close();
        let inner = self.inner.clone();
        async move {
            let mut closed = Box::pin(closed);
            let last_words = (patience / 10).min(LAST_WORDS_MAX);
            if ends_within(closed.as_mut(), patience - last_words).await {
                return Vec::new();
            }
            let mut left: Vec<_> = inner.threads.drain().into_iter().map(dropped_unbegun).collect();
            inner.threads.stop_running();
            if !ends_within(closed.as_mut(), last_words).await {
                let running = inner.threads.abandon();
                left.extend(running.iter().map(|label| straggler(label, "a transaction, which runs on")));
            }
            left
        }
    }

    #[track_caller]
    fn transact<T, F>(&self, description: &'static str, access: Access, f: F) -> Interaction<T, C::Error>
    where
        F: FnMut(&mut Transaction<'_, C>) -> Result<T, C::Error> + Send + 'static,
        T: Send + 'static,
    {
        let place = Location::caller();
        if access == Access::Read
            && let Some(cancelled) = errand::cancelled(&Context::current())
        {
            return Interaction::refused(Error::Cancelled(cancelled));
        }
        let Inner { retries, backoff, .. } = *self.inner;
        let bill = context::db::begin(description);
        let watch = Watch::new(access, bill.context().clone());
        self.send(place, watch, move |slot, watch| {
            let plan = Plan { watch, retries_max: retries, backoff, place };
            let ending = transaction::transact(slot, bill, plan, f);
            (ending.is_committed(), ending.into_result())
        })
    }

    /// `f` also says whether it has ended with a commit.
    fn send<T, F>(&self, place: Place, watch: Arc<Watch>, f: F) -> Interaction<T, C::Error>
    where
        F: FnOnce(&mut Slot<C>, Arc<Watch>) -> (bool, Outcome<T, C::Error>) + Send + 'static,
        T: Send + 'static,
    {
        let Some(context) = watch.context() else { return Interaction::refused(Error::Closed) };
        let (away, is_paused) =
            current::with(|core| core.map(|core| (core.away(), core.time.is_paused()))).unzip();
        let expires = self.inner.queue_timeout.map(|age| (age, Instant::now() + age));
        // Paused time is known to the loop alone.
        let expires_there = expires.filter(|_| is_paused != Some(true));
        let stop = (watch.access == Access::Read).then(|| watch.clone() as Arc<dyn Stop>);
        let (id, name) = (fresh_id(), context.name());
        let errand = Errand { id, context, place, away, unheard: |_, _, _| (), heeds: false, stop };
        // Dropped unrun, the closure goes first.
        let parts = (f, Course { watch: watch.clone(), place });
        let run = move |slot: &mut Slot<C>| {
            let (f, course) = parts;
            let expired = || {
                expires_there
                    .filter(|(_, until)| Instant::now() >= *until)
                    .map(|(age, _)| Cause::Expired(age))
            };
            if let Some(cause) = course.watch.refusal().or_else(expired) {
                drop((f, course));
                return Err(cause.into_error());
            }
            let (is_committed, outcome) = f(slot, course.watch.clone());
            course.ended(is_committed);
            outcome
        };
        // Reports a failure when it is dropped, unless somebody has taken it.
        let run = move |slot: &mut Slot<C>| Unread::new(run(slot), report_unheard, name, place);
        match errand.send(&self.inner.threads, run) {
            Ok(handle) => {
                let queue = self.inner.threads.queue();
                Interaction::sent(handle, Ticket { watch, queue, id, expires, waiting: Waiting::New })
            }
            Err(Why::Full) => Interaction::refused(Error::QueueFull),
            Err(Why::Closed) => Interaction::refused(Error::Closed),
            Err(Why::NoThread(error)) => Interaction::refused(Error::NoThread(error)),
        }
    }
}

/// How long interrupted reads have to end, at most.
const LAST_WORDS_MAX: Duration = Duration::from_millis(100);

/// Whether `future` is ready before that time is over.
async fn ends_within(mut future: Pin<&mut (impl Future<Output = ()> + Send)>, time: Duration) -> bool {
    let mut timer = sleep(time);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending => Pin::new(&mut timer).poll(cx).map(|()| false),
    })
    .await
}

fn dropped_unbegun<S>(work: Work<S>) -> Straggler {
    straggler(&work.label, "a transaction that was not begun: dropped")
}

fn straggler(label: &pool::Label, detail: &str) -> Straggler {
    let straggler = Straggler::new(&label.context, label.place);
    straggler.report(detail);
    straggler
}

type Outcome<T, E> = Result<T, Error<E>>;

/// Nobody awaits it any more: what failed is said here (P17).
fn report_unheard<E: fmt::Display>(error: &Error<E>, context: &Name, place: Place) {
    let kind = match error {
        // It was not needed any more: nothing has failed.
        Error::Cancelled(_) | Error::Interrupted => return,
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
