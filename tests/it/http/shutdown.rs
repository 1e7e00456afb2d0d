//! The end of a server.

use super::{Client, Drops, Server, get, get_once, status};
use axum::Router;
use axum::routing::get as on_get;
use context::Reason;
use runtime::http::{Outcome, Readiness};
use runtime::net::TcpStream;
use runtime::time::{Instant, sleep};
use std::io::Write;
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
    assert_eq!(idle.rest().await, "");
    assert!(TcpStream::connect(server.addr).await.is_err(), "the port is closed");
    assert!(begin.elapsed() < Duration::from_millis(10), "{:?}", begin.elapsed());
    // One that has just connected may be about to send its first request.
    assert_eq!(fresh.rest().await, "");
    assert!(begin.elapsed() < Duration::from_secs(1));

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

/// The kernel has accepted them, and their requests are there; the server has not seen them when it is told to end.
#[runtime::test(paused)]
async fn v8_connections_in_the_backlog_are_served() {
    let server = Server::start(slow()).await;
    server.settle().await;
    let mut kept = server.connect().await;
    kept.send(&get("/slow")).await;
    assert_eq!(status(&kept.answer().await), 200);
    // All at once: the loop does not run in between.
    let connect = |_| {
        let mut stream = std::net::TcpStream::connect(server.addr).unwrap();
        stream.write_all(get_once("/slow").as_bytes()).unwrap();
        stream
    };
    let streams: Vec<_> = (0..50).map(connect).collect();
    kept.send(&get("/slow")).await;
    server.stop.cancel(Reason::Custom("the test's signal"));
    for stream in streams {
        let mut client = Client { stream: TcpStream::from_std(stream).unwrap() };
        assert!(client.rest().await.ends_with("done"));
    }
    assert!(kept.rest().await.ends_with("done"));
    server.task.await.unwrap().unwrap();
    assert_eq!((server.stats.read().requests, server.stats.read().cut), (52, 0));
}

#[runtime::test(paused)]
async fn v8_a_server_is_not_ready_before_its_port_is_closed() {
    let readiness = Readiness::default();
    let server = Server::with(slow(), |serve| {
        serve.with_readiness(readiness.clone()).shutdown_delay(Duration::from_secs(1))
    })
    .await;
    server.settle().await;
    assert!(readiness.is_ready());
    server.stop.cancel(Reason::Custom("the test's signal"));
    server.settle().await;
    assert!(!readiness.is_ready());
    assert!(server.ask(&get_once("/slow")).await.ends_with("done"));
    assert!(TcpStream::connect(server.addr).await.is_err());
    server.task.await.unwrap().unwrap();
}

/// V6: a head that is not complete is not waited for until the end of the grace.
#[runtime::test(paused)]
async fn v6_half_a_head_does_not_hold_up_a_shutdown() {
    let server = Server::start(slow()).await;
    let mut half = server.connect().await;
    half.send("GET /slow HTTP/1.1\r\nhost:").await;
    let mut late = server.connect().await;
    late.send("GET /slow HTTP/1.1\r\nhost:").await;
    server.settle().await;
    server.stop.cancel(Reason::Custom("the test's signal"));
    let begin = Instant::now();
    sleep(Duration::from_millis(100)).await;
    late.send(" t\r\n\r\n").await;
    assert_eq!(half.rest().await, "");
    assert!(begin.elapsed() < Duration::from_secs(1));
    assert!(late.rest().await.ends_with("done"));
    server.task.await.unwrap().unwrap();
    assert_eq!((server.stats.read().header_timeouts, server.stats.read().cut), (1, 0));
}
