//! The loaded object, packet by packet: verdict, bytes, and exactly which counters moved. Needs
//! root; the programs run on `lo` of a network namespace of the test's own.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "a test fails by panicking, and its helpers are shared by its own crate only"
)]

mod dataplane;

use std::collections::BTreeMap;
use std::process::Command;

use aya::Ebpf;
use aya::programs::{Program, TestRun, TestRunOptions};
use dataplane::tables;
use netd_common::map::config::{Config, TRACE_VERDICTS};
use netd_common::map::counter::{
    DropKey, EndpointCounters, EventBudget, TrafficCounter, VerdictKind, VerdictTrace,
};
use netd_common::map::endpoint::{
    ADDRESS_IS_GATEWAY, AddressKey, AddressValue, CHECK_ADDRESS, CHECK_MAC, EndpointValue,
    StationKey, StationValue,
};
use netd_common::map::fragment::{HeldKey, HeldValue};
use netd_common::map::network::{
    HostAddressValue, MASQUERADE_V4, MASQUERADE_V6, NetworkValue, ROUTED_V4, ROUTED_V6,
    SubnetValue, UplinkValue,
};
use netd_common::map::published::{PublishedKey, PublishedValue};
use netd_common::verdict::Event;
use netd_common::wire::{ARP_REPLY, ARP_REQUEST, Arp, ETHERTYPE_IPV4, IpHeader, TCP, TCP_SYN, UDP};
use netd_common::{
    Be16, DropReason, EndpointIndex, FORWARD_MARK, Hook, IfIndex, Ipv4, Ipv6, MacAddr,
    NetworkIndex, V4, V6,
};
use netd_ebpf::packet::PacketBuf;
use netd_ebpf::testing::Frame;
use netd_ebpf::testing::build::{Build, Ends, arp, see};
use nix::sched::{CloneFlags, unshare};

const LO: IfIndex = IfIndex(1);
const NET: NetworkIndex = NetworkIndex(1);
const FIRST: EndpointIndex = EndpointIndex(1);
const SECOND: EndpointIndex = EndpointIndex(2);
const SECOND_VETH: IfIndex = IfIndex(77);
/// `lo`'s own MAC, so that frames from outside are "for the host".
const GATEWAY_MAC: MacAddr = MacAddr([0; 6]);
const FIRST_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const SECOND_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);
const UNTOUCHED: i32 = -1;
const SHOT: i32 = 2;
const REDIRECT: i32 = 7;

/// The addresses of a family in the scene.
trait Lab: Build {
    fn container(host: u8) -> Self::Addr;
    fn outside(host: u8) -> Self::Addr;
}

impl Lab for V4 {
    fn container(host: u8) -> Ipv4 {
        Ipv4::new([10, 1, 0, host])
    }
    fn outside(host: u8) -> Ipv4 {
        Ipv4::new([198, 51, 100, host])
    }
}

impl Lab for V6 {
    fn container(host: u8) -> Ipv6 {
        Ipv6::new([0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host])
    }
    fn outside(host: u8) -> Ipv6 {
        Ipv6::new([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host])
    }
}

fn ip(args: &str) {
    let status = Command::new("ip").args(args.split_whitespace()).status();
    assert!(status.expect("ip runs").success(), "ip {args}");
}

fn ifindex(name: &str) -> IfIndex {
    IfIndex(nix::net::if_::if_nametoindex(name).expect("a device"))
}

/// The object with one host's tables, in a namespace with a gateway device and an uplink.
fn object() -> Ebpf {
    unshare(CloneFlags::CLONE_NEWNET).expect("a namespace of our own");
    ip("link set lo up");
    ip("link add gw0 type bridge");
    ip("link add up0 type veth peer name far0");
    ip(&format!("link add c0 index {} type veth peer name c1", SECOND_VETH.0));
    ip("link set far0 up");
    ip("link set gw0 up");
    ip("link set up0 up");
    ip("addr add 198.51.100.1/24 dev up0");
    ip("addr add 2001:db8::1/64 dev up0 nodad");
    ip("route add default via 198.51.100.254");
    ip("-6 route add default via 2001:db8::fe");
    for family in ["ipv4", "ipv6"] {
        std::fs::write(format!("/proc/sys/net/{family}/conf/gw0/forwarding"), "1")
            .expect("a sysctl");
    }
    let mut ebpf = dataplane::load();
    for hook in Hook::ALL {
        dataplane::verify(&mut ebpf, hook.name());
    }
    fill(&mut ebpf);
    ebpf
}

