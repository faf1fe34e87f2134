//! Containers among themselves and towards the outside.

use std::io::ErrorKind::NetworkUnreachable;
use std::net::{IpAddr, SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};
use netd_tests::container::Transport;
use netd_tests::eventually;
use netd_tests::outside::{WORLD_V4, WORLD_V6};
use netd_tests::wire::{ANSWER_DEADLINE, tcp_echo_server, udp_echo_server};

use super::case::{Case, Driver, PORT, SETTLES_WITHIN, all_silent, meets_nothing, reaches};
use super::{Scenario, both, netd};

pub(super) const SCENARIOS: &[Scenario] = &[
    both("A13 C01 neighbours reach each other by address and by name", neighbours),
    both("C02 without ICC neighbours are apart, and published ports are not", no_icc),
    both("C10 stopped container is connected and disconnected", stopped),
    both("C12 container on a network without IPv6 has none", no_v6),
    both("C03 networks are apart", isolation),
    both("C04 internal network has no way out, and its members each other", internal),
    both("C07 container on two networks reaches both, and its way out moves", two_networks),
    both("E01 the outside sees the host's address", masquerade),
    both("A21 options reach the driver: both ends have the MTU", mtu),
    netd("A31 container on a netd and a bridge network reaches both", coexistence),
    netd("A45 no docker_gwbridge and no rule of iptables", no_gwbridge),
];

fn neighbours(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let (web, client) = (case.run("web", "app", &[])?, case.run("client", "app", &[])?);
    let _servers = web.serve()?;
    for v6 in [false, true] {
        let target = case.address("web", "app", v6)?;
        ensure!(client.pings(target)?, "no echo from {target}");
        reaches(&client.netns, SocketAddr::new(target, PORT))?;
    }
    for ping in ["ping", "ping6"] {
        let said = case.exec("client", &[ping, "-c", "1", "-W", "2", "web"])?;
        ensure!(said.code == Some(0), "{ping} web: {said:?}");
    }
    let links = case.exec("web", &["ip", "-6", "-o", "address", "show", "eth0"])?.stdout;
    let of_link = links.split([' ', '/']).find(|word| word.starts_with("fe80:"));
    let of_link = of_link.with_context(|| format!("no link-local address: {links}"))?;
    // It is silent while duplicates of it are looked for.
    eventually("an echo from the link-local address", SETTLES_WITHIN, || {
        let ping = ["ping6", "-c", "1", "-W", "2", "-I", "eth0", of_link];
        Ok((case.exec("client", &ping)?.code == Some(0)).then_some(()))
    })
}

fn no_icc(case: &Case<'_, '_>) -> Result<()> {
    case.dual_with("app", 51, &["-o", "com.docker.network.bridge.enable_icc=false"])?;
    let web = case.run("web", "app", &["-p", "8080:7001"])?;
    let client = case.run("client", "app", &[])?;
    let _servers = web.serve()?;
    let _published = tcp_echo_server(&web.netns, SocketAddr::from(([0u16; 8], 7001)))?;
    all_silent(&client.netns, &case.served("web", "app")?)?;
    for (target, gateway) in case.addresses("web", "app")?.into_iter().zip(gateways()?) {
        ensure!(!client.pings(target)?, "{target} answers its neighbour");
        ensure!(client.pings(gateway)?, "{gateway} is silent");
    }
    for published in case.published(8080) {
        Transport::Tcp.ask(case.rig.outside.netns(), published)?;
    }
    Ok(())
}

/// The gateways of a dual network whose number is 51.
fn gateways() -> Result<[IpAddr; 2]> {
    Ok([[10, 51, 0, 1].into(), "fd00:51::1".parse()?])
}

fn stopped(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    case.dual("other", 52)?;
    let neighbour = case.run("neighbour", "other", &[])?;
    let _servers = neighbour.serve()?;
    let targets = case.served("neighbour", "other")?;
    case.run("client", "app", &[])?;
    case.ok(&["stop", "-t", "0", "client"])?;
    case.ok(&["network", "connect", "other", "client"])?;
    case.ok(&["start", "client"])?;
    let client = case.running("client")?;
    targets.into_iter().try_for_each(|target| reaches(&client.netns, target))?;
    case.ok(&["stop", "-t", "0", "client"])?;
    case.ok(&["network", "disconnect", "other", "client"])?;
    case.ok(&["start", "client"])?;
    all_silent(&case.running("client")?.netns, &targets)
}

fn no_v6(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &[])?;
    case.run("web", "app", &[])?;
    let said = case.exec("web", &["cat", "/proc/sys/net/ipv6/conf/eth0/disable_ipv6"])?.stdout;
    ensure!(said.trim() == "1", "disable_ipv6 is {said}");
    let addresses = case.exec("web", &["ip", "-6", "address", "show", "eth0"])?.stdout;
    ensure!(addresses.trim().is_empty(), "{addresses}");
    Ok(())
}

fn isolation(case: &Case<'_, '_>) -> Result<()> {
    case.dual("one", 51)?;
    case.dual("two", 52)?;
    let (web, client) = (case.run("web", "one", &[])?, case.run("client", "two", &[])?);
    let _servers = web.serve()?;
    for v6 in [false, true] {
        let target = case.address("web", "one", v6)?;
        meets_nothing(&client.netns, SocketAddr::new(target, PORT))?;
        ensure!(!client.pings(target)?, "{target} answers");
    }
    Ok(())
}

