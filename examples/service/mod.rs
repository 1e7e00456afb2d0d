//! Full-text search over a directory of text files, with every request billed.
//!
//! | file | what it does |
//! |---|---|
//! | `options.rs` | the command line |
//! | `logger.rs` | log lines that begin with the name of the context |
//! | `index.rs` | the background process that fills the index |
//! | `search.rs` | the database: schema, queries |
//! | `files.rs` | reads files below one directory, and nothing else |
//! | `routes.rs` | the handlers |
//! | `accounts.rs` | the books, as JSON |
//! | `failure.rs` | errors, as responses |

mod accounts;
mod failure;
mod files;
mod index;
pub mod logger;
mod options;
mod routes;
mod search;
#[cfg(test)]
mod sweep;

pub use options::{Options, Stop};

use files::Files;
use index::Progress;
use runtime::net::TcpListener;
use runtime::signal::unix::{SignalKind, signal};
use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a shutdown waits for requests in flight.
const GRACE: Duration = Duration::from_secs(10);

/// What the handlers share.
#[derive(Clone)]
struct App {
    files: Files,
    pool: search::Pool,
    progress: Arc<Progress>,
}

/// Runs the service until SIGINT or SIGTERM. Its first line on standard output says where it listens.
///
/// # Errors
///
/// When the directory, the database or the address cannot be opened.
pub async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let database = options.database();
    let (files, pool) = open(options.index, database.clone()).await?;
    let listener = TcpListener::bind(options.listen.as_str())
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", options.listen))?;
    let address = listener.local_addr()?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    // Before the first search.
    search::prepare(&pool).await?;
    let progress = Arc::new(Progress::default());
    let indexing = runtime::background("index", index::run(files.clone(), pool.clone(), progress.clone()));
    announce(&format!("listening on http://{address}"));
    log::info!("indexing {} into {}", files.root().display(), database.display());

    let app = routes::router(App { files, pool: pool.clone(), progress });
    let signals = async move {
        first(interrupt.recv(), terminate.recv()).await;
        log::info!("shutting down");
    };
    runtime::http::serve(listener, app).with_graceful_shutdown(signals).grace(GRACE).await?;
    indexing.abort();
    drop(indexing.await);
    pool.close().await;
    Ok(())
}

/// The directory and the database. Both are looked at now, which blocks for a moment: not on the loop.
async fn open(index: PathBuf, database: PathBuf) -> Result<(Files, search::Pool), Box<dyn Error>> {
    let open = move || {
        let files = Files::below(&index)
            .map_err(|error| format!("cannot read the directory {}: {error}", index.display()))?;
        let pool = search::Pool::open(&database)
            .map_err(|error| format!("cannot open the database {}: {error}", database.display()))?;
        Ok::<_, String>((files, pool))
    };
    Ok(runtime::spawn_blocking(open).await??)
}

/// Standard output may be a pipe that nobody reads: that is no reason to stop.
fn announce(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Waits for whichever is ready first.
async fn first<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) {
    let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
    std::future::poll_fn(|cx| {
        let ready = a.as_mut().poll(cx).is_ready() || b.as_mut().poll(cx).is_ready();
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