fn fill(ebpf: &mut Ebpf) {
    let config = Config {
        generation: 1,
        flags: TRACE_VERDICTS,
        snat_first: 50_000,
        snat_last: 50_015,
        udp_s: 30,
        tcp_syn_s: 30,
        event_rate: 1,
        replication_limit: 8,
        ..Config::ZERO
    };
    tables::set(ebpf, "config", 0, config);
    let network = NetworkValue {
        flags: MASQUERADE_V4 | MASQUERADE_V6,
        gateway: ifindex("gw0"),
        member_count: 1,
        gateway_mac: GATEWAY_MAC,
        ..NetworkValue::default()
    };
    tables::set(ebpf, "networks", NET.0, network);
    tables::put(ebpf, "endpoints", LO, first_in(NET));
    tables::put(ebpf, "gateways", LO, NET.0);
    let place = StationValue { endpoint: SECOND, ifindex: SECOND_VETH };
    tables::put(ebpf, "stations", StationKey { network: NET, mac: SECOND_MAC, pad: 0 }, place);
    let uplink = UplinkValue { v4: V4::outside(1), v6: V6::outside(1), ..UplinkValue::default() };
    tables::put(ebpf, "uplinks", ifindex("up0"), uplink);
    fill_family::<V4>(ebpf, "v4", 24);
    fill_family::<V6>(ebpf, "v6", 64);
}

fn first_in(network: NetworkIndex) -> EndpointValue {
    EndpointValue {
        index: FIRST,
        network,
        flags: CHECK_MAC | CHECK_ADDRESS,
        v4: V4::container(2),
        v6: V6::container(2),
        mac: FIRST_MAC,
        gateway_mac: GATEWAY_MAC,
    }
}

fn fill_family<F: Lab>(ebpf: &mut Ebpf, family: &str, prefix: u32)
where
    F::Addr: aya::Pod,
    AddressKey<F::Addr>: aya::Pod,
    PublishedKey<F::Addr>: aya::Pod,
    PublishedValue<F::Addr>: aya::Pod,
{
    let table = |name: &str| format!("{name}_{family}");
    let holder = |host, endpoint, ifindex, mac, flags| {
        (
            AddressKey { network: NET, addr: F::container(host) },
            AddressValue { endpoint, ifindex, mac, flags },
        )
    };
    let gateway = holder(1, EndpointIndex::NONE, ifindex("gw0"), GATEWAY_MAC, ADDRESS_IS_GATEWAY);
    let second = holder(3, SECOND, SECOND_VETH, SECOND_MAC, 0);
    tables::put(ebpf, &table("addresses"), gateway.0, gateway.1);
    tables::put(ebpf, &table("addresses"), second.0, second.1);
    tables::prefix(ebpf, &table("subnets"), prefix, F::container(0), SubnetValue { network: NET });
    let host = HostAddressValue { ifindex: ifindex("up0"), network: NetworkIndex::HOST };
    tables::put(ebpf, &table("host_addrs"), F::outside(1), host);
    let published =
        |proto| PublishedKey { addr: F::outside(1), port: Be16::new(8_080), proto, pad: 0 };
    let backend = PublishedValue {
        target: F::container(3),
        network: NET,
        endpoint: SECOND,
        ifindex: SECOND_VETH,
        slot: 5,
        mac: SECOND_MAC,
        port: Be16::new(80),
    };
    for proto in [TCP, UDP] {
        tables::put(ebpf, &table("published"), published(proto), backend);
    }
}

/// What a run left behind.
#[derive(Debug)]
struct Outcome {
    action: i32,
    trace: VerdictTrace,
    frame: Frame,
    moved: BTreeMap<String, u64>,
}

impl Outcome {
    fn moved(&self) -> Vec<(&str, u64)> {
        self.moved.iter().map(|(name, by)| (name.as_str(), *by)).collect()
    }
}

