//! The handlers. None of them mentions a context but `/fanout`, which makes parts.

use super::App;
use super::failure::Failure;
use super::search::{self, Hit};
use super::{accounts, files, logger};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use pulldown_cmark::{Event, Options, Parser, html};
use runtime::TaskGroup;
use runtime::http::ContextLayer;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// The longest wait that `/sleep` grants, in milliseconds.
const SLEEP_MS_MAX: u64 = 10_000;
/// How many parts a `/fanout` may have.
const PARTS_MAX: usize = 16;

type Asked<T> = Result<Query<T>, QueryRejection>;

/// Every request in a context of its own.
pub(super) fn router(app: App) -> Router {
    handlers(app).layer(ContextLayer::axum())
}

pub(super) fn handlers(app: App) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/search", get(find))
        .route("/file", get(file))
        .route("/render", get(render))
        .route("/fanout", get(fanout))
        .route("/sleep", get(sleep))
        .route("/ready", get(ready))
        .route("/accounts", get(async || Json(books())))
        .fallback(async || Failure::new(StatusCode::NOT_FOUND, "there is nothing here; / says what there is"))
        .method_not_allowed_fallback(async || {
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "everything here is asked for by GET")
        })
        .with_state(app)
}

#[derive(Deserialize)]
struct Terms {
    q: String,
}

#[derive(Deserialize)]
struct Target {
    path: String,
}

#[derive(Deserialize)]
struct Pause {
    ms: u64,
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

/// Database: the wait for a connection, the transaction and its rows are on the request's account.
async fn find(State(app): State<App>, asked: Asked<Terms>) -> Result<Json<Value>, Failure> {
    let Query(Terms { q }) = asked?;
    let hits = search::find(&app.pool, &q).await?;
    log::info!("{} hits", hits.len());
    Ok(Json(json!({ "query": q, "indexing": app.progress.to_string(), "hits": hits })))
}

/// Blocking pool: the job runs on another thread, its CPU time is charged here.
async fn file(State(app): State<App>, asked: Asked<Target>) -> Result<Response, Failure> {
    let Query(Target { path }) = asked?;
    let text = read(&app, path).await?;
    let headers = [(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))];
    Ok((headers, text).into_response())
}

/// CPU: parses Markdown on the server's own thread, which is what this route is there to show.
async fn render(State(app): State<App>, asked: Asked<Target>) -> Result<Response, Failure> {
    let Query(Target { path }) = asked?;
    let text = read(&app, path).await?;
    let page = to_html(&text);
    // No scripts, whatever the files say.
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    Ok(([(header::CONTENT_SECURITY_POLICY, policy)], Html(page)).into_response())
}

fn to_html(markdown: &str) -> String {
    let events = Parser::new_ext(markdown, Options::ENABLE_TABLES).map(|event| match event {
        Event::Html(raw) | Event::InlineHtml(raw) => Event::Text(raw),
        event => event,
    });
    let mut page = String::with_capacity(markdown.len() * 3 / 2);
    page.push_str("<!doctype html><meta charset=utf-8>\n");
    html::push_html(&mut page, events);
    page
}

async fn read(app: &App, path: String) -> Result<String, Failure> {
    let files: files::Files = app.files.clone();
    runtime::spawn_blocking(move || files.read(&path)).await.map_err(Failure::internal)?
}

/// Parts: each search runs in a child of the request's context, all at once. What they cost is theirs, and shows in
/// the request's total. If the client goes away they are cancelled with it.
async fn fanout(State(app): State<App>, asked: Asked<Terms>) -> Result<Json<Value>, Failure> {
    let Query(Terms { q }) = asked?;
    let terms: Vec<&str> = q.split(',').map(str::trim).filter(|term| !term.is_empty()).collect();
    if terms.is_empty() || terms.len() > PARTS_MAX {
        return Err(Failure::bad_request(format!(
            "`q` takes 1 to {PARTS_MAX} searches, with commas in between"
        )));
    }
    // The first that fails ends the others: a part of an answer is of no use.
    let mut parts = TaskGroup::new("fanout");
    for term in &terms {
        let (pool, term) = (app.pool.clone(), (*term).to_owned());
        parts.spawn_part("fanout part", async move { search::find(&pool, &term).await });
    }
    let found: Vec<Vec<Hit>> = parts.join().await?;
    let answers = terms.iter().zip(found).map(|(term, hits)| json!({ "query": term, "hits": hits }));
    Ok(Json(answers.collect()))
}

