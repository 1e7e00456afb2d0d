//! Bursar, accounting and all.

use super::Peer;
use context::Context;
use std::future::Future;

/// This repository's runtime with its default settings: every poll is charged.
#[derive(Debug)]
pub struct Bursar;

impl Peer for Bursar {
    const NAME: &'static str = "bursar";

    type Context = Context;

    type Handle<T: Send + 'static> = runtime::JoinHandle<T>;

    type Error = runtime::JoinError;

    fn block_on<F: Future>(future: F) -> F::Output {
        runtime::Runtime::new().expect("a runtime").block_on(future)
    }

    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        runtime::spawn(future)
    }

    fn context() -> Context {
        Context::root("bench")
    }

    fn spawn_in<F>(context: &Context, future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        runtime::spawn_in(context, future)
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        runtime::yield_now()
    }
}
