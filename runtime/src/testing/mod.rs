//! Running tests: what `#[runtime::test]` expands to (P22).

mod sweep;

pub use sweep::sweep;

use crate::config::is_large;
use crate::runtime::Runtime;
use context::harness::{self, Tagged};
use context::sentinel::Listening;
use context::{Context, Report, ReportKind};
use parking_lot::Mutex;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// Names a seed for all tests that do not have one: `BURSAR_SEED=7 cargo test` shuffles every run queue.
pub const SEED_VARIABLE: &str = "BURSAR_SEED";

/// What the arguments of `#[runtime::test]` say.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The test's path, for messages and for the names of its threads.
    pub name: &'static str,
    /// The class of a root context in which the test runs; without one it runs in none.
    pub class: Option<&'static str>,
    /// Time stands still, and jumps to the next deadline when nothing else is left to do.
    pub paused: bool,
    /// Shuffles the run queue, from this seed.
    pub seed: Option<u64>,
    /// Shuffles the run queue, from a seed that is drawn if none is given.
    pub shuffle: bool,
    /// Reports of the sentinel do not fail the test.
    pub allow_reports: bool,
}

/// Runs one test on a runtime of its own. It begins in the sentinel, or in a context of its own ([`Options::class`]).
///
/// ```
/// use runtime::testing::{self, Options};
///
/// let options = Options { name: "doc", paused: true, ..Options::default() };
/// assert_eq!(testing::run(options, async { 6 * 7 }), 42);
/// ```
///
/// # What fails a test
///
/// Every report of the sentinel that is made meanwhile and is the test's, but those over slow polls and blocking calls, which
/// tell of the machine as much. The text of the failure has a line for each kind and place, with a count. A report is the
/// test's if the context that it names was made by the test. If it names none, or one that no test has made, it is the test's
/// if the test made it: on its own thread, in a job that it sent to a pool (the blocking pool, [`db::Pool`](crate::db::Pool)),
/// or on a thread that it started, or that such a thread started.
///
/// Not seen are the reports of a thread that something else started before, a global pool of threads say, in no context of the
/// test's; and on other systems than Linux those of plain threads (`std::thread`) in no context of the test's. A global pool
/// that is started by a test counts as its threads while it runs, whoever uses it.
///
/// # Panics
///
/// If a context is current where the test begins or ends, if the sentinel reported anything (unless that is allowed), and with
/// the test's own panic. A failure of a test whose run queue was shuffled prints the seed.
pub fn run<F: Future>(options: Options, future: F) -> F::Output {
    if const { is_large::<F>() } { run_test(&options, Box::pin(future)) } else { run_test(&options, future) }
}

fn run_test<F: Future>(options: &Options, future: F) -> F::Output {
    let before = Context::current();
    assert!(before.is_sentinel(), "{}: a test begins in the sentinel, not in {before}", options.name);
    let drawn = || options.shuffle.then(draw_seed);
    let seed = options.seed.or_else(seed_from_environment).or_else(drawn);
    let reports = Watch::new();
    let result = catch_unwind(AssertUnwindSafe(|| {
        // The runtime goes before the verdict: dropped work may have something to report, too.
        quiet_runtime(options, seed).block_on(future)
    }));
    let verdict = result
        .and_then(|output| catch_unwind(AssertUnwindSafe(|| judge(options, &reports))).map(|()| output));
    drop(reports);
    verdict.unwrap_or_else(|panic| {
        if let Some(seed) = seed {
            eprintln!("{}: failed with its run queue shuffled: {SEED_VARIABLE}={seed}", options.name);
        }
        resume_unwind(panic)
    })
}

/// A runtime whose `block_on` begins in the sentinel, unless a class is given.
fn quiet_runtime(options: &Options, seed: Option<u64>) -> Runtime {
    // How long a poll takes is the machine's matter as much as the test's, so it is not judged.
    let builder = Runtime::builder().name(options.name).paused(options.paused).slow_poll(None);
    let mut builder = match options.class {
        Some(class) => builder.class(class),
        None => builder.without_main(),
    };
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
        panic!("{}: the sentinel reported:{}", options.name, lines(&seen));
    }
}

/// A line for each kind and place, in order: the first report of it, and how many there were.
fn lines(reports: &[Report]) -> String {
    let mut lines: Vec<(&Report, u64)> = Vec::new();
    for report in reports {
        let same =
            |(first, _): &&mut (&Report, u64)| (first.kind, first.place) == (report.kind, report.place);
        match lines.iter_mut().find(same) {
            Some((_, count)) => *count += 1,
            None => lines.push((report, 1)),
        }
    }
    let line = |(report, count): (&Report, u64)| {
        let mut report = report.clone();
        // It was the process's.
        report.count = count;
        format!("\n  {report}")
    };
    lines.into_iter().map(line).collect()
}

/// Different each time.
fn draw_seed() -> u64 {
    RandomState::new().hash_one(SEED_VARIABLE)
}

fn seed_from_environment() -> Option<u64> {
    let text = std::env::var(SEED_VARIABLE).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{SEED_VARIABLE} is not a number: {text:?}")))
}

/// The reports of one test, see [`run`]. Other tests of the process have their own.
struct Watch {
    seen: Arc<Mutex<Vec<Report>>>,
    _listening: Listening,
    _tagged: Tagged,
}

impl Watch {
    fn new() -> Self {
        let tagged = Tagged::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (tag, sink) = (tagged.tag(), seen.clone());
        let listening = context::sentinel::on_report(move |report| {
            // How long a poll takes is the machine's matter as much as the test's.
            let timing = matches!(report.kind, ReportKind::BlockingCall | ReportKind::SlowPoll);
            if !timing && tag_of(report) == tag {
                sink.lock().push(report.clone());
            }
        });
        Self { seen, _listening: listening, _tagged: tagged }
    }

    /// What was reported since the last time.
    fn take(&self) -> Vec<Report> {
        std::mem::take(&mut *self.seen.lock())
    }
}

/// Whose report it is that was made just now, on this thread.
fn tag_of(report: &Report) -> u64 {
    // The name of a context ends with its number.
    let id = report.context.rsplit_once('#').and_then(|(_, id)| id.parse().ok());
    id.and_then(harness::tag_of).unwrap_or_else(harness::tag)
}
