//! What network cards leave to one another: super-packets, checksums, tags, and sizes.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use netd_common::wire::UDP;
use netd_common::{IfIndex, MacAddr, V4, V6};
use netd_ebpf::testing::Frame;
use netd_ebpf::testing::build::{Ends, see};
use netd_tests::container::Transport;
use netd_tests::outside::{ROUTER_V4, ROUTER_V6, WORLD_V4, WORLD_V6};
use netd_tests::process::{output, run};
use netd_tests::raw::{self, Ear, RawLink, has};
use netd_tests::wire::{tcp_echo_server, tcp_request, udp_echo_server, udp_request};
use netd_tests::{Container, Daemon, Netns, eventually};
use nix::sys::socket::{setsockopt, sockopt};

use super::{World, container, network};

const WORLD: [IpAddr; 2] = [IpAddr::V4(WORLD_V4), IpAddr::V6(WORLD_V6)];
const PUBLISHED: [&str; 4] = ["-p", "8080:7000/tcp", "-p", "8080:7000/udp"];
const MARK: &[u8] = b"marked-by-the-sender";
const LAST: &[u8] = b"last-of-the-sender";

/// From where to where, where it arrives, and at which link of there.
struct Path<'a> {
    name: &'static str,
    from: &'a Netns,
    to: SocketAddr,
    receiver: &'a Netns,
    server: SocketAddr,
    link: &'static str,
}

/// The same network, a published port, and the world, of one family.
fn paths<'a>(world: &'a World, [a, web]: [&'a Container; 2], v6: bool) -> [Path<'a>; 3] {
    let number = usize::from(v6);
    let near = SocketAddr::new(web.address("app", v6).unwrap(), 7000);
    let far = SocketAddr::new(WORLD[number], 7000);
    let published = SocketAddr::new(world.uplink()[number], 8080);
    let outside = world.outside.netns();
    [
        Path {
            name: "neighbour",
            from: &a.netns,
            to: near,
            receiver: &web.netns,
            server: near,
            link: "eth0",
        },
        Path {
            name: "published",
            from: outside,
            to: published,
            receiver: &web.netns,
            server: near,
            link: "eth0",
        },
        Path {
            name: "masqueraded",
            from: &a.netns,
            to: far,
            receiver: outside,
            server: far,
            link: "segment",
        },
    ]
}

fn pair(daemon: &Daemon<'_>, options: &[&str]) -> [Container; 2] {
    network(daemon, "app", options);
    [container(daemon, "client", "app", &[]), container(daemon, "web", "app", &PUBLISHED)]
}

fn longest(frames: &[Vec<u8>]) -> usize {
    frames.iter().map(Vec::len).max().unwrap_or_default()
}

#[test]
fn super_packets_of_tcp_pass_whole_on_every_path() {
    let world = World::new();
    let daemon = world.daemon();
    let [a, web] = pair(&daemon, &[]);
    let payload: Vec<u8> = (0..1_000_000u32).map(|i| i.to_le_bytes()[0]).collect();
    for path in [false, true].into_iter().flat_map(|v6| paths(&world, [&a, &web], v6)) {
        let _server = tcp_echo_server(path.receiver, path.server).unwrap();
        let ear = Ear::open(path.receiver, path.link).unwrap();
        let answer = tcp_request(path.from, path.to, &payload).unwrap();
        assert!(answer.echo == payload, "{} to {}", path.name, path.to);
        let longest = longest(&ear.heard().unwrap());
        assert!(longest > 4_000, "{} to {}: at most {longest} bytes", path.name, path.to);
    }
}

/// Lets every link of the way make super-packets as long as the kernel can.
fn lift_bounds(world: &World, containers: [&Container; 2]) {
    let port = world.host.name().rsplit('-').next().unwrap();
    let outside = [port, "segment"].map(|link| (world.outside.netns(), link));
    let inside = [world.host.netns(), &containers[0].netns, &containers[1].netns];
    for (netns, link) in inside.map(|netns| (netns, "eth0")).into_iter().chain(outside) {
        raw::bound_super_packets(netns, link, 200_000).unwrap();
    }
}

