//! Out of the host: masqueraded, with clashing source ports, along the uplink's changes.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use netd_tests::container::Transport;
use netd_tests::outside::{ROUTER_V4, ROUTER_V6, WORLD_V4, WORLD_V6};
use netd_tests::wire::{connect_from, tcp_echo_server, udp_echo_server};
use netd_tests::{Daemon, Netns, eventually};

use super::{World, container, drops, flow_stat, network};

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

#[test]
fn same_source_port_of_two_containers_and_the_host_connects_at_once() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let (a, b) = (container(&daemon, "c1", "app", &[]), container(&daemon, "c2", "app", &[]));
    for target in WORLD {
        let target = SocketAddr::new(target, 7000);
        let _tcp = tcp_echo_server(world.outside.netns(), target).unwrap();
        let clients = [world.host.netns(), &a.netns, &b.netns]
            .map(|it| connect_from(it, 5353, target).unwrap());
        let mut seen = BTreeSet::new();
        for (number, mut client) in clients.into_iter().enumerate() {
            client.write_all(number.to_string().as_bytes()).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            let (peer, echo) = answer.split_once('\n').unwrap();
            assert_eq!(echo, number.to_string());
            assert!(seen.insert(peer.to_owned()), "{peer} twice");
        }
    }
}

/// A tunnel's port is held by a socket of the host, as is any other.
#[test]
fn masquerade_keeps_off_ports_that_the_host_holds_or_publishes() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let a = container(&daemon, "c1", "app", &[]);
    container(&daemon, "web", "app", &["-p", "4790:7000/udp"]);
    let tunnel = SocketAddr::from(([0u16; 8], 4789));
    let _tunnel = udp_echo_server(world.host.netns(), tunnel).unwrap();
    for target in WORLD {
        let target = SocketAddr::new(target, 7000);
        let _udp = udp_echo_server(world.outside.netns(), target).unwrap();
        for port in [4789, 4790] {
            let seen = seen_port(&bind_to(&a.netns, port, target), target).unwrap();
            assert_ne!(seen, port);
        }
        assert_eq!(seen_port(&bind_to(&a.netns, 4791, target), target), Some(4791));
    }
}

#[test]
fn masquerade_ports_run_out_with_a_reason_and_serve_other_remotes_on() {
    let world = World::new();
    let daemon = Daemon::start(&world.host, "snat-ports = \"50000-50255\"").unwrap();
    network(&daemon, "app", &[]);
    let a = container(&daemon, "c1", "app", &[]);
    for (target, other) in WORLD.into_iter().zip([ROUTER_V4.into(), ROUTER_V6.into()]) {
        let target = SocketAddr::new(target, 7000);
        let other = SocketAddr::new(other, 7000);
        let _udp = udp_echo_server(world.outside.netns(), target).unwrap();
        let _other = udp_echo_server(world.outside.netns(), other).unwrap();
        let before = drops(&daemon, "snat_exhausted");
        let mut waiting: Vec<_> =
            (40_000..40_300).map(|port| bind_to(&a.netns, port, target)).collect();
        for client in &waiting {
            client.set_nonblocking(true).unwrap();
            client.send_to(b"?", target).unwrap();
        }
        let dropped = usize::try_from(drops(&daemon, "snat_exhausted") - before).unwrap();
        assert!((300 - 256..200).contains(&dropped), "{dropped} of 300");
        let mut ports = BTreeSet::new();
        eventually("all other answers", Duration::from_secs(10), || {
            waiting.retain(|client| heard_port(client).is_none_or(|port| !ports.insert(port)));
            Ok((ports.len() == 300 - dropped).then_some(()))
        })
        .unwrap();
        assert!(ports.iter().all(|port| (50_000..=50_255).contains(port)), "{ports:?}");
        assert!(seen_port(&bind_to(&a.netns, 39_999, other), other).is_some());
    }
    assert_eq!(flow_stat(&daemon, "snat_exhausted"), drops(&daemon, "snat_exhausted"));
}

/// The port that the other side sees; none without an answer.
fn seen_port(client: &UdpSocket, target: SocketAddr) -> Option<u16> {
    client.send_to(b"?", target).unwrap();
    heard_port(client)
}

/// The port that an answer tells of.
fn heard_port(client: &UdpSocket) -> Option<u16> {
    let mut answer = [0; 128];
    let (len, _) = client.recv_from(&mut answer).ok()?;
    let text = String::from_utf8_lossy(&answer[..len]).into_owned();
    Some(text.lines().next()?.parse::<SocketAddr>().ok()?.port())
}

