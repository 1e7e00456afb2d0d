//! fastrace: `in_span`, with a reporter that takes the spans and drops them, so that they are recorded.

use super::Wrap;
use crate::peer::Tokio;
use fastrace::collector::{Config, Reporter, SpanRecord};
use fastrace::future::FutureExt;
use fastrace::{Span, prelude::SpanContext};
use std::future::Future;
use std::sync::Once;

/// A span that is the local parent during each poll.
#[derive(Debug)]
pub struct FastraceSpan;

static REPORTER: Once = Once::new();

struct Discard;

impl Reporter for Discard {
    fn report(&mut self, _: Vec<SpanRecord>) {}
}

impl Wrap for FastraceSpan {
    const NAME: &'static str = "fastrace `in_span`";

    const ON_TOKIO: &'static str = "tokio + fastrace span a task";

    type Host = Tokio;

    type Context = SpanContext;

    fn context() -> SpanContext {
        REPORTER.call_once(|| fastrace::set_reporter(Discard, Config::default()));
        SpanContext::random()
    }

    fn wrap<F>(parent: SpanContext, future: F) -> impl Future<Output = F::Output> + Send + 'static
    where
        F: Future + Send + 'static,
    {
        future.in_span(Span::root("task", parent))
    }
}
