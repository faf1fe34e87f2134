//! Who has which name: the model seen by a resolver. Pure; built once for each model.
//!
//! Laws: an asker learns only names and addresses of networks it is on; of several networks that know
//! a name, the first in the order of the asker's gateways answers; names are compared without case.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::model::{Endpoint, Model, Network, NetworkId, Proto, Sandbox, SandboxId};

use super::policy::{self, Servers, Upstreams};

/// What all askers can know.
#[derive(Debug, Default)]
pub struct Names {
    zones: BTreeMap<NetworkId, Zone>,
    askers: BTreeMap<SandboxId, Asker>,
}

/// One who asks.
#[derive(Debug, Default)]
pub struct Asker {
    /// Networks with names that it is on, the preferred way out first.
    networks: Vec<NetworkId>,
    /// Who is asked for names that no network of its knows.
    pub upstreams: Upstreams,
}

/// The names of one network.
#[derive(Debug)]
struct Zone {
    /// As given, for answers.
    name: String,
    /// Lower case.
    lower: String,
    holders: BTreeMap<String, Vec<Holder>>,
    reverse: BTreeMap<IpAddr, String>,
}

/// One endpoint behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
    sandbox: Arc<Sandbox>,
}

impl Holder {
    /// Whether its sandbox exposes a port.
    pub fn exposes(&self, port: u16, proto: Proto) -> bool {
        let exposed = |(first, last, of): &(u16, u16, Proto)| {
            *of == proto && (*first..=*last).contains(&port)
        };
        self.sandbox.expose.iter().any(exposed)
    }
}

/// A name's holders on the network that answered for it.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The network's name.
    pub network: &'a str,
    /// Who has the name.
    pub holders: &'a [Holder],
}

impl Names {
    /// Of a model, with the name servers that the daemon and the host know.
    pub fn of(model: &Model, servers: &Servers) -> Self {
        let mut names = Self::default();
        let mut attached: BTreeMap<SandboxId, Vec<(&Endpoint, &Network)>> = BTreeMap::new();
        for endpoint in model.endpoints.values() {
            let Some(network) = model.networks.get(&endpoint.network) else { continue };
            let Some(sandbox) = endpoint.sandbox.and_then(|id| model.sandboxes.get(&id)) else {
                continue;
            };
            attached.entry(sandbox.id).or_default().push((endpoint, network));
            if network.has_names() {
                names
                    .zones
                    .entry(network.id)
                    .or_insert_with(|| Zone::of(network))
                    .add(sandbox, endpoint);
            }
        }
        for sandbox in model.sandboxes.values() {
            let mut attached = attached.remove(&sandbox.id).unwrap_or_default();
            attached
                .sort_by_key(|(endpoint, network)| (Reverse(endpoint.gw_priority), &network.name));
            let upstreams = policy::upstreams(model, sandbox, &attached, servers);
            let networks = attached.iter().filter(|(_, network)| network.has_names());
            let networks = networks.map(|(_, network)| network.id).collect();
            names.askers.insert(sandbox.id, Asker { networks, upstreams });
        }
        names
    }

    /// What an asker may know; none for a sandbox that is gone.
    pub fn asker(&self, sandbox: SandboxId) -> Option<&Asker> {
        self.askers.get(&sandbox)
    }

    /// Who has `name` (lower case, no final dot) in the eyes of an asker: as it stands, with the
    /// name of a network at its end, or with `tasks.` before it.
    pub fn find<'a>(&'a self, asker: &'a Asker, name: &str) -> Option<Found<'a>> {
        let exact = self.find_exact(asker, name);
        exact.or_else(|| self.find_exact(asker, name.strip_prefix("tasks.")?))
    }

    fn find_exact<'a>(&'a self, asker: &'a Asker, name: &str) -> Option<Found<'a>> {
        self.zones_of(asker).find_map(|zone| {
            let holders =
                zone.holders.get(name).or_else(|| zone.holders.get(zone.qualified(name)?))?;
            Some(Found { network: &zone.name, holders })
        })
    }

    /// The full name of an address in the eyes of an asker.
    pub fn reverse(&self, asker: &Asker, address: IpAddr) -> Option<String> {
        self.zones_of(asker).find_map(|zone| {
            let name = zone.reverse.get(&address)?;
            Some(format!("{name}.{}.", zone.name))
        })
    }

    fn zones_of<'a>(&'a self, asker: &'a Asker) -> impl Iterator<Item = &'a Zone> {
        asker.networks.iter().filter_map(|network| self.zones.get(network))
    }
}

impl Zone {
    fn of(network: &Network) -> Self {
        Self {
            name: network.name.clone(),
            lower: network.name.to_ascii_lowercase(),
            holders: BTreeMap::new(),
            reverse: BTreeMap::new(),
        }
    }

    fn add(&mut self, sandbox: &Arc<Sandbox>, endpoint: &Endpoint) {
        let own = [sandbox.name.clone(), sandbox.id.short(), sandbox.hostname.clone()];
        let names = own.iter().chain(&endpoint.aliases).map(|name| name.to_ascii_lowercase());
        let names: std::collections::BTreeSet<String> =
            names.filter(|name| !name.is_empty()).collect();
        for name in names {
            let holder = Holder { v4: endpoint.v4, v6: endpoint.v6, sandbox: Arc::clone(sandbox) };
            self.holders.entry(name).or_default().push(holder);
        }
        let addresses = endpoint.v4.map(IpAddr::V4).into_iter().chain(endpoint.v6.map(IpAddr::V6));
        self.reverse.extend(addresses.map(|address| (address, sandbox.name.clone())));
    }

    /// What is left of a name that ends in this network's.
    fn qualified<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_suffix(self.lower.as_str())?.strip_suffix('.')
    }
}
