//! What must hold of every packet, whatever it is.
//!
//! Law: each check says in its message what was promised; bytes are summed here from scratch.
#![allow(clippy::expect_used, clippy::panic, reason = "a broken promise fails the test")]

use netd_common::map::endpoint::{ADDRESS_IS_ELSEWHERE, AddressKey, EndpointValue};
use netd_common::map::flow::FLOW_RST;
use netd_common::map::network::{INTERNAL, TrustedKey};
use netd_common::wire::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, IpHeader, Part, TCP, TCP_FIN, TCP_RST, TCP_SYN, UDP,
    WireFamily,
};
use netd_common::{Be16, Hook, IfIndex, NetworkIndex};

use super::places::Globe;
use super::tables::Subnet;
use super::{FakeTables, Frame, Outcome};
use crate::packet::PacketBuf;
use crate::parse::{self, Packet, Role};
use crate::tables::Tables;
use crate::verdict::Decision;

/// Map operations of a packet whose flow entry says all.
const OPERATIONS_SETTLED: u32 = 4;
/// Insertions and removals of a packet that opens a flow.
const UPDATES_AT_MOST: u32 = 8;

/// Checks one packet's life at one hook.
///
/// # Panics
/// If a promise is broken.
pub fn check<F: Globe>(
    before: &mut FakeTables,
    after: &mut FakeTables,
    (hook, sent): (Hook, &Frame),
    outcome: &Outcome,
) {
    let sent = &dressed(hook, sent);
    check_accounting(before, (hook, sent), outcome);
    check_cost::<F>(before, after, (hook, sent), outcome);
    check_bytes(sent, outcome);
    check_sums::<F>(sent, outcome);
    check_reach::<F>(before, (hook, sent), outcome);
    if let Some(told) = &outcome.complaint {
        assert!(matches!(outcome.decision, Decision::Drop(_)), "an error is about a drop");
        check_own_packet(told);
    }
    if outcome.decision == Decision::Answer {
        check_own_packet(&outcome.frame);
    }
}

/// A packet without an Ethernet header is given one, if it is a packet at all.
fn dressed(hook: Hook, sent: &Frame) -> Frame {
    let ethertype = match sent.bytes.first().map(|byte| byte >> 4) {
        Some(4) => ETHERTYPE_IPV4,
        Some(6) => ETHERTYPE_IPV6,
        Some(_) | None => return sent.clone(),
    };
    if hook != Hook::FromL3dev {
        return sent.clone();
    }
    let header = Ethernet { ethertype, ..Ethernet::default() };
    let bytes = [bytemuck::bytes_of(&header), &sent.bytes].concat();
    Frame { bytes, ..sent.clone() }
}

/// No stage is left over, and a drop is counted against whose it is.
fn check_accounting(before: &FakeTables, (hook, sent): (Hook, &Frame), outcome: &Outcome) {
    match outcome.decision {
        Decision::Later(stage, _) => panic!("{stage:?} is not the last word"),
        Decision::Drop(reason) if hook == Hook::FromContainer => {
            if let Some(endpoint) = before.endpoints.get(&sent.ifindex) {
                assert_eq!(outcome.ledger.endpoint, endpoint.index, "{reason:?} counts there");
                assert_eq!(outcome.ledger.network, endpoint.network, "{reason:?} counts there");
            }
        }
        Decision::Drop(_)
        | Decision::Untouched
        | Decision::Accept
        | Decision::Deliver(..)
        | Decision::ToVeth(_)
        | Decision::HostStack(_)
        | Decision::Uplink(..)
        | Decision::Answer
        | Decision::Replicate(_)
        | Decision::Held
        | Decision::Again => {}
    }
}

fn check_cost<F: Globe>(
    before: &mut FakeTables,
    after: &FakeTables,
    (hook, sent): (Hook, &Frame),
    outcome: &Outcome,
) {
    let updates = after.updates - before.updates;
    assert!(updates <= UPDATES_AT_MOST, "{updates} updates for one packet");
    if is_settled::<F>(before, hook, sent) && is_sent(outcome.decision) {
        let cost = outcome.operations;
        assert!(cost <= OPERATIONS_SETTLED, "{cost} map operations for an established flow");
    }
}

