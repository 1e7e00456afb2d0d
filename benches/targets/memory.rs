//! What tasks cost in memory: resident bytes of an idle one, and allocations of each operation in steady state.
//!
//! Resident memory is measured in a process for each runtime, since none gives back what it once had. Allocations are
//! counted by the allocator, for 1,000 operations and for 11,000, after a warm-up of as many; the difference is the
//! operations' own. Memory that grows counts as an allocation.
//!
//! `cargo bench -p benches --bench memory -- [WORD..]`: only rows whose name contains one of the words.
//!
//! What would make it worse: see each case.

use benches::record::{ALLOCATIONS, BYTES, Record};
use benches::{Contender, Row, idle, rows};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::process::Command;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const IDLE_TASKS: u64 = 200_000;
const FEW: u64 = 1_000;
const MANY: u64 = 11_000;
/// What another thread allocates meanwhile is not the runtime's.
const UNCOUNTED: &str = "remote";
/// How this program asks itself to run one case in a process of its own.
const CHILD: &str = "--run-one";

fn main() {
    // `--write` is for those targets that have something to write.
    let is_mine = |argument: &String| argument != "--bench" && argument != "--write";
    let arguments: Vec<String> = std::env::args().skip(1).filter(is_mine).collect();
    if arguments.first().is_some_and(|first| first == CHILD) {
        println!("{}", grown(&arguments[1], &arguments[2]));
        return;
    }
    let wanted =
        |case: &str| arguments.is_empty() || arguments.iter().any(|word| case.contains(word.as_str()));
    let mut record = Record::new("memory");
    println!("| case | unit | each runtime |");
    println!("|---|---|---|");
    for row in idle().iter().filter(|row| wanted(row.case)) {
        let bytes = |contender: &Contender<_>| per_task(row.case, contender.peer);
        measure(&mut record, row, BYTES, 0, bytes);
    }
    for row in rows().iter().filter(|row| wanted(row.case) && !row.case.contains(UNCOUNTED)) {
        measure(&mut record, row, ALLOCATIONS, 2, allocations);
    }
    record.save().expect("a file below `target`");
}

fn measure<O>(
    record: &mut Record,
    row: &Row<O>,
    unit: &str,
    decimals: usize,
    number: impl Fn(&Contender<O>) -> f64,
) {
    let mut shown = Vec::new();
    for contender in &row.contenders {
        if let Some(reason) = (contender.unavailable)() {
            shown.push(format!("{} not available here: {reason}", contender.peer));
            record.unavailable(row.case, contender.peer, &reason);
            continue;
        }
        let number = number(contender);
        shown.push(format!("{} {number:.decimals$}", contender.peer));
        record.number(row.case, contender.peer, unit, number);
    }
    println!("| {} | {unit} | {} |", row.case, shown.join(", "));
}

/// In a child: the bytes of all tasks together.
fn grown(case: &str, peer: &str) -> u64 {
    let rows = idle();
    let row = rows.iter().find(|row| row.case == case).expect("a case of that name");
    (row.contender(peer).expect("a runtime").run)(IDLE_TASKS).0
}

fn per_task(case: &str, peer: &str) -> f64 {
    let this = std::env::current_exe().expect("the path of this program");
    let output = Command::new(this).args([CHILD, case, peer]).output().expect("this program runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let bytes: f64 = said.trim().parse().unwrap_or_else(|_| {
        panic!("{peer} says no number:\n{said}\n{}", String::from_utf8_lossy(&output.stderr))
    });
    bytes / IDLE_TASKS as f64
}

fn allocations(contender: &Contender) -> f64 {
    (contender.run)(MANY);
    let [few, many] = [FEW, MANY].map(|ops| {
        let before = counted();
        (contender.run)(ops);
        counted() - before
    });
    // What a table once grew by is no cost of an operation; nor is what it did not grow by the second time a gain.
    ((many - few) / (MANY - FEW) as f64).max(0.0)
}

fn counted() -> f64 {
    let stats = INSTRUMENTED_SYSTEM.stats();
    (stats.allocations + stats.reallocations) as f64
}
