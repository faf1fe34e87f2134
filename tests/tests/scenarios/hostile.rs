//! A container with `CAP_NET_RAW` and `CAP_NET_ADMIN` in its own namespace: whatever it forges, it
//! takes nobody's traffic, leaves its network by no way but its gateway's, and each drop is counted.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use netd_common::wire::{
    ARP_REPLY, ARP_REQUEST, Arp, ETHERTYPE_IPV4, LinkAddressOption, NeighborMessage, TCP, UDP,
};
use netd_common::{Address, Be16, IfIndex, Ipv4, Ipv6, MacAddr, V4, V6};
use netd_ebpf::testing::Frame;
use netd_ebpf::testing::build::{Build, Ends, arp};
use netd_tests::outside::{WORLD_V4, WORLD_V6};
use netd_tests::process::run;
use netd_tests::raw::{self, Ear, RawLink, has};
use netd_tests::{Container, Daemon, eventually};

use super::{World, container, drops, network};

const APP: [&str; 4] = ["--subnet", "10.77.0.0/24", "--subnet", "fd77::/64"];
/// In each forged frame, and in no other.
const FORGED: &[u8] = b"forged-by-mallory";
/// In the frame that follows them.
const LAST: &[u8] = b"last-of-mallory";

/// What the scenes need of a family.
trait Family: Build {
    const V6: bool;
    /// Made of an address of the family.
    fn of(addr: IpAddr) -> Self::Addr;
    /// A loopback address and a group.
    fn nobody() -> [Self::Addr; 2];
}

impl Family for V4 {
    const V6: bool = false;
    fn of(addr: IpAddr) -> Ipv4 {
        let IpAddr::V4(addr) = addr else { panic!("{addr} is of IPv6") };
        addr.into()
    }
    fn nobody() -> [Ipv4; 2] {
        [Ipv4::new([127, 0, 0, 1]), Ipv4::new([224, 0, 0, 251])]
    }
}

impl Family for V6 {
    const V6: bool = true;
    fn of(addr: IpAddr) -> Ipv6 {
        let IpAddr::V6(addr) = addr else { panic!("{addr} is of IPv4") };
        addr.into()
    }
    fn nobody() -> [Ipv6; 2] {
        ["::1", "ff02::fb"].map(|text| Self::of(text.parse().unwrap()))
    }
}

fn mac_text<'c>(container: &'c Container, network: &str) -> &'c str {
    container.described()["Networks"][network]["MacAddress"].as_str().unwrap()
}

fn mac_of(container: &Container, network: &str) -> MacAddr {
    mac(mac_text(container, network))
}

fn mac(text: &str) -> MacAddr {
    let mut octets = text.split(':').map(|part| u8::from_str_radix(part, 16).unwrap());
    MacAddr([(); 6].map(|()| octets.next().unwrap()))
}

fn addr<F: Family>(of: &Container, network: &str) -> F::Addr {
    F::of(of.address(network, F::V6).unwrap())
}

fn gateway<F: Family>() -> F::Addr {
    F::of(if F::V6 { "fd77::1" } else { "10.77.0.1" }.parse().unwrap())
}

fn outside<F: Family>() -> F::Addr {
    F::of(if F::V6 { WORLD_V6.into() } else { WORLD_V4.into() })
}

/// A forger, its neighbour, and a stranger on another network, with an ear at each.
struct Stage<'a> {
    world: &'a World,
    daemon: &'a Daemon<'a>,
    mallory: Container,
    victim: Container,
    stranger: Container,
    link: RawLink,
    ears: [Ear; 3],
    gateway_mac: MacAddr,
}

impl<'a> Stage<'a> {
    fn set(world: &'a World, daemon: &'a Daemon<'a>, options: &[&str]) -> Self {
        network(daemon, "app", &[&APP, options].concat());
        network(daemon, "other", &["--subnet", "10.78.0.0/24", "--subnet", "fd78::/64"]);
        let [mallory, victim] =
            ["mallory", "victim"].map(|name| container(daemon, name, "app", &[]));
        let stranger = container(daemon, "stranger", "other", &[]);
        let device = daemon.ok(&["network", "inspect", "-f", "{{.Device}}", "app"]).unwrap();
        let gateway_mac = MacAddr(raw::mac(world.host.netns(), &device).unwrap());
        let link = RawLink::open(&mallory.netns, "eth0").unwrap();
        let ears = [
            Ear::open(&victim.netns, "eth0").unwrap(),
            Ear::open(&stranger.netns, "eth0").unwrap(),
            Ear::open(world.outside.netns(), "segment").unwrap(),
        ];
        Self { world, daemon, mallory, victim, stranger, link, ears, gateway_mac }
    }

