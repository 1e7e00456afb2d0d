//! What a request is billed, and what is said of it.

use super::{Drops, Server, get, get_once, header, status};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request};
use axum::routing::get as on_get;
use bytes::Bytes;
use context::{Context, FutureExt, Reason};
use http_body::Frame;
use runtime::http::{Outcome, Peer};
use runtime::time::sleep;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{self, Poll};
use std::time::Duration;

#[runtime::test(paused)]
async fn a_request_has_a_context_a_line_and_a_timing() {
    let app = Router::new().route(
        "/hello/{name}",
        on_get(async |Path(name): Path<String>| {
            sleep(Duration::from_millis(5)).await;
            format!("{} {name}", Context::current().class())
        }),
    );
    let server = Server::start(app).await;
    let answer = server.ask(&get_once("/hello/ann")).await;
    assert_eq!(status(&answer), 200);
    assert!(answer.ends_with("\r\n\r\nGET /hello/{name} ann"), "{answer}");

    let line = server.line();
    assert_eq!((line.context.class(), line.status, line.bytes), ("GET /hello/{name}", 200, 21));
    assert_eq!(line.outcome, Outcome::Sent);
    assert!(line.context.is_finished() && line.usage.cpu > Duration::ZERO && line.usage.polls >= 2, "{line}");
    let said = line.to_string();
    let peer = line.peer.as_ref().unwrap().to_string();
    assert!(said.starts_with(&format!("{peer} GET /hello/{{name}}#")), "{said}");
    assert!(said.contains(" 200 21B ") && said.contains(" cpu=") && said.contains(" db=("), "{said}");

    let timing = header(&answer, "server-timing").unwrap();
    let entries: Vec<(&str, f64)> = timing
        .split(", ")
        .map(|entry| entry.split_once(";dur=").unwrap())
        .map(|(n, v)| (n, v.parse().unwrap()))
        .collect();
    let names: Vec<&str> = entries.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["cpu", "queued", "blocked", "db", "total"]);
    assert!(entries[0].1 > 0.0 && entries[0].1 <= entries[4].1, "{timing}");
}

/// X6: an unknown path, a wrong method and a method that nobody knows are answered, and make no classes of their own.
#[runtime::test(paused)]
async fn x6_what_is_unknown_has_a_bounded_class() {
    let app = Router::new().route("/known/{id}", on_get(async || "here"));
    let server = Server::start(app).await;
    for (request, expected, class) in [
        ("GET /nowhere/1", 404, "GET (unmatched)"),
        ("GET /nowhere/2", 404, "GET (unmatched)"),
        ("POST /known/1", 405, "POST /known/{id}"),
        ("BREW /known/1", 405, "(method) /known/{id}"),
        ("BREW /coffee", 404, "(method) (unmatched)"),
        ("HEAD /known/1", 200, "HEAD /known/{id}"),
    ] {
        let request = format!("{request} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
        assert_eq!(status(&server.ask(&request).await), expected, "{request}");
        let line = server.lines().pop().unwrap();
        assert_eq!((line.context.class(), line.status), (class, expected));
        assert_eq!(line.outcome, Outcome::Sent, "{line}");
    }
}

#[runtime::test(paused)]
async fn a_connection_serves_many_requests_in_their_own_contexts() {
    let app = Router::new().route(
        "/{n}",
        on_get(async |Path(n): Path<String>, request: Request| {
            let peer = request.extensions().get::<Peer>().unwrap().addr().unwrap();
            assert!(peer.ip().is_loopback());
            n
        }),
    );
    let server = Server::start(app).await;
    let mut client = server.connect().await;
    for n in ["1", "2"] {
        client.send(&get(&format!("/{n}"))).await;
        assert!(client.answer().await.ends_with(n));
    }
    // Pipelined: answered in order.
    client.send(&[get("/3"), get("/4"), get("/5")].concat()).await;
    for n in ["3", "4", "5"] {
        assert!(client.answer().await.ends_with(n));
    }
    server.settle().await;
    let lines = server.lines();
    assert_eq!(lines.len(), 5);
    assert!(lines.windows(2).all(|pair| pair[0].context.id() < pair[1].context.id()));
    let counts = server.stats.read();
    assert_eq!((counts.accepted, counts.open, counts.requests), (1, 1, 5));
    // Idle, the connection pins none of them.
    drop(lines);
    server.lines.lock().unwrap().clear();
    assert!(!context::live().iter().any(|live| live.class == "GET /{n}"));
}

/// Says in which context it is polled and dropped, and gives so many pieces.
struct Pieces {
    left: usize,
    size: usize,
    seen: Arc<Mutex<Vec<&'static str>>>,
}

impl Pieces {
    fn see(&self) {
        self.seen.lock().unwrap().push(Context::current().class());
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.see();
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(vec![b'x'; self.size].into()))))
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.see();
    }
}

