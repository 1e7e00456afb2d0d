//! A tower service as hyper wants it: one that always answers.

use super::answer::Answer;
use super::body::Body;
use super::panics::{self, Panicked};
use super::peer::Peer;
use super::serve::Limits;
use super::server::LOG_TARGET;
use super::stats::{Count, Stats};
use context::Context as Paying;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};
use pin_project_lite::pin_project;
use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tower_service::Service;

type BoxError = Box<dyn Error + Send + Sync>;

/// The service of one connection. Each request gets a clone of its own, as tower's readiness asks for.
pub(super) struct Bridge<S> {
    pub(super) service: S,
    pub(super) peer: Peer,
    pub(super) limits: Limits,
    pub(super) stats: Stats,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Bridge<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = Response<Answer<B>>;
    type Error = Infallible;
    type Future = Oneshot<S>;

    fn call(&self, request: Request<Incoming>) -> Oneshot<S> {
        self.peer.link().begin_request(!request.body().is_end_stream());
        let (peer, stats) = (self.peer.clone(), self.stats.clone());
        if !has_valid_host(&request) {
            stats.add(Count::malformed);
            log::info!(target: LOG_TARGET, "{peer}: refused with 400: not one valid `Host`");
            return Oneshot { stage: Stage::Refused, peer, stats };
        }
        stats.add(Count::requests);
        let body = |incoming| Body::new(incoming, &self.limits, peer.clone(), stats.clone());
        let mut request = request.map(body);
        request.extensions_mut().insert(peer.clone());
        let stage = Stage::Waiting { service: self.service.clone(), request: Some(request) };
        Oneshot { stage, peer, stats }
    }
}

/// RFC 9112, 3.2: with HTTP/1.1 exactly one `Host`, with HTTP/1.0 none or one, and its value a host.
fn has_valid_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_host(host),
        (None, _) => request.version() != Version::HTTP_11,
        (Some(_), Some(_)) => false,
    }
}

/// Whether the value can be a host and a port: none of the bytes that end one or begin something else in a URI. It may be
/// empty, which is what a client sends that has no name for the server.
fn is_host(value: &HeaderValue) -> bool {
    let is_of_host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
    value.as_bytes().iter().all(is_of_host)
}

pin_project! {
    /// Waits until the service is ready, calls it, and answers in its place if it fails.
    pub(super) struct Oneshot<S: Service<Request<Body>>> {
        #[pin]
        stage: Stage<S>,
        peer: Peer,
        stats: Stats,
    }
}

pin_project! {
    #[project = StageProjection]
    enum Stage<S: Service<Request<Body>>> {
        Refused,
        Waiting { service: S, request: Option<Request<Body>> },
        Running { #[pin] response: S::Future },
        Done,
    }
}

impl<S, B> Future for Oneshot<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<Response<Answer<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let link = this.peer.link();
        let drop_work = || drop_stage(|| this.stage.as_mut().set(Stage::Done));
        if link.end_late(drop_work) {
            this.stats.add(Count::request_timeouts);
            let answer = Answer::instead(
                StatusCode::SERVICE_UNAVAILABLE,
                "the answer took too long\n",
                true,
                this.peer,
            );
            return Poll::Ready(Ok(answer));
        }
        let polled = match this.stage.as_mut().project() {
            StageProjection::Refused => {
                let text = "one `Host` is needed\n";
                return Poll::Ready(Ok(Answer::instead(StatusCode::BAD_REQUEST, text, true, this.peer)));
            }
            StageProjection::Waiting { .. } if !link.take_turn() => {
                // This poll of the connection has begun a request already: others come first.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            _ => panics::catch(|| poll_service(this.stage.as_mut(), cx)),
        };
        let result = match polled {
            Ok(poll) => Ok(ready!(poll)),
            Err(panic) => Err(panic),
        };
        drop_stage(|| this.stage.as_mut().set(Stage::Done));
        Poll::Ready(Ok(answer(result, this.peer, this.stats)))
    }
}

fn poll_service<S: Service<Request<Body>>>(
    mut stage: Pin<&mut Stage<S>>,
    cx: &mut Context<'_>,
) -> Poll<Result<S::Response, S::Error>> {
    loop {
        let response = match stage.as_mut().project() {
            StageProjection::Running { response } => return response.poll(cx),
            StageProjection::Waiting { service, request } => {
                ready!(service.poll_ready(cx))?;
                let request = request.take().expect("it is taken once");
                service.call(request)
            }
            StageProjection::Refused | StageProjection::Done => {
                unreachable!("a request is answered once")
            }
        };
        stage.set(Stage::Running { response });
    }
}

/// Drops what a service has left, whose destructors may panic.
fn drop_stage(drop_it: impl FnOnce()) {
    if let Err(panic) = panics::catch(drop_it) {
        panic.report(&Paying::current(), Location::caller());
    }
}

fn answer<B, E: Into<BoxError>>(
    result: Result<Result<Response<B>, E>, Panicked>,
    peer: &Peer,
    stats: &Stats,
) -> Response<Answer<B>> {
    match result {
        Ok(Ok(mut response)) => {
            if let Some(exact) = peer.link().status_instead_of(response.status()) {
                *response.status_mut() = exact;
            }
            Answer::of_service(response, peer)
        }
        Ok(Err(error)) => {
            log::error!(target: LOG_TARGET, "{peer}: the service failed: {}", error.into());
            stats.add(Count::failures);
            Answer::instead(StatusCode::INTERNAL_SERVER_ERROR, "", false, peer)
        }
        Err(panic) => {
            panic.report(&Paying::current(), Location::caller());
            stats.add(Count::failures);
            Answer::instead(StatusCode::INTERNAL_SERVER_ERROR, "", false, peer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v3_one_valid_host_is_needed() {
        let has = |version, hosts: &[&'static str]| {
            let mut request = Request::builder().version(version);
            for host in hosts {
                request = request.header("host", *host);
            }
            has_valid_host(&request.body(()).unwrap())
        };
        for host in ["x", "example.com:8080", "[::1]:80", "", "10.0.0.1", "a_b"] {
            assert!(has(Version::HTTP_11, &[host]), "{host}");
        }
        for host in ["a b", "a/b", "user@host", "a?b", "a#b", "a\"b"] {
            assert!(!has(Version::HTTP_11, &[host]), "{host}");
        }
        assert!(!has(Version::HTTP_11, &[]));
        assert!(!has(Version::HTTP_11, &["x", "x"]));
        assert!(!has(Version::HTTP_10, &["x", "y"]));
        assert!(has(Version::HTTP_10, &[]));
    }
}
