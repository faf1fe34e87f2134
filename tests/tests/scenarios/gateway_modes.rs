//! How far a network is open: gateway modes, inter-container communication, internal networks.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use netd_tests::container::Transport;
use netd_tests::outside::{ROUTER_V4, ROUTER_V6, WORLD_V4, WORLD_V6};
use netd_tests::wire::{tcp_echo_server, udp_echo_server};
use netd_tests::{Container, Daemon};

use super::{World, container, drops, is_reached, network, pings};

const PORTS: [&str; 4] = ["-p", "8080:7000/tcp", "-p", "8080:7000/udp"];
const SUBNETS: [&str; 4] = ["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"];

/// A network of one gateway mode on both families.
fn of_mode(daemon: &Daemon<'_>, name: &str, mode: &str, arguments: &[&str]) {
    let [v4, v6] = ["ipv4", "ipv6"]
        .map(|family| format!("com.docker.network.bridge.gateway_mode_{family}={mode}"));
    network(daemon, name, &[&["-o", &v4, "-o", &v6], arguments].concat());
}

/// The outside sends packets for the containers' own addresses to the host.
fn lead_outside_to_containers(world: &World) {
    let (v4, v6) = (world.host.v4().to_string(), world.host.v6().to_string());
    world.outside.ip(&["route", "add", "10.77.0.0/24", "via", &v4]).unwrap();
    world.outside.ip(&["-6", "route", "add", "fd77::/64", "via", &v6]).unwrap();
}

/// Whether the outside reaches a container's own addresses on a port: IPv4, IPv6, each by TCP, UDP.
fn reached(world: &World, web: &Container, port: u16) -> [[bool; 2]; 2] {
    let outside = world.outside.netns();
    let of = |addr| Transport::ALL.map(|way| is_reached(outside, SocketAddr::new(addr, port), way));
    web.addresses("app").unwrap().map(of)
}

#[test]
fn routed_network_is_open_for_ping_and_published_ports_with_addresses_kept() {
    let world = World::new();
    let daemon = world.daemon();
    of_mode(&daemon, "app", "routed", &SUBNETS);
    lead_outside_to_containers(&world);
    let web = container(&daemon, "web", "app", &PORTS);
    let _servers = (web.serve_all(7000).unwrap(), web.serve_all(7001).unwrap());
    let clients: [IpAddr; 2] = [ROUTER_V4.into(), ROUTER_V6.into()];
    for (client, target) in clients.into_iter().zip(web.addresses("app").unwrap()) {
        assert!(pings(world.outside.netns(), target), "{target}");
        for transport in Transport::ALL {
            let target = SocketAddr::new(target, 7000);
            let answer = transport.ask(world.outside.netns(), target).unwrap();
            assert_eq!((answer.seen_as.ip(), answer.from), (client, target));
        }
    }
    let before = drops(&daemon, "not_published");
    assert_eq!(reached(&world, &web, 7001), [[false; 2]; 2]);
    assert!(drops(&daemon, "not_published") >= before + 4);
}

#[test]
fn routed_network_ignores_host_ports_says_so_and_is_not_masqueraded() {
    let world = World::new();
    let daemon = world.daemon();
    of_mode(&daemon, "app", "routed", &SUBNETS);
    lead_outside_to_containers(&world);
    let web = container(&daemon, "web", "app", &PORTS);
    let _servers = web.serve_all(7000).unwrap();
    for address in world.uplink() {
        let target = SocketAddr::new(address, 8080);
        assert!(!is_reached(world.outside.netns(), target, Transport::Tcp), "{target}");
        let _own = tcp_echo_server(world.host.netns(), target).unwrap();
        assert!(is_reached(world.outside.netns(), target, Transport::Tcp), "the port is free");
    }
    let told = daemon.ok(&["port", "web"]).unwrap();
    assert!(!told.contains(":8080"), "a host port that is not open is not shown: {told}");
    for (target, own) in
        [WORLD_V4.into(), WORLD_V6.into()].into_iter().zip(web.addresses("app").unwrap())
    {
        let target = SocketAddr::new(target, 7000);
        let _tcp = tcp_echo_server(world.outside.netns(), target).unwrap();
        let _udp = udp_echo_server(world.outside.netns(), target).unwrap();
        for transport in Transport::ALL {
            assert_eq!(transport.ask(&web.netns, target).unwrap().seen_as.ip(), own);
        }
    }
}

