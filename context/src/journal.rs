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
type Listener = Arc<dyn Fn(&Report) + Send + Sync>;

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
/// The listener may read contexts, not switch them, and should be quick. A panic in it is caught and logged.
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

/// Enters one occurrence. For executors; anyone may call it, and it never panics.
pub fn report(kind: ReportKind, context: &dyn std::fmt::Display, place: Place, detail: &str) {
    report_cpu(kind, context, place, detail, Duration::ZERO);
}

/// The same, with CPU that was spent there.
pub(crate) fn report_cpu(
    kind: ReportKind,
    context: &dyn std::fmt::Display,
    place: Place,
    detail: &str,
    cpu: Duration,
) {
    COUNT.fetch_add(1, Relaxed);
    let report = enter(kind, context, place, detail, cpu);
    if report.count.is_power_of_two() {
        log::warn!(target: LOG_TARGET, "{report}");
    }
    let listeners: Vec<_> = LISTENERS.read().iter().map(|(_, listener)| listener.clone()).collect();
    for listener in listeners {
        let call = std::panic::AssertUnwindSafe(|| listener(&report));
        if std::panic::catch_unwind(call).is_err() {
            log::error!(target: LOG_TARGET, "a listener panicked over: {report}");
        }
    }
}

fn enter(
    kind: ReportKind,
    context: &dyn std::fmt::Display,
    place: Place,
    detail: &str,
    cpu: Duration,
) -> Report {
    let now = SystemTime::now();
    let fresh = || Report {
        kind,
        context: context.to_string(),
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