/// The longest frame that is heard while a payload goes there and back.
fn longest_of_transfer(path: &Path<'_>, payload: &[u8], ear: &Ear) -> usize {
    thread::scope(|scope| {
        let asked = scope.spawn(|| tcp_request(path.from, path.to, payload));
        let mut longest_yet = 0;
        while !asked.is_finished() {
            longest_yet = longest_yet.max(longest(&ear.heard().unwrap()));
        }
        let answer = asked.join().unwrap().unwrap();
        assert!(answer.echo == payload, "{} to {}", path.name, path.to);
        longest_yet
    })
}

/// BIG TCP: no field of the header has room for their length.
#[test]
fn super_packets_beyond_64_kilobytes_pass_whole_on_every_path() {
    let world = World::new();
    let daemon = world.daemon();
    let [a, web] = pair(&daemon, &[]);
    lift_bounds(&world, [&a, &web]);
    let payload = vec![0x5a; 20_000_000];
    for path in [false, true].into_iter().flat_map(|v6| paths(&world, [&a, &web], v6)) {
        let _server = tcp_echo_server(path.receiver, path.server).unwrap();
        let ear = Ear::open(path.receiver, path.link).unwrap();
        let found = eventually("a super-packet", Duration::from_secs(30), || {
            Ok((longest_of_transfer(&path, &payload, &ear) > 65_600).then_some(()))
        });
        found.unwrap_or_else(|error| panic!("{} to {}: {error}", path.name, path.to));
    }
    assert_eq!(super::drops(&daemon, "truncated"), 0);
}

#[test]
fn super_packets_of_udp_pass_whole_on_every_path_and_arrive_as_their_datagrams() {
    const SEGMENT: usize = 1_200;
    let world = World::new();
    let daemon = world.daemon();
    let [a, web] = pair(&daemon, &[]);
    let payload: Vec<u8> = (0..10u8).flat_map(|number| [number; SEGMENT]).collect();
    for path in [false, true].into_iter().flat_map(|v6| paths(&world, [&a, &web], v6)) {
        let server = path.receiver.run(|| Ok(UdpSocket::bind(path.server)?)).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let ear = Ear::open(path.receiver, path.link).unwrap();
        let client = path.from.run(|| {
            let any: IpAddr = if path.to.is_ipv6() { [0u16; 8].into() } else { [0u8; 4].into() };
            let socket = UdpSocket::bind((any, 0))?;
            setsockopt(&socket, sockopt::UdpGsoSegment, &i32::try_from(SEGMENT)?)?;
            Ok(socket)
        });
        client.unwrap().send_to(&payload, path.to).unwrap();
        let mut got: Vec<u8> = Vec::new();
        for _ in 0..10 {
            let mut datagram = [0; 2 * SEGMENT];
            let (len, _) = server.recv_from(&mut datagram).unwrap();
            assert_eq!(len, SEGMENT, "{} to {}", path.name, path.to);
            got.extend(&datagram[..len]);
        }
        assert!(got == payload, "{} to {}", path.name, path.to);
        let longest = longest(&ear.heard().unwrap());
        assert!(longest > payload.len(), "{} to {}: at most {longest} bytes", path.name, path.to);
    }
}

fn ethtool(netns: &Netns, arguments: &[&str]) {
    netns.run(|| run("ethtool", arguments)).unwrap();
}

/// All that leaves the host, whose uplink completes checksums itself, has true ones: `see` says so.
fn check_all(frames: Vec<Vec<u8>>, world: &World) {
    let mut checked = 0;
    let host = raw::mac(world.host.netns(), "eth0").unwrap();
    for bytes in frames.into_iter().filter(|frame| frame[6..12] == host) {
        let ethertype = [bytes[12], bytes[13]];
        let proto = if ethertype == [8, 0] { bytes[23] } else { bytes[20] };
        let frame = Frame { bytes, ..Frame::default() };
        match (ethertype, proto) {
            ([8, 0], 1 | 6 | 17) => drop(see::<V4>(&frame)),
            ([0x86, 0xdd], 6 | 17 | 58) => drop(see::<V6>(&frame)),
            _ => continue,
        }
        checked += 1;
    }
    assert!(checked >= 12, "{checked} frames only");
}

