//! Whether a server wants to be sent requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether a server is to be sent requests, for whoever decides where they go: answer a load balancer's probe with 503 when it
/// is not. It ceases to be ready when a shutdown begins, before its port is closed
/// ([`Serve::shutdown_delay`](super::Serve::shutdown_delay)).
///
/// From [`Serve::readiness`](super::Serve::readiness), or made before the server
/// ([`Serve::with_readiness`](super::Serve::with_readiness)), so that a handler has one. Cloning is cheap.
///
/// ```
/// let readiness = runtime::http::Readiness::default();
/// assert!(readiness.is_ready());
/// ```
#[derive(Clone, Debug)]
pub struct Readiness(Arc<AtomicBool>);

impl Default for Readiness {
    /// Ready.
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Readiness {
    /// Whether it is.
    pub fn is_ready(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub(super) fn end(&self) {
        self.0.store(false, Relaxed);
    }
}