#[test]
fn routed_network_is_open_for_other_networks_ping_and_published_ports_with_addresses_kept() {
    let world = World::new();
    let daemon = world.daemon();
    of_mode(&daemon, "app", "routed", &SUBNETS);
    of_mode(&daemon, "other", "routed", &[]);
    network(&daemon, "plain", &[]);
    let web = container(&daemon, "web", "app", &PORTS);
    let _servers = (web.serve_all(7000).unwrap(), web.serve_all(7001).unwrap());
    for (name, home) in [("c1", "other"), ("c2", "plain")] {
        let client = container(&daemon, name, home, &[]);
        let ends = client.addresses(home).unwrap().into_iter().zip(web.addresses("app").unwrap());
        for (own, target) in ends {
            assert!(client.pings(target).unwrap(), "{target} from {home}");
            for transport in Transport::ALL {
                let open = SocketAddr::new(target, 7000);
                let answer = transport.ask(&client.netns, open).unwrap();
                assert_eq!((answer.seen_as.ip(), answer.from), (own, open));
            }
            let before = drops(&daemon, "not_published");
            let closed = SocketAddr::new(target, 7001);
            assert!(!is_reached(&client.netns, closed, Transport::Udp), "{closed} from {home}");
            assert!(drops(&daemon, "not_published") > before, "{closed} from {home}");
        }
    }
    let before = drops(&daemon, "network_isolation");
    let plain = Container::find(&daemon, "c2").unwrap().address("plain", false).unwrap();
    assert!(!web.pings(plain).unwrap(), "nothing opens a plain network");
    assert!(drops(&daemon, "network_isolation") > before);
}

#[test]
fn routed_network_answers_by_its_own_address_where_another_network_is_the_way_out() {
    let world = World::new();
    let daemon = world.daemon();
    of_mode(&daemon, "app", "routed", &SUBNETS);
    network(&daemon, "out", &[]);
    lead_outside_to_containers(&world);
    let web = container(&daemon, "web", "app", &PORTS);
    daemon.ok(&["network", "connect", "--gw-priority", "1", "out", "web"]).unwrap();
    let clients: [IpAddr; 2] = [ROUTER_V4.into(), ROUTER_V6.into()];
    let before = drops(&daemon, "spoofed_source");
    for (client, own) in clients.into_iter().zip(web.addresses("app").unwrap()) {
        let target = SocketAddr::new(own, 7000);
        let _tcp = tcp_echo_server(&web.netns, target).unwrap();
        let _udp = udp_echo_server(&web.netns, target).unwrap();
        assert!(pings(world.outside.netns(), own), "{own}");
        for transport in Transport::ALL {
            let answer = transport.ask(world.outside.netns(), target).unwrap();
            assert_eq!((answer.seen_as.ip(), answer.from), (client, target), "{transport:?}");
            assert!(is_reached(world.host.netns(), target, transport), "{target} from the host");
        }
    }
    // What the container asks by itself leaves by its way out, in the host's name.
    for (target, host) in [WORLD_V4.into(), WORLD_V6.into()].into_iter().zip(world.uplink()) {
        let target = SocketAddr::new(target, 7000);
        let _tcp = tcp_echo_server(world.outside.netns(), target).unwrap();
        assert_eq!(Transport::Tcp.ask(&web.netns, target).unwrap().seen_as.ip(), host);
    }
    assert_eq!(drops(&daemon, "spoofed_source"), before);
}

#[test]
fn unprotected_network_is_open_on_every_port_and_masqueraded_on_the_way_out() {
    let world = World::new();
    let daemon = world.daemon();
    of_mode(&daemon, "app", "nat-unprotected", &SUBNETS);
    lead_outside_to_containers(&world);
    let web = container(&daemon, "web", "app", &PORTS);
    let _servers = (web.serve_all(7000).unwrap(), web.serve_all(7001).unwrap());
    assert_eq!(reached(&world, &web, 7000), [[true; 2]; 2]);
    assert_eq!(reached(&world, &web, 7001), [[true; 2]; 2], "not published");
    for (target, host) in web.addresses("app").unwrap().into_iter().zip(world.uplink()) {
        assert!(pings(world.outside.netns(), target), "{target}");
        for transport in Transport::ALL {
            let published = SocketAddr::new(host, 8080);
            assert!(is_reached(world.outside.netns(), published, transport), "{published}");
        }
    }
    for (target, host) in [WORLD_V4.into(), WORLD_V6.into()].into_iter().zip(world.uplink()) {
        let target = SocketAddr::new(target, 7000);
        let _tcp = tcp_echo_server(world.outside.netns(), target).unwrap();
        assert_eq!(Transport::Tcp.ask(&web.netns, target).unwrap().seen_as.ip(), host);
    }
}

#[test]
fn isolated_network_has_no_address_of_the_host_and_no_way_out() {
    let world = World::new();
    let daemon = world.daemon();
    of_mode(&daemon, "app", "isolated", &[&["--internal"], &SUBNETS[..]].concat());
    let (a, b) = (container(&daemon, "c1", "app", &[]), container(&daemon, "c2", "app", &[]));
    let _servers = b.serve_all(7000).unwrap();
    for target in b.addresses("app").unwrap() {
        for transport in Transport::ALL {
            assert!(is_reached(&a.netns, SocketAddr::new(target, 7000), transport), "{target}");
        }
        assert!(!world.host.pings(target).unwrap(), "the host has no address there: {target}");
    }
    let shown = world.host.exec("ip", &["-o", "address"]).unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(!shown.contains("10.77.0.") && !shown.contains("fd77:"), "{shown}");
    for target in [WORLD_V4.into(), WORLD_V6.into()].into_iter().chain(world.uplink()) {
        assert!(!a.pings(target).unwrap(), "{target}");
    }
}

