//! What the compiler may know of the host: a snapshot, taken by `link`, read by pure code.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use netd_common::{IfIndex, MacAddr};

use crate::model::LinkName;

/// The host as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Every link of the host's namespace, by name.
    pub links: BTreeMap<LinkName, LinkFact>,
    /// Ways out: links of others that are up and have a default route, in order of preference, then
    /// those that hold an address for the outside.
    pub uplinks: Vec<UplinkFact>,
    /// Addresses of the host, loopback excluded, with the link that holds each.
    pub addresses: BTreeMap<IpAddr, IfIndex>,
    /// Destinations of all routes but default ones.
    pub routes: BTreeSet<IpNetwork>,
    /// What the host's resolv.conf says.
    pub resolver: HostResolver,
    /// Cookie of the host's network namespace (`SO_NETNS_COOKIE`).
    pub netns_cookie: u64,
}

/// What the host's resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostResolver {
    /// Its name servers.
    pub servers: Vec<IpAddr>,
    /// Those that other namespaces reach; where the only one is systemd's stub, the ones behind it.
    pub remote: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// A link of the host's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkFact {
    /// Interface index.
    pub ifindex: IfIndex,
    /// MAC, all zero where it has none.
    pub mac: MacAddr,
    /// MTU, bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Kind as netlink names it (`veth`, `bridge`), empty for physical links.
    pub kind: Cow<'static, str>,
}

/// A way out of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UplinkFact {
    /// Name.
    pub name: LinkName,
    /// Interface index.
    pub ifindex: IfIndex,
    /// MAC; none for links without an Ethernet header (tun).
    pub mac: Option<MacAddr>,
    /// MTU, bytes.
    pub mtu: u32,
    /// Preferred IPv4 source: the default route's, else the first global address.
    pub v4: Option<Ipv4Addr>,
    /// Preferred IPv6 source.
    pub v6: Option<Ipv6Addr>,
}
