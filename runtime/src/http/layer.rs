//! A context for every request: a tower layer.

use super::line::{Bill, Report, RequestLine, log_line};
use super::peer::Peer;
use super::response::ResponseBody;
use bytes::Bytes;
use context::{Context, FutureExt, InContext};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use std::fmt::{self, Write};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, ready};
use std::time::Duration;
use tower_layer::Layer;
use tower_service::Service;

type Route = Arc<dyn for<'a> Fn(&'a Parts) -> Option<&'a str> + Send + Sync>;

/// Runs every request in a root context of its own, of class `METHOD /route/{pattern}`, and says what it cost.
///
/// The service's future and the response's body are polled and dropped in that context. It finishes when the answer
/// is written, or nobody wants it any more; its work is then cancelled with
/// [`Reason::Disconnected`](context::Reason::Disconnected). At its end a [`RequestLine`] is logged (level `info`, target
/// `http::request`). The response gets a `Server-Timing` header with the cost up to then.
///
/// Classes become metric labels, so they are made of what the *program* knows: the pattern of a route, never the path a
/// client sends. Requests without a route are `GET (unmatched)`, methods that are not standard are `(method)`.
///
/// ```
/// use runtime::http::ContextLayer;
///
/// // Some router that leaves the pattern in the extensions:
/// #[derive(Clone)]
/// struct Matched(&'static str);
///
/// let layer = ContextLayer::new().route_by(|parts| Some(parts.extensions.get::<Matched>()?.0));
/// # let _ = layer;
/// ```
#[derive(Clone)]
pub struct ContextLayer {
    route: Route,
    report: Report,
}

impl ContextLayer {
    /// A layer that knows no routes: every request is `METHOD (unmatched)`.
    pub fn new() -> Self {
        Self { route: Arc::new(|_| None), report: Arc::new(log_line) }
    }

    /// How to find the pattern of the route that a request matched.
    pub fn route_by(
        mut self,
        route: impl for<'a> Fn(&'a Parts) -> Option<&'a str> + Send + Sync + 'static,
    ) -> Self {
        self.route = Arc::new(route);
        self
    }

    /// Calls `report` for each request that is over, in its context, instead of logging the line.
    ///
    /// It is called from destructors: it must not panic.
    pub fn report_to(mut self, report: impl Fn(&RequestLine) + Send + Sync + 'static) -> Self {
        self.report = Arc::new(report);
        self
    }
}

impl Default for ContextLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ContextLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextLayer").finish_non_exhaustive()
    }
}

impl<S> Layer<S> for ContextLayer {
    type Service = ContextService<S>;

    fn layer(&self, inner: S) -> ContextService<S> {
        ContextService { inner, layer: self.clone() }
    }
}

/// The service that [`ContextLayer`] makes.
#[derive(Clone, Debug)]
pub struct ContextService<S> {
    inner: S,
    layer: ContextLayer,
}

impl<S, A, B> Service<Request<A>> for ContextService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: http_body::Body<Data = Bytes>,
{
    type Response = Response<ResponseBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let context = Context::root(&class(&parts.method, (self.layer.route)(&parts)));
        let peer = parts.extensions.get::<Peer>().cloned();
        let is_head = parts.method == Method::HEAD;
        let bill = Bill::open(context.clone(), peer, self.layer.report.clone());
        let request = Request::from_parts(parts, body);
        let future = {
            let _mark = MarkPanic(&bill);
            context.scope(|| self.inner.call(request))
        };
        ResponseFuture { inner: Some(future.in_context(context)), bill: Some(bill), is_head }
    }
}

/// `METHOD /route/{pattern}`, of bounded cardinality.
fn class(method: &Method, route: Option<&str>) -> String {
    const STANDARD: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ];
    let method = if STANDARD.contains(method) { method.as_str() } else { "(method)" };
    let route = route.unwrap_or("(unmatched)");
    let mut class = String::with_capacity(method.len() + 1 + route.len());
    class.push_str(method);
    class.push(' ');
    class.push_str(route);
    class
}

pin_project! {
    /// The future of [`ContextService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Option<InContext<F>>,
        // Empty once there is a response.
        bill: Option<Arc<Bill>>,
        is_head: bool,
    }

    impl<F> PinnedDrop for ResponseFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Some(bill) = this.bill.take() {
                // Its work hears why before it is dropped, in its context; then the request is over.
                bill.abandon();
                this.inner.set(None);
            }
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: http_body::Body<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let (Some(inner), Some(bill)) = (this.inner.as_mut().as_pin_mut(), this.bill.as_ref()) else {
            panic!("`ResponseFuture` polled after completion")
        };
        let output = {
            let _mark = MarkPanic(bill);
            ready!(inner.poll(cx))
        };
        this.inner.set(None);
        let Some(bill) = this.bill.take() else { unreachable!("it was there above") };
        Poll::Ready(match output {
            Ok(response) => Ok(billed(response, bill, *this.is_head)),
            Err(error) => {
                bill.failed();
                Err(error)
            }
        })
    }
}

/// Notes that the handler panicked, if it unwinds through here.
struct MarkPanic<'a>(&'a Bill);

impl Drop for MarkPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panicked();
        }
    }
}

fn billed<B>(mut response: Response<B>, bill: Arc<Bill>, is_head: bool) -> Response<ResponseBody<B>>
where
    B: http_body::Body<Data = Bytes>,
{
    let status = response.status();
    bill.answer(status);
    if let Some(timing) = bill.context().scope(|| server_timing(bill.context())) {
        response.headers_mut().append(SERVER_TIMING, timing);
    }
    let bodyless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    let empty = is_head || bodyless || status.is_informational();
    response.map(|body| ResponseBody::new(body, bill, empty))
}

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What the request has cost up to here, in milliseconds, as browsers show it.
fn server_timing(context: &Context) -> Option<HeaderValue> {
    let usage = context.usage();
    let db = usage.db.waiting + usage.db.in_transaction;
    let entries = [
        ("cpu", usage.cpu),
        ("queued", usage.queued),
        ("blocked", usage.blocked),
        ("db", db),
        ("total", context.elapsed()),
    ];
    let mut text = String::with_capacity(96);
    for (name, duration) in entries {
        let separator = if text.is_empty() { "" } else { ", " };
        write!(text, "{separator}{name};dur={}", Millis(duration)).ok()?;
    }
    HeaderValue::try_from(text).ok()
}

struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0.as_micros();
        write!(f, "{}.{:03}", us / 1_000, us % 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_bounded_whatever_clients_send() {
        assert_eq!(class(&Method::GET, Some("/users/{id}")), "GET /users/{id}");
        assert_eq!(class(&Method::GET, None), "GET (unmatched)");
        let odd = Method::from_bytes(b"BREW").unwrap();
        assert_eq!(class(&odd, None), "(method) (unmatched)");
    }
}
