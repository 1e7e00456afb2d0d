//! The rules, each a function from what is checked to what is wrong with it.

use super::source::Source;
use super::tree::Text;
use super::{Crate, manifest};
use proc_macro2::Delimiter;
use std::fmt;

/// Something that breaks a rule.
pub(super) struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, message } = self;
        write!(f, "{path}:{line}: {message}")
    }
}

fn finding(path: &str, line: usize, message: impl Into<String>) -> Finding {
    Finding { path: path.to_owned(), line, message: message.into() }
}

impl Source {
    fn finding(&self, index: usize, message: impl Into<String>) -> Finding {
        finding(&self.path, self.tokens[index].line, message)
    }

    /// The indices outside `#[cfg(test)]`.
    fn code(&self) -> impl Iterator<Item = usize> {
        (0..self.tokens.len()).filter(|index| !self.tokens[*index].test)
    }

    /// The path as a module below `folder`: `task/raw` for `task/raw.rs`, `task` for `task/mod.rs`.
    fn module(&self, folder: &str) -> Option<&str> {
        let path = self.path.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(".rs")?;
        Some(path.strip_suffix("/mod").unwrap_or(path))
    }
}

/// If the module is `place` or lies in it; `*` is everywhere.
fn lies_in(module: &str, place: &str) -> bool {
    let rest = module.strip_prefix(place);
    place == "*" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Rule 1: imports go down only.
pub(super) fn imports_going_up(house: &Crate, source: &Source) -> Vec<Finding> {
    let Some(module) = source.module(house.folder) else { return Vec::new() };
    let file = if module == "lib" { Vec::new() } else { module.split('/').collect() };
    let from = file.first().copied().unwrap_or("lib");
    let floor = |unit: &str| house.floors.iter().position(|floor| floor.contains(&unit));
    let Some(own_floor) = floor(from) else {
        let message = format!(
            "`{from}` is on no floor: add it to the table in tests/it/house.rs and to the picture in docs/architecture.md"
        );
        return vec![finding(&source.path, 1, message)];
    };
    let mut findings = Vec::new();
    for index in source.code() {
        for path in crate_paths(source, index, &file) {
            let unit = path.first().map_or("lib", String::as_str);
            let message = match floor(unit) {
                _ if unit == from => continue,
                // The floors are listed from the top.
                Some(floor) if floor > own_floor => continue,
                Some(floor) if floor == own_floor => {
                    format!("`{unit}` is a sibling of `{from}` on the same floor")
                }
                Some(_) => format!("`{unit}` is on a floor above `{from}`"),
                None => format!("`crate::{unit}` is no module: import it from where it is defined"),
            };
            findings.push(source.finding(index, message));
        }
    }
    findings
}

/// The paths from the crate's root that begin at `index`, be it with `crate` or with `super`.
fn crate_paths(source: &Source, index: usize, file: &[&str]) -> Vec<Vec<String>> {
    let follows = index > 2 && source.is_path_separator(index - 2);
    if follows || !source.is_path_separator(index + 1) {
        return Vec::new();
    }
    match source.ident(index) {
        Some("crate") => source.paths_at(index + 3),
        Some("super") => {
            source.paths_at(index).into_iter().map(|path| resolve(source, index, file, path)).collect()
        }
        _ => Vec::new(),
    }
}

fn resolve(source: &Source, index: usize, file: &[&str], path: Vec<String>) -> Vec<String> {
    let inline = source.tokens[index].modules;
    let supers = path.iter().take_while(|name| *name == "super").count();
    let stay = (file.len() + inline).saturating_sub(supers);
    let around = file.iter().copied().chain(std::iter::repeat_n("(inline)", inline));
    let base = around.take(stay).map(str::to_owned);
    base.chain(path.into_iter().skip(supers)).collect()
}

/// Rule 2: every dependency has one home.
pub(super) fn dependencies_abroad(house: &Crate, dependencies: &[&str], source: &Source) -> Vec<Finding> {
    let Some(module) = source.module(house.folder) else { return Vec::new() };
    let mut findings = Vec::new();
    for index in source.code() {
        let Some(name) = source.ident(index) else { continue };
        let Some((package, homes)) = house.homes.iter().find(|(package, _)| lib_name(package) == name) else {
            continue;
        };
        let used = dependencies.contains(package) && names_a_crate(source, index);
        if used && !homes.iter().any(|home| lies_in(module, home)) {
            findings.push(source.finding(index, format!("`{package}` is at home in {}", homes.join(", "))));
        }
    }
    findings
}

/// Rule 2, the other half: a dependency that the table does not know has no home.
pub(super) fn dependencies_without_home(house: &Crate, manifest: &str) -> Vec<Finding> {
    let path = house.manifest;
    let unknown = |name: &str| !house.homes.iter().any(|(package, _)| *package == name);
    let found = manifest::dependencies(manifest).into_iter().filter(|(_, name)| unknown(name));
    found
        .map(|(line, name)| finding(path, line, format!("give `{name}` a home in tests/it/house.rs")))
        .collect()
}

fn lib_name(package: &str) -> String {
    match package {
        "bursar-context" => "context".to_owned(),
        "bursar-runtime" => "runtime".to_owned(),
        other => other.replace('-', "_"),
    }
}

/// If the name begins a path (`mio::Poll`, `use mio;`, `::mio::Poll`) rather than being a part of one.
fn names_a_crate(source: &Source, index: usize) -> bool {
    let imported = index > 0 && (source.is_ident(index - 1, "use") || source.is_ident(index - 1, "crate"));
    let follows = index > 2 && source.is_path_separator(index - 2) && source.ident(index - 3).is_some();
    !follows && (imported || source.is_path_separator(index + 1))
}

/// Rule 3: at most one `thread_local!` per crate, and that in `current`.
pub(super) fn thread_locals(house: &Crate, sources: &[&Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = 0;
    for source in sources {
        let Some(module) = source.module(house.folder) else { continue };
        for index in source.code() {
            if source.is_ident(index, "thread_local") && source.is_punct(index + 1, '!') {
                seen += 1;
                if module != "current" {
                    findings.push(source.finding(index, "the crate's one `thread_local!` is in `current`"));
                } else if seen > 1 {
                    findings.push(source.finding(index, "this is the second `thread_local!` of the crate"));
                }
            }
        }
    }
    findings
}

/// Rule 4: `unsafe` stays behind the fences.
pub(super) fn unfenced_unsafe(fences: &[&str], source: &Source) -> Vec<Finding> {
    let module = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
    if fences.iter().any(|fence| lies_in(module, fence)) {
        return Vec::new();
    }
    let found = (0..source.tokens.len()).filter(|index| source.is_ident(*index, "unsafe"));
    found.map(|index| source.finding(index, "`unsafe` outside the fenced files")).collect()
}

/// Rule 4, the other half: a reader finds every fenced file in the architecture document.
pub(super) fn fences_not_on_the_map(map: &str, source: &Source) -> Vec<Finding> {
    let first = (0..source.tokens.len()).find(|index| source.is_ident(*index, "unsafe"));
    match first {
        Some(index) if !map.contains(&source.path) => {
            vec![source.finding(index, "docs/architecture.md does not list this file with `unsafe`")]
        }
        _ => Vec::new(),
    }
}

/// Rule 4, of the slot of a thread in particular: the files that change its cells call no code of a user. What they find is
/// put aside for `caller`, the only file of the folder that does.
pub(super) fn user_code_in_a_switch(folder: &str, caller: &str, source: &Source) -> Vec<Finding> {
    if !source.path.starts_with(folder) || source.path == caller {
        return Vec::new();
    }
    let calls =
        ["log", "journal", "catch_unwind", "contain_panic", "on_resume", "on_suspend", "on_finish", "wake"];
    let named = source.code().filter(|index| source.ident(*index).is_some_and(|name| calls.contains(&name)));
    let names = named.map(|index| source.finding(index, format!("user code is called in {caller} only")));
    names.collect()
}

/// Rule 5: `cfg` on modules and re-exports, never inside a function.
pub(super) fn misplaced_cfg(source: &Source) -> Vec<Finding> {
    let found = source.code().filter_map(|index| Some((index, cfg_fault(source, index)?)));
    found.map(|(index, message)| source.finding(index, message)).collect()
}

fn cfg_fault(source: &Source, index: usize) -> Option<&'static str> {
    let name = source.ident(index)?;
    if source.is_punct(index + 1, '!') && ["cfg", "cfg_if", "cfg_select"].contains(&name) {
        return Some("choose with a twin module instead of a `cfg` macro");
    }
    source.group(index + 1, Delimiter::Parenthesis)?;
    let bracket = index.checked_sub(1)?;
    let close = source.group(bracket, Delimiter::Bracket)?;
    match name {
        "cfg" | "cfg_attr" if source.tokens[index].body => Some("`cfg` inside a function: use a twin module"),
        "cfg" if source.is_cfg_test(bracket.checked_sub(1)?) => None,
        "cfg" if allows_cfg(source, source.skip_attributes(close + 1)) => None,
        "cfg" => Some("`cfg` on something other than `mod`, `pub use` or `#[cfg(test)]`"),
        _ => None,
    }
}

/// `compile_error!` is there for platforms on which there is nothing to choose.
fn allows_cfg(source: &Source, item: usize) -> bool {
    let after = source.skip_visibility(item);
    source.is_ident(after, "mod")
        || source.is_ident(after, "use") && after > item
        || source.is_ident(after, "compile_error")
}

/// Rule 5, of one `cfg` in particular: a name stands in no other files than these. Documents may tell of it.
pub(super) fn names_elsewhere(name: &str, places: &[&str], file: &Text) -> Vec<Finding> {
    if places.contains(&file.path.as_str()) || file.path.ends_with(".md") {
        return Vec::new();
    }
    let lines = (1..).zip(file.text.lines()).filter(|(_, line)| line.contains(name));
    lines.map(|(line, _)| finding(&file.path, line, format!("`{name}` is for one bench only"))).collect()
}

const DRAWERS: [&str; 7] = ["util", "utils", "utilities", "common", "helper", "helpers", "misc"];

/// Rule 6: no drawers, among the files.
pub(super) fn drawer_paths<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<Finding> {
    let is_drawer = |path: &&str| {
        let mut names = path.split('/').map(|name| name.split('.').next().unwrap_or(name));
        names.any(|name| DRAWERS.contains(&name))
    };
    paths.filter(is_drawer).map(|path| finding(path, 1, "name it after what it does")).collect()
}

/// Rule 6: no drawers, among the modules.
pub(super) fn drawer_modules(source: &Source) -> Vec<Finding> {
    let modules = (0..source.tokens.len()).filter(|index| source.is_ident(*index, "mod"));
    let drawers = modules.filter(|index| source.ident(index + 1).is_some_and(|name| DRAWERS.contains(&name)));
    drawers.map(|index| source.finding(index, "name the module after what it does")).collect()
}

/// Rule 7: files of at most `lines_max` lines of code.
pub(super) fn long_files(source: &Source, lines_max: usize) -> Vec<Finding> {
    let lines = source.code_lines;
    let message = format!("{lines} lines of code, {lines_max} are the most");
    if lines > lines_max { vec![finding(&source.path, 1, message)] } else { Vec::new() }
}

/// Rule 7: functions of at most `lines_max` lines.
pub(super) fn long_functions(source: &Source, lines_max: usize) -> Vec<Finding> {
    let lengths =
        source.functions.iter().map(|function| (function, function.last_line + 1 - function.first_line));
    let long = lengths.filter(|(_, lines)| *lines > lines_max);
    long.map(|(function, lines)| {
        let message = format!("fn {} has {lines} lines, {lines_max} are the most", function.name);
        finding(&source.path, function.first_line, message)
    })
    .collect()
}

/// Rule 8: nothing unfinished or switched off.
pub(super) fn unfinished(source: &Source) -> Vec<Finding> {
    let is_unfinished = |index: &usize| match source.ident(*index) {
        Some("todo" | "unimplemented" | "dbg") => source.is_punct(index + 1, '!'),
        Some("ignore") => *index > 1 && source.is_punct(index - 2, '#'),
        _ => false,
    };
    let found = (0..source.tokens.len()).filter(is_unfinished);
    found.map(|index| source.finding(index, "unfinished, or switched off")).collect()
}

/// Rule 8: tests do not sleep, but for those whose subject is a thread that blocks.
pub(super) fn sleeping_tests(allowed: &[(&str, &str)], source: &Source) -> Vec<Finding> {
    let module = source.path.trim_end_matches(".rs");
    if allowed.iter().any(|(place, _)| lies_in(module, place)) {
        return Vec::new();
    }
    let tests = (0..source.tokens.len()).filter(|index| source.tokens[*index].test);
    let is_sleep = |index: &usize| {
        source.is_ident(*index, "thread")
            && source.is_path_separator(index + 1)
            && source.paths_at(*index).iter().any(|path| path[1..] == ["sleep"])
    };
    let message = "a test that waits is slow or flaky: use the paused clock, a barrier or a channel";
    tests.filter(is_sleep).map(|index| source.finding(index, message)).collect()
}

/// Rule 9: no paths of one machine.
pub(super) fn absolute_paths(file: &Text) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, text) in (1..).zip(file.text.lines()) {
        for name in ["work", "root", "home", "Users"] {
            let path = format!("/{name}/");
            let goes_on = |before: char| before.is_alphanumeric() || "_./-".contains(before);
            let absolute = text.match_indices(&path).any(|(at, _)| !text[..at].ends_with(goes_on));
            if absolute {
                findings.push(finding(&file.path, line, format!("`{path}` is a path of one machine")));
            }
        }
    }
    findings
}

