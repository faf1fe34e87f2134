//! Host ports that are chosen, and many at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netd_tests::container::Transport;
use netd_tests::eventually;
use netd_tests::wire::{tcp_echo_server, udp_echo_server};

use super::case::{Case, reaches};
use super::names::engine_calls_s;
use super::{Scenario, both, netd};

pub(super) const SCENARIOS: &[Scenario] = &[
    both("D13 chosen ports are of the host's range, free, shown and different", chosen),
    both("D14 one container port takes the first free port of a range", range_to_one),
    netd(
        "D15 ten thousand ports of each protocol take little time and memory, and no process each",
        large_range,
    ),
    both("D16 -P publishes all that is exposed", all_exposed),
    netd("D30 every published port is listed with its container and its hits", listed),
];

/// The kernel's range for chosen ports, and what of it may be taken.
const RANGE: &str = "net.ipv4.ip_local_port_range";
const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";

fn chosen(case: &Case<'_, '_>) -> Result<()> {
    let range = case.host_says("sysctl", &["-n", RANGE])?;
    let reserved = case.host_says("sysctl", &["-n", RESERVED])?;
    let set = |key: &str, value: &str| {
        case.host_says("sysctl", &["-qw", &format!("{key}={value}")]).map(drop)
    };
    let made = set(RANGE, "40000 40009").and_then(|()| set(RESERVED, "40000-40003"));
    let outcome = made.and_then(|()| choose(case));
    [set(RESERVED, &reserved), set(RANGE, &range)].into_iter().fold(outcome, Result::and)
}

/// Of ten ports four are reserved and one is in use.
fn choose(case: &Case<'_, '_>) -> Result<()> {
    let held = case.rig.host.netns().run(|| Ok(TcpListener::bind("0.0.0.0:40005")?))?;
    case.dual("app", 51)?;
    let mut taken = BTreeSet::new();
    for name in ["one", "two"] {
        case.run(name, "app", &["-p", "7000", "-p", "7000/udp"])?;
        let ports = shown(case, name)?;
        for key in ["7000/tcp", "7000/udp"] {
            let port = ports.get(key).with_context(|| format!("no {key} in {ports:?}"))?;
            let free = (40_004..40_010).contains(port) && (key, *port) != ("7000/tcp", 40_005);
            ensure!(free, "{key} on {port}, which is not free");
            ensure!(taken.insert((key, *port)), "{port} twice");
        }
    }
    drop(held);
    case.ok(&["restart", "-t", "0", "one"])?;
    let _servers = case.running("one")?.serve()?;
    let ports = shown(case, "one")?;
    for (key, transport) in [("7000/tcp", Transport::Tcp), ("7000/udp", Transport::Udp)] {
        for target in case.published(ports[key]) {
            transport.ask(case.rig.outside.netns(), target).with_context(|| key)?;
        }
    }
    Ok(())
}

/// The host port of each container port: one for both families.
fn shown(case: &Case<'_, '_>, name: &str) -> Result<BTreeMap<String, u16>> {
    let mut found = BTreeMap::new();
    for line in case.ports_of(name)?.lines() {
        let (container, host) = line.split_once(" -> ").context("no arrow")?;
        let port: u16 = host.rsplit(':').next().unwrap_or_default().parse()?;
        let other = found.insert(container.to_owned(), port);
        ensure!(other.is_none_or(|other| other == port), "{container} on {other:?} and {port}");
    }
    Ok(found)
}

fn range_to_one(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let range = ["-p", "7001-7002:7000", "-p", "7001-7002:7000/udp"];
    for (name, port) in [("first", 7001), ("second", 7002)] {
        let container = case.run(name, "app", &range)?;
        let _servers = container.serve()?;
        for target in case.published(port) {
            reaches(case.rig.outside.netns(), target).with_context(|| name)?;
        }
    }
    let third = Case::start("third", &[&["--network", "app"], &range[..]].concat());
    case.refused_with(&third, "all ports are allocated")
}

/// Some starts take their time on a busy machine.
const STARTS_WITHIN: Duration = Duration::from_mins(2);

