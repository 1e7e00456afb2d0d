//! Log lines that begin with the name of the context they were written in: nobody has to pass a request id around.
//!
//! They are written by a thread of their own. If whoever reads the log stops doing so, the service goes on: some thousand
//! lines wait, further ones are dropped and counted ([`lost_lines`]).

use context::Context;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines that may wait to be written.
const WAITING_MAX: usize = 8_192;
/// How long the lines that wait at the end are waited for.
const LAST_LINES: Duration = Duration::from_millis(1_300);

static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// Logs to standard error: from `info`, or as the variable `RUST_LOG` says. Panics are logged as well: what Rust does with them
/// otherwise would block a thread on a standard error that nobody reads.
pub fn install() -> Logging {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_MAX)
        .thread_name("log writer")
        .finish(std::io::stderr());
    let _ = LOST.set(writer.error_counter());
    log_to(writer);
    std::panic::set_hook(Box::new(|panic| log::error!(target: "panic", "{panic}")));
    Logging(Some(guard))
}

fn log_to(writer: NonBlocking) {
    let env = env_logger::Env::default().default_filter_or("info");
    env_logger::Builder::from_env(env)
        .target(env_logger::Target::Pipe(Box::new(writer)))
        .format(|out, record| {
            let (time, context) = (out.timestamp_millis(), Context::current());
            let (level, target) = (record.level(), record.target());
            writeln!(out, "{time} {level:5} {context} {target}: {}", record.args())
        })
        .init();
}

/// How many lines were dropped because nobody has read the log.
pub fn lost_lines() -> u64 {
    LOST.get().map_or(0, |lost| lost.dropped_lines() as u64)
}

/// Writes what waits when it is dropped, unless nobody reads it.
#[must_use = "lines that wait at the end are lost without it"]
pub struct Logging(Option<WorkerGuard>);

impl Drop for Logging {
    fn drop(&mut self) {
        let guard = self.0.take();
        // Its drop may print a line of its own, to an output that nobody reads.
        let (done, is_done) = mpsc::channel();
        let flush = move || {
            drop(guard);
            let _ = done.send(());
        };
        if thread::Builder::new().name("log flush".to_owned()).spawn(flush).is_ok() {
            let _ = is_done.recv_timeout(LAST_LINES);
        }
    }
}
