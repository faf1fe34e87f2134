//! The maps of the object, and the tables that they are.
//!
//! Law: names, types and capacities are those of `netd_common::map::MAPS`; the object's test
//! compares them.

use core::ffi::c_void;

use aya_ebpf::btf_maps::{
    Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf,
};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use aya_ebpf::macros::btf_map;
use netd_common::map::config::Config;
use netd_common::map::counter::{
    DropKey, EndpointCounters, EventBudget, FlowStat, IcmpBudget, TrafficCounter, VerdictTrace,
};
use netd_common::map::endpoint::{
    AddressKey, AddressValue, EndpointValue, MemberKey, StationKey, StationValue,
};
use netd_common::map::flow::{FlowKey, FlowValue, expired};
use netd_common::map::fragment::{
    FragmentKey, FragmentValue, HeldKey, HeldValue, Units, UnitsValue,
};
use netd_common::map::network::{
    HostAddressValue, NetworkValue, SubnetValue, TrustedKey, UplinkValue,
};
use netd_common::map::published::{PublishedKey, PublishedValue, SocketPeer, SocketPeerKey};
use netd_common::map::resolver::ResolverValue;
use netd_common::map::{self, MapSpec};
use netd_common::verdict::Event;
use netd_common::{IfIndex, Ipv4, Ipv6, NetworkIndex};

use super::host::FibQuery;
use super::repeat::repeat;
use crate::fragment::Passed;
use crate::packet::PacketBuf;
use crate::pipeline::Works;
use crate::tables::Tables;

mod datagram;
mod family;

const fn capacity(spec: &MapSpec) -> usize {
    spec.capacity as usize
}

macro_rules! maps {
    ($($vis:vis $konst:ident = $name:literal, $kind:ident<$($ty:ty),+>;)+) => {$(
        #[btf_map(name = $name)]
        $vis static $konst: $kind<$($ty,)+ { capacity(&map::$konst) }> = $kind::new();
    )+};
}

maps! {
    CONFIG = "config", Array<Config>;
    NETWORKS = "networks", Array<NetworkValue>;
    GATEWAYS = "gateways", HashMap<IfIndex, u32>;
    ENDPOINTS = "endpoints", HashMap<IfIndex, EndpointValue>;
    ADDRESSES_V4 = "addresses_v4", HashMap<AddressKey<Ipv4>, AddressValue>;
    ADDRESSES_V6 = "addresses_v6", HashMap<AddressKey<Ipv6>, AddressValue>;
    STATIONS = "stations", HashMap<StationKey, StationValue>;
    MEMBERS = "members", HashMap<MemberKey, IfIndex>;
    SUBNETS_V4 = "subnets_v4", LpmTrie<Ipv4, SubnetValue>;
    SUBNETS_V6 = "subnets_v6", LpmTrie<Ipv6, SubnetValue>;
    HOST_ADDRS_V4 = "host_addrs_v4", HashMap<Ipv4, HostAddressValue>;
    HOST_ADDRS_V6 = "host_addrs_v6", HashMap<Ipv6, HostAddressValue>;
    UPLINKS = "uplinks", HashMap<IfIndex, UplinkValue>;
    TRUSTED = "trusted", HashMap<TrustedKey, u32>;
    PUBLISHED_V4 = "published_v4", HashMap<PublishedKey<Ipv4>, PublishedValue<Ipv4>>;
    PUBLISHED_V6 = "published_v6", HashMap<PublishedKey<Ipv6>, PublishedValue<Ipv6>>;
    FLOWS_NEW_V4 = "flows_new_v4", LruHashMap<FlowKey<Ipv4>, FlowValue<Ipv4>>;
    FLOWS_NEW_V6 = "flows_new_v6", LruHashMap<FlowKey<Ipv6>, FlowValue<Ipv6>>;
    FLOWS_V4 = "flows_v4", HashMap<FlowKey<Ipv4>, FlowValue<Ipv4>>;
    FLOWS_V6 = "flows_v6", HashMap<FlowKey<Ipv6>, FlowValue<Ipv6>>;
    FRAGMENTS = "fragments", LruHashMap<FragmentKey, FragmentValue>;
    FRAGMENT_UNITS = "fragment_units", LruHashMap<FragmentKey, UnitsValue>;
    pub(super) FRAGMENTS_HELD = "fragments_held", LruHashMap<HeldKey, HeldValue>;
    pub(super) SOCKET_PEERS = "socket_peers", LruHashMap<SocketPeerKey, SocketPeer>;
    pub(super) RESOLVERS = "resolvers", HashMap<u64, ResolverValue>;
    pub(super) COUNTERS = "counters", PerCpuArray<EndpointCounters>;
    PUBLISHED_HITS = "published_hits", PerCpuArray<u64>;
    pub(super) DROPS = "drops", PerCpuHashMap<DropKey, TrafficCounter>;
    FLOW_STATS = "flow_stats", PerCpuArray<u64>;
    pub(super) EVENTS = "events", RingBuf<Event>;
    SNAT_PROBES = "snat_probes", PerCpuArray<u64>;
    pub(super) EVENT_BUDGET = "event_budget", PerCpuArray<EventBudget>;
    ICMP_BUDGET = "icmp_budget", PerCpuArray<IcmpBudget>;
    pub(super) SCRATCH = "scratch", PerCpuArray<VerdictTrace>;
}