fn large_range(case: &Case<'_, '_>) -> Result<()> {
    const RSS_KIB_MOST: u64 = 50_000_000 >> 10;
    const DRIVER_S_MOST: f64 = 2.0;
    case.dual("app", 51)?;
    let descriptors = || -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", case.rig.daemon().pid()?))?.count())
    };
    let (before, rss_before) = (descriptors()?, rss_kib(case)?);
    let ports = ["20000-29999:20000-29999", "20000-29999:20000-29999/udp"];
    // The engine's own part of a start is not ours.
    let web = eventually("a start with a short part of the driver's", STARTS_WITHIN, || {
        let earlier_s = engine_calls_s(case)?;
        let web = case.run("web", "app", &["-p", ports[0], "-p", ports[1]])?;
        let took_s = engine_calls_s(case)? - earlier_s;
        ensure!(took_s > 0.0, "the engine's calls are not clocked");
        if took_s > DRIVER_S_MOST {
            case.ok(&["rm", "-f", "web"])?;
        }
        Ok((took_s <= DRIVER_S_MOST).then_some(web))
    })?;
    let more = descriptors()?.saturating_sub(before);
    ensure!(more < 100, "the daemon has {more} descriptors more");
    let more = rss_kib(case)?.saturating_sub(rss_before);
    ensure!(more < RSS_KIB_MOST, "the daemon has {more} KiB more");
    let group = std::fs::read_to_string(case.rig.host.cgroup().join("cgroup.procs"))?;
    for pid in group.lines() {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        ensure!(name.trim() != "docker-proxy", "a process relays for a port of netd's");
    }
    for port in [20_000, 25_555, 29_999] {
        let any = SocketAddr::from(([0u16; 8], port));
        let _servers = (tcp_echo_server(&web.netns, any)?, udp_echo_server(&web.netns, any)?);
        for target in case.published(port) {
            reaches(case.rig.outside.netns(), target)?;
        }
    }
    Ok(())
}

/// What the daemon has in memory of its own: not its program, which is read as needed.
fn rss_kib(case: &Case<'_, '_>) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", case.rig.daemon().pid()?))?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn all_exposed(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let web = case.run("web", "app", &["-P", "--expose", "7000-7002"])?;
    let ports = shown(case, "web")?;
    let keys: Vec<&str> = ports.keys().map(String::as_str).collect();
    ensure!(keys == ["7000/tcp", "7001/tcp", "7002/tcp"], "{ports:?}");
    for (key, inside) in [("7000/tcp", 7000), ("7001/tcp", 7001), ("7002/tcp", 7002)] {
        let _server = tcp_echo_server(&web.netns, SocketAddr::from(([0u16; 8], inside)))?;
        for target in case.published(ports[key]) {
            Transport::Tcp.ask(case.rig.outside.netns(), target).with_context(|| key)?;
        }
    }
    Ok(())
}

fn listed(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let web = case.run("web", "app", &["-p", "8080:7000", "-p", "5000-5010:50/udp"])?;
    let _servers = web.serve()?;
    for target in case.published(8080) {
        Transport::Tcp.ask(case.rig.outside.netns(), target)?;
    }
    let key = case.ok(&["inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "web"])?;
    let sandbox = key.rsplit('/').next().unwrap_or_default();
    let text = case.rig.daemon().ok(&["sandbox", "inspect", sandbox])?;
    let all: serde_json::Value = serde_json::from_str(&text)?;
    let ports = all[0]["Ports"].as_array().with_context(|| text.clone())?;
    let of = |port: &serde_json::Value| {
        let text = |key: &str| port[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| port[key].as_u64().unwrap_or_default();
        let hits = number("Hits");
        (text("Proto"), text("HostIP"), number("HostPort"), number("ContainerPort"), hits)
    };
    let found: BTreeSet<_> = ports.iter().map(of).collect();
    let expected = [("tcp", 8080, 7000, 1), ("udp", 5000, 50, 0)];
    let expected = expected.iter().flat_map(|(proto, host, inside, hits)| {
        ["0.0.0.0", "::"].map(|any| ((*proto).to_owned(), any.to_owned(), *host, *inside, *hits))
    });
    let expected: BTreeSet<_> = expected.collect();
    ensure!(found == expected, "{found:?}");
    Ok(())
}
