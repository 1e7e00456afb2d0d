//! The books, as JSON.

use context::{ClassUsage, Report, Usage};
use runtime::Accounts;
use serde_json::{Value, json};
use std::time::Duration;

/// The books of the server's thread, what each class has cost on all threads, and what the sentinel has to report.
///
/// `thread_cpu_ns = contexts_ns + late_ns + sentinel_ns + runtime_ns + correction_ns`, exactly.
pub(super) fn json() -> Value {
    let books: Accounts = runtime::accounts();
    json!({
        "thread_cpu_ns": ns(books.thread_cpu),
        "contexts_ns": ns(books.contexts),
        "late_ns": ns(books.late),
        "sentinel_ns": ns(books.sentinel),
        "runtime_ns": ns(books.runtime),
        "correction_ns": books.correction,
        "parked_ns": ns(books.parked),
        "steal_ns": ns(books.steal),
        "clock": books.rung.to_string(),
        "classes": context::classes().iter().map(class).collect::<Vec<_>>(),
        "reports": context::sentinel::reports().iter().map(report).collect::<Vec<_>>(),
    })
}

fn class(class: &ClassUsage) -> Value {
    json!({
        "class": class.class,
        "opened": class.opened,
        "open": class.open,
        "own": usage(&class.own),
        "total": usage(&class.total),
    })
}

fn usage(usage: &Usage) -> Value {
    json!({
        "cpu_ns": ns(usage.cpu),
        "late_ns": ns(usage.late_cpu),
        "queued_ns": ns(usage.queued),
        "blocked_ns": ns(usage.blocked),
        "polls": usage.polls,
        "db": {
            "transactions": usage.db.transactions,
            "in_transaction_ns": ns(usage.db.in_transaction),
            "waiting_ns": ns(usage.db.waiting),
            "rows": usage.db.rows,
        },
        "blocking": {
            "jobs": usage.blocking.jobs,
            "queued_ns": ns(usage.blocking.queued),
            "running_ns": ns(usage.blocking.running),
        },
    })
}

fn report(report: &Report) -> Value {
    json!({
        "kind": format!("{:?}", report.kind),
        "context": report.context,
        "place": report.place.to_string(),
        "count": report.count,
        "detail": report.detail,
    })
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
