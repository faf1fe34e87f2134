//! The one table from kinds of failure to HTTP status.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};

use crate::api::ErrorBody;
use crate::controller::ControllerError;
use crate::model::{Refusal, RefusalKind};

/// A failure as the client sees it: a status and one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// Kind.
    pub status: StatusCode,
    /// One sentence that names the thing and the remedy.
    pub message: String,
}

impl ApiError {
    /// A failure of that kind.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// `400`.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.kind {
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::Forbidden => StatusCode::FORBIDDEN,
        };
        Self::new(status, refusal.message)
    }
}

impl From<ControllerError> for ApiError {
    fn from(error: ControllerError) -> Self {
        let message = error.to_string();
        let status = match error {
            ControllerError::Refused(refusal) => return refusal.into(),
            ControllerError::Port(_) => StatusCode::CONFLICT,
            ControllerError::Apply(_) | ControllerError::Store(_) | ControllerError::Entropy(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            ControllerError::Busy | ControllerError::Deadline(_) | ControllerError::Stopping => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Self::new(status, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(ErrorBody { message: self.message })).into_response()
    }
}
