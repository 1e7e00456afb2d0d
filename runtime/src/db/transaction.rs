//! One transaction on the thread of its connection: attempts, commit or roll-back, callbacks.

use super::connection::{Access, Connection};
use super::error::Error;
use super::interrupt::{Cause, Interrupt, Watch, contained};
use crate::error::JoinError;
use context::harness;
use std::any::Any;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

type Place = &'static Location<'static>;
type Payload = Box<dyn Any + Send>;
/// Opens a connection.
pub(super) type Open<C> = Arc<dyn Fn() -> Result<C, <C as Connection>::Error> + Send + Sync>;

/// A transaction that is open, inside of the closure given to [`Pool::interact`](super::Pool::interact). It derefs to
/// the driver's own, for statements.
///
/// It is committed when the closure returns `Ok`, and rolled back when it returns `Err` or panics.
pub struct Transaction<'a, C: Connection> {
    inner: C::Transaction<'a>,
    hooks: Hooks,
    rows: u64,
    is_doomed: bool,
    /// Of a read.
    interrupt: Option<Interrupt>,
}

impl<C: Connection> Transaction<'_, C> {
    /// Whether this is a read that is to stop: for closures that work for long between statements. What it returns then is
    /// not used. See [`Pool::read`](super::Pool::read).
    pub fn is_interrupted(&self) -> bool {
        self.interrupt.as_ref().is_some_and(Interrupt::is_requested)
    }

    /// Counts rows fetched, where the driver does not count them itself (that of SQLite does).
    pub fn rows(&mut self, n: u64) {
        self.rows = self.rows.saturating_add(n);
    }

    /// Has it rolled back though the closure returns `Ok`, for results that are no errors of the database: `Ok(Err(NameTaken))`.
    pub fn roll_back(&mut self) {
        self.is_doomed = true;
    }

    /// Calls `f` once the transaction is committed; never if it is not.
    ///
    /// Callbacks run on the thread of the connection, in the caller's context, after the transaction and before its result
    /// is there: to invalidate a cache, say. Those of an attempt that is tried again are dropped. A panic in one is reported.
    pub fn call_after(&mut self, f: impl FnOnce() + 'static) {
        self.hooks.after.push(Box::new(f));
    }

    /// Calls `f` if the transaction is rolled back for good; otherwise as [`call_after`](Self::call_after).
    pub fn call_on_error(&mut self, f: impl FnOnce() + 'static) {
        self.hooks.on_error.push(Box::new(f));
    }
}

impl<'a, C: Connection> Deref for Transaction<'a, C> {
    type Target = C::Transaction<'a>;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl<C: Connection> DerefMut for Transaction<'_, C> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.inner
    }
}

impl<C: Connection> fmt::Debug for Transaction<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("is_doomed", &self.is_doomed).finish_non_exhaustive()
    }
}

/// What is called after the end. Lives on the thread of the connection only.
#[derive(Default)]
struct Hooks {
    after: Vec<Box<dyn FnOnce()>>,
    on_error: Vec<Box<dyn FnOnce()>>,
}

impl Hooks {
    fn call(self, was_committed: bool, place: Place) {
        for hook in if was_committed { self.after } else { self.on_error } {
            contained(hook, place);
        }
    }
}

/// A thread's connection, opened when it is needed and closed with the thread.
pub(super) struct Slot<C: Connection> {
    connection: Option<C>,
    open: Open<C>,
}

impl<C: Connection> Slot<C> {
    pub(super) fn new(open: Open<C>) -> Self {
        Self { connection: None, open }
    }

    fn connect(&mut self) -> Result<&mut C, C::Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => (self.open)()?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Closes a connection in which something is left open; the next job opens another.
    fn check(&mut self) {
        if self.connection.as_mut().is_some_and(|connection| !connection.is_clean()) {
            log::warn!("bursar: a database connection was left in the middle of something: opening another");
            self.close();
        }
    }

    fn close(&mut self) {
        if let Some(Err(error)) = self.connection.take().map(C::close) {
            log::error!("bursar: closing a database connection: {error}");
        }
    }

    fn watch(&mut self, interrupt: Option<Interrupt>) {
        if let Some(connection) = self.connection.as_mut() {
            connection.watch(interrupt);
        }
    }

    fn take_rows(&mut self) -> u64 {
        self.connection.as_mut().map_or(0, C::take_rows)
    }
}

impl<C: Connection> Drop for Slot<C> {
    fn drop(&mut self) {
        self.close();
    }
}

/// How a transaction is done.
pub(super) struct Plan {
    pub(super) watch: Arc<Watch>,
    pub(super) retries_max: u32,
    /// Before the first retry; doubled before each further one.
    pub(super) backoff: Duration,
    pub(super) place: Place,
}

const DOUBLINGS_MAX: u32 = 8;

impl Plan {
    fn interrupt(&self) -> Option<Interrupt> {
        (self.watch.access == Access::Read).then(|| Interrupt::new(self.watch.clone()))
    }

    /// Why a read is not to be tried again.
    fn refusal(&self) -> Option<Cause> {
        if self.watch.access == Access::Read { self.watch.refusal() } else { None }
    }

