//! Tables as ordered maps.
//!
//! Law: they behave as the kernel's. Every map operation is counted, an array slot is not: it is
//! a load.

use core::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use netd_common::map::config::Config;
use netd_common::map::counter::{DropKey, FlowStat, IcmpBudget};
use netd_common::map::endpoint::{
    AddressKey, AddressValue, EndpointValue, StationKey, StationValue,
};
use netd_common::map::flow::{FlowKey, FlowValue};
use netd_common::map::fragment::{
    FragmentKey, FragmentValue, HELD_LEN, HeldKey, HeldValue, Units, UnitsValue, WORD_UNITS,
    is_past,
};
use netd_common::map::network::{HostAddressValue, NetworkValue, TrustedKey, UplinkValue};
use netd_common::map::published::{PublishedKey, PublishedValue};
use netd_common::{Address, IfIndex, Ipv4, Ipv6, NetworkIndex, V4, V6};

use crate::fragment::Passed;
use crate::packet::PacketBuf;
use crate::tables::{FamilyTables, FlowTable, Insert, InsertError, Route, Tables};

/// Whether two addresses share the prefix, an address in it, and whose it is.
pub type Subnet<A> = (fn(A, A) -> bool, A, NetworkIndex);

/// The tables of one family.
#[derive(Clone, Debug)]
pub struct FakeFamily<A> {
    /// `addresses_*`.
    pub addresses: BTreeMap<AddressKey<A>, AddressValue>,
    /// `subnets_*`: whether an address is in the prefix of a network.
    pub subnets: Vec<Subnet<A>>,
    /// `host_addrs_*`.
    pub host_addresses: BTreeMap<A, HostAddressValue>,
    /// `published_*`.
    pub published: BTreeMap<PublishedKey<A>, PublishedValue<A>>,
    /// `flows_*`.
    pub flows: BTreeMap<FlowKey<A>, FlowValue<A>>,
    /// `flows_new_*`.
    pub flows_new: BTreeMap<FlowKey<A>, FlowValue<A>>,
    /// Addresses that the host's routes lead to by another way than the default.
    pub routes: BTreeMap<A, Route<A>>,
    /// All others.
    pub default_route: Route<A>,
    /// Tuples that a socket of the host takes: destination port and protocol.
    pub sockets: BTreeSet<(u16, u8)>,
    /// Most entries of `flows_*`.
    pub flows_capacity: usize,
}

impl<A: Address> Default for FakeFamily<A> {
    fn default() -> Self {
        Self {
            addresses: BTreeMap::new(),
            subnets: Vec::new(),
            host_addresses: BTreeMap::new(),
            published: BTreeMap::new(),
            flows: BTreeMap::new(),
            flows_new: BTreeMap::new(),
            routes: BTreeMap::new(),
            default_route: Route::Missing,
            sockets: BTreeSet::new(),
            flows_capacity: usize::MAX,
        }
    }
}

/// All tables.
#[derive(Clone, Debug, Default)]
pub struct FakeTables {
    /// `config`.
    pub config: Config,
    /// `networks`.
    pub networks: BTreeMap<u32, NetworkValue>,
    /// `gateways`.
    pub gateways: BTreeMap<IfIndex, NetworkIndex>,
    /// `endpoints`.
    pub endpoints: BTreeMap<IfIndex, EndpointValue>,
    /// `stations`.
    pub stations: BTreeMap<StationKey, StationValue>,
    /// `uplinks`.
    pub uplinks: BTreeMap<IfIndex, UplinkValue>,
    /// `trusted`.
    pub trusted: BTreeSet<TrustedKey>,
    /// IPv4.
    pub v4: FakeFamily<Ipv4>,
    /// IPv6.
    pub v6: FakeFamily<Ipv6>,
    /// `fragments`.
    pub fragments: BTreeMap<FragmentKey, FragmentValue>,
    /// `fragment_units`.
    pub units: BTreeMap<FragmentKey, UnitsValue>,
    /// `fragments_held`.
    pub held: BTreeMap<HeldKey, HeldValue>,
    /// The clock.
    pub now_s: u32,
    /// `flow_stats`.
    pub flow_stats: BTreeMap<u32, u64>,
    /// `published_hits`.
    pub hits: BTreeMap<u32, u64>,
    /// `snat_probes`.
    pub probes: BTreeMap<u32, u64>,
    /// The bucket of ICMP errors.
    pub icmp_budget: IcmpBudget,
    /// Map operations so far.
    pub operations: Cell<u32>,
    /// Insertions and removals among them: those that take a lock.
    pub updates: u32,
}

