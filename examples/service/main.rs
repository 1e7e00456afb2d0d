//! The program around [`examples::service`]: `cargo run --release --example service -- --help`.

use examples::service::{self, Options};
use std::process::ExitCode;

#[runtime::main(name = "service")]
async fn main() -> ExitCode {
    // First of all: a signal that comes while it starts ends it in order.
    let ended = runtime::signal::terminate();
    let options = match Options::parse(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(stop) => return stop.print(),
    };
    let _logging = service::logger::install();
    match service::run(options, ended).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
