//! Classes from axum's routes.

use super::layer::ContextLayer;
use axum::extract::MatchedPath;

impl ContextLayer {
    /// A layer for [`axum::Router::layer`]: the class of a request is its method and the pattern of the route that matched.
    ///
    /// ```
    /// use axum::{Router, routing::get};
    /// use runtime::http::ContextLayer;
    ///
    /// let app: Router = Router::new()
    ///     .route("/users/{id}", get(async || "hello"))
    ///     .layer(ContextLayer::axum());
    /// # let _ = app;
    /// ```
    pub fn axum() -> Self {
        Self::new().route_by(|parts| parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str))
    }
}
