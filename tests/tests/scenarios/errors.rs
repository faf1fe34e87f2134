//! ICMP errors: they find who must hear them, through masquerade and published ports.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netd_tests::outside::{WORLD_V4, WORLD_V6};
use netd_tests::path::{FAR_V4, FAR_V6, Far, ping, told};
use netd_tests::process::run;
use netd_tests::wire::{tcp_echo_server, tcp_request};

use super::{World, container, network};

const FAR: [IpAddr; 2] = [IpAddr::V4(FAR_V4), IpAddr::V6(FAR_V6)];

#[test]
fn unreachable_port_is_told_through_masquerade_and_through_a_published_port() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let a = container(&daemon, "c1", "app", &["-p", "8080:7000/udp"]);
    let neighbour = container(&daemon, "c2", "app", &[]);
    let refused = Some(ErrorKind::ConnectionRefused);
    for target in [WORLD_V4.into(), WORLD_V6.into()] {
        assert_eq!(told(&a.netns, SocketAddr::new(target, 7001)).unwrap(), refused, "{target}");
    }
    for host in world.uplink() {
        let target = SocketAddr::new(host, 8080);
        assert_eq!(told(world.outside.netns(), target).unwrap(), refused, "{target} from outside");
        assert_eq!(told(&neighbour.netns, target).unwrap(), refused, "{target} from a neighbour");
    }
}

#[test]
fn path_mtu_is_discovered_through_masquerade_and_through_a_published_port() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let a = container(&daemon, "c1", "app", &["-p", "8080:7000"]);
    let _servers = a.serve_all(7000).unwrap();
    let far = Far::behind(&world.outside).unwrap();
    let payload = vec![0x5a; 300_000];
    for (target, host) in FAR.into_iter().zip(world.uplink()) {
        let target = SocketAddr::new(target, 7000);
        let _server = tcp_echo_server(far.netns(), target).unwrap();
        let answer = tcp_request(&a.netns, target, &payload).unwrap();
        assert!(answer.echo == payload, "{target}: the echo differs");
        let published = SocketAddr::new(host, 8080);
        let answer = tcp_request(far.netns(), published, &payload).unwrap();
        assert!(answer.echo == payload, "{published}: the echo differs");
    }
    for target in FAR.map(|target| target.to_string()) {
        let known = a.netns.run(|| run("ip", &["route", "get", &target])).unwrap();
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
        [(IpAddr::from(WORLD_V4), "From 10.77.0.1"), (IpAddr::from(WORLD_V6), "From fd77::1")]
    {
        let first = ping(&a.netns, target, 1).unwrap();
        let counted = daemon.ok(&["status", "--format", "json"]).unwrap();
        assert!(first.contains(gateway) && first.contains("exceeded"), "{first}{counted}");
        let second = ping(&a.netns, target, 2).unwrap();
        assert!(second.contains(" 0% packet loss"), "{second}");
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
