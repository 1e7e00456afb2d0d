//! The table: ns per operation of each runtime, and the ratio to tokio.
//!
//! Machines are noisy and change their speed while they measure. So every repetition runs the runtimes of a row back to
//! back, the ratio is taken within the repetition, and the table shows the median of the ratios.
//!
//! `cargo bench -p benches --bench ratios -- [WORD..] [--reps N]`: only rows whose name contains one of the words.
//!
//! What would make it worse: see each case.

use benches::record::{NS, Record, ratio_of};
use benches::{Contender, Row, rows};
use std::time::Duration;

/// How long one measurement lasts: far above the clock's grain, below a change of the machine's speed.
const SPAN: Duration = Duration::from_millis(15);
const REPETITIONS: usize = 15;

fn main() {
    let (repetitions, words) = arguments();
    let wanted = |row: &Row| words.is_empty() || words.iter().any(|word| row.case.contains(word.as_str()));
    let mut record = Record::new("ratios");
    println!(
        "| case | bursar ns | tokio ns | ratio | goal | the others: ratio to tokio, or ns where tokio has no such thing |"
    );
    println!("|---|---|---|---|---|---|");
    for row in rows().iter().filter(|row| wanted(row)) {
        let results = measure(row, repetitions);
        println!("{}", shown(row, &results));
        note(&mut record, row.case, &results);
    }
    record.save().expect("a file below `target`");
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

/// What one contender did.
struct Outcome {
    peer: &'static str,
    /// Or why there is none.
    measured: Result<Measured, String>,
}

struct Measured {
    ns: f64,
    /// To tokio, where it takes part.
    ratio: Option<f64>,
}

fn measure(row: &Row, repetitions: usize) -> Vec<Outcome> {
    let reasons: Vec<Option<String>> =
        row.contenders.iter().map(|contender| (contender.unavailable)()).collect();
    let present: Vec<&Contender> = row
        .contenders
        .iter()
        .zip(&reasons)
        .filter(|(_, reason)| reason.is_none())
        .map(|(contender, _)| contender)
        .collect();
    let ops: Vec<u64> = present.iter().map(|contender| enough(contender)).collect();
    let mut times = vec![Vec::new(); present.len()];
    for _ in 0..repetitions {
        for ((contender, ops), times) in present.iter().zip(&ops).zip(&mut times) {
            times.push(ns_per_op(contender, *ops));
        }
    }
    let baseline = present.iter().position(|contender| contender.peer == "tokio").map(|at| times[at].clone());
    let mut times = times.into_iter();
    let outcome = |(contender, reason): (&Contender, Option<String>)| Outcome {
        peer: contender.peer,
        measured: match reason {
            Some(reason) => Err(reason),
            None => Ok(summary(&times.next().expect("times of each that is present"), baseline.as_deref())),
        },
    };
    row.contenders.iter().zip(reasons).map(outcome).collect()
}

fn summary(times: &[f64], baseline: Option<&[f64]>) -> Measured {
    let ratio = |baseline: &[f64]| median(times.iter().zip(baseline).map(|(this, tokio)| this / tokio));
    Measured { ns: median(times.iter().copied()), ratio: baseline.map(ratio) }
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

fn shown(row: &Row, outcomes: &[Outcome]) -> String {
    let of = |peer: &str| outcomes.iter().find(|outcome| outcome.peer == peer)?.measured.as_ref().ok();
    let (bursar, tokio) = (of("bursar"), of("tokio"));
    let others = outcomes.iter().filter(|outcome| !["bursar", "tokio"].contains(&outcome.peer)).map(in_short);
    format!(
        "| {} | {} | {} | {} | {} | {} |",
        row.case,
        rounded(bursar.map(|bursar| bursar.ns), 1),
        rounded(tokio.map(|tokio| tokio.ns), 1),
        rounded(bursar.and_then(|bursar| bursar.ratio), 2),
        rounded(row.goal, 2),
        others.collect::<Vec<_>>().join(", "),
    )
}

fn in_short(outcome: &Outcome) -> String {
    match &outcome.measured {
        Err(reason) => format!("{} not available here: {reason}", outcome.peer),
        Ok(Measured { ratio: Some(ratio), .. }) => format!("{} {ratio:.2}", outcome.peer),
        Ok(Measured { ns, .. }) => format!("{} {ns:.1} ns", outcome.peer),
    }
}

fn rounded(number: Option<f64>, decimals: usize) -> String {
    number.map_or_else(|| "-".to_owned(), |number| format!("{number:.decimals$}"))
}

fn note(record: &mut Record, case: &str, outcomes: &[Outcome]) {
    for outcome in outcomes {
        match &outcome.measured {
            Err(reason) => record.unavailable(case, outcome.peer, reason),
            Ok(measured) => {
                record.number(case, outcome.peer, NS, measured.ns);
                if let Some(ratio) = measured.ratio {
                    record.number(case, outcome.peer, &ratio_of(NS), ratio);
                }
            }
        }
    }
}
