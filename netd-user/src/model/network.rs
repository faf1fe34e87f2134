//! Networks: what is asked for, what is granted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::id::NetworkId;
use super::keeper::Keeper;
use super::link_name::LinkName;
use super::refusal::Refusal;

/// What a user asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Unique name.
    pub name: String,
    /// `bridge` where none is given.
    pub driver: Option<String>,
    /// Docker's `--ipv4`; default true.
    pub ipv4: Option<bool>,
    /// Docker's `--ipv6`; default false.
    pub ipv6: Option<bool>,
    /// No way in or out.
    pub internal: bool,
    /// Subnets asked for; empty for automatic ones.
    pub subnets: Vec<SubnetSpec>,
    /// `default` or `null`.
    pub ipam_driver: Option<String>,
    /// `--ipam-opt`.
    pub ipam_options: BTreeMap<String, String>,
    /// `-o`.
    pub options: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
}

/// One `--subnet` with what belongs to it. Values are text as given: the model checks them and names
/// all that is wrong at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubnetSpec {
    /// Prefix, host bits refused.
    pub subnet: String,
    /// `--gateway` within it.
    pub gateway: Option<String>,
    /// `--ip-range` within it.
    pub ip_range: Option<String>,
    /// `--aux-address` within it.
    pub aux_addresses: BTreeMap<String, String>,
}

/// A granted network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Unique id.
    pub id: NetworkId,
    /// Number in the dataplane, from 1; reused after removal.
    pub index: u32,
    /// Unique name.
    pub name: String,
    /// Unix time of creation, nanoseconds.
    pub created_ns: i64,
    /// The driver.
    pub driver: DriverKind,
    /// Who decides on its addresses and its end.
    #[serde(default)]
    pub keeper: Keeper,
    /// One of `bridge`, `host`, `none` made by the daemon; can't be removed.
    pub predefined: bool,
    /// IPv4 on.
    pub ipv4: bool,
    /// IPv6 on.
    pub ipv6: bool,
    /// No way in or out.
    pub internal: bool,
    /// The pools, in order; the first of a family serves addresses first.
    pub pools: Vec<Pool>,
    /// `default` or `null`.
    pub ipam_driver: String,
    /// As given.
    pub ipam_options: BTreeMap<String, String>,
    /// Options as given, for display.
    pub options: BTreeMap<String, String>,
    /// Options as understood.
    pub bridge: BridgeOptions,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// The drivers of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverKind {
    /// A switch made of maps with a gateway device.
    Bridge,
    /// Shares the host's namespace.
    Host,
    /// Loopback only.
    Null,
}

/// A prefix and what is reserved in it. Addresses in use are the endpoints' own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The prefix.
    pub subnet: IpNetwork,
    /// Addresses are taken from here, else from the whole prefix.
    pub range: Option<IpNetwork>,
    /// Address of the gateway device; none in gateway mode `isolated`.
    pub gateway: Option<IpAddr>,
    /// Reserved by name. `DefaultGatewayIPv4` and `DefaultGatewayIPv6` name the gateway that
    /// containers get where it isn't the gateway device: see `Pool::container_gateway`.
    pub aux_addresses: BTreeMap<String, IpAddr>,
    /// Whether the user named the subnet: only then may containers ask for addresses.
    pub configured: bool,
}

impl Pool {
    /// The next hop of the default route of containers.
    pub fn container_gateway(&self) -> Option<IpAddr> {
        let name = if self.subnet.is_ipv4() { DEFAULT_GATEWAY_V4 } else { DEFAULT_GATEWAY_V6 };
        self.aux_addresses.get(name).copied().or(self.gateway)
    }
}

/// Name of the auxiliary address that is the IPv4 gateway of containers.
pub const DEFAULT_GATEWAY_V4: &str = "DefaultGatewayIPv4";
/// Name of the auxiliary address that is the IPv6 gateway of containers.
pub const DEFAULT_GATEWAY_V6: &str = "DefaultGatewayIPv6";

impl Network {
    /// The pools of one family, in order.
    pub fn pools_of(&self, v6: bool) -> impl Iterator<Item = &Pool> {
        self.pools.iter().filter(move |pool| pool.subnet.is_ipv6() == v6)
    }

    /// Refuses what only the keeper of the network may do.
    pub(super) fn refuse_unless_ours(&self) -> Result<(), Refusal> {
        self.keeper.refuse_unless_ours("network", &self.name)
    }

    /// Whether containers find each other by name here: as with Docker, not on the predefined ones.
    pub fn has_names(&self) -> bool {
        !self.predefined && self.bridge.names.unwrap_or(true)
    }

    /// Whether its members ask netd for names: on an engine's network only where that is asked for,
    /// for the engine has a resolver of its own.
    pub fn asks_netd(&self) -> bool {
        match self.keeper {
            Keeper::Netd => self.has_names(),
            Keeper::Engine => self.bridge.names == Some(true),
        }
    }

    /// How a family leaves the network.
    pub fn gateway_mode(&self, v6: bool) -> GatewayMode {
        if v6 { self.bridge.gateway_mode_v6 } else { self.bridge.gateway_mode_v4 }
    }
}

/// Docker's bridge options as understood, with defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeOptions {
    /// Name of the gateway device.
    pub device: LinkName,
    /// `enable_ip_masquerade`.
    pub masquerade: bool,
    /// `enable_icc`.
    pub icc: bool,
    /// `host_binding_ipv4`.
    pub host_binding: Option<IpAddr>,
    /// `gateway_mode_ipv4`.
    pub gateway_mode_v4: GatewayMode,
    /// `gateway_mode_ipv6`.
    pub gateway_mode_v6: GatewayMode,
    /// `inhibit_ipv4`: no IPv4 address on the gateway device.
    pub inhibit_ipv4: bool,
    /// `host_ipv4`: masquerade source.
    pub host_ipv4: Option<Ipv4Addr>,
    /// `host_ipv6`: masquerade source.
    pub host_ipv6: Option<Ipv6Addr>,
    /// `trusted_host_interfaces`: links of the host from which published container ports are open
    /// by the containers' own addresses.
    #[serde(default)]
    pub trusted: BTreeSet<String>,
    /// MTU of all links of the network, bytes; none follows the uplink.
    pub mtu: Option<u32>,
    /// `container_iface_prefix`.
    pub interface_prefix: String,
    /// `netd.anti_spoof`.
    pub anti_spoof: AntiSpoof,
    /// `netd.dns`; none leaves it to the keeper: netd's own networks have netd's names, an engine's
    /// have the engine's.
    #[serde(default)]
    pub names: Option<bool>,
}

/// Docker's gateway modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// Translation; unpublished ports are closed.
    Nat,
    /// Translation; container addresses are reachable on every port.
    NatUnprotected,
    /// No translation; published container ports are open.
    Routed,
    /// Internal only; the host has no address on the network.
    Isolated,
}

/// Which sources an endpoint may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AntiSpoof {
    /// Its own MAC and its own addresses.
    Address,
    /// Its own MAC: members may route.
    Mac,
    /// Any.
    Off,
}
