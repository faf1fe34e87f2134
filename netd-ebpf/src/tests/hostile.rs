//! A container that forges what it sends, with all the rights it has in its own namespace.

use std::vec;
use std::vec::Vec;

use netd_common::map::endpoint::{CHECK_ADDRESS, CHECK_MAC};
use netd_common::wire::{
    ARP_REPLY, ARP_REQUEST, Arp, ETHERTYPE_IPV4, NeighborMessage, TCP, TCP_SYN, UDP,
};
use netd_common::{Address, Be16, DropReason, MacAddr, V4, V6};

use super::scene::*;
use crate::testing::build::{self, Ends};
use crate::testing::{FakeTables, Frame};
use crate::verdict::{Decision, Sender};

/// What `anti_spoof` can be: `address`, `mac`, `off`.
const MODES: [u32; 3] = [CHECK_MAC | CHECK_ADDRESS, CHECK_MAC, 0];

fn tables_with<F: Lab>(flags: u32) -> FakeTables {
    let mut tables = host_tables::<F>();
    for endpoint in tables.endpoints.values_mut() {
        endpoint.flags = flags;
    }
    tables
}

/// What becomes of it in each mode.
fn in_each_mode<F: Lab>(frame: &Frame) -> [Decision; 3] {
    MODES.map(|flags| from_container(&mut tables_with::<F>(flags), frame.clone()).decision)
}

const fn everywhere(reason: DropReason) -> [Decision; 3] {
    [Decision::Drop(reason); 3]
}

const REPLICATED: Decision = Decision::Replicate(Sender::Container);

/// An IPv4 frame with options between header and payload.
fn with_options(mut frame: Frame, options: &[u8]) -> Frame {
    let len = u8::try_from(options.len()).unwrap();
    frame.bytes[14] += len / 4;
    frame.bytes[17] += len;
    frame.bytes.splice(34..34, options.iter().copied());
    frame
}

/// An IPv6 frame with extension headers; the last of them names what follows.
fn with_extensions(mut frame: Frame, first: u8, chain: &[u8]) -> Frame {
    frame.bytes[20] = first;
    frame.bytes[19] += u8::try_from(chain.len()).unwrap();
    frame.bytes.splice(54..54, chain.iter().copied());
    frame
}