fn internal(case: &Case<'_, '_>) -> Result<()> {
    case.dual_with("inside", 51, &["--internal"])?;
    let web = case.run("web", "inside", &["-p", "8080:7000"])?;
    let client = case.run("client", "inside", &[])?;
    let _servers = web.serve()?;
    for target in case.served("web", "inside")? {
        reaches(&client.netns, target)?;
        reaches(case.rig.host.netns(), target).context("from the host")?;
    }
    for gateway in gateways()? {
        ensure!(client.pings(gateway)?, "{gateway} is silent");
    }
    let ways_out = case.ways_out("client")?;
    ensure!(ways_out == [None, None], "{ways_out:?}");
    for world in [WORLD_V4.into(), WORLD_V6.into()].map(|world: IpAddr| SocketAddr::new(world, 80))
    {
        let connect = || Ok(TcpStream::connect_timeout(&world, ANSWER_DEADLINE).err());
        let said = client.netns.run(connect)?.map(|error| error.kind());
        ensure!(said == Some(NetworkUnreachable), "{world}: {said:?}");
    }
    all_silent(case.rig.outside.netns(), &case.published(8080))
}

fn two_networks(case: &Case<'_, '_>) -> Result<()> {
    case.dual("alpha", 51)?;
    case.dual("beta", 52)?;
    let (a, b) = (case.run("in-a", "alpha", &[])?, case.run("in-b", "beta", &[])?);
    let _servers = (a.serve()?, b.serve()?);
    let both = case.run("both", "beta", &[])?;
    case.ok(&["network", "connect", "alpha", "both"])?;
    for (name, network) in [("in-a", "alpha"), ("in-b", "beta")] {
        let targets = case.served(name, network)?;
        targets.into_iter().try_for_each(|target| reaches(&both.netns, target))?;
    }
    leads_out_by(case, "both", ["10.51.0.1", "fd00:51::1"])?;
    case.ok(&["network", "disconnect", "alpha", "both"])?;
    leads_out_by(case, "both", ["10.52.0.1", "fd00:52::1"])?;
    ensure!(both.pings(WORLD_V4.into())?, "no way out");
    Ok(())
}

/// A container's way out is by these gateways.
fn leads_out_by(case: &Case<'_, '_>, container: &str, gateways: [&str; 2]) -> Result<()> {
    for (way_out, gateway) in case.ways_out(container)?.into_iter().zip(gateways) {
        let by = format!("default via {gateway} ");
        ensure!(way_out.as_ref().is_some_and(|it| it.starts_with(&by)), "{gateway}: {way_out:?}");
    }
    Ok(())
}

fn masquerade(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let client = case.run("client", "app", &[])?;
    let outside = case.rig.outside.netns();
    // Docker's bridge of 20.10 does not translate IPv6.
    let families: &[bool] = if case.driver == Driver::Netd { &[false, true] } else { &[false] };
    for v6 in families {
        let world = if *v6 { WORLD_V6.into() } else { WORLD_V4.into() };
        let server = SocketAddr::new(world, 9000);
        let _servers = (tcp_echo_server(outside, server)?, udp_echo_server(outside, server)?);
        for transport in Transport::ALL {
            let seen = transport.ask(&client.netns, server)?.seen_as.ip();
            ensure!(seen == case.uplinks()[usize::from(*v6)], "seen as {seen}");
        }
    }
    Ok(())
}

fn mtu(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &["-o", "com.docker.network.driver.mtu=1400", "-o", "foo=bar"])?;
    let web = case.run("web", "app", &[])?;
    let inside = case.exec(&web.name, &["ip", "link", "show", "eth0"])?.stdout;
    ensure!(inside.contains("mtu 1400"), "{inside}");
    let host = case.rig.host.exec("ip", &["link", "show", "type", "veth"])?;
    let host = String::from_utf8_lossy(&host.stdout).into_owned();
    ensure!(host.lines().any(|it| it.contains("veth") && it.contains("mtu 1400")), "{host}");
    Ok(())
}

fn coexistence(case: &Case<'_, '_>) -> Result<()> {
    case.ok(&["network", "create", "--subnet", "10.61.0.0/24", "docker"])?;
    case.network("app", &["--subnet", "10.51.0.0/24"])?;
    ensure!(case.iptables()?.contains(":FORWARD DROP"), "Docker's policy is not there");
    let (theirs, ours) = (case.run("theirs", "docker", &[])?, case.run("ours", "app", &[])?);
    let _servers = (theirs.serve()?, ours.serve()?);
    let both = case.run("both", "app", &[])?;
    case.ok(&["network", "connect", "docker", "both"])?;
    for (name, network) in [("theirs", "docker"), ("ours", "app")] {
        reaches(&both.netns, SocketAddr::new(case.address(name, network, false)?, PORT))?;
    }
    for container in [&theirs, &ours, &both] {
        ensure!(container.pings(WORLD_V4.into())?, "{} has no way out", container.name);
    }
    Ok(())
}

fn no_gwbridge(case: &Case<'_, '_>) -> Result<()> {
    let before = case.iptables()?;
    case.dual("app", 51)?;
    case.network("inside", &["--internal", "--subnet", "10.52.0.0/24"])?;
    case.run("web", "app", &["-p", "8080:7000"])?;
    case.run("hidden", "inside", &["-p", "8081:7000"])?;
    case.ok(&["network", "connect", "inside", "web"])?;
    let networks = case.ok(&["network", "ls", "--format", "{{.Name}}"])?;
    ensure!(!networks.contains("docker_gwbridge"), "{networks}");
    let rules = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.starts_with('-')).map(str::to_owned).collect()
    };
    let after = case.iptables()?;
    ensure!(rules(&before) == rules(&after), "{before}\n{after}");
    Ok(())
}
