//! What comes in: bodies, path names and queries, each bounded and refused in one sentence.

use std::error::Error;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::ApiError;
use super::filter::Filters;

/// Largest body, bytes.
pub(super) const BODY_MAX: usize = 1 << 20;
/// How long a body may take to arrive.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON body.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

/// The `{ref}` of a path: name, id or id prefix.
#[derive(Debug)]
pub(super) struct Reference(pub(super) String);

/// `?filters=JSON`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterQuery {
    filters: Option<String>,
}

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let reading = read(request.into_body());
        let bytes = tokio::time::timeout(BODY_TIMEOUT, reading).await.map_err(|_| {
            let seconds = BODY_TIMEOUT.as_secs();
            let message = format!("the request body took longer than {seconds} s to arrive");
            ApiError::new(StatusCode::REQUEST_TIMEOUT, message)
        })??;
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Self).map_err(|e| ApiError::invalid(format!("the request body is wrong: {e}")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Reference {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name)).map_err(|e| ApiError::invalid(format!("the path: {e}")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Filters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<FilterQuery>::from_request_parts(parts, state).await;
        let Query(query) = query.map_err(|e| ApiError::invalid(format!("the query: {e}")))?;
        query.filters.as_deref().map_or_else(|| Ok(Self::default()), Self::parse)
    }
}

async fn read(body: Body) -> Result<Bytes, ApiError> {
    match Limited::new(body, BODY_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if is_too_large(error.as_ref()) => {
            let message = format!("the request body is larger than {BODY_MAX} bytes");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message))
        }
        Err(error) => Err(ApiError::invalid(format!("the request body can't be read: {error}"))),
    }
}

fn is_too_large(error: &(dyn Error + 'static)) -> bool {
    error.is::<LengthLimitError>() || error.source().is_some_and(is_too_large)
}
