//! Ends and restarts, of netd and of the engine, and hands on the host's firewall.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use netd_tests::container::Transport;
use netd_tests::eventually;

use super::case::{Case, Driver, PORT, reaches};
use super::{Scenario, both, netd};

pub(super) const SCENARIOS: &[Scenario] = &[
    netd("A26 traffic goes on while netd is down, and the next call is served", netd_crashes),
    both("A27 containers come back with the engine", engine_restarts),
    both(
        "A32 after the engine's death its containers have their address and port again",
        engine_dies,
    ),
    netd("flushed firewalls change nothing", flushed),
];

const RESTARTING: [&str; 4] = ["--restart", "always", "-p", "8080:7000"];
/// The engine waits longer before each next start of a container.
const COMES_BACK_WITHIN: Duration = Duration::from_mins(1);

fn netd_crashes(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let web = case.run("web", "app", &["-p", "8080:7000"])?;
    let client = case.run("client", "app", &[])?;
    let _servers = web.serve()?;
    let inner = SocketAddr::new(case.address("web", "app", false)?, PORT);
    case.rig.crash_daemon()?;
    let asked = || {
        reaches(&client.netns, inner)?;
        for address in case.uplinks() {
            Transport::Tcp.ask(case.rig.outside.netns(), SocketAddr::new(address, 8080))?;
        }
        Ok(())
    };
    let during: Result<()> = asked();
    case.rig.start_daemon()?;
    during?;
    asked()?;
    case.run("later", "app", &[])?;
    case.ok(&["rm", "-f", "web"])?;
    case.rig.host.netns().run(|| Ok(std::net::TcpListener::bind("0.0.0.0:8080").map(drop)?))
}

fn engine_restarts(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &["--subnet", "10.51.0.0/24"])?;
    case.run("web", "app", &[&RESTARTING[..], &["--ip", "10.51.0.77"]].concat())?;
    case.rig.stop_engine()?;
    case.rig.start_engine()?;
    serves_again(case)
}

/// With the engine's own IPAM it does not even load the plugin: no call tells of the end.
fn engine_dies(case: &Case<'_, '_>) -> Result<()> {
    let driver = if case.driver == Driver::Netd { "netd" } else { "bridge" };
    case.ok(&["network", "create", "-d", driver, "--subnet", "10.51.0.0/24", "app"])?;
    case.run("web", "app", &[&RESTARTING[..], &["--ip", "10.51.0.77"]].concat())?;
    case.rig.crash_engine()?;
    case.rig.start_engine()?;
    serves_again(case)
}

fn serves_again(case: &Case<'_, '_>) -> Result<()> {
    let web = eventually("the container's return", COMES_BACK_WITHIN, || {
        Ok(case.running("web").ok().filter(|_| case.address("web", "app", false).is_ok()))
    })?;
    let address = case.address("web", "app", false)?;
    ensure!(address == std::net::IpAddr::from([10, 51, 0, 77]), "{address}");
    let _servers = web.serve()?;
    let target = SocketAddr::new(case.uplinks()[0], 8080);
    eventually("the port's return", COMES_BACK_WITHIN, || {
        Ok(Transport::Tcp.ask(case.rig.outside.netns(), target).ok().map(drop))
    })
}

/// The rules of Docker's own bridge go, too: the engine makes them again when it starts.
fn flushed(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let web = case.run("web", "app", &["-p", "8080:7000", "-p", "8080:7000/udp"])?;
    let client = case.run("client", "app", &[])?;
    let _servers = web.serve()?;
    let asked = || {
        for v6 in [false, true] {
            reaches(&client.netns, SocketAddr::new(case.address("web", "app", v6)?, PORT))?;
        }
        ensure!(client.pings(netd_tests::outside::WORLD_V4.into())?, "no way out");
        let outside = case.rig.outside.netns();
        case.uplinks().iter().try_for_each(|addr| reaches(outside, SocketAddr::new(*addr, 8080)))
    };
    asked()?;
    let flushes: [(&str, &[&str]); 4] = [
        ("iptables", &["-F"]),
        ("iptables", &["-t", "nat", "-F"]),
        ("nft", &["flush", "ruleset"]),
        ("iptables", &["-P", "FORWARD", "DROP"]),
    ];
    for (program, arguments) in flushes {
        case.rig.host.exec(program, arguments)?;
        asked()?;
    }
    case.rig.stop_engine()?;
    case.rig.start_engine()
}