#[test]
fn partial_checksums_are_completed_on_every_path() {
    let world = World::new();
    ethtool(world.host.netns(), &["-K", "eth0", "tx", "off"]);
    let daemon = world.daemon();
    let [a, web] = pair(&daemon, &[]);
    for tx in ["on", "off"] {
        for container in [&a, &web] {
            ethtool(&container.netns, &["-K", "eth0", "tx", tx]);
        }
        let ear = Ear::open(world.outside.netns(), "segment").unwrap();
        for path in [false, true].into_iter().flat_map(|v6| paths(&world, [&a, &web], v6)) {
            let _tcp = tcp_echo_server(path.receiver, path.server).unwrap();
            let _udp = udp_echo_server(path.receiver, path.server).unwrap();
            for transport in Transport::ALL {
                let answer = transport.ask(path.from, path.to);
                assert!(answer.is_ok(), "{} to {} {transport:?}, tx {tx}", path.name, path.to);
            }
            assert!(a.pings(path.to.ip()).unwrap(), "{}", path.to);
        }
        check_all(ear.heard().unwrap(), &world);
    }
}

/// A datagram that says "no checksum".
fn unsummed<F: netd_ebpf::testing::build::Build>(
    ends: &Ends<F>,
    dport: u16,
    text: &[u8],
) -> Vec<u8> {
    let len = u16::try_from(8 + text.len()).unwrap();
    let mut payload = [5353, dport, len, 0].map(u16::to_be_bytes).concat();
    payload.extend(text);
    ends.raw(UDP, &payload, None).bytes
}

/// The UDP checksum of the frame with the mark.
fn checksum_of(frames: &[Vec<u8>], at: usize) -> [u8; 2] {
    let frame = frames.iter().find(|frame| has(frame, MARK)).expect("the frame arrives");
    [frame[at + 6], frame[at + 7]]
}

#[test]
fn datagram_without_a_checksum_stays_without_one_through_translation() {
    let world = World::new();
    let daemon = world.daemon();
    let [a, web] = pair(&daemon, &[]);
    let device = daemon.ok(&["network", "inspect", "-f", "{{.Device}}", "app"]).unwrap();
    let mac = |netns: &Netns, link: &str| MacAddr(raw::mac(netns, link).unwrap());
    let (host, client) = (world.host.netns(), &a.netns);
    let outward = (mac(host, &device), mac(client, "eth0"));
    let inward = (mac(host, "eth0"), mac(world.outside.netns(), "segment"));
    let [IpAddr::V4(own), IpAddr::V6(own_v6)] = a.addresses("app").unwrap() else { panic!() };
    let (v4, v6) = (world.host.v4(), world.host.v6());
    let far_v4 =
        Ends::<V4> { macs: outward, src: own.into(), dst: WORLD_V4.into(), ifindex: IfIndex(0) };
    let far_v6 =
        Ends::<V6> { macs: outward, src: own_v6.into(), dst: WORLD_V6.into(), ifindex: IfIndex(0) };
    let at_v4 =
        Ends::<V4> { macs: inward, src: ROUTER_V4.into(), dst: v4.into(), ifindex: IfIndex(0) };
    let at_v6 =
        Ends::<V6> { macs: inward, src: ROUTER_V6.into(), dst: v6.into(), ifindex: IfIndex(0) };
    let inside = RawLink::open(client, "eth0").unwrap();
    let outside = RawLink::open(world.outside.netns(), "segment").unwrap();
    for (frame, at) in [(unsummed(&far_v4, 7000, MARK), 34), (unsummed(&far_v6, 7000, MARK), 54)] {
        let ear = Ear::open(world.outside.netns(), "segment").unwrap();
        inside.send(&[frame]).unwrap();
        assert_eq!(checksum_of(&ear.heard_until(MARK).unwrap(), at), [0, 0], "masqueraded");
    }
    for (frame, at) in [(unsummed(&at_v4, 8080, MARK), 34), (unsummed(&at_v6, 8080, MARK), 54)] {
        let ear = Ear::open(&web.netns, "eth0").unwrap();
        outside.send(&[frame]).unwrap();
        assert_eq!(checksum_of(&ear.heard_until(MARK).unwrap(), at), [0, 0], "published");
    }
    let server = web.netns.run(|| Ok(UdpSocket::bind(("0.0.0.0", 7000))?)).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    outside.send(&[unsummed(&at_v4, 8080, MARK)]).unwrap();
    let (len, from) = server.recv_from(&mut [0; 64]).unwrap();
    assert_eq!((len, from), (MARK.len(), (ROUTER_V4, 5353).into()), "IPv4 takes it");
}

