//! Files, on the blocking pool: each call is one job of [`spawn_blocking`](crate::spawn_blocking), on the account of
//! who awaits it.
//!
//! Thin wrappers of [`std::fs`]: a file system answers at once or blocks, there is no waiting for readiness. A job costs
//! some microseconds for the change of threads, so read and write in few and large pieces; for more than one step use
//! `spawn_blocking` and `std::fs` in it.
//!
//! A future that is dropped before its first poll has done nothing. After that the operation runs to its end whether
//! or not it is awaited.
//!
//! # Errors
//!
//! Those of `std::fs`; and [`ErrorKind::Other`](io::ErrorKind::Other) with a [`JoinError`](crate::JoinError) inside if
//! the pool's queue is full or the runtime ends.
//!
//! # Panics
//!
//! When polled where no runtime runs.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! # let folder = std::env::temp_dir().join(format!("bursar-doc-{}", std::process::id()));
//! # runtime::Runtime::new()?.block_on(async {
//! use runtime::fs;
//!
//! fs::create_dir_all(&folder).await?;
//! let file = folder.join("greeting");
//! fs::write(&file, "hello").await?;
//! assert_eq!(fs::read_to_string(&file).await?, "hello");
//! assert_eq!(fs::metadata(&file).await?.len(), 5);
//! assert_eq!(fs::read_dir(&folder).await?.len(), 1);
//! fs::remove_dir_all(&folder).await?;
//! # Ok(())
//! # })
//! # }
//! ```

use crate::blocking;
use std::fs::{DirEntry, Metadata, Permissions};
use std::future::Future;
use std::io;
use std::panic::Location;
use std::path::{Path, PathBuf};

type Place = &'static Location<'static>;

async fn on_pool<T: Send + 'static>(
    place: Place,
    f: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    blocking::run(place, f).await?
}

/// The functions that take one path; `$what` is the result's type.
macro_rules! of_one_path {
    ($($(#[$doc:meta])* $name:ident -> $what:ty;)*) => {$(
        $(#[$doc])*
        #[track_caller]
        pub fn $name(path: impl AsRef<Path>) -> impl Future<Output = io::Result<$what>> + Send + 'static {
            let path = path.as_ref().to_owned();
            on_pool(Location::caller(), move || std::fs::$name(path))
        }
    )*};
}

of_one_path! {
    /// The whole content of a file; [`std::fs::read`].
    read -> Vec<u8>;
    /// The whole content of a file, as text; [`std::fs::read_to_string`].
    read_to_string -> String;
    /// What is known of a file, links followed; [`std::fs::metadata`].
    metadata -> Metadata;
    /// What is known of a file, or of the link itself; [`std::fs::symlink_metadata`].
    symlink_metadata -> Metadata;
    /// Where a link points; [`std::fs::read_link`].
    read_link -> PathBuf;
    /// The absolute path with all links resolved; [`std::fs::canonicalize`].
    canonicalize -> PathBuf;
    /// Makes a folder; [`std::fs::create_dir`].
    create_dir -> ();
    /// Makes a folder and those it lies in; [`std::fs::create_dir_all`].
    create_dir_all -> ();
    /// Removes a file; [`std::fs::remove_file`].
    remove_file -> ();
    /// Removes an empty folder; [`std::fs::remove_dir`].
    remove_dir -> ();
    /// Removes a folder and everything in it; [`std::fs::remove_dir_all`].
    remove_dir_all -> ();
}

/// Replaces the content of a file, which is made if there is none; [`std::fs::write`].
#[track_caller]
pub fn write<C>(path: impl AsRef<Path>, contents: C) -> impl Future<Output = io::Result<()>> + Send + 'static
where
    C: AsRef<[u8]> + Send + 'static,
{
    let path = path.as_ref().to_owned();
    on_pool(Location::caller(), move || std::fs::write(path, contents))
}

/// Copies a file and its permissions; the number of bytes. [`std::fs::copy`].
#[track_caller]
pub fn copy(
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
) -> impl Future<Output = io::Result<u64>> + Send + 'static {
    let (from, to) = (from.as_ref().to_owned(), to.as_ref().to_owned());
    on_pool(Location::caller(), move || std::fs::copy(from, to))
}

/// Gives a file another name, and replaces what had it; [`std::fs::rename`].
#[track_caller]
pub fn rename(
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
) -> impl Future<Output = io::Result<()>> + Send + 'static {
    let (from, to) = (from.as_ref().to_owned(), to.as_ref().to_owned());
    on_pool(Location::caller(), move || std::fs::rename(from, to))
}

/// A second name of the same file; [`std::fs::hard_link`].
#[track_caller]
pub fn hard_link(
    original: impl AsRef<Path>,
    link: impl AsRef<Path>,
) -> impl Future<Output = io::Result<()>> + Send + 'static {
    let (original, link) = (original.as_ref().to_owned(), link.as_ref().to_owned());
    on_pool(Location::caller(), move || std::fs::hard_link(original, link))
}

/// Changes the permissions of a file; [`std::fs::set_permissions`].
#[track_caller]
pub fn set_permissions(
    path: impl AsRef<Path>,
    permissions: Permissions,
) -> impl Future<Output = io::Result<()>> + Send + 'static {
    let path = path.as_ref().to_owned();
    on_pool(Location::caller(), move || std::fs::set_permissions(path, permissions))
}

/// What a folder holds, all of it at once, in the file system's order; [`std::fs::read_dir`].
#[track_caller]
pub fn read_dir(path: impl AsRef<Path>) -> impl Future<Output = io::Result<Vec<DirEntry>>> + Send + 'static {
    let path = path.as_ref().to_owned();
    on_pool(Location::caller(), move || std::fs::read_dir(path)?.collect())
}

/// Whether there is something of that name; an error if that cannot be told. [`std::fs::exists`].
#[track_caller]
pub fn try_exists(path: impl AsRef<Path>) -> impl Future<Output = io::Result<bool>> + Send + 'static {
    let path = path.as_ref().to_owned();
    on_pool(Location::caller(), move || std::fs::exists(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;
    use context::{Context, FutureExt, ReportKind, sentinel};

    fn is_send<T: Send>(value: T) -> T {
        value
    }

    #[test]
    fn p10_a_file_operation_is_charged_to_who_awaits_it() {
        let request = Context::root("fs");
        let rt = Runtime::new().unwrap();
        rt.block_on(
            async {
                let existence = is_send(try_exists("Cargo.toml"));
                assert_eq!(request.usage().blocking.jobs, 0, "nothing before the first poll");
                existence.await.unwrap();
            }
            .in_context(request.clone()),
        );
        assert_eq!(request.usage().blocking.jobs, 1);
    }

    #[test]
    fn an_error_is_the_one_of_std() {
        let error = Runtime::new().unwrap().block_on(read_to_string("no/such/file")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn without_a_context_the_line_of_the_caller_is_named() {
        let rt = Runtime::builder().without_main().build().unwrap();
        let line = line!() + 1;
        rt.block_on(async { try_exists("here").await.unwrap() });
        let named = |report: &context::Report| {
            report.kind == ReportKind::BlockingInSentinel
                && report.place.line() == line
                && report.place.file().ends_with("fs.rs")
        };
        assert!(sentinel::reports().iter().any(named));
    }
}
