//! What a user sees: counters, metrics, drops with their reasons, status.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use netd_tests::container::Transport;
use netd_tests::{Daemon, eventually};

use super::{Monitor, World, container, drops, network};

const METRICS: &str = "127.0.0.1:9959";

fn scrape(world: &World) -> String {
    let arguments = ["-s", "--max-time", "5", &format!("http://{METRICS}/metrics")];
    let said = world.host.exec("curl", &arguments).unwrap();
    assert!(said.status.success(), "{said:?}");
    String::from_utf8_lossy(&said.stdout).into_owned()
}

fn sample(text: &str, name: &str, labels: &[&str]) -> f64 {
    let fits =
        |line: &&str| line.starts_with(name) && labels.iter().all(|label| line.contains(label));
    let lines = text.lines().filter(fits).filter_map(|line| line.rsplit(' ').next());
    lines.filter_map(|value| value.parse::<f64>().ok()).sum()
}

#[test]
fn counters_of_an_endpoint_move_with_its_traffic() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let (a, b) = (container(&daemon, "c1", "app", &[]), container(&daemon, "c2", "app", &[]));
    let counter = |name: &str, key: &str| -> u64 {
        let now = netd_tests::Container::find(&daemon, name).unwrap();
        now.described()["Networks"]["app"]["Counters"][key].as_u64().unwrap()
    };
    let before = (counter("c1", "FromPackets"), counter("c2", "ToPackets"));
    for target in b.addresses("app").unwrap() {
        assert!(a.pings(target).unwrap());
    }
    assert!(counter("c1", "FromPackets") >= before.0 + 2);
    assert!(counter("c2", "ToPackets") >= before.1 + 2);
}

#[test]
fn metrics_are_clean_and_tell_of_traffic_drops_and_published_ports() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "one", &[]);
    network(&daemon, "two", &[]);
    let a = container(&daemon, "c1", "one", &["-p", "8080:7000"]);
    let b = container(&daemon, "c2", "two", &[]);
    let _servers = a.serve_all(7000).unwrap();
    for address in world.uplink() {
        Transport::Tcp.ask(world.outside.netns(), SocketAddr::new(address, 8080)).unwrap();
    }
    assert!(!a.pings(b.address("two", false).unwrap()).unwrap());
    let text = scrape(&world);
    let drops = ["reason=\"network_isolation\"", "network=\"one\""];
    assert!(sample(&text, "netd_drop_packets_total{", &drops) >= 1.0, "{text}");
    assert!(sample(&text, "netd_forward_packets_total{", &["network=\"one\""]) >= 2.0, "{text}");
    assert!(sample(&text, "netd_published_hits_total{", &[]) >= 2.0, "{text}");
    assert!(sample(&text, "netd_bpf_map_max_entries{", &["map=\"flows_v4\""]) >= 1.0, "{text}");
    assert!(sample(&text, "netd_ipam_allocated_addresses{", &[]) >= 4.0, "{text}");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let judged = promtool.wait_with_output().unwrap();
    let judged_text = String::from_utf8_lossy(&judged.stderr).into_owned();
    assert!(judged.status.success() && judged_text.is_empty(), "{judged:?}");
}

#[test]
fn drops_of_a_container_that_is_gone_stay_counted_and_its_successor_begins_at_zero() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "one", &[]);
    network(&daemon, "two", &[]);
    let b = container(&daemon, "b1", "two", &[]);
    let target = b.address("two", false).unwrap();
    let entries = || {
        let status = daemon.ok(&["status", "--format", "json"]).unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let maps = status["Maps"].as_array().unwrap().clone();
        maps.iter().find(|map| map["Name"] == "drops").unwrap()["Entries"].as_u64().unwrap()
    };
    let of_network =
        ["reason=\"network_isolation\"", "direction=\"from_container\"", "network=\"one\""];
    let told = || sample(&scrape(&world), "netd_drop_packets_total{", &of_network);
    let mut filled = Vec::new();
    for turn in 1..=3u32 {
        let a = container(&daemon, "a1", "one", &[]);
        let counters = &a.described()["Networks"]["one"]["Counters"];
        assert_eq!(counters["Dropped"], 0, "turn {turn}: {counters}");
        assert!(!a.pings(target).unwrap());
        assert_eq!(drops(&daemon, "network_isolation"), u64::from(turn));
        assert!((told() - f64::from(turn)).abs() < 0.5, "{} in turn {turn}", told());
        daemon.ok(&["sandbox", "rm", "a1"]).unwrap();
        assert_eq!(drops(&daemon, "network_isolation"), u64::from(turn), "nothing is forgotten");
        assert!((told() - f64::from(turn)).abs() < 0.5, "{} after turn {turn}", told());
        filled.push(entries());
    }
    assert_eq!(filled[1], filled[2], "the table does not grow: {filled:?}");
    daemon.ok(&["network", "rm", "one"]).unwrap();
    assert_eq!(drops(&daemon, "network_isolation"), 3, "nor with the network");
}

