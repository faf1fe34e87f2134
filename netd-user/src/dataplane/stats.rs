//! Reads the kernel side's counters; values of all CPUs summed.

use std::collections::BTreeMap;

use netd_common::map::counter::{DropKey, EndpointCounters, TrafficCounter};

use super::DataplaneError;

/// A reader of counters; clones share the maps.
#[derive(Clone, Debug)]
pub struct Stats {}

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

/// Connections by family and state.
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
    /// Endpoints that counted anything, by index.
    pub fn endpoint_counters(&self) -> Result<Vec<(u32, EndpointCounters)>, DataplaneError> {
        todo!()
    }

    /// Drops by reason, hook, endpoint and network.
    pub fn drops(&self) -> Result<BTreeMap<DropKey, TrafficCounter>, DataplaneError> {
        todo!()
    }

    /// Flows accepted, by publication slot; slots without a hit are left out.
    pub fn published_hits(&self) -> Result<BTreeMap<u32, u64>, DataplaneError> {
        todo!()
    }

    /// The flow table's inner workings, by the names of `FlowStat`.
    pub fn flow_stats(&self) -> Result<BTreeMap<&'static str, u64>, DataplaneError> {
        todo!()
    }

    /// Masquerade allocations by number of probes.
    pub fn snat_probes(&self) -> Result<Vec<u64>, DataplaneError> {
        todo!()
    }

    /// Fill of every map that can be full.
    pub fn map_fill(&self) -> Result<Vec<MapFill>, DataplaneError> {
        todo!()
    }

    /// Entries of the flow table.
    pub fn flow_counts(&self) -> Result<FlowCounts, DataplaneError> {
        todo!()
    }
}
