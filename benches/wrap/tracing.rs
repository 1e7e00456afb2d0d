//! tracing: `Instrument`, under a `Registry`, which keeps spans and prints nothing.

use super::Wrap;
use crate::peer::Tokio;
use std::future::Future;
use std::sync::Once;
use tracing::{Instrument, Span, info_span};
use tracing_subscriber::Registry;

/// A span entered around each poll.
#[derive(Debug)]
pub struct TracingSpan;

static SUBSCRIBER: Once = Once::new();

impl Wrap for TracingSpan {
    const NAME: &'static str = "tracing `Instrument`";

    const ON_TOKIO: &'static str = "tokio + tracing span a task";

    type Host = Tokio;

    type Context = Span;

    fn context() -> Span {
        SUBSCRIBER.call_once(|| {
            tracing::subscriber::set_global_default(Registry::default()).expect("no other subscriber");
        });
        info_span!("task")
    }

    fn wrap<F>(span: Span, future: F) -> impl Future<Output = F::Output> + Send + 'static
    where
        F: Future + Send + 'static,
    {
        future.instrument(span)
    }
}
