//! 100,000 tasks that each sleep once, the ends spread evenly over one second: the CPU that takes, and how late they wake.
//!
//! Lateness is from the deadline to the poll, in microseconds; the median of the repetitions, which take turns.
//!
//! `cargo bench -p benches --bench sleeps -- [--reps N]`
//!
//! Below the table: what the kernel takes for a thread that does nothing but sleep, as often as such a loop must. It is
//! dear in virtual machines (20 us and more were seen), and then decides the row.
//!
//! What would make it worse: timers in milliseconds, one sleep of the loop for each timer, a heap of timers (log n moves
//! each), a wheel that is walked where it is empty.

use benches::Peer;
use benches::peer::{Bursar, Tokio};
use rustix::time::{ClockId, clock_gettime};
use std::cell::RefCell;
use std::time::{Duration, Instant};

const SLEEPS: u32 = 100_000;
const SPREAD: Duration = Duration::from_secs(1);
/// Time to spawn them all before the first ends.
const HEAD_START: Duration = Duration::from_millis(500);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let given = arguments.iter().position(|argument| argument == "--reps");
    let repetitions = given.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(3).max(1);
    let mut results: [Vec<Outcome>; 2] = Default::default();
    for _ in 0..repetitions {
        results[0].push(measure::<Bursar>());
        results[1].push(measure::<Tokio>());
    }
    println!("| 100,000 sleeps over 1 s | CPU ms | late by p50, us | p99, us |");
    println!("|---|---|---|---|");
    for (peer, outcomes) in [Bursar::NAME, Tokio::NAME].into_iter().zip(&results) {
        let median = |of: fn(&Outcome) -> f64| {
            let mut numbers: Vec<f64> = outcomes.iter().map(of).collect();
            numbers.sort_unstable_by(f64::total_cmp);
            numbers[numbers.len() / 2]
        };
        let (cpu, p50, p99) = (
            median(|outcome| outcome.cpu_ms),
            median(|outcome| outcome.p50_us),
            median(|outcome| outcome.p99_us),
        );
        println!("| {peer} | {cpu:.0} | {p50:.0} | {p99:.0} |");
    }
    println!("\n{}", bare_sleeps());
}

/// The floor: a thread that sleeps 0.13 ms at a time for as long as the timers are spread.
fn bare_sleeps() -> String {
    let (began, before) = (Instant::now(), thread_cpu());
    let mut sleeps = 0;
    while began.elapsed() < SPREAD {
        std::thread::sleep(Duration::from_micros(131));
        sleeps += 1;
    }
    let cpu = thread_cpu() - before;
    format!("a bare thread, {sleeps} sleeps in 1 s: {} ms CPU, {:?} each", cpu.as_millis(), cpu / sleeps)
}

struct Outcome {
    cpu_ms: f64,
    p50_us: f64,
    p99_us: f64,
}

thread_local! {
    static LATE: RefCell<Vec<Duration>> = const { RefCell::new(Vec::new()) };
}

fn measure<P: Peer>() -> Outcome {
    LATE.with_borrow_mut(|late| {
        late.clear();
        late.reserve(SLEEPS as usize);
    });
    let cpu = P::block_on(async {
        let start = Instant::now() + HEAD_START;
        let tasks: Vec<_> =
            (0..SLEEPS).map(|n| P::spawn(sleep_once::<P>(start + SPREAD * n / SLEEPS))).collect();
        // The first polls register the timers; what is measured is the firing.
        P::sleep(start.saturating_duration_since(Instant::now()) / 2).await;
        let before = thread_cpu();
        for task in tasks {
            task.await.expect("the task neither panics nor is aborted");
        }
        thread_cpu() - before
    });
    let mut late = LATE.take();
    late.sort_unstable();
    let percentile = |p: usize| late[late.len() * p / 100].as_secs_f64() * 1e6;
    Outcome { cpu_ms: cpu.as_secs_f64() * 1e3, p50_us: percentile(50), p99_us: percentile(99) }
}

async fn sleep_once<P: Peer>(deadline: Instant) {
    P::sleep(deadline.saturating_duration_since(Instant::now())).await;
    let late = Instant::now().saturating_duration_since(deadline);
    LATE.with_borrow_mut(|all| all.push(late));
}

fn thread_cpu() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("CPU time is not negative")
}
