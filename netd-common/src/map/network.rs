//! Networks, their prefixes, the host's addresses and its uplinks.

use crate::addr::{Ipv4, Ipv6};
use crate::id::{IfIndex, MacAddr, NetworkIndex};
use crate::layout;

/// What the packet path needs to know of a network. An unused slot is all zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NetworkValue {
    /// `INTERNAL`, `ICC_DISABLED`, `MASQUERADE_*`, `OPEN_*`, `ROUTED_*`.
    pub flags: u32,
    /// The gateway device, or 0.
    pub gateway: IfIndex,
    /// Endpoints in `members`.
    pub member_count: u32,
    /// Largest IP packet of the network, bytes.
    pub mtu: u32,
    /// Chosen masquerade source (`host_ipv4`), or all zero for the egress address.
    pub snat_v4: Ipv4,
    /// Chosen masquerade source (`host_ipv6`), or all zero.
    pub snat_v6: Ipv6,
    /// The gateway's address, or all zero.
    pub gateway_v4: Ipv4,
    /// The gateway's address, or all zero.
    pub gateway_v6: Ipv6,
    /// MAC of the gateway device.
    pub gateway_mac: MacAddr,
    /// Always zero.
    pub pad: u16,
}

/// `NetworkValue::flags`: nothing leaves the network and nothing enters, but for its own gateway.
pub const INTERNAL: u32 = 1;
/// `NetworkValue::flags`: endpoints reach one another on published ports only.
pub const ICC_DISABLED: u32 = 2;
/// `NetworkValue::flags`: IPv4 to the outside is masqueraded.
pub const MASQUERADE_V4: u32 = 4;
/// `NetworkValue::flags`: IPv6 to the outside is masqueraded.
pub const MASQUERADE_V6: u32 = 8;
/// `NetworkValue::flags`: gateway mode `nat-unprotected`, all IPv4 ports are open from outside.
pub const OPEN_V4: u32 = 16;
/// `NetworkValue::flags`: the same for IPv6.
pub const OPEN_V6: u32 = 32;
/// `NetworkValue::flags`: gateway mode `routed` for IPv4, published container ports are open.
pub const ROUTED_V4: u32 = 64;
/// `NetworkValue::flags`: the same for IPv6.
pub const ROUTED_V6: u32 = 128;

/// Key of `subnets_v4` and `subnets_v6`: the kernel's `bpf_lpm_trie_key`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct SubnetKey<A> {
    /// Prefix length in bits, host order.
    pub prefix_len: u32,
    /// The prefix.
    pub addr: A,
}

/// Whose prefix it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SubnetValue {
    /// The network.
    pub network: NetworkIndex,
}

/// An address of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct HostAddressValue {
    /// The interface that holds it.
    pub ifindex: IfIndex,
    /// The network whose gateway address it is, or `NetworkIndex::HOST`.
    pub network: NetworkIndex,
}

/// An uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct UplinkValue {
    /// IPv4 masquerade source, or all zero.
    pub v4: Ipv4,
    /// IPv6 masquerade source, or all zero.
    pub v6: Ipv6,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Its MAC, all zero where it has none.
    pub mac: MacAddr,
    /// `UPLINK_HAS_MAC`.
    pub flags: u16,
}

/// `UplinkValue::flags`: frames begin with an Ethernet header.
pub const UPLINK_HAS_MAC: u16 = 1;

/// Key of `trusted`: a link from which a network's published ports are reached by the containers'
/// own addresses. The value is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct TrustedKey {
    /// The network.
    pub network: NetworkIndex,
    /// The link.
    pub ifindex: IfIndex,
}

layout!(
    TrustedKey, 8;
    NetworkValue, 64;
    SubnetKey<Ipv4>, 8;
    SubnetKey<Ipv6>, 20;
    SubnetValue, 4;
    HostAddressValue, 8;
    UplinkValue, 32;
);
