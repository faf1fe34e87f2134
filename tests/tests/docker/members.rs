//! Who is on a network: members that come and go while others talk, that share one namespace, and that
//! the host itself talks to.

use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use netd_tests::Netns;
use netd_tests::wire::{tcp_echo_server, udp_echo_server};

use super::case::{Case, PORT, PUBLISHED, Running, reaches};
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
    case.dual("other", 52)?;
    let client = case.run("client", "app", &[])?;
    let neighbour = case.run("neighbour", "other", &[])?;
    let _servers = neighbour.serve()?;
    case.run("web", "app", &[])?;
    let mut pinging = Vec::new();
    for web in case.addresses("web", "app")? {
        pinging.push(ping(&client.netns, web)?);
    }
    let outcome = connect_again_and_again(case, &client, &mut pinging);
    // They end by themselves, however it went.
    let said: Vec<_> = pinging.into_iter().map(Child::wait_with_output).collect();
    outcome?;
    for said in said {
        let said = String::from_utf8(said?.stdout)?;
        ensure!(said.contains("50 received"), "{said}");
    }
    Ok(())
}

/// Starts to send echo requests.
fn ping(from: &Netns, target: IpAddr) -> Result<Child> {
    from.run(|| {
        let mut command = Command::new("ping");
        command.args(["-n", "-q"]).args(REQUESTS).arg(target.to_string()).stdout(Stdio::piped());
        Ok(command.spawn()?)
    })
}

fn connect_again_and_again(
    case: &Case<'_, '_>,
    client: &Running,
    pinging: &mut [Child],
) -> Result<()> {
    let far = case.served("neighbour", "other")?;
    let mut rounds = 0;
    while rounds == 0 || is_running(pinging)? {
        case.ok(&["network", "connect", "other", "client"])?;
        let seconds = case.addresses("client", "other")?.map(|address| address.to_string());
        let [links, hosts] = links_and_hosts(case)?;
        // This engine counts on where one of later versions takes the lowest number again.
        let named = if rounds == 0 { ": eth1" } else { ": eth" };
        for (second, family) in seconds.iter().zip(["inet", "inet6"]) {
            let link = links.lines().find(|line| line.contains(&format!("{family} {second}/")));
            ensure!(link.is_some_and(|line| line.contains(named)), "{second}: {links}");
        }
        // Engines before 27 write no addresses of IPv6 there when a network is added.
        ensure!(hosts.contains(&seconds[0]), "{seconds:?}: {hosts}");
        far.into_iter().try_for_each(|far| reaches(&client.netns, far))?;
        case.ok(&["network", "disconnect", "other", "client"])?;
        let [links, hosts] = links_and_hosts(case)?;
        for second in seconds {
            ensure!(!links.contains(&second) && !hosts.contains(&second), "{links} {hosts}");
        }
        rounds += 1;
    }
    Ok(())
}

fn is_running(pinging: &mut [Child]) -> Result<bool> {
    for child in pinging {
        if child.try_wait()?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the client has of its networks.
fn links_and_hosts(case: &Case<'_, '_>) -> Result<[String; 2]> {
    let links = case.exec("client", &["ip", "-o", "address"])?.stdout;
    Ok([links, case.exec("client", &["cat", "/etc/hosts"])?.stdout])
}

/// Engines from 28 on take such settings as options of the endpoint alone.
fn settings(case: &Case<'_, '_>) -> Result<()> {
    const SETTINGS: [(&str, &str); 2] =
        [("net.ipv4.conf.eth0.rp_filter", "2"), ("net.ipv4.conf.eth0.arp_announce", "1")];
    case.network("app", &[])?;
    let asked = SETTINGS.map(|(key, value)| format!("{key}={value}"));
    let client = if case.rig.engine().major()? < 28 {
        let words: Vec<&str> = asked.iter().flat_map(|setting| ["--sysctl", setting]).collect();
        case.run("client", "app", &words)?
    } else {
        let asked = asked.join(",").replace("eth0", "IFNAME");
        let option = format!("\"driver-opt=com.docker.network.endpoint.sysctls={asked}\"");
        case.run("client", &format!("name=app,{option}"), &[])?
    };
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
    case.dual("app", 51)?;
    let web = case.run("web", "app", &PUBLISHED)?;
    let side = case.run("side", "container:web", &[])?;
    let shown = |name| Ok::<_, anyhow::Error>(case.exec(name, &["ip", "address"])?.stdout);
    ensure!(shown("web")? == shown("side")?, "{} {}", shown("web")?, shown("side")?);
    let served_outside = || {
        let outside = case.rig.outside.netns();
        case.published(8080).into_iter().try_for_each(|target| reaches(outside, target))
    };
    let servers = side.serve()?;
    served_outside()?;
    drop(servers);
    // The namespace is the first one's: the other may go, and come again.
    case.ok(&["rm", "-f", "side"])?;
    let _servers = web.serve()?;
    served_outside()?;
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
