//! User instructions per operation, counted by callgrind: they repeat to a few tenths of a percent on any machine.
//!
//! Each case runs twice under valgrind, a large number of operations and a small one; what the difference costs is the
//! operations' own. A thread that leaves the CPU, or an anchor of the clock that grows old, adds some: of several counts
//! the least is taken. Everything takes some fifty times as long there, so the runtime is told to stretch its bounds in
//! wall time as much ([`SLOWNESS`]); and there is no restartable sequence, so the clock stands on its second rung, whose
//! hot path is the same, instruction for instruction.
//!
//! - `cargo bench -p benches --bench instructions -- [WORD..]`: the table, for rows whose name contains one of the words;
//! - `.. -- --check`: the gate. Counts the cases of `benches/instructions.txt` and fails if one is more than 3 % off its
//!   figure, dearer or cheaper. Cheaper fails, too, so that what was won is not lost again unseen;
//! - `.. -- --rebase`: writes that file anew;
//! - `.. -- --profile [WORD..]`: where Bursar's instructions are spent, by source file. (`--write` leaves that in
//!   `profile.md`, too.)
//!
//! The counts are left in `target/benches/instructions.tsv` as well: case, runtime, unit and value, between tabs.
//!
//! What would make it worse: whatever makes the case worse.

mod profile;

use benches::case::lockstep;
use benches::figures::{Figures, Judgement, TOLERANCE};
use benches::record::{self, INSTRUCTIONS, Record};
use benches::{Contender, Row, case, rows};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs};

/// Ops of the two runs. Of a request on a connection fewer do: each is thousands of instructions.
const RUNS: [u64; 2] = [1_000, 21_000];
const RUNS_OF_REQUESTS: [u64; 2] = [1_000, 4_000];
/// How often a count is taken for the committed figures.
const COUNTS: usize = 3;
/// And at most, before the gate fails: what comes between, a thread that leaves the CPU, can only add.
const COUNTS_MAX: usize = 6;
/// How much slower than the machine callgrind is, generously.
const SLOWNESS: u64 = 100;
/// These run on two threads, which valgrind takes turns with: no number of theirs repeats.
const UNCOUNTED: [&str; 2] = ["remote", "CPU of the server"];
/// What the gate holds: a name begins with one of these.
const GATED: [&str; 13] = [
    "spawn + join, one context",
    "spawn + join, a context change",
    "yield, one context",
    "yield, a context per task",
    "ping-pong, one context",
    "ping-pong, a context each",
    "a sleep, create + drop",
    "`in_context`",
    "`Context::scope`",
    "root context",
    "child context",
    "TCP echo, a request",
    "HTTP hello, a request",
];
/// How this program asks itself, under valgrind, to run one case.
const CHILD: &str = "--run-one";
const TARGET: &str = "instructions";
const FIGURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");
const REBASE: &str = "cargo bench -p benches --no-default-features --bench instructions -- --rebase";

