//! What the kernel side counts, under the names of the model.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use netd_common::map::counter::EndpointCounters;
use netd_common::{DropReason, Hook, NetworkIndex};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::family::{Definition, Family, Kind, float};
use super::odometer::Odometer;
use super::{DataplaneStats, Inventory, StatsError};
use crate::model::{EndpointId, Model, NetworkId, Proto, Publication, Sandbox, SandboxId};

macro_rules! definitions {
    ($($name:ident = $kind:ident $text:literal $labels:tt $help:literal;)+) => {
        $(const $name: Definition = Definition {
            name: $text,
            help: $help,
            kind: Kind::$kind,
            labels: &$labels,
        };)+
        const DEFINITIONS: &[&Definition] = &[$(&$name),+];
    };
}

definitions! {
    FORWARD_PACKETS = Counter "netd_forward_packets_total" ["network", "direction"]
        "Packets of a network's endpoints that were accepted, by direction.";
    FORWARD_BYTES = Counter "netd_forward_bytes_total" ["network", "direction"]
        "Bytes of a network's endpoints that were accepted, Ethernet headers included.";
    ENDPOINT_PACKETS = Counter "netd_endpoint_packets_total" ["network", "sandbox", "direction"]
        "Packets of one endpoint; series come and go with sandboxes, aggregate before you alert.";
    ENDPOINT_BYTES = Counter "netd_endpoint_bytes_total" ["network", "sandbox", "direction"]
        "Bytes of one endpoint; series come and go with sandboxes, aggregate before you alert.";
    DROP_PACKETS = Counter "netd_drop_packets_total" ["reason", "direction", "network"]
        "Packets dropped; without a network where they belong to none.";
    DROP_BYTES = Counter "netd_drop_bytes_total" ["reason", "direction", "network"]
        "Bytes dropped; without a network where they belong to none.";
    PUBLISHED_HITS = Counter "netd_published_hits_total" ["sandbox", "family", "protocol", "port"]
        "Flows that a published port or range accepted.";
    CONNTRACK_ENTRIES = Gauge "netd_conntrack_entries" ["family", "state"]
        "Entries of the flow table, two for each connection; new until a reply is seen.";
    CONNTRACK_EVENTS = Counter "netd_conntrack_events_total" ["event"]
        "Inner workings of the flow table.";
    NAT_EXHAUSTION = Counter "netd_nat_port_exhaustion_total" []
        "Flows dropped because all masquerade ports toward their remote were in use.";
    ICMP_WITHHELD = Counter "netd_icmp_errors_withheld_total" []
        "ICMP errors of netd's own that their budget kept back.";
    NAT_PROBES = Histogram "netd_nat_port_probes" []
        "Ports tried until one was free for a masqueraded flow.";
    MAP_ENTRIES = Gauge "netd_bpf_map_entries" ["map"]
        "Entries in use.";
    MAP_MAX = Gauge "netd_bpf_map_max_entries" ["map"]
        "Entries that fit.";
    MAP_PRESSURE = Gauge "netd_bpf_map_pressure_ratio" ["map"]
        "Share of a map that is in use, from 0 to 1.";
    READ_ERRORS = Counter "netd_dataplane_read_errors_total" []
        "Counters of the kernel side that could not be read for a scrape.";
}

/// The series of a publication; those that differ in the host address alone are one.
type Published = (SandboxId, bool, Proto, u16, u16);
/// The series of a drop: the network, or none for the host's own scope.
type Dropped = (Option<NetworkId>, u16, u16);
/// What a drop is counted under, whatever the endpoint.
type DropSlot = (NetworkIndex, u16, u16);

#[derive(Debug)]
struct Totals {
    endpoints: Odometer<u32, EndpointId, 4>,
    networks: Odometer<u32, NetworkId, 4>,
    drops: Odometer<DropSlot, Dropped, 2>,
    published: Odometer<u32, Published, 1>,
    read_errors: u64,
}

pub(super) struct DataplaneCollector {
    stats: Arc<dyn DataplaneStats>,
    inventory: Arc<dyn Inventory>,
    totals: Mutex<Totals>,
    descs: Vec<Desc>,
}

impl DataplaneCollector {
    pub(super) fn new(
        stats: Arc<dyn DataplaneStats>,
        inventory: Arc<dyn Inventory>,
    ) -> prometheus::Result<Self> {
        let descs = DEFINITIONS.iter().map(|it| it.desc()).collect::<Result<_, _>>()?;
        let totals = Totals {
            endpoints: Odometer::new(),
            networks: Odometer::new(),
            drops: Odometer::new(),
            published: Odometer::new(),
            read_errors: 0,
        };
        Ok(Self { stats, inventory, totals: Mutex::new(totals), descs })
    }

