//! Who is on a network: members that come and go while others talk, that share one namespace, and that
//! the host itself talks to.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use netd_tests::wire::{tcp_echo_server, udp_echo_server};

use super::case::{Case, PORT, reaches};
use super::{Scenario, both};

pub(super) const SCENARIOS: &[Scenario] = &[
    both("C09 a second network comes and goes without a loss on the first", comes_and_goes),
    both("C13 settings of an interface that its container asked for hold", settings),
    both("C16 host and container reach each other", host_and_container),
    both("C17 containers that share a namespace share its interfaces and ports", shared),
    both("C17 what a shared namespace can't have is refused in Docker's words", shared_conflicts),
];

/// Echo requests a round, and between two of them: seconds.
const REQUESTS: [&str; 4] = ["-c", "50", "-i", "0.05"];

fn comes_and_goes(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    case.network("other", &["--subnet", "10.52.0.0/24"])?;
    let client = case.run("client", "app", &[])?;
    let neighbour = case.run("neighbour", "other", &[])?;
    let _servers = neighbour.serve()?;
    case.run("web", "app", &[])?;
    let web = case.address("web", "app", false)?.to_string();
    let far = SocketAddr::new(case.address("neighbour", "other", false)?, PORT);
    let mut pinging = client.netns.run(|| {
        let mut command = std::process::Command::new("ping");
        command.args(["-n", "-q"]).args(REQUESTS).arg(&web).stdout(std::process::Stdio::piped());
        Ok(command.spawn()?)
    })?;
    let mut rounds = 0;
    while rounds == 0 || pinging.try_wait()?.is_none() {
        case.ok(&["network", "connect", "other", "client"])?;
        let second = case.address("client", "other", false)?.to_string();
        let [links, hosts] = links_and_hosts(case)?;
        let link = links.lines().find(|line| line.contains(&format!("inet {second}/")));
        // This engine counts on where one of later versions takes the lowest number again.
        let named = if rounds == 0 { ": eth1" } else { ": eth" };
        ensure!(link.is_some_and(|line| line.contains(named)), "{second}: {links}");
        ensure!(hosts.contains(&second), "{second}: {hosts}");
        reaches(&client.netns, far)?;
        case.ok(&["network", "disconnect", "other", "client"])?;
        let [links, hosts] = links_and_hosts(case)?;
        ensure!(!links.contains(&second) && !hosts.contains(&second), "{links} {hosts}");
        rounds += 1;
    }
    let said = String::from_utf8(pinging.wait_with_output()?.stdout)?;
    ensure!(said.contains("50 received"), "{rounds} rounds: {said}");
    Ok(())
}

/// What the client has of its networks.
fn links_and_hosts(case: &Case<'_, '_>) -> Result<[String; 2]> {
    let links = case.exec("client", &["ip", "-o", "address"])?.stdout;
    Ok([links, case.exec("client", &["cat", "/etc/hosts"])?.stdout])
}

/// Engines from 27 on take such settings as options of the endpoint, too.
fn settings(case: &Case<'_, '_>) -> Result<()> {
    const SETTINGS: [(&str, &str); 2] =
        [("net.ipv4.conf.eth0.rp_filter", "2"), ("net.ipv4.conf.eth0.arp_announce", "1")];
    case.network("app", &[])?;
    let asked = SETTINGS.map(|(key, value)| format!("{key}={value}"));
    let words: Vec<&str> = asked.iter().flat_map(|setting| ["--sysctl", setting]).collect();
    let client = case.run("client", "app", &words)?;
    let hold = || -> Result<()> {
        for (key, value) in SETTINGS {
            let file = format!("/proc/sys/{}", key.replace('.', "/"));
            let held = case.exec("client", &["cat", &file])?.stdout;
            ensure!(held.trim() == value, "{key} is {held}");
        }
        Ok(())
    };
    hold()?;
    // A daemon that looks at everything anew leaves them, too.
    case.rig.crash_daemon()?;
    case.rig.start_daemon()?;
    case.run("other", "app", &[])?;
    ensure!(client.pings(case.address("other", "app", false)?)?, "no echo");
    hold()
}

fn host_and_container(case: &Case<'_, '_>) -> Result<()> {
    case.dual("app", 51)?;
    let web = case.run("web", "app", &[])?;
    let _servers = web.serve()?;
    let host = case.rig.host.netns();
    let gateways: [IpAddr; 2] = [[10, 51, 0, 1].into(), "fd00:51::1".parse()?];
    for (v6, gateway) in [false, true].into_iter().zip(gateways) {
        let container = case.address("web", "app", v6)?;
        reaches(host, SocketAddr::new(container, PORT))?;
        ensure!(case.rig.host.pings(container)?, "no echo from {container}");
        for address in [gateway, case.uplinks()[usize::from(v6)]] {
            // On all addresses at once a server would answer datagrams by that of the way back.
            let target = SocketAddr::new(address, 9100);
            let _of_host = (tcp_echo_server(host, target)?, udp_echo_server(host, target)?);
            reaches(&web.netns, target).context("from the container")?;
            ensure!(web.pings(address)?, "no echo from {address}");
        }
    }
    Ok(())
}

fn shared(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &["--subnet", "10.51.0.0/24"])?;
    let web = case.run("web", "app", &["-p", "8080:7000", "-p", "8080:7000/udp"])?;
    let side = case.run("side", "container:web", &[])?;
    let shown = |name| Ok::<_, anyhow::Error>(case.exec(name, &["ip", "address"])?.stdout);
    ensure!(shown("web")? == shown("side")?, "{} {}", shown("web")?, shown("side")?);
    let servers = side.serve()?;
    let published = SocketAddr::new(case.uplinks()[0], 8080);
    reaches(case.rig.outside.netns(), published)?;
    drop(servers);
    // The namespace is the first one's: the other may go, and come again.
    case.ok(&["rm", "-f", "side"])?;
    let _servers = web.serve()?;
    reaches(case.rig.outside.netns(), published)?;
    case.run("side", "container:web", &[]).map(drop)
}

fn shared_conflicts(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &[])?;
    case.run("web", "app", &[])?;
    case.run("stopped", "app", &[])?;
    case.ok(&["stop", "-t", "0", "stopped"])?;
    let conflicts: [(&[&str], &str); 5] = [
        (&["-p", "80:80"], "port publishing and the container type network mode"),
        (&["--expose", "80"], "port exposing and the container type network mode"),
        (&["--hostname", "x"], "hostname and the network mode"),
        (&["--dns", "192.0.2.53"], "dns and the network mode"),
        (&["--add-host", "a:192.0.2.1"], "custom host-to-IP mapping and the network mode"),
    ];
    for (asked, conflict) in conflicts {
        let start = Case::start("side", &[&["--network", "container:web"], asked].concat());
        case.refused_with(&start, &format!("conflicting options: {conflict}"))?;
    }
    for (whose, words) in
        [("nobody", "No such container: nobody"), ("stopped", "of a non running container")]
    {
        let whose = format!("container:{whose}");
        case.refused_with(&Case::start("side", &["--network", &whose]), words)?;
        case.ok(&["rm", "side"])?;
    }
    Ok(())
}
