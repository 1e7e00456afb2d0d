//! What the log says is what the client got (P28).

use super::{Server, get, get_once, status};
use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_LENGTH;
use axum::response::IntoResponse;
use axum::routing::{get as on_get, post};
use bytes::Bytes;
use context::ReportKind;
use futures_lite::AsyncWriteExt;
use http_body::Frame;
use runtime::http::Outcome;
use runtime::time::{Sleep, sleep};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{self, Poll, ready};
use std::time::Duration;

/// So many bytes, each in a piece, of which the server is told neither the number nor that one is the last. Then `end`, after
/// a while if `pause` is there.
struct Streamed {
    left: usize,
    pause: Option<Sleep>,
    end: fn() -> Option<Result<Frame<Bytes>, io::Error>>,
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            if let Some(pause) = &mut self.pause {
                ready!(Pin::new(pause).poll(cx));
            }
            return Poll::Ready((self.end)());
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}

fn streamed(left: usize) -> Body {
    Body::new(Streamed { left, pause: None, end: || None })
}

fn announcing(length: &'static str, body: Body) -> axum::response::Response {
    ([(CONTENT_LENGTH, length)], body).into_response()
}

#[runtime::test(paused)]
async fn v1_p28_a_complete_answer_is_logged_as_sent() {
    let app = Router::new()
        .route("/announced", on_get(async || announcing("5", streamed(5))))
        .route("/chunked", on_get(async || streamed(5)))
        .route("/longer", on_get(async || announcing("5", streamed(9))))
        .route("/empty", on_get(async || ()))
        .route("/nothing", on_get(async || announcing("0", streamed(0))));
    let server = Server::start(app).await;
    for (path, bytes) in [("/announced", 5), ("/chunked", 5), ("/longer", 5), ("/empty", 0), ("/nothing", 0)]
    {
        let answer = server.ask(&get_once(path)).await;
        assert_eq!(status(&answer), 200, "{path}: {answer}");
        let line = server.lines().pop().unwrap();
        assert_eq!((line.status, line.outcome, line.bytes), (200, Outcome::Sent, bytes), "{path}: {line}");
        assert_eq!(line.context.cancel_reason(), None, "{path}");
        // To HEAD as well.
        let head = server.ask(&get_once(path).replace("GET", "HEAD")).await;
        assert_eq!(status(&head), 200, "{path}: {head}");
        let line = server.lines().pop().unwrap();
        assert_eq!((line.status, line.outcome, line.bytes), (200, Outcome::Sent, 0), "{path}: {line}");
    }
    assert_eq!(server.lines().len(), 10);
}

/// After a part of it was written, and before.
#[runtime::test(paused)]
async fn p28_an_answer_that_breaks_off_is_not_logged_as_sent() {
    let pause = || Some(sleep(Duration::from_secs(1)));
    let short = move |pause| announcing("9", Body::new(Streamed { left: 5, pause, end: || None }));
    let fails =
        |pause| Body::new(Streamed { left: 5, pause, end: || Some(Err(io::Error::other("as expected"))) });
    let app = Router::new()
        .route("/short/late", on_get(async move || short(pause())))
        .route("/fails/late", on_get(async move || fails(pause())))
        .route("/short", on_get(async move || short(None)))
        .route("/fails", on_get(async move || fails(None)));
    let server = Server::start(app).await;
    for (path, sent) in [("/short/late", true), ("/fails/late", true), ("/short", false), ("/fails", false)] {
        let answer = server.ask(&get_once(path)).await;
        assert_eq!(answer.starts_with("HTTP/1.1 200 "), sent, "{path}: {answer}");
        assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
        let line = server.lines().pop().unwrap();
        let (status, sent_status, bytes) = if sent { (200, Some(200), 5) } else { (500, None, 0) };
        assert_eq!((line.status, line.outcome), (status, Outcome::BodyFailed), "{path}: {line}");
        assert_eq!((line.sent_status, line.bytes), (sent_status, bytes), "{path}: {line}");
    }
}

