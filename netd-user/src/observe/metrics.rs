//! Metrics in Prometheus' text format.
//!
//! Laws: names, units and labels as in docs/operations.md; labels have few values: networks, sandbox
//! names, reasons, never ids or addresses of containers. A counter never goes backwards while its
//! labels live, also when the kernel's slot behind it changes hands (`odometer`).

mod dataplane;
mod family;
mod inventory;
mod names;
mod odometer;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use netd_common::map::counter::{DropKey, EndpointCounters, TrafficCounter};
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

pub use crate::dataplane::stats::{FlowCounts, MapFill};
use crate::model::{Model, SandboxId};
use dataplane::DataplaneCollector;
use inventory::InventoryCollector;
pub use names::NameMetrics;

/// Content type of `Metrics::text`.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// From what a request or a packet costs at least to where somebody has given up.
const DURATION_BUCKETS_S: [f64; 11] =
    [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// Why the kernel side's counters can't be read.
pub type StatsError = Box<dyn Error + Send + Sync>;

/// The kernel side's counters, values of all CPUs summed.
pub trait DataplaneStats: Send + Sync {
    /// By endpoint index; endpoints that counted nothing may be left out.
    fn endpoint_counters(&self) -> Result<Vec<(u32, EndpointCounters)>, StatsError>;
    /// Drops by reason, hook, endpoint and network.
    fn drops(&self) -> Result<BTreeMap<DropKey, TrafficCounter>, StatsError>;
    /// Flows accepted, by publication slot.
    fn published_hits(&self) -> Result<BTreeMap<u32, u64>, StatsError>;
    /// The flow table's inner workings, by the names of `FlowStat`.
    fn flow_stats(&self) -> Result<BTreeMap<&'static str, u64>, StatsError>;
    /// Masquerade allocations by number of probes.
    fn snat_probes(&self) -> Result<Vec<u64>, StatsError>;
    /// Fill of every map that can be full.
    fn map_fill(&self) -> Result<Vec<MapFill>, StatsError>;
    /// Entries of the flow table.
    fn flow_counts(&self) -> Result<FlowCounts, StatsError>;
}

/// How full an address pool is.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolFill {
    /// Name of its network.
    pub network: String,
    /// Its prefix.
    pub pool: String,
    /// Addresses in use or reserved.
    pub allocated: u128,
    /// Addresses that endpoints can still get.
    pub available: u128,
}

/// The state of the host, as of now.
pub trait Inventory: Send + Sync {
    /// The model.
    fn model(&self) -> Arc<Model>;
    /// Sandboxes that don't work as asked for.
    fn failed(&self) -> BTreeSet<SandboxId>;
    /// How full the pools of a model are.
    fn pools(&self, model: &Model) -> Vec<PoolFill>;
    /// How many things `netd status` tells as wrong.
    fn problems(&self) -> usize;
    /// Events that listeners of the monitor were too slow for.
    fn events_lost(&self) -> u64;
}

/// How an apply of the reconciler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyEnd {
    /// The kernel holds what it should.
    Applied,
    /// It does not.
    Failed,
}

/// All metrics of a daemon. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    endpoint_setup: Histogram,
    reconcile_runs: IntCounter,
    reconcile_errors: IntCounter,
    reconcile_duration: Histogram,
    drift_repairs: IntCounter,
    api_requests: IntCounterVec,
    api_duration: HistogramVec,
    names: NameMetrics,
}

impl Metrics {
    /// Metrics over the kernel side's counters and the state of the host.
    pub fn new(
        stats: Arc<dyn DataplaneStats>,
        inventory: Arc<dyn Inventory>,
    ) -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(DataplaneCollector::new(stats, Arc::clone(&inventory))?))?;
        registry.register(Box::new(InventoryCollector::new(inventory)?))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        register_build_info(&registry)?;
        Ok(Self {
            endpoint_setup: histogram(
                &registry,
                "netd_endpoint_setup_duration_seconds",
                "Time from a request for an endpoint until the kernel holds all of it.",
            )?,
            reconcile_runs: counter(
                &registry,
                "netd_reconcile_runs_total",
                "Times that the kernel was made to match what it should hold.",
            )?,
            reconcile_errors: counter(
                &registry,
                "netd_reconcile_errors_total",
                "Runs of the reconciler that failed.",
            )?,
            reconcile_duration: histogram(
                &registry,
                "netd_reconcile_duration_seconds",
                "Duration of a run of the reconciler.",
            )?,
            drift_repairs: counter(
                &registry,
                "netd_drift_repairs_total",
                "Things of netd's that others had changed and that were put right.",
            )?,
            api_requests: api_requests(&registry)?,
            api_duration: api_duration(&registry)?,
            names: NameMetrics::register(&registry)?,
            registry,
        })
    }

    /// An endpoint was set up.
    pub fn endpoint_set_up(&self, took: Duration) {
        self.endpoint_setup.observe(took.as_secs_f64());
    }

    /// The reconciler ran.
    pub fn reconciled(&self, took: Duration, end: ApplyEnd) {
        self.reconcile_runs.inc();
        self.reconcile_duration.observe(took.as_secs_f64());
        match end {
            ApplyEnd::Applied => {}
            ApplyEnd::Failed => self.reconcile_errors.inc(),
        }
    }

    /// Others had changed what is ours, and so many things were put right.
    pub fn repaired(&self, changes: usize) {
        self.drift_repairs.inc_by(changes as u64);
    }

    /// The API or the plugin answered. `handler` is the route's pattern or the engine's method, never a
    /// path that a client made up.
    pub fn answered(&self, handler: &str, status: u16, took: Duration) {
        self.api_requests.with_label_values(&[handler, &status.to_string()]).inc();
        self.api_duration.with_label_values(&[handler]).observe(took.as_secs_f64());
    }

    /// The name service's.
    pub fn names(&self) -> &NameMetrics {
        &self.names
    }

    /// Everything, for a scrape. It reads maps: call it where blocking is allowed.
    pub fn text(&self) -> prometheus::Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn histogram(registry: &Registry, name: &str, help: &str) -> prometheus::Result<Histogram> {
    let options = HistogramOpts::new(name, help).buckets(DURATION_BUCKETS_S.to_vec());
    let histogram = Histogram::with_opts(options)?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

fn api_requests(registry: &Registry) -> prometheus::Result<IntCounterVec> {
    let help =
        "Requests of the API and calls of an engine answered, by route or method and status.";
    let options = Opts::new("netd_api_requests_total", help);
    let requests = IntCounterVec::new(options, &["handler", "code"])?;
    registry.register(Box::new(requests.clone()))?;
    Ok(requests)
}

fn api_duration(registry: &Registry) -> prometheus::Result<HistogramVec> {
    let help = "Time until the answer of the API or to an engine's call began, by route or method.";
    let options = HistogramOpts::new("netd_api_request_duration_seconds", help)
        .buckets(DURATION_BUCKETS_S.to_vec());
    let durations = HistogramVec::new(options, &["handler"])?;
    registry.register(Box::new(durations.clone()))?;
    Ok(durations)
}

fn register_build_info(registry: &Registry) -> prometheus::Result<()> {
    let options = Opts::new("netd_build_info", "What the daemon was built from; always 1.");
    let info = IntGaugeVec::new(options, &["version", "revision", "rustversion"])?;
    let revision = option_env!("NETD_REVISION").unwrap_or("unknown");
    let labels = [env!("CARGO_PKG_VERSION"), revision, env!("NETD_RUSTVERSION")];
    info.with_label_values(&labels).set(1);
    registry.register(Box::new(info))
}

#[cfg(test)]
mod tests;
