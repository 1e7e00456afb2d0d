//! The program around [`examples::service`]: `cargo run --release --example service -- --help`.

use examples::service::{self, Options};
use std::process::ExitCode;

#[runtime::main(name = "service")]
async fn main() -> ExitCode {
    service::logger::install();
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(stop) => return stop.print(),
    };
    match service::run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
