//! ARP and neighbour discovery.

use netd_common::wire::{
    ARP_REPLY, ARP_REQUEST, Arp, ETHERTYPE_IPV4, Ethernet, LinkAddressOption, NeighborMessage,
};
use netd_common::{Be16, DropReason, Hook, Ipv4, Ipv6, MacAddr, V4, V6};

use super::scene::*;
use crate::packet::PacketBuf;
use crate::testing::build::{self, Ends, see};
use crate::testing::{Frame, pass};
use crate::verdict::{Decision, Sender};

fn question(from: u8, sender: Ipv4, target: Ipv4) -> Arp {
    Arp {
        hardware: Be16::new(1),
        protocol: ETHERTYPE_IPV4,
        hardware_len: 6,
        protocol_len: 4,
        operation: ARP_REQUEST,
        sender_mac: mac(BRIDGE, from),
        sender: Arp::halves(sender),
        target_mac: MacAddr([0; 6]),
        target: Arp::halves(target),
    }
}

fn ask(from: u8, sender: Ipv4, target: Ipv4) -> Frame {
    build::arp(
        (MacAddr::BROADCAST, mac(BRIDGE, from)),
        &question(from, sender, target),
        veth(BRIDGE, from),
    )
}

#[test]
fn arp_for_a_known_address_is_answered() {
    let mut tables = host_tables::<V4>();
    for target in [1, 3] {
        let out = from_container(&mut tables, ask(2, V4::at(BRIDGE, 2), V4::at(BRIDGE, target)));
        assert_eq!(out.decision, Decision::Answer);
        let ethernet: Ethernet = out.frame.load(0).unwrap();
        assert_eq!((ethernet.dst, ethernet.src), (mac(BRIDGE, 2), mac(BRIDGE, target)));
        let arp: Arp = out.frame.load(14).unwrap();
        assert_eq!(arp.operation, ARP_REPLY);
        assert_eq!(
            (arp.sender_mac, Arp::address(arp.sender)),
            (mac(BRIDGE, target), V4::at(BRIDGE, target))
        );
        assert_eq!((arp.target_mac, Arp::address(arp.target)), (mac(BRIDGE, 2), V4::at(BRIDGE, 2)));
    }
}

#[test]
fn arp_probes_are_answered_only_on_conflict() {
    let mut tables = host_tables::<V4>();
    let probe = |target| ask(2, Ipv4::new([0; 4]), V4::at(BRIDGE, target));
    assert_eq!(from_container(&mut tables, probe(3)).decision, Decision::Answer);
    assert_eq!(
        from_container(&mut tables, probe(2)).decision,
        Decision::Replicate(Sender::Container)
    );
}

#[test]
fn arp_for_an_unknown_or_the_own_address_is_replicated() {
    let mut tables = host_tables::<V4>();
    for target in [2, 99] {
        let out = from_container(&mut tables, ask(2, V4::at(BRIDGE, 2), V4::at(BRIDGE, target)));
        assert_eq!(out.decision, Decision::Replicate(Sender::Container));
    }
}

#[test]
fn a_claim_of_a_foreign_address_is_spoofed() {
    let mut tables = host_tables::<V4>();
    let claim = question(2, V4::at(BRIDGE, 3), V4::at(BRIDGE, 1));
    for operation in [ARP_REQUEST, ARP_REPLY] {
        let frame = build::arp(
            (MacAddr::BROADCAST, mac(BRIDGE, 2)),
            &Arp { operation, ..claim },
            veth(BRIDGE, 2),
        );
        assert_eq!(
            from_container(&mut tables, frame).decision,
            dropped(DropReason::SpoofedNeighbor)
        );
    }
    let foreign =
        Arp { sender_mac: mac(BRIDGE, 3), sender: Arp::halves(V4::at(BRIDGE, 2)), ..claim };
    let frame = build::arp((MacAddr::BROADCAST, mac(BRIDGE, 2)), &foreign, veth(BRIDGE, 2));
    assert_eq!(from_container(&mut tables, frame).decision, dropped(DropReason::SpoofedNeighbor));
}

#[test]
fn the_hosts_arp_is_answered_for_containers() {
    let mut tables = host_tables::<V4>();
    let mut frame = ask(1, V4::at(BRIDGE, 1), V4::at(BRIDGE, 2));
    frame.ifindex = gateway(BRIDGE);
    let out = pass(&mut tables, Hook::FromHost, frame);
    assert_eq!(out.decision, Decision::Answer);
    let arp: Arp = out.frame.load(14).unwrap();
    assert_eq!(arp.sender_mac, mac(BRIDGE, 2));
}

fn solicit(from: u8, src: Ipv6, target: Ipv6) -> Frame {
    solicit_with(from, src, target, &[])
}

