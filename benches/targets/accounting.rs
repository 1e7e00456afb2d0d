//! What accounting costs: the same cases with nothing charged, with contexts switched but no clock read, and on each rung
//! of the clock.
//!
//! The first two are builds of their own, made here with `--cfg bursar_charging=".."`, in target folders of their own;
//! nothing else sets that, and no feature does. *Nothing* still has contexts, guards and tasks that know their context,
//! but the first one stays current; *swap* makes the task's context current around each poll. Every repetition runs all of them
//! one after the other, ns are medians. Instructions are counted by callgrind, if there is a valgrind: not those of the
//! first rung, which are the second's; a system call of the third is one instruction there.
//!
//! - `cargo bench -p benches --no-default-features --bench accounting -- [WORD..] [--reps N]`;
//! - `.. -- --write`: leaves `accounting.md` there, too.
//!
//! What would make it worse: a second reading of the clock a switch; a switch where the context is the same; a charge that
//! is shared with other threads.

use benches::case::lockstep;
use benches::{Row, peer, record, rows};
use context::Clock;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const CHILD: &str = "--run-one";
const REPETITIONS: usize = 15;
/// Ops for a time of some 15 ms, and the two numbers of them that are counted.
const OPS: u64 = 300_000;
const COUNTED: [u64; 2] = [1_000, 21_000];
/// How much slower than the machine callgrind is, generously.
const SLOWNESS: u64 = 100;

/// Beginnings of the cases' names.
const CASES: [&str; 7] = [
    "yield, one context",
    "yield, a context per task",
    "ping-pong, a context each",
    "`in_context`",
    "`Context::scope`",
    "spawn + join, one context",
    "spawn + join, a context change",
];

/// What is charged, and how.
#[derive(Clone, Copy)]
struct Level {
    name: &'static str,
    /// The value of the `cfg`; none is the build as it is shipped.
    build: Option<&'static str>,
    rung: &'static str,
    counted: bool,
}

const LEVELS: [Level; 5] = [
    Level { name: "nothing", build: Some("none"), rung: "auto", counted: true },
    Level { name: "swap", build: Some("swap"), rung: "auto", counted: true },
    Level { name: "rseq", build: None, rung: "rseq", counted: false },
    Level { name: "perf page", build: None, rung: "perf-page", counted: true },
    Level { name: "thread clock", build: None, rung: "thread-clock", counted: true },
];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some(CHILD) => run_one(&arguments[1..]),
        _ => measure(arguments),
    }
}

fn cases(words: &[String]) -> Vec<Row> {
    let wanted = |row: &Row| words.is_empty() || words.iter().any(|word| row.case.contains(word.as_str()));
    let named = |row: &Row| CASES.iter().any(|name| row.case.starts_with(name));
    rows().into_iter().filter(|row| named(row) && wanted(row)).collect()
}

// ---- one case on one level ---------------------------------------------------------------------------------------------

fn run_one(arguments: &[String]) {
    let [case, rung, ops, slowness] = arguments else { panic!("a case, a rung, a number and a slowness") };
    context::harness::set_slowness(slowness.parse().expect("a number"));
    peer::use_clock(match rung.as_str() {
        "auto" => Clock::Auto,
        "rseq" => Clock::Rseq,
        "perf-page" => Clock::PerfPage,
        _ => Clock::ThreadTime,
    });
    let rows = cases(&[]);
    let row = rows.iter().find(|row| row.case == case).expect("a case of that name");
    let ops: u64 = ops.parse().expect("a number of operations");
    let run = row.contenders[0].run;
    let took = run(ops);
    let got = context::harness::rung().map_or_else(String::new, |rung| rung.to_string());
    // A machine without that rung stands on the next one.
    let is_met = rung == "auto" || got == *rung;
    println!("{}\t{}", took.as_nanos() as f64 / ops as f64, if is_met { "met" } else { "unmet" });
}

/// ns an operation; `None` where there is no such rung.
fn time(program: &Path, case: &str, level: &Level) -> Option<f64> {
    let output = Command::new(program).args([CHILD, case, level.rung, &OPS.to_string(), "1"]).output();
    let output = output.expect("the program runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let (ns, met) = said.trim().split_once('\t').unwrap_or_else(|| {
        panic!("{case:?} with {}: {}", level.name, String::from_utf8_lossy(&output.stderr));
    });
    ns.parse().ok().filter(|_| met == "met")
}