    /// Up to a quarter more than the doubled back-off, so that two who collided do not do so again.
    fn pause(&self, retries: u32) {
        let pause = self.backoff.saturating_mul(1 << retries.min(DOUBLINGS_MAX));
        let jitter = u32::try_from(harness::ticks() % 64).unwrap_or(0);
        thread::sleep(pause.saturating_add(pause / 256 * jitter));
    }
}

/// Does the transaction, with retries. `bill` ends with the transaction, before the callbacks.
pub(super) fn transact<C, T>(
    slot: &mut Slot<C>,
    mut bill: context::db::Transaction,
    plan: Plan,
    mut f: impl FnMut(&mut Transaction<'_, C>) -> Result<T, C::Error>,
) -> Ending<T, C::Error>
where
    C: Connection,
{
    let mut retries = 0;
    let (ending, hooks) = loop {
        let (ending, hooks) = attempt(slot, &mut bill, &plan, &mut f);
        bill.rows(slot.take_rows());
        slot.watch(None);
        slot.check();
        if retries == plan.retries_max || !ending.is_retryable::<C>() {
            break (ending, hooks);
        }
        plan.pause(retries);
        // A read that nobody needs any more is not tried again.
        if let Some(cause) = plan.refusal() {
            break (Ending::Failed(cause.into_error()), hooks);
        }
        drop((ending, hooks));
        retries += 1;
    };
    drop(bill);
    hooks.call(ending.is_committed(), plan.place);
    ending
}

/// How an attempt ended.
pub(super) enum Ending<T, E> {
    Committed(T),
    RolledBack(T),
    Failed(Error<E>),
}

impl<T, E> Ending<T, E> {
    fn is_retryable<C: Connection<Error = E>>(&self) -> bool {
        match self {
            Self::Failed(error) => error.driver().is_some_and(C::is_retryable),
            Self::Committed(_) | Self::RolledBack(_) => false,
        }
    }

    pub(super) fn is_committed(&self) -> bool {
        matches!(self, Self::Committed(_))
    }

    pub(super) fn into_result(self) -> Result<T, Error<E>> {
        match self {
            Self::Committed(value) | Self::RolledBack(value) => Ok(value),
            Self::Failed(error) => Err(error),
        }
    }
}

fn attempt<C: Connection, T>(
    slot: &mut Slot<C>,
    bill: &mut context::db::Transaction,
    plan: &Plan,
    f: &mut impl FnMut(&mut Transaction<'_, C>) -> Result<T, C::Error>,
) -> (Ending<T, C::Error>, Hooks) {
    let connection = match slot.connect() {
        Ok(connection) => connection,
        Err(error) => return (Ending::Failed(Error::Connect(error)), Hooks::default()),
    };
    bill.connected();
    let interrupt = plan.interrupt();
    if let Some(interrupt) = &interrupt {
        plan.watch.begin_reading();
        connection.watch(Some(interrupt.clone()));
    }
    let inner = match connection.begin(plan.watch.access) {
        Ok(inner) => inner,
        Err(error) => {
            let error = plan.watch.halt().map_or(Error::Driver(error), Cause::into_error);
            return (Ending::Failed(error), Hooks::default());
        }
    };
    let mut transaction =
        Transaction::<C> { inner, hooks: Hooks::default(), rows: 0, is_doomed: false, interrupt };
    let returned = catch_unwind(AssertUnwindSafe(|| f(&mut transaction)));
    let Transaction { inner, hooks, rows, is_doomed, interrupt: _ } = transaction;
    // Before the commit or the roll-back: an interrupt reaches neither, nor anything after them.
    let stopped = plan.watch.halt();
    bill.rows(rows);
    (end::<C, T>(inner, returned, is_doomed, stopped), hooks)
}

fn end<C: Connection, T>(
    transaction: C::Transaction<'_>,
    returned: Result<Result<T, C::Error>, Payload>,
    is_doomed: bool,
    stopped: Option<Cause>,
) -> Ending<T, C::Error> {
    let ending = match (returned, stopped) {
        // The closure may have taken the driver's error for the end of the rows.
        (Ok(_), Some(cause)) => Ending::Failed(cause.into_error()),
        (Ok(Ok(value)), None) if !is_doomed => {
            return match C::commit(transaction) {
                Ok(()) => Ending::Committed(value),
                Err(error) => Ending::Failed(Error::Driver(error)),
            };
        }
        (Ok(Ok(value)), None) => Ending::RolledBack(value),
        (Ok(Err(error)), None) => Ending::Failed(Error::Driver(error)),
        (Err(panic), _) => Ending::Failed(Error::Panicked(JoinError::panicked(panic))),
    };
    if let Err(error) = C::roll_back(transaction) {
        log::error!("bursar: a roll-back failed: {error}");
    }
    ending
}

/// Lets `f` have the connection with no transaction around it.
pub(super) fn lend<C: Connection, T>(
    slot: &mut Slot<C>,
    mut bill: context::db::Transaction,
    f: impl FnOnce(&mut C) -> Result<T, C::Error>,
) -> Result<T, Error<C::Error>> {
    let connection = slot.connect().map_err(Error::Connect)?;
    bill.connected();
    let returned = catch_unwind(AssertUnwindSafe(|| f(connection)));
    bill.rows(slot.take_rows());
    slot.check();
    match returned {
        Ok(returned) => returned.map_err(Error::Driver),
        Err(panic) => Err(Error::Panicked(JoinError::panicked(panic))),
    }
}