impl FakeTables {
    fn operation(&self) {
        self.operations.set(self.operations.get() + 1);
    }

    /// A flow counter.
    pub fn stat(&self, stat: FlowStat) -> u64 {
        self.flow_stats.get(&(stat as u32)).copied().unwrap_or_default()
    }
}

impl Tables for FakeTables {
    fn config(&self) -> Config {
        self.config
    }

    fn network(&self, index: NetworkIndex) -> NetworkValue {
        self.networks.get(&index.0).copied().unwrap_or_default()
    }

    fn gateway(&self, ifindex: IfIndex) -> Option<NetworkIndex> {
        self.operation();
        self.gateways.get(&ifindex).copied()
    }

    fn endpoint(&self, ifindex: IfIndex) -> Option<EndpointValue> {
        self.operation();
        self.endpoints.get(&ifindex).copied()
    }

    fn station(&self, key: &StationKey) -> Option<StationValue> {
        self.operation();
        self.stations.get(key).copied()
    }

    fn uplink(&self, ifindex: IfIndex) -> Option<UplinkValue> {
        self.operation();
        self.uplinks.get(&ifindex).copied()
    }

    fn is_trusted(&self, key: &TrustedKey) -> bool {
        self.operation();
        self.trusted.contains(key)
    }

    fn now_s(&self) -> u32 {
        self.now_s
    }

    fn count_flow(&mut self, stat: FlowStat) {
        *self.flow_stats.entry(stat as u32).or_default() += 1;
    }

    fn count_hit(&mut self, slot: u32) {
        *self.hits.entry(slot).or_default() += 1;
    }

    fn count_probe(&mut self, probe: u32) {
        *self.probes.entry(probe).or_default() += 1;
    }

    fn may_complain(&mut self) -> bool {
        let Config { icmp_error_rate, icmp_error_burst, .. } = self.config;
        let now_ns = u64::from(self.now_s) * 1_000_000_000;
        self.icmp_budget.take(now_ns, icmp_error_rate, icmp_error_burst)
    }

    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue> {
        self.operation();
        self.fragments.get(key).copied()
    }

    fn update_fragment(
        &mut self,
        key: &FragmentKey,
        change: impl FnOnce(&mut FragmentValue) -> u32,
    ) -> u32 {
        self.operation();
        change(self.fragments.entry(*key).or_default())
    }

    fn hold<B: PacketBuf>(&mut self, key: &HeldKey, buf: &B, drop: &DropKey) -> bool {
        self.operation();
        let mut value = HeldValue { held_s: self.now_s, len: 0, drop: *drop, bytes: [0; HELD_LEN] };
        let Some(len) = buf.copy_out(&mut value.bytes) else {
            return false;
        };
        value.len = len;
        self.held.insert(*key, value);
        if drop.reason != 0 {
            self.count_flow(FlowStat::FragmentsHeld);
        }
        true
    }

    fn pass_units(&mut self, key: &FragmentKey, units: Units) -> Option<(&mut UnitsValue, Passed)> {
        self.operation();
        let born_s = self.now_s;
        self.units.retain(|_, value| !is_past(value.born_s, born_s));
        let value = self.units.entry(*key).or_insert(UnitsValue { born_s, ..UnitsValue::NONE });
        let (mut passed, mut fresh) = (false, false);
        for unit in units.first..units.end() {
            let word = &mut value.words[(unit / WORD_UNITS) as usize];
            let bit = 1 << (unit % WORD_UNITS);
            passed |= *word & bit != 0;
            fresh |= *word & bit == 0;
            *word |= bit;
        }
        if !passed {
            value.passed += units.count;
        }
        let passed = match (passed, fresh) {
            (false, _) => Passed::None(value.passed),
            (true, true) => Passed::Some,
            (true, false) => Passed::All,
        };
        Some((value, passed))
    }

