//! Each rule is shown a source that breaks it and one that just does not.

use super::Crate;
use super::rules::{self, Finding};
use super::source::Source;
use super::tree::Text;

const HOUSE: Crate = Crate {
    folder: "a/src",
    manifest: "a/Cargo.toml",
    floors: &[&["lib"], &["attic"], &["left", "right"], &["cellar"]],
    homes: &[("mio", &["left"]), ("crossbeam-channel", &["cellar/deep"]), ("log", &["*"])],
};

/// Compares findings, drawn as `line: message`.
#[track_caller]
fn assert_drawn(findings: Vec<Finding>, expected: &[&str]) {
    let drawn = findings.iter().map(Finding::to_string);
    let without_path = drawn.map(|line| line.split_once(':').unwrap().1.to_owned());
    assert_eq!(without_path.collect::<Vec<_>>().join("\n"), expected.join("\n"));
}

/// Compares findings that are about paths.
#[track_caller]
fn assert_listed(findings: Vec<Finding>, expected: &[&str]) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert_eq!(lines, expected);
}

fn source(path: &str, text: &str) -> Source {
    Source::parse(path, text)
}

#[test]
fn imports_go_down_only() {
    let check = |path, text| rules::imports_going_up(&HOUSE, &source(path, text));
    let down = "use crate::cellar::Coal; fn f() { let _ = crate::cellar::dig(); println!(\"{}\", crate::cellar::N) }";
    assert_drawn(check("a/src/left.rs", down), &[]);
    let up = "use crate::{cellar::{a, b}, attic::Box};\nfn f() { g!(crate::right::h()) }\nuse crate::Item;";
    assert_drawn(
        check("a/src/left.rs", up),
        &[
            "1: `attic` is on a floor above `left`",
            "2: `right` is a sibling of `left` on the same floor",
            "3: `crate::Item` is no module: import it from where it is defined",
        ],
    );
    assert_drawn(
        check("a/src/loft.rs", ""),
        &[
            "1: `loft` is on no floor: add it to the table in tests/it/house.rs and to the picture in docs/architecture.md",
        ],
    );
}

#[test]
fn imports_by_super_are_resolved() {
    let check = |path, text| rules::imports_going_up(&HOUSE, &source(path, text));
    assert_drawn(check("a/src/left/deep.rs", "use super::sibling::X; pub(in crate::left) fn f() {}"), &[]);
    assert_drawn(
        check("a/src/left/deep.rs", "use super::super::right::X;"),
        &["1: `right` is a sibling of `left` on the same floor"],
    );
    assert_drawn(check("a/src/left.rs", "mod inner { use super::X; use super::super::cellar::Y; }"), &[]);
    assert_drawn(
        check("a/src/cellar/mod.rs", "mod inner { use super::super::{left::Y}; }\nuse super::*;"),
        &["1: `left` is on a floor above `cellar`", "2: `lib` is on a floor above `cellar`"],
    );
}

#[test]
fn imports_of_tests_and_comments_are_free() {
    let text = "
        //! See crate::attic::Box.
        /** And crate::attic::Box. */
        struct S; // crate::attic
        #[cfg(test)]
        #[allow(unused)]
        mod tests { use crate::attic::Box; }
        #[cfg(all(test, unix))]
        use crate::attic::Box;
        const TEXT: &str = \"crate::attic::Box\";";
    assert_drawn(rules::imports_going_up(&HOUSE, &source("a/src/cellar.rs", text)), &[]);
}

#[test]
fn every_dependency_has_one_home() {
    let check =
        |path, text| rules::dependencies_abroad(&HOUSE, &["mio", "crossbeam-channel"], &source(path, text));
    let text = "use mio::Poll;\nfn f() { ::mio::x(); crate::mio::y(); crossbeam_channel::z(); log::info!() }\nuse mio;";
    assert_drawn(check("a/src/left/tcp.rs", text), &["2: `crossbeam-channel` is at home in cellar/deep"]);
    assert_drawn(
        check("a/src/cellar/deep.rs", text),
        &["1: `mio` is at home in left", "2: `mio` is at home in left", "3: `mio` is at home in left"],
    );
    assert_drawn(check("elsewhere/src/right.rs", text), &[]);
    let manifest = "[dependencies]\nmio = \"1\"\nlog.workspace = true\n[dev-dependencies]\nrand = \"1\"\n\
                    [target.'cfg(unix)'.dependencies]\nnix = \"1\"\n[dependencies.syn]\n";
    assert_drawn(
        rules::dependencies_without_home(&HOUSE, manifest),
        &["7: give `nix` a home in tests/it/house.rs", "8: give `syn` a home in tests/it/house.rs"],
    );
}

