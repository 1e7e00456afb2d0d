//! Settings of a pool.

use super::connection::Connection;
use super::transaction::{self, Slot};
use super::{Inner, Pool};
use crate::config::HookList;
use crate::current;
use crate::pool;
use context::Clock;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Connections of a pool, unless it is told otherwise.
pub const CONNECTIONS_DEFAULT: usize = 4;
/// Transactions that may wait for a connection, unless the pool is told otherwise.
pub const QUEUE_DEFAULT: usize = 64;
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
    queue_timeout: Option<Duration>,
    retries: u32,
    backoff: Duration,
}

impl<C: Connection> Builder<C> {
    pub(super) fn new(open: transaction::Open<C>) -> Self {
        Self {
            name: "bursar-db".to_owned(),
            open,
            connections: CONNECTIONS_DEFAULT,
            queue: QUEUE_DEFAULT,
            queue_timeout: None,
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

    /// Transactions that may wait for a connection; 64 by default. Further ones fail with [`Error::QueueFull`](super::Error::QueueFull).
    ///
    /// The last one in a full queue waits for `queue / connections` transactions: with 64 and 4, for 16 of them. That should
    /// be well below what callers have patience for. A longer queue adds no throughput; it serves callers that have given
    /// up.
    pub fn queue(mut self, transactions: usize) -> Self {
        self.queue = transactions;
        self
    }

    /// How long a transaction may wait for a connection; without a limit by default. One that waits longer is not begun, and
    /// fails with [`Error::QueueTimeout`](super::Error::QueueTimeout): at that moment if its future is awaited on a
    /// runtime, else when its turn comes.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")] {
    /// use runtime::db::{Error, sqlite};
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    ///
    /// # runtime::Runtime::new().unwrap().block_on(async {
    /// let pool = sqlite::Pool::builder(sqlite::Connection::open_in_memory)
    ///     .connections(1)
    ///     .queue_timeout(Duration::from_millis(20))
    ///     .build();
    /// let (go_on, goes_on) = mpsc::channel::<()>();
    /// let busy = pool.interact("busy", move |_| {
    ///     let _ = goes_on.recv();
    ///     Ok(())
    /// });
    /// let late = pool.read("late", |tx| tx.query_row("SELECT 1", [], |row| row.get::<_, i64>(0)));
    /// assert!(matches!(late.await, Err(Error::QueueTimeout(_))));
    /// drop(go_on);
    /// busy.await.unwrap();
    /// # });
    /// # }
    /// ```
    pub fn queue_timeout(mut self, age: Duration) -> Self {
        self.queue_timeout = Some(age);
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
        let Self { name, open, connections, queue, queue_timeout, retries, backoff } = self;
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
            after_burst: || (),
            clock,
            hooks,
        };
        let threads = pool::Pool::new(settings, move || Slot::new(open.clone()));
        Pool { inner: Arc::new(Inner { threads, queue_timeout, retries, backoff }) }
    }
}

impl<C: Connection> fmt::Debug for Builder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("connections", &self.connections)
            .field("queue", &self.queue)
            .field("queue_timeout", &self.queue_timeout)
            .field("retries", &self.retries)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}
