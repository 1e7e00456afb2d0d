//! Every behaviour, promise and trap has a test that carries its id in its name: `a16_`, `p13_a15_`, `trap_15_`. So has every
//! fault that was found: in soundness (`u9_`), the books (`b12_`), the runtime (`r4_`), the service (`v1_`).
//!
//! `cargo test -p tests ids -- --nocapture` prints which tests hold which id.

use crate::house::tree::TEXTS;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

/// The ids there are, by kind.
const IDS: &[(&str, &[RangeInclusive<u32>])] = &[
    ("h", &[1..=5]),
    ("l", &[1..=18]),
    ("a", &[1..=26]),
    ("n", &[1..=6]),
    ("w", &[1..=6]),
    ("x", &[1..=6]),
    ("g", &[1..=9]),
    ("d", &[1..=9]),
    ("e", &[1..=4, 6..=6, 9..=11]),
    ("s", &[1..=3, 8..=9]),
    ("j", &[1..=2]),
    ("p", &[1..=29]),
    ("u", &[1..=12]),
    ("b", &[1..=22]),
    ("r", &[1..=15]),
    ("v", &[1..=14]),
    ("trap ", &[1..=25]),
];

/// The ids that have no test yet, and why. Who writes one takes its id from here.
const NOT_YET: &[(Id, &str)] = &[
    (Id("p", 25), "that wall time adds up: waits are not told apart yet"),
    (Id("p", 26), "that a delay has a name: who held the thread is not kept yet"),
    (Id("r", 4), "a dropped socket stays in the poll set while a duplicate lives: not mended yet"),
    (Id("r", 6), "two tasks that wait in one direction of a socket: not mended yet"),
    (Id("r", 7), "`try_io` and `AsyncFd`: not built yet"),
    (Id("r", 9), "a short read is taken for a drained socket: not mended yet"),
    (Id("r", 11), "a signal is registered anew at each wait: not mended yet"),
    (Id("r", 12), "a connection to a Unix socket with a full backlog: not mended yet"),
    (Id("v", 7), "the backlog of listeners: not mended yet"),
    (Id("v", 13), "a watchdog over the loop: not built yet"),
];

fn is_due(id: &Id) -> bool {
    NOT_YET.iter().all(|(not_yet, _)| not_yet != id)
}

/// The kind, as in [`IDS`], and the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id(&'static str, u32);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0, self.1)
    }
}

fn all() -> impl Iterator<Item = Id> {
    IDS.iter().flat_map(|(kind, ranges)| ranges.iter().cloned().flatten().map(move |number| Id(kind, number)))
}

/// The ids in a name: `p14_a15_a17_what_it_shows` has three. The last word is never an id.
fn ids_of(name: &str) -> Vec<Id> {
    let words: Vec<&str> = name.split('_').collect();
    let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let pairs = words.windows(2).filter_map(|pair| {
        let (kind, digits) = match pair[0] {
            "trap" => ("trap ", pair[1]),
            word => word.split_at_checked(1)?,
        };
        let (kind, _) = IDS.iter().find(|(known, _)| *known == kind)?;
        Some(Id(kind, number(digits)?))
    });
    pairs.collect()
}

/// The names of the tests in a Rust file: of functions under an attribute that says `test`.
fn tests_of(text: &str) -> Vec<&str> {
    let (mut names, mut is_test) = (Vec::new(), false);
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[") {
            is_test |= ["test]", "test("].iter().any(|end| line.contains(end));
        } else if let Some((before, rest)) = line.split_once("fn ") {
            let is_function =
                before.split_whitespace().all(|word| matches!(word, "pub" | "async" | "unsafe"));
            names.extend(rest.split(['(', '<']).next().filter(|_| is_test && is_function));
            is_test = false;
        } else {
            is_test &= line.starts_with("//");
        }
    }
    names
}

/// The tests of each id: the file, then the name.
fn found() -> BTreeMap<Id, Vec<String>> {
    let mut found: BTreeMap<Id, Vec<String>> = BTreeMap::new();
    for file in TEXTS.iter().filter(|file| file.path.ends_with(".rs")) {
        for name in tests_of(&file.text) {
            for id in ids_of(name) {
                found.entry(id).or_default().push(format!("{} {name}", file.path));
            }
        }
    }
    found
}

#[test]
fn ids_have_a_test_each() {
    let found = found();
    for id in all() {
        let tests = found.get(&id).map_or(&[][..], Vec::as_slice);
        println!("{id}");
        tests.iter().for_each(|test| println!("    {test}"));
    }
    let missing = all().filter(|id| is_due(id) && !found.contains_key(id));
    let missing: Vec<String> = missing.map(|id| id.to_string()).collect();
    assert!(missing.is_empty(), "no test carries {}", missing.join(", "));
}

#[test]
fn ids_that_tests_carry_exist() {
    let unknown: Vec<_> = found().into_iter().filter(|(id, _)| all().all(|known| known != *id)).collect();
    assert!(unknown.is_empty(), "there is no such id: {unknown:?}");
}

#[test]
fn ids_that_have_no_test_yet_have_none() {
    let found = found();
    for (id, why) in NOT_YET {
        assert!(
            !found.contains_key(id),
            "{id} has a test now, take it from the list ({why}): {:?}",
            found[id]
        );
    }
}

#[test]
fn ids_are_read_from_names() {
    assert_eq!(ids_of("p14_a15_a17_what"), [Id("p", 14), Id("a", 15), Id("a", 17)]);
    assert_eq!(ids_of("trap_03_and_e11_too"), [Id("trap ", 3), Id("e", 11)]);
    assert_eq!(ids_of("a_1_b_p13"), [], "nor a last word");
    assert_eq!(ids_of("e2e_x_z1_a"), []);
    let text = "// fn a01_no() {\n#[test]\nfn a02_yes() {\nfn a03_helper() {\n#[runtime::test(paused)]\n\
                /// Why.\nasync fn a04_yes() {\nlet s = \"#[test]\";\nfn a05_no() {\n";
    assert_eq!(tests_of(text), ["a02_yes", "a04_yes"]);
}
