//! An uplink without Ethernet headers: a tun device is as good a way in and out as any.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use netd_common::MacAddr;
use netd_tests::container::Transport;
use netd_tests::outside::{WORLD_V4, WORLD_V6};
use netd_tests::wire::{tcp_echo_server, tcp_request, udp_echo_server};
use netd_tests::{Container, Netns, eventually, raw};

use super::fragments::{self, Way};
use super::{World, container, drops, network};

const HOST: [&str; 2] = ["192.0.2.2", "2001:db8:9::2"];
const PEER: [&str; 2] = ["192.0.2.1", "2001:db8:9::1"];
const WORLD: [IpAddr; 2] = [IpAddr::V4(WORLD_V4), IpAddr::V6(WORLD_V6)];

/// Two tun devices, one at the host and one outside, whose packets two programs carry between them.
struct Tunnel {
    carriers: [Child; 2],
}

impl Tunnel {
    /// Digs it, and leads the host's default routes into it.
    fn dig(world: &World) -> Self {
        let ends = ["a", "b"].map(|end| world.host.directory().join(end));
        let carriers = [
            carrier(world.host.netns(), &ends[0], &ends[1]),
            carrier(world.outside.netns(), &ends[1], &ends[0]),
        ];
        let tunnel = Self { carriers };
        for netns in [world.host.netns(), world.outside.netns()] {
            eventually("a tun device", Duration::from_secs(20), || {
                let shown = netns.run(|| netd_tests::process::run("ip", &["link", "show", "tun0"]));
                Ok((shown.is_ok() && ends.iter().all(|end| end.exists())).then_some(()))
            })
            .unwrap();
        }
        let ip = |words: String| {
            let words: Vec<&str> = words.split(' ').collect();
            world.outside.ip(&words).unwrap();
        };
        ip(format!("address add {} peer {} dev tun0", PEER[0], HOST[0]));
        ip(format!("address add {}/64 dev tun0 nodad", PEER[1]));
        ip("link set tun0 up".to_owned());
        let ip = |words: String| {
            let words: Vec<&str> = words.split(' ').collect();
            world.host.ip(&words).unwrap();
        };
        ip(format!("address add {} peer {} dev tun0", HOST[0], PEER[0]));
        ip(format!("address add {}/64 dev tun0 nodad", HOST[1]));
        ip("link set tun0 up".to_owned());
        ip("route replace default dev tun0".to_owned());
        ip("-6 route del default".to_owned());
        ip("-6 route add default dev tun0".to_owned());
        tunnel
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        for carrier in &mut self.carriers {
            // One that has ended already is as good.
            let _ended = carrier.kill();
            let _ended = carrier.wait();
        }
    }
}

/// Carries the packets of `tun0` to and from a socket.
fn carrier(netns: &Netns, own: &Path, other: &Path) -> Child {
    let peer = format!("UNIX-SENDTO:{},bind={}", other.display(), own.display());
    let mut command = Command::new("socat");
    command.args(["-b", "65536", "TUN,tun-name=tun0,iff-no-pi", &peer]);
    netns.run(|| Ok(command.spawn()?)).unwrap()
}

fn published(daemon: &netd_tests::Daemon<'_>) -> Container {
    network(daemon, "app", &[]);
    container(daemon, "web", "app", &["-p", "8080:7000/tcp", "-p", "8080:7000/udp"])
}

#[test]
fn uplink_without_mac_carries_masqueraded_and_published_traffic_both_ways() {
    let world = World::new();
    let _tunnel = Tunnel::dig(&world);
    let daemon = world.daemon();
    let web = published(&daemon);
    let _servers = web.serve_all(7000).unwrap();
    let payload: Vec<u8> = (0..200_000u32).map(|i| i.to_le_bytes()[0]).collect();
    for (number, target) in WORLD.into_iter().enumerate() {
        let [host, peer] = [HOST, PEER].map(|it| it[number].parse::<IpAddr>().unwrap());
        assert!(web.pings(target).unwrap(), "{target}");
        let target = SocketAddr::new(target, 7000);
        let _tcp = tcp_echo_server(world.outside.netns(), target).unwrap();
        let _udp = udp_echo_server(world.outside.netns(), target).unwrap();
        let published = SocketAddr::new(host, 8080);
        for transport in Transport::ALL {
            let answer = transport.ask(&web.netns, target).unwrap();
            assert_eq!((answer.seen_as.ip(), answer.from), (host, target), "{transport:?}");
            let answer = transport.ask(world.outside.netns(), published).unwrap();
            assert_eq!((answer.seen_as.ip(), answer.from), (peer, published), "{transport:?}");
        }
        assert!(tcp_request(&web.netns, target, &payload).unwrap().echo == payload);
        assert!(tcp_request(world.outside.netns(), published, &payload).unwrap().echo == payload);
    }
}

