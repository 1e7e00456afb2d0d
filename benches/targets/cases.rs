//! Criterion's view of every case on every runtime: ns per operation with its spread, and the change since the last run.
//!
//! One runtime is measured to its end before the next, so the ratios of `ratios` are to be trusted more.
//! What would make it worse: see each case.

use benches::rows;
use criterion::{Criterion, SamplingMode};
use std::time::Duration;

/// Operations of an iteration: some cases do no fewer at a time.
const OPS: u32 = 1_000;

fn main() {
    // `--write` wants documents: criterion has none to write, and does not know the option.
    if std::env::args().any(|argument| argument == "--write") {
        return;
    }
    let mut criterion = Criterion::default()
        .sample_size(10)
        .nresamples(2_000)
        .warm_up_time(Duration::from_millis(40))
        .measurement_time(Duration::from_millis(150))
        .configure_from_args();
    for row in rows() {
        let mut group = criterion.benchmark_group(row.case);
        group.sampling_mode(SamplingMode::Flat);
        for contender in row.contenders.iter().filter(|contender| (contender.unavailable)().is_none()) {
            group.bench_function(contender.peer, |bencher| {
                bencher.iter_custom(|iterations| (contender.run)(iterations * u64::from(OPS)) / OPS);
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
