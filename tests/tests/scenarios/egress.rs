//! Out of the host: masqueraded, with clashing source ports, along the uplink's changes.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use netd_tests::container::Transport;
use netd_tests::outside::{WORLD_V4, WORLD_V6};
use netd_tests::wire::{tcp_echo_server, udp_echo_server};
use netd_tests::{Netns, eventually};

use super::{World, container, network};

const WORLD: [IpAddr; 2] = [IpAddr::V4(WORLD_V4), IpAddr::V6(WORLD_V6)];

#[test]
fn container_reaches_the_world_masqueraded_as_the_host() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let a = container(&daemon, "c1", "app", &[]);
    for (target, host) in WORLD.into_iter().zip(world.uplink()) {
        let target = SocketAddr::new(target, 7000);
        let _tcp = tcp_echo_server(world.outside.netns(), target).unwrap();
        let _udp = udp_echo_server(world.outside.netns(), target).unwrap();
        assert!(a.pings(target.ip()).unwrap(), "{target}");
        for transport in Transport::ALL {
            let answer = transport.ask(&a.netns, target).unwrap();
            assert_eq!(answer.seen_as.ip(), host, "{transport:?}");
            assert_eq!(answer.from, target, "{transport:?}");
        }
    }
}

#[test]
fn large_transfers_to_the_world_arrive_whole() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let a = container(&daemon, "c1", "app", &[]);
    let payload: Vec<u8> = (0..4_000_000u32).map(|i| i.to_le_bytes()[0]).collect();
    for target in WORLD {
        let target = SocketAddr::new(target, 7000);
        let _tcp = tcp_echo_server(world.outside.netns(), target).unwrap();
        let answer = netd_tests::wire::tcp_request(&a.netns, target, &payload).unwrap();
        assert!(answer.echo == payload, "{target}: the echo differs");
    }
}

#[test]
fn same_source_port_of_two_containers_and_the_host_works_at_once() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let (a, b) = (container(&daemon, "c1", "app", &[]), container(&daemon, "c2", "app", &[]));
    for target in WORLD {
        let target = SocketAddr::new(target, 7000);
        let _udp = udp_echo_server(world.outside.netns(), target).unwrap();
        let clients = [world.host.netns(), &a.netns, &b.netns].map(|netns| bind(netns, target));
        let mut seen = Vec::new();
        for (number, client) in clients.iter().enumerate() {
            let text = [u8::try_from(number).unwrap()];
            client.send_to(&text, target).unwrap();
            let mut answer = [0; 128];
            let (len, from) = client.recv_from(&mut answer).unwrap();
            assert_eq!((from, answer[len - 1]), (target, text[0]));
            seen.push(answer[..len - 2].to_vec());
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 3, "two clients were seen with one address and port");
    }
}

fn bind(netns: &Netns, target: SocketAddr) -> UdpSocket {
    let any: IpAddr = if target.is_ipv6() { [0u16; 8].into() } else { [0u8; 4].into() };
    let socket = netns.run(|| Ok(UdpSocket::bind((any, 5353))?)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    socket
}

#[test]
fn masquerade_off_keeps_the_containers_address() {
    let world = World::new();
    let daemon = world.daemon();
    let options = ["-o", "com.docker.network.bridge.enable_ip_masquerade=false"];
    let subnets = ["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"];
    network(&daemon, "app", &[&options[..], &subnets].concat());
    let a = container(&daemon, "c1", "app", &[]);
    // The reply has no way back unless the outside routes to us, and the network is open to it.
    let capture = |target: IpAddr| {
        let target = SocketAddr::new(target, 7000);
        let server = world.outside.netns().run(|| Ok(UdpSocket::bind(target)?)).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        bind(&a.netns, target).send_to(b"x", target).unwrap();
        server.recv_from(&mut [0; 8]).unwrap().1.ip()
    };
    for (own, target) in a.addresses("app").unwrap().into_iter().zip(WORLD) {
        assert_eq!(capture(target), own);
    }
}

#[test]
fn chosen_source_addresses_are_used() {
    let world = World::new();
    let daemon = world.daemon();
    world.host.ip(&["address", "add", "198.51.100.240/24", "dev", "eth0"]).unwrap();
    network(&daemon, "app", &["-o", "com.docker.network.host_ipv4=198.51.100.240"]);
    let a = container(&daemon, "c1", "app", &[]);
    let target = SocketAddr::new(WORLD[0], 7000);
    let _tcp = tcp_echo_server(world.outside.netns(), target).unwrap();
    let answer = Transport::Tcp.ask(&a.netns, target).unwrap();
    assert_eq!(answer.seen_as.ip().to_string(), "198.51.100.240");
}

#[test]
fn change_of_the_uplinks_address_is_followed_without_restart() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let a = container(&daemon, "c1", "app", &[]);
    let target = SocketAddr::new(WORLD[0], 7000);
    let _tcp = tcp_echo_server(world.outside.netns(), target).unwrap();
    let old = world.host.v4();
    assert_eq!(Transport::Tcp.ask(&a.netns, target).unwrap().seen_as.ip(), IpAddr::V4(old));
    world.host.ip(&["address", "del", &format!("{old}/24"), "dev", "eth0"]).unwrap();
    world.host.ip(&["address", "add", "198.51.100.241/24", "dev", "eth0"]).unwrap();
    world.host.ip(&["route", "replace", "default", "via", "198.51.100.1"]).unwrap();
    eventually("the new address", Duration::from_secs(10), || {
        let answer = Transport::Tcp.ask(&a.netns, target).ok();
        Ok(answer.filter(|it| it.seen_as.ip().to_string() == "198.51.100.241"))
    })
    .unwrap();
}

#[test]
fn containers_inherit_the_uplinks_mtu() {
    let world = World::new();
    world.host.ip(&["link", "set", "eth0", "mtu", "1400"]).unwrap();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    network(&daemon, "small", &["-o", "com.docker.network.driver.mtu=1300"]);
    for (name, wanted) in [("app", "mtu 1400"), ("small", "mtu 1300")] {
        let a = container(&daemon, &format!("on-{name}"), name, &[]);
        let link = a.netns.run(|| netd_tests::process::run("ip", &["link", "show", "eth0"]));
        let link = link.unwrap();
        assert!(link.contains(wanted), "{link}");
    }
}