fn bind(netns: &Netns, target: SocketAddr) -> UdpSocket {
    let socket = bind_to(netns, 5353, target);
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    socket
}

/// A socket on a port, for a target's family.
fn bind_to(netns: &Netns, port: u16, target: SocketAddr) -> UdpSocket {
    let any: IpAddr = if target.is_ipv6() { [0u16; 8].into() } else { [0u8; 4].into() };
    let socket = netns.run(|| Ok(UdpSocket::bind((any, port))?)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
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
    let chosen: [IpAddr; 2] =
        ["198.51.100.240".parse().unwrap(), "2001:db8:1::240".parse().unwrap()];
    world.host.ip(&["address", "add", "198.51.100.240/24", "dev", "eth0"]).unwrap();
    world.host.ip(&["address", "add", "2001:db8:1::240/64", "dev", "eth0", "nodad"]).unwrap();
    let daemon = world.daemon();
    let v4 = format!("com.docker.network.host_ipv4={}", chosen[0]);
    let v6 = format!("com.docker.network.host_ipv6={}", chosen[1]);
    network(&daemon, "app", &["-o", &v4, "-o", &v6]);
    let a = container(&daemon, "c1", "app", &[]);
    for (chosen, target) in chosen.into_iter().zip(WORLD) {
        let target = SocketAddr::new(target, 7000);
        let _tcp = tcp_echo_server(world.outside.netns(), target).unwrap();
        let _udp = udp_echo_server(world.outside.netns(), target).unwrap();
        for transport in Transport::ALL {
            let answer = transport.ask(&a.netns, target).unwrap();
            assert_eq!(answer.seen_as.ip(), chosen, "{transport:?}");
        }
        assert!(a.pings(target.ip()).unwrap(), "{target}");
    }
}

/// Two seconds, a question that came too early and waits in vain, and what a loaded machine takes.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn change_of_the_uplinks_address_is_followed_within_two_seconds() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let a = container(&daemon, "c1", "app", &[]);
    let targets = WORLD.map(|target| SocketAddr::new(target, 7000));
    let _tcp = targets.map(|target| tcp_echo_server(world.outside.netns(), target).unwrap());
    let seen = |target| Transport::Tcp.ask(&a.netns, target).ok().map(|it| it.seen_as.ip());
    assert_eq!(targets.map(seen), world.uplink().map(Some));
    let change = |arguments: &str| {
        world.host.ip(&arguments.split(' ').collect::<Vec<_>>()).unwrap();
    };
    let [old_v4, old_v6] = world.uplink();
    change("address add 2001:db8:1::241/64 dev eth0 nodad");
    change(&format!("address del {old_v6}/64 dev eth0"));
    change(&format!("address del {old_v4}/24 dev eth0"));
    change("address add 198.51.100.241/24 dev eth0");
    change("route replace default via 198.51.100.1");
    change("-6 route replace default via 2001:db8:1::1 dev eth0");
    let new = ["198.51.100.241", "2001:db8:1::241"].map(|it| it.parse::<IpAddr>().unwrap());
    eventually("the new addresses", FOLLOWED_WITHIN, || {
        Ok((targets.map(seen) == new.map(Some)).then_some(()))
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

/// The kernel forgets learned routers as soon as an interface begins to forward IPv6.
#[test]
fn router_that_the_host_has_learned_stays_and_leads_containers_out() {
    let world = World::new();
    world.host.ip(&["-6", "route", "delete", "default"]).unwrap();
    let learned = || -> anyhow::Result<bool> {
        let said = world.host.exec("ip", &["-6", "route", "show", "default", "proto", "ra"])?;
        Ok(!said.stdout.is_empty())
    };
    eventually("the router's advertisement", Duration::from_secs(20), || {
        world.outside.advertise_router(1_800)?;
        Ok(learned()?.then_some(()))
    })
    .unwrap();
    for round in ["first", "second"] {
        let daemon = world.daemon();
        assert!(learned().unwrap(), "lost as the {round} daemon started");
        network(&daemon, round, &[]);
        let a = container(&daemon, round, round, &[]);
        assert!(learned().unwrap(), "lost to a network of the {round} daemon");
        assert!(a.pings(WORLD_V6.into()).unwrap(), "no way out by the router");
        daemon.crash().unwrap();
    }
    let accepts = world.host.exec("sysctl", &["-n", "net.ipv6.conf.eth0.accept_ra"]).unwrap();
    assert_eq!(accepts.stdout, b"1\n");
}
