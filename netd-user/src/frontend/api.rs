//! The native API: routes, bounds, and the OpenAPI document made from the handlers.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ApiError, Telemetry, names, network, sandbox, system};
use crate::config::Config;
use crate::controller::Controller;
use crate::desired::files::{FileDefaults, FileKind};
use crate::dns::NameService;
use crate::model::{Model, Sandbox};
use crate::reconcile::files::path_of;

/// Requests served at once; the next one is told to come again.
const CONCURRENCY: usize = 256;
/// What a request may take beyond the controller's own deadline: reading, counters, answering.
const MARGIN: Duration = Duration::from_secs(15);

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// The one mutator.
    pub controller: Controller,
    /// What the dataplane tells.
    pub telemetry: Arc<dyn Telemetry>,
    /// The name service.
    pub names: Arc<NameService>,
    /// The log filter.
    pub log: LogControl,
    /// What sandboxes are told.
    pub defaults: SharedDefaults,
    /// Unix time of the daemon's start, seconds.
    pub started_s: i64,
    /// The longest that a command may take.
    pub deadline: Duration,
}

/// The defaults of a running daemon, which a reload replaces.
pub type SharedDefaults = Arc<ArcSwap<Defaults>>;

/// What sandboxes are told unless they say otherwise.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// Whether sandboxes reach netd's name service.
    pub name_service: bool,
    /// Docker's `dns*` and `host-gateway-ip`.
    pub files: FileDefaults,
    /// Where files of sandboxes are.
    pub state_dir: PathBuf,
}

impl Defaults {
    /// As configured.
    pub fn of(config: &Config) -> Self {
        Self {
            name_service: config.cgroup.is_some(),
            files: config.file_defaults(),
            state_dir: config.state_dir.clone(),
        }
    }

    /// What `host-gateway` stands for.
    pub(super) fn host_gateways(&self, model: &Model) -> Vec<IpAddr> {
        let told = &self.files.host_gateway;
        if told.is_empty() { model.bridge_gateways() } else { told.clone() }
    }

    /// Where a sandbox's file is.
    pub(super) fn file(&self, sandbox: &Sandbox, kind: FileKind) -> PathBuf {
        path_of(&self.state_dir, sandbox.id, kind)
    }
}

/// Changes the log filter; refuses with what is wrong with it.
#[derive(Clone)]
pub struct LogControl(Arc<SetFilter>);

type SetFilter = dyn Fn(&str) -> Result<(), String> + Send + Sync;

impl LogControl {
    /// By that function.
    pub fn new(set: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(set))
    }

    /// From now on `filter` holds.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        (self.0)(filter)
    }
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogControl")
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("controller", &self.controller).finish_non_exhaustive()
    }
}

#[derive(OpenApi)]
#[openapi(info(
    title = "netd",
    description = "Container networks, sandboxes and published ports of one host."
))]
struct Description;

/// Every route of the API socket, with its bounds.
pub fn router(api: Api) -> Router {
    let (routes, _) = routes().split_for_parts();
    bounded(routes, api)
}

/// The routes of the metrics address: nothing that changes or tells names beyond metrics.
pub fn metrics_router(api: Api) -> Router {
    let (routes, _) = observation().split_for_parts();
    bounded(routes, api)
}

/// The OpenAPI document.
pub fn document() -> Document {
    routes().into_openapi()
}

fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(network::create, network::list))
        .routes(routes!(network::prune))
        .routes(routes!(network::inspect, network::remove))
        .routes(routes!(network::connect))
        .routes(routes!(network::disconnect))
        .routes(routes!(sandbox::create, sandbox::list))
        .routes(routes!(sandbox::inspect, sandbox::remove))
        .routes(routes!(sandbox::set_owner))
        .routes(routes!(names::lookup))
        .routes(routes!(names::cache))
        .routes(routes!(names::flush))
        .routes(routes!(system::status))
        .routes(routes!(system::events))
        .routes(routes!(system::set_log_level))
        .routes(routes!(system::openapi))
        .merge(observation())
}

fn observation() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(system::metrics))
        .routes(routes!(system::healthz))
        .routes(routes!(system::readyz))
}

fn bounded(routes: Router<Api>, api: Api) -> Router {
    let bounds = Bounds {
        permits: Arc::new(Semaphore::new(CONCURRENCY)),
        deadline: api.deadline + MARGIN,
        telemetry: Arc::clone(&api.telemetry),
    };
    routes
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(from_fn_with_state(bounds, bound))
        .with_state(api)
}

/// What every request is bounded by.
#[derive(Clone)]
struct Bounds {
    permits: Arc<Semaphore>,
    deadline: Duration,
    telemetry: Arc<dyn Telemetry>,
}

async fn bound(State(bounds): State<Bounds>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = answer(&bounds, request, next).await;
    let (status, took) = (response.status(), started.elapsed());
    let route = route.as_ref().map_or("unknown", MatchedPath::as_str);
    tracing::debug!(%method, route, status = status.as_u16(), ?took, "request");
    bounds.telemetry.count_request(route, status.as_u16(), took);
    response
}

async fn answer(bounds: &Bounds, request: Request, next: Next) -> Response {
    let Ok(_permit) = bounds.permits.try_acquire() else {
        return unavailable("too many requests at once: try again shortly".to_owned());
    };
    let running = tokio::time::timeout(bounds.deadline, next.run(request));
    running.await.unwrap_or_else(|_| {
        let seconds = bounds.deadline.as_secs();
        unavailable(format!("the request took longer than {seconds} s: see `netd status`"))
    })
}

fn unavailable(message: String) -> Response {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).into_response()
}

async fn unknown_path(request: Request) -> ApiError {
    let path = request.uri().path();
    ApiError::new(StatusCode::NOT_FOUND, format!("there is no '{path}': see /v1/openapi.json"))
}

async fn unknown_method(request: Request) -> ApiError {
    let (method, path) = (request.method(), request.uri().path());
    let message = format!("'{path}' does not take {method}: see /v1/openapi.json");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}
