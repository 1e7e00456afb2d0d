//! The database: one FTS5 table.

use super::failure::Failure;
use super::snippet::{TEXT_MAX, Wanted};
use axum::http::StatusCode;
use runtime::db::{self, sqlite};
use rusqlite::{Row, params};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(super) use sqlite::{Error, Pool};

/// How long a search may wait for a connection. Clients that wait for longer have gone, or are about to.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

/// Hits of one search, at most.
const HITS_MAX: usize = 20;
/// The longest search, in bytes.
const QUERY_MAX: usize = 200;

#[derive(Debug, Serialize)]
pub(super) struct Hit {
    path: String,
    snippet: String,
}

/// Connections to the database at `path`. That it can be opened is tried at once.
pub(super) fn open(path: &Path) -> Result<Pool, Error> {
    sqlite::Connection::open(path).and_then(db::Connection::close).map_err(Error::Connect)?;
    Ok(sqlite::builder(path).queue_timeout(QUEUE_TIMEOUT).build())
}

/// Makes the index, or makes it empty.
pub(super) async fn prepare(pool: &Pool) -> Result<(), Error> {
    const SCHEMA: &str = "DROP TABLE IF EXISTS service_index;
        CREATE VIRTUAL TABLE service_index USING fts5(path UNINDEXED, body)";
    pool.interact("prepare the index", |tx| tx.execute_batch(SCHEMA)).await
}

/// Adds files, all of them or none.
pub(super) async fn store(pool: &Pool, files: Arc<Vec<(String, String)>>) -> Result<(), Error> {
    pool.interact("store a batch of files", move |tx| {
        let mut insert = tx.prepare_cached("INSERT INTO service_index (path, body) VALUES (?1, ?2)")?;
        files.iter().try_for_each(|(path, text)| insert.execute(params![path, text]).map(drop))
    })
    .await
}

/// The files that have all words of `text`, the best first.
///
/// A read: if the client goes away, or the request's time is over, it is not begun, or interrupted. Its cost grows with the
/// number of hits and no faster: all are ranked, and of the best few the beginning is read for a snippet.
pub(super) async fn find(pool: &Pool, text: &str) -> Result<Vec<Hit>, Failure> {
    const SEARCH: &str = "SELECT path, substr(body, 1, ?3) FROM service_index
        WHERE service_index MATCH ?1 ORDER BY rank LIMIT ?2";
    let query = to_match(text)?;
    let wanted = Wanted::new(text);
    let found = pool.read("search", move |tx| {
        let mut search = tx.prepare_cached(SEARCH)?;
        let hit =
            |row: &Row<'_>| Ok(Hit { path: row.get(0)?, snippet: wanted.snippet(row.get_ref(1)?.as_str()?) });
        let parameters = params![query, HITS_MAX as i64, TEXT_MAX as i64];
        search.query_map(parameters, hit)?.collect::<rusqlite::Result<Vec<_>>>()
    });
    found.await.map_err(|error| match error {
        db::Error::QueueFull | db::Error::QueueTimeout(_) => {
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, "too many searches at once")
        }
        db::Error::Cancelled(_) | db::Error::Interrupted | db::Error::Closed => {
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, "the search was given up")
        }
        error => Failure::internal(error),
    })
}

/// The query in FTS5's language: each word quoted, so that whatever comes is words and nothing else.
fn to_match(text: &str) -> Result<String, Failure> {
    if text.len() > QUERY_MAX {
        return Err(Failure::bad_request(format!("`q` has {QUERY_MAX} bytes at most")));
    }
    if text.contains(|c: char| c.is_control() && !c.is_whitespace()) {
        return Err(Failure::bad_request("`q` has control characters in it"));
    }
    let words: Vec<String> =
        text.split_whitespace().map(|word| format!("\"{}\"", word.replace('"', "\"\""))).collect();
    if words.is_empty() {
        return Err(Failure::bad_request("`q` has no words"));
    }
    Ok(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_cannot_have_syntax() {
        let conn = rusqlite::Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE VIRTUAL TABLE files USING fts5(path UNINDEXED, body)").unwrap();
        let odd = [
            "\"",
            "\"\"",
            "a\"b",
            "AND",
            "NEAR(a b)",
            "a*",
            "^a",
            "body:a",
            "-a",
            "(",
            "a OR",
            "{a}: b",
            "+",
            "é'",
        ];
        for text in odd {
            let query = to_match(text).unwrap();
            let count =
                conn.query_row("SELECT count(*) FROM files WHERE files MATCH ?1", [&query], |row| row.get(0));
            assert_eq!(count, Ok(0), "{text:?} as {query}");
        }
    }

    #[test]
    fn what_is_no_query_is_said() {
        for text in ["", "  ", "a\0b", &"x".repeat(QUERY_MAX + 1)] {
            assert!(to_match(text).is_err(), "{text:?}");
        }
        assert_eq!(to_match("two  words").unwrap(), "\"two\" \"words\"");
    }
}
