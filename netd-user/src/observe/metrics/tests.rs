//! Metrics over known counters and models.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use netd_common::{DropReason, EndpointIndex, Hook, NetworkIndex};

use super::*;
use crate::compile::tests::world::World;
use crate::model::{EndpointId, Proto};
use crate::roster::{COMPOSE_PROJECT, COMPOSE_SERVICE};

/// Counters and a model that a test sets.
#[derive(Default)]
struct Bench {
    world: Mutex<World>,
    counters: Mutex<Vec<(u32, EndpointCounters)>>,
    drops: Mutex<BTreeMap<DropKey, TrafficCounter>>,
    hits: Mutex<BTreeMap<u32, u64>>,
    unreadable_maps: Mutex<bool>,
}

impl DataplaneStats for Bench {
    fn endpoint_counters(&self) -> Result<Vec<(u32, EndpointCounters)>, StatsError> {
        Ok(self.counters.lock().unwrap().clone())
    }

    fn drops(&self) -> Result<BTreeMap<DropKey, TrafficCounter>, StatsError> {
        Ok(self.drops.lock().unwrap().clone())
    }

    fn published_hits(&self) -> Result<BTreeMap<u32, u64>, StatsError> {
        Ok(self.hits.lock().unwrap().clone())
    }

    fn flow_stats(&self) -> Result<BTreeMap<&'static str, u64>, StatsError> {
        Ok([("created", 9), ("pressure", 1), ("snat_exhausted", 2), ("icmp_errors_withheld", 4)]
            .into())
    }

    fn snat_probes(&self) -> Result<Vec<u64>, StatsError> {
        Ok(vec![5, 3, 1])
    }

    fn map_fill(&self) -> Result<Vec<MapFill>, StatsError> {
        if *self.unreadable_maps.lock().unwrap() {
            return Err("the map is gone".into());
        }
        Ok(vec![MapFill { name: "endpoints", entries: 4, capacity: 16 }])
    }

    fn flow_counts(&self) -> Result<FlowCounts, StatsError> {
        Ok(FlowCounts { new_v4: 1, new_v6: 2, v4: 3, v6: 4 })
    }
}

impl Inventory for Bench {
    fn model(&self) -> Arc<Model> {
        Arc::new(self.world.lock().unwrap().model.clone())
    }

    fn failed(&self) -> BTreeSet<SandboxId> {
        [SandboxId([2; 32])].into()
    }

    fn pools(&self, model: &Model) -> Vec<PoolFill> {
        let networks = model.networks.values();
        let pool = |network: &Arc<crate::model::Network>| PoolFill {
            network: network.name.clone(),
            pool: network.pools[0].subnet.to_string(),
            allocated: 3,
            available: 251,
        };
        networks.map(pool).collect()
    }

    fn problems(&self) -> usize {
        2
    }

    fn events_lost(&self) -> u64 {
        6
    }
}

impl Bench {
    fn count(&self, index: u32, packets: u64) {
        let traffic = TrafficCounter { packets, bytes: packets * 100 };
        let counters = EndpointCounters { from_container: traffic, to_container: traffic };
        self.counters.lock().unwrap().retain(|(other, _)| *other != index);
        self.counters.lock().unwrap().push((index, counters));
    }
}

fn bench() -> (Arc<Bench>, Metrics) {
    let bench = Arc::new(Bench::default());
    {
        let mut world = bench.world.lock().unwrap();
        world.network(1, "frontend", |_| {});
        world.sandbox(1, "web", &[(1, 2)]);
        world.sandbox(2, "client", &[(1, 3)]);
        let web = Arc::make_mut(world.model.sandboxes.get_mut(&SandboxId([1; 32])).unwrap());
        for (key, value) in [(COMPOSE_PROJECT, "shop"), (COMPOSE_SERVICE, "front")] {
            web.labels.insert(key.to_owned(), value.to_owned());
        }
        world.publish(1, "0.0.0.0", (8080, 80, 2), Proto::Tcp);
        world.publish(1, "127.0.0.1", (53, 53, 1), Proto::Udp);
    }
    let drop = DropKey {
        endpoint: EndpointIndex(1),
        network: NetworkIndex(1),
        reason: DropReason::SpoofedSource as u16,
        hook: Hook::FromContainer as u16,
    };
    let outside = DropKey { endpoint: EndpointIndex(0), network: NetworkIndex(0), ..drop };
    let few = TrafficCounter { packets: 2, bytes: 120 };
    *bench.drops.lock().unwrap() = [(drop, few), (outside, few)].into();
    *bench.hits.lock().unwrap() = [(0, 11), (1, 12)].into();
    let metrics = Metrics::new(bench.clone(), bench.clone()).unwrap();
    (bench, metrics)
}

/// The value of a series, as it stands in the text.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.text().unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

