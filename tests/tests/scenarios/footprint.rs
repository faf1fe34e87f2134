//! What netd leaves alone: netfilter, global settings, the other daemon, and everything after removal.

use std::collections::{BTreeMap, BTreeSet};

use netd_tests::{Daemon, Host};

use super::{World, container, network};

const PORTS: [&str; 4] = ["-p", "8080:7000", "-p", "8443:7001/udp"];

pub(super) fn say(host: &Host, program: &str, arguments: &[&str]) -> String {
    let said = host.exec(program, arguments).unwrap();
    assert!(said.status.success(), "{program}: {said:?}");
    String::from_utf8_lossy(&said.stdout).into_owned()
}

/// Rules without their counters and times.
pub(super) fn rules(host: &Host) -> Vec<String> {
    let saved = ["iptables-save", "ip6tables-save"].map(|program| say(host, program, &[]));
    let listed = say(host, "nft", &["list", "ruleset"]);
    let lines = saved.iter().chain([&listed]).flat_map(|text| text.lines());
    lines.filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// Settings, but those of links of their own and those that count.
pub(super) fn settings(host: &Host) -> BTreeMap<String, String> {
    let all = host.exec("sysctl", &["-a"]).unwrap();
    let all = String::from_utf8_lossy(&all.stdout).into_owned();
    let pairs = all.lines().filter_map(|line| line.split_once(" = "));
    let steady = pairs.filter(|(key, _)| key.starts_with("net.") && !is_moving(key));
    steady.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn is_moving(key: &str) -> bool {
    key.ends_with("conntrack_count") || key.contains("stable_secret")
}

/// `docs/operations.md` lists these.
fn is_documented(key: &str) -> bool {
    key == "net.ipv4.ip_local_reserved_ports"
        || ["netd0", "br-", "veth"].iter().any(|link| {
            ["net.ipv4.conf.", "net.ipv6.conf.", "net.ipv4.neigh.", "net.ipv6.neigh."]
                .iter()
                .any(|table| key.starts_with(&format!("{table}{link}")))
        })
}

#[test]
fn netfilter_and_settings_are_the_same_but_for_what_is_documented() {
    let world = World::new();
    let rules_before = rules(&world.host);
    let settings_before = settings(&world.host);
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let web = container(&daemon, "web", "app", &PORTS);
    let _servers = web.serve_all(7000).unwrap();
    assert_eq!(rules(&world.host), rules_before);
    let now = settings(&world.host);
    let changed: Vec<_> = now
        .iter()
        .filter(|(key, value)| settings_before.get(*key) != Some(value) && !is_documented(key))
        .collect();
    assert!(changed.is_empty(), "{changed:?}");
    let gone: Vec<_> = settings_before.keys().filter(|key| !now.contains_key(*key)).collect();
    assert!(gone.is_empty(), "{gone:?}");
}

#[test]
fn own_links_differ_from_the_defaults_as_documented() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    network(&daemon, "closed", &["--internal"]);
    container(&daemon, "web", "app", &PORTS);
    container(&daemon, "db", "bridge", &[]);
    let all = settings(&world.host);
    let mut changed = BTreeSet::new();
    for (key, value) in &all {
        let Some((table, rest)) = key.split_once(".conf.") else { continue };
        let Some((link, name)) = rest.split_once('.') else { continue };
        let is_own = ["netd0", "br-", "veth"].iter().any(|prefix| link.starts_with(prefix));
        // The MTU is the link's own, shown here.
        if is_own
            && name != "mtu"
            && all.get(&format!("{table}.conf.default.{name}")) != Some(value)
        {
            changed.insert(format!("{}.{name} = {value}", link.get(..3).unwrap()));
        }
    }
    let documented = [
        "br-.accept_dad = 0",
        "br-.accept_ra = 0",
        "br-.forwarding = 1",
        "br-.rp_filter = 2",
        "net.disable_ipv6 = 1",
        "net.forwarding = 1",
        "net.rp_filter = 2",
        "vet.disable_ipv6 = 1",
    ];
    assert_eq!(changed, documented.map(str::to_owned).into());
}

#[test]
fn removal_of_everything_leaves_only_the_predefined_bridge() {
    let world = World::new();
    let daemon = world.daemon();
    let before = (links(&world.host), pins(&daemon));
    network(&daemon, "app", &[]);
    container(&daemon, "web", "app", &PORTS);
    container(&daemon, "db", "app", &[]);
    assert_ne!((links(&world.host), pins(&daemon)), before);
    daemon.ok(&["sandbox", "rm", "web", "db"]).unwrap();
    daemon.ok(&["network", "rm", "app"]).unwrap();
    assert_eq!((links(&world.host), pins(&daemon)), before);
    let namespaces = std::fs::read_dir(daemon.places().netns()).unwrap().count();
    assert_eq!(namespaces, 0);
}

fn links(host: &Host) -> Vec<String> {
    let text = say(host, "ip", &["-br", "link"]);
    text.lines().filter_map(|line| line.split([' ', '@']).next()).map(str::to_owned).collect()
}

fn pins(daemon: &Daemon<'_>) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![daemon.places().bpffs().to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn two_daemons_on_one_machine_do_not_meet() {
    let world = World::new();
    let lab_mate = World::new();
    let (first, second) = (world.daemon(), lab_mate.daemon());
    for daemon in [&first, &second] {
        network(daemon, "app", &["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"]);
    }
    let a = container(&first, "web", "app", &PORTS);
    let b = container(&second, "web", "app", &PORTS);
    assert_eq!(a.addresses("app").unwrap(), b.addresses("app").unwrap());
    let _server = a.serve_all(7000).unwrap();
    for (there, world) in [(true, &world), (false, &lab_mate)] {
        for address in world.uplink() {
            let target = std::net::SocketAddr::new(address, 8080);
            let transport = netd_tests::container::Transport::Tcp;
            assert_eq!(super::is_reached(world.outside.netns(), target, transport), there);
        }
    }
    second.ok(&["sandbox", "rm", "web"]).unwrap();
    assert!(a.pings("10.77.0.1".parse().unwrap()).unwrap());
}

#[test]
fn second_daemon_on_the_same_state_is_refused_in_one_sentence() {
    let world = World::new();
    let _daemon = world.daemon();
    let file = world.host.directory().join("netd.toml");
    let arguments = ["daemon", "--config", &file.to_string_lossy()];
    let refused = world.host.exec(netd_tests::process::built("netd").unwrap(), &arguments).unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(text.contains("already") || text.contains("another"), "{text}");
}
