//! Bursar's own: a context around each poll, charged.

use super::Wrap;
use crate::peer::Bursar;
use context::{Context, FutureExt};
use std::future::Future;

/// `future.in_context(other)`.
#[derive(Debug)]
pub struct InContext;

impl Wrap for InContext {
    const NAME: &'static str = "bursar";

    const ON_TOKIO: &'static str = "tokio + bursar's contexts";

    type Host = Bursar;

    type Context = Context;

    fn context() -> Context {
        Context::root("part")
    }

    fn wrap<F>(context: Context, future: F) -> impl Future<Output = F::Output> + Send + 'static
    where
        F: Future + Send + 'static,
    {
        future.in_context(context)
    }

    fn request<F>(future: F) -> impl Future<Output = F::Output> + Send + 'static
    where
        F: Future + Send + 'static,
    {
        Context::root("GET /x").run(future)
    }
}
