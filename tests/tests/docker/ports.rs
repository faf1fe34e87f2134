//! Published ports: who reaches them, and who may have them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Output;

use anyhow::{Context, Result, ensure};
use netd_tests::container::Transport;
use netd_tests::host::UPLINK;
use netd_tests::outside::{ROUTER_V4, ROUTER_V6};
use netd_tests::path::told;
use netd_tests::process::run;
use netd_tests::wire::ANSWER_DEADLINE;

use super::case::{Case, PUBLISHED, all_silent, reaches};
use super::connection::Connection;
use super::{Scenario, both, netd};

pub(super) const SCENARIOS: &[Scenario] = &[
    both("D01 published port is reached from outside and from the host", basic),
    both("D02 container sees the client's own address and port", source),
    both("D03 published port is reached from itself and from its neighbour", hairpin),
    both("D04 port on a loopback address is the host's alone", loopback),
    both("D06 port on one address does not answer on the others", one_address),
    both(
        "A16 D09 taken port is refused in Docker's words, and its container starts later",
        conflict,
    ),
    both("D11 any address meets a specific one, and addresses of others are refused", specific),
    both("D19 port of a removed container resets, refuses and is free at once", revocation),
    both("D20 restart keeps fixed ports, and connections of other containers", restart),
    netd("D21 SCTP is refused in clear words", sctp),
    netd("D22 network without IPv6 is not reached by the host's IPv6 addresses", no_v6),
    both("D24 internal network opens no port and says nothing of it", internal),
    netd("A40 a netd and a bridge container can't have one port", cross_driver),
];

fn basic(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let web = case.run("web", "app", &PUBLISHED)?;
    let _servers = web.serve()?;
    for target in case.published(8080) {
        reaches(case.rig.outside.netns(), target)?;
        reaches_from_host(case, target.ip())?;
    }
    reaches_from_host(case, Ipv4Addr::LOCALHOST.into())?;
    reaches_from_host(case, std::net::Ipv6Addr::LOCALHOST.into())
}

/// As a process of the host: from its control group, too.
fn reaches_from_host(case: &Case<'_, '_>, address: IpAddr) -> Result<()> {
    for transport in Transport::ALL {
        let said = asks_from_host(case, transport, address)?;
        ensure!(said.status.success(), "{} {address}: {said:?}", transport.name());
    }
    Ok(())
}

fn is_silent_to_host(case: &Case<'_, '_>, address: IpAddr) -> Result<()> {
    for transport in Transport::ALL {
        let said = asks_from_host(case, transport, address)?;
        ensure!(!said.status.success(), "{} {address} answers", transport.name());
    }
    Ok(())
}

/// A process in the host's control group, where netd's socket hooks see it.
fn asks_from_host(case: &Case<'_, '_>, way: Transport, address: IpAddr) -> Result<Output> {
    let wire = netd_tests::process::built("wire")?;
    let target = SocketAddr::new(address, 8080).to_string();
    case.rig.host.exec(&wire, &[way.name(), &target, "hello"])
}

fn source(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let web = case.run("web", "app", &PUBLISHED)?;
    let _servers = web.serve()?;
    let routers: [IpAddr; 2] = [ROUTER_V4.into(), ROUTER_V6.into()];
    for (target, router) in case.published(8080).into_iter().zip(routers) {
        for transport in Transport::ALL {
            let answer = transport.ask(case.rig.outside.netns(), target)?;
            let own = SocketAddr::new(router, answer.own_port);
            let (seen, name) = (answer.seen_as, transport.name());
            ensure!(seen == own, "{name} {target} from {own} is seen as {seen}");
        }
    }
    Ok(())
}

fn hairpin(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let web = case.run("web", "app", &PUBLISHED)?;
    let neighbour = case.run("neighbour", "app", &[])?;
    let _servers = web.serve()?;
    let gateways: [SocketAddr; 2] = ["10.51.0.1:8080".parse()?, "[fd00:51::1]:8080".parse()?];
    for target in case.published(8080).into_iter().chain(gateways) {
        for from in [&web, &neighbour] {
            reaches(&from.netns, target).with_context(|| format!("from {}", from.name))?;
        }
    }
    Ok(())
}