    fn forget_datagram(&mut self, key: &FragmentKey) {
        self.operation();
        self.units.remove(key);
        self.fragments.remove(key);
    }

    fn repeat<G: FnMut(&mut Self, u32) -> bool>(&mut self, rounds: u32, mut body: G) {
        for round in 0..rounds {
            if body(self, round) {
                return;
            }
        }
    }
}

macro_rules! family_tables {
    ($($family:ty, $addr:ty, $field:ident;)+) => {$(
        impl FamilyTables<$family> for FakeTables {
            fn address(&self, key: &AddressKey<$addr>) -> Option<AddressValue> {
                self.operation();
                self.$field.addresses.get(key).copied()
            }

            fn subnet(&self, addr: $addr) -> Option<NetworkIndex> {
                self.operation();
                let holds = |(holds, prefix, _): &&Subnet<$addr>| holds(*prefix, addr);
                self.$field.subnets.iter().find(holds).map(|subnet| subnet.2)
            }

            fn host_address(&self, addr: &$addr) -> Option<HostAddressValue> {
                self.operation();
                self.$field.host_addresses.get(addr).copied()
            }

            fn published(&self, key: &PublishedKey<$addr>) -> Option<PublishedValue<$addr>> {
                self.operation();
                self.$field.published.get(key).copied()
            }

            fn flow(&self, table: FlowTable, key: &FlowKey<$addr>) -> Option<FlowValue<$addr>> {
                self.operation();
                match table {
                    FlowTable::Confirmed => self.$field.flows.get(key).copied(),
                    FlowTable::New => self.$field.flows_new.get(key).copied(),
                }
            }

            fn update_flow(
                &mut self,
                table: FlowTable,
                key: &FlowKey<$addr>,
                change: impl FnOnce(&mut FlowValue<$addr>),
            ) {
                self.operation();
                let entry = match table {
                    FlowTable::Confirmed => self.$field.flows.get_mut(key),
                    FlowTable::New => self.$field.flows_new.get_mut(key),
                };
                if let Some(entry) = entry {
                    change(entry);
                }
            }

            fn insert_flow(
                &mut self,
                table: FlowTable,
                key: &FlowKey<$addr>,
                value: &FlowValue<$addr>,
                mode: Insert,
            ) -> Result<(), InsertError> {
                self.operation();
                self.updates += 1;
                let capacity = self.$field.flows_capacity;
                let (entries, capacity) = match table {
                    FlowTable::Confirmed => (&mut self.$field.flows, capacity),
                    FlowTable::New => (&mut self.$field.flows_new, usize::MAX),
                };
                if mode == Insert::Absent && entries.contains_key(key) {
                    return Err(InsertError::Exists);
                }
                if entries.len() >= capacity && !entries.contains_key(key) {
                    return Err(InsertError::Full);
                }
                entries.insert(*key, *value);
                Ok(())
            }

            fn remove_flow(&mut self, table: FlowTable, key: &FlowKey<$addr>) {
                self.operation();
                self.updates += 1;
                match table {
                    FlowTable::Confirmed => self.$field.flows.remove(key),
                    FlowTable::New => self.$field.flows_new.remove(key),
                };
            }

            fn route(&self, _device: IfIndex, _src: &$addr, dst: &$addr) -> Route<$addr> {
                self.$field.routes.get(dst).copied().unwrap_or(self.$field.default_route)
            }

            fn host_socket(&self, key: &FlowKey<$addr>) -> bool {
                self.$field.sockets.contains(&(key.dport.get(), key.proto))
            }
        }
    )+};
}

family_tables! {
    V4, Ipv4, v4;
    V6, Ipv6, v6;
}