#[test]
fn tagged_frame_at_an_untagged_uplink_reaches_no_published_port() {
    let world = World::new();
    let daemon = world.daemon();
    let [_a, web] = pair(&daemon, &[]);
    let mac = |netns: &Netns, link: &str| MacAddr(raw::mac(netns, link).unwrap());
    let inward = (mac(world.host.netns(), "eth0"), mac(world.outside.netns(), "segment"));
    let outside = RawLink::open(world.outside.netns(), "segment").unwrap();
    let ear = Ear::open(&web.netns, "eth0").unwrap();
    let host = Ear::open(world.host.netns(), "eth0").unwrap();
    let v4 = Ends::<V4> {
        macs: inward,
        src: ROUTER_V4.into(),
        dst: world.host.v4().into(),
        ifindex: IfIndex(0),
    };
    let v6 = Ends::<V6> {
        macs: inward,
        src: ROUTER_V6.into(),
        dst: world.host.v6().into(),
        ifindex: IfIndex(0),
    };
    for plain in [unsummed(&v4, 8080, MARK), unsummed(&v6, 8080, MARK)] {
        for tag in [&[0x81, 0, 0, 5][..], &[0x81, 0, 0, 0], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6]] {
            let mut tagged = plain.clone();
            tagged.splice(12..12, tag.iter().copied());
            outside.send(&[tagged]).unwrap();
        }
    }
    outside.send(&[unsummed(&v4, 8080, LAST)]).unwrap();
    let arrived = host.heard_until(LAST).unwrap().iter().filter(|it| has(it, MARK)).count();
    assert_eq!(arrived, 6, "the host's uplink gets them all");
    assert!(!ear.heard_until(LAST).unwrap().iter().any(|frame| has(frame, MARK)));
}

/// Whether a packet of this length passes in one piece.
fn passes(from: &Netns, target: IpAddr, len: u32) -> bool {
    let headers = if target.is_ipv6() { 48 } else { 28 };
    let (len, target) = ((len - headers).to_string(), target.to_string());
    let mut ping = Command::new("ping");
    ping.args(["-n", "-q", "-c", "1", "-W", "3", "-M", "do", "-s", &len, &target]);
    from.run(|| output(&mut ping, b"")).unwrap().status.success()
}

#[test]
fn network_of_any_mtu_from_1280_to_9000_carries_packets_of_just_that_size() {
    let world = World::new();
    let daemon = world.daemon();
    for mtu in [1280, 1500, 9000] {
        let name = format!("net{mtu}");
        let option = format!("com.docker.network.driver.mtu={mtu}");
        network(&daemon, &name, &["-o", &option]);
        let [a, b] = ["a", "b"].map(|it| container(&daemon, &format!("{it}{mtu}"), &name, &[]));
        let _servers = b.serve_all(7000).unwrap();
        for target in b.addresses(&name).unwrap() {
            assert!(passes(&a.netns, target, mtu), "{target} at {mtu}");
            assert!(!passes(&a.netns, target, mtu + 1), "{target} beyond {mtu}");
            let payload = vec![0x5a; 30_000];
            let target = SocketAddr::new(target, 7000);
            assert!(udp_request(&a.netns, target, &payload).unwrap().echo == payload);
            assert!(tcp_request(&a.netns, target, &payload).unwrap().echo == payload);
        }
    }
}

