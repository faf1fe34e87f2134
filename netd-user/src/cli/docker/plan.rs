//! What becomes of each bridge network of an engine. Pure.
//!
//! Law: a network keeps its name, address ranges, gateways, options and labels; the drivers change and
//! nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// Ours, as the engine calls it.
pub(super) const NETD: &str = "netd";
const BRIDGE: &str = "bridge";
/// The engine's own address management.
const DEFAULT: &str = "default";
const PROJECT: &str = "com.docker.compose.project";

/// A network, as the engine lists it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) id: String,
    driver: String,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    internal: bool,
    attachable: bool,
    config_only: bool,
    config_from: ConfigFrom,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    #[serde(deserialize_with = "nullable")]
    options: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
}

/// Where a network has its settings from, if not from itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConfigFrom {
    network: String,
}

/// Address management.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Ipam {
    pub(super) driver: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) options: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) config: Vec<Pool>,
}

/// An address range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Pool {
    pub(super) subnet: String,
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    pub(super) ip_range: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) gateway: String,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) auxiliary_addresses: BTreeMap<String, String>,
}

/// A container, as the engine lists it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Container {
    names: Vec<String>,
    network_settings: ContainerNetworks,
}

/// The networks that a container is on, by name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ContainerNetworks {
    #[serde(deserialize_with = "nullable")]
    networks: BTreeMap<String, serde_json::Value>,
}

/// What the engine is asked to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Creation {
    pub(super) name: String,
    pub(super) check_duplicate: bool,
    pub(super) driver: String,
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub(super) enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    pub(super) enable_ipv6: bool,
    pub(super) internal: bool,
    pub(super) attachable: bool,
    #[serde(rename = "IPAM")]
    pub(super) ipam: Ipam,
    pub(super) options: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
}

/// A network and what becomes of it.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) network: Network,
    pub(super) fate: Fate,
}

/// What becomes of a network.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    /// It is removed, and this one made.
    Replace(Box<Creation>),
    /// It stays.
    Keep(Reason),
}

/// Why a network stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Reason {
    /// The engine's own.
    #[error(
        "kept: the engine's own default network can't be replaced; give containers a network of \
         their own"
    )]
    Predefined,
    /// A template of networks, or made of one.
    #[error("kept: it shares its settings with other networks; make it by docker network create")]
    Template,
    /// A container would be left without.
    #[error(
        "kept: {} on it, and a container knows its network by an id that would change: remove the \
         container (docker compose down, docker rm), then import again", are(.0)
    )]
    InUse(Vec<String>),
}

impl Reason {
    /// Whether another attempt can't change that.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Predefined | Self::Template => true,
            Self::InUse(_) => false,
        }
    }
}

fn are(containers: &[String]) -> String {
    let is = if containers.len() == 1 { "is" } else { "are" };
    format!("{} {is}", containers.join(", "))
}

impl Network {
    /// What makes it again as it is.
    pub(super) fn as_it_is(&self) -> Creation {
        Creation {
            name: self.name.clone(),
            check_duplicate: true,
            driver: self.driver.clone(),
            enable_ipv4: self.enable_ipv4,
            enable_ipv6: self.enable_ipv6,
            internal: self.internal,
            attachable: self.attachable,
            ipam: self.ipam.askable(),
            options: self.options.clone(),
            labels: self.labels.clone(),
        }
    }

    /// What makes its equal on netd.
    fn on_netd(&self) -> Creation {
        let mut creation = self.as_it_is();
        NETD.clone_into(&mut creation.driver);
        if creation.ipam.driver == DEFAULT {
            NETD.clone_into(&mut creation.ipam.driver);
        }
        creation
    }

    /// The compose project that it belongs to.
    pub(super) fn project(&self) -> Option<&str> {
        self.labels.get(PROJECT).map(String::as_str)
    }

    /// Its address ranges.
    pub(super) fn subnets(&self) -> String {
        let subnets: Vec<&str> = self.ipam.config.iter().map(|pool| pool.subnet.as_str()).collect();
        subnets.join(", ")
    }

    fn fate(&self, containers: &[Container]) -> Fate {
        let users: Vec<String> = containers.iter().filter_map(|it| it.on(&self.name)).collect();
        if self.name == BRIDGE {
            Fate::Keep(Reason::Predefined)
        } else if self.config_only || !self.config_from.network.is_empty() {
            Fate::Keep(Reason::Template)
        } else if users.is_empty() {
            Fate::Replace(Box::new(self.on_netd()))
        } else {
            Fate::Keep(Reason::InUse(users))
        }
    }
}

impl Ipam {
    /// As a request takes it: the engine shows some gateways with the length of their prefix.
    fn askable(&self) -> Self {
        let mut ipam = self.clone();
        for pool in &mut ipam.config {
            if let Some(length) = pool.gateway.find('/') {
                pool.gateway.truncate(length);
            }
        }
        ipam
    }
}

impl Container {
    /// Its name, where it is on the network.
    fn on(&self, network: &str) -> Option<String> {
        let name = self.names.first().map_or("", String::as_str);
        let is_on = self.network_settings.networks.contains_key(network);
        is_on.then(|| name.trim_start_matches('/').to_owned())
    }
}

/// What becomes of each bridge network, by name.
pub(super) fn plan(networks: Vec<Network>, containers: &[Container]) -> Vec<Planned> {
    let decided = |network: Network| Planned { fate: network.fate(containers), network };
    let bridges = networks.into_iter().filter(|network| network.driver == BRIDGE);
    let mut planned: Vec<Planned> = bridges.map(decided).collect();
    planned.sort_by(|a, b| a.network.name.cmp(&b.network.name));
    planned
}

/// The engine writes `null` for some things that are empty.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