#[test]
fn promtool_finds_nothing_to_say() {
    let (bench, metrics) = bench();
    bench.count(1, 5);
    metrics.endpoint_set_up(Duration::from_millis(3));
    metrics.reconciled(Duration::from_millis(2), ApplyEnd::Failed);
    metrics.answered("/v1/networks/{network}", 404, Duration::from_micros(40));
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = promtool.expect("promtool is needed: apt-get install prometheus");
    let text = metrics.text().unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{text}");
}

#[test]
fn every_metric_is_there() {
    let (bench, metrics) = bench();
    bench.count(1, 5);
    metrics.endpoint_set_up(Duration::from_millis(3));
    metrics.reconciled(Duration::from_millis(2), ApplyEnd::Failed);
    metrics.answered("/healthz", 200, Duration::from_micros(40));
    let text = metrics.text().unwrap();
    let own = text.lines().filter(|line| {
        !line.starts_with("process_")
            && !line.contains(" process_")
            && !line.contains("build_info{")
    });
    let own = own.collect::<Vec<_>>().join("\n") + "\n";
    if std::env::var_os("NETD_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/observe/metrics/scrape.txt");
        std::fs::write(path, own).unwrap();
        return;
    }
    assert_eq!(own, include_str!("scrape.txt"), "NETD_BLESS=1 writes the fixture anew");
    assert!(text.contains("process_open_fds ") && text.contains("netd_build_info{"));
}

#[test]
fn every_metric_is_documented_for_operators_and_nothing_else_is() {
    let manual = include_str!("../../../../docs/operations.md");
    let exported = include_str!("scrape.txt").lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some(name)
    });
    let exported: BTreeSet<&str> = exported.chain(["netd_build_info"]).collect();
    let words = manual.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let told: BTreeSet<&str> = words.filter(|word| word.starts_with("netd_")).collect();
    assert_eq!(told, exported);
}

#[test]
fn every_drop_reason_is_explained_for_operators() {
    let manual = include_str!("../../../../docs/packet-path.md");
    for reason in DropReason::ALL {
        let row = format!("| `{}` | {} |", reason.name(), reason.explanation().trim());
        assert!(manual.contains(&row), "{row}");
    }
}

#[test]
fn a_network_keeps_what_its_removed_endpoints_counted() {
    let (bench, metrics) = bench();
    let network = "netd_forward_packets_total{network=\"frontend\",direction=\"from_container\"}";
    bench.count(1, 5);
    bench.count(2, 7);
    assert_eq!(value(&metrics, network), Some(12.0));
    bench.world.lock().unwrap().model.endpoints.pop_first();
    bench.counters.lock().unwrap().retain(|(index, _)| *index == 2);
    assert_eq!(value(&metrics, network), Some(12.0));
    bench.count(2, 8);
    assert_eq!(value(&metrics, network), Some(13.0));
}

#[test]
fn an_endpoint_does_not_inherit_the_counts_of_its_index() {
    let (bench, metrics) = bench();
    let series = |sandbox: &str| {
        format!(
            "netd_endpoint_packets_total{{network=\"frontend\",sandbox=\"{sandbox}\",\
             direction=\"to_container\"}}"
        )
    };
    bench.count(2, 70);
    assert_eq!(value(&metrics, &series("client")), Some(70.0));
    {
        let mut world = bench.world.lock().unwrap();
        world.sandbox(3, "next", &[]);
        let (_, mut endpoint) = world.model.endpoints.pop_last().unwrap();
        let next = Arc::make_mut(&mut endpoint);
        (next.id, next.sandbox) = (EndpointId([9; 32]), Some(SandboxId([3; 32])));
        world.model.endpoints.insert(endpoint.id, endpoint);
    }
    assert_eq!(value(&metrics, &series("client")), None);
    assert_eq!(value(&metrics, &series("next")), Some(0.0));
    bench.count(2, 73);
    assert_eq!(value(&metrics, &series("next")), Some(3.0));
}

#[test]
fn what_cannot_be_read_hides_nothing_else() {
    let (bench, metrics) = bench();
    let errors = "netd_dataplane_read_errors_total";
    assert_eq!(value(&metrics, errors), Some(0.0));
    *bench.unreadable_maps.lock().unwrap() = true;
    assert_eq!(value(&metrics, errors), Some(1.0));
    assert_eq!(value(&metrics, "netd_bpf_map_entries{map=\"endpoints\"}"), None);
    assert_eq!(value(&metrics, "netd_conntrack_entries{family=\"ipv4\",state=\"new\"}"), Some(1.0));
}

#[test]
fn no_label_is_an_id_or_an_address_of_a_container() {
    let (bench, metrics) = bench();
    bench.count(1, 5);
    let text = metrics.text().unwrap();
    for endpoint in bench.model().endpoints.values() {
        let sandbox = endpoint.sandbox.unwrap().short();
        assert!(!text.contains(&endpoint.id.short()) && !text.contains(&sandbox));
        assert!(!text.contains(&format!("\"{}\"", endpoint.v4.unwrap())));
    }
}