    fn host<F: Family>(&self) -> F::Addr {
        F::of(self.world.uplink()[usize::from(F::V6)])
    }

    /// From the forger to its neighbour, as a honest one would.
    fn to_victim<F: Family>(&self) -> Ends<F> {
        Ends {
            macs: (mac_of(&self.victim, "app"), mac_of(&self.mallory, "app")),
            src: addr::<F>(&self.mallory, "app"),
            dst: addr::<F>(&self.victim, "app"),
            ifindex: IfIndex(0),
        }
    }

    fn via_gateway<F: Family>(&self, dst: F::Addr) -> Ends<F> {
        let honest = self.to_victim::<F>();
        Ends { macs: (self.gateway_mac, honest.macs.1), dst, ..honest }
    }

    /// To all members of the network.
    fn to_all<F: Family>(&self, dst: F::Addr) -> Ends<F> {
        let honest = self.to_victim::<F>();
        Ends { macs: (MacAddr::BROADCAST, honest.macs.1), dst, ..honest }
    }

    fn send(&self, frame: &[u8]) {
        self.link.send(&[frame.to_vec()]).unwrap();
    }

    /// Sends a frame that everyone on the network may hear, after which nothing of an earlier one is
    /// on its way any more.
    fn finish(&self) {
        let group = V4::nobody()[1];
        self.send(&datagram(&self.to_all::<V4>(group), LAST).bytes);
        let outward = datagram(&self.via_gateway::<V4>(outside::<V4>()), LAST);
        self.send(&outward.bytes);
    }

    /// What the victim, the stranger and the outside heard of the forged frames.
    fn heard(&self) -> [bool; 3] {
        self.finish();
        let forged = |frames: Vec<Vec<u8>>| frames.iter().any(|frame| has(frame, FORGED));
        let [victim, stranger, outside] = &self.ears;
        let outside = outside.heard_until(LAST).unwrap();
        [victim.heard_until(LAST).unwrap(), stranger.heard().unwrap(), outside].map(forged)
    }

    /// The frame is dropped for that reason, counted once, and nobody hears of it.
    fn is_dropped(&self, what: &str, frame: &[u8], reason: &str) {
        let before = drops(self.daemon, reason);
        self.send(frame);
        assert_eq!(self.heard(), [false; 3], "{what} was heard");
        assert_eq!(drops(self.daemon, reason), before + 1, "{what} is not counted as {reason}");
    }

    /// The neighbour hears it, and nobody else.
    fn reaches_the_victim(&self, what: &str, frame: &[u8]) {
        self.send(frame);
        assert_eq!(self.heard(), [true, false, false], "{what}");
    }

    /// The victim knows its gateway and its neighbours by their true MACs.
    fn nobody_is_poisoned(&self) {
        for v6 in [false, true] {
            self.victim.pings(self.mallory.address("app", v6).unwrap()).unwrap();
        }
        let known = self.victim.netns.run(|| run("ip", &["neigh", "show", "dev", "eth0"])).unwrap();
        let forger = self.mallory.addresses("app").unwrap().map(|addr| addr.to_string());
        let lies = mac_text(&self.mallory, "app");
        for line in known.lines().filter(|line| line.contains(lies)) {
            let addr = line.split_whitespace().next().unwrap();
            assert!(forger.iter().any(|own| own == addr) || addr.starts_with("fe80"), "{known}");
        }
    }
}

fn datagram<F: Build>(ends: &Ends<F>, text: &[u8]) -> Frame {
    let len = u16::try_from(8 + text.len()).unwrap();
    let mut payload = [5353u16, 5353, len, 0].map(u16::to_be_bytes).concat();
    payload.extend(text);
    ends.raw(UDP, &payload, Some(6))
}

fn forged<F: Build>(ends: &Ends<F>) -> Vec<u8> {
    datagram(ends, FORGED).bytes
}

