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
    let detail = detail.to_owned();
    let one = Report { kind, context, place, detail, count: 1, cpu, first_seen: now, last_seen: now };
    itemise(&mut REPORTS.lock(), PLACES_MAX, one)
}

/// Enters `one` in a ledger of at most `max` kinds and places. The ledger keeps the first report of a place; what is
/// returned, for the listeners, is this one with the sums.
fn itemise(ledger: &mut HashMap<(ReportKind, Place), Report>, max: usize, one: Report) -> Report {
    let key = (one.kind, one.place);
    let Some(entry) = ledger.get_mut(&key) else {
        if ledger.len() < max {
            ledger.insert(key, one.clone());
        }
        return one;
    };
    entry.count += one.count;
    entry.cpu += one.cpu;
    entry.last_seen = one.last_seen;
    Report { count: entry.count, cpu: entry.cpu, first_seen: entry.first_seen, ..one }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(kind: ReportKind, place: Place) -> Report {
        let now = SystemTime::now();
        let (context, detail) = ("p17".to_owned(), String::new());
        Report {
            kind,
            context,
            place,
            detail,
            count: 1,
            cpu: Duration::ZERO,
            first_seen: now,
            last_seen: now,
        }
    }

    #[test]
    fn p17_the_ledger_of_reports_is_bounded_and_goes_on_counting_what_is_in_it() {
        let mut ledger = HashMap::new();
        let here = Location::caller();
        let mut count = |kind| itemise(&mut ledger, 2, one(kind, here)).count;
        use ReportKind::{LateWork, SlowPoll, UnhandledPanic};
        assert_eq!([LateWork, SlowPoll, LateWork].map(&mut count), [1, 1, 2]);
        assert_eq!([UnhandledPanic, UnhandledPanic, SlowPoll].map(&mut count), [1, 1, 2], "no room");
        let mut kept: Vec<_> = ledger.into_iter().map(|((kind, _), report)| (kind, report.count)).collect();
        kept.sort_by_key(|(_, count)| *count);
        assert!(kept.len() == 2 && kept.iter().all(|(_, count)| *count == 2), "{kept:?}");
    }
}
