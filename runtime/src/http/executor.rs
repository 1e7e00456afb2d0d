//! hyper's tasks on this runtime.

use crate::spawn;
use context::Context;
use std::future::Future;

/// Spawns what hyper wants to have run beside a connection (HTTP/2 streams, the drivers of clients). The futures need not
/// be `Send`.
///
/// ```
/// use hyper::rt::Executor as _;
/// use runtime::http::Executor;
///
/// # fn main() -> std::io::Result<()> {
/// # runtime::Runtime::new()?.block_on(async {
/// // The driver of a pooled connection outlives the request that opened it: give it a context of its own.
/// let executor = Executor::in_context(&context::Context::root("infra:client"));
/// executor.execute(async { assert_eq!(context::Context::current().class(), "infra:client") });
/// # runtime::yield_now().await;
/// # });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Executor {
    /// `None`: the context that is current when hyper spawns.
    context: Option<Context>,
}

impl Executor {
    /// Tasks run in the context that is current when they are spawned.
    pub fn inherit() -> Self {
        Self { context: None }
    }

    /// All tasks run in `context`, which is held for as long as the executor lives.
    pub fn in_context(context: &Context) -> Self {
        Self { context: Some(context.clone()) }
    }
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        drop(match &self.context {
            Some(context) => spawn::spawn_in(context, future),
            None => spawn::spawn(future),
        });
    }
}
