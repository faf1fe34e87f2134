//! The plugin socket of a Docker engine: network and IPAM driver of engines 20.10 to 29.
//!
//! Laws: whatever is asked is answered within `LIMIT`, with status 200 or with an error that both of
//! the engine's dialects read; a change whose answer is late is taken back; the engine itself is
//! never asked anything here, for it holds locks meanwhile.

mod ipam;
mod network;
mod options;
mod reply;
mod request;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::Telemetry;
use super::serve::Limits;
use crate::controller::{Controller, ControllerError, Unheard};
use crate::model::{Command, EngineCommand, Outcome, Refusal};
use reply::{Activated, Empty, Failed, NetworkCapabilities, OperInfo, PoolCapabilities, Spaces};

/// No call takes longer; the engine has no deadline of its own, and waits for ever.
const LIMIT: Duration = Duration::from_secs(9);
/// What a call may take beyond its command: reading and answering.
const MARGIN: Duration = Duration::from_millis(900);
/// Largest body: a container that publishes every port of both protocols needs 25 MB.
const BODY_MAX: usize = 64 << 20;
/// What the engine takes for any version of the protocol.
const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// What the handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct Plugin {
    controller: Controller,
    telemetry: Arc<dyn Telemetry>,
    limit: Duration,
}

/// A call that was not carried out.
#[derive(Debug, thiserror::Error)]
enum PluginError {
    /// The body is not what the method takes.
    #[error("{0}")]
    Body(String),
    /// No such method.
    #[error("netd has no method '{0}'")]
    Unknown(String),
    /// The request was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The change failed.
    #[error(transparent)]
    Failed(#[from] ControllerError),
    /// It took too long.
    #[error("the call took longer than {} s: see `netd status`", .0.as_secs())]
    Late(Duration),
    /// What is asked about went while it was asked about.
    #[error("{0} is gone")]
    Gone(String),
}

type Answer = Result<Response, PluginError>;

/// Bounds of the plugin socket. Its clients are the machine's root; a connection that they leave idle
/// must stay open, because an engine that meets a closed one repeats its call without a body.
pub fn limits() -> Limits {
    Limits { head: Duration::from_hours(24 * 365), ..Limits::default() }
}

/// The plugin's methods.
pub fn router(controller: Controller, telemetry: Arc<dyn Telemetry>) -> Router {
    Router::new().fallback(answer).with_state(Plugin { controller, telemetry, limit: LIMIT })
}

async fn answer(State(plugin): State<Plugin>, request: Request) -> Response {
    let started = Instant::now();
    let method = request.uri().path().trim_start_matches('/').to_owned();
    let limit = plugin.limit + MARGIN;
    let called = tokio::time::timeout(limit, plugin.call(&method, request)).await;
    let called = called.unwrap_or(Err(PluginError::Late(limit)));
    // What a client made up, or can't be read, is no name of a series.
    let is_known = !matches!(called, Err(PluginError::Unknown(_) | PluginError::Body(_)));
    let route = if is_known { &method } else { "unknown" };
    let response = match called {
        Ok(response) => {
            tracing::debug!(method, "the engine's call is done");
            response
        }
        Err(error) => {
            tracing::info!(method, %error, "the engine's call is refused");
            error.into_response()
        }
    };
    plugin.telemetry.count_request(route, response.status().as_u16(), started.elapsed());
    response
}

impl Plugin {
    async fn call(&self, method: &str, request: Request) -> Answer {
        let body = to_bytes(request.into_body(), BODY_MAX).await;
        let body = body.map_err(|error| PluginError::Body(error.to_string()))?;
        match method.split_once('.') {
            Some(("Plugin", "Activate")) => Ok(reply(&Activated::default())),
            Some(("NetworkDriver", method)) => self.network_driver(method, &body).await,
            Some(("IpamDriver", method)) => self.ipam_driver(method, &body).await,
            Some(_) | None => Err(PluginError::Unknown(method.to_owned())),
        }
    }

    async fn network_driver(&self, method: &str, body: &Bytes) -> Answer {
        match method {
            "GetCapabilities" => Ok(reply(&NetworkCapabilities::default())),
            "GwAllocCheck" => network::check_gateways(&parse(body)?),
            "CreateNetwork" => self.create_network(parse(body)?).await,
            "DeleteNetwork" => self.delete_network(&parse(body)?).await,
            "CreateEndpoint" => self.create_endpoint(parse(body)?).await,
            "DeleteEndpoint" => self.delete_endpoint(&parse(body)?).await,
            "EndpointOperInfo" => Ok(reply(&OperInfo::default())),
            "Join" => self.join(parse(body)?).await,
            "Leave" => self.leave(&parse(body)?).await,
            "ProgramExternalConnectivity" => self.program(&parse(body)?).await,
            "RevokeExternalConnectivity" => self.revoke(&parse(body)?).await,
            // Peers are found by netd itself, and networks are of this host alone.
            "DiscoverNew" | "DiscoverDelete" | "AllocateNetwork" | "FreeNetwork" => {
                Ok(reply(&Empty::default()))
            }
            other => Err(PluginError::Unknown(format!("NetworkDriver.{other}"))),
        }
    }

    async fn ipam_driver(&self, method: &str, body: &Bytes) -> Answer {
        match method {
            "GetCapabilities" => Ok(reply(&PoolCapabilities::default())),
            "GetDefaultAddressSpaces" => Ok(reply(&Spaces::default())),
            "RequestPool" => self.request_pool(parse(body)?).await,
            "ReleasePool" => self.release_pool(&parse(body)?).await,
            "RequestAddress" => self.request_address(&parse(body)?).await,
            "ReleaseAddress" => self.release_address(&parse(body)?).await,
            other => Err(PluginError::Unknown(format!("IpamDriver.{other}"))),
        }
    }

    /// A change that makes something: nobody else would undo it where the answer is late.
    async fn make(&self, command: EngineCommand) -> Result<Outcome, PluginError> {
        self.execute(command, Unheard::IsTakenBack).await
    }

    /// A change that takes something away: it holds, whoever hears of it.
    async fn unmake(&self, command: EngineCommand) -> Result<Outcome, PluginError> {
        self.execute(command, Unheard::Holds).await
    }

    async fn execute(
        &self,
        command: EngineCommand,
        unheard: Unheard,
    ) -> Result<Outcome, PluginError> {
        let command = Command::Engine(Box::new(command));
        Ok(self.controller.execute_within(command, self.limit, unheard).await?)
    }
}

/// Reads arguments, which are an object: a list would do for the derived readers, too. An empty body is
/// what is left of a call that the engine repeats after a broken connection, never a request for
/// defaults.
fn parse<'body, T: Deserialize<'body>>(body: &'body Bytes) -> Result<T, PluginError> {
    match body.trim_ascii_start().first() {
        None => Err(PluginError::Body("the request body is empty".to_owned())),
        Some(b'{') => serde_json::from_slice(body)
            .map_err(|error| PluginError::Body(format!("the request body is wrong: {error}"))),
        Some(_) => Err(PluginError::Body("the request body is no object".to_owned())),
    }
}

fn reply<T: Serialize>(body: &T) -> Response {
    respond(StatusCode::OK, body)
}

fn respond<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let text = serde_json::to_vec(body).unwrap_or_else(|_| unreachable!("replies are plain text"));
    (status, [(axum::http::header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

impl IntoResponse for PluginError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Refused(_) | Self::Failed(_) | Self::Late(_) | Self::Gone(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        respond(status, &Failed::new(self.to_string()))
    }
}

#[cfg(test)]
mod tests;
