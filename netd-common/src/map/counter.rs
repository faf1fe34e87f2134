//! Counters.

use crate::id::{EndpointIndex, IfIndex, NetworkIndex};
use crate::layout;

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TrafficCounter {
    /// Packets (a GSO super-packet counts as its segments).
    pub packets: u64,
    /// Bytes with the Ethernet header.
    pub bytes: u64,
}

/// Both directions of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EndpointCounters {
    /// Sent by the container and accepted.
    pub from_container: TrafficCounter,
    /// Delivered to the container.
    pub to_container: TrafficCounter,
}

/// Key of a drop counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct DropKey {
    /// Counted against this endpoint, or `EndpointIndex::NONE`.
    pub endpoint: EndpointIndex,
    /// Seen in this network, or `NetworkIndex::HOST`.
    pub network: NetworkIndex,
    /// `DropReason` as a number.
    pub reason: u16,
    /// `Hook` as a number.
    pub hook: u16,
}

/// Slots of map `flow_stats`. Append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FlowStat {
    /// Pairs inserted as embryonic.
    Created = 0,
    /// Pairs promoted by a reply.
    Promoted = 1,
    /// Promotions refused because the table is full; the flow stays embryonic.
    Pressure = 2,
    /// Masquerade allocations that found no port.
    SnatExhausted = 3,
    /// Entries of an old generation that were decided anew.
    Refreshed = 4,
    /// Single entries that the packet path took out of the tables of embryonic flows.
    EmbryonicTaken = 5,
    /// Single entries that garbage collection took out of them; the controller counts it.
    EmbryonicSwept = 6,
}

impl FlowStat {
    /// Those that are shown to users, with their names. The others are the books that evictions,
    /// which the kernel does without a word, are read from.
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::Created, "created"),
        (Self::Promoted, "promoted"),
        (Self::Pressure, "pressure"),
        (Self::SnatExhausted, "snat_exhausted"),
        (Self::Refreshed, "refreshed"),
    ];
}

/// One CPU's allowance of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EventBudget {
    /// The second that is counted, of `CLOCK_MONOTONIC` (coarse).
    pub second_s: u32,
    /// Events sent in it.
    pub sent: u32,
    /// Events that were not sent, ever.
    pub lost: u64,
}

/// What a program decided, for tests that run it without a wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct VerdictTrace {
    /// `VerdictKind` as a number.
    pub kind: u32,
    /// Where the packet was sent, or 0.
    pub ifindex: IfIndex,
    /// `DropReason` as a number, or 0.
    pub reason: u32,
    /// The network it was seen in.
    pub network: NetworkIndex,
}

/// `VerdictTrace::kind`. Append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum VerdictKind {
    /// Left to the kernel, not ours.
    Untouched = 1,
    /// Ours, and goes on the way it was going.
    Accept = 2,
    /// Dropped.
    Drop = 3,
    /// Straight into the container's namespace.
    Deliver = 4,
    /// Out of the container's host veth.
    ToVeth = 5,
    /// Into the host's stack by the gateway device.
    HostStack = 6,
    /// Out of an uplink, next hop explicit.
    Uplink = 7,
    /// Back to where it came from.
    Answer = 8,
    /// To the members of the network.
    Replicate = 9,
    /// Left to a later stage; never the last word.
    Later = 10,
}

layout!(
    TrafficCounter, 16;
    EndpointCounters, 32;
    DropKey, 12;
    EventBudget, 16;
    VerdictTrace, 16;
);