    /// Every part on its own: what can't be read is missing, and counted, but does not hide the rest.
    fn families(&self) -> Vec<Family> {
        let model = self.inventory.model();
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = [
            self.traffic(&model, &mut totals),
            self.drops(&model, &mut totals),
            self.published(&model, &mut totals),
            self.flows(),
            self.maps(),
        ];
        let mut families = Vec::new();
        for part in parts {
            match part {
                Ok(part) => families.extend(part),
                Err(error) => {
                    tracing::warn!(%error, "counters of the kernel side can't be read");
                    totals.read_errors += 1;
                }
            }
        }
        let mut errors = Family::new(&READ_ERRORS);
        errors.sample(&[], float(totals.read_errors));
        families.push(errors);
        families
    }

    fn traffic(&self, model: &Model, totals: &mut Totals) -> Result<Vec<Family>, StatsError> {
        let readings: Vec<_> = self.stats.endpoint_counters()?;
        let readings = || readings.iter().map(|(index, counters)| (*index, quad(counters)));
        let owners: BTreeMap<u32, _> = model.endpoints.values().map(|it| (it.index, it)).collect();
        totals.endpoints.read(readings(), |index| owners.get(index).map(|it| it.id));
        totals.endpoints.retain(|id| model.endpoints.contains_key(id));
        totals.networks.read(readings(), |index| owners.get(index).map(|it| it.network));
        totals.networks.retain(|id| model.networks.contains_key(id));
        let families = network_traffic(model, totals).into_iter();
        Ok(families.chain(endpoint_traffic(model, totals)).collect())
    }

    fn drops(&self, model: &Model, totals: &mut Totals) -> Result<Vec<Family>, StatsError> {
        let drops = self.stats.drops()?;
        // Summed over endpoints: a network's sum does not move when those of an endpoint that is gone
        // are counted elsewhere.
        let mut sums: BTreeMap<DropSlot, [u64; 2]> = BTreeMap::new();
        for (key, it) in drops {
            let sum = sums.entry((key.network, key.reason, key.hook)).or_default();
            *sum = [sum[0] + it.packets, sum[1] + it.bytes];
        }
        let networks: BTreeMap<_, _> =
            model.networks.values().map(|it| (NetworkIndex(it.index), it.id)).collect();
        let owner = |(network, reason, hook): &DropSlot| {
            // Those of networks that are gone have been told under their names.
            let is_told = *network != NetworkIndex::GONE;
            is_told.then(|| (networks.get(network).copied(), *reason, *hook))
        };
        totals.drops.read(sums, owner);
        totals.drops.retain(|(network, ..)| {
            network.is_none_or(|network| model.networks.contains_key(&network))
        });
        let mut packets = Family::new(&DROP_PACKETS);
        let mut bytes = Family::new(&DROP_BYTES);
        for ((network, reason, hook), counts) in totals.drops.totals() {
            let network = network.and_then(|id| model.networks.get(&id));
            let network = network.map_or("", |network| network.name.as_str());
            let (reason, hook) = (reason_name(*reason), hook_name(*hook));
            packets.sample(&[&reason, &hook, network], float(counts[0]));
            bytes.sample(&[&reason, &hook, network], float(counts[1]));
        }
        Ok(vec![packets, bytes])
    }

    fn published(&self, model: &Model, totals: &mut Totals) -> Result<Vec<Family>, StatsError> {
        let hits = self.stats.published_hits()?;
        let owners: BTreeMap<u32, Published> = publications(model)
            .map(|(sandbox, publication)| (publication.slot, series(sandbox, publication)))
            .collect();
        let hits = hits.into_iter().map(|(slot, hits)| (slot, [hits]));
        totals.published.read(hits, |slot| owners.get(slot).copied());
        let live: BTreeMap<Published, &str> = publications(model)
            .map(|(sandbox, publication)| (series(sandbox, publication), sandbox.name.as_str()))
            .collect();
        totals.published.retain(|series| live.contains_key(series));
        let mut family = Family::new(&PUBLISHED_HITS);
        for (series, name) in &live {
            let [hits] = totals.published.total(series);
            let (_, v6, proto, first, count) = *series;
            let labels = [*name, family_name(v6), proto_name(proto), &port_label(first, count)];
            family.sample(&labels, float(hits));
        }
        Ok(vec![family])
    }

