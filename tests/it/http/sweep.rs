//! X3: a request, cut at each of its awaits in turn.

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use context::{Context, FutureExt, Reason};
use http_body::Body as _;
use runtime::http::{ContextLayer, Outcome, RequestLine};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context as Cx, Poll, Waker};
use tower_service::Service;

type Lines = Arc<Mutex<Vec<RequestLine>>>;
type Seen = Arc<Mutex<Vec<(String, Option<Reason>)>>>;

/// Says by its drop where it is dropped.
struct Witness(Seen);

impl Drop for Witness {
    fn drop(&mut self) {
        let context = Context::current();
        self.0.lock().unwrap().push((context.name().to_string(), context.cancel_reason()));
    }
}

async fn handler(seen: Seen) -> String {
    let _outer = Witness(seen.clone());
    runtime::yield_now().await;
    let part = async {
        let _inner = Witness(seen.clone());
        runtime::yield_now().await;
        runtime::yield_now().await;
    };
    part.in_context(Context::current().child("part")).await;
    let _last = Witness(seen);
    runtime::yield_now().await;
    "x".repeat(10)
}

/// Polls a request, then its body, so many times in all, and drops it. Whether it was over by then.
fn poll_up_to<E: std::fmt::Debug>(
    polls: usize,
    mut request: Pin<&mut impl Future<Output = Result<axum::http::Response<Body>, E>>>,
) -> bool {
    let mut cx = Cx::from_waker(Waker::noop());
    let mut body = None;
    for _ in 0..polls {
        match &mut body {
            None => match request.as_mut().poll(&mut cx) {
                Poll::Ready(response) => body = Some(response.unwrap().into_body()),
                Poll::Pending => {}
            },
            Some(body) => match Pin::new(body).poll_frame(&mut cx) {
                Poll::Ready(None) => return true,
                Poll::Ready(Some(frame)) => drop(frame.unwrap()),
                Poll::Pending => {}
            },
        }
    }
    body.is_some_and(|body| body.is_end_stream())
}

#[runtime::test(paused)]
async fn x3_a_request_may_be_cut_at_every_await() {
    // Unpolled, the router has not called anyone.
    let mut cut = 1;
    loop {
        let (lines, seen) = (Lines::default(), Seen::default());
        let (kept, shown) = (lines.clone(), seen.clone());
        let layer = ContextLayer::axum().report_to(move |line| kept.lock().unwrap().push(line.clone()));
        let mut app: Router =
            Router::new().route("/x", get(async move || handler(shown.clone()).await)).layer(layer);
        let (over, ended) = {
            let request = axum::http::Request::builder().uri("/x").body(Body::empty()).unwrap();
            let mut future = pin!(app.call(request));
            let over = poll_up_to(cut, future.as_mut());
            (over, seen.lock().unwrap().len())
        };
        assert!(Context::current().is_sentinel(), "cut after {cut} polls");
        let line = {
            let lines = lines.lock().unwrap();
            assert_eq!(lines.len(), 1, "cut after {cut} polls");
            lines[0].clone()
        };
        assert!(line.context.is_finished());
        let name = line.context.name().to_string();
        let seen = seen.lock().unwrap();
        assert!(ended == 3 || seen.len() > ended, "cut after {cut} polls, the handler was at work");
        for (at, (dropped_in, reason)) in seen.iter().enumerate() {
            assert!(
                *dropped_in == name || dropped_in.starts_with("part#"),
                "{dropped_in}, cut after {cut} polls"
            );
            // What had ended by itself before was not cut.
            assert_eq!(
                *reason,
                (at >= ended).then_some(Reason::Disconnected),
                "{dropped_in}, cut after {cut}"
            );
        }
        assert_eq!(line.outcome == Outcome::Sent, over);
        if over {
            break;
        }
        assert_eq!((line.status, line.context.cancel_reason()), (499, Some(Reason::Disconnected)));
        cut += 1;
    }
    assert!(cut >= 5, "{cut} awaits were seen");
}
