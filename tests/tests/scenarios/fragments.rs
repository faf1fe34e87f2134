//! Datagrams larger than the MTU, through translation.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use netd_common::wire::UDP;
use netd_common::{IfIndex, MacAddr, V4, V6};
use netd_ebpf::testing::build::{Build, Ends};
use netd_tests::outside::{ROUTER_V4, ROUTER_V6, WORLD_V4, WORLD_V6};
use netd_tests::raw::{self, RawLink};
use netd_tests::wire::{udp_echo_server, udp_request};
use netd_tests::{Container, Daemon, Netns, eventually};

use super::{Monitor, World, container, drops, network};

const DATAGRAM: [u8; 8_000] = [0x5a; 8_000];
const WORLD: [IpAddr; 2] = [IpAddr::V4(WORLD_V4), IpAddr::V6(WORLD_V6)];
const ROUTER: [IpAddr; 2] = [IpAddr::V4(ROUTER_V4), IpAddr::V6(ROUTER_V6)];
/// What a fragment of either family carries at an MTU of 1500.
const SHARE: usize = 1_448;
const PIECES: usize = 6;
/// Orders of arrival; the first fragment is 0.
pub(super) const ORDERS: [[usize; PIECES]; 5] = [
    [0, 1, 2, 3, 4, 5],
    [5, 4, 3, 2, 1, 0],
    [1, 0, 2, 3, 4, 5],
    [1, 2, 3, 4, 5, 0],
    [3, 1, 0, 5, 2, 4],
];
const PATIENCE: Duration = Duration::from_secs(10);

/// From whom to whom: MACs, destination first, and sockets, source first.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) macs: (MacAddr, MacAddr),
    pub(super) ends: (SocketAddr, SocketAddr),
}

impl Way {
    /// The fragments of a datagram in their order.
    pub(super) fn cut(&self, id: u16, payload: &[u8]) -> Vec<Vec<u8>> {
        let data = self.data(payload);
        let shares = data.chunks(SHARE).enumerate();
        let is_last = |number: usize| (number + 1) * SHARE >= data.len();
        shares
            .map(|(number, share)| self.piece(id, (number * SHARE, !is_last(number)), share))
            .collect()
    }

    /// The datagram with its UDP header.
    fn data(&self, payload: &[u8]) -> Vec<u8> {
        let (from, to) = self.ends;
        let len = u16::try_from(8 + payload.len()).unwrap();
        let mut data = [from.port(), to.port(), len, 0].map(u16::to_be_bytes).concat();
        data.extend(payload);
        match (from.ip(), to.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                self.raw::<V4>((src.into(), dst.into()), UDP, &data, Some(6))[34..].to_vec()
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                self.raw::<V6>((src.into(), dst.into()), UDP, &data, Some(6))[54..].to_vec()
            }
            ends => panic!("{ends:?} are of two families"),
        }
    }

    fn raw<F: Build>(
        &self,
        (src, dst): (F::Addr, F::Addr),
        proto: u8,
        payload: &[u8],
        checksum: Option<usize>,
    ) -> Vec<u8> {
        let ends = Ends::<F> { macs: self.macs, src, dst, ifindex: IfIndex(0) };
        ends.raw(proto, payload, checksum).bytes
    }

    /// One fragment: where it begins, and whether others follow.
    fn piece(&self, id: u16, (offset, more): (usize, bool), share: &[u8]) -> Vec<u8> {
        let offset = u16::try_from(offset).unwrap();
        match (self.ends.0.ip(), self.ends.1.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut frame = self.raw::<V4>((src.into(), dst.into()), UDP, share, None);
                frame[18..20].copy_from_slice(&id.to_be_bytes());
                let fragment = (offset / 8) | (u16::from(more) << 13);
                frame[20..22].copy_from_slice(&fragment.to_be_bytes());
                mend(&mut frame);
                frame
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let mut payload = vec![UDP, 0];
                payload.extend((offset | u16::from(more)).to_be_bytes());
                payload.extend(u32::from(id).to_be_bytes());
                payload.extend(share);
                self.raw::<V6>((src.into(), dst.into()), 44, &payload, None)
            }
            ends => panic!("{ends:?} are of two families"),
        }
    }
}

