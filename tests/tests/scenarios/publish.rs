//! Published ports: from outside, from containers, from the host, with the client's address kept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netd_tests::container::Transport;
use netd_tests::outside::{ROUTER_V4, ROUTER_V6};
use netd_tests::process::built;
use netd_tests::{Container, Daemon};

use super::{World, container, is_reached, network};

const PORTS: [&str; 4] = ["-p", "8080:7000/tcp", "-p", "8080:7000/udp"];

fn published(daemon: &Daemon<'_>) -> Container {
    network(daemon, "app", &[]);
    container(daemon, "web", "app", &PORTS)
}

#[test]
fn outside_reaches_a_published_port_and_is_seen_with_its_own_address() {
    let world = World::new();
    let daemon = world.daemon();
    let web = published(&daemon);
    let _servers = web.serve_all(7000).unwrap();
    let clients: [IpAddr; 2] = [ROUTER_V4.into(), ROUTER_V6.into()];
    for (client, address) in clients.into_iter().zip(world.uplink()) {
        let target = SocketAddr::new(address, 8080);
        for transport in Transport::ALL {
            let answer = transport.ask(world.outside.netns(), target).unwrap();
            assert_eq!(answer.seen_as.ip(), client, "{transport:?}");
            assert_eq!(answer.from, target, "{transport:?}");
        }
    }
}

#[test]
fn large_transfers_through_a_published_port_arrive_whole() {
    let world = World::new();
    let daemon = world.daemon();
    let web = published(&daemon);
    let _servers = web.serve_all(7000).unwrap();
    let payload: Vec<u8> = (0..4_000_000u32).map(|i| i.to_le_bytes()[0]).collect();
    for address in world.uplink() {
        let target = SocketAddr::new(address, 8080);
        let answer =
            netd_tests::wire::tcp_request(world.outside.netns(), target, &payload).unwrap();
        assert!(answer.echo == payload, "{target}: the echo differs");
    }
}

#[test]
fn unpublished_ports_of_the_host_are_left_alone() {
    let world = World::new();
    let daemon = world.daemon();
    let _web = published(&daemon);
    for address in world.uplink() {
        let own = SocketAddr::new(address, 7777);
        let _server = netd_tests::wire::tcp_echo_server(world.host.netns(), own).unwrap();
        assert!(is_reached(world.outside.netns(), own, Transport::Tcp));
    }
}

#[test]
fn neighbour_reaches_a_published_port_by_host_address_with_its_source_kept() {
    let world = World::new();
    let daemon = world.daemon();
    let web = published(&daemon);
    let _servers = web.serve_all(7000).unwrap();
    let neighbour = container(&daemon, "neighbour", "app", &[]);
    let sources = neighbour.addresses("app").unwrap();
    for (source, address) in sources.into_iter().zip(world.uplink()) {
        let target = SocketAddr::new(address, 8080);
        for transport in Transport::ALL {
            let answer = transport.ask(&neighbour.netns, target).unwrap();
            assert_eq!(answer.seen_as.ip(), source, "{transport:?}");
            assert_eq!(answer.from, target, "{transport:?}");
        }
    }
}

#[test]
fn container_of_another_network_reaches_a_published_port_by_host_and_gateway_addresses() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"]);
    let web = container(&daemon, "web", "app", &PORTS);
    let _servers = web.serve_all(7000).unwrap();
    network(&daemon, "other", &["--subnet", "10.78.0.0/24", "--subnet", "fd78::/64"]);
    let stranger = container(&daemon, "stranger", "other", &[]);
    let gateways = ["10.77.0.1", "fd77::1", "10.78.0.1", "fd78::1"];
    let gateways = gateways.map(|gateway| gateway.parse::<IpAddr>().unwrap());
    for address in world.uplink().into_iter().chain(gateways) {
        let target = SocketAddr::new(address, 8080);
        for transport in Transport::ALL {
            let answer = transport.ask(&stranger.netns, target).unwrap();
            assert_eq!(answer.from, target, "{transport:?}");
        }
    }
}

#[test]
fn container_reaches_itself_through_its_published_port() {
    let world = World::new();
    let daemon = world.daemon();
    let web = published(&daemon);
    let _servers = web.serve_all(7000).unwrap();
    for address in world.uplink() {
        let target = SocketAddr::new(address, 8080);
        for transport in Transport::ALL {
            let answer = transport.ask(&web.netns, target).unwrap();
            assert_eq!(answer.from, target, "{transport:?}");
        }
    }
}

