//! What a user sees of the traffic: counters of each endpoint, and metrics.

use anyhow::{Context, Result, ensure};

use super::stage::Stage;
use crate::Container;

const PINGS: u64 = 5;
const PAYLOAD_LEN: u64 = 1_000;
/// Ethernet, IPv4 and ICMP before the payload.
const HEADERS_LEN: u64 = 14 + 20 + 8;
const METRICS: &str = "http://127.0.0.1:9959/metrics";

/// A sample that tells something by now: its name, a label of it, the least it must be, and why.
const TELLING: [(&str, &str, f64, &str); 5] = [
    ("netd_forward_packets_total", "network=\"frontend\"", 20.0, "packets of a network"),
    ("netd_drop_packets_total", "reason=\"network_isolation\"", 8.0, "drops by reason"),
    ("netd_published_hits_total", "", 12.0, "flows to published ports"),
    ("netd_ipam_allocated_addresses", "", 10.0, "addresses in use, two of each endpoint"),
    ("netd_bpf_map_max_entries", "map=\"flows_v4\"", 1.0, "size of the flow table"),
];

/// Counters before and after a known traffic, then a scrape.
pub(super) fn counters(stage: &mut Stage<'_>) -> Result<()> {
    let [target, _] = stage.addresses("client", "frontend")?;
    let (count, size, target) = (PINGS.to_string(), PAYLOAD_LEN.to_string(), target.to_string());
    let before = [counter(stage, "web", "From")?, counter(stage, "client", "To")?];
    show_counters(stage)?;
    let exec = ["sandbox", "exec", "web", "--"];
    let ping = ["ping", "-q", "-c", &count, "-i", "0.1", "-s", &size, &target];
    let pinged = stage.quietly(&[&exec[..], &ping].concat())?;
    stage.tried("host", &[&["netd"], &exec[..], &ping].concat());
    ensure!(pinged.code == Some(0), "the pings met no answer: {pinged:?}");
    show_counters(stage)?;
    let after = [counter(stage, "web", "From")?, counter(stage, "client", "To")?];
    let bytes = PINGS * (PAYLOAD_LEN + HEADERS_LEN);
    for (number, way) in ["from web", "to client"].into_iter().enumerate() {
        let packets_moved = after[number].0 - before[number].0;
        let bytes_moved = after[number].1 - before[number].1;
        let expected = format!("{way}: {PINGS} packets and {bytes} bytes more, or a little over");
        let seen = format!("{packets_moved} packets and {bytes_moved} bytes more");
        // A neighbour's question may come between.
        let held = (PINGS..PINGS + 5).contains(&packets_moved)
            && (bytes..bytes + 500).contains(&bytes_moved);
        stage.report.claim(&expected, &seen, held);
    }
    metrics(stage)
}

fn show_counters(stage: &mut Stage<'_>) -> Result<()> {
    let format = "{{.Name}} {{json .Networks.frontend.Counters}}";
    stage.netd(&["sandbox", "inspect", "-f", format, "web", "client"]).map(drop)
}

/// Packets and bytes of an endpoint, `From` it or `To` it.
fn counter(stage: &Stage<'_>, name: &str, way: &str) -> Result<(u64, u64)> {
    let container = Container::find(stage.daemon()?, name)?;
    let counters = &container.described()["Networks"]["frontend"]["Counters"];
    let value = |unit: &str| {
        let key = format!("{way}{unit}");
        counters[&key].as_u64().with_context(|| format!("{name} has no {key}"))
    };
    Ok((value("Packets")?, value("Bytes")?))
}

fn metrics(stage: &mut Stage<'_>) -> Result<()> {
    stage.tried("host", &["curl", "-s", METRICS]);
    let scraped = stage.host.exec("curl", &["-s", "--max-time", "5", METRICS])?;
    let text = String::from_utf8_lossy(&scraped.stdout).into_owned();
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    stage.report.said(&format!("{} samples, among them", samples.len()));
    for (name, label, least, why) in TELLING {
        let fits = |line: &&&str| line.starts_with(&format!("{name}{{")) && line.contains(label);
        let found: Vec<&str> = samples.iter().filter(fits).copied().collect();
        let value = |line: &&str| line.rsplit(' ').next()?.parse::<f64>().ok();
        let sum: f64 = found.iter().filter_map(value).sum();
        stage.report.said(&found.iter().take(2).copied().collect::<Vec<_>>().join("\n"));
        let expected = format!("{why}: at least {least}");
        stage.report.claim(&expected, &format!("{sum} in {} samples", found.len()), sum >= least);
    }
    Ok(())
}