#[test]
fn one_thread_local_per_crate() {
    let house = Crate { folder: "a/src", manifest: "", floors: &[], homes: &[] };
    let cell = "thread_local! { static A: u8 = const { 0 } }";
    let inside = source("a/src/current.rs", cell);
    let test = source("a/src/left.rs", &format!("#[cfg(test)] mod tests {{ {cell} }}"));
    assert_drawn(rules::thread_locals(&house, &[&inside, &test]), &[]);
    let second = source("a/src/current.rs", &format!("{cell}\nstd::{cell}"));
    assert_drawn(
        rules::thread_locals(&house, &[&second]),
        &["2: this is the second `thread_local!` of the crate"],
    );
    let outside = source("a/src/left.rs", cell);
    assert_drawn(
        rules::thread_locals(&house, &[&outside]),
        &["1: the crate's one `thread_local!` is in `current`"],
    );
}

#[test]
fn unsafe_stays_behind_the_fences() {
    let text = "// unsafe\n#![allow(unsafe_code)]\nfn f() { unsafe { g() } }\n#[cfg(test)] mod t { unsafe fn h() {} }";
    let check = |path| rules::unfenced_unsafe(&["a/src/raw", "a/src/sys"], &source(path, text));
    assert_drawn(check("a/src/raw.rs"), &[]);
    assert_drawn(check("a/src/sys/mod.rs"), &[]);
    let findings = ["3: `unsafe` outside the fenced files", "4: `unsafe` outside the fenced files"];
    assert_drawn(check("a/src/rawhide.rs"), &findings);
    assert_drawn(check("tests/it/x.rs"), &findings);
}

#[test]
fn p23_the_files_that_switch_call_no_code_of_a_user() {
    let text = "fn f() {\n log::warn!(\"x\");\n hooks.on_resume(c);\n}";
    let check =
        |path| rules::user_code_in_a_switch("a/current/", "a/current/deferred.rs", &source(path, text));
    let says = "user code is called in a/current/deferred.rs only";
    assert_drawn(check("a/current/switch.rs"), &[&format!("2: {says}"), &format!("3: {says}")]);
    assert_drawn(check("a/current/deferred.rs"), &[]);
    assert_drawn(check("a/other.rs"), &[]);
}

#[test]
fn every_fence_is_on_the_map() {
    let fenced = source("a/src/raw.rs", "\nunsafe fn f() {}");
    assert_drawn(rules::fences_not_on_the_map("- `a/src/raw.rs`: the cell", &fenced), &[]);
    assert_drawn(
        rules::fences_not_on_the_map("- `a/src/draw.rs`", &fenced),
        &["2: docs/architecture.md does not list this file with `unsafe`"],
    );
    assert_drawn(rules::fences_not_on_the_map("", &source("a/src/safe.rs", "fn f() {}")), &[]);
}

