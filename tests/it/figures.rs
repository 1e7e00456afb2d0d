//! The figures that a program publishes, by value: the line of a request, its `Server-Timing` header, the books of the
//! example `service`. Each has a value of its own, so that two that change places show.

#[path = "../../examples/service/accounts.rs"]
mod accounts;

use crate::books::{on_manual_clock, pass};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::routing::get;
use context::{Clock, Context, Usage, harness};
use http_body::Body as _;
use runtime::Runtime;
use runtime::http::{ContextLayer, RequestLine};
use serde_json::{Value, json};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower_service::Service;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What no clock measures here.
fn charges() -> Usage {
    let mut usage = Usage::default();
    usage.queued = ms(20);
    usage.db.waiting = ms(40);
    usage.db.in_transaction = ms(500);
    usage.db.transactions = 3;
    usage.db.rows = 11;
    usage.blocking.queued = ms(60);
    usage.blocking.running = ms(80);
    usage.blocking.jobs = 7;
    usage
}

/// 1 ms of CPU and 30 ms off it, in the handler.
async fn handler() -> &'static str {
    Context::current().charge(charges());
    pass(1_000_000);
    harness::advance_manual_clock(0, 30_000_000);
    "seven b"
}

/// A request through the layer, to the end of its body.
async fn ask(app: &mut Router) -> Response<Body> {
    let request = Request::builder().uri("/x").body(Body::empty()).unwrap();
    let response = app.call(request).await.unwrap();
    // The layer has said what it has to say up to here; the rest of the request costs something else.
    pass(5_000_000);
    let (head, mut body) = response.into_parts();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        drop(frame.unwrap());
    }
    drop(body);
    Response::from_parts(head, Body::empty())
}

#[test]
fn the_line_and_the_timing_of_a_request_say_what_it_cost() {
    on_manual_clock(|| {
        let lines: Arc<Mutex<Vec<RequestLine>>> = Arc::default();
        let sink = lines.clone();
        let layer = ContextLayer::axum().report_to(move |line| sink.lock().unwrap().push(line.clone()));
        let mut app = Router::new().route("/x", get(handler)).layer(layer);
        let runtime = Runtime::builder().clock(Clock::Manual).build().unwrap();
        let response = runtime.block_on(ask(&mut app));
        let timing = response.headers()["server-timing"].to_str().unwrap();
        assert_eq!(
            timing,
            "cpu;dur=1.000, queued;dur=20.000, blocked;dur=30.000, db;dur=540.000, total;dur=31.000"
        );
        let line = lines.lock().unwrap().pop().unwrap();
        let name = line.context.name();
        assert_eq!(
            line.to_string(),
            format!(
                "- {name} 200 7B 36.000ms cpu=1.000ms queued=20.000ms blocked=30.000ms db=(40.000ms/500.000ms/3/11) \
                 blocking=(60.000ms/7)"
            )
        );
        assert_eq!((line.status, line.bytes, line.elapsed), (200, 7, ms(36)));
    });
}

/// Every account of the thread, and one class with a part, in the document that the service shows.
#[test]
fn the_books_of_the_service_say_what_was_charged() {
    on_manual_clock(|| {
        let frame = harness::enter_loop(Clock::Manual, None);
        // The loop: on the CPU, and parked.
        harness::advance_manual_clock(1, 1);
        harness::advance_manual_clock(0, 10);
        let request = Context::root("figures request");
        request.charge(charges());
        request.scope(|| harness::advance_manual_clock(100, 1_100));
        request.child("figures part").scope(|| pass(20_000));
        let late = Context::root("figures late");
        late.finish();
        pass(6);
        late.scope(|| pass(300_000));
        drop(frame);
        pass(4_000_000);
        let books = accounts::json();
        assert_eq!(
            [
                "thread_cpu_ns",
                "contexts_ns",
                "late_ns",
                "sentinel_ns",
                "runtime_ns",
                "correction_ns",
                "parked_ns"
            ]
            .map(|name| books[name].as_i64()),
            [4_320_107, 20_100, 300_000, 4_000_000, 7, 0, 10].map(Some)
        );
        assert_eq!(books["clock"], "manual");
        drop(request);
        let books = accounts::json();
        let class = |name: &str| {
            let mut classes = books["classes"].as_array().unwrap().iter();
            classes.find(|class| class["class"] == name).unwrap().clone()
        };
        let usage = |cpu_ns: u64| {
            json!({
                "cpu_ns": cpu_ns, "late_ns": 0, "queued_ns": 20_000_000, "blocked_ns": 1_000, "polls": 0,
                "db": {
                    "transactions": 3, "in_transaction_ns": 500_000_000, "waiting_ns": 40_000_000, "rows": 11,
                },
                "blocking": { "jobs": 7, "queued_ns": 60_000_000, "running_ns": 80_000_000 },
            })
        };
        let shown = class("figures request");
        assert_eq!((&shown["own"], &shown["total"]), (&usage(100), &usage(20_100)));
        assert_eq!((&shown["opened"], &shown["open"]), (&Value::from(1), &Value::from(0)));
        assert_eq!(class("figures late")["own"]["late_ns"], 300_000);
        assert_eq!(class("figures late")["own"]["cpu_ns"], 0);
        let reports = books["reports"].as_array().unwrap();
        let late = late.to_string();
        let report = reports.iter().find(|report| report["context"] == late.as_str()).unwrap();
        assert_eq!((&report["kind"], &report["count"]), (&Value::from("LateWork"), &Value::from(1)));
        let place = report["place"].as_str().unwrap();
        assert!(place.starts_with(concat!(file!(), ":")), "{place}");
    });
}
