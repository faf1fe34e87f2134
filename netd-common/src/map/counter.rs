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
    /// ICMP errors of our own that `IcmpBudget` kept back.
    ErrorsWithheld = 7,
    /// Later fragments that were taken from their way and held for their first.
    FragmentsHeld = 8,
    /// Those of them whose first came.
    FragmentsReleased = 9,
    /// Those of them whose time was up; the controller counts it.
    FragmentsExpired = 10,
    /// Those of them that others pushed out; the controller counts it.
    FragmentsEvicted = 11,
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
        (Self::ErrorsWithheld, "icmp_errors_withheld"),
        (Self::FragmentsHeld, "fragments_held"),
        (Self::FragmentsReleased, "fragments_released"),
        (Self::FragmentsExpired, "fragments_expired"),
        (Self::FragmentsEvicted, "fragments_evicted"),
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

/// One CPU's token bucket of ICMP errors, told as the time at which it is full again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct IcmpBudget {
    /// Nanoseconds of `CLOCK_MONOTONIC` (coarse).
    pub full_at_ns: u64,
}

impl IcmpBudget {
    /// Takes a token from a bucket of `burst` that `rate` of them fill in a second.
    #[inline(always)]
    pub const fn take(&mut self, now_ns: u64, rate: u32, burst: u32) -> bool {
        if rate == 0 {
            return false;
        }
        let token_ns = 1_000_000_000 / rate as u64;
        let full_at_ns = if self.full_at_ns > now_ns { self.full_at_ns } else { now_ns };
        if full_at_ns + token_ns > now_ns + token_ns * burst as u64 {
            return false;
        }
        self.full_at_ns = full_at_ns + token_ns;
        true
    }
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
    /// Held for its first fragment.
    Held = 11,
    /// To the same hook again, with those that were held for it behind it.
    Again = 12,
}

layout!(
    TrafficCounter, 16;
    EndpointCounters, 32;
    DropKey, 12;
    EventBudget, 16;
    IcmpBudget, 8;
    VerdictTrace, 16;
);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// How many of a hundred tokens asked for at once are given.
    fn given(budget: &mut IcmpBudget, now_ns: u64, rate: u32, burst: u32) -> usize {
        (0..100).filter(|_| budget.take(now_ns, rate, burst)).count()
    }

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_then_as_it_fills() {
        let mut budget = IcmpBudget::default();
        assert_eq!(given(&mut budget, 5_000 * MS, 1_000, 50), 50);
        assert_eq!(given(&mut budget, 5_000 * MS, 1_000, 50), 0);
        assert_eq!(given(&mut budget, 5_007 * MS, 1_000, 50), 7);
        assert_eq!(given(&mut budget, 9_000 * MS, 1_000, 50), 50, "it never holds more");
    }

    #[test]
    fn a_rate_or_a_burst_of_nothing_gives_nothing() {
        assert_eq!(given(&mut IcmpBudget::default(), MS, 0, 50), 0);
        assert_eq!(given(&mut IcmpBudget::default(), MS, 1_000, 0), 0);
    }
}