on_both_families! {
    fn a_source_that_nobody_can_be_is_martian_whatever_is_checked<F>() {
        for src in [F::Addr::ANY, F::loopback(), F::group()] {
            for ends in [via_gateway::<F>(BRIDGE, 2, F::outside(9)), to_neighbor::<F>(BRIDGE, 2, 3)] {
                let frame = Ends { src, ..ends }.udp(1, 2);
                assert_eq!(in_each_mode::<F>(&frame), everywhere(DropReason::MartianAddress), "{src:?}");
            }
        }
    }

    fn an_address_of_another_is_spoofed_where_addresses_are_checked<F>() {
        for src in [F::at(BRIDGE, 1), F::at(BRIDGE, 3), F::at(BRIDGE, 99), F::at(OTHER, 2), F::outside(1), F::outside(9)] {
            let frame = Ends { src, ..to_neighbor::<F>(BRIDGE, 2, 3) }.udp(1, 2);
            let told = in_each_mode::<F>(&frame);
            assert_eq!(told, [dropped(DropReason::SpoofedSource), delivered(BRIDGE, 3), delivered(BRIDGE, 3)]);
        }
    }

    fn a_mac_of_another_is_spoofed_where_macs_are_checked<F>() {
        let mut ends = to_neighbor::<F>(BRIDGE, 2, 3);
        ends.macs.1 = mac(BRIDGE, 9);
        let spoofed = dropped(DropReason::SpoofedSource);
        assert_eq!(in_each_mode::<F>(&ends.udp(1, 2)), [spoofed, spoofed, delivered(BRIDGE, 3)]);
    }

    fn an_endpoint_without_a_family_speaks_none_of_it<F>() {
        let mut tables = host_tables::<F>();
        let endpoint = tables.endpoints.get_mut(&veth(BRIDGE, 2)).unwrap();
        (endpoint.v4, endpoint.v6) = (netd_common::Ipv4::ANY, netd_common::Ipv6::ANY);
        let frame = Ends { src: F::Addr::ANY, ..via_gateway::<F>(BRIDGE, 2, F::outside(9)) }.udp(1, 2);
        assert_eq!(from_container(&mut tables, frame).decision, dropped(DropReason::MartianAddress));
    }

    fn no_packet_is_routed_to_where_nobody_can_be<F>() {
        for dst in [F::Addr::ANY, F::loopback(), F::group()] {
            let frame = via_gateway::<F>(BRIDGE, 2, dst).udp(1, 2);
            assert_eq!(in_each_mode::<F>(&frame), everywhere(DropReason::MartianAddress), "{dst:?}");
        }
    }

    fn a_frame_for_all_carries_no_packet_for_one_that_policy_would_judge<F>() {
        for network in [BRIDGE, INNER, QUIET] {
            for dst in [F::at(network, 1), F::at(network, 3), F::at(ROUTED, 2), F::outside(1)] {
                let mut ends = via_gateway::<F>(network, 2, dst);
                ends.macs.0 = MacAddr::BROADCAST;
                let out = from_container(&mut host_tables::<F>(), ends.udp(1, 2));
                assert_eq!(out.decision, dropped(DropReason::UnicastInBroadcast), "{dst:?}");
            }
        }
        let mut ends = via_gateway::<F>(BRIDGE, 2, F::at(BRIDGE, 255));
        ends.macs.0 = MacAddr::BROADCAST;
        assert_eq!(in_each_mode::<F>(&ends.udp(1, 2)), [REPLICATED; 3], "the network's own broadcast");
    }

    fn without_icc_the_host_alone_hears_what_is_for_all_or_for_nobody<F>() {
        let mut tables = host_tables::<F>();
        let mut ends = via_gateway::<F>(QUIET, 2, F::group());
        for dst in [MacAddr::BROADCAST, MacAddr([2, 9, 9, 9, 9, 9])] {
            ends.macs.0 = dst;
            let out = from_container(&mut tables, ends.udp(1, 2));
            assert_eq!(out.decision, Decision::HostStack(gateway(QUIET)));
        }
    }

    fn without_icc_no_frame_reaches_a_neighbour_that_is_no_ip_packet<F>() {
        let mut frame = to_neighbor::<F>(QUIET, 2, 3).udp(1, 2);
        frame.bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
        let out = from_container(&mut host_tables::<F>(), frame);
        assert_eq!(out.decision, dropped(DropReason::IccDisabled));
    }

    fn a_length_that_lies_is_truncated<F>() {
        let good = to_neighbor::<F>(BRIDGE, 2, 3).tcp(1, 2, TCP_SYN);
        let len = if F::VERSION == 4 { 16 } else { 18 };
        for wrong in [0xffff, u16::try_from(good.bytes.len()).unwrap()] {
            let mut frame = good.clone();
            frame.bytes[len..len + 2].copy_from_slice(&wrong.to_be_bytes());
            assert_eq!(in_each_mode::<F>(&frame), everywhere(DropReason::Truncated), "{wrong}");
        }
        for cut in [1, 20, 30, good.bytes.len() - 15] {
            let mut frame = good.clone();
            frame.bytes.truncate(good.bytes.len() - cut);
            assert_eq!(in_each_mode::<F>(&frame), everywhere(DropReason::Truncated), "{cut} bytes cut");
        }
    }

    fn a_transport_header_ends_within_its_packet_not_in_the_padding<F>() {
        for (proto, len) in [(TCP, 19), (UDP, 7), (F::ICMP, 7), (netd_common::wire::SCTP, 11)] {
            let mut frame = to_neighbor::<F>(BRIDGE, 2, 3).raw(proto, &[0; 19][..len], None);
            frame.bytes.resize(frame.bytes.len() + 40, 0);
            assert_eq!(in_each_mode::<F>(&frame), everywhere(DropReason::Truncated), "{proto}");
        }
    }

    fn a_first_fragment_holds_the_whole_transport_header<F>() {
        let mut frame = to_neighbor::<F>(BRIDGE, 2, 3).raw(TCP, &[0; 16], None);
        if F::VERSION == 4 {
            frame.bytes[20] = 0x20;
        } else {
            frame = with_extensions(frame, 44, &[TCP, 0, 0, 1, 0, 0, 0, 7]);
        }
        assert_eq!(in_each_mode::<F>(&frame), everywhere(DropReason::Truncated));
    }

    fn a_tagged_frame_is_not_carried<F>() {
        let frame = to_neighbor::<F>(BRIDGE, 2, 3).udp(1, 2);
        let tagged = Frame { vlan: true, ..frame.clone() };
        assert_eq!(in_each_mode::<F>(&tagged), everywhere(DropReason::UnsupportedProtocol));
        for tag in [[0x81, 0, 0, 5], [0x81, 0, 0, 0], [0x88, 0xa8, 0, 5]] {
            let mut tagged = frame.clone();
            tagged.bytes.splice(12..12, tag);
            assert_eq!(in_each_mode::<F>(&tagged), everywhere(DropReason::UnsupportedProtocol));
        }
    }

    fn no_container_complains_in_its_neighbours_name<F>() {
        for (flags, told) in MODES.into_iter().zip([true, false, false]) {
            let mut tables = tables_with::<F>(flags);
            let sent = from_container(&mut tables, via_gateway::<F>(BRIDGE, 3, F::outside(9)).udp(50_001, 53));
            let reply = arriving::<F>(9, F::outside(1)).udp(53, 50_001);
            let got = from_netdev(&mut tables, reply);
            assert_eq!((got.decision, sent.ledger.endpoint), (delivered(BRIDGE, 3), index(BRIDGE, 3)));
            let (kind, code) = if F::VERSION == 4 { (3, 3) } else { (1, 4) };
            let mut payload = vec![kind, code, 0, 0, 0, 0, 0, 0];
            payload.extend(&got.frame.bytes[14..]);
            let forged = via_gateway::<F>(BRIDGE, 2, F::outside(9)).raw(F::ICMP, &payload, Some(2));
            let out = from_container(&mut tables, forged);
            if told {
                assert_eq!(out.decision, dropped(DropReason::SpoofedSource));
            } else {
                // It may be a router: but nobody outside knows it by its own address.
                assert!(matches!(out.decision, Decision::Uplink(..)), "{:?}", out.decision);
                assert_eq!(build::see::<F>(&out.frame).addrs, (F::outside(1), F::outside(9)));
            }
        }
    }

    fn a_source_from_within_is_spoofed_when_it_comes_from_outside<F>() {
        for (src, reason) in [
            (F::at(BRIDGE, 3), DropReason::SpoofedSource),
            (F::outside(1), DropReason::SpoofedSource),
            (F::loopback(), DropReason::MartianAddress),
            (F::group(), DropReason::MartianAddress),
            (F::Addr::ANY, DropReason::MartianAddress),
        ] {
            let to = |dst| Ends { src, ..arriving::<F>(9, dst) };
            let mut tables = host_tables::<F>();
            let out = from_netdev(&mut tables, to(F::outside(1)).tcp(1, 8_080, TCP_SYN));
            assert_eq!(out.decision, dropped(reason), "{src:?}");
            let out = from_netdev(&mut tables, to(F::at(ROUTED, 2)).tcp(1, 80, TCP_SYN));
            assert_eq!(out.decision, dropped(reason), "{src:?} to an open network");
            let out = from_netdev(&mut tables, to(F::outside(1)).tcp(1, 22, TCP_SYN));
            assert_eq!(out.decision, Decision::Untouched, "{src:?} is the host's to judge");
        }
    }
}

