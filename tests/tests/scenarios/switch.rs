//! Within a network: every member reaches every other, by address, with its own address.

use std::net::SocketAddr;

use netd_tests::container::Transport;

use super::{World, container, network};

#[test]
fn members_of_a_network_reach_each_other_with_their_own_addresses() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let (a, b) = (container(&daemon, "c1", "app", &[]), container(&daemon, "c2", "app", &[]));
    let _servers = b.serve_all(7000).unwrap();
    let pairs = a.addresses("app").unwrap().into_iter().zip(b.addresses("app").unwrap());
    for (source, target) in pairs {
        assert!(a.pings(target).unwrap(), "{target} does not answer a ping");
        for transport in Transport::ALL {
            let answer = transport.ask(&a.netns, SocketAddr::new(target, 7000)).unwrap();
            assert_eq!(answer.seen_as.ip(), source, "{transport:?}");
            assert_eq!(answer.from, SocketAddr::new(target, 7000), "{transport:?}");
        }
    }
}

#[test]
fn large_transfers_between_members_arrive_whole() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let (a, b) = (container(&daemon, "c1", "app", &[]), container(&daemon, "c2", "app", &[]));
    let _servers = b.serve_all(7000).unwrap();
    let payload: Vec<u8> = (0..4_000_000u32).map(|i| i.to_le_bytes()[0]).collect();
    for target in b.addresses("app").unwrap() {
        let target = SocketAddr::new(target, 7000);
        let answer = netd_tests::wire::tcp_request(&a.netns, target, &payload).unwrap();
        assert!(answer.echo == payload, "{target}: the echo differs");
    }
}

#[test]
fn datagrams_larger_than_the_mtu_pass_between_members() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let (a, b) = (container(&daemon, "c1", "app", &[]), container(&daemon, "c2", "app", &[]));
    let _servers = b.serve_all(7000).unwrap();
    let payload = vec![0x5a; 8_000];
    for target in b.addresses("app").unwrap() {
        let target = SocketAddr::new(target, 7000);
        let answer = netd_tests::wire::udp_request(&a.netns, target, &payload).unwrap();
        assert_eq!(answer.echo, payload, "{target}");
    }
}

#[test]
fn icc_off_closes_neighbours_but_for_published_ports_and_keeps_the_gateway() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["-o", "com.docker.network.bridge.enable_icc=false"]);
    let a = container(&daemon, "c1", "app", &[]);
    let b = container(&daemon, "c2", "app", &["-p", "7000:7000/tcp", "-p", "7000:7000/udp"]);
    let _open = b.serve_all(7000).unwrap();
    let _closed = b.serve_all(7001).unwrap();
    for target in b.addresses("app").unwrap() {
        assert!(!a.pings(target).unwrap());
        for transport in Transport::ALL {
            transport.ask(&a.netns, SocketAddr::new(target, 7000)).unwrap();
            assert!(transport.ask(&a.netns, SocketAddr::new(target, 7001)).is_err());
        }
    }
    assert!(super::drops(&daemon, "icc_disabled") > 0);
}

#[test]
fn static_addresses_and_mac_are_those_asked_for() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"]);
    let args = ["--ip", "10.77.0.77", "--ip6", "fd77::77", "--mac-address", "02:42:0a:4d:00:4d"];
    let a = container(&daemon, "c1", "app", &args);
    let links = a.netns.run(|| netd_tests::process::run("ip", &["address"])).unwrap();
    for wanted in ["10.77.0.77/24", "fd77::77/64", "02:42:0a:4d:00:4d"] {
        assert!(links.contains(wanted), "{wanted} is missing in\n{links}");
    }
}

#[test]
fn endpoints_come_and_go_while_the_other_network_keeps_working() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "one", &[]);
    network(&daemon, "two", &[]);
    let a = container(&daemon, "c1", "one", &[]);
    let (b, c) = (container(&daemon, "c2", "one", &[]), container(&daemon, "c3", "two", &[]));
    let _servers = (b.serve_all(7000).unwrap(), c.serve_all(7000).unwrap());
    let reaches = |container: &netd_tests::Container, network: &str| {
        container.addresses(network).unwrap().into_iter().all(|target| a.pings(target).unwrap())
    };
    assert!(reaches(&b, "one"));
    daemon.ok(&["network", "connect", "two", "c1"]).unwrap();
    assert!(reaches(&b, "one") && reaches(&c, "two"));
    daemon.ok(&["network", "disconnect", "two", "c1"]).unwrap();
    assert!(reaches(&b, "one"));
    assert!(c.addresses("two").unwrap().into_iter().all(|target| !a.pings(target).unwrap()));
}
