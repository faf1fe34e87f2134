//! Borders: out to the world as the host, never into another network, never out of an internal one.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::probe::{Expected, Place, over_both};
use super::stage::{INNER_PORT, PUBLISHED_PORT, Stage};
use crate::outside::{WORLD_V4, WORLD_V6};
use crate::wire::{Server, tcp_echo_server, udp_echo_server};
use crate::{eventually, process};

const SHOWN_WITHIN: Duration = Duration::from_secs(15);
const WORLD: [IpAddr; 2] = [IpAddr::V4(WORLD_V4), IpAddr::V6(WORLD_V6)];

/// Out of the host, under the host's address.
pub(super) fn masquerade(stage: &mut Stage<'_>) -> Result<()> {
    let _servers = world_servers(stage)?;
    stage.report.say("Servers of the world see the host's address, not the container's.");
    let targets = WORLD.map(|world| SocketAddr::new(world, INNER_PORT));
    let probes = targets.into_iter().zip(stage.uplink().map(Expected::SeenAs));
    stage.probe(Place::Sandbox("client"), &over_both(probes))
}

/// No way between networks; the monitor names the reason, a counter counts it.
pub(super) fn isolation(stage: &mut Stage<'_>) -> Result<()> {
    let before = stage.drops("network_isolation")?;
    let monitor = Monitor::start(stage)?;
    for (from, to, network) in [("client", "db", "backend"), ("db", "web", "frontend")] {
        let targets = stage.addresses(to, network)?;
        stage.report.say(&format!("From {from} to {to}, which is on {network}:"));
        stage.probe(Place::Sandbox(from), &unreachable(targets, INNER_PORT))?;
    }
    let reason = "network_isolation";
    let shown = monitor.lines_with(reason)?;
    stage.report.say("The monitor, meanwhile, in its first and last lines:");
    stage.report.said(&shown);
    let drops = stage.drops(reason)? - before;
    let expected =
        "each of the 8 requests is counted as dropped for network_isolation, at least once";
    stage.report.claim(expected, &format!("{drops} packets"), drops >= 8);
    Ok(())
}

/// Members reach each other and nothing else, even with a route of their own making.
pub(super) fn internal(stage: &mut Stage<'_>) -> Result<()> {
    let reason = "internal_network";
    let before = stage.drops(reason)?;
    let (own, other) = (stage.addresses("vault1", "vault")?, stage.addresses("vault2", "vault")?);
    let members = other.map(|address| SocketAddr::new(address, INNER_PORT));
    stage.report.say("Its members reach each other:");
    let probes = members.into_iter().zip(own.map(Expected::SeenAs));
    stage.probe(Place::Sandbox("vault1"), &over_both(probes))?;
    let _servers = world_servers(stage)?;
    stage.report.say("Its members have no route out:");
    stage.probe(Place::Sandbox("vault1"), &unreachable(WORLD, INNER_PORT))?;
    stage.report.say("Nor does a route help that one makes itself, to the world or to the host:");
    add_routes(stage)?;
    stage.probe(Place::Sandbox("vault1"), &unreachable(WORLD, INNER_PORT))?;
    let uplink = stage.uplink();
    stage.probe(Place::Sandbox("vault1"), &unreachable(uplink, PUBLISHED_PORT))?;
    let drops = stage.drops(reason)? - before;
    let expected = "the 8 requests over these routes are counted as dropped for internal_network";
    stage.report.claim(expected, &format!("{drops} packets"), drops >= 8);
    Ok(())
}

fn unreachable(targets: [IpAddr; 2], port: u16) -> Vec<super::probe::Probe> {
    over_both(targets.map(|target| (SocketAddr::new(target, port), Expected::Nothing)))
}

fn world_servers(stage: &Stage<'_>) -> Result<Vec<Server>> {
    let mut servers = Vec::new();
    for address in WORLD.map(|world| SocketAddr::new(world, INNER_PORT)) {
        servers.push(tcp_echo_server(stage.outside.netns(), address)?);
        servers.push(udp_echo_server(stage.outside.netns(), address)?);
    }
    Ok(servers)
}

fn add_routes(stage: &mut Stage<'_>) -> Result<()> {
    let format = "{{range .IPAM.Config}}{{.Gateway}} {{end}}";
    let gateways = stage.daemon()?.ok(&["network", "inspect", "-f", format, "vault"])?;
    for gateway in gateways.split_whitespace() {
        let family = if gateway.contains(':') { "-6" } else { "-4" };
        let exec = ["sandbox", "exec", "vault1", "--"];
        let route = ["ip", family, "route", "add", "default", "via", gateway];
        stage.netd(&[&exec[..], &route].concat())?;
    }
    Ok(())
}

/// `netd monitor`, running beside the requests; it ends with the value.
struct Monitor {
    child: std::process::Child,
    log: PathBuf,
}

impl Monitor {
    fn start(stage: &mut Stage<'_>) -> Result<Self> {
        stage.tried("host", &["netd", "monitor", "&"]);
        let log = stage.host.directory().join("monitor.log");
        let socket = stage.socket();
        let netd = process::built("netd")?;
        let child = stage.host.spawn(netd, &["-H", &socket, "monitor"], &log)?;
        Ok(Self { child, log })
    }

    /// The first and the last line that name `reason`, once there are two.
    fn lines_with(&self, reason: &str) -> Result<String> {
        eventually("two drops in the monitor", SHOWN_WITHIN, || {
            let text = fs::read_to_string(&self.log).context("the monitor's output")?;
            let mut lines = text.lines().filter(|line| line.contains(reason));
            Ok(lines.next().zip(lines.next_back()).map(|(a, b)| format!("{a}\n{b}")))
        })
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // Both only fail for a process that has ended and was waited for: then all is done.
        let _already_ended = self.child.kill();
        let _already_waited = self.child.wait();
    }
}