/// Makes an IPv4 header's checksum true.
fn mend(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let words = frame[14..34].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

fn mac(netns: &Netns, link: &str) -> MacAddr {
    MacAddr(raw::mac(netns, link).unwrap())
}

/// A host with a container that listens on a published port, and one that listens to nobody.
struct Stage<'a> {
    world: &'a World,
    daemon: &'a Daemon<'a>,
    web: Container,
    client: Container,
}

impl<'a> Stage<'a> {
    fn set(world: &'a World, daemon: &'a Daemon<'a>) -> Self {
        network(daemon, "app", &[]);
        let web = container(daemon, "web", "app", &["-p", "8080:7000/udp"]);
        let client = container(daemon, "client", "app", &[]);
        Self { world, daemon, web, client }
    }

    /// From outside to the published port.
    fn inward(&self, family: usize) -> Way {
        self.arriving((ROUTER[family], 5_353), 8_080)
    }

    /// From outside to a port of the host.
    fn arriving(&self, from: (IpAddr, u16), port: u16) -> Way {
        let family = usize::from(from.0.is_ipv6());
        Way {
            macs: (
                mac(self.world.host.netns(), "eth0"),
                mac(self.world.outside.netns(), "segment"),
            ),
            ends: (from.into(), SocketAddr::new(self.world.uplink()[family], port)),
        }
    }

    /// From the client to the world.
    fn outward(&self, family: usize) -> Way {
        let device = self.daemon.ok(&["network", "inspect", "-f", "{{.Device}}", "app"]).unwrap();
        let own = self.client.address("app", family == 1).unwrap();
        Way {
            macs: (mac(self.world.host.netns(), device.trim()), mac(&self.client.netns, "eth0")),
            ends: (SocketAddr::new(own, 5_353), SocketAddr::new(WORLD[family], 7_000)),
        }
    }

    fn outside(&self) -> RawLink {
        RawLink::open(self.world.outside.netns(), "segment").unwrap()
    }

    fn inside(&self) -> RawLink {
        RawLink::open(&self.client.netns, "eth0").unwrap()
    }

    /// A monitor that hears already: it tells of a packet too short for its header.
    fn monitor(&self) -> Monitor {
        let monitor = Monitor::start(self.world, self.daemon);
        let short = self.outward(0).piece(1, (0, false), &[0; 4]);
        let heard = eventually("a monitor that hears", PATIENCE, || {
            self.inside().send(std::slice::from_ref(&short))?;
            Ok(monitor.told("truncated").pop())
        });
        heard.unwrap();
        monitor
    }

    /// Waits until a monitor has told so many drops of the client's on their way there.
    fn told(monitor: &Monitor, reason: &str, far: IpAddr, times: usize) {
        let events = || {
            let all = monitor.told(reason).into_iter();
            let far = far.to_string();
            all.filter(|it| it["Dst"].as_str().is_some_and(|dst| dst.contains(&far)))
                .collect::<Vec<_>>()
        };
        let enough = || Ok((events().len() >= times).then_some(()));
        let outcome = eventually(&format!("{times} events of {reason}"), PATIENCE, enough);
        let events = events();
        assert_eq!(events.len(), times, "{reason}: {outcome:?}");
        assert!(events.iter().all(|it| it["Sandbox"] == "client"), "{events:?}");
    }

    /// Waits until a reason has been counted so often since.
    fn counted(&self, reason: &str, before: u64, times: u64) {
        let counted = || drops(self.daemon, reason) - before;
        let enough = || Ok((counted() >= times).then_some(()));
        let outcome = eventually(&format!("{times} drops as {reason}"), PATIENCE, enough);
        assert_eq!(counted(), times, "{reason}: {outcome:?}");
    }
}