const fn is_sent(decision: Decision) -> bool {
    matches!(decision, Decision::Deliver(..) | Decision::Uplink(..))
}

/// Whether a lasting entry says all about a packet.
fn is_settled<F: Globe>(tables: &mut FakeTables, hook: Hook, frame: &Frame) -> bool {
    let network = match hook {
        Hook::FromContainer => tables.endpoints.get(&frame.ifindex).map(|it| it.network),
        Hook::FromNetdev => Some(NetworkIndex::HOST),
        Hook::ToContainer | Hook::FromHost | Hook::ToNetdev | Hook::FromL3dev | Hook::ToL3dev => {
            None
        }
    };
    let Some((network, packet)) = network.and_then(|it| Some((it, read::<F>(frame, it)?))) else {
        return false;
    };
    let now = (tables.now_s, tables.config.generation);
    let is_plain = packet.part == Part::Whole
        && matches!(packet.role, Role::Opens | Role::Continues)
        && packet.key.network == network
        && packet.key.proto != F::ICMP
        && packet.tcp_flags & (TCP_FIN | TCP_RST | TCP_SYN) == 0;
    is_plain
        && F::family(tables).flows.get(&packet.key).is_some_and(|entry| {
            (entry.last_seen_s, entry.generation) == now && entry.flags & FLOW_RST == 0
        })
}

fn read<F: Globe>(frame: &Frame, network: NetworkIndex) -> Option<Packet<F::Addr>> {
    let ethernet: Ethernet = parse::ethernet(frame)?;
    if ethernet.ethertype != F::ETHERTYPE {
        return None;
    }
    let mut packet = Packet::default();
    parse::ip::<F, Frame>(frame, network, &mut packet)?;
    Some(packet)
}

/// A frame keeps its length, and what is not ours every byte.
fn check_bytes(sent: &Frame, outcome: &Outcome) {
    match outcome.decision {
        Decision::Untouched
        | Decision::Accept
        | Decision::HostStack(_)
        | Decision::Replicate(_) => {
            assert_eq!(outcome.frame.bytes, sent.bytes, "{:?} changes nothing", outcome.decision);
        }
        Decision::Deliver(..) | Decision::ToVeth(_) | Decision::Uplink(..) | Decision::Answer => {
            assert_eq!(outcome.frame.bytes.len(), sent.bytes.len(), "length of the frame");
        }
        Decision::Drop(_) | Decision::Later(..) | Decision::Held | Decision::Again => {}
    }
}

/// A right sum stays right, and a wrong one wrong by the same: nobody mends what a link broke.
fn check_sums<F: Globe>(sent: &Frame, outcome: &Outcome) {
    let (Some(packet), true) = (read::<F>(sent, NetworkIndex::HOST), is_sent(outcome.decision))
    else {
        return;
    };
    let (before, after) = (&sent.bytes, &outcome.frame.bytes);
    if F::VERSION == 4 {
        let end = packet.l4 as usize;
        assert_eq!(residue(&before[14..end]), residue(&after[14..end]), "header checksum");
    }
    if packet.part == Part::Later || has_no_sum::<F>(&packet, before) {
        return;
    }
    let covered = |bytes: &[u8]| transport_residue::<F>(bytes, &packet);
    assert_eq!(covered(before), covered(after), "transport checksum");
}

/// The other family's ICMP is a protocol like any other.
fn has_no_sum<F: Globe>(packet: &Packet<F::Addr>, bytes: &[u8]) -> bool {
    let l4 = packet.l4 as usize;
    match packet.key.proto {
        TCP => bytes.len() < l4 + 18,
        UDP => bytes.get(l4 + 6..l4 + 8).is_none_or(|sum| sum == [0, 0]),
        proto => proto != F::ICMP,
    }
}

/// Addresses, where the sum covers them, and all that follows the headers.
fn transport_residue<F: Globe>(bytes: &[u8], packet: &Packet<F::Addr>) -> u64 {
    let at = 14 + <F::Header as IpHeader<F>>::ADDRESSES as usize;
    let covers = packet.key.proto != F::ICMP || F::ICMP_PSEUDO_HEADER;
    let addresses = if covers { &bytes[at..at + 2 * F::ADDRESS_LEN as usize] } else { &[] };
    (sum(addresses) + sum(&bytes[packet.l4 as usize..])) % 0xffff
}

