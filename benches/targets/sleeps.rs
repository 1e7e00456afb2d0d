//! 100,000 tasks that each sleep once, the ends spread evenly over one second: the CPU that takes, and how late they wake.
//!
//! The median of the repetitions, in each of which the runtimes take turns.
//!
//! `cargo bench -p benches --bench sleeps -- [--reps N]`
//!
//! What would make it worse: see the case.

use benches::case::Punctuality;
use benches::record::{CPU_MS, P50_US, P99_US, Record, ratio_of};
use benches::sleeps;

const SLEEPS: u64 = 100_000;
const REPETITIONS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let given = arguments.iter().position(|argument| argument == "--reps");
    let repetitions = given.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(REPETITIONS).max(1);
    let row = sleeps();
    let mut record = Record::new("sleeps");
    let (absent, present): (Vec<_>, Vec<_>) = row
        .contenders
        .iter()
        .map(|contender| (contender, (contender.unavailable)()))
        .partition(|(_, reason)| reason.is_some());
    let mut results = vec![Vec::new(); present.len()];
    for _ in 0..repetitions {
        for ((contender, _), results) in present.iter().zip(&mut results) {
            results.push((contender.run)(SLEEPS));
        }
    }
    let baseline =
        present.iter().position(|(contender, _)| contender.peer == "tokio").map(|at| results[at].clone());
    println!("| {} | CPU ms | ratio | late by p50, us | p99, us |", row.case);
    println!("|---|---|---|---|---|");
    for ((contender, _), results) in present.iter().zip(&results) {
        let of = |what: fn(&Punctuality) -> f64| median(results.iter().map(what));
        let (cpu, p50, p99) = (
            of(cpu_ms),
            of(|result| result.p50.as_secs_f64() * 1e6),
            of(|result| result.p99.as_secs_f64() * 1e6),
        );
        let pairs = |baseline: &Vec<Punctuality>| {
            median(results.iter().zip(baseline).map(|(this, tokio)| cpu_ms(this) / cpu_ms(tokio)))
        };
        let ratio = baseline.as_ref().map_or(f64::NAN, pairs);
        println!("| {} | {cpu:.0} | {ratio:.2} | {p50:.0} | {p99:.0} |", contender.peer);
        for (unit, number) in [(CPU_MS, cpu), (&*ratio_of(CPU_MS), ratio), (P50_US, p50), (P99_US, p99)] {
            record.number(row.case, contender.peer, unit, number);
        }
    }
    for (contender, reason) in &absent {
        let reason = reason.as_deref().unwrap_or_default();
        println!("| {} | not available here: {reason} | | | |", contender.peer);
        record.unavailable(row.case, contender.peer, reason);
    }
    record.save().expect("a file below `target`");
}

fn cpu_ms(result: &Punctuality) -> f64 {
    result.cpu.as_secs_f64() * 1e3
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_unstable_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