/// Notes on the packet at hand, by hook: a copy that `from_host` makes runs `to_container` before
/// `from_host` ends. Of no use to anyone else, and so not in the list.
#[btf_map(name = "works")]
static WORKS: PerCpuArray<Works, 8> = PerCpuArray::new();

/// The question to the kernel's routes: too large for the stack.
#[btf_map(name = "fib_query")]
static FIB_QUERY: PerCpuArray<FibQuery, 1> = PerCpuArray::new();

/// This CPU's question to the kernel's routes.
#[inline(always)]
pub(super) fn fib_query() -> Option<&'static mut FibQuery> {
    // SAFETY: the slot is this CPU's own, all zero is a valid value, and it is used at once.
    FIB_QUERY.get_ptr_mut(0).map(|query| unsafe { &mut *query })
}

/// This CPU's notes for a hook.
#[inline(always)]
pub(super) fn works(hook: u32) -> Option<&'static mut Works> {
    // SAFETY: the slot is this CPU's own, all zero is a valid value, and no program of this hook
    // interrupts another on the same CPU.
    WORKS.get_ptr_mut(hook).map(|works| unsafe { &mut *works })
}

/// The maps, with the context that the kernel's own lookups want.
#[derive(Debug)]
pub(super) struct Maps {
    ctx: *mut c_void,
}

impl Maps {
    /// For the program's context.
    #[inline(always)]
    pub(super) const fn new(ctx: *mut c_void) -> Self {
        Self { ctx }
    }
}

/// A member's host veth.
#[inline(always)]
pub(super) fn member(network: u32, slot: u32) -> Option<IfIndex> {
    let key = MemberKey { network: NetworkIndex(network), slot };
    // SAFETY: copied at once; a value of four bytes is never seen half written.
    unsafe { MEMBERS.get(key) }.copied()
}

#[inline(always)]
fn increment<const N: usize>(counters: &PerCpuArray<u64, N>, slot: u32) {
    if let Some(counter) = counters.get_ptr_mut(slot) {
        // SAFETY: the slot is this CPU's own, and a program is not interrupted by another here.
        unsafe { *counter += 1 };
    }
}

/// A global function: the verifier would follow its many ways anew at each of its callers.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_expired(flags: u32, proto: u32, last_seen_s: u32) -> u32 {
    let config = CONFIG.get(0).copied().unwrap_or(Config::ZERO);
    expired(flags as u16, proto as u8, last_seen_s, now_s(), &config).into()
}

/// Whether connections may go on without entries. Global for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flows_loose() -> u32 {
    CONFIG.get(0).is_some_and(|config| now_s() < config.loose_until_s).into()
}

/// Whether a network takes packets for its members from a link. Global: the key takes no room on the
/// stack of the decision.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn link_trusted(network: u32, ifindex: u32) -> u32 {
    let key = TrustedKey { network: NetworkIndex(network), ifindex: IfIndex(ifindex) };
    // SAFETY: only its presence is asked for.
    unsafe { TRUSTED.get(key) }.is_some().into()
}

/// An entry of an embryonic flow was taken out. Global for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn embryonic_taken() -> u32 {
    increment(&FLOW_STATS, FlowStat::EmbryonicTaken as u32);
    0
}

/// This CPU's second, and the tick that it was read in.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Clock {
    tick: u64,
    now_s: u32,
    pad: u32,
}

/// The coarse clock moves with the tick, which is one load where the clock is a call and a division.
#[btf_map(name = "clock")]
static CLOCK: PerCpuArray<Clock, 1> = PerCpuArray::new();

#[inline(always)]
fn now_s() -> u32 {
    // SAFETY: takes nothing.
    let tick = unsafe { bpf_jiffies64() };
    let Some(clock) = CLOCK.get_ptr_mut(0) else {
        return second();
    };
    // SAFETY: the slot is this CPU's own. A program that interrupts this one between its stores
    // finds an old tick, never an old second under the tick at hand: hence volatile, in this order.
    unsafe {
        if (&raw const (*clock).tick).read_volatile() != tick {
            (&raw mut (*clock).now_s).write_volatile(second());
            (&raw mut (*clock).tick).write_volatile(tick);
        }
        (&raw const (*clock).now_s).read_volatile()
    }
}

