//! Published ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netd_tests::container::Transport;
use netd_tests::eventually;
use netd_tests::wire::tcp_echo_server;

use super::case::{Case, Driver, PORT, meets_nothing, reaches};
use super::{Scenario, both, netd};

pub(super) const SCENARIOS: &[Scenario] = &[
    both("D01 published port is reached from outside and from the host", basic),
    both("D02 container sees the client's own address", source),
    both("D03 published port is reached from itself and from its neighbour", hairpin),
    both("D04 port on a loopback address is the host's alone", loopback),
    both(
        "A16 D09 taken port is refused in Docker's words, and its container starts later",
        conflict,
    ),
    both("D11 any address meets a specific one, and addresses of others are refused", specific),
    both("D19 port of a removed container is free at once", revocation),
    both("D14 one container port takes the first free port of a range", range_to_one),
    netd("D15 ten thousand published ports take no process and no socket each", large_range),
    netd("A40 a netd and a bridge container can't have one port", cross_driver),
    netd("D13 ephemeral ports and ranges are shown by netd port", shown),
];

const BOTH_PROTOCOLS: [&str; 4] = ["-p", "8080:7000", "-p", "8080:7000/udp"];

fn basic(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let web = case.run("web", "app", &BOTH_PROTOCOLS)?;
    let _servers = web.serve()?;
    for address in case.uplinks() {
        reaches(case.rig.outside.netns(), SocketAddr::new(address, 8080))?;
        reaches_from_host(case, address)?;
    }
    reaches_from_host(case, Ipv4Addr::LOCALHOST.into())?;
    reaches_from_host(case, std::net::Ipv6Addr::LOCALHOST.into())
}

/// As a process of the host: from its control group, too.
fn reaches_from_host(case: &Case<'_, '_>, address: IpAddr) -> Result<()> {
    let wire = netd_tests::process::built("wire")?;
    for transport in Transport::ALL {
        let target = SocketAddr::new(address, 8080).to_string();
        let said = case.rig.host.exec(&wire, &[transport.name(), &target, "hello"])?;
        ensure!(said.status.success(), "{} {target}: {said:?}", transport.name());
    }
    Ok(())
}

fn source(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let web = case.run("web", "app", &BOTH_PROTOCOLS)?;
    let _servers = web.serve()?;
    for address in case.uplinks() {
        let router: IpAddr = match address {
            IpAddr::V4(_) => netd_tests::outside::ROUTER_V4.into(),
            IpAddr::V6(_) => netd_tests::outside::ROUTER_V6.into(),
        };
        for transport in Transport::ALL {
            let target = SocketAddr::new(address, 8080);
            let seen = transport.ask(case.rig.outside.netns(), target)?.seen_as.ip();
            ensure!(seen == router, "{} {target} seen as {seen}", transport.name());
        }
    }
    Ok(())
}

fn hairpin(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &["--subnet", "10.51.0.0/24"])?;
    let web = case.run("web", "app", &BOTH_PROTOCOLS)?;
    let neighbour = case.run("neighbour", "app", &[])?;
    let _servers = web.serve()?;
    for address in [case.uplinks()[0], [10, 51, 0, 1].into()] {
        for from in [&web, &neighbour] {
            reaches(&from.netns, SocketAddr::new(address, 8080))?;
        }
    }
    Ok(())
}

fn loopback(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &[])?;
    let ports = ["-p", "127.0.0.1:8080:7000", "-p", "127.0.0.1:8080:7000/udp"];
    let web = case.run("web", "app", &ports)?;
    let _servers = web.serve()?;
    reaches_from_host(case, Ipv4Addr::LOCALHOST.into())?;
    meets_nothing(case.rig.outside.netns(), SocketAddr::new(case.uplinks()[0], 8080))
}

fn conflict(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &[])?;
    case.run("first", "app", &["-p", "8080:7000"])?;
    let start = Case::start("second", &["--network", "app", "-p", "8080:7000"]);
    let said = case.refused(&start)?;
    let words = "driver failed programming external connectivity on endpoint second (";
    ensure!(said.contains(words), "{said}");
    ensure!(said.contains("Bind for 0.0.0.0:8080 failed: port is already allocated"), "{said}");
    let state = case.ok(&["inspect", "-f", "{{.State.Status}}", "second"])?;
    ensure!(state == "created", "{state}");
    case.run("other", "app", &["-p", "8080:7000/udp"])?;
    case.ok(&["rm", "-f", "first"])?;
    case.ok(&["start", "second"])?;
    let second = case.running("second")?;
    let _servers = second.serve()?;
    let target = SocketAddr::new(case.uplinks()[0], 8080);
    Transport::Tcp.ask(case.rig.outside.netns(), target).map(drop)
}

