//! The rules of the house, held against the tree. `CONTRIBUTING.md` says why; the tables below say what. Whoever adds
//! a file adds it here, and to the picture in `docs/architecture.md`.

mod can_fail;
mod manifest;
mod rules;
mod source;
pub(crate) mod tree;

use rules::Finding;
use source::Source;
use tree::{SOURCES, TEXTS, Text, text, top_level};

/// A crate with floors.
struct Crate {
    folder: &'static str,
    manifest: &'static str,
    /// From the top. A module is a file or a folder below `src`. It may import from the floors below its own, and
    /// within its own folder; modules on the same floor do not know each other.
    floors: &'static [&'static [&'static str]],
    /// Each dependency, and the modules that may name it; `*` is all of them.
    homes: &'static [(&'static str, &'static [&'static str])],
}

const CONTEXT: Crate = Crate {
    folder: "context/src",
    manifest: "context/Cargo.toml",
    floors: &[
        &["lib"],
        &["bridges"],
        &["future", "harness"],
        &["account", "builder", "db", "wait"],
        &["current"],
        &["node"],
        &["cancel", "class", "deadline", "journal", "value"],
        &["cells", "clock"],
        &["panics", "usage", "report"],
    ],
    homes: &[
        ("libc", &["clock"]),
        ("log", &["*"]),
        ("parking_lot", &["bridges", "class", "clock", "current", "journal", "node"]),
        ("pin-project-lite", &["*"]),
        ("slab", &["cancel"]),
        ("tracing-core", &["bridges"]),
    ],
};

const RUNTIME: Crate = Crate {
    folder: "runtime/src",
    manifest: "runtime/Cargo.toml",
    floors: &[
        &["lib"],
        &["testing"],
        // The inspector and child processes have their rooms, and are not built yet.
        &["runtime", "http", "inspector"],
        // Services made of services.
        &["db", "fs", "group", "net", "process", "shield", "shutdown", "sync"],
        &["blocking", "coop", "signal", "spawn", "time"],
        &["join", "unread"],
        &["executor", "registered"],
        &["waker"],
        &["current"],
        &["clockwork", "inbox", "pace", "pool", "reactor", "task", "timers"],
        &["sys"],
        &["config", "error", "handle"],
    ],
    homes: &[
        ("axum", &["http"]),
        ("bursar-context", &["*"]),
        ("bursar-macros", &["lib"]),
        ("bytes", &["http"]),
        ("crossbeam-channel", &["db", "inbox", "pool"]),
        ("futures-io", &["http/io", "net"]),
        ("futures-util", &["sync"]),
        ("http", &["http"]),
        ("http-body", &["http"]),
        ("http-body-util", &["http"]),
        ("hyper", &["http"]),
        ("itoa", &["http/layer"]),
        ("libc", &["sys"]),
        ("log", &["*"]),
        ("loom", &["inbox"]),
        ("mio", &["inbox", "net", "reactor", "registered", "signal", "sys"]),
        (
            "parking_lot",
            &["db", "error", "group", "http", "inbox", "join", "pool", "signal", "sync", "testing"],
        ),
        ("pin-project-lite", &["*"]),
        ("rusqlite", &["db"]),
        ("signal-hook", &["signal"]),
        ("slab", &["reactor"]),
        ("tokio", &["net"]),
        ("tower-layer", &["http"]),
        ("tower-service", &["http"]),
    ],
};

const MACROS: Crate = Crate {
    folder: "runtime/macros/src",
    manifest: "runtime/macros/Cargo.toml",
    floors: &[&["lib"], &["expand"], &["args", "parse"], &["errors"]],
    homes: &[("proc-macro2", &["*"]), ("quote", &["*"]), ("syn", &["*"])],
};

const CRATES: [Crate; 3] = [CONTEXT, RUNTIME, MACROS];

/// Where `unsafe` may stand.
const FENCES: [&str; 12] = [
    "context/src/clock",
    "context/src/current",
    "context/src/node",
    "runtime/src/current",
    "runtime/src/http/io",
    "runtime/src/http/panics",
    "runtime/src/sys",
    "runtime/src/task/raw",
    "runtime/src/task/slots",
    "runtime/src/waker",
    "tests/it/teardown/forks",
    "tests/watchdog",
];

/// Where a test may sleep, and why.
const SLEEPERS: [(&str, &str); 4] = [
    ("context/src/clock", "a thread that leaves the CPU is what the clock must see"),
    ("tests/it/promises/clock", "the same, inside of a poll"),
    ("tests/it/conservation/program", "the same, in random programs"),
    ("tests/watchdog", "it watches tests, by the second"),
];

/// Where accounting may be left out of a build: the seam, the bench that measures it there, and the list of known `cfg`s.
/// Nobody else may name that.
const CHARGING: (&str, &[&str]) = (
    "bursar_charging",
    &["Cargo.toml", "benches/targets/accounting.rs", "context/src/current/mod.rs", "tests/it/house.rs"],
);

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

