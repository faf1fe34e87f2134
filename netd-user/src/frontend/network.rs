//! Networks over the API.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::body::{JsonBody, Reference};
use super::filter::Filters;
use super::{Api, ApiError, show};
use crate::api::{
    Connect, Created, Disconnect, EndpointConfig, ErrorBody, NetworkCreate, NetworkInspect, Pruned,
};
use crate::model::network::SubnetSpec;
use crate::model::{Command, EndpointSpec, NetworkSpec, Outcome};

/// Creates a network.
#[utoipa::path(post, path = "/v1/networks", tag = "networks", request_body = NetworkCreate,
    responses((status = 201, body = Created), (status = "default", body = ErrorBody)))]
pub(super) async fn create(
    State(api): State<Api>,
    JsonBody(body): JsonBody<NetworkCreate>,
) -> Result<(StatusCode, Json<Created>), ApiError> {
    let command = Command::CreateNetwork(Box::new(network_spec(body)));
    Ok((StatusCode::CREATED, Json(created(api.controller.execute(command).await?))))
}

/// Lists networks, by name.
#[utoipa::path(get, path = "/v1/networks", tag = "networks",
    params(("filters" = Option<String>, Query, description = "Docker's filters as JSON: \
        dangling, driver, id, label, name, scope, type")),
    responses((status = 200, body = [NetworkInspect]), (status = "default", body = ErrorBody)))]
pub(super) async fn list(
    State(api): State<Api>,
    filters: Filters,
) -> Result<Json<Vec<NetworkInspect>>, ApiError> {
    filters.check_network()?;
    let view = api.controller.view();
    let asked =
        view.called.model.networks.values().filter(|n| filters.network(&view.called.model, n));
    let mut networks: Vec<_> = asked.map(|network| show::network(&view, network)).collect();
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(networks))
}

/// Shows a network.
#[utoipa::path(get, path = "/v1/networks/{network}", tag = "networks",
    params(("network" = String, Path, description = "Name, id or id prefix")),
    responses((status = 200, body = NetworkInspect), (status = "default", body = ErrorBody)))]
pub(super) async fn inspect(
    State(api): State<Api>,
    Reference(network): Reference,
) -> Result<Json<NetworkInspect>, ApiError> {
    let view = api.controller.view();
    let network = view.called.model.find_network(&network)?;
    Ok(Json(show::network(&view, network)))
}

/// Removes a network without endpoints.
#[utoipa::path(delete, path = "/v1/networks/{network}", tag = "networks",
    params(("network" = String, Path, description = "Name, id or id prefix")),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(super) async fn remove(
    State(api): State<Api>,
    Reference(network): Reference,
) -> Result<StatusCode, ApiError> {
    let network = api.controller.view().called.network_reference(network);
    api.controller.execute(Command::RemoveNetwork { network }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes all unused custom networks.
#[utoipa::path(post, path = "/v1/networks/prune", tag = "networks",
    params(("filters" = Option<String>, Query, description = "Docker's filters as JSON: \
        label, label!, until")),
    responses((status = 200, body = Pruned), (status = "default", body = ErrorBody)))]
pub(super) async fn prune(
    State(api): State<Api>,
    filters: Filters,
) -> Result<Json<Pruned>, ApiError> {
    let command = Command::PruneNetworks { filters: filters.into_inner() };
    let networks_deleted = match api.controller.execute(command).await? {
        Outcome::Pruned(names) => names,
        Outcome::Done
        | Outcome::Network(_)
        | Outcome::Sandbox(..)
        | Outcome::Endpoint(_)
        | Outcome::Pool(_)
        | Outcome::Address(_) => Vec::new(),
    };
    Ok(Json(Pruned { networks_deleted }))
}

/// Connects a sandbox to a network.
#[utoipa::path(post, path = "/v1/networks/{network}/connect", tag = "networks",
    params(("network" = String, Path, description = "Name, id or id prefix")),
    request_body = Connect,
    responses((status = 200, body = Created), (status = "default", body = ErrorBody)))]
pub(super) async fn connect(
    State(api): State<Api>,
    Reference(network): Reference,
    JsonBody(body): JsonBody<Connect>,
) -> Result<Json<Created>, ApiError> {
    let spec = Box::new(endpoint_spec(body.endpoint_config));
    let called = &api.controller.view().called;
    let network = called.network_reference(network);
    let sandbox = called.sandbox_reference(body.container);
    let command = Command::Connect { network, sandbox, spec };
    Ok(Json(created(api.controller.execute(command).await?)))
}

/// Disconnects a sandbox from a network.
#[utoipa::path(post, path = "/v1/networks/{network}/disconnect", tag = "networks",
    params(("network" = String, Path, description = "Name, id or id prefix")),
    request_body = Disconnect,
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(super) async fn disconnect(
    State(api): State<Api>,
    Reference(network): Reference,
    JsonBody(body): JsonBody<Disconnect>,
) -> Result<StatusCode, ApiError> {
    let called = &api.controller.view().called;
    let network = called.network_reference(network);
    let sandbox = called.sandbox_reference(body.container);
    api.controller.execute(Command::Disconnect { network, sandbox }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the command made.
pub(super) fn created(outcome: Outcome) -> Created {
    match outcome {
        Outcome::Network(id) => Created { id: id.to_string(), warnings: Vec::new() },
        Outcome::Sandbox(id, warnings) => Created { id: id.to_string(), warnings },
        Outcome::Endpoint(id) => Created { id: id.to_string(), warnings: Vec::new() },
        Outcome::Done | Outcome::Pruned(_) | Outcome::Pool(_) | Outcome::Address(_) => {
            Created::default()
        }
    }
}

/// An endpoint as the model is asked for it.
pub(super) fn endpoint_spec(config: EndpointConfig) -> EndpointSpec {
    EndpointSpec {
        ip: config.ipv4_address,
        ip6: config.ipv6_address,
        mac: config.mac_address,
        aliases: config.aliases,
        gw_priority: config.gw_priority,
        options: config.driver_opts,
    }
}

fn network_spec(body: NetworkCreate) -> NetworkSpec {
    let subnets = body.ipam.config.into_iter().map(|config| SubnetSpec {
        subnet: config.subnet,
        gateway: config.gateway,
        ip_range: config.ip_range,
        aux_addresses: config.auxiliary_addresses,
    });
    NetworkSpec {
        name: body.name,
        driver: body.driver,
        ipv4: body.enable_ipv4,
        ipv6: body.enable_ipv6,
        internal: body.internal,
        subnets: subnets.collect(),
        ipam_driver: body.ipam.driver,
        ipam_options: body.ipam.options,
        options: body.options,
        labels: body.labels,
    }
}