/// Offsets in the kernel's `struct __sk_buff`, which never change.
const SKB_LEN: usize = 192;
const SKB_MARK: usize = 8;

fn run(ebpf: &mut Ebpf, hook: Hook, frame: &Frame) -> Outcome {
    let before = counters(ebpf);
    let mut bytes = vec![0; 512];
    let mut context = vec![0; SKB_LEN];
    context[SKB_MARK..SKB_MARK + 4].copy_from_slice(&frame.mark.to_ne_bytes());
    let mut context_out = vec![0; SKB_LEN];
    let result = {
        let Some(Program::SchedClassifier(program)) = ebpf.program_mut(hook.name()) else {
            panic!("{} is no classifier", hook.name());
        };
        let options = TestRunOptions {
            data_in: Some(&frame.bytes),
            data_out: Some(&mut bytes),
            ctx_in: Some(&context),
            ctx_out: Some(&mut context_out),
            repeat: 1,
            ..TestRunOptions::default()
        };
        program.test_run(options).expect("the program runs")
    };
    bytes.truncate(result.data_size_out as usize);
    let mark: [u8; 4] = context_out[SKB_MARK..SKB_MARK + 4].try_into().expect("four bytes");
    let after = counters(ebpf);
    let moved = after
        .into_iter()
        .map(|(name, value)| (value - before.get(&name).copied().unwrap_or_default(), name))
        .filter(|(by, _)| *by != 0)
        .map(|(by, name)| (name, by))
        .collect();
    Outcome {
        action: result.return_value.cast_signed(),
        trace: take_trace(ebpf),
        frame: Frame { bytes, mark: u32::from_ne_bytes(mark), ifindex: LO, ..Frame::default() },
        moved,
    }
}

/// The trace of the CPU that ran, and none for the next run to mistake.
fn take_trace(ebpf: &mut Ebpf) -> VerdictTrace {
    let traces = tables::per_cpu::<VerdictTrace>(ebpf, "scratch", 0);
    let found = traces.iter().copied().find(|trace| trace.kind != 0).unwrap_or_default();
    tables::clear_per_cpu::<VerdictTrace>(ebpf, "scratch", 0);
    found
}

/// Every counter of the object by name.
fn counters(ebpf: &mut Ebpf) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for index in [FIRST, SECOND] {
        let cpus = tables::per_cpu::<EndpointCounters>(ebpf, "counters", index.0);
        all.insert(
            format!("{}.from_container", index.0),
            cpus.iter().map(|c| c.from_container.packets).sum(),
        );
        all.insert(
            format!("{}.to_container", index.0),
            cpus.iter().map(|c| c.to_container.packets).sum(),
        );
    }
    for (key, cpus) in tables::all_per_cpu::<DropKey, TrafficCounter>(ebpf, "drops") {
        let reason =
            DropReason::from_number(u8::try_from(key.reason).expect("a reason")).expect("a reason");
        let hook = Hook::from_number(u8::try_from(key.hook).expect("a hook")).expect("a hook");
        let name =
            format!("drop.{}.{}.{}.{}", reason.name(), hook.name(), key.endpoint.0, key.network.0);
        all.insert(name, cpus.iter().map(|c| c.packets).sum());
    }
    for (stat, name) in netd_common::map::counter::FlowStat::ALL {
        let cpus = tables::per_cpu::<u64>(ebpf, "flow_stats", *stat as u32);
        all.insert(format!("flow.{name}"), cpus.iter().sum());
    }
    all.insert("hits.5".to_owned(), tables::per_cpu::<u64>(ebpf, "published_hits", 5).iter().sum());
    all.insert("probes.0".to_owned(), tables::per_cpu::<u64>(ebpf, "snat_probes", 0).iter().sum());
    all
}

fn trace(kind: VerdictKind, ifindex: IfIndex, network: NetworkIndex) -> VerdictTrace {
    VerdictTrace { kind: kind as u32, ifindex, reason: 0, network }
}

fn to_neighbor<F: Lab>() -> Ends<F> {
    Ends { macs: (SECOND_MAC, FIRST_MAC), src: F::container(2), dst: F::container(3), ifindex: LO }
}

