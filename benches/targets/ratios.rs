//! The table: ns per operation of each runtime, and the ratio of Bursar to tokio.
//!
//! Machines are noisy and change their speed while they measure. So every repetition runs the runtimes of a row back to
//! back, the ratio is taken within the repetition, and the table shows the median of the ratios.
//!
//! `cargo bench -p benches --bench ratios -- [WORD..] [--reps N]`: only rows whose name contains one of the words.
//!
//! What would make it worse: see each case.

use benches::{Contender, Row, rows};
use std::time::Duration;

/// How long one measurement lasts: far above the clock's grain, below a change of the machine's speed.
const SPAN: Duration = Duration::from_millis(15);
const REPETITIONS: usize = 15;

fn main() {
    let (repetitions, words) = arguments();
    let wanted = |row: &Row| words.is_empty() || words.iter().any(|word| row.case.contains(word.as_str()));
    println!("| case | bursar ns | tokio ns | ratio | goal |");
    println!("|---|---|---|---|---|");
    for row in rows().iter().filter(|row| wanted(row)) {
        println!("{}", measure(row, repetitions));
    }
}

fn arguments() -> (usize, Vec<String>) {
    let mut repetitions = REPETITIONS;
    let mut words = Vec::new();
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--reps" => {
                let number = arguments.next().and_then(|number| number.parse().ok());
                repetitions = number.expect("--reps takes a number");
            }
            _ => words.push(argument),
        }
    }
    (repetitions.max(1), words)
}

fn measure(row: &Row, repetitions: usize) -> String {
    let ops: Vec<u64> = row.contenders.iter().map(enough).collect();
    let mut times = vec![Vec::new(); row.contenders.len()];
    for _ in 0..repetitions {
        for ((contender, ops), times) in row.contenders.iter().zip(&ops).zip(&mut times) {
            times.push(ns_per_op(contender, *ops));
        }
    }
    let (bursar, tokio) = (&times[0], times.get(1));
    let ratio = tokio.map(|tokio| median(bursar.iter().zip(tokio).map(|(ours, theirs)| ours / theirs)));
    format!(
        "| {} | {} | {} | {} | {} |",
        row.case,
        shown(Some(median(bursar.iter().copied())), 1),
        shown(tokio.map(|tokio| median(tokio.iter().copied())), 1),
        shown(ratio, 2),
        shown(row.goal, 2),
    )
}

/// How many operations fill the span. The search warms up as well.
fn enough(contender: &Contender) -> u64 {
    let mut ops = 100;
    loop {
        let took = (contender.run)(ops).max(Duration::from_micros(1));
        if took >= SPAN / 4 {
            let enough = ops as f64 * SPAN.as_secs_f64() / took.as_secs_f64();
            return (enough as u64).next_multiple_of(100);
        }
        ops *= 4;
    }
}

fn ns_per_op(contender: &Contender, ops: u64) -> f64 {
    (contender.run)(ops).as_nanos() as f64 / ops as f64
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_unstable_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn shown(number: Option<f64>, decimals: usize) -> String {
    number.map_or_else(|| "-".to_owned(), |number| format!("{number:.decimals$}"))
}
