//! The model seen from its networks and sandboxes: who is a member of what, and by which endpoint a
//! sandbox leaves. Built once per compilation, so that no pass searches the model.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use crate::model::network::{DriverKind, GatewayMode, Pool};
use crate::model::{Endpoint, Model, Network, NetworkId, Sandbox, SandboxId};

const EVERYTHING_V4: Ipv4Network =
    Ipv4Network::new_checked(Ipv4Addr::UNSPECIFIED, 0).expect("zero is a prefix length");
const EVERYTHING_V6: Ipv6Network =
    Ipv6Network::new_checked(Ipv6Addr::UNSPECIFIED, 0).expect("zero is a prefix length");

/// An index over a model.
pub struct Topology<'a> {
    members: BTreeMap<NetworkId, Vec<&'a Endpoint>>,
    sandboxes: BTreeMap<SandboxId, Joined<'a>>,
}

/// A sandbox with what it has joined.
#[derive(Clone, Debug)]
pub struct Joined<'a> {
    /// The sandbox.
    pub sandbox: &'a Arc<Sandbox>,
    /// Its endpoints, the preferred way out first.
    pub attachments: Vec<Attachment<'a>>,
}

/// An endpoint with its network.
#[derive(Clone, Copy, Debug)]
pub struct Attachment<'a> {
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    /// Its network.
    pub network: &'a Network,
}

/// An address family, where it is a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl AddressFamily {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// An address's family.
    pub fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The prefix that holds every address.
    pub fn everything(self) -> IpNetwork {
        match self {
            Self::V4 => IpNetwork::V4(EVERYTHING_V4),
            Self::V6 => IpNetwork::V6(EVERYTHING_V6),
        }
    }

    /// A single address's prefix length.
    pub const fn host_prefix(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The auxiliary address that containers route through instead of the gateway device.
    const fn default_gateway_key(self) -> &'static str {
        match self {
            Self::V4 => "DefaultGatewayIPv4",
            Self::V6 => "DefaultGatewayIPv6",
        }
    }
}

impl<'a> Topology<'a> {
    /// Indexes a model; endpoints of unknown networks and sandboxes are no part of it.
    pub fn of(model: &'a Model) -> Self {
        let mut members: BTreeMap<NetworkId, Vec<&Endpoint>> = BTreeMap::new();
        let alone = |sandbox| Joined { sandbox, attachments: Vec::new() };
        let sandboxes = model.sandboxes.iter().map(|(id, sandbox)| (*id, alone(sandbox)));
        let mut sandboxes: BTreeMap<SandboxId, Joined> = sandboxes.collect();
        for endpoint in model.endpoints.values() {
            let Some(network) = model.networks.get(&endpoint.network) else {
                continue;
            };
            members.entry(network.id).or_default().push(endpoint);
            let attachment = Attachment { endpoint, network };
            if let Some(joined) = endpoint.sandbox.and_then(|id| sandboxes.get_mut(&id)) {
                joined.attachments.push(attachment);
            }
        }
        for endpoints in members.values_mut() {
            endpoints.sort_by_key(|endpoint| endpoint.index);
        }
        for joined in sandboxes.values_mut() {
            joined.attachments.sort_by_key(Attachment::preference);
        }
        Self { members, sandboxes }
    }

    /// A network's endpoints, in order of their numbers.
    pub fn members(&self, network: NetworkId) -> &[&'a Endpoint] {
        self.members.get(&network).map_or(&[], Vec::as_slice)
    }

    /// Every sandbox, in order of ids.
    pub fn sandboxes(&self) -> impl Iterator<Item = &Joined<'a>> {
        self.sandboxes.values()
    }

    /// One of them.
    pub fn joined(&self, sandbox: SandboxId) -> Option<&Joined<'a>> {
        self.sandboxes.get(&sandbox)
    }
}

impl<'a> Joined<'a> {
    /// The endpoint by which the sandbox leaves and its published ports enter.
    pub fn gateway(&self, family: AddressFamily) -> Option<Attachment<'a>> {
        let serves =
            |it: &&Attachment<'_>| it.endpoint.may_be_gateway() && it.next_hop(family).is_some();
        self.attachments.iter().find(serves).copied()
    }
}

impl<'a> Attachment<'a> {
    /// The order of `Model::gateway_endpoint`: priority, breadth, then the network's name.
    fn preference(&self) -> (Reverse<i32>, usize, &'a str) {
        (Reverse(self.endpoint.gw_priority), self.endpoint.breadth(), &self.network.name)
    }

    /// Its address in a family.
    pub fn address(&self, family: AddressFamily) -> Option<IpAddr> {
        match family {
            AddressFamily::V4 => self.endpoint.v4.map(IpAddr::V4),
            AddressFamily::V6 => self.endpoint.v6.map(IpAddr::V6),
        }
    }

    /// Its address in a family with the prefix length of its pool.
    pub fn interface_address(&self, family: AddressFamily) -> Option<IpNetwork> {
        let addr = self.address(family)?;
        let prefix =
            pool_of(self.network, addr).map_or(family.host_prefix(), |pool| pool.subnet.prefix());
        IpNetwork::new(addr, prefix).ok()
    }

    /// The router that its network offers to the outside, by the rule of `Model::gateway_of`.
    pub fn next_hop(&self, family: AddressFamily) -> Option<IpAddr> {
        let Self { network, .. } = self;
        if network.driver != DriverKind::Bridge || network.internal {
            return None;
        }
        let pool = pool_of(network, self.address(family)?)?;
        pool.aux_addresses.get(family.default_gateway_key()).copied().or(pool.gateway)
    }
}

/// A network's gateway mode in a family.
pub fn gateway_mode(network: &Network, family: AddressFamily) -> GatewayMode {
    match family {
        AddressFamily::V4 => network.bridge.gateway_mode_v4,
        AddressFamily::V6 => network.bridge.gateway_mode_v6,
    }
}

/// Whether a network has a family at all.
pub fn speaks(network: &Network, family: AddressFamily) -> bool {
    match family {
        AddressFamily::V4 => network.ipv4,
        AddressFamily::V6 => network.ipv6,
    }
}

fn pool_of(network: &Network, addr: IpAddr) -> Option<&Pool> {
    network.pools.iter().find(|pool| pool.subnet.contains(addr))
}