fn via_gateway<F: Lab>(dst: F::Addr) -> Ends<F> {
    Ends { macs: (GATEWAY_MAC, FIRST_MAC), src: F::container(2), dst, ifindex: LO }
}

fn arriving<F: Lab>(dst: F::Addr) -> Ends<F> {
    Ends { macs: (GATEWAY_MAC, SECOND_MAC), src: F::outside(9), dst, ifindex: LO }
}

/// The frame with options in its IPv4 header, or with extension headers behind its IPv6 one.
fn with_headers<F: Lab>(mut frame: Frame, first: u8, headers: &[u8]) -> Frame {
    let len = u8::try_from(headers.len()).expect("few headers");
    if F::VERSION == 4 {
        frame.bytes[14] += len / 4;
        frame.bytes[17] += len;
        frame.bytes.splice(34..34, headers.iter().copied());
    } else {
        frame.bytes[20] = first;
        frame.bytes[19] += len;
        frame.bytes.splice(54..54, headers.iter().copied());
    }
    frame
}

macro_rules! on_both_families {
    ($(fn $name:ident<$family:ident>($ebpf:ident) $body:block)+) => {$(
        #[test]
        fn $name() {
            fn claim<$family: Lab>($ebpf: &mut Ebpf) $body
            let mut ebpf = object();
            claim::<V4>(&mut ebpf);
            claim::<V6>(&mut ebpf);
        }
    )+};
}

