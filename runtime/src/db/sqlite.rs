//! SQLite, by rusqlite, which compiles its own (feature `sqlite`; it asks for rustc 1.89).
//!
//! One writer at a time and any number of readers beside it, which is what SQLite's write-ahead log gives:
//! [`Pool::interact`](super::Pool::interact) takes the write lock at the start (`BEGIN IMMEDIATE`), so that two
//! transactions which read first and write later do not fail each other; [`Pool::read`](super::Pool::read) takes none.
//!
//! A read that nobody needs any more stops within some 20 us, as SQLite's progress handler asks for that every 1,000 steps of its
//! machine. (It is called by the statement that runs, so it can hit no other; `on_connect` must leave it in place.) What SQLite
//! does in one step is not interrupted: a function of SQL over one large value, FTS5's `snippet` for one row, or the wait
//! for another process's lock, which [`BUSY_TIMEOUT`] limits.
//!
//! Rows are counted by SQLite's row trace: one function call a row, some 35 ns where the row itself takes 110. A
//! statement that changes the schema makes SQLite read it again, which counts too.

use super::connection::{Access, Connection as Driver};
use super::interrupt::Interrupt;
use super::{Builder, error};
use parking_lot::Mutex;
use rusqlite::trace::{TraceEvent, TraceEventCodes};
use rusqlite::{ErrorCode, TransactionBehavior};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long a statement waits for a lock before SQLite gives up, and the pool tries the whole transaction again.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Steps of SQLite's machine between two looks at whether a read is to stop: some 20 us.
const STEPS_BETWEEN_LOOKS: i32 = 1_000;

/// A pool of connections to one SQLite file.
pub type Pool = super::Pool<Connection>;
/// What can go wrong.
pub type Error = error::Error<rusqlite::Error>;
/// A transaction on SQLite; derefs to [`rusqlite::Transaction`].
pub type Transaction<'a> = super::Transaction<'a, Connection>;

/// A [`rusqlite::Connection`] whose rows are counted.
#[derive(Debug)]
pub struct Connection {
    inner: rusqlite::Connection,
    rows: Arc<AtomicU64>,
    /// What may interrupt the read that runs.
    watched: Arc<Mutex<Option<Interrupt>>>,
}

impl Connection {
    /// Opens the file, which is made if there is none, in the way of this pool: write-ahead log, foreign keys on, and
    /// [`BUSY_TIMEOUT`].
    ///
    /// # Errors
    ///
    /// SQLite's.
    pub fn open(path: impl AsRef<Path>) -> rusqlite::Result<Self> {
        Self::new(rusqlite::Connection::open(path)?)
    }

    /// Opens a database in memory, which is gone with the connection.
    ///
    /// # Errors
    ///
    /// SQLite's.
    pub fn open_in_memory() -> rusqlite::Result<Self> {
        Self::new(rusqlite::Connection::open_in_memory()?)
    }

    /// Prepares a connection that was opened in another way.
    ///
    /// # Errors
    ///
    /// SQLite's.
    pub fn new(inner: rusqlite::Connection) -> rusqlite::Result<Self> {
        inner.busy_timeout(BUSY_TIMEOUT)?;
        // A database in memory has no log, and says so instead of failing.
        inner.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        // With a log this loses no consistency, at worst the last commits before a power failure.
        inner.pragma_update(None, "synchronous", "NORMAL")?;
        inner.pragma_update(None, "foreign_keys", true)?;
        let mut connection = Self { inner, rows: Arc::default(), watched: Arc::default() };
        let watched = connection.watched.clone();
        // Called by the statement that runs, on this thread: whatever runs later is not concerned.
        let is_interrupted = move || {
            let interrupt = watched.lock().clone();
            interrupt.is_some_and(|interrupt| interrupt.is_requested())
        };
        connection.inner.progress_handler(STEPS_BETWEEN_LOOKS, Some(is_interrupted))?;
        let rows = connection.rows.clone();
        let count = move |event: TraceEvent<'_>| {
            if let TraceEvent::Row(_) = event {
                // Load and store: this thread alone writes it.
                rows.store(rows.load(Relaxed) + 1, Relaxed);
            }
        };
        connection.inner.trace_v2(TraceEventCodes::SQLITE_TRACE_ROW, Some(count))?;
        Ok(connection)
    }
}

