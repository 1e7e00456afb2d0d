//! How things end: panics of destructors and payloads, outputs that nobody takes, forked children, threads that exit.

mod child;
mod forks;
mod outputs;
mod panics;
mod stack;
mod types;

use context::{Report, ReportKind};
use std::sync::{Arc, Mutex};

/// A value whose destructor panics with another one of it, so many times.
struct Bomb(u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 > 0 {
            std::panic::resume_unwind(Box::new(Bomb(self.0 - 1)));
        }
    }
}

/// Panics with a [`Bomb`].
fn explode() -> ! {
    std::panic::resume_unwind(Box::new(Bomb(3)))
}

/// The reports of the process about contexts of this class, on whatever thread.
struct About {
    seen: Arc<Mutex<Vec<Report>>>,
    _listening: context::sentinel::Listening,
}

impl About {
    fn class(class: &'static str) -> Self {
        let seen: Arc<Mutex<Vec<Report>>> = Arc::default();
        let sink = seen.clone();
        let listening = context::sentinel::on_report(move |report| {
            if report.context.starts_with(class) {
                sink.lock().unwrap().push(report.clone());
            }
        });
        Self { seen, _listening: listening }
    }

    fn panics(&self) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|report| report.kind == ReportKind::UnhandledPanic).count()
    }
}
