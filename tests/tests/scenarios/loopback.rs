//! What is published on a loopback address is the host's alone, whatever its neighbours route at it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netd_common::wire::{TCP, TCP_SYN, UDP};
use netd_common::{IfIndex, Ipv4, Ipv6, MacAddr, V4, V6};
use netd_ebpf::testing::build::{Build, Ends};
use netd_tests::container::Transport;
use netd_tests::outside::{ROUTER_V4, ROUTER_V6};
use netd_tests::process::{built, run};
use netd_tests::raw::{self, Ear, RawLink, has};

use super::{World, container, drops, is_reached, network};

const MARK: &[u8] = b"aimed-at-loopback";
const LAST: &[u8] = b"the-last-datagram";

/// A datagram and a SYN with the mark in them.
fn aimed<F: Build>(ends: &Ends<F>, dport: u16, text: &[u8]) -> [Vec<u8>; 2] {
    let len = u16::try_from(8 + text.len()).unwrap();
    let mut datagram = [5353, dport, len, 0].map(u16::to_be_bytes).concat();
    datagram.extend(text);
    let mut syn = [5353, dport, 0, 1, 0, 0].map(u16::to_be_bytes).concat();
    syn.extend([5 << 4, TCP_SYN, 0xff, 0xff, 0, 0, 0, 0]);
    syn.extend(text);
    [ends.raw(UDP, &datagram, Some(6)).bytes, ends.raw(TCP, &syn, Some(16)).bytes]
}

#[test]
fn port_published_on_loopback_is_closed_to_neighbours_that_route_loopback_or_the_container_at_us() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"]);
    let ports = [
        "127.0.0.1:8080:7000/tcp",
        "127.0.0.1:8080:7000/udp",
        "[::1]:8080:7000/tcp",
        "[::1]:8080:7000/udp",
        "9090:7001/udp",
    ];
    let ports: Vec<&str> = ports.iter().flat_map(|port| ["-p", port]).collect();
    let web = container(&daemon, "web", "app", &ports);
    let neighbour = container(&daemon, "neighbour", "app", &[]);
    let _servers = web.serve_all(7000).unwrap();
    let wire = built("wire").unwrap();
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let target = SocketAddr::new(address, 8080).to_string();
        for transport in Transport::ALL {
            let asked = world.host.exec(&wire, &[transport.name(), &target, "hello"]).unwrap();
            assert!(asked.status.success(), "{target} {transport:?}: {asked:?}");
        }
    }
    for host in world.uplink() {
        for from in [world.outside.netns(), &neighbour.netns] {
            assert!(!is_reached(from, SocketAddr::new(host, 8080), Transport::Tcp), "{host}");
        }
    }
    // As whoever serves Kubernetes sets it: without it the stack itself would drop them.
    for routes in ["0", "1"] {
        let sysctl = format!("net.ipv4.conf.eth0.route_localnet={routes}");
        world.host.netns().run(|| run("sysctl", &["-qw", &sysctl])).unwrap();
        from_the_segment(&world, &web);
    }
}

/// Frames to the host's MAC for loopback addresses, for the host's and for the container's own.
fn from_the_segment(world: &World, web: &netd_tests::Container) {
    let mac = |netns: &netd_tests::Netns, link: &str| MacAddr(raw::mac(netns, link).unwrap());
    let macs = (mac(world.host.netns(), "eth0"), mac(world.outside.netns(), "segment"));
    let v4 = |dst: Ipv4| Ends::<V4> { macs, src: ROUTER_V4.into(), dst, ifindex: IfIndex(0) };
    let v6 = |dst: Ipv6| Ends::<V6> { macs, src: ROUTER_V6.into(), dst, ifindex: IfIndex(0) };
    let [IpAddr::V4(own), IpAddr::V6(own_v6)] = web.addresses("app").unwrap() else { panic!() };
    let (host, host_v6) = (world.host.v4(), world.host.v6());
    let mut frames = Vec::new();
    for (dst, port) in [
        (Ipv4Addr::LOCALHOST, 8080),
        (Ipv4Addr::new(127, 0, 0, 2), 8080),
        (Ipv4Addr::new(127, 1, 2, 3), 8080),
        (host, 8080),
        (own, 7000),
        (own, 8080),
    ] {
        frames.extend(aimed(&v4(dst.into()), port, MARK));
    }
    for (dst, port) in [(Ipv6Addr::LOCALHOST, 8080), (host_v6, 8080), (own_v6, 7000)] {
        frames.extend(aimed(&v6(dst.into()), port, MARK));
    }
    let [last, _] = aimed(&v4(host.into()), 9090, LAST);
    frames.push(last);
    let (inside, outside) =
        (Ear::open(&web.netns, "eth0"), Ear::open(world.outside.netns(), "segment"));
    RawLink::open(world.outside.netns(), "segment").unwrap().send(&frames).unwrap();
    let heard = inside.unwrap().heard_until(LAST).unwrap();
    assert!(!heard.iter().any(|frame| has(frame, MARK)), "the container heard one");
    // Sequence number 1 is acknowledged by 2, in a SYN of the other side's own.
    let answers = outside.unwrap().heard().unwrap();
    let is_accepted = |frame: &Vec<u8>| {
        frame.get(47).is_some_and(|flags| flags & 0x12 == 0x12)
            && frame[34..36] == 8080u16.to_be_bytes()
    };
    assert!(!answers.iter().any(is_accepted), "a connection was opened");
}

#[test]
fn container_of_a_port_on_loopback_is_not_reached_by_its_own_address_either() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"]);
    let web =
        container(&daemon, "web", "app", &["-p", "127.0.0.1:8080:7000", "-p", "[::1]:8080:7000"]);
    let _servers = [web.serve_all(7000).unwrap(), web.serve_all(7001).unwrap()];
    let (v4, v6) = (world.host.v4().to_string(), world.host.v6().to_string());
    world.outside.ip(&["route", "add", "10.77.0.0/24", "via", &v4]).unwrap();
    world.outside.ip(&["-6", "route", "add", "fd77::/64", "via", &v6]).unwrap();
    for target in web.addresses("app").unwrap() {
        for port in [7000, 7001, 8080] {
            for transport in Transport::ALL {
                let before = drops(&daemon, "not_published");
                let target = SocketAddr::new(target, port);
                assert!(!is_reached(world.outside.netns(), target, transport), "{target}");
                assert!(drops(&daemon, "not_published") > before, "{target} {transport:?}");
            }
        }
    }
}
