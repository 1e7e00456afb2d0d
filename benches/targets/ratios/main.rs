//! The table: ns per operation of each runtime, and the ratio to tokio; then 100,000 sleeps; then what is reached of all
//! that has been measured, by this target and the others.
//!
//! Machines are noisy and change their speed while they measure. So every repetition runs the runtimes of a row back to
//! back, the ratio is taken within the repetition, and the table shows the median of the ratios.
//!
//! `cargo bench -p benches --bench ratios -- [WORD..] [--reps N] [--table] [--write]`: only rows whose name contains one
//! of the words; with so many repetitions; `--table` measures nothing and shows what there is; `--write` puts that into
//! `docs/performance/table.md`. `cargo bench -p benches` runs this target last, so that it finds the others' numbers.
//!
//! What would make it worse: see each case.

mod sleeps;
mod table;

use benches::record::{NS, Record, ratio_of};
use benches::{Contender, Row, rows};
use std::time::Duration;

/// How long one measurement lasts: far above the clock's grain, below a change of the machine's speed.
const SPAN: Duration = Duration::from_millis(15);
const REPETITIONS: usize = 15;
/// Of what takes a second and a half for each runtime.
const REPETITIONS_OF_SLEEPS: usize = 5;

fn main() {
    let wish = Wish::of(std::env::args().skip(1));
    if !wish.table_only {
        measure_all(&wish);
    }
    if wish.write {
        table::write();
    } else if wish.table_only || wish.words.is_empty() {
        table::print();
    }
}

/// What the arguments ask for.
struct Wish {
    words: Vec<String>,
    repetitions: Option<usize>,
    table_only: bool,
    write: bool,
}

impl Wish {
    fn of(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut wish = Self { words: Vec::new(), repetitions: None, table_only: false, write: false };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => {}
                "--table" => wish.table_only = true,
                "--write" => wish.write = true,
                "--reps" => {
                    let number = arguments.next().and_then(|number| number.parse().ok());
                    wish.repetitions = Some(number.expect("--reps takes a number"));
                }
                _ => wish.words.push(argument),
            }
        }
        wish
    }

    fn wants(&self, case: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| case.contains(word.as_str()))
    }

    fn repetitions(&self, usual: usize) -> usize {
        self.repetitions.unwrap_or(usual).max(1)
    }
}

fn measure_all(wish: &Wish) {
    let mut record = Record::new("ratios");
    println!(
        "| case | bursar ns | tokio ns | ratio | goal | the others' ratio to tokio; ns where tokio has none |"
    );
    println!("|---|---|---|---|---|---|");
    for row in rows().iter().filter(|row| wish.wants(row.case)) {
        let results = measure(row, wish.repetitions(REPETITIONS));
        println!("{}", shown(row, &results));
        note(&mut record, row.case, &results);
    }
    let row = benches::sleeps();
    if wish.wants(row.case) {
        sleeps::measure(&row, wish.repetitions(REPETITIONS_OF_SLEEPS), &mut record);
    }
    record.save().expect("a file below `target`");
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