fn mtu_of(netns: &Netns, link: &str) -> u64 {
    let shown = netns.run(|| run("ip", &["-json", "link", "show", "dev", link])).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    shown[0]["mtu"].as_u64().unwrap()
}

/// Both ends of the host's uplink and the segment behind it.
fn widen(world: &World, mtu: &str) {
    let port = world.host.name().rsplit('-').next().unwrap();
    for link in [port, "segment"] {
        world.outside.ip(&["link", "set", link, "mtu", mtu]).unwrap();
    }
    world.host.ip(&["link", "set", "eth0", "mtu", mtu]).unwrap();
}

#[test]
fn uplink_of_mtu_9000_carries_masqueraded_and_published_packets_of_that_size() {
    let world = World::new();
    widen(&world, "9000");
    let daemon = world.daemon();
    let [a, web] = pair(&daemon, &[]);
    let _servers = web.serve_all(7000).unwrap();
    assert_eq!(mtu_of(&a.netns, "eth0"), 9000);
    for (target, host) in WORLD.into_iter().zip(world.uplink()) {
        assert!(passes(&a.netns, target, 9000), "{target}");
        let ear = Ear::open(&web.netns, "eth0").unwrap();
        let payload = [MARK, &[0x5a; 8_800]].concat();
        let published = SocketAddr::new(host, 8080);
        let answer = udp_request(world.outside.netns(), published, &payload).unwrap();
        assert!(answer.echo == payload, "{published}");
        assert!(longest(&ear.heard_until(MARK).unwrap()) > 8_800, "in one piece");
    }
}

#[test]
fn mtu_of_containers_follows_a_change_of_the_uplinks_link() {
    let world = World::new();
    let daemon = world.daemon();
    let [a, web] = pair(&daemon, &[]);
    let _servers = web.serve_all(7000).unwrap();
    network(&daemon, "small", &["-o", "com.docker.network.driver.mtu=1300"]);
    let fixed = container(&daemon, "fixed", "small", &[]);
    for mtu in [1400u32, 9000, 1280, 1500] {
        widen(&world, &mtu.to_string());
        for container in [&a, &web] {
            eventually("the uplink's MTU", Duration::from_secs(30), || {
                Ok((mtu_of(&container.netns, "eth0") == u64::from(mtu)).then_some(()))
            })
            .unwrap();
        }
        assert_eq!(mtu_of(&fixed.netns, "eth0"), 1300, "it has chosen its own");
        for target in web.addresses("app").unwrap().into_iter().chain(WORLD) {
            assert!(passes(&a.netns, target, mtu), "{target} at {mtu}");
        }
        for host in world.uplink() {
            let payload = vec![0x5a; 100_000];
            let published = SocketAddr::new(host, 8080);
            let answer = tcp_request(world.outside.netns(), published, &payload).unwrap();
            assert!(answer.echo == payload, "{published} at {mtu}");
        }
    }
}

#[test]
fn first_packet_of_a_flow_that_does_not_fit_the_uplink_is_told_what_does() {
    let world = World::new();
    world.host.ip(&["link", "set", "eth0", "mtu", "1400"]).unwrap();
    let daemon = world.daemon();
    let [a, _web] = pair(&daemon, &["-o", "com.docker.network.driver.mtu=1500"]);
    for target in WORLD {
        let before = super::drops(&daemon, "too_big");
        assert!(!passes(&a.netns, target, 1500), "{target}");
        assert_eq!(super::drops(&daemon, "too_big"), before + 1, "{target}");
        let known = a.netns.run(|| run("ip", &["route", "get", &target.to_string()])).unwrap();
        assert!(known.contains("mtu 1400"), "{known}");
        assert!(passes(&a.netns, target, 1400), "{target}");
    }
}
