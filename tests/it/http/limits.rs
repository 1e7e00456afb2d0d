//! Limits on how long something may take, and on how many there may be: each is counted.

use super::{Drops, Server, get, get_once, status};
use axum::Router;
use axum::body::Body;
use axum::routing::{get as on_get, post};
use context::Reason;
use futures_lite::AsyncReadExt;
use runtime::http::Outcome;
use runtime::time::{Instant, sleep};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn hello() -> Router {
    Router::new().route("/", on_get(async || "hello"))
}

#[runtime::test(paused)]
async fn v11_a_handler_that_takes_too_long_is_given_up() {
    let drops = Drops::default();
    let watching = drops.clone();
    let app = Router::new().route(
        "/never",
        on_get(async move || {
            let _watched = watching.watch();
            std::future::pending::<()>().await;
        }),
    );
    let server = Server::with(app, |serve| serve.request_timeout(5 * SECOND)).await;
    let begin = Instant::now();
    let answer = server.ask(&get("/never")).await;
    assert_eq!(status(&answer), 503, "{answer}");
    assert!((5 * SECOND..6 * SECOND).contains(&begin.elapsed()));
    drops.assert(&[("GET /never", Some(Reason::Deadline))]);
    let line = server.line();
    assert_eq!((line.status, line.outcome), (503, Outcome::TimedOut));
    assert!(line.to_string().ends_with(" (timed out)"), "{line}");
    assert_eq!((server.stats.read().request_timeouts, server.stats.read().open), (1, 0));
}

fn upload() -> Router {
    let length = async |body: Body| match axum::body::to_bytes(body, usize::MAX).await {
        Ok(bytes) => Ok(bytes.len().to_string()),
        Err(error) => Err((axum::http::StatusCode::BAD_REQUEST, error.to_string())),
    };
    Router::new().route("/", post(length))
}

/// A body that takes long but moves is none of the handler's time.
#[runtime::test(paused)]
async fn v11_a_body_may_take_long_but_must_move() {
    let server = Server::with(upload(), |serve| serve.request_timeout(5 * SECOND).min_rate(1_000)).await;
    let head =
        |size| format!("POST / HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n");
    let mut steady = server.connect().await;
    steady.send(&head(100_000)).await;
    for _ in 0..50 {
        sleep(SECOND).await;
        steady.send(&"x".repeat(2_000)).await;
    }
    assert!(steady.rest().await.ends_with("\r\n\r\n100000"));

    let mut dribbling = server.connect().await;
    dribbling.send(&head(100_000)).await;
    let begin = Instant::now();
    for _ in 0..6 {
        dribbling.send("x").await;
        sleep(2 * SECOND).await;
    }
    let answer = dribbling.rest().await;
    assert_eq!(status(&answer), 408, "{answer}");
    assert!(begin.elapsed() < 20 * SECOND);
    assert_eq!(server.lines().pop().unwrap().status, 408);
    server.settle().await;
    let counts = server.stats.read();
    assert_eq!((counts.too_slow, counts.stalls, counts.request_timeouts, counts.open), (1, 0, 0, 0));
}

/// It reads, but so little that its answer would take days.
#[runtime::test(paused)]
async fn v11_an_answer_must_be_read_at_a_rate() {
    let app = Router::new().route("/", on_get(async || vec![b'x'; 64 * 1024 * 1024]));
    let server = Server::start(app).await;
    let mut client = server.connect().await;
    client.send(&get("/")).await;
    let begin = Instant::now();
    let mut some = [0; 100];
    while server.lines().is_empty() && begin.elapsed() < 300 * SECOND {
        client.stream.read_exact(&mut some).await.unwrap();
        sleep(2 * SECOND).await;
    }
    let line = server.line();
    assert_eq!((line.status, line.outcome), (499, Outcome::ClientGone));
    let counts = server.stats.read();
    assert_eq!((counts.too_slow + counts.stalls, counts.open), (1, 0));
}

#[runtime::test(paused)]
async fn v11_the_time_for_a_head_is_apart_from_idle_time() {
    let server =
        Server::with(hello(), |serve| serve.header_read_timeout(5 * SECOND).idle_timeout(60 * SECOND)).await;
    let mut client = server.connect().await;
    sleep(50 * SECOND).await;
    client.send(&get("/")).await;
    assert!(client.answer().await.ends_with("hello"));
    sleep(50 * SECOND).await;
    client.send("GET / HT").await;
    let begin = Instant::now();
    sleep(3 * SECOND).await;
    client.send("TP/1.1\r\n").await;
    assert_eq!(client.rest().await, "");
    assert!((5 * SECOND..6 * SECOND).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    let counts = server.stats.read();
    assert_eq!((counts.header_timeouts, counts.open), (1, 0));
}

/// Idle connections at the limit do not lock others out; busy ones are not touched.
#[runtime::test(paused)]
async fn v11_idle_connections_make_room() {
    let app = hello().route(
        "/slow",
        on_get(async || {
            sleep(10 * SECOND).await;
            "done"
        }),
    );
    let server = Server::with(app, |serve| serve.max_connections(3)).await;
    let mut busy = server.connect().await;
    busy.send(&get_once("/slow")).await;
    let mut fresh = server.connect().await;
    let mut kept = server.connect().await;
    sleep(SECOND).await;
    kept.send(&get("/")).await;
    assert!(kept.answer().await.ends_with("hello"));
    for _ in 0..2 {
        let begin = Instant::now();
        assert!(server.ask(&get_once("/")).await.ends_with("hello"));
        assert!(begin.elapsed() <= SECOND, "{:?}", begin.elapsed());
    }
    // The one that was idle for longest has left, and its place was enough.
    assert_eq!(fresh.rest().await, "");
    kept.send(&get("/")).await;
    assert!(kept.answer().await.ends_with("hello"));
    assert!(busy.rest().await.ends_with("done"));
    let counts = server.stats.read();
    assert_eq!((counts.evicted, counts.cut), (1, 0));
}

/// A client that reads slowly but steadily gets all of a large answer, whatever the limits on idle connections.
#[runtime::test(paused)]
async fn v11_a_long_download_is_not_idle() {
    const LENGTH: usize = 32 * 1024 * 1024;
    let app = Router::new().route("/", on_get(async || vec![b'x'; LENGTH]));
    let server = Server::with(app, |serve| serve.idle_timeout(SECOND).request_timeout(SECOND)).await;
    let mut client = server.connect().await;
    client.send(&get_once("/")).await;
    let (mut read, mut some) = (0, vec![0; 1024 * 1024]);
    loop {
        match client.stream.read(&mut some).await.unwrap() {
            0 => break,
            bytes => read += bytes,
        }
        sleep(SECOND).await;
    }
    assert!(read > LENGTH, "{read}");
    assert_eq!(server.line().outcome, Outcome::Sent);
    assert_eq!(server.stats.read().idle_timeouts, 0);
}
