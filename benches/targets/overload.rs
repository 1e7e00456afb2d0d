//! What is left of a service that is asked for more than it can do: the example `service`, in front of a database, under 0.5 to
//! 10 times the load that it can bear. Clients come at a fixed rate whatever happens to the others, and give up after 2 s.
//!
//! - `cargo bench -p benches --no-default-features --bench overload`: prints a table;
//! - `.. -- --check`: fails if less than 90 % of the peak is left at 2 and at 10 times the load, or if a request that comes alone
//!   afterwards takes more than 100 ms;
//! - `.. -- --write`: leaves the table and two pictures in `docs/reliability.md` and beside it;
//! - `.. -- --seconds N`: how long each load lasts, 10 s if not said.
//!
//! What would make it worse: work for clients that have gone, queues that are longer than a client's patience, anything in
//! front of the queue that costs as much as what is behind it.

mod service;

use benches::plot::Plot;
use service::{NoAnswer, Service, ask};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{env, fs};
use tokio::task::{LocalSet, spawn_local};

/// Eight searches at once, in all the texts of the repository.
const PATH: &str = "/fanout?q=the,of,and,context,runtime,task,test,let";
const PATIENCE: Duration = Duration::from_secs(2);
const FACTORS: [f64; 5] = [0.5, 1.0, 2.0, 4.0, 10.0];
/// Who asks as fast as it is answered, to find out what the service can bear.
const CLIENTS: usize = 8;
const BEGIN: &str = "<!-- overload: written by the bench of that name -->";
const END: &str = "<!-- /overload -->";

/// What came of one load.
struct Outcome {
    factor: f64,
    offered: f64,
    /// Answers with the status 200 a second.
    goodput: f64,
    refused: usize,
    timed_out: usize,
    broken: usize,
    /// How long the good answers took.
    latencies: Vec<Duration>,
    /// A request that came alone right afterwards.
    alone: Duration,
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let seconds = arguments.iter().position(|argument| argument == "--seconds");
    let seconds = seconds.map_or(10, |at| arguments[at + 1].parse().expect("--seconds takes a number"));
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (capacity, outcomes) = LocalSet::new().block_on(&runtime, experiment(Duration::from_secs(seconds)));
    let table = table(capacity, &outcomes);
    println!("{table}");
    if has("--write") {
        write(&table, &outcomes);
    }
    if has("--check") {
        check(capacity, &outcomes);
    }
}

async fn experiment(length: Duration) -> (f64, Vec<Outcome>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let service = Service::start(root).await;
    let capacity = capacity(service.address, length).await;
    let mut outcomes = Vec::new();
    for factor in FACTORS {
        outcomes.push(load(service.address, factor, capacity, length).await);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (memory, descriptors) = (service.status("VmHWM") / 1024, service.descriptors());
    let (status, took, log) = service.end();
    assert_eq!(status, Some(0), "the service ended badly:\n{log}");
    println!(
        "at most {memory} MiB resident, {descriptors} descriptors left; it ended in order within {took:?}"
    );
    (capacity, outcomes)
}

/// Answers a second for clients of whom each asks again when it was answered.
async fn capacity(address: SocketAddr, length: Duration) -> f64 {
    let begin = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            spawn_local(async move {
                let mut answered = 0;
                while begin.elapsed() < length {
                    let answer = ask(address, PATH, Duration::from_secs(30)).await;
                    answered += usize::from(answer.is_ok_and(|answer| answer.status == 200));
                }
                answered
            })
        })
        .collect();
    let mut answered = 0;
    for client in clients {
        answered += client.await.expect("a client does not panic");
    }
    answered as f64 / begin.elapsed().as_secs_f64()
}

