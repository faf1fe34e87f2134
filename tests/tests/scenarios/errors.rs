//! ICMP errors: they find who must hear them, through masquerade and published ports.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use netd_tests::Netns;
use netd_tests::outside::{WORLD_V4, WORLD_V6};
use netd_tests::process::run;
use netd_tests::wire::{tcp_echo_server, tcp_request};

use super::{World, container, network};

/// What a datagram to a port without a server comes to.
fn told(netns: &Netns, target: SocketAddr) -> Option<ErrorKind> {
    let any: IpAddr = if target.is_ipv6() { [0u16; 8].into() } else { [0u8; 4].into() };
    let socket = netns.run(|| Ok(UdpSocket::bind((any, 0))?)).unwrap();
    socket.connect(target).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket.send(b"anybody?").unwrap();
    socket.recv(&mut [0; 8]).err().map(|error| error.kind())
}

#[test]
fn unreachable_port_is_told_through_masquerade_and_through_a_published_port() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let a = container(&daemon, "c1", "app", &["-p", "8080:7000/udp"]);
    let neighbour = container(&daemon, "c2", "app", &[]);
    let refused = Some(ErrorKind::ConnectionRefused);
    for target in [WORLD_V4.into(), WORLD_V6.into()] {
        assert_eq!(told(&a.netns, SocketAddr::new(target, 7001)), refused, "{target}");
    }
    for host in world.uplink() {
        let target = SocketAddr::new(host, 8080);
        assert_eq!(told(world.outside.netns(), target), refused, "{target} from outside");
        assert_eq!(told(&neighbour.netns, target), refused, "{target} from a neighbour");
    }
}

/// Its addresses.
pub(super) const FAR: [&str; 2] = ["192.0.2.2", "2001:db8:3::2"];

/// A namespace behind a link of the router that takes only short packets, and does not say so.
pub(super) fn far(world: &World) -> Netns {
    let name = format!("{}-far", world.host.name());
    let far = Netns::create(&name).unwrap();
    let link = ["link", "add", "far", "mtu", "1300", "type", "veth", "peer", "name", "eth0"];
    world.outside.ip(&[&link[..], &["mtu", "1500", "netns", &name]].concat()).unwrap();
    let sysctl = ["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];
    world.outside.netns().run(|| run("sysctl", &sysctl)).unwrap();
    world.outside.ip(&["address", "add", "192.0.2.1/24", "dev", "far"]).unwrap();
    world.outside.ip(&["address", "add", "2001:db8:3::1/64", "dev", "far", "nodad"]).unwrap();
    world.outside.ip(&["link", "set", "far", "up"]).unwrap();
    for arguments in [
        &["address", "add", "192.0.2.2/24", "dev", "eth0"][..],
        &["address", "add", "2001:db8:3::2/64", "dev", "eth0", "nodad"],
        &["link", "set", "eth0", "up"],
        &["route", "add", "default", "via", "192.0.2.1"],
        &["-6", "route", "add", "default", "via", "2001:db8:3::1"],
    ] {
        far.run(|| run("ip", arguments)).unwrap();
    }
    far
}

#[test]
fn path_mtu_is_discovered_through_masquerade_and_through_a_published_port() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let a = container(&daemon, "c1", "app", &["-p", "8080:7000"]);
    let _servers = a.serve_all(7000).unwrap();
    let far = far(&world);
    let payload = vec![0x5a; 300_000];
    for (target, host) in FAR.into_iter().zip(world.uplink()) {
        let target = SocketAddr::new(target.parse().unwrap(), 7000);
        let _server = tcp_echo_server(&far, target).unwrap();
        let answer = tcp_request(&a.netns, target, &payload).unwrap();
        assert!(answer.echo == payload, "{target}: the echo differs");
        let published = SocketAddr::new(host, 8080);
        let answer = tcp_request(&far, published, &payload).unwrap();
        assert!(answer.echo == payload, "{published}: the echo differs");
    }
    for target in FAR {
        let known = a.netns.run(|| run("ip", &["route", "get", target])).unwrap();
        assert!(known.contains("mtu 1300"), "{known}");
    }
}

#[test]
fn container_sees_its_gateway_as_the_first_hop_to_the_world() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"]);
    let a = container(&daemon, "c1", "app", &[]);
    for (target, gateway) in
        [(WORLD_V4.to_string(), "From 10.77.0.1"), (WORLD_V6.to_string(), "From fd77::1")]
    {
        let ping = |hops: &str| {
            let arguments = ["-n", "-c", "1", "-W", "2", "-t", hops, &target];
            let mut command = std::process::Command::new("ping");
            command.args(arguments);
            let said = a.netns.run(|| netd_tests::process::output(&mut command, b"")).unwrap();
            String::from_utf8_lossy(&said.stdout).into_owned()
        };
        let first = ping("1");
        let counted = daemon.ok(&["status", "--format", "json"]).unwrap();
        assert!(first.contains(gateway) && first.contains("exceeded"), "{first}{counted}");
        assert!(ping("2").contains(" 0% packet loss"), "{}", ping("2"));
    }
    assert!(super::drops(&daemon, "ttl_exceeded") >= 2);
}

#[test]
fn container_with_a_larger_mtu_than_the_uplink_learns_what_fits() {
    let world = World::new();
    world.host.ip(&["link", "set", "eth0", "mtu", "1400"]).unwrap();
    let daemon = world.daemon();
    network(&daemon, "app", &["-o", "com.docker.network.driver.mtu=1500"]);
    let a = container(&daemon, "c1", "app", &[]);
    for target in [WORLD_V4.into(), WORLD_V6.into()] {
        let target = SocketAddr::new(target, 7000);
        let _server = tcp_echo_server(world.outside.netns(), target).unwrap();
        let payload = vec![0x5a; 300_000];
        let answer = tcp_request(&a.netns, target, &payload);
        // The way back is for the outside to know: what is asserted is the way out.
        let text = target.ip().to_string();
        let known = a.netns.run(|| run("ip", &["route", "get", &text])).unwrap();
        assert!(known.contains("mtu 1400"), "{known}, {answer:?}");
    }
    assert!(super::drops(&daemon, "too_big") >= 2);
}

#[test]
fn destination_without_a_route_is_told_at_once() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let a = container(&daemon, "c1", "app", &[]);
    world.host.ip(&["route", "del", "default"]).unwrap();
    world.host.ip(&["-6", "route", "del", "default"]).unwrap();
    for target in [WORLD_V4.into(), WORLD_V6.into()] {
        let target = SocketAddr::new(target, 7000);
        let asked = a.netns.run(|| {
            Ok(std::net::TcpStream::connect_timeout(&target, Duration::from_secs(2)).map(drop))
        });
        let kind = asked.unwrap().map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::NetworkUnreachable), "{target}");
    }
}
