//! Where the instructions of an operation are spent: by source file, what the compiler has inlined included.
//!
//! callgrind counts each machine instruction; `addr2line` (binutils) says of which source it is, and what was inlined there
//! into what. An instruction counts for the innermost file that is not the standard library's, as that is who asked for it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Files with less than this, instructions an operation, are summed up.
const LEAST: f64 = 3.0;
const SMALL: &str = "all below 3";
const STANDARD_LIBRARY: &str = "the standard library, not inlined";
const C_LIBRARY: &str = "the C library";

/// Instructions by address within the program, and those of the libraries that it uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spent {
    here: BTreeMap<u64, f64>,
    libraries: f64,
}

impl Spent {
    /// What callgrind has written, with `--dump-instr=yes` and nothing compressed. `program`: whose addresses are kept.
    ///
    /// Lines are `address line count` in blocks that begin with the name of the object (`ob=`). The line after a `calls=`
    /// is what the call cost altogether, which is counted where it was spent.
    pub fn parse(text: &str, program: &Path) -> Self {
        let (mut spent, mut is_here, mut is_call) = (Self::default(), false, false);
        for line in text.lines() {
            if let Some(object) = line.strip_prefix("ob=") {
                is_here = Path::new(object) == program;
            } else if line.starts_with("calls=") {
                is_call = true;
            } else if let Some((address, count)) = cost(line) {
                if std::mem::take(&mut is_call) {
                    continue;
                }
                if is_here {
                    *spent.here.entry(address).or_default() += count;
                } else {
                    spent.libraries += count;
                }
            }
        }
        spent
    }

    /// What an operation costs, if this is what many take and `few` what few do, and they are `ops` less.
    #[must_use]
    pub fn per_operation(mut self, few: &Self, ops: u64) -> Self {
        for (address, count) in &few.here {
            *self.here.entry(*address).or_default() -= count;
        }
        self.libraries -= few.libraries;
        self.here.values_mut().chain([&mut self.libraries]).for_each(|count| *count /= ops as f64);
        self
    }

    /// The addresses, a line each, as `addr2line` wants them.
    pub fn addresses(&self) -> String {
        self.here.keys().map(|address| format!("{address:#x}\n")).collect()
    }

    /// A table of files, by what `addr2line` has answered, with `--inlines --addresses`: after each address its places, the
    /// innermost first.
    pub fn table(&self, title: &str, places: &str) -> String {
        let mut files = vec![(C_LIBRARY.to_owned(), self.libraries)];
        for line in places.lines() {
            if let Some(count) = address(line).and_then(|address| self.here.get(&address)) {
                files.push((STANDARD_LIBRARY.to_owned(), *count));
            } else if let (Some((last, _)), Some(file)) = (files.last_mut(), file(line)) {
                if last == STANDARD_LIBRARY {
                    *last = file;
                }
            }
        }
        let mut sums: BTreeMap<String, f64> = BTreeMap::new();
        for (file, count) in files {
            *sums.entry(file).or_default() += count;
        }
        shown(title, sums)
    }
}

fn cost(line: &str) -> Option<(u64, f64)> {
    let (place, costs) = line.split_once(' ')?;
    Some((address(place)?, costs.split(' ').nth(1)?.parse().ok()?))
}

fn address(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// A file of this workspace by its path, one of a crate by the crate; none of the standard library.
fn file(place: &str) -> Option<String> {
    let (path, _) = place.rsplit_once(':')?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.to_str()?;
    if let Some(own) = path.strip_prefix(workspace) {
        return Some(format!("`{}`", own.trim_start_matches('/')));
    }
    // ../registry/src/<index>/<crate>-<version>/..
    let (_, path) = path.split_once("/registry/src/")?;
    path.split('/').nth(1).map(str::to_owned)
}

fn shown(title: &str, files: BTreeMap<String, f64>) -> String {
    let all: f64 = files.values().sum();
    let (mut large, small): (Vec<_>, Vec<_>) = files.into_iter().partition(|(_, count)| *count >= LEAST);
    large.sort_by(|one, other| other.1.total_cmp(&one.1));
    large.push((SMALL.to_owned(), small.iter().map(|(_, count)| count).sum()));
    let mut text = format!("\n## {title}: {all:.0}\n\n| instructions | of |\n|---|---|\n");
    for (file, count) in large.iter().filter(|(_, count)| *count >= 0.5) {
        writeln!(text, "| {count:.0} | {file} |").expect("a string takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "ob=/bench\nfn=a\n0x10 3 5\ncalls=1 0x20 7\n0x14 3 100\n0x18 4 40\nob=/lib/libc.so.6\n\
        fn=memcpy\n0x10 0 9\n";

    #[test]
    fn calls_count_where_they_were_spent() {
        let spent = Spent::parse(TEXT, Path::new("/bench"));
        assert_eq!((spent.here.clone(), spent.libraries), ([(0x10, 5.0), (0x18, 40.0)].into(), 9.0));
        assert_eq!(spent.addresses(), "0x10\n0x18\n");
        let few = Spent::parse("ob=/bench\n0x10 3 1\n", Path::new("/bench"));
        let each = spent.per_operation(&few, 2);
        assert_eq!((each.here, each.libraries), ([(0x10, 2.0), (0x18, 20.0)].into(), 4.5));
    }

    #[test]
    fn an_instruction_counts_for_the_innermost_file_that_is_not_the_standard_librarys() {
        let own = format!("{}/profile.rs:12", env!("CARGO_MANIFEST_DIR"));
        let standard = "/rustc/59807616/library/core/src/cell.rs:500";
        let hyper = "/cargo/registry/src/index-1/hyper-1.12.0/src/lib.rs:7 (discriminator 2)";
        let places = format!("0x10\n{standard}\n{own}\n{hyper}\n0x18\n{standard}\n??:0\n");
        let table = Spent::parse(TEXT, Path::new("/bench")).table("case", &places);
        assert!(table.starts_with("\n## case: 54\n"), "{table}");
        let rows = "| 40 | the standard library, not inlined |\n| 9 | the C library |\n| 5 | `benches/profile.rs` |\n";
        assert!(table.ends_with(rows), "{table}");
        assert_eq!(file(hyper).as_deref(), Some("hyper-1.12.0"));
    }

    #[test]
    fn small_ones_are_summed_up() {
        let files = [("a", 10.0), ("b", 30.0), ("c", 2.0), ("d", 1.0)].map(|(file, n)| (file.to_owned(), n));
        assert!(shown("case", files.into()).ends_with("| 30 | b |\n| 10 | a |\n| 3 | all below 3 |\n"));
    }
}