#[test]
fn a_source_route_is_not_carried_and_other_options_are() {
    let frame = to_neighbor::<V4>(BRIDGE, 2, 3).udp(1, 2);
    for kind in [131, 137] {
        for options in [[kind, 7, 4, 10, 2, 0, 2, 0], [1, kind, 7, 4, 10, 2, 0, 2]] {
            let routed = with_options(frame.clone(), &options);
            assert_eq!(in_each_mode::<V4>(&routed), everywhere(DropReason::SourceRouted));
        }
    }
    for options in
        [&[7, 7, 4, 0, 0, 0, 0, 0][..], &[148, 4, 0, 0], &[68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
    {
        let harmless = with_options(frame.clone(), options);
        assert_eq!(in_each_mode::<V4>(&harmless), [delivered(BRIDGE, 3); 3]);
    }
    let lying = with_options(frame, &[7, 9, 4, 0]);
    assert_eq!(in_each_mode::<V4>(&lying), everywhere(DropReason::Truncated));
}

#[test]
fn a_routing_header_with_routers_left_is_not_carried_and_other_extensions_are() {
    let frame = to_neighbor::<V6>(BRIDGE, 2, 3).udp(1, 2);
    for kind in [0, 2, 4] {
        let mut chain = [0; 24];
        chain[..4].copy_from_slice(&[UDP, 2, kind, 1]);
        chain[8..].copy_from_slice(&V6::at(OTHER, 2).octets());
        let routed = with_extensions(frame.clone(), 43, &chain);
        assert_eq!(in_each_mode::<V6>(&routed), everywhere(DropReason::SourceRouted));
        let hidden: Vec<u8> = [&[43, 0, 1, 4, 0, 0, 0, 0][..], &chain].concat();
        let routed = with_extensions(frame.clone(), 60, &hidden);
        assert_eq!(in_each_mode::<V6>(&routed), everywhere(DropReason::SourceRouted));
    }
    let harmless = with_extensions(frame, 0, &[60, 0, 1, 4, 0, 0, 0, 0, UDP, 0, 1, 4, 0, 0, 0, 0]);
    assert_eq!(in_each_mode::<V6>(&harmless), [delivered(BRIDGE, 3); 3]);
}

#[test]
fn extension_headers_do_not_hide_the_ports_from_policy_and_translation() {
    let mut tables = host_tables::<V6>();
    let options = [UDP, 0, 1, 4, 0, 0, 0, 0];
    let frame = via_gateway::<V6>(BRIDGE, 2, V6::outside(9)).udp(50_001, 53);
    let out = from_container(&mut tables, with_extensions(frame, 60, &options));
    assert!(matches!(out.decision, Decision::Uplink(..)));
    let ends = Ends::<V6> { src: V6::outside(1), ..via_gateway(BRIDGE, 2, V6::outside(9)) };
    let seen = build::see::<V6>(&without_extensions(out.frame, UDP));
    assert_eq!((seen.addrs, seen.ports), ((ends.src, ends.dst), (50_001, 53)));
    let closed = to_neighbor::<V6>(QUIET, 2, 3).udp(1, 22);
    let out = from_container(&mut tables, with_extensions(closed, 60, &options));
    assert_eq!(out.decision, dropped(DropReason::IccDisabled));
}

/// The frame without its one extension header of eight bytes.
fn without_extensions(mut frame: Frame, proto: u8) -> Frame {
    frame.bytes[20] = proto;
    frame.bytes[19] -= 8;
    frame.bytes.drain(54..62);
    frame
}

fn discovery(kind: u8, target: netd_common::Ipv6) -> Vec<u8> {
    let message = NeighborMessage { kind, target, ..NeighborMessage::default() };
    bytemuck::bytes_of(&message).to_vec()
}

#[test]
fn a_router_or_redirect_is_refused_but_where_nothing_is_checked() {
    let refused = dropped(DropReason::RogueRouter);
    for kind in [134, 137] {
        let frame =
            to_neighbor::<V6>(BRIDGE, 2, 3).raw(58, &discovery(kind, V6::at(BRIDGE, 2)), Some(2));
        assert_eq!(in_each_mode::<V6>(&frame), [refused, refused, delivered(BRIDGE, 3)]);
    }
    for kind in [5, 9] {
        let frame = to_neighbor::<V4>(BRIDGE, 2, 3).raw(1, &[kind, 1, 0, 0, 10, 1, 0, 2], Some(2));
        assert_eq!(in_each_mode::<V4>(&frame), [refused, refused, delivered(BRIDGE, 3)]);
    }
}

#[test]
fn discovery_in_a_fragment_or_behind_extension_headers_is_not_carried() {
    let ends = to_neighbor::<V6>(BRIDGE, 2, 3);
    for kind in [133, 134, 135, 136, 137] {
        let frame = ends.raw(58, &discovery(kind, V6::at(BRIDGE, 2)), Some(2));
        let chains = [
            (0, [58, 0, 1, 4, 0, 0, 0, 0]),
            (60, [58, 0, 1, 4, 0, 0, 0, 0]),
            (44, [58, 0, 0, 1, 0, 0, 0, 7]),
            (44, [58, 0, 0, 0, 0, 0, 0, 7]),
        ];
        for (first, chain) in chains {
            let hidden = with_extensions(frame.clone(), first, &chain);
            let told = everywhere(DropReason::UnsupportedProtocol);
            assert_eq!(in_each_mode::<V6>(&hidden), told, "{kind} behind {first}");
        }
    }
    let mut report = Ends { dst: V6::group(), ..ends };
    report.macs.0 = MacAddr([0x33, 0x33, 0, 0, 0, 0x16]);
    let report = with_extensions(report.raw(58, &[143; 24], None), 0, &[58, 0, 5, 2, 0, 0, 1, 0]);
    assert_eq!(in_each_mode::<V6>(&report), [REPLICATED; 3], "multicast listeners report so");
}

/// ARP as a request, as a reply and gratuitous.
fn arp_claims(claimed: netd_common::Ipv4) -> Vec<Frame> {
    let claim = |operation, target| Arp {
        hardware: Be16::new(1),
        protocol: ETHERTYPE_IPV4,
        hardware_len: 6,
        protocol_len: 4,
        operation,
        sender_mac: mac(BRIDGE, 2),
        sender: Arp::halves(claimed),
        target_mac: MacAddr([0; 6]),
        target: Arp::halves(target),
    };
    [(ARP_REQUEST, V4::at(BRIDGE, 99)), (ARP_REPLY, V4::at(BRIDGE, 3)), (ARP_REQUEST, claimed)]
        .map(|(operation, target)| {
            let macs = (MacAddr::BROADCAST, mac(BRIDGE, 2));
            build::arp(macs, &claim(operation, target), veth(BRIDGE, 2))
        })
        .into()
}

#[test]
fn an_address_is_claimed_by_who_holds_it_or_by_arp_where_it_floats() {
    let spoofed = dropped(DropReason::SpoofedNeighbor);
    for held in [V4::at(BRIDGE, 1), V4::at(BRIDGE, 3)] {
        for frame in arp_claims(held) {
            assert_eq!(in_each_mode::<V4>(&frame), [spoofed, spoofed, REPLICATED]);
        }
    }
    for frame in arp_claims(V4::at(BRIDGE, 99)) {
        assert_eq!(in_each_mode::<V4>(&frame), [spoofed, REPLICATED, REPLICATED]);
    }
    for frame in &arp_claims(V4::at(BRIDGE, 2))[1..] {
        assert_eq!(in_each_mode::<V4>(frame), [REPLICATED; 3]);
    }
}

#[test]
fn an_address_is_claimed_by_who_holds_it_or_by_discovery_where_it_floats() {
    let spoofed = dropped(DropReason::SpoofedNeighbor);
    let mut ends = Ends { dst: V6::group(), ..to_neighbor::<V6>(BRIDGE, 2, 3) };
    ends.macs.0 = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
    let advertise = |target| ends.raw(58, &discovery(136, target), Some(2));
    for held in [V6::at(BRIDGE, 1), V6::at(BRIDGE, 3)] {
        assert_eq!(in_each_mode::<V6>(&advertise(held)), [spoofed, spoofed, REPLICATED]);
    }
    let floating = V6::at(BRIDGE, 99);
    assert_eq!(in_each_mode::<V6>(&advertise(floating)), [spoofed, REPLICATED, REPLICATED]);
    assert_eq!(in_each_mode::<V6>(&advertise(V6::at(BRIDGE, 2))), [REPLICATED; 3]);
    // Who hears a solicitation learns its source.
    for kind in [133, 135] {
        let asks = Ends { src: V6::at(BRIDGE, 3), ..ends };
        let frame = asks.raw(58, &discovery(kind, floating), Some(2));
        assert_eq!(in_each_mode::<V6>(&frame)[1..], [spoofed, REPLICATED]);
    }
}

#[test]
fn without_icc_a_link_local_address_is_no_way_round() {
    let mut tables = host_tables::<V6>();
    let mut neighbor = [0; 16];
    neighbor[..2].copy_from_slice(&[0xfe, 0x80]);
    neighbor[8..].copy_from_slice(&mac(QUIET, 3).eui64());
    let mut own = neighbor;
    own[8..].copy_from_slice(&mac(QUIET, 2).eui64());
    let (src, dst) = (netd_common::Ipv6::new(own), netd_common::Ipv6::new(neighbor));
    let key = netd_common::map::endpoint::AddressKey {
        network: netd_common::NetworkIndex(u32::from(QUIET)),
        addr: dst,
    };
    let held = tables.v6.addresses.values().find(|it| it.mac == mac(QUIET, 3)).copied().unwrap();
    tables.v6.addresses.insert(key, held);
    let ends = Ends { src, dst, ..to_neighbor::<V6>(QUIET, 2, 3) };
    for frame in [ends.echo(128, 1), ends.udp(1, 2)] {
        assert_eq!(from_container(&mut tables, frame).decision, dropped(DropReason::IccDisabled));
    }
}