fn loopback(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let [v4, v6] = ["127.0.0.1:8080:7000", "[::1]:8080:7000"];
    let datagrams = [v4, v6].map(|port| format!("{port}/udp"));
    let ports = ["-p", v4, "-p", v6, "-p", &datagrams[0], "-p", &datagrams[1]];
    let web = case.run("web", "app", &ports)?;
    let _servers = web.serve()?;
    reaches_from_host(case, Ipv4Addr::LOCALHOST.into())?;
    reaches_from_host(case, std::net::Ipv6Addr::LOCALHOST.into())?;
    all_silent(case.rig.outside.netns(), &case.published(8080))?;
    let led: [SocketAddr; 2] = ["127.0.0.1:8080".parse()?, "127.0.0.2:8080".parse()?];
    let is_led: Result<()> = lead_loopback_to_host(case, true).into_iter().collect();
    let silent = is_led.and_then(|()| all_silent(case.rig.outside.netns(), &led));
    lead_loopback_to_host(case, false).into_iter().fold(silent, Result::and)
}

/// The outside takes loopback addresses for the host's, and the host's kernel would let them in: what
/// became of each step.
fn lead_loopback_to_host(case: &Case<'_, '_>, on: bool) -> [Result<()>; 4] {
    let allow = |link: &str| format!("net.ipv4.conf.{link}.route_localnet={}", u8::from(on));
    let outside = case.rig.outside;
    let host = case.uplinks()[0].to_string();
    let own = ["address", if on { "delete" } else { "replace" }, "127.0.0.1/8", "dev", "lo"];
    let led = ["route", if on { "add" } else { "delete" }, "127.0.0.0/8", "via", &host];
    let turns = if on { [&own, &led] } else { [&led, &own] };
    let [first, second] = turns.map(|words| outside.ip(words));
    [
        case.host_says("sysctl", &["-qw", &allow(UPLINK)]).map(drop),
        outside.netns().run(|| run("sysctl", &["-qw", &allow("all")])).map(drop),
        first,
        second,
    ]
}

fn one_address(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let words = case.published(8080).map(|address| format!("{address}:7000"));
    let datagrams = words.each_ref().map(|port| format!("{port}/udp"));
    let ports = ["-p", &words[0], "-p", &words[1], "-p", &datagrams[0], "-p", &datagrams[1]];
    let web = case.run("web", "app", &ports)?;
    let _servers = web.serve()?;
    let outside = case.rig.outside.netns();
    case.with_other_addresses(|others| {
        case.published(8080).into_iter().try_for_each(|target| reaches(outside, target))?;
        all_silent(outside, &others.map(|other| SocketAddr::new(other, 8080)))
    })?;
    let own: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    own.into_iter().try_for_each(|address| is_silent_to_host(case, address))?;
    case.uplinks().into_iter().try_for_each(|address| reaches_from_host(case, address))
}

fn conflict(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &[])?;
    case.run("first", "app", &["-p", "8080:7000"])?;
    let again = ["--network", "app", "--restart", "always", "-p", "8080:7000"];
    let said = case.refused(&Case::start("second", &again))?;
    let words = "driver failed programming external connectivity on endpoint second (";
    ensure!(said.contains(words), "{said}");
    ensure!(said.contains("Bind for 0.0.0.0:8080 failed: port is already allocated"), "{said}");
    let state = ["inspect", "-f", "{{.State.Status}} {{.RestartCount}}", "second"];
    let state = case.ok(&state)?;
    ensure!(state == "created 0", "{state}");
    case.run("other", "app", &["-p", "8080:7000/udp"])?;
    for (name, address) in [("local", [127, 0, 0, 1].into()), ("uplink", case.uplinks()[0])] {
        case.run(name, "app", &["-p", &format!("{address}:8081:7000")])?;
    }
    case.ok(&["rm", "-f", "first"])?;
    case.ok(&["start", "second"])?;
    let second = case.running("second")?;
    let _servers = second.serve()?;
    Transport::Tcp.ask(case.rig.outside.netns(), case.published(8080)[0]).map(drop)
}

