//! What the targets measured, for the table: a file a target below `target/benches`, a line a number, its fields separated
//! by tabs: case, peer, unit, value.
//!
//! A target that measures only some rows replaces those and keeps the rest.

use std::fs;
use std::io;
use std::path::PathBuf;

/// Nanoseconds an operation: the median.
pub const NS: &str = "ns";
/// User instructions an operation.
pub const INSTRUCTIONS: &str = "instructions";
/// Allocations an operation, in steady state.
pub const ALLOCATIONS: &str = "allocations";
/// Bytes of resident memory.
pub const BYTES: &str = "bytes";
/// CPU time of the whole case.
pub const CPU_MS: &str = "CPU ms";
/// Lateness: the median.
pub const P50_US: &str = "p50 us";
/// Lateness: one in a hundred is later.
pub const P99_US: &str = "p99 us";
/// What an operation costs beside the greatest number of others of its kind, to what it costs beside one.
pub const GROWTH: &str = "cost beside most, to beside one";
/// Why there is no number; the value is a text.
pub const UNAVAILABLE: &str = "unavailable";

/// The unit of ratios to tokio, each taken within a repetition, their median.
pub fn ratio_of(unit: &str) -> String {
    format!("{unit} ratio")
}

/// Where the documents are that targets write when they are given `--write`.
pub fn documents() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "docs", "performance"].iter().collect()
}

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The row.
    pub case: String,
    /// The column.
    pub peer: String,
    /// What the value is.
    pub unit: String,
    /// A number, or a text without tabs and line breaks.
    pub value: String,
}

impl Entry {
    /// An entry of these.
    pub fn new(case: &str, peer: &str, unit: &str, value: &str) -> Self {
        let [case, peer, unit, value] = [case, peer, unit, value].map(one_line);
        Self { case, peer, unit, value }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        let [case, peer, unit, value] = [fields.next()?, fields.next()?, fields.next()?, fields.next()?];
        Some(Self::new(case, peer, unit, value))
    }

    fn replaces(&self, other: &Self) -> bool {
        (&self.case, &self.peer, &self.unit) == (&other.case, &other.peer, &other.unit)
    }

    fn line(&self) -> String {
        format!("{}\t{}\t{}\t{}\n", self.case, self.peer, self.unit, self.value)
    }
}

fn one_line(text: &str) -> String {
    text.replace(['\t', '\n'], " ")
}

/// What one target measured.
#[derive(Debug)]
pub struct Record {
    target: &'static str,
    entries: Vec<Entry>,
}

impl Record {
    /// Nothing yet.
    pub fn new(target: &'static str) -> Self {
        Self { target, entries: Vec::new() }
    }

    /// One number more.
    pub fn number(&mut self, case: &str, peer: &str, unit: &str, value: f64) {
        self.entries.push(Entry::new(case, peer, unit, &format!("{value:.3}")));
    }

    /// Why there is none.
    pub fn unavailable(&mut self, case: &str, peer: &str, why: &str) {
        self.entries.push(Entry::new(case, peer, UNAVAILABLE, why));
    }

    /// Writes it into the target's file, over what it replaces there.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn save(&self) -> io::Result<()> {
        fs::create_dir_all(folder())?;
        let path = folder().join(format!("{}.tsv", self.target));
        let before = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<String> = merged(&before, &self.entries).iter().map(Entry::line).collect();
        fs::write(path, lines.concat())
    }
}

/// The old order, new numbers in the place of old ones, and the rest behind.
fn merged(before: &str, entries: &[Entry]) -> Vec<Entry> {
    let mut all: Vec<Entry> = before.lines().filter_map(Entry::parse).collect();
    for entry in entries {
        match all.iter_mut().find(|old| entry.replaces(old)) {
            Some(old) => *old = entry.clone(),
            None => all.push(entry.clone()),
        }
    }
    all
}

/// What all targets measured.
///
/// # Errors
///
/// When a file cannot be read.
pub fn load() -> io::Result<Vec<Entry>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder())? {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "tsv"));
    paths.sort();
    let mut entries = Vec::new();
    for path in paths {
        entries.extend(fs::read_to_string(path)?.lines().filter_map(Entry::parse));
    }
    Ok(entries)
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "target", "benches"].iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_number_takes_the_old_ones_place() {
        let before = "yield\tbursar\tns\t7\nyield\ttokio\tns\t30\n";
        let entries = [Entry::new("yield", "bursar", NS, "6"), Entry::new("yield", "bursar", BYTES, "1")];
        let lines: String = merged(before, &entries).iter().map(Entry::line).collect();
        assert_eq!(lines, "yield\tbursar\tns\t6\nyield\ttokio\tns\t30\nyield\tbursar\tbytes\t1\n");
    }

    #[test]
    fn a_reason_stays_on_its_line() {
        let entry = Entry::new("yield", "glommio", UNAVAILABLE, "no\tring:\nEPERM");
        assert_eq!(Entry::parse(entry.line().trim_end()).as_ref(), Some(&entry));
        assert_eq!(entry.value, "no ring: EPERM");
    }
}
