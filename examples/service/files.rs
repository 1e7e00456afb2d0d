//! Reads files below one directory, and nothing else. All of it blocks: call it on the blocking pool.

use super::failure::Failure;
use axum::http::StatusCode;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The largest file that is indexed, sent or rendered, in bytes.
pub(super) const FILE_SIZE_MAX: u64 = 1024 * 1024;
/// How deep directories may lie in one another.
const DEPTH_MAX: usize = 32;
/// Directories that hold nothing worth reading.
const SKIPPED: [&str; 2] = ["target", "node_modules"];

/// The files below a directory.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// Canonical: no symbolic links in it.
    root: Arc<Path>,
}

impl Files {
    pub(super) fn below(root: &Path) -> io::Result<Self> {
        let root = root.canonicalize()?;
        // Whether it is a directory that can be read.
        fs::read_dir(&root)?;
        Ok(Self { root: root.into() })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The text of the file at `path`, which is relative to the directory and stays in it.
    pub(super) fn read(&self, path: &str) -> Result<String, Failure> {
        let file = self.open(path)?;
        let mut bytes = Vec::new();
        file.take(FILE_SIZE_MAX + 1).read_to_end(&mut bytes).map_err(Failure::internal)?;
        if bytes.len() as u64 > FILE_SIZE_MAX {
            let message = format!("files of more than {FILE_SIZE_MAX} bytes are not served");
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        String::from_utf8(bytes)
            .map_err(|_| Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "this file is not text"))
    }

    fn open(&self, path: &str) -> Result<File, Failure> {
        let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if path.is_empty() || path.contains('\0') {
            return Err(Failure::bad_request("`path` names no file"));
        }
        if !Path::new(path).components().all(is_plain) {
            return Err(outside());
        }
        let missing = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
                Failure::new(StatusCode::NOT_FOUND, "there is no such file")
            }
            io::ErrorKind::PermissionDenied => {
                Failure::new(StatusCode::FORBIDDEN, "this file is not readable")
            }
            _ => Failure::internal(error),
        };
        // Follows symbolic links: what counts is where the file is, not what it is called.
        let real = self.root.join(path).canonicalize().map_err(missing)?;
        if !real.starts_with(&self.root) {
            return Err(outside());
        }
        // Before it is opened: opening a pipe would wait for its other end.
        if !fs::metadata(&real).map_err(missing)?.is_file() {
            return Err(Failure::bad_request("this is not a file"));
        }
        File::open(&real).map_err(missing)
    }

    /// The files that may be text, as paths relative to the directory, sorted. Hidden ones are left out, symbolic links are not
    /// followed; what cannot be read is skipped.
    pub(super) fn list(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![(self.root.to_path_buf(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() && depth < DEPTH_MAX && !SKIPPED.contains(&name) {
                    folders.push((entry.path(), depth + 1));
                } else if kind.is_file() && entry.metadata().is_ok_and(|file| file.len() <= FILE_SIZE_MAX) {
                    found.extend(self.relative(&entry.path()));
                }
            }
        }
        found.sort_unstable();
        found
    }

    fn relative(&self, path: &Path) -> Option<String> {
        let relative: PathBuf = path.strip_prefix(&self.root).ok()?.to_path_buf();
        relative.into_os_string().into_string().ok()
    }
}

fn outside() -> Failure {
    Failure::new(StatusCode::FORBIDDEN, "this path leaves the directory that is served")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_directory_are_refused() {
        let files = Files::below(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        for path in
            ["../Cargo.toml", "/etc/passwd", "service/../../Cargo.toml", "service/../../../etc/passwd"]
        {
            assert_eq!(files.read(path).unwrap_err().status, StatusCode::FORBIDDEN, "{path}");
        }
        assert!(files.read("./service/files.rs").unwrap().contains("paths_that_leave"));
    }

    #[test]
    fn what_is_no_text_file_is_said() {
        let files = Files::below(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        let status = |path| files.read(path).unwrap_err().status;
        assert_eq!(status(""), StatusCode::BAD_REQUEST);
        assert_eq!(status("a\0b"), StatusCode::BAD_REQUEST);
        assert_eq!(status("service"), StatusCode::BAD_REQUEST);
        assert_eq!(status("no such file"), StatusCode::NOT_FOUND);
        assert_eq!(status("lib.rs/x"), StatusCode::NOT_FOUND);
        assert_eq!(status(&"x".repeat(5_000)), StatusCode::NOT_FOUND);
    }
}
