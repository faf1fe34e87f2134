//! The pure container network model (CNM): networks, endpoints, sandboxes, pools, published ports.
//!
//! Laws: no I/O, no async, no clock, no globals, ordered collections only. State changes only through
//! `Model::apply`, which never changes its input and whose only error is a refusal a user caused.

mod apply;
mod connect;
mod create_network;
mod create_sandbox;
pub mod endpoint;
pub mod engine;
mod extra_host;
pub mod id;
pub mod invariants;
pub mod ipam;
mod keeper;
mod ledger;
mod link_name;
mod lookup;
mod netns;
pub mod network;
pub mod options;
pub mod pool;
pub mod port;
mod predefined;
mod prune;
mod publish;
pub mod rand;
pub mod refusal;
pub mod sandbox;
mod subnet;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

pub use endpoint::{Endpoint, EndpointSpec, Inside};
pub use engine::EngineCommand;
pub use engine::lease::{Lease, PoolId};
pub use extra_host::{ExtraHost, HostTarget};
pub use id::{ContainerId, EndpointId, NetworkId, SandboxId};
pub use ipam::PoolUsage;
pub use keeper::Keeper;
pub use link_name::LinkName;
pub use netns::NetnsPath;
pub use network::{Network, NetworkSpec};
pub use port::{MOST_HELD_PORTS, PortSpec, Proto, Publication};
pub use refusal::{Refusal, RefusalKind};
pub use sandbox::{Sandbox, SandboxSpec};

/// Everything that was asked for and granted. Cheap to clone: objects are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// By id.
    pub networks: BTreeMap<NetworkId, Arc<Network>>,
    /// By id.
    pub endpoints: BTreeMap<EndpointId, Arc<Endpoint>>,
    /// By id.
    pub sandboxes: BTreeMap<SandboxId, Arc<Sandbox>>,
    /// Pools that an engine has asked for on their own, by id.
    pub leases: BTreeMap<PoolId, Arc<Lease>>,
    /// Where the search for the next random port begins; per protocol it runs round robin.
    pub next_port: BTreeMap<Proto, u16>,
}

/// A change of the model. Names given by users are resolved by `apply`: name, id, or unique id prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Creates the predefined networks where they are missing, from the settings.
    EnsurePredefined,
    /// Creates a network.
    CreateNetwork(Box<NetworkSpec>),
    /// Removes a network without endpoints.
    RemoveNetwork {
        /// Name, id or id prefix.
        network: String,
    },
    /// Removes all unused custom networks that match.
    PruneNetworks {
        /// `label`, `label!`, `until` (RFC 3339 or Unix seconds), as Docker's prune filters.
        filters: BTreeMap<String, BTreeSet<String>>,
    },
    /// Creates a sandbox, connects it and publishes its ports, all or nothing.
    CreateSandbox(Box<SandboxSpec>),
    /// Removes a sandbox with its endpoints.
    RemoveSandbox {
        /// Name, id or id prefix.
        sandbox: String,
    },
    /// Says which process the sandbox lives and dies with.
    SetOwner {
        /// Name, id or id prefix.
        sandbox: String,
        /// The process, or none for a sandbox that is removed by hand.
        owner: Option<sandbox::ProcessRef>,
    },
    /// Creates an endpoint for a sandbox on a network.
    Connect {
        /// Name, id or id prefix.
        network: String,
        /// Name, id or id prefix.
        sandbox: String,
        /// What is asked for.
        spec: Box<EndpointSpec>,
    },
    /// Removes the endpoint of a sandbox on a network.
    Disconnect {
        /// Name, id or id prefix.
        network: String,
        /// Name, id or id prefix.
        sandbox: String,
    },
    /// What a container engine asks for, whose networks and endpoints come under its own ids.
    Engine(Box<EngineCommand>),
}

