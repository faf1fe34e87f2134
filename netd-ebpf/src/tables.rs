//! What may be looked up and inserted.
//!
//! Law: values come by copy, so no step holds a reference into a table that another CPU changes.
//! A lookup is one map operation; an array slot (`config`, `network`) is a load.

use netd_common::map::config::Config;
use netd_common::map::counter::{DropKey, FlowStat};
use netd_common::map::endpoint::{
    AddressKey, AddressValue, EndpointValue, StationKey, StationValue,
};
use netd_common::map::flow::{FlowKey, FlowValue, expired};
use netd_common::map::fragment::{FragmentKey, FragmentValue, HeldKey, Units, UnitsValue};
use netd_common::map::network::{
    HostAddressValue, MASQUERADE_V4, MASQUERADE_V6, NetworkValue, OPEN_V4, OPEN_V6, ROUTED_V4,
    ROUTED_V6, TrustedKey, UplinkValue,
};
use netd_common::map::published::{PublishedKey, PublishedValue};
use netd_common::wire::WireFamily;
use netd_common::{Family, IfIndex, Ipv4, Ipv6, MacAddr, NetworkIndex, V4, V6};

use crate::fragment::Passed;
use crate::packet::PacketBuf;
use crate::verdict::Version;

/// Which of a family's two flow tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum FlowTable {
    /// Flows that a reply has confirmed; never evicted.
    #[default]
    Confirmed,
    /// Embryonic flows; the least recently used are evicted.
    New,
}

/// How an insertion treats an entry that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insert {
    /// It must not be there.
    Absent,
    /// It is replaced.
    Replace,
}

/// Why an insertion failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// The key is taken.
    Exists,
    /// The table is full, or the kernel has no memory.
    Full,
}

/// What the host's routes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<A> {
    /// Out of this interface to that neighbour; all zero leaves the neighbour to the kernel.
    Via(IfIndex, A),
    /// To the host itself.
    Local,
    /// Nowhere.
    Missing,
}

/// Tables that both families share.
pub trait Tables {
    /// The live configuration; all zero before the controller has written one.
    fn config(&self) -> Config;

    /// A network's slot; all zero if unused.
    fn network(&self, index: NetworkIndex) -> NetworkValue;

    /// The network of a gateway device.
    fn gateway(&self, ifindex: IfIndex) -> Option<NetworkIndex>;

    /// The endpoint behind a host veth.
    fn endpoint(&self, ifindex: IfIndex) -> Option<EndpointValue>;

    /// Copies it straight to where it is wanted. False: there is none.
    #[inline(always)]
    fn read_endpoint(&self, ifindex: IfIndex, into: &mut EndpointValue) -> bool {
        let endpoint = self.endpoint(ifindex);
        if let Some(endpoint) = endpoint {
            *into = endpoint;
        }
        endpoint.is_some()
    }

    /// The endpoint with a MAC.
    fn station(&self, key: &StationKey) -> Option<StationValue>;

    /// An uplink.
    fn uplink(&self, ifindex: IfIndex) -> Option<UplinkValue>;

    /// Whether a network trusts a link.
    fn is_trusted(&self, key: &TrustedKey) -> bool;

    /// Whether the flow table was lost so recently that connections go on without entries.
    #[inline(always)]
    fn is_loose(&self) -> bool {
        self.now_s() < self.config().loose_until_s
    }

    /// The coarse monotonic clock in seconds.
    fn now_s(&self) -> u32;

    /// Whether an entry with these flags is past its time.
    #[inline(always)]
    fn is_expired(&self, flags: u16, proto: u8, last_seen_s: u32) -> bool {
        expired(flags, proto, last_seen_s, self.now_s(), &self.config())
    }

    /// Counts an inner working of the flow table.
    fn count_flow(&mut self, stat: FlowStat);

    /// Counts a flow accepted by a published port.
    fn count_hit(&mut self, slot: u32);

    /// Counts a masquerade port found at this probe.
    fn count_probe(&mut self, probe: u32);

    /// Takes one ICMP error from the allowance.
    fn may_complain(&mut self) -> bool;

    /// What is known of a datagram in fragments.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue>;

    /// Changes it in place, from all zero if nothing was known; what `change` says, or zero without
    /// memory.
    fn update_fragment(
        &mut self,
        key: &FragmentKey,
        change: impl FnOnce(&mut FragmentValue) -> u32,
    ) -> u32;

    /// Holds a fragment's frame, or a copy of it, for its first. False: it can't be held.
    fn hold<B: PacketBuf>(&mut self, key: &HeldKey, buf: &B, drop: &DropKey) -> bool;

    /// Marks units of a datagram as passed, each exactly once, whatever other CPUs do; and what else
    /// is known of the datagram. Nothing without memory.
    fn pass_units(&mut self, key: &FragmentKey, units: Units) -> Option<(&mut UnitsValue, Passed)>;

    /// Forgets a datagram that has passed whole.
    fn forget_datagram(&mut self, key: &FragmentKey);

    /// Calls `body` with 0, 1, ... until it says true or `rounds` are over: a loop that the
    /// verifier follows once.
    fn repeat<G: FnMut(&mut Self, u32) -> bool>(&mut self, rounds: u32, body: G);
}

/// Tables of one family.
pub trait FamilyTables<F: Family>: Tables {
    /// Who holds an address in a network.
    fn address(&self, key: &AddressKey<F::Addr>) -> Option<AddressValue>;

