//! tokio, `current_thread` and `tokio::spawn`, nothing else on: the baseline.

use super::Peer;
use std::future::Future;

/// tokio's single-threaded runtime as most people build it.
#[derive(Debug)]
pub struct Tokio;

impl Peer for Tokio {
    const NAME: &'static str = "tokio";

    type Context = ();

    type Handle<T: Send + 'static> = tokio::task::JoinHandle<T>;

    type Error = tokio::task::JoinError;

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(future)
    }

    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(future)
    }

    fn context() {}

    fn spawn_in<F>(_: &(), future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Self::spawn(future)
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        tokio::task::yield_now()
    }
}