fn main() -> ExitCode {
    let is_mine = |argument: &String| argument != "--bench" && argument != "--write";
    let writes = env::args().any(|argument| argument == "--write");
    let arguments: Vec<String> = env::args().skip(1).filter(is_mine).collect();
    match arguments.first().map(String::as_str) {
        Some(CHILD) => run_one(&arguments[1..]),
        _ if Command::new("valgrind").arg("--version").output().is_err() => {
            println!("instructions are not counted: there is no valgrind here");
            return if arguments.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Some("--check") => return check(),
        Some("--rebase") => rebase(),
        Some("--profile") => println!("{}", profiles(&arguments[1..])),
        _ => {
            table(&arguments);
            if writes {
                fs::write(record::documents().join("profile.md"), profiles(&arguments))
                    .expect("it can be written");
            }
        }
    }
    ExitCode::SUCCESS
}

fn all_rows() -> impl Iterator<Item = Row> {
    let repeats = |row: &Row| !UNCOUNTED.iter().any(|word| row.case.contains(word));
    rows().into_iter().filter(repeats).chain(case::counted())
}

fn gated_rows() -> impl Iterator<Item = Row> {
    all_rows().filter(|row| GATED.iter().any(|name| row.case.starts_with(name)))
}

// ---- under valgrind ----------------------------------------------------------------------------------------------

fn run_one(arguments: &[String]) {
    context::harness::set_slowness(SLOWNESS);
    let [case, peer, ops] = arguments else { panic!("a case, a runtime and a number") };
    let row = all_rows().find(|row| row.case == case).expect("a case of that name");
    let contender = row.contenders.iter().find(|contender| contender.peer == peer).expect("a runtime");
    (contender.run)(ops.parse().expect("a number of operations"));
    if let Some(rung) = context::harness::rung() {
        println!("{rung}");
    }
}

// ---- counting ----------------------------------------------------------------------------------------------------

struct Count {
    instructions: f64,
    /// The rung of the clock; empty where no context was used.
    clock: String,
}

/// An operation's count, from the least of both runs' counts, which are taken `counts` times; more often, if that is not
/// near `figure`.
fn count(row: &Row, contender: &Contender, counts: usize, figure: Option<f64>) -> Result<Count, String> {
    let runs = runs_of(row);
    let mut least = [u64::MAX; 2];
    let mut n = 0;
    loop {
        let mut clock = String::new();
        for (ops, least) in runs.into_iter().zip(&mut least) {
            let collected = Counting::sum().run(row.case, contender.peer, ops)?;
            *least = collected.0.min(*least);
            clock = collected.1;
        }
        n += 1;
        let instructions = least[1].saturating_sub(least[0]) as f64 / (runs[1] - runs[0]) as f64;
        let held = figure.is_none() || Judgement::of(instructions, figure) == Judgement::Held;
        if n >= counts && held || n >= COUNTS_MAX {
            return Ok(Count { instructions, clock });
        }
    }
}

fn runs_of(row: &Row) -> [u64; 2] {
    if row.case.contains("a request") { RUNS_OF_REQUESTS } else { RUNS }
}

/// How callgrind is to count.
struct Counting<'a> {
    /// By single instructions, and not by function.
    instructions: bool,
    /// Where it writes them.
    into: &'a Path,
}

impl Counting<'_> {
    fn sum() -> Counting<'static> {
        Counting { instructions: false, into: Path::new("/dev/null") }
    }

    /// What it counts in a process of its own, and what the program said.
    fn run(&self, case: &str, peer: &str, ops: u64) -> Result<(u64, String), String> {
        let this = env::current_exe().expect("the path of this program");
        let output = Command::new("valgrind")
            // The environment lies on the stack and is searched: none, and it is the same everywhere.
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .args(["--tool=callgrind", "--compress-strings=no", "--compress-pos=no"])
            .arg(format!("--callgrind-out-file={}", self.into.display()))
            .arg(format!("--dump-instr={}", if self.instructions { "yes" } else { "no" }))
            .args(lockstep::LEFT_OUT.map(|function| format!("--toggle-collect={function}")))
            .arg("--collect-atstart=yes")
            .arg(this)
            .args([CHILD, case, peer, &ops.to_string()])
            .output()
            .expect("valgrind runs");
        let complaints = String::from_utf8_lossy(&output.stderr);
        let count =
            complaints.lines().find_map(|line| line.split("Collected : ").nth(1)?.trim().parse().ok());
        match count.filter(|_| output.status.success()) {
            Some(count) => Ok((count, String::from_utf8_lossy(&output.stdout).trim().to_owned())),
            None => Err(format!("{case:?} on {peer} fails under valgrind:\n{complaints}")),
        }
    }
}

// ---- what is done with it ----------------------------------------------------------------------------------------

fn table(words: &[String]) {
    let wanted = |row: &Row| words.is_empty() || words.iter().any(|word| row.case.contains(word.as_str()));
    let mut results = Record::new(TARGET);
    println!("| case | runtime | instructions | to tokio |");
    println!("|---|---|---|---|");
    for row in all_rows().filter(wanted) {
        // Those that wait for io_uring, or for a thread that does, cannot be counted.
        let counts: Vec<(&str, f64)> = row.contenders.iter().filter_map(|peer| counted(&row, peer)).collect();
        let baseline = counts.iter().find(|(peer, _)| *peer == "tokio").map(|(_, count)| *count);
        for (peer, count) in counts {
            let ratio =
                baseline.map_or_else(|| "-".to_owned(), |baseline| format!("{:.2}", count / baseline));
            println!("| {} | {peer} | {count:.0} | {ratio} |", row.case);
            results.number(row.case, peer, INSTRUCTIONS, count);
        }
    }
    results.save().expect("the counts can be written");
}

