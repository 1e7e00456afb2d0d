//! The background process that fills the index. Its cost is on its own account: see the class `index` in `/accounts`.

use super::files::Files;
use super::search::{self, Pool};
use context::Context;
use runtime::time::sleep;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Files of one transaction.
const BATCH: usize = 32;
/// Between two attempts to store them, while searches fill the queue of the database.
const PAUSE: Duration = Duration::from_millis(100);

/// How far it is, and whether it has failed. Written by the process, read by requests.
#[derive(Debug, Default)]
pub(super) struct Progress {
    files: AtomicU64,
    done: AtomicU64,
    /// Those that are not text.
    skipped: AtomicU64,
    bytes: AtomicU64,
    finished: AtomicBool,
    /// Why it has ended before it was done.
    failure: OnceLock<String>,
}

impl Progress {
    /// Why the index will never be complete, if that is so.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.failure(), self.finished.load(Relaxed)) {
            (Some(why), _) => &format!("failed: {why}"),
            (None, true) => "done",
            (None, false) => "at work",
        };
        let [done, files, skipped, bytes] =
            [&self.done, &self.files, &self.skipped, &self.bytes].map(|count| count.load(Relaxed));
        write!(f, "{state}, {done} of {files} files, {skipped} skipped, {} KiB", bytes / 1024)
    }
}

/// Reads every text file into the index, anew. What keeps it from that is said by `progress` from then on.
pub(super) async fn run(files: Files, pool: Pool, progress: Arc<Progress>) -> Result<(), Box<dyn Error>> {
    let ending = FailsUnlessDone(&progress);
    let result = fill(files, pool, &progress).await;
    if let Err(error) = &result {
        let _ = progress.failure.set(error.to_string());
    }
    drop(ending);
    result
}

/// A panic, or an end from outside, is a failure too.
struct FailsUnlessDone<'a>(&'a Progress);

impl Drop for FailsUnlessDone<'_> {
    fn drop(&mut self) {
        if !self.0.finished.load(Relaxed) {
            let _ = self.0.failure.set("it was stopped".to_owned());
        }
    }
}

async fn fill(files: Files, pool: Pool, progress: &Progress) -> Result<(), Box<dyn Error>> {
    let list = {
        let files = files.clone();
        runtime::spawn_blocking(move || files.list()).await?
    };
    progress.files.store(list.len() as u64, Relaxed);
    for batch in list.chunks(BATCH) {
        let texts = read(&files, batch.to_vec()).await?;
        progress.skipped.fetch_add((batch.len() - texts.len()) as u64, Relaxed);
        progress.bytes.fetch_add(texts.iter().map(|(_, text)| text.len() as u64).sum(), Relaxed);
        store(&pool, texts).await?;
        progress.done.fetch_add(batch.len() as u64, Relaxed);
        log::debug!("{progress}");
    }
    progress.finished.store(true, Relaxed);
    log::info!("{progress}; it cost {}", Context::current().usage());
    Ok(())
}

/// Adds texts to the index, when there is room for that among the searches.
async fn store(pool: &Pool, texts: Vec<(String, String)>) -> Result<(), search::Error> {
    let texts = Arc::new(texts);
    loop {
        match search::store(pool, texts.clone()).await {
            Err(search::Error::QueueFull | search::Error::QueueTimeout(_)) => sleep(PAUSE).await,
            stored => return stored,
        }
    }
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
