//! Datagrams larger than the MTU, through translation.

use std::net::SocketAddr;

use netd_tests::outside::{WORLD_V4, WORLD_V6};
use netd_tests::wire::{udp_echo_server, udp_request};

use super::{World, container, drops, network};

const DATAGRAM: [u8; 8_000] = [0x5a; 8_000];

#[test]
fn datagrams_of_eight_kilobytes_reach_a_published_port_and_come_back() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let web = container(&daemon, "web", "app", &["-p", "8080:7000/udp"]);
    let _servers = web.serve_all(7000).unwrap();
    for host in world.uplink() {
        let target = SocketAddr::new(host, 8080);
        for _ in 0..20 {
            let answer = udp_request(world.outside.netns(), target, &DATAGRAM).unwrap();
            assert!(answer.echo == DATAGRAM, "{target}: the echo differs");
            assert_eq!(answer.from, target);
        }
    }
}

#[test]
fn datagrams_of_eight_kilobytes_reach_the_world_and_come_back() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let a = container(&daemon, "c1", "app", &[]);
    for (target, host) in [WORLD_V4.into(), WORLD_V6.into()].into_iter().zip(world.uplink()) {
        let target = SocketAddr::new(target, 7000);
        let _server = udp_echo_server(world.outside.netns(), target).unwrap();
        for _ in 0..20 {
            let answer = udp_request(&a.netns, target, &DATAGRAM).unwrap();
            assert!(answer.echo == DATAGRAM, "{target}: the echo differs");
            assert_eq!(answer.seen_as.ip(), host);
        }
    }
    assert_eq!(drops(&daemon, "fragment_unknown"), 0);
}
