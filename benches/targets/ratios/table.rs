//! What is reached and what is not, and beside whom: Markdown, from what the other targets left behind.
//!
//! What would make it worse: a target that was run on another day, or with other load. Each replaces its own numbers only.

use benches::reach::{Bound, GOALS, Goal, Verdict};
use benches::record::{
    ALLOCATIONS, BYTES, CPU_MS, Entry, INSTRUCTIONS, NS, P50_US, P99_US, UNAVAILABLE, documents, load,
    ratio_of,
};
use std::fmt::Write;

/// What stands in another table than the runtimes do: tokio with something around each task.
const FOLLOWED: &str = "tokio + ";

pub(crate) fn print() {
    print!("\n{}", document(&load().unwrap_or_default()));
}

pub(crate) fn write() {
    let folder = documents();
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("table.md"), document(&load().unwrap_or_default())).expect("a file in `docs`");
}

fn document(entries: &[Entry]) -> String {
    let mut text = String::from("# What is reached, and beside whom\n\n");
    text += "Written by `cargo bench -p benches -- --write`.\n";
    text += &machine();
    text += &reached(entries);
    let runtimes = |entry: &Entry| !entry.peer.starts_with(FOLLOWED) && !follows(entries, entry);
    let followed = |entry: &Entry| entry.peer == "bursar" || entry.peer.starts_with(FOLLOWED);
    let ratio = ratio_of(NS);
    for (title, unit, decimals, chosen) in [
        (
            "Runtimes: ratio to tokio's time, taken in one run",
            &*ratio,
            2,
            &runtimes as &dyn Fn(&Entry) -> bool,
        ),
        ("Runtimes: ns an operation", NS, 1, &runtimes),
        ("tokio with each task followed: ratio to tokio with nothing on", &*ratio, 2, &|entry: &Entry| {
            followed(entry) && !follows(entries, entry)
        }),
        ("Following work through polls: ns", NS, 1, &|entry: &Entry| follows(entries, entry)),
        ("User instructions an operation", INSTRUCTIONS, 0, &|_: &Entry| true),
        ("Memory: resident bytes of an idle task", BYTES, 0, &|_: &Entry| true),
        ("Memory: allocations an operation", ALLOCATIONS, 2, &runtimes),
    ] {
        text += &matrix(title, entries, unit, decimals, chosen);
    }
    text += &sleeps(entries);
    text += &absent(entries);
    text
}

/// Of a case that has no counterpart in a runtime: what follows work, by itself.
fn follows(entries: &[Entry], entry: &Entry) -> bool {
    !entries.iter().any(|other| other.case == entry.case && other.peer == "tokio")
}

/// The name of the processor and the kernel's release, where they can be had.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let processors = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let release = read("/proc/sys/kernel/osrelease");
    let release: String =
        release.trim().chars().take_while(|char| char.is_ascii_digit() || *char == '.').collect();
    let model = model.unwrap_or("a processor that does not say its name");
    format!("{processors} processors ({model}), Linux {}.\n", release.trim_end_matches('.'))
}

fn reached(entries: &[Entry]) -> String {
    let mut text =
        String::from("\n## To reach\n\n| case | what | bound | measured | |\n|---|---|---|---|---|\n");
    let verdicts: Vec<Verdict> = GOALS.iter().map(|goal| goal.judge(entries)).collect();
    for (goal, verdict) in GOALS.iter().zip(&verdicts) {
        text += &line(goal, *verdict);
    }
    let passed = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Pass(_))).count();
    writeln!(text, "\n{passed} of {} passed.", verdicts.len()).expect("a string takes all");
    text
}

fn line(goal: &Goal, verdict: Verdict) -> String {
    let (what, bound) = match goal.bound {
        Bound::Ratio(most) => (format!("{}, ratio to tokio", goal.unit), format!("{most:.2}")),
        Bound::AtMost(most) => (goal.unit.to_owned(), format!("{most}")),
    };
    let shown = |number: f64| match goal.bound {
        Bound::Ratio(_) => format!("{number:.2}"),
        Bound::AtMost(_) => format!("{number:.1}"),
    };
    let (measured, word) = match verdict {
        Verdict::Pass(number) => (shown(number), "pass"),
        Verdict::Fail(number) => (shown(number), "**fail**"),
        Verdict::Unmeasured => ("-".to_owned(), "not measured"),
    };
    format!("| {} | {what} | {bound} | {measured} | {word} |\n", goal.case)
}

/// Cases down, whoever was measured across; nothing where there is nothing.
fn matrix(
    title: &str,
    entries: &[Entry],
    unit: &str,
    decimals: usize,
    chosen: &dyn Fn(&Entry) -> bool,
) -> String {
    let of_unit: Vec<&Entry> = entries.iter().filter(|entry| entry.unit == unit && chosen(entry)).collect();
    if of_unit.is_empty() {
        return String::new();
    }
    let peers = in_order(of_unit.iter().map(|entry| entry.peer.as_str()));
    let mut text =
        format!("\n## {title}\n\n| case | {} |\n|---|{}\n", peers.join(" | "), "---|".repeat(peers.len()));
    for case in in_order(of_unit.iter().map(|entry| entry.case.as_str())) {
        let cell = |peer: &&str| {
            let entry = of_unit.iter().find(|entry| entry.case == case && entry.peer == *peer);
            entry.map_or_else(String::new, |entry| shown(&entry.value, decimals))
        };
        writeln!(text, "| {case} | {} |", peers.iter().map(cell).collect::<Vec<_>>().join(" | "))
            .expect("a string takes all");
    }
    text
}

fn sleeps(entries: &[Entry]) -> String {
    let of = |unit| entries.iter().filter(move |entry: &&Entry| entry.unit == unit);
    let Some(first) = of(P99_US).next() else { return String::new() };
    let mut text = format!(
        "\n## {}\n\n| | CPU ms | ratio to tokio | late by p50, us | p99, us |\n|---|---|---|---|---|\n",
        first.case
    );
    for Entry { peer, .. } in of(P99_US) {
        let number = |unit: &str, decimals| {
            let entry = entries.iter().find(|entry| entry.peer == *peer && entry.unit == unit);
            entry.map_or_else(String::new, |entry| shown(&entry.value, decimals))
        };
        let (cpu, ratio) = (number(CPU_MS, 0), number(&ratio_of(CPU_MS), 2));
        writeln!(text, "| {peer} | {cpu} | {ratio} | {} | {} |", number(P50_US, 0), number(P99_US, 0))
            .expect("a string takes all");
    }
    text
}

/// Who could not run here, and why.
fn absent(entries: &[Entry]) -> String {
    let reasons = entries.iter().filter(|entry| entry.unit == UNAVAILABLE);
    let lines: Vec<String> =
        reasons.map(|entry| format!("{}: not available here: {}", entry.peer, entry.value)).collect();
    in_order(lines.iter().map(String::as_str)).iter().map(|line| format!("\n{line}\n")).collect()
}

fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut all = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

fn shown(value: &str, decimals: usize) -> String {
    value.parse::<f64>().map_or_else(|_| value.to_owned(), |number| format!("{number:.decimals$}"))
}