/// Instructions an operation; `None` where they cannot be counted.
fn instructions(program: &Path, case: &str, level: &Level) -> Option<f64> {
    let [few, many] = COUNTED.map(|ops| collected(program, case, level, ops));
    Some((many? - few?) as f64 / (COUNTED[1] - COUNTED[0]) as f64)
}

fn collected(program: &Path, case: &str, level: &Level, ops: u64) -> Option<u64> {
    let once = || {
        let output = Command::new("valgrind")
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .args(lockstep::LEFT_OUT.map(|function| format!("--toggle-collect={function}")))
            .arg("--collect-atstart=yes")
            .arg(program)
            .args([CHILD, case, level.rung, &ops.to_string(), &SLOWNESS.to_string()])
            .output()
            .ok()?;
        let met = output.stdout.ends_with(b"\tmet\n");
        let said = String::from_utf8_lossy(&output.stderr);
        let count =
            said.lines().find_map(|line| line.split("Collected : ").nth(1)?.trim().parse::<u64>().ok());
        count.filter(|_| met)
    };
    // What comes between can only add.
    [once(), once()].into_iter().flatten().min()
}

// ---- all of them -------------------------------------------------------------------------------------------------------

fn measure(arguments: Vec<String>) {
    let (mut repetitions, mut folder, mut words) = (REPETITIONS, None, Vec::new());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} wants a value"));
        match argument.as_str() {
            "--reps" => repetitions = value().parse().expect("--reps takes a number"),
            "--write" => folder = Some(record::documents()),
            _ => words.push(argument),
        }
    }
    let programs: Vec<PathBuf> = LEVELS.iter().map(program).collect();
    let mut document =
        String::from("# What accounting costs\n\nWritten by `cargo bench -p benches -- --write`.\n");
    let rows = cases(&words);
    document += &table("ns an operation", &rows, |row| times(&programs, row, repetitions));
    document += &table("User instructions an operation", &rows, |row| {
        let counts = programs.iter().zip(&LEVELS);
        counts
            .map(|(program, level)| level.counted.then(|| instructions(program, row.case, level)).flatten())
            .collect()
    });
    print!("{document}");
    if let Some(folder) = folder {
        fs::create_dir_all(&folder).expect("the folder can be made");
        fs::write(folder.join("accounting.md"), document).expect("the file can be written");
    }
}

/// Cargo runs a bench in its package's folder.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the root")
}

fn times(programs: &[PathBuf], row: &Row, repetitions: usize) -> Vec<Option<f64>> {
    let mut times = vec![Vec::new(); LEVELS.len()];
    for _ in 0..repetitions {
        for ((program, level), times) in programs.iter().zip(&LEVELS).zip(&mut times) {
            times.extend(time(program, row.case, level));
        }
    }
    let median = |mut times: Vec<f64>| {
        times.sort_unstable_by(f64::total_cmp);
        times.get(times.len() / 2).copied()
    };
    times.into_iter().map(median).collect()
}

fn table(title: &str, rows: &[Row], measure: impl Fn(&Row) -> Vec<Option<f64>>) -> String {
    let names: Vec<&str> = LEVELS.iter().map(|level| level.name).collect();
    let mut text = format!("\n## {title}\n\n| case | {} |\n|---|", names.join(" | "));
    text += &"---|".repeat(LEVELS.len());
    for row in rows {
        let costs = measure(row);
        let shown: Vec<String> = costs
            .iter()
            .map(|cost| cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.1}")))
            .collect();
        write!(text, "\n| {} | {} |", row.case, shown.join(" | ")).expect("a string takes all");
    }
    text + "\n"
}

/// This program, or one that is built like it but for the charging.
fn program(level: &Level) -> PathBuf {
    let Some(charging) = level.build else {
        return env::current_exe().expect("the path of this program");
    };
    eprintln!("building with {:?} charged..", level.name);
    let target = root().join("target").join(format!("charging-{charging}"));
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root())
        .env("RUSTFLAGS", format!("--cfg bursar_charging=\"{charging}\" -A dead_code -A unused_imports"))
        .env("CARGO_TARGET_DIR", target)
        .args(["bench", "-p", "benches", "--no-default-features", "--bench", "accounting", "--no-run"])
        .args(["--message-format", "json"])
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let mut path = said.lines().filter_map(|line| line.split("\"executable\":\"").nth(1)?.split('"').next());
    let complaint = || panic!("no build: {}", String::from_utf8_lossy(&output.stderr));
    path.next_back().map_or_else(complaint, PathBuf::from)
}
