//! The logger of this process, which does on each thread what that thread's test wants.

use crate::books::on_own_thread;
use std::cell::Cell;
use std::sync::Once;

thread_local! {
    static HERE: Cell<Option<fn(&log::Record<'_>)>> = const { Cell::new(None) };
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if let Some(log) = HERE.get() {
            log(record);
        }
    }

    fn flush(&self) {}
}

/// Runs `f` on a thread of its own whose log lines, of WARN and above, go to `log`.
pub(crate) fn with_logger<R: Send>(log: fn(&log::Record<'_>), f: impl FnOnce() -> R + Send) -> R {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        log::set_logger(&Logger).expect("no other logger in this process");
        log::set_max_level(log::LevelFilter::Warn);
    });
    on_own_thread(|| {
        HERE.set(Some(log));
        f()
    })
}
