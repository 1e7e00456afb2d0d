//! The sentinel's reports, as far as they are this test's.

use context::sentinel::Listening;
use context::{Report, ReportKind};
use std::sync::{Arc, Mutex};
use std::thread;

/// The reports made on the thread that made this, while it lives, but those over slow polls and blocking calls.
pub(crate) struct Watch {
    seen: Arc<Mutex<Vec<Report>>>,
    _listening: Listening,
}

impl Watch {
    pub(crate) fn here() -> Self {
        let here = thread::current().id();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let listening = context::sentinel::on_report(move |report| {
            // How long a poll takes is the machine's matter as much as the test's.
            let timing = matches!(report.kind, ReportKind::BlockingCall | ReportKind::SlowPoll);
            if !timing && thread::current().id() == here {
                sink.lock().unwrap().push(report.clone());
            }
        });
        Self { seen, _listening: listening }
    }

    /// All since the last call.
    pub(crate) fn take(&self) -> Vec<Report> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// The kinds of all since the last call, in order.
    pub(crate) fn kinds(&self) -> Vec<ReportKind> {
        self.take().iter().map(|report| report.kind).collect()
    }

    /// The only one since the last call.
    #[track_caller]
    pub(crate) fn only(&self) -> Report {
        let mut reports = self.take();
        assert_eq!(reports.len(), 1, "{reports:?}");
        reports.remove(0)
    }
}
