//! What the kernel should hold: links, programs, map entries, held ports. A value, compared and
//! applied by the reconciler; drivers only add to it.

pub mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netd_common::map::config::Config;
use netd_common::map::endpoint::{
    AddressKey, AddressValue, EndpointValue, MemberKey, StationKey, StationValue,
};
use netd_common::map::network::{
    HostAddressValue, NetworkValue, SubnetKey, SubnetValue, TrustedKey, UplinkValue,
};
use netd_common::map::published::{PublishedKey, PublishedValue};
use netd_common::{Hook, IfIndex, Ipv4, Ipv6, MacAddr};

use crate::model::{LinkName, NetnsPath, Proto, SandboxId};
use files::SandboxFiles;

/// Everything that should be. Entries that need an interface index appear once `HostFacts` knows the
/// link: the reconciler makes links, looks again and compiles the tables then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Links of ours, by name.
    pub links: BTreeMap<LinkName, Link>,
    /// Namespaces of ours.
    pub namespaces: BTreeSet<NetnsPath>,
    /// Namespaces of sandboxes in which netd answers name queries.
    pub resolvers: BTreeMap<SandboxId, NetnsPath>,
    /// Files that sandboxes have to themselves.
    pub files: BTreeMap<SandboxId, SandboxFiles>,
    /// Programs on links, by link name.
    pub programs: BTreeSet<(LinkName, Hook)>,
    /// Map entries.
    pub tables: Tables,
    /// Ports held by a bound socket, so that others meet the conflict.
    pub held_ports: BTreeSet<HeldPort>,
}

/// A link of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// A network's door to the host: a bridge without ports.
    Gateway(GatewayLink),
    /// An endpoint.
    Veth(VethLink),
    /// An endpoint whose sandbox an engine makes.
    Offered(OfferedLink),
}

/// A network's gateway device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayLink {
    /// Its MAC.
    pub mac: MacAddr,
    /// Bytes.
    pub mtu: u32,
    /// Its addresses with prefix lengths.
    pub addresses: BTreeSet<IpNetwork>,
    /// Whether it forwards IPv4 (`net.ipv4.conf.X.forwarding`), which `bpf_fib_lookup` asks for.
    pub ipv4: bool,
    /// The same for IPv6.
    pub ipv6: bool,
}

/// An endpoint's veth pair: one end here, the other in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethLink {
    /// Path of the sandbox's namespace.
    pub netns: NetnsPath,
    /// Name in the sandbox.
    pub interface: LinkName,
    /// MAC in the sandbox.
    pub mac: MacAddr,
    /// Bytes, both ends.
    pub mtu: u32,
    /// Addresses in the sandbox with prefix lengths.
    pub addresses: BTreeSet<IpNetwork>,
    /// Routes in the sandbox through this link.
    pub routes: BTreeSet<Route>,
    /// Whether IPv6 is on in the sandbox's end.
    pub ipv6: bool,
}

/// An endpoint's veth pair with both ends here until an engine takes one away. From then on the
/// engine names it, gives it addresses and brings it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedLink {
    /// Name under which the engine finds its end.
    pub interface: LinkName,
    /// MAC of the engine's end.
    pub mac: MacAddr,
    /// Bytes, both ends.
    pub mtu: u32,
}

/// A route within a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Destination, `0.0.0.0/0` or `::/0` for the default route.
    pub destination: IpNetwork,
    /// Next hop; on-link where none.
    pub via: Option<IpAddr>,
}

/// A port held by a bound socket in the host's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeldPort {
    /// Unspecified for all addresses of the family.
    pub addr: IpAddr,
    /// Port.
    pub port: u16,
    /// Protocol.
    pub proto: Proto,
}

/// The desired maps, each under its name in `netd_common::map`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Slot 0 of `config`; its generation is the reconciler's.
    pub config: BTreeMap<u32, Config>,
    /// `networks`.
    pub networks: BTreeMap<u32, NetworkValue>,
    /// `gateways`.
    pub gateways: BTreeMap<IfIndex, u32>,
    /// `endpoints`.
    pub endpoints: BTreeMap<IfIndex, EndpointValue>,
    /// `addresses_v4`.
    pub addresses_v4: BTreeMap<AddressKey<Ipv4>, AddressValue>,
    /// `addresses_v6`.
    pub addresses_v6: BTreeMap<AddressKey<Ipv6>, AddressValue>,
    /// `stations`.
    pub stations: BTreeMap<StationKey, StationValue>,
    /// `members`.
    pub members: BTreeMap<MemberKey, IfIndex>,
    /// `subnets_v4`.
    pub subnets_v4: BTreeMap<SubnetKey<Ipv4>, SubnetValue>,
    /// `subnets_v6`.
    pub subnets_v6: BTreeMap<SubnetKey<Ipv6>, SubnetValue>,
    /// `host_addrs_v4`.
    pub host_addrs_v4: BTreeMap<Ipv4, HostAddressValue>,
    /// `host_addrs_v6`.
    pub host_addrs_v6: BTreeMap<Ipv6, HostAddressValue>,
    /// `uplinks`.
    pub uplinks: BTreeMap<IfIndex, UplinkValue>,
    /// `trusted`.
    pub trusted: BTreeMap<TrustedKey, u32>,
    /// `published_v4`.
    pub published_v4: BTreeMap<PublishedKey<Ipv4>, PublishedValue<Ipv4>>,
    /// `published_v6`.
    pub published_v6: BTreeMap<PublishedKey<Ipv6>, PublishedValue<Ipv6>>,
}