/// A first fragment goes to its hook again, without the Ethernet header that it was given there.
#[test]
fn fragments_that_arrive_in_any_order_by_an_uplink_without_mac_reach_a_published_port() {
    let world = World::new();
    let _tunnel = Tunnel::dig(&world);
    let daemon = world.daemon();
    let web = published(&daemon);
    for family in 0..2 {
        let server = fragments::listener(&web.netns, fragments::any(family, 7_000));
        let [host, peer] = [HOST, PEER].map(|it| it[family].parse::<IpAddr>().unwrap());
        let nobody = MacAddr([0; 6]);
        let way = Way {
            macs: (nobody, nobody),
            ends: (SocketAddr::new(peer, 5_353), SocketAddr::new(host, 8_080)),
        };
        for (number, order) in fragments::ORDERS.into_iter().enumerate() {
            let payload = fragments::text(number);
            let pieces = way.cut(fragments::id(family, number), &payload);
            for piece in order {
                raw::send_packet(world.outside.netns(), host, &pieces[piece][14..]).unwrap();
            }
            let from = fragments::expect(&server, &payload, &format!("{order:?}, {family}"));
            assert_eq!(from, way.ends.0);
        }
    }
    for reason in ["fragment_unknown", "fragment_overlap", "fragment_duplicate"] {
        assert_eq!(drops(&daemon, reason), 0, "{reason}");
    }
}

#[test]
fn uplink_without_mac_leaves_the_hosts_own_traffic_alone_and_containers_closed() {
    let world = World::new();
    let _tunnel = Tunnel::dig(&world);
    let daemon = world.daemon();
    network(&daemon, "app", &["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"]);
    let web = container(&daemon, "web", "app", &[]);
    let _servers = web.serve_all(7000).unwrap();
    world.outside.ip(&["route", "add", "10.77.0.0/24", "dev", "tun0"]).unwrap();
    world.outside.ip(&["-6", "route", "add", "fd77::/64", "dev", "tun0"]).unwrap();
    for (number, target) in web.addresses("app").unwrap().into_iter().enumerate() {
        let own = SocketAddr::new(HOST[number].parse().unwrap(), 7777);
        let _tcp = tcp_echo_server(world.host.netns(), own).unwrap();
        assert!(Transport::Tcp.ask(world.outside.netns(), own).is_ok(), "{own}");
        assert!(world.host.pings(WORLD[number]).unwrap());
        let before = drops(&daemon, "not_published");
        assert!(Transport::Udp.ask(world.outside.netns(), SocketAddr::new(target, 7000)).is_err());
        assert!(drops(&daemon, "not_published") > before, "{target}");
    }
}

#[test]
fn packet_of_the_size_of_an_uplink_without_mac_passes_and_a_longer_one_is_told() {
    let world = World::new();
    let _tunnel = Tunnel::dig(&world);
    world.host.ip(&["link", "set", "tun0", "mtu", "1400"]).unwrap();
    let daemon = world.daemon();
    network(&daemon, "app", &["-o", "com.docker.network.driver.mtu=1500"]);
    let a = container(&daemon, "c1", "app", &[]);
    for (target, headers) in WORLD.into_iter().zip([28, 48]) {
        let ping = |len: u32| {
            let (len, target) = ((len - headers).to_string(), target.to_string());
            let mut ping = Command::new("ping");
            ping.args(["-n", "-q", "-c", "1", "-W", "3", "-M", "do", "-s", &len, &target]);
            let said = a.netns.run(|| netd_tests::process::output(&mut ping, b"")).unwrap();
            said.status.success()
        };
        assert!(ping(1400), "{target}");
        let before = drops(&daemon, "too_big");
        assert!(!ping(1401), "{target}");
        assert_eq!(drops(&daemon, "too_big"), before + 1, "{target}");
    }
}
