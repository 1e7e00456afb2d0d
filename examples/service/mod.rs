//! Full-text search over a directory of text files, with every request billed.
//!
//! | file | what it does |
//! |---|---|
//! | `options.rs` | the command line |
//! | `logger.rs` | log lines that begin with the name of the context |
//! | `index.rs` | the background process that fills the index |
//! | `search.rs` | the database: schema, queries |
//! | `snippet.rs` | the part of a text that shows why it was found |
//! | `lock.rs` | one service a database |
//! | `files.rs` | reads files below one directory, and nothing else |
//! | `routes.rs` | the handlers |
//! | `accounts.rs` | the books, as JSON |
//! | `failure.rs` | errors, as responses |

mod accounts;
mod failure;
mod files;
mod index;
mod lock;
pub mod logger;
mod options;
mod routes;
mod search;
mod snippet;
#[cfg(test)]
mod sweep;

pub use options::{Options, Stop};

use files::Files;
use index::Progress;
use lock::Lock;
use options::Database;
use runtime::http::Readiness;
use runtime::net::TcpListener;
use runtime::signal::Terminate;
use runtime::time::Instant;
use std::cell::Cell;
use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How long an end in order may take, from the signal on, whatever is at work.
const GRACE: Duration = Duration::from_secs(10);
/// The part of it in which requests in flight may end.
const REQUESTS_GRACE: Duration = Duration::from_secs(7);
/// How long it still accepts requests when `/ready` says no.
const SHUTDOWN_DELAY: Duration = Duration::from_millis(200);
/// The part of it that is left to end the process: threads, the last lines of the log.
const LAST_STEPS: Duration = Duration::from_millis(2_500);

/// What the handlers share.
#[derive(Clone)]
struct App {
    files: Files,
    pool: search::Pool,
    progress: Arc<Progress>,
    readiness: Readiness,
}

/// Runs the service until `ended`. Its first line on standard output says where it listens.
///
/// # Errors
///
/// When the directory, the database or the address cannot be opened.
pub async fn run(options: Options, mut ended: Terminate) -> Result<(), Box<dyn Error>> {
    let Some(opened) = unless(&mut ended, open(options.index.clone(), options.database())).await else {
        return Ok(());
    };
    let (files, pool, _lock) = opened?;
    let end = Rc::new(Cell::new(None));
    let signals = {
        let end = end.clone();
        async move {
            drop(ended.await);
            log::info!("shutting down");
            end.set(Some(Instant::now() + GRACE));
        }
    };
    let served = serve(&options.listen, files, &pool, signals).await;
    let end = end.get().unwrap_or_else(|| Instant::now() + GRACE);
    close(&pool, end).await;
    served
}

/// What has been accepted ends, as far as there is time.
async fn close(pool: &search::Pool, end: Instant) {
    let left = end.saturating_duration_since(Instant::now()).saturating_sub(LAST_STEPS);
    // Each is reported by itself, with its context and line.
    let stragglers = pool.close_timeout(left).await;
    if !stragglers.is_empty() {
        log::warn!("{} transactions are left", stragglers.len());
    }
}

async fn serve(
    listen: &str,
    files: Files,
    pool: &search::Pool,
    signals: impl Future<Output = ()> + 'static,
) -> Result<(), Box<dyn Error>> {
    let mut signals = Box::pin(signals);
    let listener =
        TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let address = listener.local_addr()?;
    // Before the first search.
    let Some(prepared) = unless(&mut signals, search::prepare(pool)).await else { return Ok(()) };
    prepared?;
    let progress = Arc::new(Progress::default());
    log::info!("indexing {}", files.root().display());
    let indexing = runtime::background("index", index::run(files.clone(), pool.clone(), progress.clone()));
    announce(&format!("listening on http://{address}"));

    let readiness = Readiness::default();
    let app = routes::router(App { files, pool: pool.clone(), progress, readiness: readiness.clone() });
    let served = runtime::http::serve(listener, app)
        .with_graceful_shutdown(signals)
        .with_readiness(readiness)
        .shutdown_delay(SHUTDOWN_DELAY)
        .grace(REQUESTS_GRACE)
        .await;
    indexing.abort();
    drop(indexing.await);
    Ok(served?)
}

/// The directory and the database. Both are looked at now, which blocks for a moment: not on the loop.
async fn open(index: PathBuf, database: Database) -> Result<(Files, search::Pool, Lock), Box<dyn Error>> {
    let open = move || {
        let files = Files::below(&index)
            .map_err(|error| format!("cannot read the directory {}: {error}", index.display()))?;
        database.make_room()?;
        let file = &database.file;
        // Before anything is changed in it.
        let lock = Lock::take(file)?;
        let pool = search::open(file)
            .map_err(|error| format!("cannot open the database {}: {error}", file.display()))?;
        Ok::<_, String>((files, pool, lock))
    };
    Ok(runtime::spawn_blocking(open).await??)
}

/// Standard output may be a pipe that nobody reads: that is no reason to stop.
fn announce(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// What `future` yields; `None` if `stop` is ready first.
async fn unless<T>(mut stop: impl Future + Unpin, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match std::pin::Pin::new(&mut stop).poll(cx) {
        std::task::Poll::Ready(_) => std::task::Poll::Ready(None),
        std::task::Poll::Pending => future.as_mut().poll(cx).map(Some),
    })
    .await
}
