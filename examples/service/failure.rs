//! Errors, as responses: a status and a line of text.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// Why a request has no answer.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    message: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Not the client's fault: the log has the reason, with the request's name before it, the client only hears of it.
    pub(super) fn internal(error: impl std::fmt::Display) -> Self {
        log::error!("{error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "something went wrong here; the log knows what")
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, format!("{}\n", self.message)).into_response()
    }
}