    fn flows(&self) -> Result<Vec<Family>, StatsError> {
        let counts = self.stats.flow_counts()?;
        let mut entries = Family::new(&CONNTRACK_ENTRIES);
        entries.sample(&["ipv4", "new"], float(counts.new_v4));
        entries.sample(&["ipv6", "new"], float(counts.new_v6));
        entries.sample(&["ipv4", "confirmed"], float(counts.v4));
        entries.sample(&["ipv6", "confirmed"], float(counts.v6));
        let mut events = Family::new(&CONNTRACK_EVENTS);
        let mut exhaustion = Family::new(&NAT_EXHAUSTION);
        let mut withheld = Family::new(&ICMP_WITHHELD);
        for (event, count) in self.stats.flow_stats()? {
            match event {
                "snat_exhausted" => exhaustion.sample(&[], float(count)),
                "icmp_errors_withheld" => withheld.sample(&[], float(count)),
                _ => events.sample(&[event], float(count)),
            }
        }
        let mut probes = Family::new(&NAT_PROBES);
        probes.distribution(&self.stats.snat_probes()?);
        Ok(vec![entries, events, exhaustion, withheld, probes])
    }

    fn maps(&self) -> Result<Vec<Family>, StatsError> {
        let mut entries = Family::new(&MAP_ENTRIES);
        let mut max = Family::new(&MAP_MAX);
        let mut pressure = Family::new(&MAP_PRESSURE);
        for map in self.stats.map_fill()? {
            entries.sample(&[map.name], float(map.entries));
            max.sample(&[map.name], float(map.capacity));
            pressure.sample(&[map.name], float(map.entries) / float(map.capacity.max(1)));
        }
        Ok(vec![entries, max, pressure])
    }
}

impl Collector for DataplaneCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.families().into_iter().filter_map(Family::finish).collect()
    }
}

fn network_traffic(model: &Model, totals: &Totals) -> [Family; 2] {
    let mut packets = Family::new(&FORWARD_PACKETS);
    let mut bytes = Family::new(&FORWARD_BYTES);
    for network in model.networks.values() {
        for (direction, counts) in directions(totals.networks.total(&network.id)) {
            packets.sample(&[&network.name, direction], float(counts[0]));
            bytes.sample(&[&network.name, direction], float(counts[1]));
        }
    }
    [packets, bytes]
}

fn endpoint_traffic(model: &Model, totals: &Totals) -> [Family; 2] {
    let mut packets = Family::new(&ENDPOINT_PACKETS);
    let mut bytes = Family::new(&ENDPOINT_BYTES);
    for endpoint in model.endpoints.values() {
        let network = model.networks.get(&endpoint.network);
        let sandbox = endpoint.sandbox.and_then(|id| model.sandboxes.get(&id));
        let (Some(network), Some(sandbox)) = (network, sandbox) else {
            continue;
        };
        for (direction, counts) in directions(totals.endpoints.total(&endpoint.id)) {
            let labels = [network.name.as_str(), sandbox.name.as_str(), direction];
            packets.sample(&labels, float(counts[0]));
            bytes.sample(&labels, float(counts[1]));
        }
    }
    [packets, bytes]
}

const fn quad(counters: &EndpointCounters) -> [u64; 4] {
    let (from, to) = (counters.from_container, counters.to_container);
    [from.packets, from.bytes, to.packets, to.bytes]
}

/// Packets and bytes by direction.
const fn directions(quad: [u64; 4]) -> [(&'static str, [u64; 2]); 2] {
    let [from_packets, from_bytes, to_packets, to_bytes] = quad;
    [("from_container", [from_packets, from_bytes]), ("to_container", [to_packets, to_bytes])]
}

fn publications(model: &Model) -> impl Iterator<Item = (&Sandbox, &Publication)> {
    let sandboxes = model.sandboxes.values();
    sandboxes.flat_map(|sandbox| sandbox.publications.iter().map(move |it| (&**sandbox, it)))
}

fn series(sandbox: &Sandbox, publication: &Publication) -> Published {
    let Publication { host_ip, proto, host_port, count, .. } = *publication;
    (sandbox.id, host_ip.is_ipv6(), proto, host_port, count)
}

fn port_label(first: u16, count: u16) -> String {
    match count {
        0 | 1 => first.to_string(),
        count => format!("{first}-{}", first.saturating_add(count - 1)),
    }
}

const fn family_name(v6: bool) -> &'static str {
    if v6 { "ipv6" } else { "ipv4" }
}

const fn proto_name(proto: Proto) -> &'static str {
    match proto {
        Proto::Tcp => "tcp",
        Proto::Udp => "udp",
        Proto::Sctp => "sctp",
    }
}

fn reason_name(number: u16) -> String {
    let reason = u8::try_from(number).ok().and_then(DropReason::from_number);
    reason.map_or_else(|| format!("reason_{number}"), |reason| reason.name().to_owned())
}

fn hook_name(number: u16) -> String {
    let hook = u8::try_from(number).ok().and_then(Hook::from_number);
    hook.map_or_else(|| format!("hook_{number}"), |hook| hook.name().to_owned())
}
