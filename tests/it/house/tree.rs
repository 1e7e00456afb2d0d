//! The working tree: which files there are, and the Rust files among them, read once.

use super::source::Source;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A text file.
pub(crate) struct Text {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Every text file, without what `.gitignore` names.
pub(crate) static TEXTS: LazyLock<Vec<Text>> = LazyLock::new(|| {
    let mut texts = Vec::new();
    let ignored = ignored();
    for name in top_level() {
        collect(&root().join(name), &ignored, &mut texts);
    }
    texts.sort_by(|a, b| a.path.cmp(&b.path));
    texts
});

/// Every Rust file.
pub(super) static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let rust = TEXTS.iter().filter(|file| file.path.ends_with(".rs"));
    rust.map(|file| Source::parse(&file.path, &file.text)).collect()
});

/// The names at the root, folders with a `/` at their end.
pub(super) fn top_level() -> Vec<String> {
    let ignored = ignored();
    let entries = fs::read_dir(root()).expect("the root can be listed").map(Result::unwrap);
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path().is_dir()));
    let kept = named.filter(|(name, _)| name != ".git" && !ignored.contains(name));
    kept.map(|(name, is_folder)| if is_folder { name + "/" } else { name }).collect()
}

/// The text of a file that must be there.
pub(crate) fn text(path: &str) -> &'static str {
    let found = TEXTS.iter().find(|file| file.path == path);
    &found.unwrap_or_else(|| panic!("{path} is missing")).text
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the root").to_path_buf()
}

fn ignored() -> Vec<String> {
    let lines = fs::read_to_string(root().join(".gitignore")).unwrap_or_default();
    lines.lines().map(|line| line.trim_matches('/').to_owned()).collect()
}

fn collect(path: &Path, ignored: &[String], texts: &mut Vec<Text>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder can be listed") {
            let entry = entry.expect("a folder can be listed");
            if !ignored.iter().any(|name| entry.file_name() == name.as_str()) {
                collect(&entry.path(), ignored, texts);
            }
        }
    } else if let Ok(text) = fs::read_to_string(path) {
        let relative = path.strip_prefix(root()).expect("the walk began at the root");
        texts.push(Text { path: relative.to_str().unwrap().replace('\\', "/"), text });
    }
}