#[test]
fn gateway_address_serves_published_ports_to_containers() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"]);
    let web = container(&daemon, "web", "app", &PORTS);
    let _servers = web.serve_all(7000).unwrap();
    let neighbour = container(&daemon, "neighbour", "app", &[]);
    let gateways: [IpAddr; 2] = ["10.77.0.1".parse().unwrap(), "fd77::1".parse().unwrap()];
    for gateway in gateways {
        let target = SocketAddr::new(gateway, 8080);
        for transport in Transport::ALL {
            assert!(is_reached(&neighbour.netns, target, transport), "{target} {transport:?}");
            assert!(is_reached(&web.netns, target, transport), "{target} {transport:?} itself");
        }
    }
}

#[test]
fn host_processes_reach_a_published_port_on_every_address_of_the_host() {
    let world = World::new();
    let daemon = world.daemon();
    let web = published(&daemon);
    let _servers = web.serve_all(7000).unwrap();
    let [v4, v6] = world.uplink();
    for address in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into(), v4, v6] {
        let target = SocketAddr::new(address, 8080).to_string();
        for transport in Transport::ALL {
            let said = host_says(&world, &[transport.name(), &target, "hello"]);
            let wanted = format!("answered from {target}");
            assert!(said.contains(&wanted), "{transport:?} {target}: {said}");
        }
    }
}

/// What the harness's client says as a process of the host.
fn host_says(world: &World, arguments: &[&str]) -> String {
    let said = world.host.exec(built("wire").unwrap(), arguments).unwrap();
    format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))
}

#[test]
fn sockets_of_both_families_reach_a_published_ipv4_port_of_the_host() {
    let world = World::new();
    let daemon = world.daemon();
    let web = published(&daemon);
    let _servers = web.serve_all(7000).unwrap();
    for address in [Ipv4Addr::LOCALHOST, world.host.v4()] {
        let target = SocketAddr::new(address.to_ipv6_mapped().into(), 8080).to_string();
        let wanted = format!("answered from {address}:8080");
        for transport in Transport::ALL {
            let said = host_says(&world, &[transport.name(), &target, "hello"]);
            assert!(said.contains(&wanted), "{transport:?} {target}: {said}");
        }
    }
}

#[test]
fn socket_bound_to_the_hosts_address_reaches_published_ports_and_one_on_loopback_is_told_no() {
    let world = World::new();
    let daemon = world.daemon();
    let web = published(&daemon);
    let _servers = web.serve_all(7000).unwrap();
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    for (own, loopback) in world.uplink().into_iter().zip(loopback) {
        for target in [own, loopback].map(|ip| SocketAddr::new(ip, 8080).to_string()) {
            for transport in Transport::ALL {
                let ask = |source: IpAddr| {
                    host_says(&world, &["from", &source.to_string(), transport.name(), &target])
                };
                let told = ask(own);
                assert_eq!(told, format!("answered from {target}\n"), "{own} {transport:?}");
                let told = ask(loopback);
                assert!(told.contains("Cannot assign requested address"), "{target}: {told}");
            }
        }
    }
}

#[test]
fn connected_sockets_of_the_host_name_the_peer_that_was_asked_for() {
    let world = World::new();
    let daemon = world.daemon();
    let web = published(&daemon);
    let _servers = web.serve_all(7000).unwrap();
    let [v4, v6] = world.uplink();
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped().into();
    for address in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into(), mapped, v4, v6] {
        let target = SocketAddr::new(address, 8080).to_string();
        for way in ["peer-udp", "peer-tcp"] {
            assert_eq!(host_says(&world, &[way, &target]), format!("peer {target}\n"), "{way}");
        }
    }
}

#[test]
fn specific_address_serves_on_that_address_only() {
    let world = World::new();
    let daemon = world.daemon();
    world.host.ip(&["address", "add", "198.51.100.240/24", "dev", "eth0"]).unwrap();
    network(&daemon, "app", &[]);
    let web = container(&daemon, "web", "app", &["-p", "198.51.100.240:8080:7000"]);
    let _servers = web.serve_all(7000).unwrap();
    let outside = world.outside.netns();
    assert!(is_reached(outside, "198.51.100.240:8080".parse().unwrap(), Transport::Tcp));
    assert!(!is_reached(outside, SocketAddr::new(world.uplink()[0], 8080), Transport::Tcp));
}