pub(super) fn listener(netns: &Netns, at: SocketAddr) -> UdpSocket {
    let socket = netns.run(|| Ok(UdpSocket::bind(at)?)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub(super) fn any(family: usize, port: u16) -> SocketAddr {
    let any: IpAddr = if family == 1 { [0u16; 8].into() } else { [0u8; 4].into() };
    SocketAddr::new(any, port)
}

/// The next datagram, which must be this one, and who sent it.
pub(super) fn expect(socket: &UdpSocket, payload: &[u8], what: &str) -> SocketAddr {
    let mut got = vec![0; 65_536];
    let (len, from) = socket.recv_from(&mut got).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(got[..len] == *payload, "{what}: {len} bytes, or others");
    from
}

pub(super) fn text(number: usize) -> Vec<u8> {
    (0..8_000).map(|at: usize| (at / 7 + number).to_le_bytes()[0]).collect()
}

/// A datagram's id: of no other in the test.
pub(super) fn id(family: usize, number: usize) -> u16 {
    u16::try_from(1 + 1_000 * family + number).unwrap()
}

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
    for reason in ["fragment_unknown", "fragment_overlap", "fragment_duplicate"] {
        assert_eq!(drops(&daemon, reason), 0, "{reason}");
    }
}

#[test]
fn datagrams_of_eight_kilobytes_reach_the_world_and_come_back() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let a = container(&daemon, "c1", "app", &[]);
    for (target, host) in WORLD.into_iter().zip(world.uplink()) {
        let target = SocketAddr::new(target, 7000);
        let _server = udp_echo_server(world.outside.netns(), target).unwrap();
        for _ in 0..20 {
            let answer = udp_request(&a.netns, target, &DATAGRAM).unwrap();
            assert!(answer.echo == DATAGRAM, "{target}: the echo differs");
            assert_eq!(answer.seen_as.ip(), host);
        }
    }
    for reason in ["fragment_unknown", "fragment_overlap", "fragment_duplicate"] {
        assert_eq!(drops(&daemon, reason), 0, "{reason}");
    }
}

#[test]
fn fragments_that_arrive_in_any_order_reach_a_published_port_as_their_datagram() {
    let world = World::new();
    let daemon = world.daemon();
    let stage = Stage::set(&world, &daemon);
    let outside = stage.outside();
    for family in 0..2 {
        let server = listener(&stage.web.netns, any(family, 7_000));
        let way = stage.inward(family);
        for (number, order) in ORDERS.into_iter().enumerate() {
            let payload = text(number);
            let pieces = way.cut(id(family, number), &payload);
            assert_eq!(pieces.len(), PIECES);
            outside.send(&order.map(|piece| pieces[piece].clone())).unwrap();
            let from = expect(&server, &payload, &format!("{order:?}, family {family}"));
            assert_eq!(from, way.ends.0);
        }
        // Two datagrams at once, piece by piece, both backwards.
        let two = [70, 71].map(|number| way.cut(id(family, number), &text(number)));
        let mixed: Vec<_> = (0..PIECES)
            .rev()
            .flat_map(|piece| two.each_ref().map(|it| it[piece].clone()))
            .collect();
        outside.send(&mixed).unwrap();
        for number in [70, 71] {
            expect(&server, &text(number), "one of two");
        }
    }
    assert_eq!(drops(&daemon, "fragment_expired"), 0, "the host's copies are no drops");
}

#[test]
fn fragments_that_leave_in_any_order_are_masqueraded_as_their_datagram() {
    let world = World::new();
    let daemon = world.daemon();
    let stage = Stage::set(&world, &daemon);
    let inside = stage.inside();
    for family in 0..2 {
        let way = stage.outward(family);
        let server = listener(world.outside.netns(), way.ends.1);
        for (number, order) in ORDERS.into_iter().enumerate() {
            let payload = text(number);
            let pieces = way.cut(id(family, number), &payload);
            inside.send(&order.map(|piece| pieces[piece].clone())).unwrap();
            let from = expect(&server, &payload, &format!("{order:?}, family {family}"));
            assert_eq!(from.ip(), world.uplink()[family]);
        }
    }
}

#[test]
fn fragments_of_a_reply_that_arrive_in_any_order_reach_the_container_that_asked() {
    let world = World::new();
    let daemon = world.daemon();
    let stage = Stage::set(&world, &daemon);
    let outside = stage.outside();
    for (family, far) in WORLD.into_iter().enumerate() {
        let server = listener(world.outside.netns(), SocketAddr::new(far, 7_000));
        let client = listener(&stage.client.netns, any(family, 0));
        client.send_to(b"?", SocketAddr::new(far, 7_000)).unwrap();
        let asked = expect(&server, b"?", "the question");
        for (number, order) in ORDERS.into_iter().enumerate() {
            let payload = text(number);
            let way = stage.arriving((far, 7_000), asked.port());
            let pieces = way.cut(id(family, number), &payload);
            outside.send(&order.map(|piece| pieces[piece].clone())).unwrap();
            let from = expect(&client, &payload, &format!("{order:?}, family {family}"));
            assert_eq!(from, way.ends.0);
        }
    }
}