    /// The network whose prefix holds an address.
    fn subnet(&self, addr: F::Addr) -> Option<NetworkIndex>;

    /// An address of the host.
    fn host_address(&self, addr: &F::Addr) -> Option<HostAddressValue>;

    /// A published port's backend.
    fn published(&self, key: &PublishedKey<F::Addr>) -> Option<PublishedValue<F::Addr>>;

    /// A flow entry.
    fn flow(&self, table: FlowTable, key: &FlowKey<F::Addr>) -> Option<FlowValue<F::Addr>>;

    /// Copies a flow entry straight to where it is wanted. False: it is not there.
    #[inline(always)]
    fn read_flow(
        &self,
        table: FlowTable,
        key: &FlowKey<F::Addr>,
        into: &mut FlowValue<F::Addr>,
    ) -> bool {
        let entry = self.flow(table, key);
        if let Some(entry) = entry {
            *into = entry;
        }
        entry.is_some()
    }

    /// Changes a flow entry in place, if it is there.
    fn update_flow(
        &mut self,
        table: FlowTable,
        key: &FlowKey<F::Addr>,
        change: impl FnOnce(&mut FlowValue<F::Addr>),
    );

    /// Inserts a flow entry.
    fn insert_flow(
        &mut self,
        table: FlowTable,
        key: &FlowKey<F::Addr>,
        value: &FlowValue<F::Addr>,
        mode: Insert,
    ) -> Result<(), InsertError>;

    /// Removes a flow entry, if it is there.
    fn remove_flow(&mut self, table: FlowTable, key: &FlowKey<F::Addr>);

    /// Where the host would forward a packet that came from `device`.
    fn route(&self, device: IfIndex, src: &F::Addr, dst: &F::Addr) -> Route<F::Addr>;

    /// Whether a socket of the host would take packets of this tuple.
    fn host_socket(&self, key: &FlowKey<F::Addr>) -> bool;
}

/// Which fields of the shared values are a family's own.
pub trait Stack: WireFamily {
    /// `NetworkValue::flags`: masqueraded.
    const MASQUERADE: u32;
    /// `NetworkValue::flags`: open from outside.
    const OPEN: u32;
    /// `NetworkValue::flags`: published container ports are open from outside.
    const ROUTED: u32;

    /// Which family, for a packet that is yet undecided.
    const FAMILY: Version;

    /// The endpoint's primary address.
    fn of_endpoint(endpoint: &EndpointValue) -> Self::Addr;

    /// The network's chosen masquerade source.
    fn of_network(network: &NetworkValue) -> Self::Addr;

    /// The uplink's masquerade source.
    fn of_uplink(uplink: &UplinkValue) -> Self::Addr;

    /// The source a container sees when it reaches itself.
    fn hairpin(config: &Config) -> Self::Addr;

    /// Whether it is the link-local address that a MAC gives rise to.
    fn is_link_local_of(addr: Self::Addr, mac: MacAddr) -> bool;

    /// In the words of an IPv6 address.
    fn widen(addr: Self::Addr) -> [u32; 4];
}

impl Stack for V4 {
    const MASQUERADE: u32 = MASQUERADE_V4;
    const OPEN: u32 = OPEN_V4;
    const ROUTED: u32 = ROUTED_V4;
    const FAMILY: Version = Version::V4;

    #[inline(always)]
    fn of_endpoint(endpoint: &EndpointValue) -> Ipv4 {
        endpoint.v4
    }

    #[inline(always)]
    fn of_network(network: &NetworkValue) -> Ipv4 {
        network.snat_v4
    }

    #[inline(always)]
    fn of_uplink(uplink: &UplinkValue) -> Ipv4 {
        uplink.v4
    }

    #[inline(always)]
    fn hairpin(config: &Config) -> Ipv4 {
        config.hairpin_v4
    }

    #[inline(always)]
    fn is_link_local_of(_addr: Ipv4, _mac: MacAddr) -> bool {
        false
    }

    #[inline(always)]
    fn widen(addr: Ipv4) -> [u32; 4] {
        [addr.0, 0, 0, 0]
    }
}

impl Stack for V6 {
    const MASQUERADE: u32 = MASQUERADE_V6;
    const OPEN: u32 = OPEN_V6;
    const ROUTED: u32 = ROUTED_V6;
    const FAMILY: Version = Version::V6;

    #[inline(always)]
    fn of_endpoint(endpoint: &EndpointValue) -> Ipv6 {
        endpoint.v6
    }

    #[inline(always)]
    fn of_network(network: &NetworkValue) -> Ipv6 {
        network.snat_v6
    }

    #[inline(always)]
    fn of_uplink(uplink: &UplinkValue) -> Ipv6 {
        uplink.v6
    }

    #[inline(always)]
    fn hairpin(config: &Config) -> Ipv6 {
        config.hairpin_v6
    }

    #[inline(always)]
    fn is_link_local_of(addr: Ipv6, mac: MacAddr) -> bool {
        let id = mac.eui64();
        let halves = [
            u32::from_ne_bytes([id[0], id[1], id[2], id[3]]),
            u32::from_ne_bytes([id[4], id[5], id[6], id[7]]),
        ];
        addr.0 == [0xfe80_0000u32.to_be(), 0, halves[0], halves[1]]
    }

    #[inline(always)]
    fn widen(addr: Ipv6) -> [u32; 4] {
        addr.0
    }
}