fn residue(bytes: &[u8]) -> u64 {
    sum(bytes) % 0xffff
}

fn sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u64::from);
    bytes.chunks(2).map(word).sum()
}

/// Who may never be reached, and in whose name nothing leaves.
fn check_reach<F: Globe>(before: &mut FakeTables, (hook, sent): (Hook, &Frame), outcome: &Outcome) {
    match outcome.decision {
        Decision::Deliver(veth, endpoint) => {
            let target =
                before.endpoints.get(&veth).expect("whom a packet is delivered to is there");
            assert_eq!(target.index, endpoint, "it is counted for whom it is delivered to");
        }
        Decision::ToVeth(veth) => {
            assert!(before.endpoints.contains_key(&veth), "whom a packet is sent to is there");
        }
        Decision::Uplink(uplink, _) => {
            assert!(before.uplinks.contains_key(&uplink), "an uplink is one");
            assert_eq!(hook, Hook::FromContainer, "only containers leave by an uplink");
            check_name::<F>(before, sent, (uplink, &outcome.frame));
        }
        Decision::Untouched
        | Decision::Accept
        | Decision::HostStack(_)
        | Decision::Answer
        | Decision::Replicate(_)
        | Decision::Held
        | Decision::Again
        | Decision::Drop(_)
        | Decision::Later(..) => {}
    }
}

/// A container leaves in the host's name where its network says so, and out of an internal network
/// not at all. A link that its network trusts knows it by its own name. By its address in another
/// network it is a container of that one.
fn check_name<F: Globe>(tables: &mut FakeTables, sent: &Frame, (uplink, left): (IfIndex, &Frame)) {
    let sender = tables.endpoints[&sent.ifindex];
    let index = spoken_for::<F>(tables, &sender, sent).unwrap_or(sender.network);
    let network = tables.network(index);
    assert_eq!(network.flags & INTERNAL, 0, "nothing leaves an internal network");
    let packet = read::<F>(left, NetworkIndex::HOST).expect("what leaves is a packet");
    let holds = |(holds, prefix, _): &Subnet<F::Addr>| holds(*prefix, packet.key.src);
    let family = F::family(tables);
    let is_inner =
        family.subnets.iter().any(holds) && !family.host_addresses.contains_key(&packet.key.src);
    let is_trusted = tables.trusted.contains(&TrustedKey { network: index, ifindex: uplink });
    if network.flags & (F::MASQUERADE | F::OPEN) == F::MASQUERADE && !is_trusted {
        assert!(!is_inner, "a container's address does not leave");
    }
}

/// The other network in whose address a container speaks.
fn spoken_for<F: Globe>(
    tables: &mut FakeTables,
    sender: &EndpointValue,
    sent: &Frame,
) -> Option<NetworkIndex> {
    let addr = read::<F>(sent, sender.network)?.key.src;
    let key = AddressKey { network: sender.network, addr };
    let family = F::family(tables);
    let holder = family.addresses.get(&key).filter(|it| it.endpoint == sender.index)?;
    let holds = |(holds, prefix, _): &&Subnet<F::Addr>| holds(*prefix, addr);
    let subnet = family.subnets.iter().find(holds)?;
    (holder.flags & ADDRESS_IS_ELSEWHERE != 0).then_some(subnet.2)
}

/// A packet of our own making has right sums and lengths.
fn check_own_packet(frame: &Frame) {
    let ethernet: Ethernet = frame.load(0).expect("an Ethernet header");
    let bytes = &frame.bytes;
    if ethernet.ethertype == netd_common::V4::ETHERTYPE {
        let len = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
        assert!(14 + len <= bytes.len(), "the length in the header");
        assert_eq!(residue(&bytes[14..34]), 0, "header checksum");
        assert_eq!(residue(&bytes[34..14 + len]), 0, "ICMP checksum");
    } else if ethernet.ethertype == Be16::new(0x86dd) {
        let len = u16::from_be_bytes([bytes[18], bytes[19]]);
        let end = 54 + usize::from(len);
        assert!(end <= bytes.len(), "the length in the header");
        let covered = sum(&bytes[22..end]) + u64::from(len) + 58;
        assert_eq!(covered % 0xffff, 0, "ICMPv6 checksum");
    }
}
