//! What a driver has to offer.

use super::interrupt::Interrupt;

/// A connection of a blocking driver, as [`Pool`](super::Pool) uses it.
///
/// It is opened, used and closed on one thread, so it need not be `Send`.
///
/// ```
/// use runtime::db::{Access, Connection, Pool};
///
/// /// A database that keeps one number.
/// #[derive(Default)]
/// struct Number {
///     committed: i64,
/// }
///
/// /// The number as the transaction sees it, and where it goes.
/// struct Open<'a>(i64, &'a mut Number);
///
/// impl Connection for Number {
///     type Error = std::fmt::Error;
///     type Transaction<'a> = Open<'a>;
///
///     fn begin(&mut self, _access: Access) -> Result<Open<'_>, Self::Error> {
///         Ok(Open(self.committed, self))
///     }
///     fn commit(transaction: Open<'_>) -> Result<(), Self::Error> {
///         transaction.1.committed = transaction.0;
///         Ok(())
///     }
///     fn roll_back(_: Open<'_>) -> Result<(), Self::Error> {
///         Ok(())
///     }
///     fn is_retryable(_: &Self::Error) -> bool {
///         false
///     }
///     fn is_clean(&mut self) -> bool {
///         true
///     }
///     fn close(self) -> Result<(), Self::Error> {
///         Ok(())
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// let pool = Pool::builder(|| Ok(Number::default())).connections(1).build();
/// pool.interact("add", |tx| {
///     tx.0 += 2;
///     Ok(())
/// })
/// .await
/// .unwrap();
/// assert_eq!(pool.interact("get", |tx| Ok(tx.0)).await.unwrap(), 2);
/// pool.close().await;
/// # });
/// # Ok(())
/// # }
/// ```
pub trait Connection: Sized + 'static {
    /// The driver's error.
    type Error: std::error::Error + Send + 'static;

    /// A transaction that is open. To drop it is to roll it back.
    type Transaction<'a>
    where
        Self: 'a;

    /// Begins a transaction.
    ///
    /// # Errors
    ///
    /// The driver's; then no transaction is open.
    fn begin(&mut self, access: Access) -> Result<Self::Transaction<'_>, Self::Error>;

    /// Commits it.
    ///
    /// # Errors
    ///
    /// The driver's; then it is rolled back.
    fn commit(transaction: Self::Transaction<'_>) -> Result<(), Self::Error>;

    /// Rolls it back.
    ///
    /// # Errors
    ///
    /// The driver's; then the connection says so by [`is_clean`](Self::is_clean).
    fn roll_back(transaction: Self::Transaction<'_>) -> Result<(), Self::Error>;

    /// Whether the same transaction may well succeed if it is tried again: the database was locked, or the transaction
    /// lost against another.
    fn is_retryable(error: &Self::Error) -> bool;

    /// Whether it is alive and no transaction is open. Asked after errors and panics; if not, the connection is closed
    /// and the next job opens another.
    fn is_clean(&mut self) -> bool;

    /// Called before each attempt of a read with what may interrupt it, and with `None` after it has ended, so that nothing of it is
    /// kept. Without it, a read that nobody needs any more runs to its end.
    ///
    /// Either look at [`Interrupt::is_requested`] while a statement runs (SQLite's progress handler), or have
    /// [`Interrupt::on_request`] call the driver's own interrupt. A statement that is interrupted returns an error.
    fn watch(&mut self, interrupt: Option<Interrupt>) {
        drop(interrupt);
    }

    /// How many rows were fetched since this was last asked, if the driver can count.
    fn take_rows(&mut self) -> u64 {
        0
    }

    /// Closes it.
    ///
    /// # Errors
    ///
    /// The driver's, which is logged.
    fn close(self) -> Result<(), Self::Error>;
}

/// What a transaction is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It only reads, as far as is known.
    Read,
    /// It writes: a lock that it will need may be taken at the start.
    Write,
}