/// It reads a part of a large answer, then goes: the line has the bytes that were written, of one piece as of many.
#[runtime::test(paused)]
async fn p28_bytes_are_those_that_were_written() {
    const LENGTH: usize = 64 * 1024 * 1024;
    let app = Router::new().route("/large", on_get(async || vec![b'x'; LENGTH]));
    let server = Server::start(app).await;
    let mut client = server.connect().await;
    client.send(&get("/large")).await;
    let mut text = String::new();
    client.read_into(&mut text, 100_000).await;
    drop(client);
    server.settle().await;
    let line = server.line();
    assert_eq!((line.status, line.sent_status, line.outcome), (499, Some(200), Outcome::ClientGone));
    assert!((100_000 - 1_000..LENGTH as u64).contains(&line.bytes), "{line}");
}

/// The report of a panic with this text.
#[track_caller]
fn report_of(text: &str) -> context::Report {
    let reports = context::sentinel::reports();
    let found = reports.into_iter().find(|report| report.detail == text);
    found.unwrap_or_else(|| panic!("no report of {text}"))
}

#[runtime::test(paused, allow_reports)]
async fn v2_a_panic_of_a_handler_is_answered_and_reported_at_once() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("v2: a destructor");
        }
    }
    let app = Router::new()
        .route("/first", on_get(async || -> &'static str { panic!("v2: the first kind") }))
        .route(
            "/second",
            on_get(async || -> &'static str {
                sleep(Duration::from_millis(5)).await;
                panic!("v2: the second kind")
            }),
        )
        .route(
            "/drop",
            on_get(async || {
                let _bomb = Bomb;
                std::future::pending::<()>().await;
            }),
        )
        .route("/fine", on_get(async || "fine"));
    let server = Server::start(app).await;
    let mut client = server.connect().await;
    for (path, text) in [("/first", "v2: the first kind"), ("/second", "v2: the second kind")] {
        client.send(&get(path)).await;
        assert_eq!(status(&client.answer().await), 500);
        let report = report_of(text);
        assert_eq!((report.kind, report.count), (ReportKind::UnhandledPanic, 1));
        assert!(report.context.starts_with(&format!("GET {path}#")), "{report}");
        assert!(report.place.file().ends_with("answers.rs"), "{report}");
        let line = server.lines().pop().unwrap();
        assert_eq!((line.status, line.sent_status, line.outcome), (500, Some(500), Outcome::Panicked));
        assert!(line.to_string().ends_with(" (panicked)"), "{line}");
    }
    assert_ne!(report_of("v2: the first kind").place, report_of("v2: the second kind").place);
    // The connection lives on.
    client.send(&get("/fine")).await;
    assert!(client.answer().await.ends_with("fine"));
    assert_eq!(server.stats.read().accepted, 1);

    client.send(&get("/drop")).await;
    server.settle().await;
    drop(client);
    server.settle().await;
    assert!(report_of("v2: a destructor").context.starts_with("GET /drop#"));
    assert_eq!(server.stats.read().open, 0);
}

#[runtime::test(paused, allow_reports)]
async fn v2_a_panic_of_a_body_is_reported_at_once() {
    let end = || panic!("v2: a body");
    let pause = || Some(sleep(Duration::from_secs(1)));
    let app = Router::new()
        .route("/body", on_get(async move || Body::new(Streamed { left: 2, pause: pause(), end })));
    let server = Server::start(app).await;
    let answer = server.ask(&get("/body")).await;
    assert!(status(&answer) == 200 && !answer.ends_with("0\r\n\r\n"), "{answer}");
    assert!(report_of("v2: a body").context.starts_with("GET /body#"));
    let line = server.line();
    assert_eq!((line.sent_status, line.outcome), (Some(200), Outcome::Panicked));
    assert!(line.to_string().ends_with(" (panicked after 200)"), "{line}");
    assert_eq!(server.stats.read().open, 0);
}