fn solicit_with(from: u8, src: Ipv6, target: Ipv6, more: &[u8]) -> Frame {
    let message = NeighborMessage { kind: 135, target, ..NeighborMessage::default() };
    let mut payload = bytemuck::bytes_of(&message).to_vec();
    if src != Ipv6::new([0; 16]) {
        let option = LinkAddressOption { kind: 1, len: 1, mac: mac(BRIDGE, from) };
        payload.extend(bytemuck::bytes_of(&option));
    }
    payload.extend(more);
    let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    group[13..].copy_from_slice(&target.octets()[13..]);
    let ends = Ends::<V6> {
        macs: (MacAddr([0x33, 0x33, 0xff, group[13], group[14], group[15]]), mac(BRIDGE, from)),
        src,
        dst: Ipv6::new(group),
        ifindex: veth(BRIDGE, from),
    };
    ends.raw(58, &payload, Some(2))
}

#[test]
fn a_solicitation_for_a_known_address_is_answered() {
    let mut tables = host_tables::<V6>();
    for (target, flags) in [(1, 0xe0), (3, 0x60)] {
        let out =
            from_container(&mut tables, solicit(2, V6::at(BRIDGE, 2), V6::at(BRIDGE, target)));
        assert_eq!(out.decision, Decision::Answer);
        let seen = see::<V6>(&out.frame);
        assert_eq!(seen.addrs, (V6::at(BRIDGE, target), V6::at(BRIDGE, 2)));
        assert_eq!(seen.macs, (mac(BRIDGE, 2), mac(BRIDGE, target)));
        assert_eq!(seen.ttl, 255);
        let message: NeighborMessage = out.frame.load(54).unwrap();
        assert_eq!((message.kind, message.target), (136, V6::at(BRIDGE, target)));
        assert_eq!(message.flags.to_ne_bytes()[0], flags);
        let option: LinkAddressOption = out.frame.load(78).unwrap();
        assert_eq!((option.kind, option.mac), (2, mac(BRIDGE, target)));
    }
}

#[test]
fn the_answer_to_a_solicitation_with_a_nonce_is_whole() {
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    for src in [V6::at(BRIDGE, 2), Ipv6::new([0; 16])] {
        let asked = solicit_with(2, src, V6::at(BRIDGE, 3), &nonce);
        let mut out = from_container(&mut host_tables::<V6>(), asked);
        assert_eq!(out.decision, Decision::Answer);
        assert_eq!(out.frame.bytes[18..20], [0, 32], "the length in the header");
        out.frame.bytes.truncate(54 + 32);
        see::<V6>(&out.frame);
        let option: LinkAddressOption = out.frame.load(78).unwrap();
        assert_eq!((option.kind, option.len, option.mac), (2, 1, mac(BRIDGE, 3)));
    }
}

#[test]
fn duplicate_address_detection_finds_duplicates_only() {
    let mut tables = host_tables::<V6>();
    let nobody = Ipv6::new([0; 16]);
    let out = from_container(&mut tables, solicit(2, nobody, V6::at(BRIDGE, 2)));
    assert_eq!(out.decision, Decision::Replicate(Sender::Container));
    let out = from_container(&mut tables, solicit(2, nobody, V6::at(BRIDGE, 3)));
    assert_eq!(out.decision, Decision::Answer);
    let seen = see::<V6>(&out.frame);
    assert_eq!(seen.macs.0, MacAddr([0x33, 0x33, 0, 0, 0, 1]), "to all nodes");
}

#[test]
fn routers_and_claims_of_foreign_addresses_are_dropped() {
    let mut tables = host_tables::<V6>();
    let ends = to_neighbor::<V6>(BRIDGE, 2, 3);
    let send = |kind, target| {
        let message = NeighborMessage { kind, target, ..NeighborMessage::default() };
        ends.raw(58, bytemuck::bytes_of(&message), Some(2))
    };
    for kind in [134, 137] {
        let out = from_container(&mut tables, send(kind, V6::at(BRIDGE, 2)));
        assert_eq!(out.decision, dropped(DropReason::RogueRouter));
    }
    let out = from_container(&mut tables, send(136, V6::at(BRIDGE, 3)));
    assert_eq!(out.decision, dropped(DropReason::SpoofedNeighbor));
    let out = from_container(&mut tables, send(136, V6::at(BRIDGE, 2)));
    assert_eq!(out.decision, delivered(BRIDGE, 3));
}

#[test]
fn the_hosts_solicitation_is_answered_for_containers() {
    let mut tables = host_tables::<V6>();
    let mut frame = solicit(1, V6::at(BRIDGE, 1), V6::at(BRIDGE, 2));
    frame.ifindex = gateway(BRIDGE);
    let out = pass(&mut tables, Hook::FromHost, frame);
    assert_eq!(out.decision, Decision::Answer);
    assert_eq!(see::<V6>(&out.frame).addrs.0, V6::at(BRIDGE, 2));
}
