//! The one list of maps: name, kind, key, value and default capacity of each.
//!
//! Laws: names fit 15 bytes; a change of any layout or of this list changes `ABI`; keys and values
//! have no padding. Tables written by the controller and never by the kernel side are marked
//! "desired"; the others belong to the kernel side and the controller only reads or sweeps them.
#![allow(
    clippy::cast_possible_truncation,
    reason = "the sizes of keys and values are far below 4 GiB"
)]

pub mod config;
pub mod counter;
pub mod endpoint;
pub mod flow;
pub mod fragment;
pub mod network;
pub mod published;
pub mod resolver;

/// How the kernel stores a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_ARRAY`.
    Array,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    PerCpuArray,
    /// `BPF_MAP_TYPE_HASH`, preallocated.
    Hash,
    /// `BPF_MAP_TYPE_LRU_HASH`.
    LruHash,
    /// `BPF_MAP_TYPE_PERCPU_HASH`.
    PerCpuHash,
    /// `BPF_MAP_TYPE_LPM_TRIE`.
    LpmTrie,
    /// `BPF_MAP_TYPE_RINGBUF`; capacity in bytes.
    RingBuf,
}

/// One map as it stands in the object and under the pin directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSpec {
    /// Name in the object, at most 15 bytes.
    pub name: &'static str,
    /// Kernel map type.
    pub kind: MapKind,
    /// Key length in bytes.
    pub key_len: u32,
    /// Value length in bytes (of one CPU's value for per-CPU kinds).
    pub value_len: u32,
    /// Default capacity in entries.
    pub capacity: u32,
}

