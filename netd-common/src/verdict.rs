//! Why a packet passed or was dropped, and the event that tells a user.
//!
//! Law: numbers are append-only. A reason that is no longer used keeps its number.

use crate::addr::Ipv6;
use crate::id::{Be16, EndpointIndex, IfIndex, NetworkIndex};
use crate::layout;

macro_rules! vocabulary {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $text:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[doc = $doc])+ $variant = $number,)+ }

        impl $name {
            /// All of them, in order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name shown to users: metric labels, monitor, documents.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// One sentence for people.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }

            /// The reverse of `as u8`.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

vocabulary! {
    /// Why a packet was dropped. Every one is a counter and an event.
    DropReason {
        /// The packet ends before its headers do, its headers have no end, or a length field lies.
        Truncated = 1, "truncated";
        /// It came from an interface that no endpoint owns.
        UnknownEndpoint = 2, "unknown_endpoint";
        /// Its source MAC or address is not the endpoint's.
        SpoofedSource = 3, "spoofed_source";
        /// It is for an endpoint of another network.
        NetworkIsolation = 4, "network_isolation";
        /// Its network is internal and it would leave it, or come from outside.
        InternalNetwork = 5, "internal_network";
        /// Inter-container communication is off on its network.
        IccDisabled = 6, "icc_disabled";
        /// It came from outside the network for a container's address without a published port.
        NotPublished = 7, "not_published";
        /// No member of the network has that address or MAC, or its interface is gone.
        UnknownDestination = 8, "unknown_destination";
        /// All masquerade ports toward that remote are in use.
        SnatExhausted = 9, "snat_exhausted";
        /// There is no route to the destination, or its uplink is gone.
        NoRoute = 10, "no_route";
        /// Its time to live is used up.
        TtlExceeded = 11, "ttl_exceeded";
        /// It does not fit the next link and may not be fragmented.
        TooBig = 12, "too_big";
        /// A fragment of a flow that needs translation, without its first fragment and not to be held.
        FragmentUnknown = 13, "fragment_unknown";
        /// A protocol or header that the network does not carry.
        UnsupportedProtocol = 14, "unsupported_protocol";
        /// A container's address would have left the host untranslated.
        LeakedSource = 15, "leaked_source";
        /// The kernel refused a map update, a checksum fix or a redirect.
        KernelRefused = 16, "kernel_refused";
        /// Broadcast or multicast beyond the replication bound.
        ReplicationLimit = 17, "replication_limit";
        /// It belongs to no connection and does not open one.
        InvalidState = 18, "invalid_state";
        /// A neighbour advertisement or ARP reply for an address that is not the sender's.
        SpoofedNeighbor = 19, "spoofed_neighbor";
        /// A router advertisement or redirect from a container.
        RogueRouter = 20, "rogue_router";
        /// An address that no packet may carry there: loopback, all zero, a group as source or routed.
        MartianAddress = 21, "martian_address";
        /// It names the routers of its way: an IPv4 source route, an IPv6 routing header.
        SourceRouted = 22, "source_routed";
        /// A frame for all whose packet is for one: it would get around the policy for that one.
        UnicastInBroadcast = 23, "unicast_in_broadcast";
        /// A fragment that overlaps another of its datagram, or comes after one that did.
        FragmentOverlap = 24, "fragment_overlap";
        /// A fragment all of whose bytes have passed before.
        FragmentDuplicate = 25, "fragment_duplicate";
        /// A fragment that was held for its first until its time was up, or others needed the room.
        FragmentExpired = 26, "fragment_expired";
    }
}

vocabulary! {
    /// Why a packet was left to the kernel or sent on.
    PassReason {
        /// Not a packet of ours.
        Untouched = 1, "untouched";
        /// Delivered to an endpoint.
        Delivered = 2, "delivered";
        /// Handed to the host's stack.
        HostStack = 3, "host_stack";
        /// Sent out of an uplink.
        Uplink = 4, "uplink";
        /// Answered on the spot (ARP, neighbour discovery, ICMP).
        Answered = 5, "answered";
        /// Replicated to the members of the network.
        Replicated = 6, "replicated";
    }
}

vocabulary! {
    /// Where in the kernel a program sits.
    Hook {
        /// Endpoint's host veth, tcx ingress.
        FromContainer = 1, "from_container";
        /// Endpoint's host veth, tcx egress.
        ToContainer = 2, "to_container";
        /// Gateway device, tcx egress.
        FromHost = 3, "from_host";
        /// Uplink, tcx ingress.
        FromNetdev = 4, "from_netdev";
        /// Uplink, tcx egress.
        ToNetdev = 5, "to_netdev";
        /// Uplink whose packets have no Ethernet header, tcx ingress.
        FromL3dev = 6, "from_l3dev";
        /// Uplink whose packets have no Ethernet header, tcx egress.
        ToL3dev = 7, "to_l3dev";
    }
}

/// One event of the monitor's ring buffer: 64 bytes, host byte order but for addresses and ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub timestamp_ns: u64,
    /// Source, IPv4 as v4-mapped.
    pub src: Ipv6,
    /// Destination, IPv4 as v4-mapped.
    pub dst: Ipv6,
    /// The endpoint it is counted against.
    pub endpoint: EndpointIndex,
    /// The network it was seen in.
    pub network: NetworkIndex,
    /// The interface it was seen on.
    pub ifindex: IfIndex,
    /// Length of the frame in bytes.
    pub len: u32,
    /// Source port or ICMP echo id.
    pub sport: Be16,
    /// Destination port or ICMP echo id.
    pub dport: Be16,
    /// `DropReason` as a number.
    pub reason: u8,
    /// `Hook` as a number.
    pub hook: u8,
    /// 4, 6, or 0 where it is no IP packet.
    pub family: u8,
    /// IP protocol number.
    pub proto: u8,
}

layout!(Event, 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_reversible() {
        for (i, r) in DropReason::ALL.iter().enumerate() {
            assert_eq!(DropReason::from_number(*r as u8), Some(*r));
            assert!(DropReason::ALL[i + 1..].iter().all(|o| o.name() != r.name()));
        }
        assert_eq!(DropReason::from_number(0), None);
    }
}
