//! Rigs: the networks that are compared, each in namespaces of its own, all with one topology.
//!
//! ```text
//! outside 10.99.0.1 --- 10.99.0.2 host 172.30.0.1 --- one .2, two .3, others   (network 1)
//!                                 host 172.31.0.1 --- stranger .2              (network 2)
//! ```
//!
//! IPv6 is beside it: outside `fd99::1`, host `fd99::2` and `fd30::1`, endpoints of network 1 from
//! `fd30::2` on.
//!
//! Law: a rig is one implementation of `Rig`; what stands falls when it is dropped.

mod bridged;
mod direct;
mod iptables;
mod netd;
mod nftables;

use std::any::Any;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::generator::Frame;
use crate::namespace::Namespace;
use crate::traffic::Route;

pub(crate) use bridged::Site;
pub(crate) use netd::{Daemon, Netd};

/// Our own rig's name, which all others are compared to.
pub(crate) const NETD: &str = "netd";
/// The name of the limit that no container network reaches.
pub(crate) const LOOPBACK: &str = "loopback";
/// The name of the bridge without netfilter.
pub(crate) const BRIDGE: &str = "bridge";
/// The name of the limit over one veth.
pub(crate) const VETH: &str = "veth";
/// Docker's engine with its bridge driver.
pub(crate) const DOCKER: &str = "docker";
/// The name of the rig with iptables.
pub(crate) const IPTABLES: &str = "iptables";
/// The name of the rig with the older iptables, which full runs have too.
pub(crate) const LEGACY: &str = "legacy";
/// The name of the rig with nftables.
pub(crate) const NFTABLES: &str = "nftables";

/// The address of the machine outside.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// The address of the host on its uplink.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// The IPv6 address of the machine outside.
pub(crate) const OUTSIDE_V6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);
/// The IPv6 address of the host on its uplink.
pub(crate) const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 2);
/// IPv6 gateway of network 1.
pub(crate) const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd30, 0, 0, 0, 0, 0, 0, 1);
/// Gateway of network 1.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// Gateway of network 2.
pub(crate) const STRANGE_GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);
/// The endpoint of network 2.
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 2);
/// The host's link to the outside.
pub(crate) const UPLINK: &str = "up0";
/// The port published last, which is the one measured: as a container's that was started last.
pub(crate) const HOST_PORT: u16 = 30_000;
/// What it leads to, and what servers listen on.
pub(crate) const SERVER_PORT: u16 = 8_080;
/// Other published ports begin here, on both sides.
pub(crate) const FIRST_FILLER_PORT: u16 = 31_000;
/// Flows of the generator come from this /16, which lies outside.
pub(crate) const GENERATED_SOURCE: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 0);

/// How large a rig is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Endpoints on network 1, two at least.
    pub(crate) endpoints: u16,
    /// Published ports of each transport that fills.
    pub(crate) ports: u16,
    /// Which transport the ports beside the measured one have.
    pub(crate) filler: Transport,
}

/// A transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Ways through a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Path {
    /// Endpoint to endpoint of one network.
    ContainerToContainer,
    /// From outside to a published port.
    OutsideToPublished,
    /// Out of a container, masqueraded.
    ContainerToOutside,
    /// From a process of the host to a published port.
    HostToPublished,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What the generator plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Injection {
    /// A flow that a published port knows.
    Published,
    /// A new flow to a published port with every packet.
    PublishedNew,
    /// A new masqueraded flow with every packet.
    MasqueradeNew,
    /// Replies to a masqueraded flow.
    MasqueradeReply,
    /// A known flow within a network.
    SameNetwork,
    /// Packets to another network, which must not arrive.
    IsolationDrop,
}

/// A network that can be built and compared.
pub(crate) trait Rig {
    /// Short name.
    fn name(&self) -> &'static str;
    /// What it is, a sentence.
    fn says(&self) -> &'static str;
    /// Whether it has published ports.
    fn publishes(&self) -> bool {
        true
    }
    /// Builds it.
    fn build(&self, plan: Plan) -> Result<Standing>;
}

/// A rig that stands.
pub(crate) struct Standing {
    /// The rig's name.
    pub(crate) rig: &'static str,
    /// The ways through it; some rigs lack some.
    pub(crate) routes: BTreeMap<(Path, Family), Route>,
    /// Where frames can be injected; none where there is no such place.
    pub(crate) field: Option<Field>,
    /// What else must be held until the end.
    pub(crate) _held: Option<Box<dyn Any>>,
}