/// What a granted command produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to tell.
    Done,
    /// A network was created or removed.
    Network(NetworkId),
    /// Networks were removed: their names.
    Pruned(Vec<String>),
    /// A sandbox was created, changed or removed; warnings in Docker's words.
    Sandbox(SandboxId, Vec<String>),
    /// An endpoint was created or removed.
    Endpoint(EndpointId),
    /// A pool was granted on its own.
    Pool(PoolId),
    /// An address was granted on its own, with the prefix length of its pool.
    Address(IpNetwork),
}

/// What the world looks like at the moment of a command: the pure core's only view outside.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// Unix time, nanoseconds.
    pub now_ns: i64,
    /// Entropy for ids and MACs; two commands never get the same.
    pub seed: [u8; 32],
    /// Endpoints that an engine keeps and whose sandbox has ended without a word.
    pub departed: BTreeSet<EndpointId>,
    /// Prefixes that an automatic pool must not overlap: host routes and name servers.
    pub occupied: Vec<IpNetwork>,
    /// Addresses of the host, to check a published address.
    pub host_addresses: BTreeSet<IpAddr>,
    /// First and last port for random publishing (`ip_local_port_range`).
    pub port_range: (u16, u16),
    /// Ports that random publishing passes over (`ip_local_reserved_ports`): ten thousands as a rule.
    pub reserved_ports: Vec<RangeInclusive<u16>>,
    /// Ports that an earlier try found busy: passed over, too.
    pub busy_ports: BTreeSet<(Proto, u16)>,
    /// MTU of the uplink, which networks inherit.
    pub uplink_mtu: u32,
    /// The daemon's settings.
    pub settings: Arc<Settings>,
}

impl Circumstances {
    /// Whether random publishing passes over a port.
    pub(crate) fn passes_over(&self, proto: Proto, port: u16) -> bool {
        self.busy_ports.contains(&(proto, port))
            || self.reserved_ports.iter().any(|range| range.contains(&port))
    }
}

/// The settings of the daemon that the model obeys; names and meanings of Docker's daemon.json.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `default-address-pools`: base and prefix length of the networks cut from it.
    pub default_address_pools: Vec<AddressPool>,
    /// ULA /48 from which IPv6 networks without a subnet get a /64.
    pub ula_prefix: ipnetwork::Ipv6Network,
    /// `bip`: address and prefix of the predefined bridge, else the first free default pool.
    pub bip: Option<IpNetwork>,
    /// `bip6`.
    pub bip6: Option<IpNetwork>,
    /// `fixed-cidr`: range within `bip` for containers.
    pub fixed_cidr: Option<IpNetwork>,
    /// `fixed-cidr-v6`.
    pub fixed_cidr_v6: Option<IpNetwork>,
    /// `default-gateway` and `default-gateway-v6` of the predefined bridge.
    pub default_gateway: Option<IpAddr>,
    /// IPv6 default gateway of the predefined bridge.
    pub default_gateway_v6: Option<IpAddr>,
    /// `ipv6` on the predefined bridge.
    pub ipv6: bool,
    /// `icc` of the predefined bridge.
    pub icc: bool,
    /// `ip-masq` of the predefined bridge.
    pub ip_masq: bool,
    /// `ip`: host address for `-p` without one.
    pub ip: Option<IpAddr>,
    /// `mtu`, else the uplink's.
    pub mtu: Option<u32>,
    /// `bridge = "none"` leaves the predefined bridge network out.
    pub bridge: Option<String>,
    /// `default-network-opts` for the bridge driver.
    pub default_network_opts: BTreeMap<String, String>,
    /// Prefix of the names of links that we make for networks (`br-`).
    pub bridge_prefix: String,
    /// Prefix of the names of links that we make for endpoints (`veth`).
    pub veth_prefix: String,
    /// Name of the predefined bridge network's gateway device (`netd0`).
    pub default_bridge_name: String,
    /// Directory in which namespaces of sandboxes are mounted.
    pub netns_dir: std::path::PathBuf,
}

/// One of `default-address-pools`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressPool {
    /// The prefix that networks are cut from.
    pub base: IpNetwork,
    /// Prefix length of each network.
    pub size: u8,
}