/// An IPv4 frame with options.
fn with_options(mut frame: Vec<u8>, options: &[u8]) -> Vec<u8> {
    let len = u8::try_from(options.len()).unwrap();
    frame[14] += len / 4;
    frame[17] += len;
    frame.splice(34..34, options.iter().copied());
    mend_header(&mut frame);
    frame
}

/// The checksum of an IPv4 header, anew.
fn mend_header(frame: &mut [u8]) {
    let end = 14 + usize::from(frame[14] & 0xf) * 4;
    frame[24..26].fill(0);
    let words =
        frame[14..end].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    frame[24..26].copy_from_slice(&(!folded).to_be_bytes());
}

/// An IPv6 frame with extension headers; the last of them names what follows.
fn with_extensions(mut frame: Vec<u8>, first: u8, chain: &[u8]) -> Vec<u8> {
    let len = u16::from_be_bytes([frame[18], frame[19]]) + u16::try_from(chain.len()).unwrap();
    frame[18..20].copy_from_slice(&len.to_be_bytes());
    frame[20] = first;
    frame.splice(54..54, chain.iter().copied());
    frame
}

#[test]
fn container_speaks_with_no_address_and_no_mac_but_its_own() {
    let world = World::new();
    let daemon = world.daemon();
    let stage = Stage::set(&world, &daemon, &[]);
    foreign_sources::<V4>(&stage);
    foreign_sources::<V6>(&stage);
}

fn foreign_sources<F: Family>(stage: &Stage<'_>) {
    let honest = stage.to_victim::<F>();
    stage.reaches_the_victim("an honest frame", &forged(&honest));
    let others = [
        addr::<F>(&stage.victim, "app"),
        gateway::<F>(),
        addr::<F>(&stage.stranger, "other"),
        stage.host::<F>(),
        outside::<F>(),
    ];
    for src in others {
        let what = format!("a frame of {:?}", Into::<IpAddr>::into(src));
        stage.is_dropped(&what, &forged(&Ends { src, ..honest }), "spoofed_source");
        let outward = Ends { src, ..stage.via_gateway::<F>(outside::<F>()) };
        stage.is_dropped(&what, &forged(&outward), "spoofed_source");
    }
    for src in [F::Addr::ANY, F::nobody()[0], F::nobody()[1]] {
        stage.is_dropped("a source of nobody", &forged(&Ends { src, ..honest }), "martian_address");
    }
    let mut frame = forged(&honest);
    frame[6..12].copy_from_slice(&honest.macs.0.0);
    stage.is_dropped("the victim's MAC", &frame, "spoofed_source");
}

#[test]
fn container_leaves_its_network_by_no_frame_of_its_making() {
    let world = World::new();
    let daemon = world.daemon();
    let stage = Stage::set(&world, &daemon, &[]);
    ways_out::<V4>(&stage);
    ways_out::<V6>(&stage);
    let honest = forged(&stage.to_victim::<V4>());
    for kind in [131, 137] {
        let Ipv4(hop) = addr::<V4>(&stage.stranger, "other");
        let route = [&[1, kind, 7, 4][..], &hop.to_ne_bytes()].concat();
        let routed = with_options(honest.clone(), &route);
        stage.is_dropped("a source route", &routed, "source_routed");
        let mut by_the_host = forged(&stage.via_gateway::<V4>(stage.host::<V4>()));
        by_the_host = with_options(by_the_host, &route);
        stage.is_dropped("a source route by the host", &by_the_host, "source_routed");
    }
    stage.reaches_the_victim("a timestamp option", &with_options(honest, &[68, 4, 5, 0]));
    let hop = addr::<V6>(&stage.stranger, "other").octets();
    let routing = [&[UDP, 2, 0, 1, 0, 0, 0, 0][..], &hop].concat();
    let honest = forged(&stage.to_victim::<V6>());
    let routed = with_extensions(honest.clone(), 43, &routing);
    stage.is_dropped("a routing header", &routed, "source_routed");
    let hidden = [&[43, 0, 1, 4, 0, 0, 0, 0][..], &routing].concat();
    let routed = with_extensions(honest.clone(), 60, &hidden);
    stage.is_dropped("a routing header behind options", &routed, "source_routed");
    let options = with_extensions(honest, 60, &[UDP, 0, 1, 4, 0, 0, 0, 0]);
    stage.reaches_the_victim("options for the destination", &options);
}

