//! A tower service as hyper wants it.

use super::body::Body;
use super::peer::Peer;
use super::serve::Limits;
use super::stats::{Count, Stats};
use http::Request;
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tower_service::Service;

/// The service of one connection. Each request gets a clone of its own, as tower's readiness asks for.
pub(super) struct Bridge<S> {
    pub(super) service: S,
    pub(super) peer: Peer,
    pub(super) limits: Limits,
    pub(super) stats: Stats,
}

impl<S> hyper::service::Service<Request<Incoming>> for Bridge<S>
where
    S: Service<Request<Body>> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Oneshot<S>;

    fn call(&self, request: Request<Incoming>) -> Oneshot<S> {
        self.stats.add(Count::requests);
        let Limits { body, stall, .. } = self.limits;
        let mut request = request.map(|incoming| Body::new(incoming, body, stall, self.stats.clone()));
        request.extensions_mut().insert(self.peer.clone());
        Oneshot::Waiting { service: self.service.clone(), request: Some(request) }
    }
}

pin_project! {
    /// Waits until the service is ready, then calls it.
    #[project = Stage]
    pub(super) enum Oneshot<S: Service<Request<Body>>> {
        Waiting { service: S, request: Option<Request<Body>> },
        Running { #[pin] response: S::Future },
    }
}

impl<S: Service<Request<Body>>> Future for Oneshot<S> {
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let response = match self.as_mut().project() {
                Stage::Running { response } => return response.poll(cx),
                Stage::Waiting { service, request } => {
                    ready!(service.poll_ready(cx))?;
                    let request = request.take().expect("`Oneshot` polled after a panic of its service");
                    service.call(request)
                }
            };
            self.set(Self::Running { response });
        }
    }
}
