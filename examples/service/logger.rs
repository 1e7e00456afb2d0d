//! Log lines that begin with the name of the context they were written in: nobody has to pass a request id around.

use context::Context;
use std::io::Write;

/// Logs to standard error: from `info`, or as the variable `RUST_LOG` says.
pub fn install() {
    let env = env_logger::Env::default().default_filter_or("info");
    env_logger::Builder::from_env(env)
        .format(|out, record| {
            let (time, context) = (out.timestamp_millis(), Context::current());
            let (level, target) = (record.level(), record.target());
            writeln!(out, "{time} {level:5} {context} {target}: {}", record.args())
        })
        .init();
}
