//! The model under the names that people use: an engine's containers and networks as it calls them.
//!
//! Laws: only what is shown changes: names, labels, aliases, host names, name servers, and where a
//! namespace can be entered; ids, addresses and relations never. A name of netd's own wins, and of the
//! engine's the first by id; who goes without keeps the digits that the model has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{COMPOSE_SERVICE, Container, Roster};
use crate::model::{
    ContainerId, Endpoint, EndpointId, Keeper, Model, NetnsPath, Network, NetworkId, Refusal,
    Sandbox, SandboxId,
};

/// Where the namespaces of engines' sandboxes can be entered.
pub type Places = BTreeMap<SandboxId, NetnsPath>;

type Networks = BTreeMap<NetworkId, Arc<Network>>;
type Endpoints = BTreeMap<EndpointId, Arc<Endpoint>>;
type Sandboxes = BTreeMap<SandboxId, Arc<Sandbox>>;

/// A model as it is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Called {
    /// The model under these names.
    pub model: Arc<Model>,
    /// The engine's ids of sandboxes that it told of.
    pub containers: BTreeMap<SandboxId, ContainerId>,
    /// The model under its own names, which go on to find what is called otherwise.
    stored: Arc<Model>,
}

/// Calls everything as the engine does, as far as it said.
pub fn call(model: &Arc<Model>, roster: &Roster, places: &Places) -> Called {
    if !model.networks.values().any(|network| network.keeper == Keeper::Engine) {
        return Called {
            model: Arc::clone(model),
            containers: BTreeMap::new(),
            stored: Arc::clone(model),
        };
    }
    let (sandboxes, containers) = call_sandboxes(model, roster, places);
    let called = Model {
        networks: call_networks(model, roster),
        endpoints: call_endpoints(model, roster),
        sandboxes,
        ..Model::clone(model)
    };
    Called { model: Arc::new(called), containers, stored: Arc::clone(model) }
}

fn call_networks(model: &Model, roster: &Roster) -> Networks {
    let mut networks = model.networks.clone();
    let ours = networks.values().filter(|network| network.keeper == Keeper::Netd);
    let mut taken: BTreeSet<String> = ours.map(|network| network.name.clone()).collect();
    for (id, card) in &roster.networks {
        let Some(network) = networks.get_mut(id) else { continue };
        if network.keeper == Keeper::Engine && taken.insert(card.name.clone()) {
            let Network { name, labels, .. } = Arc::make_mut(network);
            name.clone_from(&card.name);
            labels.clone_from(&card.labels);
        }
    }
    networks
}

fn call_sandboxes(
    model: &Model,
    roster: &Roster,
    places: &Places,
) -> (Sandboxes, BTreeMap<SandboxId, ContainerId>) {
    let mut sandboxes = model.sandboxes.clone();
    let ours = sandboxes.values().filter(|sandbox| sandbox.keeper == Keeper::Netd);
    let mut taken: BTreeSet<String> = ours.map(|sandbox| sandbox.name.clone()).collect();
    let mut containers = BTreeMap::new();
    for container in roster.containers.values() {
        let Some(id) = sandbox_of(model, container) else { continue };
        let Some(sandbox) = sandboxes.get_mut(&id) else { continue };
        let sandbox = Arc::make_mut(sandbox);
        containers.insert(id, container.id);
        if taken.insert(container.card.name.clone()) {
            sandbox.name.clone_from(&container.card.name);
        }
        describe(sandbox, container);
    }
    for (id, place) in places {
        if let Some(sandbox) = sandboxes.get_mut(id) {
            Arc::make_mut(sandbox).netns = place.clone();
        }
    }
    (sandboxes, containers)
}

fn describe(sandbox: &mut Sandbox, container: &Container) {
    sandbox.labels.clone_from(&container.card.labels);
    if let Some(details) = &container.details {
        sandbox.hostname.clone_from(&details.hostname);
        sandbox.dns.clone_from(&details.dns);
    }
}

/// The sandbox that a container is for netd.
fn sandbox_of(model: &Model, container: &Container) -> Option<SandboxId> {
    let ends = container.card.endpoints.keys().filter_map(|id| model.endpoints.get(id));
    ends.filter(|endpoint| endpoint.is_with_engine()).find_map(|endpoint| endpoint.sandbox)
}

fn call_endpoints(model: &Model, roster: &Roster) -> Endpoints {
    let mut endpoints = model.endpoints.clone();
    for container in roster.containers.values() {
        for id in container.card.endpoints.keys() {
            if let Some(endpoint) = endpoints.get_mut(id).filter(|it| it.is_with_engine()) {
                Arc::make_mut(endpoint).aliases = aliases(container, *id);
            }
        }
    }
    endpoints
}

/// The names of an endpoint beside its container's: what was asked for, the short id, the service.
fn aliases(container: &Container, endpoint: EndpointId) -> Vec<String> {
    let asked = container.details.iter().filter_map(|details| details.aliases.get(&endpoint));
    let service = container.card.labels.get(COMPOSE_SERVICE).cloned();
    let own = [Some(container.id.short()), service].into_iter().flatten();
    let names: BTreeSet<String> = asked.flatten().cloned().chain(own).collect();
    names.into_iter().filter(|name| *name != container.card.name).collect()
}

impl Called {
    /// The sandbox of a name, id or unique id prefix, the engine's ids and the digits that the model
    /// has for a name included.
    pub fn find_sandbox(&self, wanted: &str) -> Result<&Arc<Sandbox>, Refusal> {
        self.model.find_sandbox(wanted).or_else(|refusal| {
            let starts = |id: &ContainerId| id.to_string().starts_with(wanted);
            let mut found = self.containers.iter().filter(|(_, id)| starts(id));
            match (found.next(), found.next()) {
                (Some((sandbox, _)), None) => self.model.sandboxes.get(sandbox).ok_or(refusal),
                (Some(_), Some(_)) => Err(Refusal::invalid(format_args!(
                    "multiple IDs found with provided prefix: {wanted}"
                ))),
                (None, _) => self.find_stored(wanted).ok_or(refusal),
            }
        })
    }

    /// Whoever noted the digits before a name was heard finds the sandbox by them still.
    fn find_stored(&self, wanted: &str) -> Option<&Arc<Sandbox>> {
        let stored = self.stored.find_sandbox(wanted).ok()?;
        self.model.sandboxes.get(&stored.id)
    }

    /// What a command should call a sandbox that a user calls `wanted`.
    pub fn sandbox_reference(&self, wanted: String) -> String {
        self.find_sandbox(&wanted).map_or(wanted, |sandbox| sandbox.id.to_string())
    }

    /// What a command should call a network that a user calls `wanted`.
    pub fn network_reference(&self, wanted: String) -> String {
        self.model.find_network(&wanted).map_or(wanted, |network| network.id.to_string())
    }
}
