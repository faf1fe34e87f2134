//! Docker's filters: JSON of names to values, and what they mean for networks and sandboxes.
//!
//! Law: values of one name are alternatives, but for labels; different names all have to hold.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::ApiError;
use crate::model::network::DriverKind;
use crate::model::{Model, Network, Sandbox};

/// Filters by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters(BTreeMap<String, BTreeSet<String>>);

/// Docker writes lists, older clients objects of `true`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    List(BTreeSet<String>),
    Set(BTreeMap<String, bool>),
}

impl Filters {
    /// Reads the JSON of `?filters=`.
    pub(super) fn parse(json: &str) -> Result<Self, ApiError> {
        let parsed: BTreeMap<String, Values> = serde_json::from_str(json).map_err(|_| {
            ApiError::invalid(format!("invalid filters '{json}': write {{\"name\":[\"value\"]}}"))
        })?;
        let set = |values| match values {
            Values::List(list) => list,
            Values::Set(set) => set.into_iter().filter(|(_, on)| *on).map(|(v, _)| v).collect(),
        };
        Ok(Self(parsed.into_iter().map(|(name, values)| (name, set(values))).collect()))
    }

    /// As the model takes them.
    pub(super) fn into_inner(self) -> BTreeMap<String, BTreeSet<String>> {
        self.0
    }

    /// Refuses unknown names and values of networks' filters.
    pub(super) fn check_network(&self) -> Result<(), ApiError> {
        self.check_names(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
        self.check_values("type", &["builtin", "custom"])?;
        self.check_values("scope", &["global", "local", "swarm"])?;
        self.check_values("dangling", &["0", "1", "false", "true"])
    }

    /// Refuses unknown names of sandboxes' filters.
    pub(super) fn check_sandbox(&self) -> Result<(), ApiError> {
        self.check_names(&["id", "label", "name", "network"])
    }

    /// Whether a network is asked for.
    pub(super) fn network(&self, model: &Model, network: &Network) -> bool {
        let used = || model.endpoints.values().any(|endpoint| endpoint.network == network.id);
        let kind = if network.predefined { "builtin" } else { "custom" };
        self.any("driver", |value| value == driver_name(network.driver))
            && self.any("id", |value| network.id.to_string().starts_with(value))
            && self.any("name", |value| network.name.contains(value))
            && self.any("scope", |value| value == "local")
            && self.any("type", |value| value == kind)
            && self.any("dangling", |value| {
                matches!(value, "1" | "true") == (!network.predefined && !used())
            })
            && self.labels(&network.labels)
    }

    /// Whether a sandbox is asked for.
    pub(super) fn sandbox(&self, model: &Model, sandbox: &Sandbox) -> bool {
        let on = |value: &str| {
            model.endpoints.values().filter(|e| e.sandbox == Some(sandbox.id)).any(|endpoint| {
                let name = model.networks.get(&endpoint.network).map(|network| &network.name);
                name.is_some_and(|name| name == value)
                    || endpoint.network.to_string().starts_with(value)
            })
        };
        self.any("id", |value| sandbox.id.to_string().starts_with(value))
            && self.any("name", |value| sandbox.name.contains(value))
            && self.any("network", on)
            && self.labels(&sandbox.labels)
    }

    fn any(&self, name: &str, holds: impl Fn(&str) -> bool) -> bool {
        self.0.get(name).is_none_or(|values| values.is_empty() || values.iter().any(|v| holds(v)))
    }

    fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let holds = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|held| held == value),
            None => labels.contains_key(wanted),
        };
        self.0.get("label").is_none_or(|wanted| wanted.iter().all(holds))
    }

    fn check_names(&self, known: &[&str]) -> Result<(), ApiError> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(ApiError::invalid(format!("invalid filter '{name}'"))),
            None => Ok(()),
        }
    }

    fn check_values(&self, name: &str, known: &[&str]) -> Result<(), ApiError> {
        let mut values = self.0.get(name).into_iter().flatten();
        match values.find(|value| !known.contains(&value.as_str())) {
            Some(value) => Err(ApiError::invalid(format!("invalid filter '{name}={value}'"))),
            None => Ok(()),
        }
    }
}

/// The driver's name as users write it.
pub(super) fn driver_name(driver: DriverKind) -> &'static str {
    match driver {
        DriverKind::Bridge => "bridge",
        DriverKind::Host => "host",
        DriverKind::Null => "null",
    }
}