fn ways_out<F: Family>(stage: &Stage<'_>) {
    let stranger = addr::<F>(&stage.stranger, "other");
    let direct = forged(&stage.via_gateway::<F>(stranger));
    stage.is_dropped("a packet for another network", &direct, "network_isolation");
    for dst in [F::Addr::ANY, F::nobody()[0], F::nobody()[1]] {
        let frame = forged(&stage.via_gateway::<F>(dst));
        stage.is_dropped("a packet for nobody", &frame, "martian_address");
    }
    for dst in [stranger, stage.host::<F>(), gateway::<F>(), addr::<F>(&stage.victim, "app")] {
        let frame = forged(&stage.to_all::<F>(dst));
        stage.is_dropped("a packet for one in a frame for all", &frame, "unicast_in_broadcast");
    }
    let plain = forged(&stage.via_gateway::<F>(stranger));
    for tag in [&[0x81, 0, 0, 5][..], &[0x81, 0, 0, 0], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6]] {
        let mut tagged = plain.clone();
        tagged.splice(12..12, tag.iter().copied());
        stage.is_dropped("a tagged frame", &tagged, "unsupported_protocol");
    }
}

#[test]
fn frame_that_lies_about_its_lengths_reaches_nobody() {
    let world = World::new();
    let daemon = world.daemon();
    let stage = Stage::set(&world, &daemon, &[]);
    for ends in [stage.to_victim::<V4>(), stage.via_gateway::<V4>(outside::<V4>())] {
        let honest = forged(&ends);
        for (at, value) in [(14, 0x44), (14, 0x4f), (14, 0x65), (16, 0xff), (17, 19)] {
            let mut frame = honest.clone();
            frame[at] = value;
            stage.is_dropped("a wrong length", &frame, "truncated");
        }
        let options = with_options(honest, &[7, 41, 4, 0]);
        stage.is_dropped("an option beyond its header", &options, "truncated");
        tiny_fragment(&stage, &ends);
    }
    for ends in [stage.to_victim::<V6>(), stage.via_gateway::<V6>(outside::<V6>())] {
        let honest = forged(&ends);
        let mut frame = honest.clone();
        frame[18] = 0xff;
        stage.is_dropped("a wrong length", &frame, "truncated");
        let endless = [60, 0, 1, 4, 0, 0, 0, 0].repeat(12);
        let endless = with_extensions(honest, 60, &endless);
        stage.is_dropped("headers without an end", &endless, "truncated");
        tiny_fragment(&stage, &ends);
    }
}

/// The first sixteen bytes of TCP; what the next fragment would say of the rest, nobody has checked.
/// And whole packets with less than a header, padded as short frames are.
fn tiny_fragment<F: Family>(stage: &Stage<'_>, ends: &Ends<F>) {
    let mut frame = ends.raw(TCP, &[0; 16], None).bytes;
    if F::V6 {
        frame = with_extensions(frame, 44, &[TCP, 0, 0, 1, 0, 0, 0, 7]);
    } else {
        frame[20] = 0x20;
        mend_header(&mut frame);
    }
    frame.extend(FORGED);
    stage.is_dropped("a tiny fragment", &frame, "truncated");
    for (proto, len) in [(TCP, 19), (UDP, 7), (F::ICMP, 7)] {
        let mut frame = ends.raw(proto, &vec![0; len], None).bytes;
        frame.extend(FORGED);
        stage.is_dropped("a header in the padding", &frame, "truncated");
    }
}

/// ARP as a request, as a reply, and gratuitous.
fn arp_claims(stage: &Stage<'_>, claimed: Ipv4) -> Vec<Vec<u8>> {
    let own = mac_of(&stage.mallory, "app");
    let claim = |operation, target| Arp {
        hardware: Be16::new(1),
        protocol: ETHERTYPE_IPV4,
        hardware_len: 6,
        protocol_len: 4,
        operation,
        sender_mac: own,
        sender: Arp::halves(claimed),
        target_mac: MacAddr([0; 6]),
        target: Arp::halves(target),
    };
    let victim = addr::<V4>(&stage.victim, "app");
    let nobody = Ipv4::new([10, 77, 0, 200]);
    [
        (ARP_REQUEST, nobody, MacAddr::BROADCAST),
        (ARP_REPLY, victim, mac_of(&stage.victim, "app")),
        (ARP_REPLY, claimed, MacAddr::BROADCAST),
        (ARP_REQUEST, claimed, MacAddr::BROADCAST),
    ]
    .map(|(operation, target, dst)| {
        let mut frame = arp((dst, own), &claim(operation, target), IfIndex(0)).bytes;
        frame.extend(FORGED);
        frame
    })
    .into()
}