#[test]
fn trusted_interface_alone_reaches_published_ports_by_the_containers_own_addresses() {
    let world = World::new();
    let second = world.outside.plug_second(&world.host).unwrap();
    let [v4, v6] = second.host_addresses().map(|address| address.to_string());
    let daemon = world.daemon();
    let trust = "com.docker.network.bridge.trusted_host_interfaces=absent0:eth1";
    network(&daemon, "app", &[&["-o", trust], &SUBNETS[..]].concat());
    let web = container(&daemon, "web", "app", &PORTS);
    let _servers = (web.serve_all(7000).unwrap(), web.serve_all(7001).unwrap());
    lead_outside_to_containers(&world);
    assert_eq!(reached(&world, &web, 7000), [[false; 2]; 2], "eth0 is not trusted");
    world.outside.ip(&["route", "replace", "10.77.0.0/24", "via", &v4]).unwrap();
    world.outside.ip(&["-6", "route", "replace", "fd77::/64", "via", &v6]).unwrap();
    assert_eq!(reached(&world, &web, 7000), [[true; 2]; 2]);
    assert_eq!(reached(&world, &web, 7001), [[false; 2]; 2], "not published");
}

#[test]
fn internal_network_opens_no_port_and_says_nothing_of_it() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["--internal"]);
    let create = ["sandbox", "create", "--name", "web", "--network", "app"];
    let said = daemon.cli(&[&create[..], &PORTS].concat()).unwrap();
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    let web = Container::find(&daemon, "web").unwrap();
    let _servers = web.serve_all(7000).unwrap();
    assert_eq!(daemon.ok(&["port", "web"]).unwrap(), "");
    for address in world.uplink() {
        for transport in Transport::ALL {
            let target = SocketAddr::new(address, 8080);
            assert!(!is_reached(world.outside.netns(), target, transport), "{target}");
        }
    }
}

#[test]
fn without_icc_neighbours_reach_published_ports_only() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["-o", "com.docker.network.bridge.enable_icc=false"]);
    let (web, client) =
        (container(&daemon, "web", "app", &PORTS), container(&daemon, "client", "app", &[]));
    let _servers = (web.serve_all(7000).unwrap(), web.serve_all(7001).unwrap());
    for (target, host) in web.addresses("app").unwrap().into_iter().zip(world.uplink()) {
        let before = drops(&daemon, "icc_disabled");
        assert!(!client.pings(target).unwrap(), "{target}");
        for transport in Transport::ALL {
            let of = |port| is_reached(&client.netns, SocketAddr::new(target, port), transport);
            assert_eq!((of(7000), of(7001)), (true, false), "{target} {transport:?}");
            let by_host = SocketAddr::new(host, 8080);
            assert!(is_reached(&client.netns, by_host, transport), "{by_host}");
        }
        assert!(drops(&daemon, "icc_disabled") >= before + 3, "{target}");
    }
}

/// A neighbour on the segment hands the host frames for addresses that are none of its business.
#[test]
fn loopback_published_port_is_closed_to_frames_that_a_neighbour_crafts() {
    use netd_tests::raw::{RawLink, mac};
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &SUBNETS);
    let ports = ["127.0.0.1:8080:7000/udp", "[::1]:8080:7000/udp"];
    let web = container(&daemon, "web", "app", &["-p", ports[0], "-p", ports[1]]);
    let servers = web.netns.run(|| Ok(UdpSocket::bind("[::]:7000")?)).unwrap();
    servers.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let neighbour = RawLink::open(world.outside.netns(), "h1").unwrap();
    let to = mac(world.host.netns(), "eth0").unwrap();
    let from = mac(world.outside.netns(), "h1").unwrap();
    let [own_v4, own_v6] = web.addresses("app").unwrap();
    let frame = |src: IpAddr, dst: IpAddr, port: u16| {
        let link = etherparse::PacketBuilder::ethernet2(from, to);
        let head = match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => link.ipv4(src.octets(), dst.octets(), 64),
            (IpAddr::V6(src), IpAddr::V6(dst)) => link.ipv6(src.octets(), dst.octets(), 64),
            _ => unreachable!("both of one family"),
        };
        let mut frame = Vec::new();
        head.udp(5000, port).write(&mut frame, b"crafted").unwrap();
        frame
    };
    let loopback: [IpAddr; 2] = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    let crafted = [
        frame(ROUTER_V4.into(), loopback[0], 8080),
        frame(loopback[0], loopback[0], 8080),
        frame(ROUTER_V4.into(), own_v4, 7000),
        frame(loopback[0], own_v4, 7000),
        frame(ROUTER_V6.into(), loopback[1], 8080),
        frame(loopback[1], loopback[1], 8080),
        frame(ROUTER_V6.into(), own_v6, 7000),
        frame(loopback[1], own_v6, 7000),
    ];
    neighbour.send(&crafted).unwrap();
    let heard = servers.recv_from(&mut [0; 64]);
    assert!(heard.is_err(), "a crafted frame reached the container: {heard:?}");
    assert!(drops(&daemon, "not_published") >= 4, "those for its own address are counted");
}
