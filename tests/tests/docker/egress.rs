//! Ways out of a network, to the host and past it.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use netd_tests::container::Transport;
use netd_tests::outside::{WORLD_V4, WORLD_V6};
use netd_tests::process::run;
use netd_tests::wire::{ANSWER_DEADLINE, connect_from, tcp_echo_server, udp_echo_server};
use netd_tests::{Host, Netns, Outside, eventually};

use super::case::{Case, PUBLISHED, Rig, SETTLES_WITHIN, all_silent, reaches};
use super::modes::with_routes;
use super::{Scenario, both};

pub(super) const SCENARIOS: &[Scenario] = &[
    both("E02 without masquerade the outside sees the container's address", no_masquerade),
    both("E03 the outside sees the address that the network names", chosen_source),
    both("E04 two containers and the host may use one source port", clashing_ports),
    both("E05 containers reach the host's services, also by host-gateway", host_services),
    both("E06 what the host forwards for others is its own affair", forwarding),
    both("E10 a router that the host has learned stays", learned_router),
];

/// Where the world serves.
const WORLD: [IpAddr; 2] = [IpAddr::V4(WORLD_V4), IpAddr::V6(WORLD_V6)];

/// As whom the world sees a client, whatever the protocol: by IPv4 and by IPv6.
fn seen(case: &Case<'_, '_>, client: &Netns) -> Result<[IpAddr; 2]> {
    let seen = WORLD.map(|world| -> Result<IpAddr> {
        let (outside, world) = (case.rig.outside.netns(), SocketAddr::new(world, 9000));
        let _servers = (tcp_echo_server(outside, world)?, udp_echo_server(outside, world)?);
        let by_tcp = Transport::Tcp.ask(client, world)?.seen_as.ip();
        let by_udp = Transport::Udp.ask(client, world)?.seen_as.ip();
        ensure!(by_tcp == by_udp, "seen as {by_tcp} and as {by_udp}");
        Ok(by_tcp)
    });
    let [v4, v6] = seen;
    Ok([v4?, v6?])
}

fn no_masquerade(case: &Case<'_, '_>) -> Result<()> {
    case.dual_with("app", 51, &["-o", "com.docker.network.bridge.enable_ip_masquerade=false"])?;
    let client = case.run("client", "app", &[])?;
    let own = case.addresses("client", "app")?;
    with_routes(case, case.uplinks(), || {
        let seen = seen(case, &client.netns)?;
        ensure!(seen == own, "seen as {seen:?}");
        Ok(())
    })
}

fn chosen_source(case: &Case<'_, '_>) -> Result<()> {
    case.with_other_addresses(|chosen| {
        let [v4, v6] = [("ipv4", chosen[0]), ("ipv6", chosen[1])]
            .map(|(family, address)| format!("com.docker.network.host_{family}={address}"));
        case.dual_with("app", 51, &["-o", &v4, "-o", &v6])?;
        let seen = seen(case, &case.run("client", "app", &[])?.netns)?;
        ensure!(seen == chosen, "seen as {seen:?}");
        Ok(())
    })
}

fn clashing_ports(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let clients = [case.run("one", "app", &[])?, case.run("two", "app", &[])?];
    let [one, two] = clients.each_ref().map(|client| (client.name.as_str(), &client.netns));
    let askers = [("host", case.rig.host.netns()), one, two];
    for world in WORLD.map(|world| SocketAddr::new(world, 9000)) {
        connections_from_one_port(case, askers, world).with_context(|| format!("tcp {world}"))?;
        let _server = udp_echo_server(case.rig.outside.netns(), world)?;
        let mut sockets = Vec::new();
        for (name, netns) in askers {
            let any: IpAddr = if world.is_ipv6() { [0u16; 8].into() } else { [0u8; 4].into() };
            let socket = netns.run(|| Ok(UdpSocket::bind((any, 5555))?))?;
            socket.set_read_timeout(Some(ANSWER_DEADLINE))?;
            socket.connect(world)?;
            sockets.push((name, socket));
        }
        // All flows are open at once, and answers come to who asked.
        for round in 0..3 {
            for (name, socket) in &sockets {
                let asked = format!("{name} {round}");
                socket.send(asked.as_bytes())?;
                let mut answer = [0; 256];
                let len = socket.recv(&mut answer).with_context(|| asked.clone())?;
                let answer = String::from_utf8_lossy(&answer[..len]).into_owned();
                ensure!(answer.ends_with(&asked), "{asked} was answered {answer}");
            }
        }
    }
    Ok(())
}