async fn load(address: SocketAddr, factor: f64, capacity: f64, length: Duration) -> Outcome {
    let offered = factor * capacity;
    let count = (offered * length.as_secs_f64()).round() as u32;
    let results = Rc::new(RefCell::new(Vec::new()));
    let begin = Instant::now();
    let mut clients = Vec::new();
    for number in 0..count {
        let due = Duration::from_secs_f64(f64::from(number) / offered);
        tokio::time::sleep(due.saturating_sub(begin.elapsed())).await;
        let results = results.clone();
        clients.push(spawn_local(async move {
            let asked = Instant::now();
            let answer = ask(address, PATH, PATIENCE).await;
            results.borrow_mut().push((answer.map(|answer| answer.status), asked.elapsed()));
        }));
    }
    for client in clients {
        client.await.expect("a client does not panic");
    }
    let asked = Instant::now();
    let alone = ask(address, PATH, Duration::from_secs(60)).await;
    let alone = if alone.is_ok_and(|answer| answer.status == 200) { asked.elapsed() } else { Duration::MAX };
    let results = results.take();
    let number = |wanted: Result<u16, NoAnswer>| results.iter().filter(|(got, _)| *got == wanted).count();
    let mut latencies: Vec<_> =
        results.iter().filter(|(got, _)| *got == Ok(200)).map(|(_, latency)| *latency).collect();
    latencies.sort_unstable();
    let (good, timed_out, broken) =
        (latencies.len(), number(Err(NoAnswer::TimedOut)), number(Err(NoAnswer::Broken)));
    Outcome {
        factor,
        offered,
        goodput: good as f64 / length.as_secs_f64(),
        refused: results.len() - good - timed_out - broken,
        timed_out,
        broken,
        latencies,
        alone,
    }
}

impl Outcome {
    /// Of the good answers, in milliseconds.
    fn quantile(&self, part: f64) -> f64 {
        let at = (self.latencies.len() as f64 * part) as usize;
        self.latencies.get(at.min(self.latencies.len().saturating_sub(1))).map_or(0.0, millis)
    }
}

fn millis(duration: &Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn peak(outcomes: &[Outcome]) -> f64 {
    outcomes.iter().map(|outcome| outcome.goodput).fold(0.0, f64::max)
}

fn table(capacity: f64, outcomes: &[Outcome]) -> String {
    let peak = peak(outcomes);
    let mut table = format!(
        "Capacity, {CLIENTS} clients of whom each asks again when it was answered: {capacity:.1} requests/s.\n\n\
         | load | offered, 1/s | good answers, 1/s | of the peak | refused (503) | given up after 2 s | broken | \
         p50, ms | p99, ms | alone afterwards, ms |\n|---|---|---|---|---|---|---|---|---|---|\n"
    );
    for outcome in outcomes {
        let Outcome { factor, offered, goodput, refused, timed_out, broken, alone, .. } = outcome;
        let line = writeln!(
            table,
            "| {factor}x | {offered:.0} | {goodput:.1} | {:.0} % | {refused} | {timed_out} | {broken} | {:.0} | {:.0} | {:.0} |",
            100.0 * goodput / peak,
            outcome.quantile(0.5),
            outcome.quantile(0.99),
            millis(alone)
        );
        line.expect("a string takes all");
    }
    table
}

fn check(capacity: f64, outcomes: &[Outcome]) {
    let peak = peak(outcomes).max(capacity);
    for outcome in outcomes.iter().filter(|outcome| [2.0, 10.0].contains(&outcome.factor)) {
        let Outcome { factor, goodput, alone, .. } = outcome;
        assert!(
            *goodput >= 0.9 * peak,
            "at {factor} times the load {goodput:.1} of {peak:.1} requests/s are left"
        );
        assert!(*alone <= Duration::from_millis(100), "alone after {factor} times the load: {alone:?}");
    }
}

fn write(table: &str, outcomes: &[Outcome]) {
    let documents: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("docs");
    let folder = documents.join("reliability");
    fs::create_dir_all(&folder).expect("the folder of the pictures");
    let points = |y: &dyn Fn(&Outcome) -> f64| -> Vec<(f64, f64)> {
        outcomes.iter().map(|outcome| (100.0 * outcome.factor, y(outcome))).collect()
    };
    let offered = "load, in % of what the service can bear";
    let goodput = Plot {
        title: "Good answers under overload",
        x: offered,
        y: "answers a second",
        lines: vec![("good answers", points(&|outcome| outcome.goodput))],
    };
    let latency = Plot {
        title: "How long good answers take under overload",
        x: offered,
        y: "ms",
        lines: vec![
            ("p50", points(&|outcome| outcome.quantile(0.5))),
            ("p99", points(&|outcome| outcome.quantile(0.99))),
        ],
    };
    for (name, plot) in [("overload-goodput.svg", goodput), ("overload-latency.svg", latency)] {
        fs::write(folder.join(name), plot.svg()).expect("the picture is written");
    }
    let path = documents.join("reliability.md");
    let text = fs::read_to_string(&path).expect("docs/reliability.md");
    let (before, rest) = text.split_once(BEGIN).expect("a place for the table");
    let (_, after) = rest.split_once(END).expect("the end of that place");
    let text = format!("{before}{BEGIN}\n\n{table}\n{END}{after}");
    fs::write(path, text).expect("the table is written");
}
