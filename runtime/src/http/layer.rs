//! A context for every request: a tower layer.

use super::line::{Bill, Report, RequestLine};
use super::link::Link;
use super::panics::{self, Panicked, Place};
use super::peer::Peer;
use super::response::ResponseBody;
use bytes::{BufMut, Bytes, BytesMut};
use context::{Context, FutureExt, InContext};
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::Location;
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
/// [`Reason::Disconnected`](context::Reason::Disconnected). When the work that was begun for it has ended as well
/// (transactions, jobs, shields), a [`RequestLine`] is logged (level `info`, target `http::request`). The response gets a
/// `Server-Timing` header with the cost up to then.
///
/// A panic of a handler is reported at once, in the request's context, with its own place and message; the client gets
/// an empty answer with the status 500.
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
    /// The line that made it, for what has no better place.
    place: Place,
}

impl ContextLayer {
    /// A layer that knows no routes: every request is `METHOD (unmatched)`.
    #[track_caller]
    pub fn new() -> Self {
        panics::note_places();
        Self { route: Arc::new(|_| None), report: Report::Log, place: Location::caller() }
    }

    /// How to find the pattern of the route that a request matched.
    pub fn route_by(
        mut self,
        route: impl for<'a> Fn(&'a Parts) -> Option<&'a str> + Send + Sync + 'static,
    ) -> Self {
        self.route = Arc::new(route);
        self
    }

    /// Calls `report` for each request that is over, instead of logging the line. It is called when the context has finished,
    /// outside of it, so what it costs is not the request's.
    ///
    /// A panic in it is reported and stops there.
    pub fn report_to(mut self, report: impl Fn(&RequestLine) + Send + Sync + 'static) -> Self {
        self.report = Report::To(Arc::new(report));
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
    B::Error: Into<Box<dyn Error + Send + Sync>>,
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
        let place = self.layer.place;
        let (inner, panic) = match panics::catch(|| context.scope(|| self.inner.call(request))) {
            Ok(future) => (Some(Timed { inner: future, bill: bill.clone() }.in_context(context)), None),
            Err(panic) => (None, Some(panic)),
        };
        ResponseFuture { inner, panic, bill: Some(bill), is_head, place }
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
        inner: Option<InContext<Timed<F>>>,
        // The service panicked when it was called.
        panic: Option<Panicked>,
        // Empty once there is a response.
        bill: Option<Arc<Bill>>,
        is_head: bool,
        place: Place,
    }

    impl<F> PinnedDrop for ResponseFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Some(bill) = this.bill.take() {
                // Its work hears why before it is dropped, in its context; then the request is over.
                bill.abandon();
                drop_inner(&bill, || this.inner.set(None), this.place);
            }
        }
    }
}

/// Drops the work of a request, whose destructors may panic.
fn drop_inner(bill: &Bill, drop_it: impl FnOnce(), place: Place) {
    if let Err(panic) = panics::catch(drop_it) {
        panic.report(bill.context(), place);
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
        let Some(_) = this.bill else { panic!("`ResponseFuture` polled after completion") };
        let output = match (this.panic.take(), this.inner.as_mut().as_pin_mut()) {
            (None, Some(inner)) => match panics::catch(|| inner.poll(cx)) {
                Ok(poll) => Ok(ready!(poll)),
                Err(panic) => Err(panic),
            },
            (Some(panic), _) => Err(panic),
            (None, None) => unreachable!("it is there until the bill is taken"),
        };
        let Some(bill) = this.bill.take() else { unreachable!("it was there above") };
        if output.is_err() {
            bill.panicked();
        }
        drop_inner(&bill, || this.inner.set(None), this.place);
        Poll::Ready(match output {
            Ok(Ok(response)) => Ok(billed(response, bill, *this.is_head, this.place)),
            Ok(Err(error)) => {
                bill.failed();
                Err(error)
            }
            Err(panic) => {
                panic.report(bill.context(), this.place);
                Ok(after_panic(bill, this.place))
            }
        })
    }
}