/// The places of a rig that the generator needs.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// The machine outside.
    pub(crate) outside: Namespace,
    /// The host.
    pub(crate) host: Namespace,
    /// Endpoint one, which publishes.
    pub(crate) one: Endpoint,
    /// Endpoint two of the same network.
    pub(crate) two: Endpoint,
    /// The endpoint of the other network.
    pub(crate) stranger: Endpoint,
    /// Host's device with the gateway address of network 1.
    pub(crate) gateway: String,
    /// Where the published port answers: the host's address, or the endpoint's without translation.
    pub(crate) published: SocketAddrV4,
    /// The same for IPv6, on the same port.
    pub(crate) published_v6: Ipv6Addr,
    /// Whether traffic between the networks is dropped.
    pub(crate) isolates: bool,
}

/// An endpoint of a rig.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// Its namespace.
    pub(crate) namespace: Namespace,
    /// Its address; its link is `eth0`.
    pub(crate) address: Ipv4Addr,
    /// Its IPv6 address, where its network has any.
    pub(crate) address_v6: Option<Ipv6Addr>,
    /// Name of the host's end of its veth.
    pub(crate) host_link: String,
}

/// All rigs, ours first.
pub(crate) fn all(netd: Netd) -> Vec<Box<dyn Rig>> {
    let iptables =
        |name, restore, restore_v6| Box::new(iptables::Iptables { name, restore, restore_v6 });
    vec![
        Box::new(netd),
        iptables(IPTABLES, "iptables-restore", "ip6tables-restore"),
        iptables(LEGACY, "iptables-legacy-restore", "ip6tables-legacy-restore"),
        Box::new(nftables::Nftables),
        Box::new(bridged::Bridge),
        Box::new(direct::Veth),
        Box::new(direct::Loopback),
    ]
}

impl Endpoint {
    /// Where its packets arrive.
    pub(crate) fn link(&self) -> (Namespace, &'static str) {
        (self.namespace.clone(), "eth0")
    }
}

impl Path {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [
        Self::OutsideToPublished,
        Self::ContainerToContainer,
        Self::ContainerToOutside,
        Self::HostToPublished,
    ];

    /// In words.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ContainerToContainer => "container to container",
            Self::OutsideToPublished => "outside to published",
            Self::ContainerToOutside => "container to outside",
            Self::HostToPublished => "host to published",
        }
    }
}

impl Family {
    /// Both of them.
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Of two addresses the one of this family.
    pub(crate) const fn of(self, v4: Ipv4Addr, v6: Ipv6Addr) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(v4),
            Self::V6 => IpAddr::V6(v6),
        }
    }
}

impl Injection {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::Published,
        Self::PublishedNew,
        Self::MasqueradeNew,
        Self::MasqueradeReply,
        Self::SameNetwork,
        Self::IsolationDrop,
    ];

    /// In words.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Published => "published, known flow",
            Self::PublishedNew => "published, new flows",
            Self::MasqueradeNew => "masquerade, new flows",
            Self::MasqueradeReply => "masquerade reply",
            Self::SameNetwork => "same network",
            Self::IsolationDrop => "drop by isolation",
        }
    }
}

impl Plan {
    /// The smallest rig.
    pub(crate) const SMALL: Self = Self { endpoints: 2, ports: 1, filler: Transport::Tcp };

    /// Host ports beside the measured one; each leads to the same port of endpoint one.
    pub(crate) fn filler_ports(self) -> std::ops::Range<u16> {
        FIRST_FILLER_PORT..FIRST_FILLER_PORT + self.ports.saturating_sub(1)
    }
}

impl Transport {
    /// As rules and options spell it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// The address of the endpoint with a number, from 1.
pub(crate) fn endpoint_address(number: u16) -> Ipv4Addr {
    let [high, low] = (number + 1).to_be_bytes();
    Ipv4Addr::new(172, 30, high, low)
}

/// The IPv6 address of the endpoint with a number, from 1.
pub(crate) fn endpoint_address_v6(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd30, 0, 0, 0, 0, 0, 0, number + 1)
}

/// The frame from one place to another, with MACs still to be filled in.
pub(crate) fn frame(source: SocketAddrV4, destination: SocketAddrV4) -> Frame {
    Frame { source, destination, source_mac: [0; 6], destination_mac: [0; 6] }
}
