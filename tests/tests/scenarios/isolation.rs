//! Between networks, and at the border of internal ones: nothing passes, and the drop says why.

use std::net::SocketAddr;

use netd_tests::container::Transport;
use netd_tests::outside::{WORLD_V4, WORLD_V6};
use netd_tests::wire::tcp_echo_server;

use super::{World, container, drops, is_reached, network};

#[test]
fn containers_of_different_networks_are_apart_and_the_drop_says_so() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "one", &[]);
    network(&daemon, "two", &[]);
    let (a, b) = (container(&daemon, "c1", "one", &[]), container(&daemon, "c2", "two", &[]));
    let _servers = b.serve_all(7000).unwrap();
    for target in b.addresses("two").unwrap() {
        let before = drops(&daemon, "network_isolation");
        assert!(!a.pings(target).unwrap());
        for transport in Transport::ALL {
            assert!(!is_reached(&a.netns, SocketAddr::new(target, 7000), transport));
        }
        assert!(drops(&daemon, "network_isolation") >= before + 3, "{target}");
    }
}

#[test]
fn internal_network_has_no_way_out_but_members_and_gateway() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "closed", &["--internal"]);
    let (a, b) = (container(&daemon, "c1", "closed", &[]), container(&daemon, "c2", "closed", &[]));
    let _outside = [WORLD_V4.into(), WORLD_V6.into()]
        .map(|ip| tcp_echo_server(world.outside.netns(), SocketAddr::new(ip, 7000)).unwrap());
    for target in b.addresses("closed").unwrap() {
        assert!(a.pings(target).unwrap());
    }
    for target in [SocketAddr::from((WORLD_V4, 7000)), SocketAddr::from((WORLD_V6, 7000))] {
        assert!(!is_reached(&a.netns, target, Transport::Tcp));
    }
    // Even with a route of its own making.
    for target in [WORLD_V4.to_string(), world.host.v4().to_string()] {
        let gateway = gateway(&daemon, "closed");
        let arguments = ["route", "replace", &target, "via", &gateway];
        a.netns.run(|| netd_tests::process::run("ip", &arguments)).unwrap();
        assert!(!a.pings(target.parse().unwrap()).unwrap());
    }
    assert!(drops(&daemon, "internal_network") > 0);
    assert!(a.pings(gateway(&daemon, "closed").parse().unwrap()).unwrap());
}

fn gateway(daemon: &netd_tests::Daemon<'_>, network: &str) -> String {
    let format = "{{(index .IPAM.Config 0).Gateway}}";
    daemon.ok(&["network", "inspect", "-f", format, network]).unwrap()
}

#[test]
fn outside_reaches_no_container_by_its_own_address() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"]);
    let a = container(&daemon, "c1", "app", &["-p", "8080:7000"]);
    let _servers = a.serve_all(7000).unwrap();
    let (v4, v6) = (world.host.v4().to_string(), world.host.v6().to_string());
    world.outside.ip(&["route", "add", "10.77.0.0/24", "via", &v4]).unwrap();
    world.outside.ip(&["-6", "route", "add", "fd77::/64", "via", &v6]).unwrap();
    for target in a.addresses("app").unwrap() {
        let before = drops(&daemon, "not_published");
        for transport in Transport::ALL {
            assert!(!is_reached(world.outside.netns(), SocketAddr::new(target, 7000), transport));
        }
        assert!(drops(&daemon, "not_published") > before, "{target}");
    }
}

#[test]
fn container_cannot_use_an_address_or_mac_that_is_not_its_own() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["--subnet", "10.77.0.0/24"]);
    let a = container(&daemon, "c1", "app", &["--ip", "10.77.0.10"]);
    let b = container(&daemon, "c2", "app", &["--ip", "10.77.0.11"]);
    let target = b.address("app", false).unwrap();
    assert!(a.pings(target).unwrap());
    let ip = |arguments: &[&str]| {
        a.netns.run(|| netd_tests::process::run("ip", arguments)).unwrap();
    };
    // Beside its own one: what a sandbox loses, netd puts back.
    ip(&["address", "add", "10.77.0.99/24", "dev", "eth0"]);
    assert!(!a.pings_from([10, 77, 0, 99].into(), target).unwrap());
    // Already its question for the neighbour's MAC is a lie.
    assert!(drops(&daemon, "spoofed_neighbor") + drops(&daemon, "spoofed_source") > 0);
    ip(&["address", "del", "10.77.0.99/24", "dev", "eth0"]);
    assert!(a.pings(target).unwrap());
    let before = drops(&daemon, "spoofed_source");
    ip(&["link", "set", "eth0", "address", "02:00:00:00:00:99"]);
    assert!(!a.pings(target).unwrap());
    assert!(drops(&daemon, "spoofed_source") > before);
}
