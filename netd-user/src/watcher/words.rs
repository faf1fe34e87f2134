//! The engine's words: the fields of its answers that are read, and nothing else.
//!
//! Law: whatever an engine of any version leaves out or adds is no mistake; what has no id of the
//! usual kind is passed over.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::Happening;
use crate::model::{ContainerId, EndpointId, NetworkId};
use crate::roster::{Container, ContainerCard, ContainerDetails, NetworkCard};

type Labels = Option<BTreeMap<String, String>>;

/// An entry of `GET /networks`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedNetwork {
    id: String,
    name: String,
    labels: Labels,
}

/// An entry of `GET /containers/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedContainer {
    id: String,
    names: Option<Vec<String>>,
    labels: Labels,
    state: Option<String>,
    network_settings: Option<Attachments>,
}

/// `GET /containers/ID/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribedContainer {
    id: String,
    name: String,
    state: Option<State>,
    config: Option<Settings>,
    host_config: Option<HostSettings>,
    network_settings: Option<Attachments>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    running: bool,
    pid: i32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Settings {
    hostname: String,
    labels: Labels,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostSettings {
    dns: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Attachments {
    networks: Option<BTreeMap<String, Attachment>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Attachment {
    #[serde(rename = "NetworkID")]
    network: String,
    #[serde(rename = "EndpointID")]
    endpoint: String,
    aliases: Option<Vec<String>>,
    /// Engines from 25 on list here what they answer for.
    #[serde(rename = "DNSNames")]
    names: Option<Vec<String>>,
}

/// A line of `GET /events`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Event {
    #[serde(rename = "Type")]
    kind: String,
    action: String,
    actor: Actor,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    attributes: Labels,
}

impl ListedNetwork {
    pub(super) fn read(self) -> Option<(NetworkId, NetworkCard)> {
        let labels = self.labels.unwrap_or_default();
        Some((self.id.parse().ok()?, NetworkCard { name: self.name, labels }))
    }
}

impl ListedContainer {
    pub(super) fn read(self) -> Option<Container> {
        let names = self.names.unwrap_or_default();
        // Links of the old kind add names of the form /other/alias.
        let mut own = names.iter().filter_map(|name| name.strip_prefix('/'));
        let name = own.find(|name| !name.contains('/'))?.to_owned();
        let attached = self.network_settings.unwrap_or_default().read();
        let card = ContainerCard {
            name,
            running: self.state.as_deref() == Some("running"),
            labels: self.labels.unwrap_or_default(),
            endpoints: attached.endpoints(),
        };
        Some(Container { id: self.id.parse().ok()?, card, details: None })
    }
}

impl DescribedContainer {
    pub(super) fn read(self) -> Option<Container> {
        let attached = self.network_settings.unwrap_or_default().read();
        let settings = self.config.unwrap_or_default();
        let state = self.state.unwrap_or_default();
        let card = ContainerCard {
            name: self.name.trim_start_matches('/').to_owned(),
            running: state.running,
            labels: settings.labels.unwrap_or_default(),
            endpoints: attached.endpoints(),
        };
        let details = ContainerDetails {
            hostname: settings.hostname,
            pid: Some(state.pid).filter(|pid| *pid > 0),
            dns: self.host_config.unwrap_or_default().dns.unwrap_or_default(),
            aliases: attached.aliases(),
        };
        Some(Container { id: self.id.parse().ok()?, card, details: Some(details) })
    }
}

/// Attachments with ids that are ones.
struct Attached(Vec<(EndpointId, NetworkId, Attachment)>);

impl Attachments {
    fn read(self) -> Attached {
        let each = self.networks.unwrap_or_default().into_values();
        let known =
            each.filter_map(|it| Some((it.endpoint.parse().ok()?, it.network.parse().ok()?, it)));
        Attached(known.collect())
    }
}

impl Attached {
    fn endpoints(&self) -> BTreeMap<EndpointId, NetworkId> {
        self.0.iter().map(|(endpoint, network, _)| (*endpoint, *network)).collect()
    }

    fn aliases(&self) -> BTreeMap<EndpointId, BTreeSet<String>> {
        let names = |it: &Attachment| {
            let both = [&it.aliases, &it.names].into_iter().flatten().flatten();
            both.cloned().collect()
        };
        self.0.iter().map(|(endpoint, _, it)| (*endpoint, names(it))).collect()
    }
}

impl Event {
    pub(super) fn read(&self) -> Happening {
        match (self.kind.as_str(), self.action.as_str()) {
            ("container", _) => container(&self.actor.id),
            ("network", "connect" | "disconnect") => {
                let attributes = self.actor.attributes.as_ref();
                attributes
                    .and_then(|it| it.get("container"))
                    .map_or(Happening::Nothing, |id| container(id))
            }
            ("network", _) => Happening::Networks,
            _ => Happening::Nothing,
        }
    }
}

fn container(id: &str) -> Happening {
    id.parse().map_or(Happening::Nothing, |id: ContainerId| Happening::Container(id))
}