macro_rules! maps {
    ($($(#[doc = $doc:literal])+ $konst:ident = $name:literal, $kind:ident, $key:ty, $value:ty, $capacity:expr;)+) => {
        $($(#[doc = $doc])+ pub const $konst: MapSpec = MapSpec {
            name: $name,
            kind: MapKind::$kind,
            key_len: core::mem::size_of::<$key>() as u32,
            value_len: core::mem::size_of::<$value>() as u32,
            capacity: $capacity,
        };)+
        /// All maps, in the order they are documented.
        pub const MAPS: &[MapSpec] = &[$($konst),+];
    };
}

use crate::addr::{Ipv4, Ipv6};
use crate::id::IfIndex;
use config::Config;
use counter::{DropKey, EndpointCounters, EventBudget, IcmpBudget, TrafficCounter, VerdictTrace};
use endpoint::{AddressKey, AddressValue, EndpointValue, MemberKey, StationKey, StationValue};
use flow::{FlowKey, FlowValue};
use fragment::{FragmentKey, FragmentValue, HeldKey, HeldValue, UnitsValue};
use network::{HostAddressValue, NetworkValue, SubnetKey, SubnetValue, TrustedKey, UplinkValue};
use published::{PublishedKey, PublishedValue, SocketPeer, SocketPeerKey};
use resolver::ResolverValue;

/// Most endpoints one host can hold; the slots of `counters`.
pub const MAX_ENDPOINTS: u32 = 16_384;
/// Most networks one host can hold; the slots of `networks`.
pub const MAX_NETWORKS: u32 = 4_096;
/// Most published (address, port, protocol) entries per family.
pub const MAX_PUBLISHED: u32 = 262_144;
/// Most port publications (`-p` arguments after expansion by range); the slots of `published_hits`.
pub const MAX_PUBLICATIONS: u32 = 65_536;

maps! {
    /// Desired. Slot 0: the live configuration.
    CONFIG = "config", Array, u32, Config, 1;
    /// Desired. By network index.
    NETWORKS = "networks", Array, u32, NetworkValue, MAX_NETWORKS;
    /// Desired. Gateway device to network index.
    GATEWAYS = "gateways", Hash, IfIndex, u32, MAX_NETWORKS;
    /// Desired. Host veth to endpoint.
    ENDPOINTS = "endpoints", Hash, IfIndex, EndpointValue, MAX_ENDPOINTS;
    /// Desired. (network, IPv4) to owner, gateways included.
    ADDRESSES_V4 = "addresses_v4", Hash, AddressKey<Ipv4>, AddressValue, 65_536;
    /// Desired. (network, IPv6) to owner, gateways and link-local addresses included.
    ADDRESSES_V6 = "addresses_v6", Hash, AddressKey<Ipv6>, AddressValue, 65_536;
    /// Desired. (network, MAC) to endpoint.
    STATIONS = "stations", Hash, StationKey, StationValue, MAX_ENDPOINTS;
    /// Desired. (network, slot) to host veth, slots `0..member_count` without gaps.
    MEMBERS = "members", Hash, MemberKey, IfIndex, MAX_ENDPOINTS;
    /// Desired. IPv4 prefixes of our networks.
    SUBNETS_V4 = "subnets_v4", LpmTrie, SubnetKey<Ipv4>, SubnetValue, MAX_NETWORKS;
    /// Desired. IPv6 prefixes of our networks.
    SUBNETS_V6 = "subnets_v6", LpmTrie, SubnetKey<Ipv6>, SubnetValue, MAX_NETWORKS;
    /// Desired. IPv4 addresses of the host, loopback excluded, gateways included.
    HOST_ADDRS_V4 = "host_addrs_v4", Hash, Ipv4, HostAddressValue, 8_192;
    /// Desired. IPv6 addresses of the host, loopback excluded, gateways included.
    HOST_ADDRS_V6 = "host_addrs_v6", Hash, Ipv6, HostAddressValue, 8_192;
    /// Desired. Uplinks.
    UPLINKS = "uplinks", Hash, IfIndex, UplinkValue, 1_024;
    /// Desired. Links that networks trust.
    TRUSTED = "trusted", Hash, TrustedKey, u32, 4_096;
    /// Desired. IPv4 published ports.
    PUBLISHED_V4 = "published_v4", Hash, PublishedKey<Ipv4>, PublishedValue<Ipv4>, MAX_PUBLISHED;
    /// Desired. IPv6 published ports.
    PUBLISHED_V6 = "published_v6", Hash, PublishedKey<Ipv6>, PublishedValue<Ipv6>, MAX_PUBLISHED;
    /// IPv4 flows that no reply has confirmed.
    FLOWS_NEW_V4 = "flows_new_v4", LruHash, FlowKey<Ipv4>, FlowValue<Ipv4>, 65_536;
    /// IPv6 flows that no reply has confirmed.
    FLOWS_NEW_V6 = "flows_new_v6", LruHash, FlowKey<Ipv6>, FlowValue<Ipv6>, 65_536;
    /// IPv4 flows that a reply has confirmed.
    FLOWS_V4 = "flows_v4", Hash, FlowKey<Ipv4>, FlowValue<Ipv4>, 262_144;
    /// IPv6 flows that a reply has confirmed.
    FLOWS_V6 = "flows_v6", Hash, FlowKey<Ipv6>, FlowValue<Ipv6>, 262_144;
    /// What the fragments of a datagram leave behind for one another.
    FRAGMENTS = "fragments", LruHash, FragmentKey, FragmentValue, 8_192;
    /// Which units of a translated datagram have passed.
    FRAGMENT_UNITS = "fragment_units", LruHash, FragmentKey, UnitsValue, 2_048;
    /// Later fragments that wait for their first.
    FRAGMENTS_HELD = "fragments_held", LruHash, HeldKey, HeldValue, 1_024;
    /// Socket-level translations, to name the peer that the application asked for.
    SOCKET_PEERS = "socket_peers", LruHash, SocketPeerKey, SocketPeer, 65_536;
    /// By cookie of a sandbox's network namespace: where its name queries go. Written by who opens
    /// the sockets.
    RESOLVERS = "resolvers", Hash, u64, ResolverValue, MAX_ENDPOINTS;
    /// By endpoint index.
    COUNTERS = "counters", PerCpuArray, u32, EndpointCounters, MAX_ENDPOINTS;
    /// By publication slot: flows accepted.
    PUBLISHED_HITS = "published_hits", PerCpuArray, u32, u64, MAX_PUBLICATIONS;
    /// Drops by reason, hook, endpoint and network.
    DROPS = "drops", PerCpuHash, DropKey, TrafficCounter, 16_384;
    /// Counters of the flow table's inner workings, by `FlowStat`.
    FLOW_STATS = "flow_stats", PerCpuArray, u32, u64, 16;
    /// Events for the monitor.
    EVENTS = "events", RingBuf, (), (), 1 << 20;
    /// Masquerade ports tried until one was free, by number of probes (0..=17).
    SNAT_PROBES = "snat_probes", PerCpuArray, u32, u64, 32;
    /// Slot 0: what each CPU may still send to `events`, and what it lost.
    EVENT_BUDGET = "event_budget", PerCpuArray, u32, EventBudget, 1;
    /// Slot 0: what each CPU may still send of ICMP errors.
    ICMP_BUDGET = "icmp_budget", PerCpuArray, u32, IcmpBudget, 1;
    /// Slot 0: the last verdict of each CPU, written under `config::TRACE_VERDICTS` only.
    SCRATCH = "scratch", PerCpuArray, u32, VerdictTrace, 1;
}

/// The fingerprint of every map's shape: pins live under a directory of this name, so that two
/// versions with different layouts never read each other's bytes. FNV-1a, 64 bits.
pub const ABI: u64 = fingerprint(MAPS, LAYOUT_REVISION);

/// The order of layouts: a release that changes one, or the meaning of a field, raises it. Pins of a
/// higher revision are a newer netd's.
pub const LAYOUT_REVISION: u32 = 1 + cfg!(feature = "next-layout") as u32;

/// The fingerprint before the field that `next-layout` adds.
#[cfg(feature = "next-layout")]
pub const BASE_ABI: u64 = {
    let mut maps = [CONFIG; MAPS.len()];
    let mut i = 0;
    while i < MAPS.len() {
        maps[i] = MAPS[i];
        let is_flows = matches!(MAPS[i].name.as_bytes(), [b'f', b'l', b'o', b'w', b's', b'_', ..]);
        if is_flows {
            maps[i].value_len -= core::mem::size_of::<[u8; flow::ADDED_LEN]>() as u32;
        }
        i += 1;
    }
    fingerprint(&maps, LAYOUT_REVISION - 1)
};

const fn fingerprint(maps: &[MapSpec], revision: u32) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut i = 0;
    while i < maps.len() {
        let map = &maps[i];
        let name = map.name.as_bytes();
        let mut j = 0;
        while j < name.len() {
            hash = mix(hash, name[j] as u64);
            j += 1;
        }
        hash = mix(hash, map.kind as u64);
        hash = mix(hash, map.key_len as u64);
        hash = mix(hash, map.value_len as u64);
        i += 1;
    }
    mix(hash, revision as u64)
}

const fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x0100_0000_01b3)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Layouts by their revision; the last is the present one.
    #[cfg(not(feature = "next-layout"))]
    const RECORDED: &[(u32, u64)] = &[(1, 0xdf2f_5f59_3aa6_09f8)];

    #[cfg(not(feature = "next-layout"))]
    #[test]
    fn a_layout_that_changes_gets_a_revision_of_its_own() {
        assert_eq!(
            RECORDED.last(),
            Some(&(LAYOUT_REVISION, ABI)),
            "the maps are not those of revision {LAYOUT_REVISION}: raise LAYOUT_REVISION, add the \
             revision with {ABI:#018x} here and, if flows are to survive, a converter from the last \
             one in netd-user/src/dataplane/convert.rs"
        );
        assert!(RECORDED.iter().zip(1..).all(|((revision, _), number)| *revision == number));
    }

    #[test]
    fn names_fit_the_kernel_and_are_unique() {
        for (i, map) in MAPS.iter().enumerate() {
            assert!(map.name.len() <= 15, "{} is too long", map.name);
            assert!(MAPS[i + 1..].iter().all(|other| other.name != map.name));
        }
    }
}
