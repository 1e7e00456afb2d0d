//! The watchdog over the test binaries: `tests/watchdog.rs`.

use std::env;
use std::process::Command;
use std::sync::Barrier;

/// Told to, it hangs; by itself it passes.
#[test]
fn hangs_where_it_is_told_to() {
    let partners = if env::var_os("BURSAR_TEST_HANGS").is_some() { 2 } else { 1 };
    Barrier::new(partners).wait();
}

#[test]
fn the_watchdog_names_the_test_that_hangs_and_ends_it() {
    let mut this = Command::new(env::current_exe().unwrap());
    this.args(["--exact", "hangs::hangs_where_it_is_told_to", "--test-threads=2"]);
    this.env("BURSAR_TEST_HANGS", "1").env("BURSAR_TEST_LIMIT", "1");
    let output = this.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("watchdog: thread `hangs::hangs_where_it_is_told_to`"), "{said}");
    assert!(said.matches("hangs_where_it_is_told_to").count() > 1, "the backtrace shows where: {said}");
}
