//! As much of `Cargo.toml` as the rules need: which packages a section names.

/// The keys of one section, in order: the names up to the first dot, so `libc.workspace = true` is `libc`.
pub(super) fn keys<'a>(text: &'a str, section: &str) -> Vec<(usize, &'a str)> {
    let mut keys = Vec::new();
    let mut current = "";
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_end();
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            current = header;
            // `[dependencies.name]`
            if let Some(name) = header.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')) {
                keys.push((number, name));
            }
        } else if current == section && line.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
            keys.push((number, &line[..end]));
        }
    }
    keys
}

/// What the package needs to be built (not its tests), on any target.
pub(super) fn dependencies(text: &str) -> Vec<(usize, &str)> {
    let sections = text.lines().filter_map(|line| line.trim().strip_prefix('[')?.strip_suffix(']'));
    let targets = sections.filter(|name| name.starts_with("target.") && name.ends_with(".dependencies"));
    targets.chain(["dependencies"]).flat_map(|section| keys(text, section)).collect()
}
