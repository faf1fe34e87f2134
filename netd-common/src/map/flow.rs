//! The flow table: two entries per connection, each keyed by the packet as its hook sees it.

use crate::addr::{Ipv4, Ipv6};
use crate::id::{Be16, EndpointIndex, IfIndex, MacAddr, NetworkIndex};
use crate::layout;

/// Key of a flow entry. ICMP echo has its id as both ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FlowKey<A> {
    /// Where the packet is seen: a network, or the host's scope for uplinks.
    pub network: NetworkIndex,
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub sport: Be16,
    /// Destination port.
    pub dport: Be16,
    /// IP protocol number.
    pub proto: u8,
    /// Always zero.
    pub pad: [u8; 3],
}

/// What to do with a packet of the flow. The translated tuple, reversed and seen in
/// `peer_network`, is the key of the other entry of the pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowValue<A> {
    /// Source address after translation.
    pub src: A,
    /// Destination address after translation.
    pub dst: A,
    /// Next hop on an uplink, all zero for the destination itself.
    pub next_hop: A,
    /// Source port after translation.
    pub sport: Be16,
    /// Destination port after translation.
    pub dport: Be16,
    /// Last packet, seconds of `CLOCK_MONOTONIC` (coarse).
    pub last_seen_s: u32,
    /// Generation of the decision.
    pub generation: u32,
    /// Where the translated packet is seen, and its replies.
    pub peer_network: NetworkIndex,
    /// Target veth or uplink.
    pub ifindex: IfIndex,
    /// Endpoint the packet is delivered to, or `EndpointIndex::NONE` on the way out.
    pub endpoint: EndpointIndex,
    /// Destination MAC of a local delivery.
    pub mac: MacAddr,
    /// `FLOW_*`.
    pub flags: u16,
}

/// `FlowValue::flags`: the reply entry of its pair.
pub const FLOW_REPLY: u16 = 1;
/// A reply has been seen.
pub const FLOW_ASSURED: u16 = 2;
/// The source is translated.
pub const FLOW_SNAT: u16 = 4;
/// The destination is translated.
pub const FLOW_DNAT: u16 = 8;
/// A container reaches itself, or a neighbour, through a published port.
pub const FLOW_HAIRPIN: u16 = 16;
/// Leaves by an uplink rather than by a veth.
pub const FLOW_UPLINK: u16 = 32;
/// The originator has sent a FIN.
pub const FLOW_CLOSING_ORIG: u16 = 64;
/// The responder has sent a FIN.
pub const FLOW_CLOSING_REPLY: u16 = 128;
/// A RST has been seen.
pub const FLOW_RST: u16 = 256;

layout!(
    FlowKey<Ipv4>, 20;
    FlowKey<Ipv6>, 44;
    FlowValue<Ipv4>, 44;
    FlowValue<Ipv6>, 80;
);
