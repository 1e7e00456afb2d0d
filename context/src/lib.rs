//! Contexts that are billed.
//!
//! A [`Context`] is one unit of work - a request, a background process, a part of either - that has a name and pays
//! for what it uses: CPU time to the nanosecond, database time, waiting, blocking. Exactly one context is current on a
//! thread at any time; where nobody entered one it is the *sentinel*, which has counters of its own and reports what
//! it sees.
//!
//! Work is charged where it happens, by whoever polls: the runtime of `bursar-runtime` does it by itself; under any
//! other executor, wrap a future in [`Context::run`] or [`FutureExt::in_context`].
//!
//! ```
//! use context::Context;
//!
//! let request = Context::root("GET /users/{id}");
//! let sum: u64 = request.scope(|| (0..10_000u64).sum());
//! let cost = request.finish();
//! assert!(cost.cpu.as_nanos() > 0, "{sum} cost {cost}");
//! ```
//!
//! # The floors
//!
//! Values at the bottom (usage, reports), the clock above them, then nodes, the thread's slot and its switch, and on
//! top what users call. A file knows only what is below it; `docs/architecture.md` has the picture.

mod account;
pub mod bridges;
mod builder;
mod cancel;
mod cells;
mod class;
mod clock;
mod current;
pub mod db;
mod deadline;
mod future;
pub mod harness;

mod journal;
mod node;
mod panics;
mod report;
mod usage;
mod value;
mod wait;

#[cfg(all(test, target_os = "linux", not(miri)))]
#[path = "../../tests/watchdog.rs"]
mod watchdog;

pub use account::{Accounts, CancelledUsage, ClassUsage, Hold, Snapshot, accounts, classes, live};
pub use builder::Builder;
pub use cancel::{Cancelled, Reason};
pub use class::{CLASS_LIMIT_DEFAULT, set_class_limit};
pub use clock::{Clock, Rung};
pub use current::Entered;
pub use future::{DbTransaction, FutureExt, InContext, Run};
pub use node::hooks::Hooks;
pub use node::{Context, Id, Name};
pub use panics::panic_message;
pub use report::{Report, ReportKind};
pub use usage::{BlockingUsage, DbUsage, Usage};
pub use value::{Inherit, Key};
pub use wait::{Cancellable, WaitCancelled};

/// What ran outside any context or escaped from one: the sentinel's counters and reports.
pub mod sentinel {
    pub use crate::account::sentinel_usage as usage;
    pub use crate::current::report;
    pub use crate::journal::{LOG_TARGET, Listening, on_report, report_count, reports};
}
