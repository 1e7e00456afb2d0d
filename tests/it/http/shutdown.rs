//! The end of a server.

use super::{Drops, Server, get};
use axum::Router;
use axum::routing::get as on_get;
use context::Reason;
use runtime::http::Outcome;
use runtime::net::TcpStream;
use runtime::time::{Instant, sleep};
use std::time::Duration;

fn slow() -> Router {
    Router::new().route(
        "/slow",
        on_get(async || {
            sleep(Duration::from_secs(3)).await;
            "done"
        }),
    )
}

#[runtime::test(paused)]
async fn a_graceful_shutdown_finishes_what_is_in_flight() {
    let server = Server::with(slow(), |serve| serve.grace(Duration::from_secs(10))).await;
    let mut busy = server.connect().await;
    busy.send(&get("/slow")).await;
    let mut idle = server.connect().await;
    idle.send(&get("/slow")).await;
    assert!(idle.answer().await.ends_with("done"));
    let mut fresh = server.connect().await;
    busy.answer().await;
    busy.send(&get("/slow")).await;
    server.settle().await;

    server.stop.cancel(Reason::Custom("the test's signal"));
    let begin = Instant::now();
    assert_eq!((idle.rest().await, fresh.rest().await), (String::new(), String::new()));
    assert!(TcpStream::connect(server.addr).await.is_err(), "the port is closed");
    assert_eq!(begin.elapsed(), Duration::ZERO);

    let answer = busy.rest().await;
    assert!(answer.ends_with("done") && answer.contains("connection: close"), "{answer}");
    assert!(server.lines().iter().all(|line| line.outcome == Outcome::Sent));
    let counts = server.stats.read();
    assert_eq!((counts.requests, counts.open, counts.cut), (3, 0, 0));
    server.task.await.unwrap().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(4));
}

/// P20, as far as it is the server's: after the patience what is left is cancelled, and dropped in its own context.
#[runtime::test(paused)]
async fn p20_what_outlasts_the_grace_is_cut() {
    let drops = Drops::default();
    let watching = drops.clone();
    let app = Router::new().route(
        "/never",
        on_get(async move || {
            let _watched = watching.watch();
            std::future::pending::<()>().await;
        }),
    );
    let server = Server::with(app, |serve| serve.grace(Duration::from_secs(2))).await;
    let mut client = server.connect().await;
    client.send(&get("/never")).await;
    server.settle().await;
    let begin = Instant::now();
    server.stop.cancel(Reason::Custom("the test's signal"));
    assert_eq!(client.rest().await, "");
    server.task.await.unwrap().unwrap();
    let waited = begin.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(3)).contains(&waited), "{waited:?}");
    drops.assert(&[("GET /never", Some(Reason::Shutdown))]);
    let lines = server.lines.lock().unwrap();
    assert_eq!((lines[0].status, lines[0].outcome), (503, Outcome::ShutDown));
    assert!(lines[0].to_string().ends_with(" (shut down)"), "{}", lines[0]);
    assert_eq!((server.stats.read().cut, server.stats.read().open), (1, 0));
}