/// Of the cases that the gate holds.
fn profiles(words: &[String]) -> String {
    let mut text = String::from(
        "# Where the instructions go\n\n\
         Written by `cargo bench -p benches -- --write`: user instructions of Bursar for an operation, by source file.\n\
         What is inlined counts for its own file, and the standard library for whose file it is inlined into.\n",
    );
    let wanted = |row: &Row| words.is_empty() || words.iter().any(|word| row.case.contains(word.as_str()));
    for row in gated_rows().filter(wanted) {
        match profile::profile(&row, &row.contenders[0]) {
            Ok(table) => text.push_str(&table),
            Err(error) => eprintln!("{error}"),
        }
    }
    text
}

fn counted(row: &Row, contender: &Contender) -> Option<(&'static str, f64)> {
    if (contender.unavailable)().is_some() {
        return None;
    }
    let count = count(row, contender, 1, None);
    count.inspect_err(|error| eprintln!("{error}")).ok().map(|count| (contender.peer, count.instructions))
}

fn check() -> ExitCode {
    let committed = Figures::parse(&fs::read_to_string(FIGURES).expect("the committed figures"));
    let committed = committed.unwrap_or_else(|line| panic!("{FIGURES}: no figure: {line}"));
    let compiler = compiler();
    let (mut results, mut failed, mut strange) = (Record::new(TARGET), 0, None);
    println!("| case | figure | counted | | |\n|---|---|---|---|---|");
    for row in gated_rows() {
        let figure = committed.of(row.case);
        let count = count(&row, &row.contenders[0], 1, figure.filter(|_| strange.is_none()));
        let count = count.unwrap_or_else(|error| panic!("{error}"));
        strange = strange.or_else(|| committed.strangeness(&compiler, &count.clock));
        let counted = count.instructions;
        let judgement = Judgement::of(counted, figure);
        failed += usize::from(judgement != Judgement::Held);
        let (shown, off) = figure.map_or(("-".to_owned(), String::new()), |figure| {
            (format!("{figure:.1}"), format!("{:+.1} %", (counted / figure - 1.0) * 100.0))
        });
        println!("| {} | {shown} | {counted:.1} | {off} | {} |", row.case, judgement.verdict());
        results.number(row.case, row.contenders[0].peer, INSTRUCTIONS, counted);
    }
    results.save().expect("the counts can be written");
    verdict(failed + lost(&committed), strange)
}

/// Figures whose case is gone: a gate that guards nothing looks like one that holds.
fn lost(committed: &Figures) -> usize {
    let names: Vec<&str> = gated_rows().map(|row| row.case).collect();
    let lost = committed.cases.iter().filter(|(case, _)| !names.contains(&case.as_str()));
    lost.inspect(|(case, _)| println!("| {case} | | | | FAIL: there is no such case |")).count()
}

fn verdict(failed: usize, strange: Option<String>) -> ExitCode {
    if let Some(strange) = strange {
        println!(
            "!!\n!! SKIPPED: {strange}. Counts of the two differ: nothing was compared.\n!! To compare: {REBASE}\n!!"
        );
        return ExitCode::SUCCESS;
    }
    if failed == 0 {
        println!("every count is within {:.0} % of its figure", TOLERANCE * 100.0);
        return ExitCode::SUCCESS;
    }
    println!(
        "{failed} of the counts are not within {:.0} % of benches/instructions.txt.\n\
         Dearer: find out what was added. Meant, or cheaper: re-base, and say why in the commit:\n    {REBASE}",
        TOLERANCE * 100.0
    );
    ExitCode::FAILURE
}

fn rebase() {
    let mut figures = Figures { compiler: compiler(), ..Figures::default() };
    for row in gated_rows() {
        let count = count(&row, &row.contenders[0], COUNTS, None).unwrap_or_else(|error| panic!("{error}"));
        println!("{}\t{:.1}", row.case, count.instructions);
        figures.cases.push((row.case.to_owned(), count.instructions));
        figures.clock = count.clock;
    }
    fs::write(FIGURES, figures.to_string()).expect("the figures can be written");
    println!("written: {FIGURES}");
}

/// Of the tool chain that cargo used for this build, unless it was told otherwise.
fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output().expect("rustc runs");
    String::from_utf8_lossy(&output.stdout).trim().trim_start_matches("rustc ").to_owned()
}
