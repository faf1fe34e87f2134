//! What restarts, changes of size and upgrades cost the traffic: nothing.

use std::time::Duration;

use netd_tests::load::{Load, Volume};
use netd_tests::restarts::{self, Trial};
use netd_tests::{Daemon, Lab};

use super::World;

/// What a loaded machine can do; `cargo xtask restarts` does more.
const VOLUME: Volume =
    Volume { packets_per_s: 6_000, connections: 24, pause: Duration::from_millis(20) };

impl World {
    /// A world for what measures.
    fn alone() -> Self {
        let lab = Lab::alone().unwrap();
        let outside = lab.outside().unwrap();
        let host = lab.host(&outside).unwrap();
        Self { outside, host }
    }
}

#[test]
fn restarts_under_traffic_lose_no_packet_and_no_request() {
    let world = World::alone();
    let trial = Trial { times: 3, volume: VOLUME, between: 100 };
    let report = restarts::run(&world.host, &world.outside, &trial).unwrap();
    assert!(report.sent > 1_000 && report.echoes > 0 && report.answered >= 1_200, "{report:?}");
    report.check().unwrap();
}

#[test]
fn another_size_of_the_flow_table_keeps_every_connection() {
    let world = World::alone();
    let start = |size: u32| Daemon::start(&world.host, &format!("[flow-table]\nsize = {size}"));
    let mut daemon = start(4_096).unwrap();
    Load::prepare(&daemon).unwrap();
    let load = Load::start(&daemon, &world.host, &world.outside, VOLUME).unwrap();
    for size in [16_384, 2_048] {
        daemon.stop().unwrap();
        load.go_on(50).unwrap();
        daemon = start(size).unwrap();
        assert_eq!(capacity(&daemon, "flows_v4"), u64::from(size));
        assert_eq!(versions(&daemon).len(), 1, "the earlier pins are gone");
        load.go_on(100).unwrap();
    }
    assert!(daemon.places().log().contains("flows_v4 has room for 4096, not 16384 entries"));
    load.finish().unwrap().check().unwrap();
}

fn capacity(daemon: &Daemon<'_>, map: &str) -> u64 {
    let status = daemon.ok(&["status", "--format", "json"]).unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let maps = status["Maps"].as_array().unwrap();
    let found = maps.iter().find(|found| found["Name"] == map).unwrap();
    found["Capacity"].as_u64().unwrap()
}

/// Directories of pins, one for each layout.
fn versions(daemon: &Daemon<'_>) -> Vec<String> {
    let entries = std::fs::read_dir(daemon.places().bpffs()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.len() >= 16).collect()
}
