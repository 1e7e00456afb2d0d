//! Running tests: what `#[runtime::test]` expands to (P22).

mod sweep;

pub use sweep::sweep;

use crate::runtime::Runtime;
use context::{Context, Report, ReportKind};
use parking_lot::Mutex;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::{self, ThreadId};

/// Names a seed for all tests that do not have one: `BURSAR_SEED=7 cargo test` shuffles every run queue.
pub const SEED_VARIABLE: &str = "BURSAR_SEED";

/// What the arguments of `#[runtime::test]` say.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The test's path, for messages and for the names of its threads.
    pub name: &'static str,
    /// Time stands still, and jumps to the next deadline when nothing else is left to do.
    pub paused: bool,
    /// Shuffles the run queue.
    pub seed: Option<u64>,
    /// Reports of the sentinel do not fail the test.
    pub allow_reports: bool,
}

/// Runs one test on a runtime of its own. It begins in the sentinel.
///
/// ```
/// use runtime::testing::{self, Options};
///
/// let options = Options { name: "doc", paused: true, ..Options::default() };
/// assert_eq!(testing::run(options, async { 6 * 7 }), 42);
/// ```
///
/// # Panics
///
/// If a context is current where the test begins or ends, if the sentinel reported anything (unless that is allowed),
/// and with the test's own panic. With a seed, a failure prints it.
pub fn run<F: Future>(options: Options, future: F) -> F::Output {
    let before = Context::current();
    assert!(before.is_sentinel(), "{}: a test begins in the sentinel, not in {before}", options.name);
    let seed = options.seed.or_else(seed_from_environment);
    let reports = Watch::new(options.name);
    let result = catch_unwind(AssertUnwindSafe(|| {
        // The runtime goes before the verdict: dropped work may have something to report, too.
        quiet_runtime(&options, seed).block_on(future)
    }));
    let verdict = result
        .and_then(|output| catch_unwind(AssertUnwindSafe(|| judge(&options, &reports))).map(|()| output));
    verdict.unwrap_or_else(|panic| {
        if let Some(seed) = seed {
            eprintln!("{}: failed with its run queue shuffled: {SEED_VARIABLE}={seed}", options.name);
        }
        resume_unwind(panic)
    })
}

/// A runtime whose `block_on` begins in the sentinel.
fn quiet_runtime(options: &Options, seed: Option<u64>) -> Runtime {
    // How long a poll takes is the machine's matter as much as the test's, so it is not judged.
    let mut builder =
        Runtime::builder().name(options.name).paused(options.paused).slow_poll(None).without_main();
    if let Some(seed) = seed {
        builder = builder.seed(seed);
    }
    builder.build().unwrap_or_else(|error| panic!("{}: no runtime: {error}", options.name))
}

fn judge(options: &Options, reports: &Watch) {
    let after = Context::current();
    assert!(after.is_sentinel(), "{}: the test left {after} behind", options.name);
    let seen = reports.seen.lock();
    if !options.allow_reports && !seen.is_empty() {
        let lines: Vec<_> = seen.iter().map(|report| format!("\n  {report}")).collect();
        panic!("{}: the sentinel reported:{}", options.name, lines.concat());
    }
}

fn seed_from_environment() -> Option<u64> {
    let text = std::env::var(SEED_VARIABLE).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{SEED_VARIABLE} is not a number: {text:?}")))
}

/// The reports of one test: those made on its thread, or on the threads of its runtime's pools. Other tests of the
/// process have their own.
struct Watch {
    seen: Arc<Mutex<Vec<Report>>>,
    _listening: context::sentinel::Listening,
}

impl Watch {
    fn new(name: &'static str) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (own, sink) = (thread::current().id(), seen.clone());
        let listening = context::sentinel::on_report(move |report| {
            // How long a poll takes is the machine's matter as much as the test's.
            let timing = matches!(report.kind, ReportKind::BlockingCall | ReportKind::SlowPoll);
            if !timing && is_ours(own, name) {
                sink.lock().push(report.clone());
            }
        });
        Self { seen, _listening: listening }
    }
}

impl Watch {
    /// What was reported since the last time.
    fn take(&self) -> Vec<Report> {
        std::mem::take(&mut *self.seen.lock())
    }
}

/// Threads of a pool are named after their runtime.
fn is_ours(own: ThreadId, name: &str) -> bool {
    let here = thread::current();
    here.id() == own
        || here
            .name()
            .is_some_and(|thread| thread.strip_prefix(name).is_some_and(|rest| rest.starts_with('-')))
}