on_both_families! {
    fn a_neighbours_packet_is_delivered_unchanged<F>(ebpf) {
        let sent = to_neighbor::<F>().udp(1_111, 53);
        let out = run(ebpf, Hook::FromContainer, &sent);
        assert_eq!(out.action, REDIRECT);
        assert_eq!(out.trace, trace(VerdictKind::Deliver, SECOND_VETH, NET));
        assert_eq!(out.frame.bytes, sent.bytes);
        assert_eq!(out.moved(), [("1.from_container", 1), ("2.to_container", 1)]);
    }

    fn a_spoofed_packet_is_dropped_and_counted_once<F>(ebpf) {
        let mut ends = to_neighbor::<F>();
        ends.src = F::container(3);
        let out = run(ebpf, Hook::FromContainer, &ends.udp(1_111, 53));
        assert_eq!(out.action, SHOT);
        assert_eq!(out.trace.reason, DropReason::SpoofedSource as u32);
        assert_eq!(out.moved(), [("drop.spoofed_source.from_container.1.1", 1)]);
    }

    fn a_published_port_is_translated<F>(ebpf) {
        let out = run(ebpf, Hook::FromNetdev, &arriving::<F>(F::outside(1)).tcp(1_111, 8_080, TCP_SYN));
        assert_eq!(out.action, REDIRECT);
        assert_eq!(out.trace, trace(VerdictKind::Deliver, SECOND_VETH, NetworkIndex::HOST));
        let seen = see::<F>(&out.frame);
        assert_eq!(seen.macs, (SECOND_MAC, GATEWAY_MAC));
        assert_eq!(seen.addrs, (F::outside(9), F::container(3)));
        assert_eq!((seen.ports, seen.ttl), ((1_111, 80), 63));
        assert_eq!(out.moved(), [("2.to_container", 1), ("flow.created", 1), ("hits.5", 1)]);
    }

    fn an_unpublished_port_is_untouched<F>(ebpf) {
        let sent = arriving::<F>(F::outside(1)).tcp(1_111, 22, TCP_SYN);
        let out = run(ebpf, Hook::FromNetdev, &sent);
        assert_eq!(out.action, UNTOUCHED);
        assert_eq!(out.frame.bytes, sent.bytes);
        assert_eq!(out.moved(), []);
    }

    fn a_query_to_the_outside_is_masqueraded<F>(ebpf) {
        let out = run(ebpf, Hook::FromContainer, &via_gateway::<F>(F::outside(9)).udp(50_003, 53));
        assert_eq!(out.action, REDIRECT);
        assert_eq!(out.trace, trace(VerdictKind::Uplink, ifindex("up0"), NET));
        let seen = see::<F>(&out.frame);
        assert_eq!(seen.addrs, (F::outside(1), F::outside(9)));
        assert_eq!((seen.ports, seen.ttl), ((50_003, 53), 63));
        assert_eq!(out.frame.mark, FORWARD_MARK);
        assert_eq!(out.moved(), [("1.from_container", 1), ("flow.created", 1), ("probes.0", 1)]);
        let reply = run(ebpf, Hook::FromNetdev, &arriving::<F>(F::outside(1)).udp(53, 50_003));
        assert_eq!(reply.trace, trace(VerdictKind::Deliver, LO, NetworkIndex::HOST));
        assert_eq!(see::<F>(&reply.frame).addrs, (F::outside(9), F::container(2)));
        assert_eq!(reply.moved(), [("1.to_container", 1), ("flow.promoted", 1)]);
    }

    fn the_gateway_address_is_the_hosts_stack<F>(ebpf) {
        let sent = via_gateway::<F>(F::container(1)).udp(1, 2);
        let out = run(ebpf, Hook::FromContainer, &sent);
        assert_eq!((out.action, out.trace), (REDIRECT, trace(VerdictKind::HostStack, ifindex("gw0"), NET)));
        assert_eq!(out.frame.bytes, sent.bytes);
        assert_eq!(out.moved(), [("1.from_container", 1)]);
    }

    fn a_group_is_replicated<F>(ebpf) {
        let mut ends = to_neighbor::<F>();
        ends.macs.0 = MacAddr::BROADCAST;
        ends.dst = F::container(255);
        let out = run(ebpf, Hook::FromContainer, &ends.udp(1, 2));
        assert_eq!(out.trace.kind, VerdictKind::Replicate as u32);
        assert_eq!(out.moved(), [("1.from_container", 1)]);
    }

    fn a_packet_for_one_is_not_replicated<F>(ebpf) {
        let mut ends = to_neighbor::<F>();
        ends.macs.0 = MacAddr::BROADCAST;
        let out = run(ebpf, Hook::FromContainer, &ends.udp(1, 2));
        assert_eq!(out.action, SHOT);
        assert_eq!(out.moved(), [("drop.unicast_in_broadcast.from_container.1.1", 1)]);
    }

    fn a_tag_in_the_frame_is_not_carried_by_a_container_and_untouched_at_an_uplink<F>(ebpf) {
        let mut tagged = to_neighbor::<F>().udp(1, 2);
        tagged.bytes.splice(12..12, [0x81, 0, 0, 5]);
        let out = run(ebpf, Hook::FromContainer, &tagged);
        assert_eq!(out.moved(), [("drop.unsupported_protocol.from_container.1.1", 1)]);
        let mut tagged = arriving::<F>(F::outside(1)).tcp(1_111, 8_080, TCP_SYN);
        tagged.bytes.splice(12..12, [0x81, 0, 0, 5]);
        let out = run(ebpf, Hook::FromNetdev, &tagged);
        assert_eq!((out.action, out.frame.bytes == tagged.bytes), (UNTOUCHED, true));
        assert_eq!(out.moved(), []);
    }

    fn options_and_extension_headers_are_walked_to_the_transport<F>(ebpf) {
        let cases = if F::VERSION == 4 {
            [(0, vec![1, 1, 1, 1, 68, 4, 5, 0], None), (0, vec![1, 131, 7, 4, 0, 0, 0, 0], Some("source_routed")), (0, vec![7, 9, 0, 0], Some("truncated"))]
        } else {
            [(60, vec![17, 0, 1, 4, 0, 0, 0, 0], None), (43, vec![17, 0, 0, 1, 0, 0, 0, 0], Some("source_routed")), (60, [60, 0, 1, 4, 0, 0, 0, 0].repeat(9), Some("truncated"))]
        };
        for (first, headers, refused) in cases {
            let frame = with_headers::<F>(via_gateway::<F>(F::outside(9)).udp(50_003, 53), first, &headers);
            let out = run(ebpf, Hook::FromContainer, &frame);
            match refused {
                None => assert_eq!(out.trace, trace(VerdictKind::Uplink, ifindex("up0"), NET)),
                Some(reason) => {
                    assert_eq!(out.moved(), [(&*format!("drop.{reason}.from_container.1.1"), 1)]);
                }
            }
        }
    }

    fn a_leak_is_stopped_and_our_own_mark_cleared<F>(ebpf) {
        let mut leak = via_gateway::<F>(F::outside(9)).udp(1, 2);
        let out = run(ebpf, Hook::ToNetdev, &leak);
        assert_eq!(out.action, SHOT);
        assert_eq!(out.moved(), [("drop.leaked_source.to_netdev.0.1", 1)]);
        leak.mark = FORWARD_MARK;
        let out = run(ebpf, Hook::ToNetdev, &leak);
        assert_eq!((out.action, out.frame.mark), (UNTOUCHED, 0));
        assert_eq!(out.moved(), []);
    }

    fn the_hosts_packet_goes_to_the_veth_and_is_counted_there<F>(ebpf) {
        let sent = to_neighbor::<F>().udp(1, 2);
        let out = run(ebpf, Hook::FromHost, &sent);
        assert_eq!((out.action, out.trace), (REDIRECT, trace(VerdictKind::ToVeth, SECOND_VETH, NET)));
        assert_eq!(out.moved(), []);
        let out = run(ebpf, Hook::ToContainer, &sent);
        assert_eq!(out.action, UNTOUCHED);
        assert_eq!(out.moved(), [("1.to_container", 1)]);
    }
}