#[test]
fn monitor_shows_a_drop_with_its_reason_and_addresses() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "one", &[]);
    network(&daemon, "two", &[]);
    let a = container(&daemon, "c1", "one", &[]);
    let b = container(&daemon, "c2", "two", &[]);
    let monitor = Monitor::start(&world, &daemon);
    let target = b.address("two", false).unwrap();
    let seen = eventually("the drop in the monitor", Duration::from_secs(15), || {
        assert!(!a.pings(target)?);
        Ok(monitor.told("network_isolation").pop())
    });
    let seen = seen.unwrap();
    assert_eq!(seen["Sandbox"], "c1");
    assert_eq!(seen["Network"], "one");
    assert_eq!(seen["Dst"], target.to_string());
    assert_eq!(seen["Hook"], "from_container");
}

#[test]
fn status_and_check_tell_of_a_healthy_host() {
    let world = World::new();
    let daemon = world.daemon();
    let status: serde_json::Value =
        serde_json::from_str(&daemon.ok(&["status", "--format", "json"]).unwrap()).unwrap();
    assert_eq!(status["Health"], "ok", "{status}");
    assert_eq!(status["Uplinks"][0]["Name"], "eth0");
    assert_eq!(status["Uplinks"][0]["Ipv4"], world.host.v4().to_string());
    assert_eq!(status["Revision"], status["AppliedRevision"]);
    let text = daemon.ok(&["status"]).unwrap();
    assert!(text.contains("eth0"), "{text}");
}

#[test]
fn log_level_changes_while_the_daemon_runs() {
    let world = World::new();
    let daemon =
        Daemon::start(&world.host, "log-level = \"error\"\nlog-format = \"json\"").unwrap();
    network(&daemon, "quiet", &[]);
    let before = daemon.places().log().lines().filter(|line| line.contains("DEBUG")).count();
    assert_eq!(before, 0, "{}", daemon.places().log());
    daemon.ok(&["log-level", "debug"]).unwrap();
    network(&daemon, "loud", &[]);
    assert!(daemon.places().log().contains("DEBUG"), "{}", daemon.places().log());
}

#[test]
fn slow_and_garbage_clients_neither_stall_nor_crash_the_api() {
    use std::os::unix::net::UnixStream;
    let world = World::new();
    let daemon = world.daemon();
    let socket = daemon.places().socket();
    let mut held = Vec::new();
    for beginning in [
        &b"GET /v1/networks HT"[..],
        b"POST /v1/networks HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n{",
    ] {
        for _ in 0..20 {
            let mut stream = UnixStream::connect(&socket).unwrap();
            stream.write_all(beginning).unwrap();
            held.push(stream);
        }
    }
    let mut garbage = UnixStream::connect(&socket).unwrap();
    // The daemon may close before all of it is written.
    let _cut_short = garbage.write_all(&vec![0xff; 100_000]);
    network(&daemon, "app", &[]);
    assert!(daemon.ok(&["network", "ls", "-q"]).unwrap().lines().count() >= 4);
    drop(held);
    // On TCP, only metrics and health are served.
    let connect = || Ok(TcpStream::connect(METRICS)?);
    assert!(world.host.netns().run(connect).is_ok());
    let said = world
        .host
        .exec(
            "curl",
            &[
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                &format!("http://{METRICS}/v1/networks"),
            ],
        )
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "404");
}
