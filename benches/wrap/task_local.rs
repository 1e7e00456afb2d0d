//! tokio's `task_local!`: a value swapped into a thread-local around each poll.

use super::Wrap;
use crate::peer::Tokio;
use std::future::Future;
use std::sync::Arc;

tokio::task_local! {
    static REQUEST: Arc<str>;
}

/// `REQUEST.scope(value, future)`.
#[derive(Debug)]
pub struct TaskLocal;

impl Wrap for TaskLocal {
    const NAME: &'static str = "tokio `task_local`";

    const ON_TOKIO: &'static str = "tokio + task-local a task";

    type Host = Tokio;

    type Context = Arc<str>;

    fn context() -> Arc<str> {
        "request".into()
    }

    fn wrap<F>(request: Arc<str>, future: F) -> impl Future<Output = F::Output> + Send + 'static
    where
        F: Future + Send + 'static,
    {
        REQUEST.scope(request, future)
    }
}
