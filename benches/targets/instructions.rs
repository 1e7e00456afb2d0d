//! User instructions per operation, counted by callgrind: they repeat to a few tenths of a percent on any machine.
//!
//! Each case runs twice under valgrind, a large number of operations and a small one; what the difference costs is the
//! operations' own. Under valgrind there is no restartable sequence, so the clock stands on its second rung: its hot
//! path is the same, instruction for instruction.
//!
//! `cargo bench -p benches --bench instructions -- [WORD..]`: only rows whose name contains one of the words.
//!
//! What would make it worse: whatever makes the case worse.

use benches::{Row, rows};
use std::process::Command;

const FEW: u64 = 1_000;
const MANY: u64 = 21_000;
/// These run on two threads, which valgrind takes turns with: no number of theirs repeats.
const UNCOUNTED: &str = "remote";
/// How this program asks itself, under valgrind, to run one case.
const CHILD: &str = "--run-one";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|first| first == CHILD) {
        run_one(&arguments[1..]);
        return;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("instructions are not counted: there is no valgrind here");
        return;
    }
    let wanted =
        |row: &Row| arguments.is_empty() || arguments.iter().any(|word| row.case.contains(word.as_str()));
    println!("| case | bursar | tokio | ratio |");
    println!("|---|---|---|---|");
    for row in rows().iter().filter(|row| wanted(row) && !row.case.contains(UNCOUNTED)) {
        println!("{}", count(row));
    }
}

fn run_one(arguments: &[String]) {
    let [case, peer, ops] = arguments else { panic!("a case, a runtime and a number") };
    let rows = rows();
    let row = rows.iter().find(|row| row.case == case).expect("a case of that name");
    let contender = row.contenders.iter().find(|contender| contender.peer == peer).expect("a runtime");
    (contender.run)(ops.parse().expect("a number of operations"));
}

fn count(row: &Row) -> String {
    let counts: Vec<f64> =
        row.contenders.iter().map(|contender| per_operation(row.case, contender.peer)).collect();
    match counts[..] {
        [bursar, tokio] => format!("| {} | {bursar:.0} | {tokio:.0} | {:.2} |", row.case, bursar / tokio),
        [bursar] => format!("| {} | {bursar:.0} | - | - |", row.case),
        _ => unreachable!("a row has one contender or two"),
    }
}

fn per_operation(case: &str, peer: &str) -> f64 {
    let [few, many] = [FEW, MANY].map(|ops| collected(case, peer, ops));
    (many - few) as f64 / (MANY - FEW) as f64
}

/// What callgrind counts in a process of its own.
fn collected(case: &str, peer: &str, ops: u64) -> u64 {
    let this = std::env::current_exe().expect("the path of this program");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args([CHILD, case, peer, &ops.to_string()])
        .output()
        .expect("valgrind runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().find_map(|line| line.split("Collected : ").nth(1)?.trim().parse().ok());
    count.unwrap_or_else(|| panic!("callgrind says no count for {case:?} on {peer}:\n{said}"))
}