#[inline(always)]
fn second() -> u32 {
    (now_ns() / 1_000_000_000) as u32
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: takes nothing.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Copies word by word. Left to itself LLVM reads all words before it writes the first, and keeps
/// them on the stack.
#[inline(always)]
fn copy_in_order<T: bytemuck::Pod>(from: &T, into: &mut T) {
    const { assert!(size_of::<T>().is_multiple_of(4) && align_of::<T>() == 4, "it is made of words") };
    let from = core::ptr::from_ref(from).cast::<u32>();
    let into = core::ptr::from_mut(into).cast::<u32>();
    for word in 0..size_of::<T>() / 4 {
        // SAFETY: both are valid for their size, which ends after the last word.
        unsafe { into.add(word).write_volatile(from.add(word).read_volatile()) };
    }
}

impl Tables for Maps {
    #[inline(always)]
    fn config(&self) -> Config {
        CONFIG.get(0).copied().unwrap_or(Config::ZERO)
    }

    #[inline(always)]
    fn network(&self, index: NetworkIndex) -> NetworkValue {
        NETWORKS.get(index.0).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn gateway(&self, ifindex: IfIndex) -> Option<NetworkIndex> {
        // SAFETY: copied at once, as all values below are.
        unsafe { GATEWAYS.get(ifindex) }.map(|index| NetworkIndex(*index))
    }

    #[inline(always)]
    fn endpoint(&self, ifindex: IfIndex) -> Option<EndpointValue> {
        // SAFETY: copied at once; the controller replaces entries, it never edits them.
        unsafe { ENDPOINTS.get(ifindex) }.copied()
    }

    #[inline(always)]
    fn read_endpoint(&self, ifindex: IfIndex, into: &mut EndpointValue) -> bool {
        // SAFETY: as above.
        let Some(endpoint) = (unsafe { ENDPOINTS.get(ifindex) }) else {
            return false;
        };
        copy_in_order(endpoint, into);
        true
    }

    #[inline(always)]
    fn station(&self, key: &StationKey) -> Option<StationValue> {
        // SAFETY: copied at once; the controller replaces entries, it never edits them.
        unsafe { STATIONS.get(key) }.copied()
    }

    #[inline(always)]
    fn uplink(&self, ifindex: IfIndex) -> Option<UplinkValue> {
        // SAFETY: copied at once; the controller replaces entries, it never edits them.
        unsafe { UPLINKS.get(ifindex) }.copied()
    }

    #[inline(always)]
    fn is_trusted(&self, key: &TrustedKey) -> bool {
        link_trusted(key.network.0, key.ifindex.0) != 0
    }

    #[inline(always)]
    fn is_loose(&self) -> bool {
        flows_loose() != 0
    }

    #[inline(always)]
    fn now_s(&self) -> u32 {
        now_s()
    }

    #[inline(always)]
    fn is_expired(&self, flags: u16, proto: u8, last_seen_s: u32) -> bool {
        flow_expired(u32::from(flags), u32::from(proto), last_seen_s) != 0
    }

    #[inline(always)]
    fn count_flow(&mut self, stat: FlowStat) {
        increment(&FLOW_STATS, stat as u32);
    }

    #[inline(always)]
    fn count_hit(&mut self, slot: u32) {
        increment(&PUBLISHED_HITS, slot);
    }

    #[inline(always)]
    fn count_probe(&mut self, probe: u32) {
        increment(&SNAT_PROBES, probe);
    }

    #[inline(always)]
    fn may_complain(&mut self) -> bool {
        let Config { icmp_error_rate, icmp_error_burst, .. } = self.config();
        ICMP_BUDGET.get_ptr_mut(0).is_some_and(|budget| {
            // SAFETY: the slot is this CPU's own, and a program is not interrupted by another here.
            let budget = unsafe { &mut *budget };
            budget.take(now_ns(), icmp_error_rate, icmp_error_burst)
        })
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue> {
        // SAFETY: copied at once; what another CPU changes in place is valid old or new.
        unsafe { FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn update_fragment(
        &mut self,
        key: &FragmentKey,
        change: impl FnOnce(&mut FragmentValue) -> u32,
    ) -> u32 {
        datagram::fragment(key).map_or(0, change)
    }

    #[inline(always)]
    fn hold<B: PacketBuf>(&mut self, key: &HeldKey, buf: &B, drop: &DropKey) -> bool {
        let is_held = datagram::hold(key, buf, drop);
        if is_held && drop.reason != 0 {
            self.count_flow(FlowStat::FragmentsHeld);
        }
        is_held
    }

    #[inline(always)]
    fn pass_units(&mut self, key: &FragmentKey, units: Units) -> Option<(&mut UnitsValue, Passed)> {
        datagram::pass_units(key, units)
    }

    #[inline(always)]
    fn forget_datagram(&mut self, key: &FragmentKey) {
        // What is not there is as good as removed.
        let _absent = FRAGMENT_UNITS.remove(key);
        let _absent = FRAGMENTS.remove(key);
    }

    #[inline(always)]
    fn repeat<G: FnMut(&mut Self, u32) -> bool>(&mut self, rounds: u32, body: G) {
        repeat(self, rounds, body);
    }
}
