//! The name service over the API.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;

use super::{Api, ApiError};
use crate::api::{ErrorBody, Flushed, KeptAnswer, NameAnswer};
use crate::dns::service::LookupError;
use crate::model::{Model, Sandbox};

/// `?name=NAME&from=SANDBOX&type=TYPE`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    name: String,
    from: String,
    #[serde(rename = "type", default = "address")]
    kind: String,
}

fn address() -> String {
    "A".to_owned()
}

/// Asks for a name as a sandbox would.
#[utoipa::path(get, path = "/v1/dns/lookup", tag = "names",
    params(("name" = String, Query, description = "The name"),
        ("from" = String, Query, description = "Name, id or id prefix of the sandbox that asks"),
        ("type" = Option<String>, Query, description = "Record type, A where none is given")),
    responses((status = 200, body = NameAnswer), (status = "default", body = ErrorBody)))]
pub(super) async fn lookup(
    State(api): State<Api>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<NameAnswer>, ApiError> {
    let Query(wanted) = wanted.map_err(|e| ApiError::invalid(format!("the query: {e}")))?;
    let view = api.controller.view();
    let sandbox = view.called.find_sandbox(&wanted.from)?;
    if !api.defaults.load().name_service || !asks_netd(&view.called.model, sandbox) {
        return Err(ApiError::invalid(format!(
            "sandbox {} does not ask netd for names: connect it to a network that has names",
            sandbox.name
        )));
    }
    let answer = api.names.lookup(sandbox, &wanted.name, &wanted.kind).await;
    answer.map(Json).map_err(|error| match error {
        LookupError::Name(_) | LookupError::Kind(_) | LookupError::Namespace(_) => {
            ApiError::invalid(error.to_string())
        }
    })
}

/// Lists the answers of upstreams that are kept.
#[utoipa::path(get, path = "/v1/dns/cache", tag = "names",
    responses((status = 200, body = [KeptAnswer]), (status = "default", body = ErrorBody)))]
pub(super) async fn cache(State(api): State<Api>) -> Json<Vec<KeptAnswer>> {
    let mut kept = Vec::new();
    for (servers, entries) in api.names.cached() {
        let servers: Vec<String> = servers.iter().map(|server| server.ip().to_string()).collect();
        kept.extend(entries.into_iter().map(|entry| KeptAnswer {
            name: entry.name,
            kind: entry.kind,
            rcode: entry.rcode,
            ttl_s: entry.ttl_s,
            data: entry.records,
            servers: servers.clone(),
        }));
    }
    Json(kept)
}

/// Forgets the answers of upstreams.
#[utoipa::path(post, path = "/v1/dns/flush", tag = "names",
    responses((status = 200, body = Flushed), (status = "default", body = ErrorBody)))]
pub(super) async fn flush(State(api): State<Api>) -> Json<Flushed> {
    Json(Flushed { answers: api.names.flush() as u64 })
}

fn asks_netd(model: &Model, sandbox: &Sandbox) -> bool {
    let endpoints = model.endpoints_of_sandbox(sandbox.id);
    let networks = endpoints.filter_map(|endpoint| model.networks.get(&endpoint.network));
    sandbox.asks_netd(networks.map(AsRef::as_ref))
}