fn specific(case: &Case<'_, '_>) -> Result<()> {
    const TAKEN: &str = "Bind for 0.0.0.0:8080 failed: port is already allocated";
    const FOREIGN: &str =
        "failed to bind host port 203.0.113.9:8081/tcp: cannot assign requested address";
    case.network("app", &[])?;
    case.run("any", "app", &["-p", "8080:7000"])?;
    let local = Case::start("local", &["--network", "app", "-p", "127.0.0.1:8080:7000"]);
    case.refused_with(&local, TAKEN)?;
    case.ok(&["rm", "-f", "any"])?;
    case.ok(&["start", "local"])?;
    let any = Case::start("any", &["--network", "app", "-p", "8080:7000"]);
    case.refused_with(&any, TAKEN)?;
    let foreign = Case::start("foreign", &["--network", "app", "-p", "203.0.113.9:8081:7000"]);
    case.refused_with(&foreign, FOREIGN)?;
    let format = "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}";
    let state = case.ok(&["inspect", "-f", format, "foreign"])?;
    ensure!(state.starts_with("created 128 ") && state.contains(FOREIGN), "{state}");
    Ok(())
}

fn revocation(case: &Case<'_, '_>) -> Result<()> {
    use std::io::ErrorKind::ConnectionRefused;
    case.dual("app", 51)?;
    let outside = case.rig.outside.netns();
    for target in case.published(8080) {
        let web = case.run("web", "app", &PUBLISHED)?;
        let servers = web.serve()?;
        reaches(outside, target)?;
        drop(servers);
        let open = Connection::open(outside, target, &web.netns)?;
        case.ok(&["rm", "-f", "web"])?;
        open.ends()?;
        let connect = || Ok(TcpStream::connect_timeout(&target, ANSWER_DEADLINE).err());
        let again = outside.run(connect)?;
        let again = again.map(|error| error.kind());
        ensure!(again == Some(ConnectionRefused), "tcp {target} by then: {again:?}");
        let again = told(outside, target)?;
        ensure!(again == Some(ConnectionRefused), "udp {target} by then: {again:?}");
        case.rig.host.netns().run(|| Ok(TcpListener::bind("[::]:8080").map(drop)?))?;
    }
    Ok(())
}

fn restart(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    case.run("web", "app", &PUBLISHED)?;
    let other = case.run("other", "app", &["-p", "8081:7000"])?;
    let outside = case.rig.outside.netns();
    let mut open = Vec::new();
    for target in case.published(8081) {
        open.push(Connection::open(outside, target, &other.netns)?);
    }
    case.ok(&["restart", "-t", "0", "web"])?;
    open.iter().try_for_each(Connection::talk)?;
    let _servers = case.running("web")?.serve()?;
    case.published(8080).into_iter().try_for_each(|target| reaches(outside, target))
}

fn sctp(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &[])?;
    let start = Case::start("web", &["--network", "app", "-p", "7/sctp"]);
    case.refused_with(&start, "SCTP publishing is not supported yet by netd: publish tcp or udp")?;
    // To expose it is no mistake.
    case.run("exposed", "app", &["--expose", "7/sctp"]).map(drop)
}

fn no_v6(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &[])?;
    let web = case.run("web", "app", &PUBLISHED)?;
    let _servers = web.serve()?;
    let [v4, v6] = case.published(8080);
    reaches(case.rig.outside.netns(), v4)?;
    all_silent(case.rig.outside.netns(), &[v6])?;
    let shown = case.ports_of("web")?;
    ensure!(!shown.contains("::"), "{shown}");
    Ok(())
}

fn internal(case: &Case<'_, '_>) -> Result<()> {
    case.network("inside", &["--internal"])?;
    let web = case.run("web", "inside", &PUBLISHED)?;
    let _servers = web.serve()?;
    all_silent(case.rig.outside.netns(), &case.published(8080))?;
    let shown = case.ports_of("web")?;
    ensure!(shown.is_empty(), "{shown}");
    case.rig.host.netns().run(|| Ok(TcpListener::bind("0.0.0.0:8080").map(drop)?))?;
    case.network("app", &[])?;
    let other = case.run("other", "app", &PUBLISHED)?;
    let _servers = other.serve()?;
    reaches(case.rig.outside.netns(), case.published(8080)[0])
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
