//! The background process that fills the index. Its cost is on its own account: see the class `index` in `/accounts`.

use super::files::Files;
use super::search::{self, Pool};
use context::Context;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Files of one transaction.
const BATCH: usize = 32;

/// How far it is. Written by the process, read by requests.
#[derive(Debug, Default)]
pub(super) struct Progress {
    files: AtomicU64,
    done: AtomicU64,
    /// Those that are not text.
    skipped: AtomicU64,
    bytes: AtomicU64,
    finished: AtomicBool,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.finished.load(Relaxed) { "done" } else { "at work" };
        let [done, files, skipped, bytes] =
            [&self.done, &self.files, &self.skipped, &self.bytes].map(|count| count.load(Relaxed));
        write!(f, "{state}, {done} of {files} files, {skipped} skipped, {} KiB", bytes / 1024)
    }
}

/// Reads every text file into the index, anew.
pub(super) async fn run(files: Files, pool: Pool, progress: Arc<Progress>) -> Result<(), Box<dyn Error>> {
    let list = {
        let files = files.clone();
        runtime::spawn_blocking(move || files.list()).await?
    };
    progress.files.store(list.len() as u64, Relaxed);
    for batch in list.chunks(BATCH) {
        let texts = read(&files, batch.to_vec()).await?;
        progress.skipped.fetch_add((batch.len() - texts.len()) as u64, Relaxed);
        progress.bytes.fetch_add(texts.iter().map(|(_, text)| text.len() as u64).sum(), Relaxed);
        search::store(&pool, texts).await?;
        progress.done.fetch_add(batch.len() as u64, Relaxed);
        log::debug!("{progress}");
    }
    progress.finished.store(true, Relaxed);
    log::info!("{progress}; it cost {}", Context::current().usage());
    Ok(())
}

/// The texts of those that are text.
async fn read(files: &Files, paths: Vec<String>) -> Result<Vec<(String, String)>, runtime::JoinError> {
    let files = files.clone();
    let read = move || {
        let text = |path: String| files.read(&path).ok().map(|text| (path, text));
        paths.into_iter().filter_map(text).collect()
    };
    runtime::spawn_blocking(read).await
}