#[runtime::test(paused)]
async fn v3_bodies_that_are_too_large_get_413_by_whichever_limit() {
    let length = async |body: Bytes| body.len().to_string();
    let app = Router::new()
        .route("/default", post(length))
        .route("/small", post(length).layer(DefaultBodyLimit::max(10)))
        .route("/large", post(length).layer(DefaultBodyLimit::max(8 * 1024 * 1024)));
    let server = Server::with(app, |serve| serve.max_body(6 * 1024 * 1024)).await;
    let mebi = 1024 * 1024;
    for (path, size, expected) in [
        ("/default", mebi, 200),
        ("/default", 3 * mebi, 413),
        ("/small", 10, 200),
        ("/small", 11, 413),
        ("/large", 5 * mebi, 200),
        ("/large", 7 * mebi, 413),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: t\r\ncontent-length: {size}\r\n\r\n");
        // All of it is sent before the answer is read, as simple clients do.
        let mut client = server.connect().await;
        client.send(&head).await;
        client.send(&"x".repeat(size)).await;
        assert_eq!(status(&client.answer().await), expected, "{path} {size}");
        let line = server.lines().pop().unwrap();
        assert_eq!((line.status, line.outcome), (expected, Outcome::Sent), "{path} {size}");
    }
}

#[runtime::test(paused)]
async fn v3_a_missing_or_doubled_host_is_refused() {
    let server = Server::start(Router::new().route("/", on_get(async || "hello"))).await;
    for (hosts, expected) in
        [("", 400), ("host: a\r\nhost: b\r\n", 400), ("host: a/b\r\n", 400), ("host: a\r\n", 200)]
    {
        let answer = server.ask(&format!("GET / HTTP/1.1\r\n{hosts}connection: close\r\n\r\n")).await;
        assert_eq!(status(&answer), expected, "{hosts:?}");
    }
    assert_eq!(status(&server.ask("GET / HTTP/1.0\r\n\r\n").await), 200);
    let counts = server.stats.read();
    assert_eq!((counts.malformed, counts.requests, counts.open), (3, 2, 0));
}

/// V14: a client that closes its end with its request, and reads on.
#[runtime::test(paused)]
async fn v14_a_client_that_half_closes_gets_its_answer() {
    let app = Router::new().route(
        "/slow",
        on_get(async || {
            sleep(Duration::from_secs(1)).await;
            "done"
        }),
    );
    let app = app.route("/never", on_get(async || std::future::pending::<()>().await));
    let server = Server::start(app).await;
    let mut client = server.connect().await;
    client.send(&[get("/slow"), get("/slow")].concat()).await;
    client.stream.close().await.unwrap();
    let answers = client.rest().await;
    assert_eq!(answers.matches("done").count(), 2, "{answers}");
    assert!(server.lines().iter().all(|line| line.outcome == Outcome::Sent));
    assert_eq!((server.stats.read().open, server.stats.read().broken), (0, 0));

    // One that has gone at once cannot be told from that, but is not waited for long.
    let mut gone = server.connect().await;
    gone.send(&get("/never")).await;
    drop(gone);
    sleep(Duration::from_secs(3)).await;
    let line = server.lines().pop().unwrap();
    assert_eq!((line.status, line.outcome), (499, Outcome::ClientGone));
    assert_eq!(server.stats.read().open, 0);
}

/// V14: a client that sends many requests at once does not keep another one waiting.
#[runtime::test(paused)]
async fn v14_pipelining_is_fair() {
    let order: std::sync::Arc<std::sync::Mutex<Vec<String>>> = std::sync::Arc::default();
    let seen = order.clone();
    let app = Router::new().route(
        "/{client}",
        on_get(async move |axum::extract::Path(client): axum::extract::Path<String>| {
            seen.lock().unwrap().push(client);
        }),
    );
    let server = Server::start(app).await;
    let (mut many, mut one) = (server.connect().await, server.connect().await);
    server.settle().await;
    many.send(&get("/many").repeat(100)).await;
    one.send(&get("/one")).await;
    one.answer().await;
    for _ in 0..100 {
        many.answer().await;
    }
    let order = order.lock().unwrap();
    let at = order.iter().position(|client| client == "one").unwrap();
    assert!(at <= 3, "the one came after {at} of the many");
    assert_eq!(order.len(), 101);
}
