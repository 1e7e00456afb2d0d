//! One service a database: a second one would empty the index under the first.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

/// Held for as long as the database is in use. The system gives it up with the process, however that ends.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code)] File);

impl Lock {
    /// Takes the lock of the database at `path`, which is a file beside it. (A lock on the database file would be in the way of
    /// SQLite's own: closing a file gives up all locks that the process has on it.)
    #[expect(clippy::incompatible_msrv, reason = "the examples ask for rustc 1.89, as rusqlite does")]
    pub(super) fn take(path: &Path) -> Result<Self, String> {
        let mut name = path.to_path_buf().into_os_string();
        name.push(".lock");
        let failed = |error| format!("cannot lock the database {}: {error}", path.display());
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&name).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(format!(
                "another service is at work on the database {}: give this one its own (--db)",
                path.display()
            )),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v10_a_database_has_one_service() {
        let path = std::env::temp_dir().join(format!("bursar-lock-{}.sqlite", std::process::id()));
        let first = Lock::take(&path).unwrap();
        let refused = Lock::take(&path).unwrap_err();
        assert!(refused.contains("another service is at work on the database"), "{refused}");
        drop(first);
        Lock::take(&path).unwrap();
        let _ = std::fs::remove_file(path.with_extension("sqlite.lock"));
        let nowhere = Lock::take(Path::new("no/such/folder/app.db")).unwrap_err();
        assert!(nowhere.contains("cannot lock the database"), "{nowhere}");
    }
}
