//! 100,000 sleeps, whole: CPU and lateness are not by the operation, and a run takes a second and a half.
//!
//! Below the table: what the kernel takes for a thread that does nothing but sleep, as often as a loop must that keeps
//! deadlines to 0.15 ms. It is dear in virtual machines (20 us and more were seen), and then decides the row.

use crate::median;
use benches::case::Punctuality;
use benches::case::stopwatch::Stopwatch;
use benches::record::{CPU_MS, P50_US, P99_US, Record, ratio_of};
use benches::{Contender, Row};
use std::time::{Duration, Instant};

const SLEEPS: u64 = 100_000;

pub(crate) fn measure(row: &Row<Punctuality>, repetitions: usize, record: &mut Record) {
    println!("\n| {} | CPU ms | ratio | late by p50, us | p99, us |", row.case);
    println!("|---|---|---|---|---|");
    let mut present: Vec<(&Contender<Punctuality>, Vec<Punctuality>)> = Vec::new();
    for contender in &row.contenders {
        match (contender.unavailable)() {
            None => present.push((contender, Vec::new())),
            Some(reason) => {
                println!("| {} | not available here: {reason} | | | |", contender.peer);
                record.unavailable(row.case, contender.peer, &reason);
            }
        }
    }
    for _ in 0..repetitions {
        for (contender, runs) in &mut present {
            runs.push((contender.run)(SLEEPS));
        }
    }
    let tokio =
        present.iter().find(|(contender, _)| contender.peer == "tokio").map(|(_, runs)| runs.as_slice());
    for (contender, runs) in &present {
        let numbers = numbers(runs, tokio.unwrap_or_default());
        let [cpu, ratio, p50, p99] = numbers;
        println!("| {} | {cpu:.0} | {ratio:.2} | {p50:.0} | {p99:.0} |", contender.peer);
        for (unit, number) in [CPU_MS, &ratio_of(CPU_MS), P50_US, P99_US].into_iter().zip(numbers) {
            record.number(row.case, contender.peer, unit, number);
        }
    }
    println!("\n{}", bare_sleeps());
}

fn bare_sleeps() -> String {
    const SLEEP: Duration = Duration::from_micros(123);
    let watch = Stopwatch::start();
    let (began, mut sleeps) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(SLEEP);
        sleeps += 1;
    }
    let cpu = watch.elapsed();
    format!(
        "a bare thread, {sleeps} sleeps of {SLEEP:?} in 1 s: {} ms CPU, {:?} each",
        cpu.as_millis(),
        cpu / sleeps
    )
}

/// Medians: CPU, its ratio to tokio's of the same repetition, lateness.
fn numbers(runs: &[Punctuality], tokio: &[Punctuality]) -> [f64; 4] {
    let cpu = |run: &Punctuality| run.cpu.as_secs_f64() * 1e3;
    [
        median(runs.iter().map(cpu)),
        median(runs.iter().zip(tokio).map(|(run, tokio)| cpu(run) / cpu(tokio))),
        median(runs.iter().map(|run| run.p50.as_secs_f64() * 1e6)),
        median(runs.iter().map(|run| run.p99.as_secs_f64() * 1e6)),
    ]
}