/// An advertisement to all nodes and to the victim, with the forger's MAC for the address.
fn advertisements(stage: &Stage<'_>, claimed: Ipv6) -> Vec<Vec<u8>> {
    let all = Ipv6::from("ff02::1".parse::<std::net::Ipv6Addr>().unwrap());
    [stage.to_all::<V6>(all), stage.to_victim::<V6>()]
        .map(|ends| {
            hop_limit_255(ends.raw(58, &neighbor_message(stage, 136, claimed), Some(2)).bytes)
        })
        .into()
}

fn neighbor_message(stage: &Stage<'_>, kind: u8, target: Ipv6) -> Vec<u8> {
    let flags = 0x2000_0000u32.to_be();
    let message = NeighborMessage { kind, flags, target, ..NeighborMessage::default() };
    let option = LinkAddressOption { kind: 2, len: 1, mac: mac_of(&stage.mallory, "app") };
    let mut payload = bytemuck::bytes_of(&message).to_vec();
    payload.extend(bytemuck::bytes_of(&option));
    // An option of no known kind, which receivers skip, to tell the frame by.
    payload.extend([253, 3]);
    payload.extend(FORGED);
    payload.resize(24 + 8 + 24, 0);
    payload
}

fn hop_limit_255(mut frame: Vec<u8>) -> Vec<u8> {
    frame[21] = 255;
    frame
}

#[test]
fn container_poisons_nobodys_neighbour_table_and_is_nobodys_router() {
    let world = World::new();
    let daemon = world.daemon();
    let stage = Stage::set(&world, &daemon, &[]);
    let floating = Ipv4::new([10, 77, 0, 100]);
    for claimed in [addr::<V4>(&stage.victim, "app"), gateway::<V4>(), floating] {
        for frame in arp_claims(&stage, claimed) {
            stage.is_dropped("an ARP claim", &frame, "spoofed_neighbor");
        }
    }
    let floating = Ipv6::from("fd77::100".parse::<std::net::Ipv6Addr>().unwrap());
    for claimed in [addr::<V6>(&stage.victim, "app"), gateway::<V6>(), floating] {
        for frame in advertisements(&stage, claimed) {
            stage.is_dropped("an advertisement", &frame, "spoofed_neighbor");
        }
    }
    routers(&stage);
    hidden_discovery(&stage);
    stage.nobody_is_poisoned();
}

/// ICMP redirects and router advertisements of both families.
fn routers(stage: &Stage<'_>) {
    let redirect = [&[5, 1, 0, 0, 10, 77, 0, 66][..], FORGED].concat();
    let frame = stage.to_victim::<V4>().raw(1, &redirect, Some(2)).bytes;
    stage.is_dropped("an ICMP redirect", &frame, "rogue_router");
    let own = addr::<V6>(&stage.mallory, "app");
    for kind in [134, 137] {
        let message = neighbor_message(stage, kind, own);
        let frame = hop_limit_255(stage.to_victim::<V6>().raw(58, &message, Some(2)).bytes);
        stage.is_dropped("a router's message", &frame, "rogue_router");
    }
}

/// Neighbour discovery behind options and in fragments.
fn hidden_discovery(stage: &Stage<'_>) {
    let victim = addr::<V6>(&stage.victim, "app");
    for kind in [134, 136, 137] {
        let message = neighbor_message(stage, kind, victim);
        let frame = hop_limit_255(stage.to_victim::<V6>().raw(58, &message, Some(2)).bytes);
        for first in [0, 60] {
            let frame = with_extensions(frame.clone(), first, &[58, 0, 1, 4, 0, 0, 0, 0]);
            stage.is_dropped("discovery behind options", &frame, "unsupported_protocol");
        }
        let frame = with_extensions(frame, 44, &[58, 0, 0, 1, 0, 0, 0, kind]);
        stage.is_dropped("discovery in a fragment", &frame, "unsupported_protocol");
    }
}

