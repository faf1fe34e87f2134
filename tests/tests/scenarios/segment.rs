//! A network is an Ethernet segment: multicast, addresses that float, announcements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use netd_tests::process::run;
use netd_tests::{Container, eventually};

use super::{World, container, drops, network};

const MDNS_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const MDNS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);

/// A socket on mDNS's port. A process that another test starts has the one before open for a moment.
fn bound(container: &Container, v6: bool) -> UdpSocket {
    let any: IpAddr = if v6 { [0u16; 8].into() } else { [0u8; 4].into() };
    let bind = || container.netns.run(|| Ok(UdpSocket::bind((any, 5353)).ok()));
    eventually("the port", Duration::from_secs(5), bind).unwrap()
}

/// One that hears the group.
fn listener(container: &Container, v6: bool) -> UdpSocket {
    let socket = bound(container, v6);
    let joined = container.netns.run(|| {
        if v6 {
            let index = nix::net::if_::if_nametoindex("eth0")?;
            socket.join_multicast_v6(&MDNS_V6, index)?;
        } else {
            socket.join_multicast_v4(&MDNS_V4, &Ipv4Addr::UNSPECIFIED)?;
        }
        Ok(())
    });
    joined.unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

#[test]
fn multicast_reaches_all_members_of_the_network_and_nobody_else() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "one", &[]);
    network(&daemon, "two", &[]);
    let [a, b, c] = ["c1", "c2", "c3"].map(|name| container(&daemon, name, "one", &[]));
    let stranger = container(&daemon, "stranger", "two", &[]);
    for v6 in [false, true] {
        let [sender, near, far] = [&a, &b, &stranger].map(|it| listener(it, v6));
        let third = listener(&c, v6);
        let index = a.netns.run(|| Ok(nix::net::if_::if_nametoindex("eth0")?)).unwrap();
        let group: SocketAddr = if v6 {
            std::net::SocketAddrV6::new(MDNS_V6, 5353, 0, index).into()
        } else {
            (MDNS_V4, 5353).into()
        };
        sender.send_to(b"who is there?", group).unwrap();
        for heard in [&near, &third] {
            let (len, from) = heard.recv_from(&mut [0; 64]).unwrap();
            assert_eq!(len, 13);
            assert!(v6 || from.ip() == a.address("one", false).unwrap(), "{from}");
        }
        far.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(far.recv_from(&mut [0; 64]).is_err(), "another network heard it");
    }
}

fn ip(container: &Container, arguments: &[&str]) {
    container.netns.run(|| run("ip", arguments)).unwrap();
}

/// VRRP's way: whoever holds the address announces it as it gets it.
#[test]
fn address_floats_between_two_containers_and_its_announcement_is_followed_at_once() {
    let world = World::new();
    let daemon = world.daemon();
    for (third, mode) in [(77, "mac"), (78, "off")] {
        let subnets = [format!("10.{third}.0.0/24"), format!("fd{third}::/64")];
        let option = format!("netd.anti_spoof={mode}");
        let options = ["--subnet", &subnets[0], "--subnet", &subnets[1], "-o", &option];
        network(&daemon, mode, &options);
        let members =
            ["a", "b", "c"].map(|name| container(&daemon, &format!("{mode}-{name}"), mode, &[]));
        // A link that goes down loses its IPv6 addresses: that family comes last.
        floats(&world, &members, mode, &format!("10.{third}.0.100/24"));
        floats(&world, &members, mode, &format!("fd{third}::100/64"));
    }
}

fn floats(world: &World, [a, b, c]: &[Container; 3], mode: &str, floating: &str) {
    let (text, _) = floating.split_once('/').unwrap();
    let target: IpAddr = text.parse().unwrap();
    ip(a, &["address", "add", floating, "dev", "eth0"]);
    assert!(c.pings(target).unwrap(), "{mode} {text}");
    assert!(world.host.pings(target).unwrap(), "{mode} {text}: from the host");
    ip(a, &["address", "del", floating, "dev", "eth0"]);
    announce_by(b, floating, target.is_ipv6());
    for (name, reached) in [("a member", &c.netns), ("the host", world.host.netns())] {
        let ping = || Ok(run("ping", &["-n", "-q", "-c", "1", "-W", "1", text]).ok());
        let found = eventually(name, Duration::from_secs(5), || reached.run(ping));
        let known = reached.run(|| run("ip", &["neigh"])).unwrap();
        found.unwrap_or_else(|error| panic!("{mode} {text}: {error:#}: {known}"));
    }
    let mac = b.described()["Networks"][mode]["MacAddress"].as_str().unwrap().to_owned();
    let known = c.netns.run(|| run("ip", &["neigh", "show", text])).unwrap();
    assert!(known.contains(&mac), "{mode}: {known}, not {mac}");
}

