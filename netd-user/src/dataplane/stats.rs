//! Reads the kernel side's counters; values of all CPUs summed.

use std::collections::BTreeMap;

use bytemuck::Pod;
use netd_common::map::counter::{DropKey, EndpointCounters, EventBudget, FlowStat, TrafficCounter};
use netd_common::map::{self, MAPS, MapKind, MapSpec};

use super::DataplaneError;
use super::maps::Maps;

/// A reader of counters; clones share the maps.
#[derive(Clone, Debug)]
pub struct Stats {
    maps: Maps,
}

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapFill {
    /// The map.
    pub name: &'static str,
    /// Entries in use.
    pub entries: u64,
    /// Entries it can hold.
    pub capacity: u64,
}

/// Entries of the flow table by family and state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounts {
    /// IPv4 entries that no reply has confirmed.
    pub new_v4: u64,
    /// IPv6 entries that no reply has confirmed.
    pub new_v6: u64,
    /// IPv4 entries of confirmed flows.
    pub v4: u64,
    /// IPv6 entries of confirmed flows.
    pub v6: u64,
}

impl Stats {
    pub(super) fn new(maps: Maps) -> Self {
        Self { maps }
    }

    /// Endpoints that counted anything, by index.
    pub fn endpoint_counters(&self) -> Result<Vec<(u32, EndpointCounters)>, DataplaneError> {
        let all = self.summed::<u32, EndpointCounters>(&map::COUNTERS)?;
        Ok(all.into_iter().filter(|(_, c)| *c != EndpointCounters::default()).collect())
    }

    /// Drops by reason, hook, endpoint and network.
    pub fn drops(&self) -> Result<BTreeMap<DropKey, TrafficCounter>, DataplaneError> {
        Ok(self.summed::<DropKey, TrafficCounter>(&map::DROPS)?.into_iter().collect())
    }

    /// Flows accepted, by publication slot; slots without a hit are left out.
    pub fn published_hits(&self) -> Result<BTreeMap<u32, u64>, DataplaneError> {
        let all = self.summed::<u32, u64>(&map::PUBLISHED_HITS)?;
        Ok(all.into_iter().filter(|(_, hits)| *hits > 0).collect())
    }

    /// The flow table's inner workings, by the names of `FlowStat`; and entries of embryonic flows that
    /// had to make room for others (`evicted`).
    pub fn flow_stats(&self) -> Result<BTreeMap<&'static str, u64>, DataplaneError> {
        // The books first: what comes in after them counts as present, not as evicted.
        let slots: BTreeMap<u32, u64> = self.summed(&map::FLOW_STATS)?.into_iter().collect();
        let value = |stat: FlowStat| slots.get(&(stat as u32)).copied().unwrap_or(0);
        let present =
            self.fill(&map::FLOWS_NEW_V4)?.entries + self.fill(&map::FLOWS_NEW_V6)?.entries;
        let gone = value(FlowStat::EmbryonicTaken) + value(FlowStat::EmbryonicSwept);
        let evicted = (2 * value(FlowStat::Created)).saturating_sub(gone + present);
        let shown = FlowStat::ALL.iter().map(|(stat, name)| (*name, value(*stat)));
        Ok(shown.chain([("evicted", evicted)]).collect())
    }

    /// Masquerade allocations by number of probes.
    pub fn snat_probes(&self) -> Result<Vec<u64>, DataplaneError> {
        Ok(self
            .summed::<u32, u64>(&map::SNAT_PROBES)?
            .into_iter()
            .map(|(_, count)| count)
            .collect())
    }

    /// Events that did not reach the ring buffer: over the rate, or the buffer full.
    pub fn events_lost(&self) -> Result<u64, DataplaneError> {
        let budgets = self.per_cpu::<u32, EventBudget>(&map::EVENT_BUDGET)?;
        Ok(budgets.iter().flat_map(|(_, cpus)| cpus).map(|budget| budget.lost).sum())
    }

    /// Fill of every map that can be full.
    pub fn map_fill(&self) -> Result<Vec<MapFill>, DataplaneError> {
        MAPS.iter().filter(|spec| can_fill(spec.kind)).map(|spec| self.fill(spec)).collect()
    }

    /// Entries of the flow table.
    pub fn flow_counts(&self) -> Result<FlowCounts, DataplaneError> {
        Ok(FlowCounts {
            new_v4: self.fill(&map::FLOWS_NEW_V4)?.entries,
            new_v6: self.fill(&map::FLOWS_NEW_V6)?.entries,
            v4: self.fill(&map::FLOWS_V4)?.entries,
            v6: self.fill(&map::FLOWS_V6)?.entries,
        })
    }

    fn fill(&self, spec: &'static MapSpec) -> Result<MapFill, DataplaneError> {
        let map = self.maps.get(spec);
        let mut entries = 0;
        map.for_each(|_, _| entries += 1)?;
        Ok(MapFill { name: spec.name, entries, capacity: map.capacity().into() })
    }

    fn summed<K: Pod, V: Pod + Sum>(&self, spec: &MapSpec) -> Result<Vec<(K, V)>, DataplaneError> {
        let all = self.per_cpu::<K, V>(spec)?;
        Ok(all.into_iter().map(|(key, cpus)| (key, V::sum(&cpus))).collect())
    }

    fn per_cpu<K: Pod, V: Pod>(&self, spec: &MapSpec) -> Result<Vec<(K, Vec<V>)>, DataplaneError> {
        let stride = size_of::<V>().next_multiple_of(8);
        let mut all = Vec::new();
        self.maps.get(spec).for_each(|key, value| {
            let of_cpu = |bytes: &[u8]| bytemuck::pod_read_unaligned(&bytes[..size_of::<V>()]);
            let cpus = value.chunks_exact(stride).map(of_cpu).collect();
            all.push((bytemuck::pod_read_unaligned(key), cpus));
        })?;
        Ok(all)
    }
}

/// Counters that add up over CPUs.
trait Sum: Sized {
    fn sum(cpus: &[Self]) -> Self;
}

impl Sum for u64 {
    fn sum(cpus: &[Self]) -> Self {
        cpus.iter().sum()
    }
}

impl Sum for TrafficCounter {
    fn sum(cpus: &[Self]) -> Self {
        Self {
            packets: cpus.iter().map(|c| c.packets).sum(),
            bytes: cpus.iter().map(|c| c.bytes).sum(),
        }
    }
}

impl Sum for EndpointCounters {
    fn sum(cpus: &[Self]) -> Self {
        let add = |a: TrafficCounter, b: TrafficCounter| TrafficCounter {
            packets: a.packets + b.packets,
            bytes: a.bytes + b.bytes,
        };
        cpus.iter().fold(Self::default(), |all, one| Self {
            from_container: add(all.from_container, one.from_container),
            to_container: add(all.to_container, one.to_container),
        })
    }
}

const fn can_fill(kind: MapKind) -> bool {
    match kind {
        MapKind::Hash | MapKind::LruHash | MapKind::PerCpuHash | MapKind::LpmTrie => true,
        MapKind::Array | MapKind::PerCpuArray | MapKind::RingBuf => false,
    }
}
