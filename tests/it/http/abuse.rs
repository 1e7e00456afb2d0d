//! Bad input: everything is bounded, answered where HTTP has an answer, and counted.

use super::{Server, get, get_once, status};
use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::routing::{get as on_get, post};
use runtime::http::Outcome;
use runtime::time::Instant;
use std::time::Duration;

fn hello() -> Router {
    Router::new().route("/", on_get(async || "hello"))
}

#[runtime::test(paused)]
async fn what_is_not_http_is_answered_and_counted() {
    let server = Server::start(hello()).await;
    for garbage in [
        "\x16\x03\x01\x02\x00 this is TLS\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\ncontent-length: many\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let answer = server.ask(garbage).await;
        assert!(answer.is_empty() || status(&answer) == 400, "{garbage:?}: {answer}");
    }
    let counts = server.stats.read();
    assert_eq!((counts.malformed, counts.requests, counts.open), (6, 0, 0));
    assert!(server.ask(&get_once("/")).await.ends_with("hello"));
}

#[runtime::test(paused)]
async fn a_head_that_is_too_large_is_refused() {
    let server = Server::with(hello(), |serve| serve.max_header_bytes(8 * 1024).max_headers(10)).await;
    let large = format!("GET / HTTP/1.1\r\nhost: t\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(status(&server.ask(&large).await), 431);
    let many = format!("GET / HTTP/1.1\r\nhost: t\r\n{}\r\n", "x: y\r\n".repeat(11));
    assert_eq!(status(&server.ask(&many).await), 431);
    let long = get(&format!("/{}", "x".repeat(70_000)));
    assert!([414, 431].contains(&status(&server.ask(&long).await)));
    server.settle().await;
    let counts = server.stats.read();
    assert_eq!((counts.head_too_large, counts.requests, counts.open), (3, 0, 0));
}

#[runtime::test(paused)]
async fn a_head_that_comes_too_slowly_is_given_up() {
    let server = Server::with(hello(), |serve| {
        serve.header_read_timeout(Duration::from_secs(10)).idle_timeout(Duration::from_secs(10))
    })
    .await;
    let begin = Instant::now();
    let mut slow = server.connect().await;
    slow.send("GET / HTTP/1.1\r\nhost:").await;
    assert_eq!(slow.rest().await, "");
    let waited = begin.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&waited), "{waited:?}");

    // An idle connection, after its first request, is closed as well.
    let mut idle = server.connect().await;
    idle.send(&get("/")).await;
    assert!(idle.answer().await.ends_with("hello"));
    assert_eq!(idle.rest().await, "");
    let counts = server.stats.read();
    assert_eq!((counts.header_timeouts, counts.idle_timeouts, counts.open), (1, 1, 0));
}

/// X6, V3: a body longer or shorter than it says. The handler gives the status 400 to all that it does not know.
#[runtime::test(paused)]
async fn x6_v3_bodies_are_bounded_in_size_and_time() {
    let app = Router::new().route(
        "/",
        post(async |body: Body| match axum::body::to_bytes(body, usize::MAX).await {
            Ok(bytes) => (StatusCode::OK, bytes.len().to_string()),
            Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
        }),
    );
    let server = Server::with(app, |serve| serve.max_body(1_000).stall_timeout(Duration::from_secs(5))).await;
    let post = |length: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nhost: t\r\nconnection: close\r\n{length}\r\n\r\n{body}")
    };
    let fits = server.ask(&post("content-length: 5", "12345")).await;
    assert!(fits.ends_with("\r\n\r\n5"), "{fits}");
    let announced = server.ask(&post("content-length: 1001", "")).await;
    assert!(announced.ends_with("the body is larger than 1000 bytes"), "{announced}");
    let chunks = format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001));
    let chunked = server.ask(&post("transfer-encoding: chunked", &chunks)).await;
    assert!(chunked.ends_with("the body is larger than 1000 bytes"), "{chunked}");
    let stalled = server.ask(&post("content-length: 10", "half")).await;
    assert!(stalled.ends_with("nothing of the body came for 5s"), "{stalled}");
    server.settle().await;
    let counts = server.stats.read();
    assert_eq!((counts.body_too_large, counts.stalls, counts.open), (2, 1, 0));
    let statuses: Vec<u16> = server.lines().iter().map(|line| line.status).collect();
    assert_eq!(statuses, [200, 413, 413, 408]);
}

#[runtime::test(paused)]
async fn a_client_that_does_not_read_is_given_up() {
    let app = Router::new().route("/", on_get(async || vec![b'x'; 64 * 1024 * 1024]));
    let server = Server::with(app, |serve| serve.stall_timeout(Duration::from_secs(5))).await;
    let begin = Instant::now();
    let mut client = server.connect().await;
    client.send(&get("/")).await;
    runtime::time::sleep(Duration::from_secs(20)).await;
    assert!(begin.elapsed() >= Duration::from_secs(20));
    let line = server.line();
    assert_eq!((line.status, line.sent_status, line.outcome), (499, Some(200), Outcome::ClientGone));
    let counts = server.stats.read();
    assert_eq!((counts.stalls, counts.open), (1, 0));
}

#[runtime::test(paused)]
async fn connections_above_the_limit_wait() {
    let server = Server::with(hello(), |serve| serve.max_connections(2)).await;
    let first = server.connect().await;
    let _second = server.connect().await;
    let mut third = server.connect().await;
    third.send(&get_once("/")).await;
    server.settle().await;
    let counts = server.stats.read();
    assert_eq!((counts.accepted, counts.requests, counts.full), (2, 0, 1));
    drop(first);
    assert!(third.rest().await.ends_with("hello"));
}
