//! What a container engine says of its containers and networks: names, labels, aliases, processes.
//!
//! Laws: a roster is an observation as of one moment, never state: nothing here is stored, and no
//! command is judged by it but the end of what the engine has forgotten. Pure. What a lost engine said
//! last stays true until it says otherwise.

mod called;
mod forgotten;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{ContainerId, EndpointId, NetworkId};

pub use called::{Called, Places, call};
pub use forgotten::{Suspects, is_unclaimed};

/// All that was heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// How it is heard.
    pub link: EngineLink,
    /// All networks of the engine, by id.
    pub networks: BTreeMap<NetworkId, NetworkCard>,
    /// All containers of the engine, by id.
    pub containers: BTreeMap<ContainerId, Arc<Container>>,
    /// When the last complete listing was taken, in seconds of any one clock; none before the first.
    pub listed_s: Option<u64>,
}

/// Whether the engine can be heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EngineLink {
    /// Nobody is to listen.
    #[default]
    Off,
    /// It tells what happens.
    Connected,
    /// It does not, and why.
    Silent(String),
}

/// A network as its engine calls it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkCard {
    /// Its name; engines allow the same twice.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A container of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// What every listing says.
    pub card: ContainerCard,
    /// What has to be asked for; none until it was.
    pub details: Option<ContainerDetails>,
}

/// What a listing says of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerCard {
    /// Its name, without the slash before it.
    pub name: String,
    /// Whether it runs.
    pub running: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Its endpoints and their networks; none while it is stopped.
    pub endpoints: BTreeMap<EndpointId, NetworkId>,
}

/// What only a question about the one container brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerDetails {
    /// Host name.
    pub hostname: String,
    /// Its first process; none while it is stopped.
    pub pid: Option<i32>,
    /// `--dns`.
    pub dns: Vec<String>,
    /// Names beside its own, by endpoint.
    pub aliases: BTreeMap<EndpointId, BTreeSet<String>>,
}

/// The label that compose keeps a service's name in.
pub const COMPOSE_SERVICE: &str = "com.docker.compose.service";
/// The label that compose keeps a project's name in.
pub const COMPOSE_PROJECT: &str = "com.docker.compose.project";

impl Roster {
    /// Replaces all by a complete listing. Details of containers that are as they were are kept.
    pub fn list(&mut self, networks: BTreeMap<NetworkId, NetworkCard>, listed: Vec<Container>) {
        self.networks = networks;
        let mut before = std::mem::take(&mut self.containers);
        for container in listed {
            let same = before.remove(&container.id).filter(|held| held.card == container.card);
            self.containers.insert(container.id, same.unwrap_or_else(|| Arc::new(container)));
        }
    }

    /// Containers on networks that `matter` whose details are not known.
    pub fn unasked<'a>(
        &'a self,
        matter: &'a impl Fn(NetworkId) -> bool,
    ) -> impl Iterator<Item = ContainerId> + 'a {
        let unasked = self.containers.values().filter(|container| container.details.is_none());
        let matters = |it: &&Arc<Container>| it.card.endpoints.values().any(|id| matter(*id));
        unasked.filter(matters).map(|container| container.id)
    }

    /// The container that has an endpoint.
    pub fn containers_by_endpoint(&self) -> BTreeMap<EndpointId, &Arc<Container>> {
        let each = self.containers.values();
        each.flat_map(|it| it.card.endpoints.keys().map(move |endpoint| (*endpoint, it))).collect()
    }
}

impl EngineLink {
    /// As `netd status` says it.
    pub fn sentence(&self) -> String {
        match self {
            Self::Off => "off".to_owned(),
            Self::Connected => "connected".to_owned(),
            Self::Silent(why) => format!("not connected: {why}"),
        }
    }
}