#[test]
fn loopback_published_port_serves_host_processes_only() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let web = container(&daemon, "web", "app", &["-p", "127.0.0.1:8080:7000"]);
    let _servers = web.serve_all(7000).unwrap();
    let wire = built("wire").unwrap();
    let asked = world.host.exec(&wire, &["tcp", "127.0.0.1:8080", "hello"]).unwrap();
    assert!(asked.status.success(), "{asked:?}");
    let outside = world.outside.netns();
    assert!(!is_reached(outside, SocketAddr::new(world.uplink()[0], 8080), Transport::Tcp));
    let host = world.host.v4().to_string();
    world.outside.ip(&["route", "add", "127.0.0.2/32", "via", &host]).unwrap();
    assert!(!is_reached(outside, "127.0.0.2:8080".parse().unwrap(), Transport::Tcp));
}

#[test]
fn random_ports_are_found_by_netd_port_and_differ() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let (a, b) = (
        container(&daemon, "c1", "app", &["-p", "7000"]),
        container(&daemon, "c2", "app", &["-p", "7000"]),
    );
    let _servers = (a.serve_all(7000).unwrap(), b.serve_all(7000).unwrap());
    let port = |name: &str| -> u16 {
        let said = daemon.ok(&["port", name, "7000/tcp"]).unwrap();
        let first = said.lines().next().unwrap();
        first.rsplit(':').next().unwrap().parse().unwrap()
    };
    assert_ne!(port("c1"), port("c2"));
    for address in world.uplink() {
        for name in ["c1", "c2"] {
            let target = SocketAddr::new(address, port(name));
            assert!(is_reached(world.outside.netns(), target, Transport::Tcp), "{target}");
        }
    }
}

#[test]
fn fifty_thousand_ports_are_published_one_to_one_without_a_process_or_a_socket_for_them() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let counts = || {
        let sockets = world.host.exec("ss", &["-Haltnu"]).unwrap().stdout;
        let processes = std::fs::read_to_string(world.host.cgroup().join("cgroup.procs")).unwrap();
        (String::from_utf8_lossy(&sockets).lines().count(), processes.lines().count())
    };
    let before = counts();
    let ranges = ["15000-64999:10000-59999/tcp", "15000-64999:10000-59999/udp"];
    let web = container(&daemon, "web", "app", &["-p", ranges[0], "-p", ranges[1]]);
    assert_eq!(counts(), before);
    let _servers = (web.serve_all(10_000).unwrap(), web.serve_all(59_999).unwrap());
    for address in world.uplink() {
        for port in [15_000, 64_999] {
            for transport in Transport::ALL {
                let target = SocketAddr::new(address, port);
                assert!(is_reached(world.outside.netns(), target, transport), "{target}");
            }
        }
    }
    daemon.ok(&["sandbox", "rm", "web"]).unwrap();
    let target = SocketAddr::new(world.uplink()[0], 15_000);
    let _own = netd_tests::wire::tcp_echo_server(world.host.netns(), target).unwrap();
}

#[test]
fn published_port_is_free_again_at_once_when_the_container_is_gone() {
    let world = World::new();
    let daemon = world.daemon();
    let web = published(&daemon);
    let servers = web.serve_all(7000).unwrap();
    let target = SocketAddr::new(world.uplink()[0], 8080);
    assert!(is_reached(world.outside.netns(), target, Transport::Tcp));
    drop(servers);
    daemon.ok(&["sandbox", "rm", "web"]).unwrap();
    assert!(!is_reached(world.outside.netns(), target, Transport::Tcp));
    let again = container(&daemon, "again", "app", &PORTS);
    let _servers = again.serve_all(7000).unwrap();
    for transport in Transport::ALL {
        assert!(is_reached(world.outside.netns(), target, transport));
    }
}

