//! The daemon itself over the API: status, events, log level, metrics, health.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::body::JsonBody;
use super::{Api, ApiError, Telemetry, show};
use crate::api::{DropEvent, ErrorBody, LogLevel, Status};
use crate::observe::events::{Heard, Listener};

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON_LINES: &str = "application/x-ndjson";

/// Tells how the daemon fares.
#[utoipa::path(get, path = "/v1/status", tag = "system",
    responses((status = 200, body = Status), (status = "default", body = ErrorBody)))]
pub(super) async fn status(State(api): State<Api>) -> Result<Json<Status>, ApiError> {
    let (maps, drops, flows) = blocking(&api, |t| (t.maps(), t.drops(), t.flows())).await?;
    let status = show::status(&api.controller.view());
    Ok(Json(Status { started_s: api.started_s, maps, drops, flows, ..status }))
}

/// Streams drops as they happen, one JSON object a line. Who reads too slowly misses some.
#[utoipa::path(get, path = "/v1/events", tag = "system",
    responses((status = 200, body = DropEvent, content_type = "application/x-ndjson"),
        (status = "default", body = ErrorBody)))]
pub(super) async fn events(State(api): State<Api>) -> Response {
    let lines = futures_util::stream::unfold(api.telemetry.events(), next_line);
    ([(header::CONTENT_TYPE, JSON_LINES)], Body::from_stream(lines)).into_response()
}

/// Changes the log filter until the next start.
#[utoipa::path(put, path = "/v1/log-level", tag = "system", request_body = LogLevel,
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(super) async fn set_log_level(
    State(api): State<Api>,
    JsonBody(body): JsonBody<LogLevel>,
) -> Result<StatusCode, ApiError> {
    api.log.set(&body.filter).map_err(ApiError::invalid)?;
    tracing::info!(filter = body.filter, "the log filter was changed");
    Ok(StatusCode::NO_CONTENT)
}

/// Describes this API.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "system",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")))]
pub(super) async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(super::api::document())
}

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "system",
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = "default", body = ErrorBody)))]
pub(super) async fn metrics(State(api): State<Api>) -> Result<Response, ApiError> {
    let text = blocking(&api, <dyn Telemetry>::metrics).await?.map_err(internal)?;
    Ok(([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], text).into_response())
}

/// Answers as long as the daemon serves.
#[utoipa::path(get, path = "/healthz", tag = "system",
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Answers whether the kernel holds all that is asked for.
#[utoipa::path(get, path = "/readyz", tag = "system",
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = "default", body = ErrorBody)))]
pub(super) async fn readyz(State(api): State<Api>) -> Result<&'static str, ApiError> {
    match show::problems(&api.controller.view()).first() {
        None => Ok("ok\n"),
        Some(problem) => {
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {problem}")))
        }
    }
}

/// Asks the dataplane without holding up the server's own threads.
pub(super) async fn blocking<T: Send + 'static>(
    api: &Api,
    ask: impl FnOnce(&dyn Telemetry) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let telemetry = Arc::clone(&api.telemetry);
    let asked = tokio::task::spawn_blocking(move || ask(telemetry.as_ref())).await;
    asked.map_err(|error| internal(format!("the dataplane can't be asked: {error}")))
}

fn internal(message: String) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
}

async fn next_line(mut events: Listener) -> Option<(Result<Bytes, Infallible>, Listener)> {
    loop {
        match events.next().await? {
            Heard::Event(event) => {
                let mut line = serde_json::to_vec(event.as_ref()).ok()?;
                line.push(b'\n');
                return Some((Ok(line.into()), events));
            }
            Heard::Lost(count) => tracing::debug!(count, "a reader of events is too slow"),
        }
    }
}
