//! How far the outside reaches containers by their own addresses: the gateway modes.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use netd_tests::Netns;
use netd_tests::wire::{Server, tcp_echo_server, udp_echo_server};

use super::case::{Case, PORT, PUBLISHED, Running, all_silent, pings, reaches};
use super::{Scenario, both, netd};

pub(super) const SCENARIOS: &[Scenario] = &[
    both("D07 the gateway mode says who is reached by its own address", direct_access),
    both("C05 routed networks are open to each other as to the outside", routed),
    netd("D08 a trusted interface alone lets published ports be reached so", trusted),
    netd("D23 a routed network's port is open where another network is the way out", not_gateway),
    netd("D25 routed networks ignore host ports and do not show them", no_host_ports),
];

const SUBNETS: [(&str, usize); 2] = [("10.51.0.0/24", 0), ("fd00:51::/64", 1)];
/// Nobody has published it.
const CLOSED: u16 = 7001;

/// A network of one mode on both families, with the addresses of `SUBNETS`.
fn of_mode(case: &Case<'_, '_>, name: &str, mode: &str) -> Result<()> {
    numbered(case, name, 51, mode)
}

/// The same with other addresses.
fn numbered(case: &Case<'_, '_>, name: &str, n: u8, mode: &str) -> Result<()> {
    let option = |family: &str| format!("com.docker.network.bridge.gateway_mode_{family}={mode}");
    let [v4, v6] = [option("ipv4"), option("ipv6")];
    case.dual_with(name, n, &["-o", &v4, "-o", &v6])
}

/// Does something while the outside knows the way to `SUBNETS`, by these addresses of the host.
pub(super) fn with_routes(
    case: &Case<'_, '_>,
    by: [IpAddr; 2],
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let made = SUBNETS.into_iter().try_for_each(|(subnet, family)| {
        case.rig.outside.ip(&["route", "replace", subnet, "via", &by[family].to_string()])
    });
    let done = made.and_then(|()| work());
    let undone = SUBNETS.map(|(subnet, _)| case.rig.outside.ip(&["route", "delete", subnet]));
    undone.into_iter().fold(done, Result::and)
}

/// Serves what is published and what is not.
fn serve(web: &Running) -> Result<Vec<Server>> {
    serve_at(web, [0u16; 8].into())
}

fn serve_at(web: &Running, address: IpAddr) -> Result<Vec<Server>> {
    let mut servers = Vec::new();
    for target in [PORT, CLOSED].map(|port| SocketAddr::new(address, port)) {
        servers.push(tcp_echo_server(&web.netns, target)?);
        servers.push(udp_echo_server(&web.netns, target)?);
    }
    Ok(servers)
}

fn direct_access(case: &Case<'_, '_>) -> Result<()> {
    for (mode, open) in [
        ("nat", [false, false, false]),
        ("nat-unprotected", [true, true, true]),
        ("routed", [true, true, false]),
    ] {
        of_mode(case, "app", mode)?;
        let web = case.run("web", "app", &PUBLISHED)?;
        let _servers = serve(&web)?;
        let targets = case.addresses("web", "app")?;
        let asked = || is_open_as(case.rig.outside.netns(), targets, open);
        with_routes(case, case.uplinks(), asked).with_context(|| mode)?;
        case.ok(&["rm", "-f", "web"])?;
        case.ok(&["network", "rm", "app"])?;
    }
    Ok(())
}

/// Whether addresses answer pings, what is published, and what is not.
fn is_open_as(from: &Netns, targets: [IpAddr; 2], open: [bool; 3]) -> Result<()> {
    for target in targets {
        let answers = pings(from, target)?;
        ensure!(answers == open[0], "{target} answers pings: {answers}");
    }
    for (port, open) in [(PORT, open[1]), (CLOSED, open[2])] {
        let targets = targets.map(|target| SocketAddr::new(target, port));
        if open {
            targets.into_iter().try_for_each(|target| reaches(from, target))?;
        } else {
            all_silent(from, &targets)?;
        }
    }
    Ok(())
}

fn routed(case: &Case<'_, '_>) -> Result<()> {
    of_mode(case, "one", "routed")?;
    numbered(case, "two", 52, "routed")?;
    let (web, client) = (case.run("web", "one", &PUBLISHED)?, case.run("client", "two", &[])?);
    let _servers = serve(&web)?;
    is_open_as(&client.netns, case.addresses("web", "one")?, [true, true, false])
}

fn trusted(case: &Case<'_, '_>) -> Result<()> {
    let option = "com.docker.network.bridge.trusted_host_interfaces=absent0:eth1";
    let subnets = ["--ipv6", "--subnet", SUBNETS[0].0, "--subnet", SUBNETS[1].0];
    case.network("app", &[&subnets[..], &["-o", option]].concat())?;
    let web = case.run("web", "app", &PUBLISHED)?;
    let _servers = serve(&web)?;
    let outside = case.rig.outside.netns();
    let of = |targets: [IpAddr; 2], port| targets.map(|target| SocketAddr::new(target, port));
    let targets = case.addresses("web", "app")?;
    with_routes(case, case.uplinks(), || all_silent(outside, &of(targets, PORT)))?;
    let second = case.rig.outside.plug_second(case.rig.host)?;
    with_routes(case, second.host_addresses(), || {
        // The link has just come up: netd hears of it by itself.
        netd_tests::eventually("the trusted link", super::case::SETTLES_WITHIN, || {
            Ok(of(targets, PORT).into_iter().try_for_each(|it| reaches(outside, it)).ok())
        })?;
        all_silent(outside, &of(targets, CLOSED))
    })
}

fn not_gateway(case: &Case<'_, '_>) -> Result<()> {
    case.dual("alpha", 52)?;
    of_mode(case, "beta", "routed")?;
    let web = case.run("web", "alpha", &PUBLISHED)?;
    case.ok(&["network", "connect", "beta", "web"])?;
    let routes = case.exec("web", &["ip", "route"])?.stdout;
    ensure!(routes.contains("default via 10.52.0.1"), "{routes}");
    let outside = case.rig.outside.netns();
    let servers = serve(&web)?;
    case.published(8080).into_iter().try_for_each(|target| reaches(outside, target))?;
    drop(servers);
    // On all addresses at once a server would answer datagrams by that of its way out.
    let targets = case.addresses("web", "beta")?;
    let _servers = [serve_at(&web, targets[0])?, serve_at(&web, targets[1])?];
    let asked = || is_open_as(outside, targets, [true, true, false]);
    with_routes(case, case.uplinks(), asked)
}

fn no_host_ports(case: &Case<'_, '_>) -> Result<()> {
    of_mode(case, "app", "routed")?;
    let both = [case.run("one", "app", &PUBLISHED)?, case.run("two", "app", &PUBLISHED)?];
    let _servers = (both[0].serve()?, both[1].serve()?);
    all_silent(case.rig.outside.netns(), &case.published(8080))?;
    for Running { name, .. } in &both {
        let shown = case.ports_of(name)?;
        ensure!(!shown.contains(":8080"), "{shown}");
        let targets = case.addresses(name, "app")?.map(|address| SocketAddr::new(address, PORT));
        with_routes(case, case.uplinks(), || {
            targets.into_iter().try_for_each(|it| reaches(case.rig.outside.netns(), it))
        })
        .with_context(|| name.clone())?;
    }
    Ok(())
}