/// Rule 10: every dependency of the workspace is used by a member.
pub(super) fn unused_dependencies(workspace: &str, members: &[&str]) -> Vec<Finding> {
    let is_used = |name: &str| {
        let forms = [format!("{name}.workspace = true"), format!("{name} = {{ workspace = true")];
        let mut lines = members.iter().flat_map(|text| text.lines());
        lines.any(|line| forms.iter().any(|form| line.starts_with(form.as_str())))
    };
    let listed = manifest::keys(workspace, "workspace.dependencies").into_iter();
    let unused = listed.filter(|(_, name)| !is_used(name));
    unused.map(|(line, name)| finding("Cargo.toml", line, format!("no member uses `{name}`"))).collect()
}

/// Rule 11: the root holds what the design says. Folders end in `/` and must be there; files may be there.
pub(super) fn strangers_at_the_root(found: &[String], folders: &[&str], files: &[&str]) -> Vec<Finding> {
    let known = |name: &&String| folders.contains(&name.as_str()) || files.contains(&name.as_str());
    let strangers = found.iter().filter(|name| !known(name));
    let strangers = strangers.map(|name| finding(name, 1, "does not belong at the root"));
    let missing = folders.iter().filter(|folder| !found.iter().any(|name| name == *folder));
    strangers.chain(missing.map(|folder| finding(folder, 1, "is missing"))).collect()
}