#[test]
fn port_that_is_taken_is_refused_in_dockers_words_and_leaves_nothing() {
    let world = World::new();
    let daemon = world.daemon();
    let _web = published(&daemon);
    let create = ["sandbox", "create", "--name", "second", "--network", "app"];
    let refused = daemon.cli(&[&create[..], &["-p", "8080:80"]].concat()).unwrap();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let wanted = "Bind for 0.0.0.0:8080 failed: port is already allocated";
    assert!(refused.stderr.contains(wanted), "{refused:?}");
    let held = SocketAddr::new(world.uplink()[0], 9090);
    let _server = netd_tests::wire::tcp_echo_server(world.host.netns(), held).unwrap();
    let refused = daemon.cli(&[&create[..], &["-p", "9090:80"]].concat()).unwrap();
    let wanted = "failed to bind host port 0.0.0.0:9090/tcp: address already in use";
    assert!(refused.stderr.contains(wanted), "{refused:?}");
    let names = daemon.ok(&["ps", "--format", "{{.Names}}"]).unwrap();
    assert_eq!(names, "web");
}

#[test]
fn publishers_share_a_port_only_where_addresses_families_or_protocols_differ() {
    let world = World::new();
    world.host.ip(&["address", "add", "198.51.100.240/24", "dev", "eth0"]).unwrap();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let try_port = |name: &str, port: &str| {
        let create = ["sandbox", "create", "--name", name, "--network", "app", "-p", port];
        daemon.cli(&create).unwrap()
    };
    let side_by_side = [
        "127.0.0.1:8080:80",
        "127.0.0.2:8080:80",
        "198.51.100.240:8080:80",
        "[::]:8080:80",
        "0.0.0.0:8080:80/udp",
    ];
    for (number, port) in side_by_side.into_iter().enumerate() {
        let said = try_port(&format!("c{number}"), port);
        assert_eq!(said.code, Some(0), "{port}: {said:?}");
    }
    let refused = [
        ("8080:80", "Bind for 0.0.0.0:8080 failed: port is already allocated"),
        ("127.0.0.1:8080:80", "Bind for 127.0.0.1:8080 failed: port is already allocated"),
        ("127.0.0.9:8080:80/udp", "Bind for 0.0.0.0:8080 failed: port is already allocated"),
        ("[::1]:8080:80", "Bind for :::8080 failed: port is already allocated"),
        ("8000-8100:8000-8100", "Bind for 0.0.0.0:8080 failed: port is already allocated"),
    ];
    for (port, words) in refused {
        let said = try_port("late", port);
        assert!(said.code == Some(1) && said.stderr.contains(words), "{port}: {said:?}");
    }
    let far = try_port("late", "198.51.100.99:8080:80");
    assert!(far.stderr.contains("cannot assign requested address"), "{far:?}");
}

#[test]
fn random_ports_pass_over_reserved_and_used_ones_and_run_out_in_dockers_words() {
    let world = World::new();
    let settings = [("ip_local_port_range", "40000 40004"), ("ip_local_reserved_ports", "40001")];
    for (key, value) in settings {
        let path = format!("/proc/sys/net/ipv4/{key}");
        world.host.netns().run(|| Ok(std::fs::write(path, value)?)).unwrap();
    }
    let used = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 40_003));
    let _used = netd_tests::wire::tcp_echo_server(world.host.netns(), used).unwrap();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let mut ports = Vec::new();
    for number in 0..3 {
        let name = format!("c{number}");
        container(&daemon, &name, "app", &["-p", "7000"]);
        let said = daemon.ok(&["port", &name, "7000/tcp"]).unwrap();
        let of_family = |line: &str| line.rsplit(':').next().unwrap().parse::<u16>().unwrap();
        let both: Vec<u16> = said.lines().map(of_family).collect();
        assert_eq!(both, [both[0]; 2], "one port for both families: {said}");
        ports.push(both[0]);
    }
    ports.sort_unstable();
    assert_eq!(ports, [40_000, 40_002, 40_004]);
    let create = ["sandbox", "create", "--name", "late", "--network", "app", "-p", "7000"];
    let said = daemon.cli(&create).unwrap();
    assert!(said.stderr.contains("all ports are allocated"), "{said:?}");
    daemon.ok(&["sandbox", "rm", "c1"]).unwrap();
    container(&daemon, "late", "app", &["-p", "7000"]);
}

#[test]
fn host_process_cannot_bind_a_published_port() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let _web =
        container(&daemon, "web", "app", &["-p", "8080:7000", "-p", "20000-29999:20000-29999"]);
    let wire = built("wire").unwrap();
    for port in ["8080", "25000"] {
        let served = world.host.exec(&wire, &["serve", port]).unwrap();
        assert!(!served.status.success(), "{port}: {served:?}");
    }
}