const ROOT_FOLDERS: [&str; 7] = [".ci/", "benches/", "context/", "docs/", "examples/", "runtime/", "tests/"];
const ROOT_FILES: [&str; 13] = [
    ".editorconfig",
    ".gitattributes",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
];

/// The files of the crates with floors.
fn house_sources() -> impl Iterator<Item = &'static Source> {
    SOURCES.iter().filter(|source| CRATES.iter().any(|house| source.path.starts_with(house.folder)))
}

/// The manifests of the members.
fn manifests() -> impl Iterator<Item = &'static Text> {
    TEXTS.iter().filter(|file| file.path.ends_with("/Cargo.toml"))
}

#[track_caller]
fn assert_none(findings: impl IntoIterator<Item = Finding>) {
    let lines: Vec<String> = findings.into_iter().map(|finding| finding.to_string()).collect();
    assert!(lines.is_empty(), "the house has rules (CONTRIBUTING.md):\n{}", lines.join("\n"));
}

#[test]
fn imports_go_down_only() {
    let findings = |house| SOURCES.iter().flat_map(move |source| rules::imports_going_up(house, source));
    assert_none(CRATES.iter().flat_map(findings));
}

#[test]
fn every_dependency_has_one_home() {
    for house in &CRATES {
        let manifest = text(house.manifest);
        assert_none(rules::dependencies_without_home(house, manifest));
        let names: Vec<&str> = manifest::dependencies(manifest).into_iter().map(|(_, name)| name).collect();
        assert_none(SOURCES.iter().flat_map(|source| rules::dependencies_abroad(house, &names, source)));
    }
    for file in manifests().filter(|file| file.path != "benches/Cargo.toml") {
        assert!(!file.text.contains("\ncriterion"), "{}: criterion is at home in benches", file.path);
    }
}

#[test]
fn one_thread_local_per_crate() {
    let sources: Vec<&Source> = SOURCES.iter().collect();
    assert_none(CRATES.iter().flat_map(|house| rules::thread_locals(house, &sources)));
}

#[test]
fn unsafe_stays_behind_the_fences() {
    assert_none(SOURCES.iter().flat_map(|source| rules::unfenced_unsafe(&FENCES, source)));
}

#[test]
fn p23_the_files_that_switch_call_no_code_of_a_user() {
    let [folder, caller] = ["context/src/current/", "context/src/current/deferred.rs"];
    let sources = SOURCES.iter().filter(|source| source.path != "context/src/current/mod.rs");
    assert_none(sources.flat_map(|source| rules::user_code_in_a_switch(folder, caller, source)));
}

#[test]
fn every_fence_is_on_the_map() {
    let map = text("docs/architecture.md");
    assert_none(SOURCES.iter().flat_map(|source| rules::fences_not_on_the_map(map, source)));
}

#[test]
fn cfg_stays_out_of_the_flesh() {
    assert_none(house_sources().flat_map(rules::misplaced_cfg));
}

#[test]
fn nothing_but_its_bench_leaves_accounting_out() {
    assert_none(TEXTS.iter().flat_map(|file| rules::names_elsewhere(CHARGING.0, CHARGING.1, file)));
    for file in CHARGING.1 {
        assert!(text(file).contains(CHARGING.0), "{file} does not name it any more");
    }
}

#[test]
fn there_are_no_drawers() {
    assert_none(rules::drawer_paths(TEXTS.iter().map(|file| file.path.as_str())));
    assert_none(SOURCES.iter().flat_map(rules::drawer_modules));
}

#[test]
fn files_and_functions_are_short() {
    assert_none(SOURCES.iter().flat_map(|source| rules::long_files(source, FILE_LINES_MAX)));
    assert_none(SOURCES.iter().flat_map(|source| rules::long_functions(source, FUNCTION_LINES_MAX)));
}

#[test]
fn nothing_is_unfinished_or_switched_off() {
    assert_none(SOURCES.iter().flat_map(rules::unfinished));
}

#[test]
fn tests_do_not_sleep() {
    assert_none(SOURCES.iter().flat_map(|source| rules::sleeping_tests(&SLEEPERS, source)));
}

#[test]
fn no_path_is_of_one_machine() {
    assert_none(TEXTS.iter().flat_map(rules::absolute_paths));
}

#[test]
fn every_workspace_dependency_is_used() {
    let members: Vec<&str> = manifests().map(|file| file.text.as_str()).collect();
    assert_none(rules::unused_dependencies(text("Cargo.toml"), &members));
}

#[test]
fn the_root_is_as_designed() {
    assert_none(rules::strangers_at_the_root(&top_level(), &ROOT_FOLDERS, &ROOT_FILES));
}