/// A UDP datagram to the published port or out, in pieces of two units each.
fn cut<F: Lab>(ends: &Ends<F>, (sport, dport): (u16, u16), count: usize) -> Vec<Frame> {
    const SHARE: usize = 16;
    let whole = ends.udp(sport, dport);
    let mut data = whole.bytes[14 + F::Header::LEN as usize..].to_vec();
    data.resize(SHARE * count, 9);
    let piece = |(number, share): (usize, &[u8])| {
        let units = u16::try_from(number * SHARE / 8).expect("a short datagram");
        ends.fragment(units, number + 1 < count, share)
    };
    data.chunks(SHARE).enumerate().map(piece).collect()
}

fn held(ebpf: &mut Ebpf) -> Vec<HeldValue> {
    tables::all::<HeldKey, HeldValue>(ebpf, "fragments_held").into_iter().map(|it| it.1).collect()
}

const PORTS: (u16, u16) = (1_111, 8_080);

#[test]
fn an_uplink_that_is_gone_under_open_flows_is_a_drop_with_a_reason() {
    let mut ebpf = object();
    let sent = [
        via_gateway::<V4>(V4::outside(9)).udp(50_004, 53),
        via_gateway::<V6>(V6::outside(9)).udp(50_004, 53),
    ];
    let leaves = trace(VerdictKind::Uplink, ifindex("up0"), NET);
    for packet in &sent {
        assert_eq!(run(&mut ebpf, Hook::FromContainer, packet).trace, leaves);
    }
    ip("link del up0");
    for packet in &sent {
        let out = run(&mut ebpf, Hook::FromContainer, packet);
        assert_eq!((out.action, out.trace), (SHOT, leaves), "its flow says so");
        assert_eq!(out.moved(), [("drop.no_route.from_container.1.1", 1)]);
    }
}

