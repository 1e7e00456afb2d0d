//! Runs a case under callgrind by single instructions, and asks `addr2line` (binutils) whose they are.

use super::{Counting, runs_of};
use benches::profile::Spent;
use benches::{Contender, Row};
use std::io::Write;
use std::process::{Command, Stdio};
use std::{env, fs, process, thread};

/// A table: instructions an operation of `contender`, by source file.
pub(super) fn profile(row: &Row, contender: &Contender) -> Result<String, String> {
    let [few, many] = runs_of(row);
    let spent = count(row, contender, many)?.per_operation(&count(row, contender, few)?, many - few);
    Ok(spent.table(row.case, &places(spent.addresses())?))
}

fn count(row: &Row, contender: &Contender, ops: u64) -> Result<Spent, String> {
    let path = env::temp_dir().join(format!("bursar-profile-{}", process::id()));
    let counted = Counting { instructions: true, into: &path }.run(row.case, contender.peer, ops);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()));
    let _ = fs::remove_file(&path);
    counted?;
    text.map(|text| Spent::parse(&text, &this()))
}

fn places(addresses: String) -> Result<String, String> {
    let failed = |error| format!("addr2line, of binutils: {error}");
    let mut child = Command::new("addr2line")
        .args(["--inlines", "--addresses", "--exe"])
        .arg(this())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut input = child.stdin.take().expect("a pipe");
    // By a thread of its own, since neither pipe holds it all.
    let writer = thread::spawn(move || input.write_all(addresses.as_bytes()));
    let output = child.wait_with_output().map_err(failed)?;
    writer.join().expect("the writer ends").map_err(failed)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn this() -> std::path::PathBuf {
    env::current_exe().expect("the path of this program")
}