/// The answer to a request whose handler panicked.
fn after_panic<B>(bill: Arc<Bill>, place: Place) -> Response<ResponseBody<B>> {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    bill.answer(status);
    bill.complete();
    let mut response = Response::new(ResponseBody::new(None, bill, None, place));
    *response.status_mut() = status;
    response
}

pin_project! {
    /// Says in the response what it has cost up to then. Within the request's context, which pays for that.
    struct Timed<F> {
        #[pin]
        inner: F,
        bill: Arc<Bill>,
    }
}

impl<F, B, E> Future for Timed<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        if let Some(timing) = server_timing(this.bill.context()) {
            response.headers_mut().append(SERVER_TIMING, timing);
        }
        Poll::Ready(Ok(response))
    }
}

fn billed<B>(
    mut response: Response<B>,
    bill: Arc<Bill>,
    is_head: bool,
    place: Place,
) -> Response<ResponseBody<B>>
where
    B: http_body::Body<Data = Bytes>,
{
    if let Some(exact) = bill.link().and_then(|link: &Link| link.status_instead_of(response.status())) {
        *response.status_mut() = exact;
    }
    let status = response.status();
    bill.answer(status);
    let bodyless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    let is_empty = is_head || bodyless || status.is_informational();
    let announced = announced(response.headers()).or_else(|| response.body().size_hint().exact());
    response.map(|body| {
        let left = announced.filter(|_| !is_empty);
        if is_empty || left == Some(0) || left.is_none() && body.is_end_stream() {
            bill.complete();
        }
        ResponseBody::new(Some(body), bill, left, place)
    })
}

/// The length of the body, if the head says one.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What the request has cost up to here, in milliseconds, as browsers show it.
fn server_timing(context: &Context) -> Option<HeaderValue> {
    let usage = context.usage();
    let db = usage.db.waiting + usage.db.in_transaction;
    let mut text = BytesMut::with_capacity(112);
    put_millis(&mut text, "cpu;dur=", usage.cpu);
    put_millis(&mut text, ", queued;dur=", usage.queued);
    put_millis(&mut text, ", blocked;dur=", usage.blocked);
    put_millis(&mut text, ", db;dur=", db);
    put_millis(&mut text, ", total;dur=", context.elapsed());
    HeaderValue::from_maybe_shared(text.freeze()).ok()
}

/// Appends `name` and milliseconds with three decimals. Not by `write!`, which takes thousands of instructions for five.
fn put_millis(text: &mut BytesMut, name: &str, duration: Duration) {
    let millis = duration.as_secs().saturating_mul(1_000).saturating_add(duration.subsec_millis().into());
    // Below 1,000, so with the 1 before it three more digits.
    let micros = 1_000 + duration.subsec_micros() % 1_000;
    text.put_slice(name.as_bytes());
    text.put_slice(itoa::Buffer::new().format(millis).as_bytes());
    text.put_u8(b'.');
    text.put_slice(&itoa::Buffer::new().format(micros).as_bytes()[1..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_have_three_decimals() {
        let shown = |duration| {
            let mut text = BytesMut::new();
            put_millis(&mut text, "cpu;dur=", duration);
            text
        };
        assert_eq!(shown(Duration::ZERO), "cpu;dur=0.000");
        assert_eq!(shown(Duration::from_nanos(1_042_999)), "cpu;dur=1.042");
        assert_eq!(shown(Duration::from_micros(61_234_567)), "cpu;dur=61234.567");
    }

    #[test]
    fn classes_are_bounded_whatever_clients_send() {
        assert_eq!(class(&Method::GET, Some("/users/{id}")), "GET /users/{id}");
        assert_eq!(class(&Method::GET, None), "GET (unmatched)");
        let odd = Method::from_bytes(b"BREW").unwrap();
        assert_eq!(class(&odd, None), "(method) (unmatched)");
    }
}