#[test]
fn container_complains_of_no_packet_that_was_sent_to_another() {
    let world = World::new();
    let daemon = world.daemon();
    let stage = Stage::set(&world, &daemon, &[]);
    let v4 = Ends {
        src: outside::<V4>(),
        dst: addr::<V4>(&stage.victim, "app"),
        ..stage.to_victim::<V4>()
    };
    let quoted = forged(&v4)[14..].to_vec();
    let error = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
    for ends in [stage.via_gateway::<V4>(outside::<V4>()), stage.to_victim::<V4>()] {
        stage.is_dropped("a forged error", &ends.raw(1, &error, Some(2)).bytes, "spoofed_source");
    }
    let v6 = Ends {
        src: outside::<V6>(),
        dst: addr::<V6>(&stage.victim, "app"),
        ..stage.to_victim::<V6>()
    };
    let quoted = forged(&v6)[14..].to_vec();
    let error = [&[1, 4, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
    for ends in [stage.via_gateway::<V6>(outside::<V6>()), stage.to_victim::<V6>()] {
        stage.is_dropped("a forged error", &ends.raw(58, &error, Some(2)).bytes, "spoofed_source");
    }
}

#[test]
fn where_macs_are_checked_addresses_float_but_none_that_another_holds() {
    let world = World::new();
    let daemon = world.daemon();
    let stage = Stage::set(&world, &daemon, &["-o", "netd.anti_spoof=mac"]);
    for claimed in [addr::<V4>(&stage.victim, "app"), gateway::<V4>()] {
        for frame in arp_claims(&stage, claimed) {
            stage.is_dropped("an ARP claim", &frame, "spoofed_neighbor");
        }
    }
    for claimed in [addr::<V6>(&stage.victim, "app"), gateway::<V6>()] {
        for frame in advertisements(&stage, claimed) {
            stage.is_dropped("an advertisement", &frame, "spoofed_neighbor");
        }
    }
    let floating = arp_claims(&stage, Ipv4::new([10, 77, 0, 100])).pop().unwrap();
    stage.reaches_the_victim("an announcement", &floating);
    let floating = Ipv6::from("fd77::100".parse::<std::net::Ipv6Addr>().unwrap());
    stage.reaches_the_victim("an announcement", &advertisements(&stage, floating)[0]);
    let routed = Ends { src: Ipv4::new([192, 0, 2, 9]), ..stage.to_victim::<V4>() };
    stage.reaches_the_victim("a routed packet", &forged(&routed));
    let mut frame = forged(&routed);
    frame[6..12].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    stage.is_dropped("another MAC", &frame, "spoofed_source");
    routers(&stage);
    hidden_discovery(&stage);
    stage.nobody_is_poisoned();
    ways_out::<V4>(&stage);
    ways_out::<V6>(&stage);
}

#[test]
fn where_nothing_is_checked_a_container_still_does_not_leave_its_network() {
    let world = World::new();
    let daemon = world.daemon();
    let stage = Stage::set(&world, &daemon, &["-o", "netd.anti_spoof=off"]);
    let mut frame = forged(&Ends { src: Ipv4::new([192, 0, 2, 9]), ..stage.to_victim::<V4>() });
    frame[6..12].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    stage.reaches_the_victim("another MAC and another address", &frame);
    ways_out::<V4>(&stage);
    ways_out::<V6>(&stage);
    for src in [Ipv4::ANY, V4::nobody()[0], V4::nobody()[1]] {
        let frame = forged(&Ends { src, ..stage.to_victim::<V4>() });
        stage.is_dropped("a source of nobody", &frame, "martian_address");
    }
}

#[test]
fn promiscuous_container_hears_nothing_of_its_neighbours_conversation() {
    let world = World::new();
    let daemon = world.daemon();
    let stage = Stage::set(&world, &daemon, &[]);
    let other = container(&daemon, "peer", "app", &[]);
    stage.mallory.netns.run(|| run("ip", &["link", "set", "eth0", "promisc", "on"])).unwrap();
    let ear = Ear::open(&stage.mallory.netns, "eth0").unwrap();
    for target in stage.victim.addresses("app").unwrap() {
        let server = stage.victim.netns.run(|| Ok(UdpSocket::bind((target, 7000))?)).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let client = other.netns.run(|| {
            let socket = UdpSocket::bind((other.address("app", target.is_ipv6())?, 0))?;
            socket.send_to(FORGED, (target, 7000))?;
            Ok(socket)
        });
        let client = client.unwrap();
        let (_, from) = server.recv_from(&mut [0; 64]).unwrap();
        server.send_to(FORGED, from).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.recv_from(&mut [0; 64]).unwrap();
    }
    let broadcast = datagram(
        &Ends {
            macs: (MacAddr::BROADCAST, mac_of(&other, "app")),
            src: addr::<V4>(&other, "app"),
            ..stage.to_all::<V4>(V4::nobody()[1])
        },
        LAST,
    );
    RawLink::open(&other.netns, "eth0").unwrap().send(&[broadcast.bytes]).unwrap();
    let heard = ear.heard_until(LAST).unwrap();
    assert!(!heard.iter().any(|frame| has(frame, FORGED)), "a neighbour's conversation was heard");
}

#[test]
fn without_icc_no_frame_of_a_container_reaches_its_neighbour() {
    let world = World::new();
    let daemon = world.daemon();
    let closed = ["-o", "com.docker.network.bridge.enable_icc=false"];
    let stage = Stage::set(&world, &daemon, &closed);
    let device = daemon.ok(&["network", "inspect", "-f", "{{.Device}}", "app"]).unwrap();
    let host = Ear::open(world.host.netns(), &device).unwrap();
    let unknown = MacAddr([2, 9, 9, 9, 9, 9]);
    let group = stage.to_all::<V4>(V4::nobody()[1]);
    let group_v6 = stage.to_all::<V6>(V6::nobody()[1]);
    stage.send(&forged(&group));
    stage.send(&forged(&group_v6));
    let lost = Ends { macs: (unknown, group.macs.1), dst: Ipv4::new([10, 77, 0, 200]), ..group };
    stage.send(&forged(&lost));
    let mut other = forged(&stage.to_victim::<V4>());
    other[12..14].copy_from_slice(&[0x88, 0xb5]);
    let before = drops(&daemon, "icc_disabled");
    stage.send(&other);
    stage.send(&forged(&stage.to_victim::<V4>()));
    stage.send(&forged(&stage.to_victim::<V6>()));
    stage.send(&datagram(&group, LAST).bytes);
    let heard = host.heard_until(LAST).unwrap();
    assert!(heard.iter().any(|frame| has(frame, FORGED)), "the host hears what is for all");
    assert!(!stage.ears[0].heard().unwrap().iter().any(|frame| has(frame, FORGED)));
    assert_eq!(drops(&daemon, "icc_disabled"), before + 3);
}

/// The container bridges a namespace of its own to its interface.
fn bridge_behind(world: &World, outer: &Container, address: &str) -> netd_tests::Netns {
    let name = format!("{}-in-{}", world.host.name(), outer.name);
    let inner = netd_tests::Netns::create(&name).unwrap();
    for words in [
        "link add br0 type bridge",
        "link set eth0 master br0",
        "link set br0 up",
        &format!("link add in0 type veth peer name eth0 netns {name}"),
        "link set in0 master br0 up",
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        outer.netns.run(|| run("ip", &words)).unwrap();
    }
    for words in [&format!("address add {address}/24 dev eth0")[..], "link set eth0 up"] {
        let words: Vec<&str> = words.split(' ').collect();
        inner.run(|| run("ip", &words)).unwrap();
    }
    inner
}

#[test]
fn bridge_behind_a_container_is_cut_off_unless_nothing_is_checked() {
    let world = World::new();
    let daemon = world.daemon();
    for (third, mode, open) in [(77, "address", false), (78, "mac", false), (79, "off", true)] {
        let subnet = format!("10.{third}.0.0/24");
        let option = format!("netd.anti_spoof={mode}");
        network(&daemon, mode, &["--subnet", &subnet, "-o", &option]);
        let outer = container(&daemon, &format!("outer-{mode}"), mode, &[]);
        let neighbour = container(&daemon, &format!("peer-{mode}"), mode, &[]);
        let before = drops(&daemon, "spoofed_source");
        let inner = bridge_behind(&world, &outer, &format!("10.{third}.0.50"));
        let target = neighbour.address(mode, false).unwrap().to_string();
        let ping = || {
            let answered = run("ping", &["-n", "-q", "-c", "1", "-W", "1", &target]).is_ok();
            Ok((answered == open).then_some(()))
        };
        eventually(mode, Duration::from_secs(20), || inner.run(ping)).unwrap();
        assert!(open || drops(&daemon, "spoofed_source") > before, "{mode}");
    }
}