/// Waiting only: it takes time and costs nothing.
async fn sleep(asked: Asked<Pause>) -> Result<String, Failure> {
    let Query(Pause { ms }) = asked?;
    if ms > SLEEP_MS_MAX {
        return Err(Failure::bad_request(format!("`ms` is {SLEEP_MS_MAX} at most")));
    }
    runtime::time::sleep(Duration::from_millis(ms)).await;
    Ok(format!("slept {ms} ms\n"))
}

fn books() -> Value {
    let mut books = accounts::json();
    books["log_lines_lost"] = logger::lost_lines().into();
    books
}

/// Whether requests are to be sent here, for a load balancer's probe. While the index fills, answers are there, and say so;
/// with an index that will never be complete they would be wrong.
async fn ready(State(app): State<App>) -> Result<String, Failure> {
    if !app.readiness.is_ready() {
        return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "shutting down"));
    }
    match app.progress.failure() {
        Some(_) => Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, format!("index {}", app.progress))),
        None => Ok(format!("index {}\n", app.progress)),
    }
}

async fn front(State(app): State<App>) -> Html<String> {
    Html(format!(
        "<!doctype html><meta charset=utf-8><title>service</title>
<h1>Full-text search, with every request billed</h1>
<p>Indexing: {}.</p>
<ul>
<li><a href='/search?q=sentinel'>/search?q=sentinel</a>: the database
<li><a href='/file?path=Cargo.toml'>/file?path=Cargo.toml</a>: the blocking pool
<li><a href='/render?path=README.md'>/render?path=README.md</a>: CPU
<li><a href='/fanout?q=waker,timer,reactor'>/fanout?q=waker,timer,reactor</a>: parts, at the same time
<li><a href='/sleep?ms=200'>/sleep?ms=200</a>: waiting only
<li><a href='/ready'>/ready</a>: whether requests are to be sent here
<li><a href='/accounts'>/accounts</a>: the books
</ul>
<p>What a request cost is in its <code>Server-Timing</code> header (your browser's network panel shows it), and in the log.</p>
",
        app.progress
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::files::Files;
    use crate::service::index::{self, Progress};
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use std::path::Path;
    use std::sync::Arc;
    use tower_service::Service;

    /// An index that will never be complete: the page says why, and no requests are to be sent here.
    #[test]
    fn v10_a_failed_index_is_told() {
        runtime::Runtime::new().unwrap().block_on(async {
            let files = Files::below(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
            let (pool, progress) = (search::Pool::open_in_memory(), Arc::<Progress>::default());
            let app = App {
                files: files.clone(),
                pool: pool.clone(),
                progress: progress.clone(),
                readiness: runtime::http::Readiness::default(),
            };
            let ask = async |path: &str| {
                let request = Request::builder().uri(path).body(Body::empty()).unwrap();
                let response = router(app.clone()).call(request).await.unwrap();
                let status = response.status();
                let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
                (status, String::from_utf8(body.to_vec()).unwrap())
            };
            let (status, page) = ask("/ready").await;
            assert!(status == StatusCode::OK && page.contains("at work"), "{page}");
            pool.close().await;
            index::run(files, pool, progress).await.unwrap_err();
            let failed = "failed: the database pool is closed, 0 of";
            let (status, page) = ask("/ready").await;
            assert!(status == StatusCode::SERVICE_UNAVAILABLE && page.contains(failed), "{status} {page}");
            assert!(ask("/").await.1.contains(failed));
        });
    }

    #[test]
    fn raw_html_is_shown_not_obeyed() {
        let page = to_html("# A\n\n<script>alert(1)</script> and <b>b</b>");
        assert!(
            page.contains("<h1>A</h1>") && page.contains("&lt;script&gt;") && !page.contains("<script>"),
            "{page}"
        );
    }
}