#[test]
fn fragments_whose_first_never_comes_are_dropped_counted_and_told_to_the_monitor() {
    let world = World::new();
    let daemon = world.daemon();
    let stage = Stage::set(&world, &daemon);
    let monitor = stage.monitor();
    for (family, far) in WORLD.into_iter().enumerate() {
        let server = listener(world.outside.netns(), SocketAddr::new(far, 7_000));
        let before = drops(&daemon, "fragment_expired");
        let way = stage.outward(family);
        let pieces = way.cut(id(family, 0), &text(0));
        stage.inside().send(&pieces[1..]).unwrap();
        stage.counted("fragment_expired", before, 5);
        Stage::told(&monitor, "fragment_expired", far, 5);
        let web = listener(&stage.web.netns, any(family, 7_000));
        let pieces = stage.inward(family).cut(id(family, 1), &text(1));
        stage.outside().send(&pieces[1..]).unwrap();
        // Datagrams that are whole come first: nothing of the others was on its way.
        stage.inside().send(&way.cut(id(family, 2), &text(2))).unwrap();
        expect(&server, &text(2), "the whole one");
        stage.outside().send(&stage.inward(family).cut(id(family, 3), &text(3))).unwrap();
        expect(&web, &text(3), "the whole one");
    }
}

#[test]
fn overlapping_fragments_are_dropped_and_counted_and_nothing_of_them_is_read() {
    let world = World::new();
    let daemon = world.daemon();
    let stage = Stage::set(&world, &daemon);
    let outside = stage.outside();
    for family in 0..2 {
        let server = listener(&stage.web.netns, any(family, 7_000));
        let way = stage.inward(family);
        // The forged one covers half of a true one; before it, behind it, in its place.
        for (number, forged_first) in [(0, false), (1, true)] {
            let before = drops(&daemon, "fragment_overlap");
            let mut pieces = way.cut(id(family, number), &text(number));
            let forged = [0x66; SHARE];
            let forged = way.piece(id(family, number), (SHARE + SHARE / 2 / 8 * 8, true), &forged);
            pieces.insert(if forged_first { 1 } else { 2 }, forged);
            outside.send(&pieces).unwrap();
            stage.counted("fragment_overlap", before, 5);
        }
        let payload = text(9);
        outside.send(&way.cut(id(family, 9), &payload)).unwrap();
        expect(&server, &payload, "the first that is read at all");
    }
}

#[test]
fn doubled_fragments_are_dropped_and_counted_and_their_datagram_arrives_once() {
    let world = World::new();
    let daemon = world.daemon();
    let stage = Stage::set(&world, &daemon);
    let outside = stage.outside();
    for family in 0..2 {
        let server = listener(&stage.web.netns, any(family, 7_000));
        let way = stage.inward(family);
        for (number, is_backward) in [(0, false), (1, true)] {
            let before = drops(&daemon, "fragment_duplicate");
            let pieces = way.cut(id(family, number), &text(number));
            // The last in order stays alone: with it the datagram is whole.
            let (rest, last) =
                if is_backward { (1..PIECES, 0) } else { (0..PIECES - 1, PIECES - 1) };
            let mut order: Vec<_> = rest.flat_map(|piece| [piece, piece]).collect();
            order.push(last);
            let frames: Vec<_> = order.iter().map(|piece| pieces[*piece].clone()).collect();
            outside.send(&frames).unwrap();
            expect(&server, &text(number), "once");
            // Backward, the datagram is whole before its last double, which opens a new one.
            stage.counted("fragment_duplicate", before, if is_backward { 4 } else { 5 });
        }
        outside.send(&way.cut(id(family, 9), &text(9))).unwrap();
        expect(&server, &text(9), "not the other twice");
    }
}
