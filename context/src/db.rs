//! What a database costs a context (P11).

use crate::current;
use crate::node::Context;
use crate::report::ReportKind;
use crate::usage::Usage;
use std::panic::Location;
use std::time::Duration;

/// A transaction of the context in which it was begun. Its end is its drop.
///
/// `Send`: the driver's thread may carry it. It counts as one transaction, however often it is retried; the time until
/// [`connected`](Self::connected) is waiting, the time from there to the end is in transaction. The same instants are not counted as the
/// [`running`](crate::BlockingUsage::running) of a job around it.
///
/// ```
/// use context::Context;
///
/// let request = Context::root("GET /x");
/// request.scope(|| {
///     let mut transaction = context::db::begin("load user");
///     transaction.connected();
///     transaction.rows(3);
/// });
/// let db = request.usage().db;
/// assert_eq!((db.transactions, db.rows), (1, 3));
/// ```
#[derive(Debug)]
#[must_use = "the transaction ends when this is dropped"]
pub struct Transaction {
    context: Context,
    description: &'static str,
    begun: u64,
    connected: Option<u64>,
}

/// Begins a transaction in the current context. Without one it is charged to the sentinel, and reported.
#[track_caller]
pub fn begin(description: &'static str) -> Transaction {
    begin_at(Context::current(), description, Location::caller())
}

/// Begins a transaction in a given context.
#[track_caller]
pub fn begin_in(context: Context, description: &'static str) -> Transaction {
    begin_at(context, description, Location::caller())
}

pub(crate) fn begin_at(
    context: Context,
    description: &'static str,
    place: &'static Location<'static>,
) -> Transaction {
    if context.is_sentinel() {
        current::report(ReportKind::TransactionInSentinel, &context, place, description);
    }
    let mut usage = Usage::default();
    usage.db.transactions = 1;
    context.charge(usage);
    Transaction { context, description, begun: current::ticks(), connected: None }
}

/// Counts rows fetched by the current context, where no [`Transaction`] is at hand: a driver's row callback, say.
pub fn rows(n: u64) {
    let mut usage = Usage::default();
    usage.db.rows = n;
    Context::current().charge(usage);
}

impl Transaction {
    /// A connection was obtained: the waiting ends, the transaction starts. Only the first call counts.
    pub fn connected(&mut self) {
        if self.connected.is_some() {
            return;
        }
        let now = current::ticks();
        self.connected = Some(now);
        let mut usage = Usage::default();
        usage.db.waiting = span(self.begun, now);
        self.context.charge(usage);
    }

    /// Counts rows fetched.
    pub fn rows(&mut self, n: u64) {
        let mut usage = Usage::default();
        usage.db.rows = n;
        self.context.charge(usage);
    }

    /// What it is for, as `begin` was told.
    pub fn description(&self) -> &'static str {
        self.description
    }

    /// The context it is charged to.
    pub fn context(&self) -> &Context {
        &self.context
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let now = current::ticks();
        let mut usage = Usage::default();
        match self.connected {
            Some(connected) => usage.db.in_transaction = span(connected, now),
            None => usage.db.waiting = span(self.begun, now),
        }
        self.context.charge(usage);
    }
}

/// A job that it lies in does not count it once more.
fn span(from: u64, to: u64) -> Duration {
    current::count_db_span(from, to);
    Duration::from_nanos(current::ticks_to_ns(to.saturating_sub(from)))
}