fn specific(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &[])?;
    case.run("any", "app", &["-p", "8080:7000"])?;
    let local = Case::start("local", &["--network", "app", "-p", "127.0.0.1:8080:7000"]);
    case.refused_with(&local, "port is already allocated")?;
    let foreign = Case::start("foreign", &["--network", "app", "-p", "203.0.113.9:8081:7000"]);
    case.refused_with(&foreign, "cannot assign requested address")
}

fn revocation(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &[])?;
    for _ in 0..3 {
        let web = case.run("web", "app", &BOTH_PROTOCOLS)?;
        let servers = web.serve()?;
        let target = SocketAddr::new(case.uplinks()[0], 8080);
        reaches(case.rig.outside.netns(), target)?;
        drop(servers);
        case.ok(&["rm", "-f", "web"])?;
        meets_nothing(case.rig.outside.netns(), target)?;
        case.rig.host.netns().run(|| Ok(std::net::TcpListener::bind("0.0.0.0:8080").map(drop)?))?;
    }
    Ok(())
}

fn range_to_one(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &[])?;
    let range = ["-p", "7001-7002:7000"];
    for (name, port) in [("first", 7001), ("second", 7002)] {
        let container = case.run(name, "app", &range)?;
        let _servers = container.serve()?;
        let target = SocketAddr::new(case.uplinks()[0], port);
        Transport::Tcp.ask(case.rig.outside.netns(), target).with_context(|| name)?;
    }
    let third = Case::start("third", &[&["--network", "app"], &range[..]].concat());
    case.refused_with(&third, "all ports are allocated")
}

fn large_range(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &[])?;
    let descriptors = || -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", case.rig.daemon().pid()?))?.count())
    };
    let before = descriptors()?;
    let web = case.run("web", "app", &["-p", "20000-29999:20000-29999"])?;
    let more = descriptors()?.saturating_sub(before);
    ensure!(more < 100, "the daemon has {more} descriptors more");
    let group = std::fs::read_to_string(case.rig.host.cgroup().join("cgroup.procs"))?;
    for pid in group.lines() {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        ensure!(name.trim() != "docker-proxy", "a process relays for a port of netd's");
    }
    for port in [20_000, 25_555, 29_999] {
        let _server = tcp_echo_server(&web.netns, SocketAddr::new([0u8; 4].into(), port))?;
        let target = SocketAddr::new(case.uplinks()[0], port);
        Transport::Tcp.ask(case.rig.outside.netns(), target).with_context(|| target.to_string())?;
    }
    Ok(())
}

fn cross_driver(case: &Case<'_, '_>) -> Result<()> {
    case.ok(&["network", "create", "docker"])?;
    case.network("app", &[])?;
    for (first, second) in [("docker", "app"), ("app", "docker")] {
        case.run("first", first, &["-p", "8080:7000"])?;
        let start = Case::start("second", &["--network", second, "-p", "8080:7000"]);
        let said = case.refused(&start)?;
        let taken = ["address already in use", "port is already allocated"];
        ensure!(taken.iter().any(|words| said.contains(words)), "{second}: {said}");
        case.ok(&["rm", "-f", "first", "second"])?;
    }
    Ok(())
}

fn shown(case: &Case<'_, '_>) -> Result<()> {
    debug_assert_eq!(case.driver, Driver::Netd);
    case.network("app", &[])?;
    let web = case.run("web", "app", &["-p", "7000", "-p", "5000-5010:50"])?;
    let _servers = web.serve()?;
    let key = case.ok(&["inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "web"])?;
    let sandbox = key.rsplit('/').next().unwrap_or_default();
    let shown = eventually("netd port", Duration::from_secs(20), || {
        Ok(Some(case.rig.daemon().ok(&["port", sandbox])?))
    })?;
    ensure!(shown.contains("50/tcp -> 0.0.0.0:5000"), "{shown}");
    let line = shown.lines().find_map(|line| line.strip_prefix(&format!("{PORT}/tcp -> 0.0.0.0:")));
    let port: u16 = line.unwrap_or_default().parse()?;
    let target = SocketAddr::new(case.uplinks()[0], port);
    Transport::Tcp.ask(case.rig.outside.netns(), target).map(drop)
}
