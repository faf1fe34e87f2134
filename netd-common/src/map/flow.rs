//! The flow table: two entries per connection, each keyed by the packet as its hook sees it.

use crate::addr::{Address, Family, Ipv4, Ipv6, V4, V6};
use crate::id::{Be16, EndpointIndex, IfIndex, MacAddr, NetworkIndex};
use crate::layout;
use crate::map::config::Config;
use crate::wire::{TCP, UDP};

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
    /// What a later layout could add: tests of an upgrade build it.
    #[cfg(feature = "next-layout")]
    pub added: [u8; ADDED_LEN],
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

/// Length of the field that `next-layout` adds.
#[cfg(feature = "next-layout")]
pub const ADDED_LEN: usize = 4;

#[cfg(feature = "next-layout")]
const ADDED: usize = ADDED_LEN;
#[cfg(not(feature = "next-layout"))]
const ADDED: usize = 0;

/// `FlowValue::flags`: the reply entry of its pair.
pub const FLOW_REPLY: u16 = 1;
/// Worth a long life: TCP that was answered; anything else that was, and went on in a later second.
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

/// Stays within its network untranslated: forwarded by MAC, not routed.
pub const FLOW_BRIDGED: u16 = 512;

/// Both sides have sent a FIN.
pub const FLOW_CLOSED: u16 = FLOW_CLOSING_ORIG | FLOW_CLOSING_REPLY;

/// How long an entry lives after its last packet. A half-closed TCP connection may idle as long
/// as an open one: only the second FIN shortens its life.
#[inline(always)]
pub const fn timeout_s(flags: u16, proto: u8, config: &Config) -> u32 {
    let assured = flags & FLOW_ASSURED != 0;
    if proto == V4::ICMP || proto == V6::ICMP {
        config.icmp_s
    } else if proto == UDP {
        if assured { config.udp_assured_s } else { config.udp_s }
    } else if proto != TCP {
        config.other_s
    } else if flags & FLOW_RST != 0 {
        config.tcp_rst_s
    } else if flags & FLOW_CLOSED == FLOW_CLOSED {
        config.tcp_fin_s
    } else if assured {
        config.tcp_established_s
    } else {
        config.tcp_syn_s
    }
}

/// Whether an entry is past its time. A connection is gone only when both entries of its pair are:
/// one direction may be silent for long while the other speaks.
///
/// `last_seen_s` may be ahead of `now_s` by a tick, because CPUs read the coarse clock at
/// different times: such an entry is fresh.
#[inline(always)]
pub const fn expired(flags: u16, proto: u8, last_seen_s: u32, now_s: u32, config: &Config) -> bool {
    now_s.saturating_sub(last_seen_s) > timeout_s(flags, proto, config)
}

/// The key of the other entry of a pair: the translated tuple, reversed, where its replies are seen.
#[inline(always)]
pub const fn twin<A: Address>(proto: u8, value: &FlowValue<A>) -> FlowKey<A> {
    FlowKey {
        network: value.peer_network,
        src: value.dst,
        dst: value.src,
        sport: value.dport,
        dport: value.sport,
        proto,
        pad: [0; 3],
    }
}

layout!(
    FlowKey<Ipv4>, 20;
    FlowKey<Ipv6>, 44;
    FlowValue<Ipv4>, 44 + ADDED;
    FlowValue<Ipv6>, 80 + ADDED;
);

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: Config = Config {
        tcp_syn_s: 30,
        tcp_established_s: 7_440,
        tcp_fin_s: 31,
        tcp_rst_s: 10,
        udp_s: 32,
        udp_assured_s: 180,
        icmp_s: 11,
        other_s: 600,
        ..Config::ZERO
    };

    #[test]
    fn each_state_has_its_own_timeout() {
        let of = |flags, proto| timeout_s(flags, proto, &CONFIG);
        assert_eq!(of(0, TCP), 30);
        assert_eq!(of(FLOW_ASSURED, TCP), 7_440);
        assert_eq!(of(FLOW_ASSURED | FLOW_CLOSING_ORIG, TCP), 7_440);
        assert_eq!(of(FLOW_ASSURED | FLOW_CLOSED, TCP), 31);
        assert_eq!(of(FLOW_ASSURED | FLOW_CLOSED | FLOW_RST, TCP), 10);
        assert_eq!([of(0, UDP), of(FLOW_ASSURED, UDP)], [32, 180]);
        assert_eq!([of(0, 1), of(0, 58), of(FLOW_ASSURED, 47)], [11, 11, 600]);
    }

    #[test]
    fn an_entry_lives_through_its_timeout_and_not_a_second_longer() {
        assert!(!expired(0, TCP, 100, 130, &CONFIG));
        assert!(expired(0, TCP, 100, 131, &CONFIG));
        assert!(!expired(0, TCP, 101, 100, &CONFIG));
    }
}