fn streaming(left: usize, size: usize) -> (Router, Arc<Mutex<Vec<&'static str>>>) {
    let seen: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let kept = seen.clone();
    let app = Router::new()
        .route("/stream", on_get(async move || Body::new(Pieces { left, size, seen: kept.clone() })));
    (app, seen)
}

#[runtime::test(paused)]
async fn the_body_is_billed_to_its_request() {
    let (app, seen) = streaming(3, 1_000);
    let server = Server::start(app).await;
    let answer = server.ask(&get_once("/stream")).await;
    assert!(answer.contains("transfer-encoding: chunked"), "{answer}");
    assert_eq!(*seen.lock().unwrap(), ["GET /stream"; 5], "polled four times, dropped once");
    let line = server.line();
    assert_eq!((line.bytes, line.outcome), (3_000, Outcome::Sent));
}

/// X1: the client goes away, the handler is cancelled and dropped at once, in its own context, and the line says 499.
/// X4: the context is finished.
#[runtime::test(paused)]
async fn x1_x4_a_client_that_goes_away_cancels_its_request() {
    let drops = Drops::default();
    let watching = drops.clone();
    let app = Router::new().route(
        "/wait",
        on_get(async move || {
            let _watched = watching.watch();
            std::future::pending::<()>().await;
        }),
    );
    let server = Server::start(app).await;
    let mut client = server.connect().await;
    client.send(&get("/wait")).await;
    server.settle().await;
    assert_eq!(server.stats.read().requests, 1);
    drop(client);
    server.settle().await;
    drops.assert(&[("GET /wait", Some(Reason::Disconnected))]);
    let line = server.line();
    assert_eq!((line.status, line.sent_status, line.outcome), (499, None, Outcome::ClientGone));
    assert!(line.to_string().ends_with(" (client gone)"), "{line}");
    assert!(line.context.is_finished());
    assert_eq!(server.stats.read().open, 0);
}

/// X2, V5: what a handler shields runs to its end when the client goes away, in the request's context. The line waits for it,
/// and has its cost.
#[runtime::test(paused)]
async fn x2_v5_the_line_waits_for_shielded_work() {
    let done: Arc<Mutex<Vec<(&'static str, bool)>>> = Arc::default();
    let kept = done.clone();
    let app = Router::new().route(
        "/store",
        on_get(async move || {
            let kept = kept.clone();
            let work = async move {
                sleep(Duration::from_secs(1)).await;
                runtime::spawn_blocking(|| ()).await.unwrap();
                let context = Context::current();
                kept.lock().unwrap().push((context.class(), context.is_finished()));
            };
            runtime::shield(work).await;
        }),
    );
    let server = Server::start(app).await;
    let mut client = server.connect().await;
    client.send(&get("/store")).await;
    server.settle().await;
    drop(client);
    server.settle().await;
    assert_eq!((server.lines().len(), server.stats.read().open), (0, 0));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(*done.lock().unwrap(), [("GET /store", false)]);
    let line = server.line();
    assert_eq!((line.status, line.outcome, line.usage.blocking.jobs), (499, Outcome::ClientGone, 1));
    assert!(line.context.is_finished());
    assert_eq!(line.usage, line.context.usage());
}

/// What they do then is late, and reported: they have outlived their request.
#[runtime::test(paused, allow_reports)]
async fn children_of_a_lost_request_hear_of_it() {
    let ended: Arc<Mutex<Vec<Reason>>> = Arc::default();
    let kept = ended.clone();
    let app = Router::new().route(
        "/parts",
        on_get(async move || {
            let kept = kept.clone();
            let part = async move {
                if let Err(cancelled) = std::future::pending::<()>().cancellable().await {
                    kept.lock().unwrap().push(cancelled.reason());
                }
            };
            let child = Context::current().child("part");
            drop(runtime::spawn_in(&child, part).await);
        }),
    );
    let server = Server::start(app).await;
    let mut client = server.connect().await;
    client.send(&get("/parts")).await;
    server.settle().await;
    drop(client);
    server.settle().await;
    assert_eq!(*ended.lock().unwrap(), [Reason::Disconnected]);
}

/// The answer is larger than what the kernel takes: the client leaves in the middle.
#[runtime::test(paused)]
async fn a_client_that_leaves_in_the_middle_of_the_body_is_seen() {
    for (pieces, size) in [(1_000, 64 * 1024), (1, 64 * 1024 * 1024)] {
        let (app, seen) = streaming(pieces, size);
        let server = Server::start(app).await;
        let mut client = server.connect().await;
        client.send(&get("/stream")).await;
        let mut text = String::new();
        client.read_into(&mut text, 1_000).await;
        drop(client);
        server.settle().await;
        let line = server.line();
        assert_eq!((line.status, line.sent_status, line.outcome), (499, Some(200), Outcome::ClientGone));
        assert!(line.to_string().ends_with(" (client gone after 200)"), "{line}");
        assert_eq!(line.context.cancel_reason(), Some(Reason::Disconnected));
        assert_eq!(seen.lock().unwrap().last(), Some(&"GET /stream"));
    }
}
