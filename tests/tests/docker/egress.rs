//! Ways out of a network and around its published ports.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use netd_tests::Netns;
use netd_tests::container::Transport;
use netd_tests::host::UPLINK;
use netd_tests::outside::WORLD_V4;
use netd_tests::wire::{ANSWER_DEADLINE, tcp_echo_server, udp_echo_server};

use super::case::{Case, PORT, meets_nothing, reaches};
use super::{Scenario, both, netd};

pub(super) const SCENARIOS: &[Scenario] = &[
    both("E02 without masquerade the outside sees the container's address", no_masquerade),
    both("E03 the outside sees the address that the network names", chosen_source),
    both("E04 two containers may use one source port", clashing_ports),
    both("E05 containers reach the host's services, also by host-gateway", host_services),
    both("D07 containers are not reached by their addresses from outside", direct_access),
    netd("D07 routed networks are reached by published ports alone", routed_access),
];

const SUBNET: &str = "10.51.0.0/24";
/// Where the world serves.
const WORLD: (std::net::Ipv4Addr, u16) = (WORLD_V4, 9000);

/// Does something while the outside knows the way to the network.
fn with_route(case: &Case<'_, '_>, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let host = case.uplinks()[0].to_string();
    case.rig.outside.ip(&["route", "add", SUBNET, "via", &host])?;
    let done = work();
    case.rig.outside.ip(&["route", "del", SUBNET])?;
    done
}

/// As whom the world sees a client.
fn seen(case: &Case<'_, '_>, client: &Netns) -> Result<IpAddr> {
    let outside = case.rig.outside.netns();
    let world = SocketAddr::from(WORLD);
    let _server = tcp_echo_server(outside, world)?;
    Ok(Transport::Tcp.ask(client, world)?.seen_as.ip())
}

fn no_masquerade(case: &Case<'_, '_>) -> Result<()> {
    let option = "com.docker.network.bridge.enable_ip_masquerade=false";
    case.network("app", &["--subnet", SUBNET, "-o", option])?;
    let client = case.run("client", "app", &[])?;
    let own = case.address("client", "app", false)?;
    with_route(case, || {
        let seen = seen(case, &client.netns)?;
        ensure!(seen == own, "seen as {seen}");
        Ok(())
    })
}

fn chosen_source(case: &Case<'_, '_>) -> Result<()> {
    const CHOSEN: &str = "198.51.100.210";
    let prefix = format!("{CHOSEN}/24");
    case.rig.host.ip(&["address", "add", &prefix, "dev", UPLINK])?;
    let option = format!("com.docker.network.host_ipv4={CHOSEN}");
    let outcome = case.network("app", &["-o", &option]).and_then(|()| {
        let seen = seen(case, &case.run("client", "app", &[])?.netns)?;
        ensure!(seen == CHOSEN.parse::<IpAddr>()?, "seen as {seen}");
        Ok(())
    });
    case.rig.host.ip(&["address", "del", &prefix, "dev", UPLINK])?;
    outcome
}

fn clashing_ports(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &[])?;
    let world = SocketAddr::from(WORLD);
    let _server = udp_echo_server(case.rig.outside.netns(), world)?;
    let clients = [case.run("one", "app", &[])?, case.run("two", "app", &[])?];
    let sockets = clients.each_ref().map(|client| {
        client.netns.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:5555")?;
            socket.set_read_timeout(Some(ANSWER_DEADLINE))?;
            socket.connect(world)?;
            Ok(socket)
        })
    });
    // Both flows are open at once, and answers come to who asked.
    for round in 0..3 {
        for (client, socket) in clients.iter().zip(&sockets) {
            let socket = socket.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            let asked = format!("{} {round}", client.name);
            socket.send(asked.as_bytes())?;
            let mut answer = [0; 256];
            let len = socket.recv(&mut answer).with_context(|| asked.clone())?;
            let answer = String::from_utf8_lossy(&answer[..len]).into_owned();
            ensure!(answer.ends_with(&asked), "{asked} was answered {answer}");
        }
    }
    Ok(())
}

fn host_services(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &["--subnet", SUBNET])?;
    let name = ["--add-host", "host.docker.internal:host-gateway"];
    let client = case.run("client", "app", &name)?;
    let hosts = case.exec("client", &["cat", "/etc/hosts"])?.stdout;
    let line = hosts.lines().find(|line| line.contains("host.docker.internal"));
    let named: IpAddr =
        line.and_then(|it| it.split_whitespace().next()).context("no line")?.parse()?;
    let any = SocketAddr::from(([0, 0, 0, 0], 9100));
    let host = case.rig.host.netns();
    let _servers = (tcp_echo_server(host, any)?, udp_echo_server(host, any)?);
    for address in [case.uplinks()[0], [10, 51, 0, 1].into(), named] {
        reaches(&client.netns, SocketAddr::new(address, 9100))?;
    }
    Ok(())
}

fn direct_access(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &["--subnet", SUBNET])?;
    let web = case.run("web", "app", &["-p", "8080:7000", "-p", "8080:7000/udp"])?;
    let _servers = web.serve()?;
    let address = case.address("web", "app", false)?;
    with_route(case, || {
        let outside = case.rig.outside.netns();
        reaches(outside, SocketAddr::new(case.uplinks()[0], 8080))?;
        meets_nothing(outside, SocketAddr::new(address, PORT))
    })
}

fn routed_access(case: &Case<'_, '_>) -> Result<()> {
    let option = "com.docker.network.bridge.gateway_mode_ipv4=routed";
    case.network("app", &["--subnet", SUBNET, "-o", option])?;
    let web = case.run("web", "app", &["-p", "8080:7000", "-p", "8080:7000/udp"])?;
    let _servers = web.serve()?;
    let closed = SocketAddr::from(([0, 0, 0, 0], 7001));
    let _unpublished = tcp_echo_server(&web.netns, closed)?;
    let address = case.address("web", "app", false)?;
    with_route(case, || {
        let outside = case.rig.outside.netns();
        reaches(outside, SocketAddr::new(address, PORT))?;
        meets_nothing(outside, SocketAddr::new(address, 7001))?;
        let asked = Transport::Tcp.ask(outside, SocketAddr::new(case.uplinks()[0], 8080));
        ensure!(asked.is_err(), "the host's port is open in spite of the mode");
        Ok(())
    })
}
