//! Sandboxes over the API.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::body::{JsonBody, Reference};
use super::filter::Filters;
use super::network::{created, endpoint_spec};
use super::show::{self, Traffic};
use super::{Api, ApiError, system};
use crate::api::{Created, ErrorBody, Owner, OwnerUpdate, SandboxCreate, SandboxInspect};
use crate::model::sandbox::ProcessRef;
use crate::model::{Command, Refusal, SandboxSpec, port};

/// Creates a sandbox, connects it and publishes its ports, all or nothing.
#[utoipa::path(post, path = "/v1/sandboxes", tag = "sandboxes", request_body = SandboxCreate,
    responses((status = 201, body = Created), (status = "default", body = ErrorBody)))]
pub(super) async fn create(
    State(api): State<Api>,
    JsonBody(body): JsonBody<SandboxCreate>,
) -> Result<(StatusCode, Json<Created>), ApiError> {
    let spec = sandbox_spec(body)?;
    refuse_unknown_gateway(&api, &spec)?;
    let command = Command::CreateSandbox(Box::new(spec));
    Ok((StatusCode::CREATED, Json(created(api.controller.execute(command).await?))))
}

/// Lists sandboxes, by name.
#[utoipa::path(get, path = "/v1/sandboxes", tag = "sandboxes",
    params(("filters" = Option<String>, Query, description = "Docker's filters as JSON: \
        id, label, name, network")),
    responses((status = 200, body = [SandboxInspect]), (status = "default", body = ErrorBody)))]
pub(super) async fn list(
    State(api): State<Api>,
    filters: Filters,
) -> Result<Json<Vec<SandboxInspect>>, ApiError> {
    filters.check_sandbox()?;
    let traffic = traffic(&api).await?;
    let view = api.controller.view();
    let asked =
        view.called.model.sandboxes.values().filter(|s| filters.sandbox(&view.called.model, s));
    let show = show::Sandboxes { view: &view, defaults: &api.defaults.load(), traffic: &traffic };
    let mut sandboxes: Vec<_> = asked.map(|sandbox| show.inspect(sandbox)).collect();
    sandboxes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(sandboxes))
}

/// Shows a sandbox.
#[utoipa::path(get, path = "/v1/sandboxes/{sandbox}", tag = "sandboxes",
    params(("sandbox" = String, Path, description = "Name, id or id prefix")),
    responses((status = 200, body = SandboxInspect), (status = "default", body = ErrorBody)))]
pub(super) async fn inspect(
    State(api): State<Api>,
    Reference(sandbox): Reference,
) -> Result<Json<SandboxInspect>, ApiError> {
    api.controller.view().called.find_sandbox(&sandbox)?;
    let traffic = traffic(&api).await?;
    let view = api.controller.view();
    let sandbox = view.called.find_sandbox(&sandbox)?;
    let show = show::Sandboxes { view: &view, defaults: &api.defaults.load(), traffic: &traffic };
    Ok(Json(show.inspect(sandbox)))
}

/// Removes a sandbox with its endpoints.
#[utoipa::path(delete, path = "/v1/sandboxes/{sandbox}", tag = "sandboxes",
    params(("sandbox" = String, Path, description = "Name, id or id prefix")),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(super) async fn remove(
    State(api): State<Api>,
    Reference(sandbox): Reference,
) -> Result<StatusCode, ApiError> {
    let sandbox = api.controller.view().called.sandbox_reference(sandbox);
    api.controller.execute(Command::RemoveSandbox { sandbox }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says which process a sandbox lives and dies with.
#[utoipa::path(put, path = "/v1/sandboxes/{sandbox}/owner", tag = "sandboxes",
    params(("sandbox" = String, Path, description = "Name, id or id prefix")),
    request_body = OwnerUpdate,
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(super) async fn set_owner(
    State(api): State<Api>,
    Reference(sandbox): Reference,
    JsonBody(body): JsonBody<OwnerUpdate>,
) -> Result<StatusCode, ApiError> {
    let owner = body.owner.map(process);
    let sandbox = api.controller.view().called.sandbox_reference(sandbox);
    api.controller.execute(Command::SetOwner { sandbox, owner }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Docker's sentence where nobody says what `host-gateway` is.
fn refuse_unknown_gateway(api: &Api, spec: &SandboxSpec) -> Result<(), Refusal> {
    let asks = spec.extra_hosts.iter().any(|text| text.ends_with("host-gateway"));
    if asks && api.defaults.load().host_gateways(&api.controller.model()).is_empty() {
        return Err(Refusal::invalid(
            "unable to derive the IP value for host-gateway: set host-gateway-ip in netd.toml",
        ));
    }
    Ok(())
}

async fn traffic(api: &Api) -> Result<Traffic, ApiError> {
    system::blocking(api, |telemetry| Traffic {
        counters: telemetry.endpoint_counters(),
        hits: telemetry.published_hits(),
    })
    .await
}

fn sandbox_spec(body: SandboxCreate) -> Result<SandboxSpec, Refusal> {
    let mut ports = Vec::new();
    for publish in &body.publish {
        ports.extend(port::parse_ports(publish)?);
    }
    let networks =
        body.networks.into_iter().map(|n| (n.network, endpoint_spec(n.endpoint_config))).collect();
    Ok(SandboxSpec {
        name: body.name,
        networks,
        hostname: body.hostname,
        dns: body.dns,
        dns_search: body.dns_search,
        dns_options: body.dns_options,
        extra_hosts: body.extra_hosts,
        labels: body.labels,
        ports,
        publish_all: body.publish_all,
        expose: body.expose,
        netns: body.netns.map(PathBuf::from),
        owner: body.owner.map(process),
    })
}

fn process(owner: Owner) -> ProcessRef {
    ProcessRef { pid: owner.pid, start_ticks: owner.start_ticks }
}
