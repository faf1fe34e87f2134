//! The host and its containers: both directions, and the modes that share or lack a network.

use std::net::SocketAddr;
use std::time::Duration;

use netd_tests::container::Transport;
use netd_tests::process::built;
use netd_tests::{Container, eventually};

use super::{World, container, is_reached, network};

/// As `docker rm -f` does: all that runs in it, not only the process that was named.
#[test]
fn removal_of_a_sandbox_ends_what_run_started_in_it() {
    let world = World::new();
    let daemon = world.daemon();
    let both = "sleep 1000 & exec sleep 1000";
    daemon.ok(&["run", "-d", "--name", "job", "--", "sh", "-c", both]).unwrap();
    let job = Container::find(&daemon, "job").unwrap();
    let pid = job.described()["Pid"].as_i64().unwrap();
    let netns = std::fs::metadata(format!("/proc/{pid}/ns/net")).unwrap();
    let both_run = || Ok((members(&netns) == 2).then_some(()));
    eventually("both processes", Duration::from_secs(30), both_run).unwrap();
    assert_eq!(daemon.ok(&["sandbox", "rm", "job"]).unwrap(), "job");
    assert_eq!(members(&netns), 0);
    assert_eq!(daemon.ok(&["ps", "-q"]).unwrap(), "");
    let filled = container(&daemon, "filled", "bridge", &[]);
    let mut other =
        filled.netns.run(|| Ok(std::process::Command::new("sleep").arg("1000").spawn()?)).unwrap();
    daemon.ok(&["sandbox", "rm", "filled"]).unwrap();
    assert!(other.try_wait().unwrap().is_none(), "another runtime's process is its own affair");
    other.kill().unwrap();
    other.wait().unwrap();
}

/// Processes in a namespace.
fn members(netns: &std::fs::Metadata) -> usize {
    use std::os::unix::fs::MetadataExt as _;
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let inside = processes.filter(|process| {
        let found = std::fs::metadata(process.path().join("ns/net"));
        let is_number = process.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit());
        is_number
            && found.is_ok_and(|found| (found.dev(), found.ino()) == (netns.dev(), netns.ino()))
    });
    inside.count()
}

#[test]
fn host_reaches_containers_by_their_own_addresses() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    network(&daemon, "closed", &["--internal"]);
    for name in ["app", "closed"] {
        let a = container(&daemon, &format!("on-{name}"), name, &[]);
        let _servers = a.serve_all(7000).unwrap();
        for target in a.addresses(name).unwrap() {
            assert!(world.host.pings(target).unwrap(), "{name} {target}");
            for transport in Transport::ALL {
                let target = SocketAddr::new(target, 7000);
                assert!(is_reached(world.host.netns(), target, transport), "{name} {target}");
            }
        }
    }
}

#[test]
fn containers_reach_services_of_the_host() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"]);
    let a = container(&daemon, "c1", "app", &[]);
    let [v4, v6] = world.uplink();
    for address in [v4, v6, "10.77.0.1".parse().unwrap(), "fd77::1".parse().unwrap()] {
        let target = SocketAddr::new(address, 7000);
        let _tcp = netd_tests::wire::tcp_echo_server(world.host.netns(), target).unwrap();
        let _udp = netd_tests::wire::udp_echo_server(world.host.netns(), target).unwrap();
        assert!(a.pings(address).unwrap(), "{address}");
        for transport in Transport::ALL {
            assert!(is_reached(&a.netns, target, transport), "{target} {transport:?}");
        }
    }
}

#[test]
fn run_follows_the_life_of_its_command_and_cleans_up() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let run = |command: &str| {
        let arguments =
            ["run", "--name", "job", "--network", "app", "--hostname", "worker", "--", "sh", "-c"];
        daemon.cli(&[&arguments[..], &[command]].concat()).unwrap()
    };
    let said = run("hostname; cat /etc/hosts; ip -br address show eth0; exit 7");
    assert_eq!(said.code, Some(7), "{said:?}");
    for wanted in ["worker", "localhost", "eth0"] {
        assert!(said.stdout.contains(wanted), "{wanted}: {said:?}");
    }
    assert_eq!(run("kill -9 $$").code, Some(137));
    assert_eq!(daemon.ok(&["ps", "-q"]).unwrap(), "");
    assert_eq!(daemon.cli(&["run", "--network", "app", "--", "/no/such"]).unwrap().code, Some(127));
    assert_eq!(daemon.cli(&["run", "--network", "nope", "--", "true"]).unwrap().code, Some(125));
    assert_eq!(daemon.ok(&["ps", "-q"]).unwrap(), "");
}

#[test]
fn detached_run_serves_until_its_process_ends() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let wire = built("wire").unwrap();
    let wire = wire.to_string_lossy();
    let arguments = ["run", "-d", "--name", "web", "--network", "app", "-p", "8080:7000", "--"];
    daemon.ok(&[&arguments[..], &[&wire, "serve", "7000"]].concat()).unwrap();
    for address in world.uplink() {
        let target = SocketAddr::new(address, 8080);
        netd_tests::eventually("the server", std::time::Duration::from_secs(5), || {
            Ok(is_reached(world.outside.netns(), target, Transport::Tcp).then_some(()))
        })
        .unwrap();
    }
    let pid = daemon.ok(&["sandbox", "inspect", "-f", "{{.Pid}}", "web"]).unwrap();
    let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    netd_tests::eventually("the sandbox's end", std::time::Duration::from_secs(10), || {
        Ok(daemon.ok(&["ps", "-q"])?.is_empty().then_some(()))
    })
    .unwrap();
}

#[test]
fn network_none_has_loopback_only_and_host_shares_the_hosts() {
    let world = World::new();
    let daemon = world.daemon();
    let links = |network: &str| {
        let arguments = ["run", "--network", network, "-p", "8080:80", "--", "ip", "-br", "link"];
        daemon.cli(&arguments).unwrap()
    };
    let none = daemon.ok(&["run", "--network", "none", "--", "ip", "-br", "link"]).unwrap();
    assert_eq!(none.lines().count(), 1, "{none}");
    assert!(none.starts_with("lo"), "{none}");
    let host = links("host");
    assert!(host.stdout.contains("eth0"), "{host:?}");
    let warning = "Published ports are discarded when using host network mode";
    assert!(host.stderr.contains(warning), "{host:?}");
}

#[test]
fn namespace_of_another_runtime_is_filled_and_left_behind_on_removal() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let name = format!("{}-foreign", world.host.name());
    let foreign = netd_tests::Netns::create(&name).unwrap();
    let path = foreign.path().to_string_lossy().into_owned();
    let a = container(&daemon, "c1", "app", &["--netns", &path]);
    let b = container(&daemon, "c2", "app", &[]);
    for target in b.addresses("app").unwrap() {
        assert!(a.pings(target).unwrap());
    }
    daemon.ok(&["sandbox", "rm", "c1"]).unwrap();
    let links = foreign.run(|| netd_tests::process::run("ip", &["-br", "link"])).unwrap();
    assert_eq!(links.lines().count(), 1, "{links}");
    netd_tests::Netns::delete(&name).unwrap();
}