#[test]
fn cfg_stays_out_of_the_flesh() {
    let check = |text| rules::misplaced_cfg(&source("a/src/left.rs", text));
    assert_drawn(
        check(
            "#![cfg_attr(docsrs, feature(doc_cfg))]
             #[cfg(unix)] #[path = \"unix.rs\"] mod sys;
             #[cfg(unix)] pub(crate) use sys::X;
             #[cfg(not(target_pointer_width = \"64\"))] compile_error!(\"64-bit only\");
             #[cfg(test)] impl X { fn peek(&self) {} }
             #[cfg(test)] mod tests { fn f() { if cfg!(unix) {} #[cfg(unix)] g(); } }
             fn f(cfg: fn(u8)) { cfg(1) }",
        ),
        &[],
    );
    assert_drawn(
        check(
            "#[cfg(unix)] use sys::X;
             #[cfg(unix)] fn f() {}
             fn g() { if cfg!(unix) {} }
             fn h<A, B>(a: A) where A: Copy, B: Copy { #[cfg(unix)] i(); #[cfg_attr(unix, allow(x))] j() }
             struct S { #[cfg(unix)] field: u8 }
             fn k() { #[cfg(test)] l(); }",
        ),
        &[
            "1: `cfg` on something other than `mod`, `pub use` or `#[cfg(test)]`",
            "2: `cfg` on something other than `mod`, `pub use` or `#[cfg(test)]`",
            "3: choose with a twin module instead of a `cfg` macro",
            "4: `cfg` inside a function: use a twin module",
            "4: `cfg` inside a function: use a twin module",
            "5: `cfg` on something other than `mod`, `pub use` or `#[cfg(test)]`",
            "6: `cfg` inside a function: use a twin module",
        ],
    );
}

#[test]
fn there_are_no_drawers() {
    let paths = ["a/src/utility_bill.rs", "a/src/util.rs", "tests/common/mod.rs"];
    assert_listed(
        rules::drawer_paths(paths.into_iter()),
        &["a/src/util.rs:1: name it after what it does", "tests/common/mod.rs:1: name it after what it does"],
    );
    let modules = source("a/src/lib.rs", "mod tide;\npub mod helpers { }");
    assert_drawn(rules::drawer_modules(&modules), &["2: name the module after what it does"]);
}

#[test]
fn files_are_short() {
    let text = "//! Docs.\n\nfn f() {\n    // why\n    /* what */\n    g(\"a\n    b\");\n}\n#[cfg(test)]\nmod t {\n}\n";
    // `fn`, two lines of `g`, the brace, and the attribute, which is outside the module that it marks.
    assert_eq!(source("a/src/left.rs", text).code_lines, 5);
    assert_drawn(rules::long_files(&source("a/src/left.rs", text), 5), &[]);
    assert_drawn(
        rules::long_files(&source("a/src/left.rs", text), 4),
        &["1: 5 lines of code, 4 are the most"],
    );
    // Beside code tests are free; on their own they are a file like any other, which has two lines more.
    for path in ["tests/it/left.rs", "a/src/left/tests.rs", "a/src/tests/left.rs"] {
        assert_eq!(source(path, text).code_lines, 7, "{path}");
    }
}

#[test]
fn functions_are_short() {
    let text = "trait T { fn declared(&self); }\nimpl<A, B> T for S<A, B> {\n    fn f<C, D>(&self, g: fn(u8))\n    where C: X, D: Y\n    {\n    }\n}";
    assert_drawn(rules::long_functions(&source("a/src/left.rs", text), 4), &[]);
    assert_drawn(
        rules::long_functions(&source("a/src/left.rs", text), 3),
        &["3: fn f has 4 lines, 3 are the most"],
    );
}

// The spaces in the next two keep plain text searches for the same things quiet.

#[test]
fn nothing_is_unfinished_or_switched_off() {
    let text = "# [ignore] fn f() {}\nfn g() { todo !() }\nfn h() { unimplemented !(); dbg !(1); }\nfn ignore() { todo(); }";
    let finding = |line| format!("{line}: unfinished, or switched off");
    let expected = [1, 2, 3, 3].map(finding);
    assert_drawn(rules::unfinished(&source("tests/it/x.rs", text)), &expected.each_ref().map(String::as_str));
}

#[test]
fn tests_do_not_sleep() {
    let text =
        "fn f() { std::thread :: sleep(d); }\nuse std::thread::{self, sleep};\nfn g() { thread::spawn(h); }";
    let check = |path| rules::sleeping_tests(&[("tests/it/blocking", "it blocks")], &source(path, text));
    let message = "a test that waits is slow or flaky: use the paused clock, a barrier or a channel";
    let expected = [format!("1: {message}"), format!("2: {message}")];
    assert_drawn(check("tests/it/timers.rs"), &expected.each_ref().map(String::as_str));
    assert_drawn(check("tests/it/blocking.rs"), &[]);
    assert_drawn(check("a/src/clock.rs"), &[]);
}

#[test]
fn no_path_is_of_one_machine() {
    let home = ["", "home", "ann", "bursar"].join("/");
    let text = format!("see {home}\nhttps://example.org{home}\na{home} ..{home}\n(\"{home}\")");
    let file = Text { path: "README.md".to_owned(), text };
    let message = format!("`{}` is a path of one machine", ["", "home", ""].join("/"));
    let expected = [format!("1: {message}"), format!("4: {message}")];
    assert_drawn(rules::absolute_paths(&file), &expected.each_ref().map(String::as_str));
}

#[test]
fn every_workspace_dependency_is_used() {
    let workspace = "[workspace]\n[workspace.dependencies]\n# mio is\nmio = \"1\"\nlog = { version = \"0.4\" }\nlogs = \"1\"\n\n[profile.release]\nlto = 1\n";
    let members = ["[dependencies]\nmio = { workspace = true, features = [] }\n", "log.workspace = true\n"];
    assert_drawn(rules::unused_dependencies(workspace, &members), &["6: no member uses `logs`"]);
}

#[test]
fn the_root_is_as_designed() {
    let found = ["src/", "docs/", "Cargo.toml", "notes.txt"].map(str::to_owned);
    assert_listed(
        rules::strangers_at_the_root(&found, &["docs/", "tests/"], &["Cargo.toml", "README.md"]),
        &[
            "src/:1: does not belong at the root",
            "notes.txt:1: does not belong at the root",
            "tests/:1: is missing",
        ],
    );
}

#[test]
fn a_name_is_for_one_place_only() {
    let check = |path: &str, text: &str| {
        rules::names_elsewhere(
            "a_cfg",
            &["a/src/left.rs"],
            &Text { path: path.to_owned(), text: text.to_owned() },
        )
    };
    assert_drawn(check("a/src/left.rs", "#[cfg(a_cfg)]\nmod twin;"), &[]);
    assert_drawn(check("docs/how.md", "built with `a_cfg`"), &[]);
    assert_drawn(
        check("a/src/right.rs", "mod other;\n#[cfg(a_cfg)]\nmod twin;"),
        &["2: `a_cfg` is for one bench only"],
    );
}