/// The kernel announces an IPv4 address as its link comes up, an IPv6 one as it is added.
fn announce_by(container: &Container, floating: &str, v6: bool) {
    let notify = if v6 { "ipv6.conf.eth0.ndisc_notify=1" } else { "ipv4.conf.eth0.arp_notify=1" };
    let notify = format!("net.{notify}");
    container.netns.run(|| run("sysctl", &["-qw", &notify])).unwrap();
    ip(container, &["address", "add", floating, "dev", "eth0"]);
    if !v6 {
        ip(container, &["link", "set", "eth0", "down"]);
        ip(container, &["link", "set", "eth0", "up"]);
    }
}

/// A probe of ARP: who has it? Asked by nobody, so that no one learns from it.
fn probe(target: std::net::Ipv4Addr, mac: [u8; 6]) -> Vec<u8> {
    use netd_common::wire::{ARP_REQUEST, Arp, ETHERTYPE_IPV4};
    use netd_common::{Be16, IfIndex, MacAddr};
    let question = Arp {
        hardware: Be16::new(1),
        protocol: ETHERTYPE_IPV4,
        hardware_len: 6,
        protocol_len: 4,
        operation: ARP_REQUEST,
        sender_mac: MacAddr(mac),
        target: Arp::halves(target.into()),
        ..Arp::default()
    };
    netd_ebpf::testing::build::arp((MacAddr::BROADCAST, MacAddr(mac)), &question, IfIndex(0)).bytes
}

#[test]
fn duplicate_address_is_detected_and_a_free_one_is_not() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"]);
    let [a, b] = ["c1", "c2"].map(|name| container(&daemon, name, "app", &[]));
    let mac = netd_tests::raw::mac(&a.netns, "eth0").unwrap();
    let taken = netd_tests::raw::mac(&b.netns, "eth0").unwrap();
    let ear = netd_tests::raw::Ear::open(&a.netns, "eth0").unwrap();
    let IpAddr::V4(held) = b.address("app", false).unwrap() else { panic!() };
    let probes = [probe([10, 77, 0, 99].into(), mac), probe(held, mac)];
    netd_tests::raw::RawLink::open(&a.netns, "eth0").unwrap().send(&probes).unwrap();
    let heard = ear.heard_until(&taken).unwrap();
    let answers: Vec<_> =
        heard.iter().filter(|frame| frame[12..14] == [8, 6] && frame[21] == 2).collect();
    assert!(answers.len() == 1 && answers[0][28..32] == held.octets(), "{answers:?}");
    a.netns.run(|| run("sysctl", &["-qw", "net.ipv6.conf.eth0.accept_dad=1"])).unwrap();
    let held = format!("{}/64", b.address("app", true).unwrap());
    for (address, is_taken) in [(&held[..], true), ("fd77::99/64", false)] {
        ip(&a, &["address", "add", address, "dev", "eth0"]);
        eventually("the end of the detection", Duration::from_secs(20), || {
            let to = address.trim_end_matches("/64");
            let shown = a.netns.run(|| run("ip", &["-6", "address", "show", "to", to]))?;
            let (is_waiting, has_failed) =
                (shown.contains("tentative"), shown.contains("dadfailed"));
            Ok(if is_taken { has_failed } else { !is_waiting && !has_failed }.then_some(()))
        })
        .unwrap();
    }
}

#[test]
fn broadcast_reaches_all_members_of_the_network_and_nobody_else() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "one", &["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"]);
    network(&daemon, "two", &["--subnet", "10.78.0.0/24"]);
    let [a, b, c] = ["c1", "c2", "c3"].map(|name| container(&daemon, name, "one", &[]));
    let stranger = container(&daemon, "stranger", "two", &[]);
    let index = a.netns.run(|| Ok(nix::net::if_::if_nametoindex("eth0")?)).unwrap();
    let all_nodes = std::net::SocketAddrV6::new("ff02::1".parse().unwrap(), 5353, 0, index);
    for target in
        [([255; 4], 5353).into(), ([10, 77, 0, 255], 5353).into(), SocketAddr::from(all_nodes)]
    {
        let hearing = |container: &Container| {
            let socket = bound(container, target.is_ipv6());
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket.set_broadcast(true).unwrap();
            socket
        };
        let [sender, near, third, far] = [&a, &b, &c, &stranger].map(hearing);
        sender.send_to(b"hello all", target).unwrap();
        for heard in [&near, &third] {
            let (len, from) = heard.recv_from(&mut [0; 64]).unwrap();
            assert_eq!(len, 9, "{target} from {from}");
        }
        far.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(far.recv_from(&mut [0; 64]).is_err(), "{target}: another network heard it");
    }
}

#[test]
fn foreign_address_is_refused_where_addresses_are_checked() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"]);
    let (a, b) = (container(&daemon, "c1", "app", &[]), container(&daemon, "c2", "app", &[]));
    for floating in ["10.77.0.100/24", "fd77::100/64"] {
        // An advertisement already has a source that is not its sender's.
        let spoofed = || drops(&daemon, "spoofed_neighbor") + drops(&daemon, "spoofed_source");
        let before = spoofed();
        announce_by(&a, floating, floating.contains(':'));
        let (target, _) = floating.split_once('/').unwrap();
        assert!(!b.pings(target.parse().unwrap()).unwrap());
        assert!(spoofed() > before, "{floating}");
    }
}