/// All are open at once, and each is its asker's.
fn connections_from_one_port(
    case: &Case<'_, '_>,
    askers: [(&str, &Netns); 3],
    world: SocketAddr,
) -> Result<()> {
    let _server = tcp_echo_server(case.rig.outside.netns(), world)?;
    let mut open = Vec::new();
    for (name, netns) in askers {
        open.push((name, connect_from(netns, 5555, world).context(name.to_owned())?));
    }
    for (name, mut stream) in open {
        stream.write_all(name.as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context(name.to_owned())?;
        ensure!(answer.ends_with(name), "{name} was answered {answer}");
    }
    Ok(())
}

fn host_services(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let name = ["--add-host", "host.docker.internal:host-gateway"];
    let client = case.run("client", "app", &name)?;
    let hosts = case.exec("client", &["cat", "/etc/hosts"])?.stdout;
    let line = hosts.lines().find(|line| line.contains("host.docker.internal"));
    let named: IpAddr =
        line.and_then(|it| it.split_whitespace().next()).context("no line")?.parse()?;
    let host = case.rig.host.netns();
    let gateways: [IpAddr; 2] = ["10.51.0.1".parse()?, "fd00:51::1".parse()?];
    for address in case.uplinks().into_iter().chain(gateways).chain([named]) {
        let target = SocketAddr::new(address, 9100);
        let _servers = (tcp_echo_server(host, target)?, udp_echo_server(host, target)?);
        reaches(&client.netns, target)?;
    }
    Ok(())
}

/// A place that others reach through this host, which forwards or does not.
struct Third<'rig> {
    name: String,
    netns: Netns,
    host: &'rig Host,
    outside: &'rig Outside,
}

const THIRD: [(&str, &str, &str, &str); 2] =
    [("-4", "10.99.0.0/24", "10.99.0.1", "10.99.0.2"), ("-6", "fd99::/64", "fd99::1", "fd99::2")];

impl<'rig> Third<'rig> {
    fn behind(case: &Case<'rig, '_>) -> Result<Self> {
        let Rig { host, outside, .. } = *case.rig;
        let name = format!("{}-third", outside.name());
        let third = Self { netns: Netns::create(&name)?, name, host, outside };
        let link = ["link", "add", "third", "type", "veth", "peer", "name", "eth0", "netns"];
        host.ip(&[&link[..], &[&third.name]].concat())?;
        host.ip(&["link", "set", "third", "up"])?;
        third.netns.run(|| run("ip", &["link", "set", "eth0", "up"]))?;
        for (family, subnet, gateway, own) in THIRD {
            let len = subnet.rsplit('/').next().unwrap_or_default();
            let [gateways, owns] = [gateway, own].map(|address| format!("{address}/{len}"));
            let nodad: &[&str] = if family == "-6" { &["nodad"] } else { &[] };
            host.ip(&[&["address", "add", &gateways, "dev", "third"], nodad].concat())?;
            let add = [&["address", "add", &owns, "dev", "eth0"], nodad].concat();
            third.netns.run(|| run("ip", &add))?;
            let out = [family, "route", "add", "default", "via", gateway];
            third.netns.run(|| run("ip", &out))?;
            let by = case.uplinks()[usize::from(family == "-6")].to_string();
            outside.ip(&[family, "route", "add", subnet, "via", &by])?;
        }
        Ok(third)
    }
}

impl Drop for Third<'_> {
    fn drop(&mut self) {
        // The laboratory sweeps what is left.
        for (family, subnet, ..) in THIRD {
            let _left = self.outside.ip(&[family, "route", "delete", subnet]);
        }
        let _left = self.host.ip(&["link", "delete", "third"]);
        let _left = Netns::delete(&self.name);
    }
}

