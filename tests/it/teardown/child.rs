//! A test that ends or forks its process runs in a process of its own.

use std::env;
use std::process::{Command, Output};

const TEST: &str = "BURSAR_TEST_CHILD";

/// Runs `body` in a new process of this binary, in which it is the only test and on the main thread. `name` is the test's path.
/// In the new process this does not return.
pub(super) fn alone(name: &str, body: impl FnOnce()) -> Output {
    if env::var_os(TEST).is_some_and(|test| test == name) {
        body();
        std::process::exit(0);
    }
    let mut this = Command::new(env::current_exe().unwrap());
    this.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(TEST, name);
    this.output().unwrap()
}

/// The same, and it ends well.
#[track_caller]
pub(super) fn ends_well(name: &str, body: impl FnOnce()) -> String {
    let output = alone(name, body);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {said}", output.status);
    said
}