on_both_families! {
    fn a_target_whose_interface_is_gone_is_a_drop_with_a_reason<F>(ebpf) {
        let delivered = to_neighbor::<F>().udp(1_111, 53);
        let published = arriving::<F>(F::outside(1)).tcp(2_222, 8_080, TCP_SYN);
        // Flows that are open already go the same way as new ones.
        run(ebpf, Hook::FromNetdev, &published);
        if F::VERSION == 4 {
            ip("link del c0");
        }
        let out = run(ebpf, Hook::FromContainer, &delivered);
        assert_eq!(out.action, SHOT);
        assert_eq!(out.moved(), [("drop.unknown_destination.from_container.1.1", 1)]);
        let out = run(ebpf, Hook::FromHost, &delivered);
        assert_eq!(out.moved(), [("drop.unknown_destination.from_host.0.1", 1)]);
        let out = run(ebpf, Hook::FromNetdev, &published);
        assert_eq!(out.action, SHOT);
        assert_eq!(out.moved(), [("drop.unknown_destination.from_netdev.0.0", 1)]);
    }

    fn a_routed_network_takes_pings_from_another_one_and_no_port_that_is_not_published<F>(ebpf) {
        const OTHER: NetworkIndex = NetworkIndex(NET.0 + 1);
        let routed = NetworkValue {
            flags: ROUTED_V4 | ROUTED_V6,
            gateway: ifindex("gw0"),
            gateway_mac: GATEWAY_MAC,
            ..NetworkValue::default()
        };
        tables::set(ebpf, "networks", NET.0, routed);
        tables::put(ebpf, "endpoints", LO, first_in(OTHER));
        let asked = via_gateway::<F>(F::container(3));
        let out = run(ebpf, Hook::FromContainer, &asked.echo(F::ECHO_REQUEST, 7));
        assert_eq!(out.trace, trace(VerdictKind::Deliver, SECOND_VETH, OTHER));
        assert_eq!(see::<F>(&out.frame).addrs, (F::container(2), F::container(3)));
        let out = run(ebpf, Hook::FromContainer, &asked.udp(1_111, 53));
        assert_eq!(out.moved(), [("drop.not_published.from_container.1.2", 1)]);
    }

    fn fragments_of_a_published_port_go_the_way_of_their_first<F>(ebpf) {
        let sent = cut::<F>(&arriving::<F>(F::outside(1)), PORTS, 3);
        for (number, piece) in sent.iter().enumerate() {
            let out = run(ebpf, Hook::FromNetdev, piece);
            assert_eq!(out.action, REDIRECT, "{number}");
            assert_eq!(out.trace, trace(VerdictKind::Deliver, SECOND_VETH, NetworkIndex::HOST));
            assert_eq!(out.moved()[0], ("2.to_container", 1));
        }
        assert_eq!(held(ebpf).len(), 0);
    }

    fn a_later_fragment_that_overtakes_its_first_is_the_hosts_and_held_as_a_copy<F>(ebpf) {
        let sent = cut::<F>(&arriving::<F>(F::outside(1)), PORTS, 2);
        let out = run(ebpf, Hook::FromNetdev, &sent[1]);
        assert_eq!((out.action, out.frame.bytes == sent[1].bytes), (UNTOUCHED, true));
        assert_eq!(out.moved(), []);
        assert!(held(ebpf).iter().all(|it| it.drop.reason == 0), "no drop if its first never comes");
        // The first goes to its hook again, and the copy behind it.
        let out = run(ebpf, Hook::FromNetdev, &sent[0]);
        assert_eq!((out.action, out.trace.kind), (SHOT, VerdictKind::Again as u32));
        assert_eq!(held(ebpf).len(), 0);
        assert_eq!(run(ebpf, Hook::FromNetdev, &sent[0]).action, REDIRECT);
        assert_eq!(run(ebpf, Hook::FromNetdev, &sent[1]).action, REDIRECT);
    }

    fn a_fragment_whose_first_is_missing_is_held_as_a_drop_to_come_and_told_of_when_it_goes<F>(ebpf) {
        let sent = cut::<F>(&via_gateway::<F>(F::outside(9)), (50_003, 53), 2);
        let out = run(ebpf, Hook::FromContainer, &sent[1]);
        assert_eq!((out.action, out.trace.kind), (SHOT, VerdictKind::Held as u32));
        assert_eq!(out.moved(), [("flow.fragments_held", 1)]);
        let [kept] = &held(ebpf)[..] else { panic!("one is held") };
        assert_eq!(kept.bytes[..kept.len as usize], sent[1].bytes);
        let drop = DropKey {
            endpoint: FIRST,
            network: NET,
            reason: DropReason::FragmentExpired as u16,
            hook: Hook::FromContainer as u16,
        };
        assert_eq!(kept.drop, drop);
        let out = run(ebpf, Hook::FromContainer, &sent[0]);
        assert_eq!((out.action, out.trace.kind), (SHOT, VerdictKind::Again as u32));
        assert!(out.moved().contains(&("flow.fragments_released", 1)), "{out:?}");
        assert_eq!(held(ebpf).len(), 0);
    }

    fn an_overlapping_fragment_and_all_behind_it_are_drops<F>(ebpf) {
        let ends = arriving::<F>(F::outside(1));
        let sent = cut::<F>(&ends, PORTS, 3);
        run(ebpf, Hook::FromNetdev, &sent[0]);
        for forged in [ends.fragment(1, true, &[0x66; 16]), sent[1].clone(), sent[2].clone()] {
            let out = run(ebpf, Hook::FromNetdev, &forged);
            assert_eq!(out.action, SHOT);
            assert_eq!(out.moved(), [("drop.fragment_overlap.from_netdev.0.0", 1)]);
        }
    }

    fn a_last_fragment_that_ends_before_what_has_passed_spoils_its_datagram<F>(ebpf) {
        let ends = arriving::<F>(F::outside(1));
        let sent = cut::<F>(&ends, PORTS, 3);
        assert_eq!(run(ebpf, Hook::FromNetdev, &sent[0]).action, REDIRECT);
        assert_eq!(run(ebpf, Hook::FromNetdev, &ends.fragment(6, true, &[0x66; 16])).action, REDIRECT);
        for late in [ends.fragment(4, false, &[0x66; 16]), sent[1].clone()] {
            let out = run(ebpf, Hook::FromNetdev, &late);
            assert_eq!(out.moved(), [("drop.fragment_overlap.from_netdev.0.0", 1)]);
        }
    }

    fn a_duplicate_is_a_drop_and_its_datagram_goes_on<F>(ebpf) {
        let sent = cut::<F>(&arriving::<F>(F::outside(1)), PORTS, 3);
        for piece in &sent[..2] {
            assert_eq!(run(ebpf, Hook::FromNetdev, piece).action, REDIRECT);
            let out = run(ebpf, Hook::FromNetdev, piece);
            assert_eq!(out.action, SHOT);
            assert_eq!(out.moved(), [("drop.fragment_duplicate.from_netdev.0.0", 1)]);
        }
        assert_eq!(run(ebpf, Hook::FromNetdev, &sent[2]).action, REDIRECT);
    }
}