/// What decides on forwarding: the kernel's switches and netfilter's policies.
fn forwards(case: &Case<'_, '_>) -> Result<[String; 4]> {
    let switch = |key: &str| case.host_says("sysctl", &["-n", key]);
    let policy = |program: &str| {
        let rules = case.host_says(program, &["-S", "FORWARD"])?;
        Ok::<_, anyhow::Error>(rules.lines().next().unwrap_or_default().to_owned())
    };
    Ok([
        switch("net.ipv4.ip_forward")?,
        switch("net.ipv6.conf.all.forwarding")?,
        policy("iptables")?.replace("-P FORWARD ", ""),
        policy("ip6tables")?.replace("-P FORWARD ", ""),
    ])
}

fn forward(case: &Case<'_, '_>, [v4, v6, policy_v4, policy_v6]: [&str; 4]) -> Result<()> {
    let (v4, v6) =
        (format!("net.ipv4.ip_forward={v4}"), format!("net.ipv6.conf.all.forwarding={v6}"));
    case.host_says("sysctl", &["-qw", &v4, &v6])?;
    case.host_says("iptables", &["-P", "FORWARD", policy_v4])?;
    case.host_says("ip6tables", &["-P", "FORWARD", policy_v6]).map(drop)
}

fn forwarding(case: &Case<'_, '_>) -> Result<()> {
    let before = forwards(case)?;
    case.dual("app", 51)?;
    let web = case.run("web", "app", &PUBLISHED)?;
    let _servers = web.serve()?;
    let after = forwards(case)?;
    let outcome = Third::behind(case).and_then(|third| asked_for_others(case, &third));
    outcome.and(forward(case, before.each_ref().map(String::as_str)))?;
    ensure!(before == after, "{before:?} became {after:?}");
    Ok(())
}

/// The third place serves on the port that the host has published.
fn asked_for_others(case: &Case<'_, '_>, third: &Third<'_>) -> Result<()> {
    let any = SocketAddr::from(([0u16; 8], 8080));
    let _servers = (tcp_echo_server(&third.netns, any)?, udp_echo_server(&third.netns, any)?);
    let targets =
        [SocketAddr::new(THIRD[0].3.parse()?, 8080), SocketAddr::new(THIRD[1].3.parse()?, 8080)];
    let outside = case.rig.outside.netns();
    for (switches, open) in [
        (["1", "1", "ACCEPT", "ACCEPT"], true),
        (["1", "1", "DROP", "DROP"], false),
        (["0", "0", "ACCEPT", "ACCEPT"], false),
    ] {
        forward(case, switches)?;
        let asked = if open {
            targets.into_iter().try_for_each(|target| reaches(outside, target))
        } else {
            all_silent(outside, &targets)
        };
        asked.with_context(|| switches.join(" "))?;
    }
    Ok(())
}

/// The kernel forgets learned routers as soon as an interface begins to forward IPv6.
fn learned_router(case: &Case<'_, '_>) -> Result<()> {
    let forwards = case.host_says("sysctl", &["-n", "net.ipv6.conf.all.forwarding"])?;
    let forwards = format!("net.ipv6.conf.all.forwarding={forwards}");
    case.host_says("sysctl", &["-qw", "net.ipv6.conf.all.forwarding=0"])?;
    let learned = || case.host_says("ip", &["-6", "route", "show", "default", "proto", "ra"]);
    let heard = |what: &str, lifetime_s: u16| {
        eventually(what, SETTLES_WITHIN, || {
            case.rig.outside.advertise_router(lifetime_s)?;
            Ok((learned()?.is_empty() == (lifetime_s == 0)).then_some(()))
        })
    };
    let kept = heard("the router's advertisement", 1_800).and_then(|()| {
        case.dual("app", 51)?;
        case.run("web", "app", &PUBLISHED)?;
        ensure!(!learned()?.is_empty(), "the host has forgotten its router");
        Ok(())
    });
    let farewell = heard("the router's farewell", 0);
    let undone = case.host_says("sysctl", &["-qw", &forwards]).map(drop);
    kept.and(farewell).and(undone)
}
