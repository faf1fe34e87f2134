//! What the model tells: endpoints and address pools.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::Inventory;
use super::family::{Definition, Family, Kind, float};
use crate::roster::{COMPOSE_PROJECT, COMPOSE_SERVICE};

const ENDPOINTS: Definition = Definition {
    name: "netd_endpoints",
    help: "Endpoints of a network; failed ones belong to sandboxes that do not work as asked for.",
    kind: Kind::Gauge,
    labels: &["network", "state"],
};
const IPAM_ALLOCATED: Definition = Definition {
    name: "netd_ipam_allocated_addresses",
    help: "Addresses of a pool that are in use or reserved.",
    kind: Kind::Gauge,
    labels: &["network", "pool"],
};
const IPAM_AVAILABLE: Definition = Definition {
    name: "netd_ipam_available_addresses",
    help: "Addresses of a pool that endpoints can still get.",
    kind: Kind::Gauge,
    labels: &["network", "pool"],
};
const EVENTS_LOST: Definition = Definition {
    name: "netd_monitor_lost_events_total",
    help: "Drop events that listeners of the monitor were too slow for.",
    kind: Kind::Counter,
    labels: &[],
};
const PROBLEMS: Definition = Definition {
    name: "netd_problems",
    help: "How many things `netd status` tells as wrong; 0 when all is well.",
    kind: Kind::Gauge,
    labels: &[],
};
const SANDBOX_INFO: Definition = Definition {
    name: "netd_sandbox_info",
    help: "Compose project and service of a sandbox that has any; always 1.",
    kind: Kind::Gauge,
    labels: &["sandbox", "project", "service"],
};
const DEFINITIONS: [&Definition; 6] =
    [&ENDPOINTS, &IPAM_ALLOCATED, &IPAM_AVAILABLE, &EVENTS_LOST, &PROBLEMS, &SANDBOX_INFO];

pub(super) struct InventoryCollector {
    inventory: Arc<dyn Inventory>,
    descs: Vec<Desc>,
}

impl InventoryCollector {
    pub(super) fn new(inventory: Arc<dyn Inventory>) -> prometheus::Result<Self> {
        let descs = DEFINITIONS.into_iter().map(Definition::desc).collect::<Result<_, _>>()?;
        Ok(Self { inventory, descs })
    }

    fn endpoints(&self) -> Family {
        let model = self.inventory.model();
        let failed = self.inventory.failed();
        let mut counts: BTreeMap<_, [u64; 2]> =
            model.networks.values().map(|network| (network.id, [0; 2])).collect();
        for endpoint in model.endpoints.values() {
            if let Some([running, failing]) = counts.get_mut(&endpoint.network) {
                let fails = endpoint.sandbox.is_some_and(|id| failed.contains(&id));
                let count = if fails { failing } else { running };
                *count += 1;
            }
        }
        let mut family = Family::new(&ENDPOINTS);
        for network in model.networks.values() {
            let [running, failing] = counts[&network.id];
            family.sample(&[&network.name, "running"], float(running));
            family.sample(&[&network.name, "failed"], float(failing));
        }
        family
    }

    fn projects(&self) -> Family {
        let model = self.inventory.model();
        let mut family = Family::new(&SANDBOX_INFO);
        for sandbox in model.sandboxes.values() {
            let label = |key| sandbox.labels.get(key).map_or("", String::as_str);
            let project = label(COMPOSE_PROJECT);
            if !project.is_empty() {
                family.sample(&[&sandbox.name, project, label(COMPOSE_SERVICE)], 1.0);
            }
        }
        family
    }

    fn pools(&self) -> [Family; 2] {
        let mut allocated = Family::new(&IPAM_ALLOCATED);
        let mut available = Family::new(&IPAM_AVAILABLE);
        for pool in self.inventory.pools(&self.inventory.model()) {
            let labels = [pool.network.as_str(), pool.pool.as_str()];
            allocated.sample(&labels, addresses(pool.allocated));
            available.sample(&labels, addresses(pool.available));
        }
        [allocated, available]
    }
}

impl Collector for InventoryCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut lost = Family::new(&EVENTS_LOST);
        lost.sample(&[], float(self.inventory.events_lost()));
        let mut problems = Family::new(&PROBLEMS);
        problems.sample(&[], float(self.inventory.problems() as u64));
        let families =
            [self.endpoints(), self.projects(), lost, problems].into_iter().chain(self.pools());
        families.filter_map(Family::finish).collect()
    }
}

/// An IPv6 pool has more addresses than any number format counts exactly.
#[allow(clippy::cast_precision_loss, reason = "Prometheus counts in f64")]
const fn addresses(count: u128) -> f64 {
    count as f64
}