impl Deref for Connection {
    type Target = rusqlite::Connection;

    fn deref(&self) -> &rusqlite::Connection {
        &self.inner
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut rusqlite::Connection {
        &mut self.inner
    }
}

impl Driver for Connection {
    type Error = rusqlite::Error;
    type Transaction<'a> = rusqlite::Transaction<'a>;

    fn begin(&mut self, access: Access) -> rusqlite::Result<rusqlite::Transaction<'_>> {
        let behavior = match access {
            Access::Read => TransactionBehavior::Deferred,
            Access::Write => TransactionBehavior::Immediate,
        };
        self.inner.transaction_with_behavior(behavior)
    }

    fn commit(transaction: rusqlite::Transaction<'_>) -> rusqlite::Result<()> {
        transaction.commit()
    }

    fn roll_back(transaction: rusqlite::Transaction<'_>) -> rusqlite::Result<()> {
        if transaction.is_autocommit() {
            // SQLite has done so itself: after some errors it does.
            return Ok(());
        }
        transaction.rollback()
    }

    fn is_retryable(error: &rusqlite::Error) -> bool {
        matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    }

    fn is_clean(&mut self) -> bool {
        self.inner.is_autocommit()
    }

    fn watch(&mut self, interrupt: Option<Interrupt>) {
        let before = std::mem::replace(&mut *self.watched.lock(), interrupt);
        drop(before);
    }

    fn take_rows(&mut self) -> u64 {
        self.rows.swap(0, Relaxed)
    }

    fn close(self) -> rusqlite::Result<()> {
        self.inner.close().map_err(|(_, error)| error)
    }
}

impl Pool {
    /// A pool on the file at `path`, which is made if there is none.
    ///
    /// Opens and closes one connection here, so that a file that cannot be used is an error now. That blocks for a
    /// moment: it belongs to the start of a program.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`](error::Error::Connect).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let tried = Connection::open(path).and_then(Driver::close);
        tried.map_err(error::Error::Connect)?;
        Ok(builder(path).build())
    }

    /// A pool with one connection to a database in memory, which is gone with the pool. For tests.
    pub fn open_in_memory() -> Self {
        Self::builder(Connection::open_in_memory).connections(1).build()
    }
}

