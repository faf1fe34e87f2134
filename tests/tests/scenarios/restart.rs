//! What restarts, changes of size and upgrades cost the traffic: nothing.

use std::net::SocketAddr;
use std::time::Duration;

use netd_tests::container::Transport;
use netd_tests::load::{Load, Volume};
use netd_tests::process::build_next_version;
use netd_tests::restarts::{self, Trial};
use netd_tests::{Daemon, Lab};

use super::life::Chatter;
use super::{World, container, is_reached, network};

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

/// The later version's flow entries have a field that the present ones lack.
#[test]
fn flows_survive_an_upgrade_to_another_layout_and_the_way_back_is_refused() {
    build_next_version().unwrap();
    let world = World::alone();
    let daemon = world.daemon();
    Load::prepare(&daemon).unwrap();
    let load = Load::start(&daemon, &world.host, &world.outside, VOLUME).unwrap();
    let before = versions(&daemon);
    daemon.stop().unwrap();
    let daemon = Daemon::start_version(&world.host, "netd-next").unwrap();
    assert!(daemon.places().log().contains("an earlier layout; its flows are converted"));
    let after = versions(&daemon);
    assert!(after.len() == 1 && after != before, "{before:?}, {after:?}");
    load.go_on(100).unwrap();
    load.finish().unwrap().check().unwrap();
    daemon.stop().unwrap();
    let refused = Daemon::start(&world.host, "").map(drop).unwrap_err();
    let told = format!("{refused:?}");
    assert!(
        told.contains("a newer netd set up the dataplane (layout 2, this one knows 1)"),
        "{told}"
    );
    let still = Daemon::start_version(&world.host, "netd-next").unwrap();
    assert_eq!(versions(&still), after, "a refusal changes nothing");
}

/// A host that is taken over piece by piece, by daemons that die on the way.
const SMALL: Volume =
    Volume { packets_per_s: 1_500, connections: 8, pause: Duration::from_millis(20) };
/// No start has as many points.
const POINTS_AT_MOST: u32 = 400;

#[test]
fn kill_at_any_effect_of_a_change_of_size_loses_nothing_and_the_next_start_completes_it() {
    let world = World::alone();
    let settings = |size: u32| format!("[flow-table]\nsize = {size}");
    let sizes = [4_096, 16_384];
    let mut daemon = Daemon::start(&world.host, &settings(sizes[0])).unwrap();
    Load::prepare(&daemon).unwrap();
    let load = Load::start(&daemon, &world.host, &world.outside, SMALL).unwrap();
    for point in 1..POINTS_AT_MOST {
        daemon.stop().unwrap();
        let to = sizes[point as usize % 2];
        let died = Daemon::start_and_die(&world.host, "netd", &settings(to), point).unwrap();
        load.go_on(10).unwrap();
        daemon = Daemon::start(&world.host, &settings(to)).unwrap();
        assert_eq!(capacity(&daemon, "flows_v4"), u64::from(to), "killed at {point}");
        assert_eq!(versions(&daemon).len(), 1, "killed at {point}: earlier pins are left");
        assert_eq!(daemon.cli(&["status"]).unwrap().code, Some(0), "killed at {point}");
        if !died {
            println!("{} points", point - 1);
            assert!(point > 20, "only {} points", point - 1);
            return load.finish().unwrap().check().unwrap();
        }
    }
    panic!("a start has no {POINTS_AT_MOST} points");
}

/// The way back from a later layout is refused: each time the host begins with the earlier one anew, and
/// its containers with new flows.
#[test]
fn kill_at_any_effect_of_an_upgrade_keeps_established_flows_and_the_next_start_completes_it() {
    build_next_version().unwrap();
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let web = container(&daemon, "web", "app", &["-p", "8080:7000", "-p", "8080:7000/udp"]);
    let _servers = web.serve_all(7000).unwrap();
    let pins = daemon.places().bpffs().to_owned();
    daemon.stop().unwrap();
    for point in 1..POINTS_AT_MOST {
        std::fs::remove_dir_all(&pins).unwrap();
        world.daemon().stop().unwrap();
        let flows: Vec<Chatter> = world
            .uplink()
            .map(|address| Chatter::start(world.outside.netns(), SocketAddr::new(address, 8080)))
            .into();
        let died = Daemon::start_and_die(&world.host, "netd-next", "", point).unwrap();
        let next = Daemon::start_version(&world.host, "netd-next").unwrap();
        assert_eq!(versions(&next).len(), 1, "killed at {point}: earlier pins are left");
        for flow in flows {
            flow.finish().unwrap_or_else(|error| panic!("killed at {point}: {error:#}"));
        }
        for address in world.uplink() {
            let target = SocketAddr::new(address, 8080);
            for transport in Transport::ALL {
                assert!(is_reached(world.outside.netns(), target, transport), "at {point}");
            }
        }
        assert_eq!(next.cli(&["status"]).unwrap().code, Some(0), "killed at {point}");
        next.stop().unwrap();
        if !died {
            println!("{} points", point - 1);
            assert!(point > 20, "only {} points", point - 1);
            return;
        }
    }
    panic!("a start has no {POINTS_AT_MOST} points");
}

#[test]
fn a_layout_that_nobody_knows_is_rebuilt_and_the_log_says_so() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let web = container(&daemon, "web", "app", &["-p", "8080:7000", "-p", "8080:7000/udp"]);
    let _servers = web.serve_all(7000).unwrap();
    let pins = daemon.places().bpffs().to_owned();
    let present = versions(&daemon).remove(0);
    daemon.stop().unwrap();
    std::fs::rename(pins.join(present), pins.join("00000000000000ab")).unwrap();
    let daemon = world.daemon();
    let log = daemon.places().log();
    assert!(log.contains("a layout that this netd does not know: it is rebuilt"), "{log}");
    assert_eq!(versions(&daemon).len(), 1);
    for address in world.uplink() {
        for transport in Transport::ALL {
            assert!(is_reached(world.outside.netns(), SocketAddr::new(address, 8080), transport));
        }
    }
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
