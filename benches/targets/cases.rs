//! Criterion's view of every case on every runtime: ns per operation with its spread, and the change since the last run.
//!
//! One runtime is measured for seconds before the next, so the ratios of `ratios` are to be trusted more.
//! What would make it worse: see each case.

use benches::rows;
use criterion::Criterion;
use std::time::Duration;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .nresamples(2_000)
        .warm_up_time(Duration::from_millis(40))
        .measurement_time(Duration::from_millis(150))
        .configure_from_args();
    for row in rows() {
        let mut group = criterion.benchmark_group(row.case);
        for contender in row.contenders.iter().filter(|contender| (contender.unavailable)().is_none()) {
            group.bench_function(contender.peer, |bencher| bencher.iter_custom(contender.run));
        }
        group.finish();
    }
    criterion.final_summary();
}