/// Settings for a pool on the file at `path`.
///
/// ```no_run
/// use runtime::db::sqlite;
///
/// let pool = sqlite::builder("app.db").connections(8).on_connect(|connection| connection.execute_batch("PRAGMA cache_size = -8192")).build();
/// ```
pub fn builder(path: impl Into<PathBuf>) -> Builder<Connection> {
    let path = path.into();
    Pool::builder(move || Connection::open(&path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;
    use context::{Context, FutureExt};
    use std::future::Future;
    use std::sync::mpsc;

    /// A file of one test, gone with it.
    struct File(PathBuf);

    impl File {
        fn new(test: &str) -> Self {
            let name = format!("bursar-test-{test}-{}.db", std::process::id());
            let file = Self(std::env::temp_dir().join(name));
            file.remove();
            file
        }

        fn remove(&self) {
            for suffix in ["", "-wal", "-shm"] {
                let mut name = self.0.clone().into_os_string();
                name.push(suffix);
                let _ = std::fs::remove_file(name);
            }
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            self.remove();
        }
    }

    fn run<T>(context: &Context, future: impl Future<Output = Result<T, Error>>) -> T {
        Runtime::new().unwrap().block_on(future.in_context(context.clone())).unwrap()
    }

    const TABLE: &str = "CREATE TABLE n (n INTEGER PRIMARY KEY) STRICT";
    const FILL: &str = "WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 10)
                        INSERT INTO n SELECT i FROM s";

    async fn count(pool: &Pool) -> Result<i64, Error> {
        pool.read("count", |tx| tx.query_row("SELECT count(*) FROM n", [], |row| row.get(0))).await
    }

    #[test]
    fn p11_rows_are_counted_by_themselves() {
        let file = File::new("rows");
        let created = Connection::open(&file.0).and_then(|connection| connection.execute_batch(TABLE));
        created.unwrap();
        let request = Context::root("sqlite rows");
        run(&request, async {
            let pool = Pool::open(&file.0)?;
            pool.interact("fill", |tx| tx.execute(FILL, [])).await?;
            assert_eq!(request.usage().db.rows, 0, "what SQLite reads for itself at the start is no row");
            let sum = pool.read("sum", |tx| {
                let mut statement = tx.prepare_cached("SELECT n FROM n")?;
                let rows = statement.query_map([], |row| row.get::<_, i64>(0))?;
                rows.sum::<rusqlite::Result<i64>>()
            });
            assert_eq!(sum.await?, 55);
            pool.close().await;
            Ok(())
        });
        let usage = request.usage().db;
        assert_eq!((usage.transactions, usage.rows), (2, 10));
    }

    #[test]
    fn an_error_and_a_panic_leave_nothing_behind() {
        let file = File::new("roll-back");
        run(&Context::root("sqlite roll-back"), async {
            let pool = Pool::open(&file.0)?;
            pool.interact("create", |tx| tx.execute_batch(TABLE)).await?;
            let twice = "INSERT INTO n VALUES (1), (1)";
            let error = pool
                .interact("twice", move |tx| {
                    tx.execute("INSERT INTO n VALUES (2)", [])?;
                    tx.execute(twice, [])
                })
                .await
                .unwrap_err();
            assert!(error.to_string().contains("UNIQUE"), "{error}");
            let panicking = pool.interact("panic", |tx| -> rusqlite::Result<()> {
                tx.execute(FILL, [])?;
                panic!("this panic belongs to the test")
            });
            assert!(matches!(panicking.await, Err(Error::Panicked(_))));
            assert_eq!(count(&pool).await?, 0);
            let doomed = pool.interact("doomed", |tx| {
                tx.roll_back();
                tx.execute(FILL, [])
            });
            assert_eq!(doomed.await?, 10);
            assert_eq!(count(&pool).await?, 0);
            pool.close().await;
            Ok(())
        });
    }

    /// Another process has the write lock: the first attempt is refused, and the one that comes after the lock is not.
    #[test]
    fn p11_a_busy_database_is_tried_again() {
        let file = File::new("busy");
        let request = Context::root("sqlite busy");
        let blocker = Connection::open(&file.0).unwrap();
        blocker.execute_batch(TABLE).unwrap();
        blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
        let (tried, is_tried) = mpsc::channel();
        run(&request, async {
            let pool = builder(&file.0)
                .connections(1)
                .retries(u32::MAX)
                .backoff(Duration::ZERO)
                .on_connect(|connection| connection.busy_timeout(Duration::ZERO))
                .build();
            // As a reader, so that it comes as far as the closure.
            let filled = pool.read("fill", move |tx| {
                let _ = tried.send(());
                tx.execute(FILL, [])
            });
            (0..3).for_each(|_| is_tried.recv().unwrap());
            drop(is_tried);
            blocker.execute_batch("COMMIT").unwrap();
            assert_eq!(filled.await?, 10);
            pool.close().await;
            Ok(())
        });
        assert_eq!(request.usage().db.transactions, 1);
    }

    #[test]
    fn readers_do_not_wait_for_the_writer() {
        let file = File::new("readers");
        run(&Context::root("sqlite readers"), async {
            let pool = Pool::open(&file.0)?;
            pool.interact("create", |tx| tx.execute_batch(TABLE)).await?;
            let (written, is_written) = mpsc::channel();
            let (go_on, goes_on) = mpsc::channel::<()>();
            let writing = pool.interact("write", move |tx| {
                tx.execute(FILL, [])?;
                written.send(()).unwrap();
                let _ = goes_on.recv();
                Ok(())
            });
            is_written.recv().unwrap();
            assert_eq!(count(&pool).await?, 0, "and see what was before");
            go_on.send(()).unwrap();
            writing.await?;
            assert_eq!(count(&pool).await?, 10);
            pool.close().await;
            Ok(())
        });
    }

    #[test]
    fn a_connection_without_a_transaction_and_one_left_open() {
        let file = File::new("lend");
        run(&Context::root("sqlite lend"), async {
            let pool = builder(&file.0).connections(1).build();
            pool.interact("create", |tx| tx.execute_batch(TABLE)).await?;
            pool.with_connection("vacuum", |connection| connection.execute_batch("VACUUM")).await?;
            let left_open = pool.with_connection("leave open", |connection| {
                connection.execute_batch("BEGIN; INSERT INTO n VALUES (1)")
            });
            left_open.await?;
            assert_eq!(count(&pool).await?, 0);
            pool.close().await;
            Ok(())
        });
    }

    #[test]
    fn a_connection_is_as_promised_and_closed_at_the_end() {
        let file = File::new("promised");
        run(&Context::root("sqlite promised"), async {
            let pool = Pool::open(&file.0)?;
            let pragma = async |name: &'static str| {
                pool.read("pragma", move |tx| tx.pragma_query_value(None, name, |row| row.get::<_, i64>(0)))
                    .await
            };
            assert_eq!(pragma("foreign_keys").await?, 1);
            assert_eq!(pragma("busy_timeout").await?, 5_000);
            let mode = pool.read("mode", |tx| {
                tx.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0))
            });
            assert_eq!(mode.await?, "wal");
            pool.close().await;
            Ok(())
        });
        let mut log = file.0.clone().into_os_string();
        log.push("-wal");
        assert!(!PathBuf::from(log).exists(), "the last connection to close takes the log with it");
    }

    /// One million million rows, one after the other.
    const ENDLESS: &str =
        "WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 1000000000000)
                           SELECT count(*) FROM s";

    /// The statement itself stops, and the same connection goes on as if nothing had been.
    #[test]
    fn p27_v4_an_endless_read_is_interrupted_and_its_connection_goes_on() {
        let file = File::new("interrupt");
        let request = Context::root("sqlite interrupt");
        run(&Context::root("sqlite interrupts"), async {
            let pool = builder(&file.0).connections(1).build();
            pool.interact("create", |tx| tx.execute_batch(TABLE)).await?;
            let endless = || {
                let (begun, has_begun) = mpsc::channel();
                let read = pool.read("endless", move |tx| {
                    begun.send(()).unwrap();
                    tx.query_row(ENDLESS, [], |row| row.get::<_, i64>(0))
                });
                has_begun.recv().unwrap();
                read
            };
            // Nobody awaits it.
            drop(endless());
            assert_eq!(count(&pool).await?, 0);
            // Its context is cancelled, and nobody polls its future.
            let read = request.scope(endless);
            request.cancel(context::Reason::Disconnected);
            assert_eq!(count(&pool).await?, 0);
            assert!(matches!(read.await, Err(Error::Cancelled(_))));
            // It spends its budget.
            let thrifty = Context::builder("sqlite thrifty").cpu_budget(Duration::from_millis(2)).build();
            let error = thrifty.scope(endless).await.unwrap_err();
            assert!(matches!(error, Error::Cancelled(why) if why.reason() == context::Reason::CpuBudget));
            // Its deadline passes.
            let hasty = Context::builder("sqlite hasty").timeout(Duration::from_millis(2)).build();
            let error = hasty.scope(endless).await.unwrap_err();
            assert!(matches!(error, Error::Cancelled(why) if why.reason() == context::Reason::Deadline));
            // A write of that connection is not concerned.
            let cancelled = Context::root("sqlite write");
            let (begun, has_begun) = mpsc::channel();
            let write = cancelled.scope(|| {
                pool.interact("write", move |tx| {
                    begun.send(()).unwrap();
                    tx.query_row(
                        "WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 200000)
                                  SELECT count(*) FROM s",
                        [],
                        |row| row.get::<_, i64>(0),
                    )?;
                    tx.execute(FILL, [])
                })
            });
            has_begun.recv().unwrap();
            cancelled.cancel(context::Reason::Disconnected);
            drop(write);
            assert_eq!(count(&pool).await?, 10);
            // The pool loses patience.
            let read = endless();
            assert!(pool.close_timeout(Duration::from_secs(1)).await.is_empty());
            assert!(matches!(read.await, Err(Error::Interrupted)));
            Ok(())
        });
    }

    #[test]
    fn a_path_that_cannot_be_opened_is_an_error_at_once() {
        let error = Pool::open("no/such/folder/app.db").unwrap_err();
        assert!(matches!(error, Error::Connect(_)), "{error}");
    }
}