#[test]
fn arp_is_answered_in_place() {
    let mut ebpf = object();
    let question = Arp {
        hardware: Be16::new(1),
        protocol: ETHERTYPE_IPV4,
        hardware_len: 6,
        protocol_len: 4,
        operation: ARP_REQUEST,
        sender_mac: FIRST_MAC,
        sender: Arp::halves(V4::container(2)),
        target_mac: MacAddr([0; 6]),
        target: Arp::halves(V4::container(3)),
    };
    let sent = arp((MacAddr::BROADCAST, FIRST_MAC), &question, LO);
    let out = run(&mut ebpf, Hook::FromContainer, &sent);
    assert_eq!((out.action, out.trace.kind), (REDIRECT, VerdictKind::Answer as u32));
    let answer: Arp = out.frame.load(14).expect("an ARP message");
    assert_eq!((answer.operation, answer.sender_mac), (ARP_REPLY, SECOND_MAC));
    assert_eq!(out.moved(), [("1.from_container", 1)]);
}

#[test]
fn the_monitor_hears_of_drops_up_to_the_rate_and_of_what_it_lost() {
    let mut ebpf = object();
    let mut ends = to_neighbor::<V6>();
    ends.src = V6::container(9);
    for _ in 0..8 {
        run(&mut ebpf, Hook::FromContainer, &ends.udp(1_111, 53));
    }
    let events = tables::events(&mut ebpf);
    let lost: u64 =
        tables::per_cpu::<EventBudget>(&mut ebpf, "event_budget", 0).iter().map(|b| b.lost).sum();
    assert!(!events.is_empty(), "at least one event");
    assert_eq!(events.len() as u64 + lost, 8, "each drop is an event or lost");
    assert!(lost > 0, "one event a second and CPU");
    let Event { src, dst, sport, dport, reason, hook, family, proto, endpoint, network, .. } =
        events[0];
    assert_eq!((src, dst), (V6::container(9), V6::container(3)));
    assert_eq!((sport.get(), dport.get(), family, proto), (1_111, 53, 6, 17));
    assert_eq!((reason, hook), (DropReason::SpoofedSource as u8, Hook::FromContainer as u8));
    assert_eq!((endpoint, network), (FIRST, NET));
}
