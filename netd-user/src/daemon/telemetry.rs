//! What the dataplane and the controller tell, in the words of the API and of the metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use netd_common::DropReason;
use netd_common::map::counter::{DropKey, EndpointCounters, TrafficCounter};

use crate::api::{Counters, MapStatus};
use crate::controller::{Controller, Observer};
use crate::dataplane::stats::Stats;
use crate::frontend::Telemetry;
use crate::model::{Model, SandboxId};
use crate::observe::events::{Hub, Listener};
use crate::observe::metrics::{
    ApplyEnd, DataplaneStats, FlowCounts, Inventory, MapFill, Metrics, NameMetrics, PoolFill,
    StatsError,
};

/// The running daemon as its observers see it.
pub(super) struct DataplaneTelemetry {
    stats: Stats,
    hub: Hub,
    metrics: Metrics,
}

impl DataplaneTelemetry {
    /// Over the counters, the events and the state.
    pub(super) fn new(stats: Stats, hub: Hub, controller: Controller) -> prometheus::Result<Self> {
        let inventory = LiveInventory { controller, hub: hub.clone() };
        let metrics = Metrics::new(Arc::new(KernelStats(stats.clone())), Arc::new(inventory))?;
        Ok(Self { stats, hub, metrics })
    }
}

impl DataplaneTelemetry {
    /// What the name service counts with.
    pub(super) fn name_metrics(&self) -> NameMetrics {
        self.metrics.names().clone()
    }
}

impl Observer for DataplaneTelemetry {
    fn reconciled(&self, took: Duration, succeeded: bool) {
        let end = if succeeded { ApplyEnd::Applied } else { ApplyEnd::Failed };
        self.metrics.reconciled(took, end);
    }

    fn repaired(&self, changes: usize) {
        self.metrics.repaired(changes);
    }

    fn endpoint_set_up(&self, took: Duration) {
        self.metrics.endpoint_set_up(took);
    }
}

impl Telemetry for DataplaneTelemetry {
    fn endpoint_counters(&self) -> BTreeMap<u32, Counters> {
        let counted = readable(self.stats.endpoint_counters());
        let mut counters: BTreeMap<u32, Counters> =
            counted.into_iter().map(|(index, counted)| (index, counters(counted))).collect();
        for (key, dropped) in readable(self.stats.drops()) {
            let Some(counters) = counters.get_mut(&key.endpoint.0) else { continue };
            counters.dropped += dropped.packets;
        }
        counters
    }

    fn published_hits(&self) -> BTreeMap<u32, u64> {
        readable(self.stats.published_hits())
    }

    fn maps(&self) -> Vec<MapStatus> {
        let fill = readable(self.stats.map_fill());
        let status = |fill: MapFill| MapStatus {
            name: fill.name.to_owned(),
            entries: fill.entries,
            capacity: fill.capacity,
        };
        fill.into_iter().map(status).collect()
    }

    fn drops(&self) -> BTreeMap<String, u64> {
        let mut drops = BTreeMap::new();
        for (key, counter) in readable(self.stats.drops()) {
            *drops.entry(reason_name(key.reason)).or_default() += counter.packets;
        }
        drops
    }

    fn flows(&self) -> BTreeMap<String, u64> {
        let stats = readable(self.stats.flow_stats());
        stats.into_iter().map(|(event, count)| (event.to_owned(), count)).collect()
    }

    fn metrics(&self) -> Result<String, String> {
        self.metrics.text().map_err(|error| format!("the metrics can't be gathered: {error}"))
    }

    fn count_request(&self, route: &str, status: u16, took: Duration) {
        self.metrics.answered(route, status, took);
    }

    fn events(&self) -> Listener {
        self.hub.listen()
    }
}

/// The state as metrics ask for it.
struct LiveInventory {
    controller: Controller,
    hub: Hub,
}

impl Inventory for LiveInventory {
    fn model(&self) -> Arc<Model> {
        self.controller.model()
    }

    fn failed(&self) -> BTreeSet<SandboxId> {
        self.controller.view().failures.keys().copied().collect()
    }

    fn pools(&self, model: &Model) -> Vec<PoolFill> {
        let fill = |usage: crate::model::PoolUsage| PoolFill {
            network: usage.network_name,
            pool: usage.pool.to_string(),
            allocated: usage.allocated,
            available: usage.available,
        };
        model.pool_usage().into_iter().map(fill).collect()
    }

    fn problems(&self) -> usize {
        let view = self.controller.view();
        view.problems.len() + view.failures.len()
    }

    fn events_lost(&self) -> u64 {
        self.hub.lost()
    }
}

/// The kernel's counters as metrics ask for them.
struct KernelStats(Stats);

impl DataplaneStats for KernelStats {
    fn endpoint_counters(&self) -> Result<Vec<(u32, EndpointCounters)>, StatsError> {
        Ok(self.0.endpoint_counters()?)
    }

    fn drops(&self) -> Result<BTreeMap<DropKey, TrafficCounter>, StatsError> {
        Ok(self.0.drops()?)
    }

    fn published_hits(&self) -> Result<BTreeMap<u32, u64>, StatsError> {
        Ok(self.0.published_hits()?)
    }

    fn flow_stats(&self) -> Result<BTreeMap<&'static str, u64>, StatsError> {
        Ok(self.0.flow_stats()?)
    }

    fn snat_probes(&self) -> Result<Vec<u64>, StatsError> {
        Ok(self.0.snat_probes()?)
    }

    fn map_fill(&self) -> Result<Vec<MapFill>, StatsError> {
        Ok(self.0.map_fill()?)
    }

    fn flow_counts(&self) -> Result<FlowCounts, StatsError> {
        Ok(self.0.flow_counts()?)
    }
}

fn counters(counted: EndpointCounters) -> Counters {
    Counters {
        from_packets: counted.from_container.packets,
        from_bytes: counted.from_container.bytes,
        to_packets: counted.to_container.packets,
        to_bytes: counted.to_container.bytes,
        dropped: 0,
    }
}

fn reason_name(reason: u16) -> String {
    let known = u8::try_from(reason).ok().and_then(DropReason::from_number);
    known.map_or_else(|| format!("reason_{reason}"), |reason| reason.name().to_owned())
}

/// Counters that can't be read show as none, and the log says why.
fn readable<T: Default, E: std::fmt::Display>(read: Result<T, E>) -> T {
    read.unwrap_or_else(|error| {
        tracing::warn!(%error, "counters can't be read");
        T::default()
    })
}
