//! OpenTelemetry: `with_context`, around each poll, of a context with one value. No span, no exporter.

use super::Wrap;
use crate::peer::Tokio;
use opentelemetry::Context;
use opentelemetry::context::FutureExt;
use std::future::Future;

/// A context attached around each poll.
#[derive(Debug)]
pub struct OtelContext;

#[derive(Debug)]
struct RequestId(#[expect(dead_code, reason = "what a context would carry")] u64);

impl Wrap for OtelContext {
    const NAME: &'static str = "OpenTelemetry `with_context`";

    const ON_TOKIO: &'static str = "tokio + OpenTelemetry context a task";

    type Host = Tokio;

    type Context = Context;

    fn context() -> Context {
        Context::new().with_value(RequestId(7))
    }

    fn wrap<F>(context: Context, future: F) -> impl Future<Output = F::Output> + Send + 'static
    where
        F: Future + Send + 'static,
    {
        future.with_context(context)
    }
}
