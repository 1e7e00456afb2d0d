//! The sentinel's ledger: what ran outside any context or escaped from one.
//!
//! One entry for each kind and place, counted; the log says it the first time, then at every power of two, so a leak
//! in a loop neither floods nor goes silent.

use crate::report::{Report, ReportKind};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

/// The target under which reports are logged, at WARN.
pub const LOG_TARGET: &str = "context::sentinel";

/// How many places the ledger itemises; what comes after is counted under the last line only. Places are lines of
/// code, so a program has few; the bound is for generated code.
const PLACES_MAX: usize = 4_096;

type Place = &'static Location<'static>;
pub(crate) type Listener = Arc<dyn Fn(&Report) + Send + Sync>;

static REPORTS: LazyLock<Mutex<HashMap<(ReportKind, Place), Report>>> = LazyLock::new(Mutex::default);
static LISTENERS: RwLock<Vec<(u64, Listener)>> = RwLock::new(Vec::new());
static LISTENER_IDS: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Everything that was reported in this process, by kind and place, the oldest first.
pub fn reports() -> Vec<Report> {
    let mut reports: Vec<_> = REPORTS.lock().values().cloned().collect();
    reports.sort_by_key(|report| report.first_seen);
    reports
}

/// How many times anything was reported in this process. A scrape may read it at any rate: one load.
pub fn report_count() -> u64 {
    COUNT.load(Relaxed)
}

/// Calls `listener` at every report, on the thread where it happens, until the returned value is dropped.
///
/// The listener runs with no context current, on the account `(runtime)` of that thread, and should be quick. It may do
/// what it likes: what it enters is undone when it returns, a panic in it is caught and logged, and a report that is made
/// on this thread while it runs is counted but not told.
///
/// To forward reports (to a database, over a network), let the listener put them into a bounded channel, and let a
/// background process of its own class take them out. Work that the listener starts itself has no context, so it would be
/// reported in turn.
///
/// ```
/// use context::{Report, sentinel};
/// use std::sync::mpsc;
///
/// let (sender, reports) = mpsc::sync_channel::<Report>(100);
/// let _listening = sentinel::on_report(move |report| {
///     // A full channel loses reports, and never blocks the thread that made one.
///     let _ = sender.try_send(report.clone());
/// });
/// drop(context::db::begin("load user"));
/// assert_eq!(reports.try_recv().unwrap().kind, context::ReportKind::TransactionInSentinel);
/// ```
#[must_use = "the listener is removed when this is dropped"]
pub fn on_report(listener: impl Fn(&Report) + Send + Sync + 'static) -> Listening {
    let id = LISTENER_IDS.fetch_add(1, Relaxed);
    LISTENERS.write().push((id, Arc::new(listener)));
    Listening(id)
}

/// Keeps a listener of [`on_report`] registered.
#[derive(Debug)]
pub struct Listening(u64);

impl Drop for Listening {
    fn drop(&mut self) {
        // The closure is dropped outside the lock: its destructor is user code.
        let removed = {
            let mut listeners = LISTENERS.write();
            listeners.iter().position(|(id, _)| *id == self.0).map(|at| listeners.swap_remove(at))
        };
        drop(removed);
    }
}

/// Who is to be told of a report.
pub(crate) fn listeners() -> Vec<Listener> {
    LISTENERS.read().iter().map(|(_, listener)| listener.clone()).collect()
}

/// Enters one occurrence, which is not told here. Runs no user code, and so may be called from anywhere.
pub(crate) fn enter(kind: ReportKind, context: String, place: Place, detail: &str, cpu: Duration) -> Report {
    COUNT.fetch_add(1, Relaxed);
    let now = SystemTime::now();
    let fresh = || Report {
        kind,
        context: context.clone(),
        place,
        detail: detail.to_owned(),
        count: 0,
        cpu: Duration::ZERO,
        first_seen: now,
        last_seen: now,
    };
    let mut reports = REPORTS.lock();
    if reports.len() >= PLACES_MAX && !reports.contains_key(&(kind, place)) {
        return Report { count: 1, cpu, ..fresh() };
    }
    let report = reports.entry((kind, place)).or_insert_with(fresh);
    report.count += 1;
    report.cpu += cpu;
    report.last_seen = now;
    // The ledger keeps the first of a place; who listens hears of this one.
    Report { count: report.count, cpu: report.cpu, first_seen: report.first_seen, ..fresh() }
}
