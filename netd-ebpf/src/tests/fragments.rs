//! Datagrams in fragments through translation.

use std::vec;
use std::vec::Vec;

use netd_common::map::counter::FlowStat;
use netd_common::map::fragment::{HELD_LEN, HELD_MAX, LIFETIME_S};
use netd_common::wire::{IpHeader, TCP, TCP_ACK, TCP_FIN, TCP_SYN};
use netd_common::{DropReason, Hook};

use super::scene::*;
use crate::testing::build::{Build, Ends};
use crate::testing::{FakeTables, Frame, Outcome, pass};
use crate::verdict::Decision;

const FIRST_LEN: usize = 16;

/// A UDP datagram in two fragments, as either family's sender cuts it.
fn cut<F: Lab>(ends: &Ends<F>, ports: (u16, u16)) -> [Frame; 2] {
    let [first, .., last] = &cut_in(3, ends, ports)[..] else { unreachable!("three pieces") };
    let units = u16::try_from(FIRST_LEN / 8).unwrap();
    [first.clone(), ends.fragment(units, false, payload::<F>(last))]
}

/// The same in as many as asked for, two units each but the last.
fn cut_in<F: Lab>(count: usize, ends: &Ends<F>, ports: (u16, u16)) -> Vec<Frame> {
    let whole = ends.udp(ports.0, ports.1);
    let mut data = payload_of_whole::<F>(&whole).to_vec();
    data.resize(FIRST_LEN * (count - 1) + 8, 9);
    let piece = |(number, part): (usize, &[u8])| {
        let units = u16::try_from(number * FIRST_LEN / 8).unwrap();
        ends.fragment(units, number + 1 < count, part)
    };
    data.chunks(FIRST_LEN).enumerate().map(piece).collect()
}

fn addresses<F: Lab>(frame: &Frame) -> (F::Addr, F::Addr) {
    use crate::packet::PacketBuf;
    let header: F::Header = frame.load(14).expect("a header");
    let fields = header.fields().expect("a true header");
    (fields.src, fields.dst)
}

/// What follows the IP headers.
fn payload<F: Build>(frame: &Frame) -> &[u8] {
    &frame.bytes[14 + F::HEADER_LEN + if F::VERSION == 6 { 8 } else { 0 }..]
}

/// What follows the IP header of a packet in one piece.
fn payload_of_whole<F: Build>(frame: &Frame) -> &[u8] {
    &frame.bytes[14 + F::HEADER_LEN..]
}

/// A fragment of TCP's.
fn of_tcp<F: Build>(mut frame: Frame) -> Frame {
    frame.bytes[if F::VERSION == 6 { 54 } else { 23 }] = TCP;
    frame
}

/// Passes frames to a hook in their order, and what comes to it again behind each.
fn pass_all(tables: &mut FakeTables, hook: Hook, frames: &[Frame]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for frame in frames {
        let outcome = pass(tables, hook, frame.clone());
        let again = pass_all(tables, hook, &outcome.again);
        outcomes.push(outcome);
        outcomes.extend(again);
    }
    outcomes
}

fn decisions(outcomes: &[Outcome]) -> Vec<Decision> {
    outcomes.iter().map(|outcome| outcome.decision).collect()
}

/// What is delivered to a container, by order.
fn delivered_payloads<F: Lab>(outcomes: &[Outcome]) -> Vec<Vec<u8>> {
    let is_delivered = |it: &&Outcome| it.decision == delivered(BRIDGE, 3);
    outcomes.iter().filter(is_delivered).map(|it| payload::<F>(&it.frame).to_vec()).collect()
}

fn published<F: Lab>() -> Ends<F> {
    arriving::<F>(9, F::outside(1))
}

const PORTS: (u16, u16) = (1_111, 8_080);

on_both_families! {
    fn a_datagram_in_fragments_reaches_a_published_port_and_its_answer_the_client<F>() {
        let mut tables = host_tables::<F>();
        let [first, later] = cut::<F>(&arriving::<F>(9, F::outside(1)), (1_111, 8_080));
        let got = from_netdev(&mut tables, first);
        assert_eq!(got.decision, delivered(BRIDGE, 3));
        assert_eq!(payload::<F>(&got.frame)[..4], [0x04, 0x57, 0, 80]);
        let data = payload::<F>(&later).to_vec();
        let got = from_netdev(&mut tables, later);
        assert_eq!(got.decision, delivered(BRIDGE, 3));
        assert_eq!(addresses::<F>(&got.frame), (F::outside(9), F::at(BRIDGE, 3)));
        assert_eq!(payload::<F>(&got.frame), data, "a later fragment has no ports to change");
        for part in cut::<F>(&via_gateway::<F>(BRIDGE, 3, F::outside(9)), (80, 1_111)) {
            let out = from_container(&mut tables, part);
            assert!(matches!(out.decision, Decision::Uplink(UPLINK, _)), "{:?}", out.decision);
            assert_eq!(addresses::<F>(&out.frame), (F::outside(1), F::outside(9)));
        }
    }

    fn a_datagram_in_fragments_is_masqueraded_whole<F>() {
        let mut tables = host_tables::<F>();
        for part in cut::<F>(&via_gateway::<F>(BRIDGE, 2, F::outside(9)), (40_000, 53)) {
            let out = from_container(&mut tables, part);
            assert!(matches!(out.decision, Decision::Uplink(UPLINK, _)), "{:?}", out.decision);
            assert_eq!(addresses::<F>(&out.frame), (F::outside(1), F::outside(9)));
        }
    }

    fn later_fragments_that_overtake_their_first_reach_a_published_port_behind_it<F>() {
        let mut tables = host_tables::<F>();
        let sent = cut_in::<F>(4, &published::<F>(), PORTS);
        let order = [&sent[2], &sent[3], &sent[1], &sent[0]].map(Clone::clone);
        let got = pass_all(&mut tables, Hook::FromNetdev, &order);
        assert_eq!(decisions(&got[..3]), [Decision::Untouched; 3], "the host's stack has them too");
        assert_eq!(got[3].decision, Decision::Again);
        let whole: Vec<_> = delivered_payloads::<F>(&got);
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[0][..4], [0x04, 0x57, 0, 80]);
        for (at, number) in [(1, 2), (2, 3), (3, 1)] {
            assert_eq!(whole[at], payload::<F>(&sent[number]));
        }
        assert!(tables.held.is_empty(), "none is left behind");
        assert_eq!(tables.stat(FlowStat::FragmentsHeld), 0, "copies");
    }

    fn later_fragments_that_overtake_their_first_are_masqueraded_behind_it<F>() {
        let mut tables = host_tables::<F>();
        let mut sent = cut_in::<F>(3, &via_gateway::<F>(BRIDGE, 2, F::outside(9)), (40_000, 53));
        sent.reverse();
        let got = pass_all(&mut tables, Hook::FromContainer, &sent);
        assert_eq!(decisions(&got[..3]), [Decision::Held, Decision::Held, Decision::Again]);
        for out in &got[3..] {
            assert!(matches!(out.decision, Decision::Uplink(UPLINK, _)), "{:?}", out.decision);
            assert_eq!(addresses::<F>(&out.frame), (F::outside(1), F::outside(9)));
        }
        assert_eq!(got.len(), 6);
        assert_eq!(tables.stat(FlowStat::FragmentsHeld), 2);
        assert_eq!(tables.stat(FlowStat::FragmentsReleased), 2);
    }

    fn a_reply_in_fragments_in_reversed_order_reaches_the_masqueraded_container<F>() {
        let mut tables = host_tables::<F>();
        let asked = via_gateway::<F>(BRIDGE, 2, F::outside(9)).udp(50_003, 53);
        from_container(&mut tables, asked);
        let mut reply = cut_in::<F>(3, &arriving::<F>(9, F::outside(1)), (53, 50_003));
        reply.reverse();
        let got = pass_all(&mut tables, Hook::FromNetdev, &reply);
        assert_eq!(decisions(&got[3..]), [delivered(BRIDGE, 2); 3]);
    }

    fn a_fragment_whose_first_is_missing_is_held_and_known_to_be_a_drop_if_it_never_comes<F>() {
        let mut tables = host_tables::<F>();
        let [_, later] = cut::<F>(&via_gateway::<F>(BRIDGE, 2, F::outside(9)), (40_000, 53));
        let out = from_container(&mut tables, later.clone());
        assert_eq!(out.decision, Decision::Held);
        let held: Vec<_> = tables.held.values().collect();
        assert_eq!(held.len(), 1);
        assert_eq!(held[0].bytes[..held[0].len as usize], later.bytes);
        let expected = netd_common::map::counter::DropKey {
            endpoint: index(BRIDGE, 2),
            network: netd_common::NetworkIndex(u32::from(BRIDGE)),
            reason: DropReason::FragmentExpired as u16,
            hook: Hook::FromContainer as u16,
        };
        assert_eq!(held[0].drop, expected);
    }

    fn a_fragment_that_cannot_be_held_is_dropped_as_unknown<F>() {
        let mut tables = host_tables::<F>();
        let ends = via_gateway::<F>(BRIDGE, 2, F::outside(9));
        let long = ends.fragment(2, false, &vec![1; HELD_LEN]);
        let out = from_container(&mut tables, long);
        assert_eq!(out.decision, dropped(DropReason::FragmentUnknown));
        for number in 1..HELD_MAX {
            let piece = ends.fragment(u16::try_from(number * 2).unwrap(), true, &[1; 16]);
            assert_eq!(from_container(&mut tables, piece).decision, Decision::Held, "{number}");
        }
        let beyond = ends.fragment(1_000, true, &[1; 16]);
        let out = from_container(&mut tables, beyond);
        assert_eq!(out.decision, dropped(DropReason::FragmentUnknown));
        assert_eq!(out.ledger.endpoint, index(BRIDGE, 2));
    }

    fn a_first_fragment_that_comes_after_the_lifetime_is_waited_for_by_nobody<F>() {
        let mut tables = host_tables::<F>();
        let [first, later] = cut::<F>(&published::<F>(), PORTS);
        from_netdev(&mut tables, later);
        tables.now_s += LIFETIME_S + 1;
        assert_eq!(from_netdev(&mut tables, first).decision, delivered(BRIDGE, 3));
    }

    fn an_overlapping_fragment_is_dropped_and_so_is_the_rest_of_its_datagram<F>() {
        for (units, len) in [(1, 16), (3, 16), (0, 24)] {
            let mut tables = host_tables::<F>();
            let sent = cut_in::<F>(4, &published::<F>(), PORTS);
            assert_eq!(from_netdev(&mut tables, sent[0].clone()).decision, delivered(BRIDGE, 3));
            if units == 3 {
                assert_eq!(from_netdev(&mut tables, sent[1].clone()).decision, delivered(BRIDGE, 3));
            }
            let forged = if units == 0 {
                let mut data = payload::<F>(&sent[0]).to_vec();
                data.resize(len, 0x66);
                published::<F>().fragment(0, true, &data)
            } else {
                published::<F>().fragment(units, true, &vec![0x66; len])
            };
            let overlap = dropped(DropReason::FragmentOverlap);
            assert_eq!(from_netdev(&mut tables, forged).decision, overlap, "{units}");
            for rest in &sent[2..] {
                assert_eq!(from_netdev(&mut tables, rest.clone()).decision, overlap, "{units}");
            }
        }
    }

    fn a_fragment_beyond_the_end_of_its_datagram_spoils_it<F>() {
        for (units, more) in [(6, true), (6, false), (2, false)] {
            let mut tables = host_tables::<F>();
            let sent = cut_in::<F>(3, &published::<F>(), PORTS);
            from_netdev(&mut tables, sent[0].clone());
            let last = published::<F>().fragment(5, false, &[1; 8]);
            assert_eq!(from_netdev(&mut tables, last).decision, delivered(BRIDGE, 3));
            let beyond = published::<F>().fragment(units, more, &[1; 8]);
            let out = from_netdev(&mut tables, beyond);
            assert_eq!(out.decision, dropped(DropReason::FragmentOverlap), "{units} {more}");
        }
    }

    fn a_later_fragment_opens_no_closed_connection_anew<F>() {
        let mut tables = host_tables::<F>();
        let ends = via_gateway::<F>(BRIDGE, 2, F::outside(9));
        let replies = arriving::<F>(9, F::outside(1));
        let whole = ends.tcp(50_003, 80, TCP_SYN);
        let share = &payload_of_whole::<F>(&whole)[..24];
        let first = of_tcp::<F>(ends.fragment(0, true, share));
        assert!(matches!(from_container(&mut tables, first).decision, Decision::Uplink(..)));
        from_netdev(&mut tables, replies.tcp(80, 50_003, TCP_SYN | TCP_ACK));
        from_container(&mut tables, ends.tcp(50_003, 80, TCP_FIN | TCP_ACK));
        from_netdev(&mut tables, replies.tcp(80, 50_003, TCP_FIN | TCP_ACK));
        tables.now_s += 1;
        let created = tables.stat(FlowStat::Created);
        let later = of_tcp::<F>(ends.fragment(3, false, &[1; 8]));
        assert!(matches!(from_container(&mut tables, later).decision, Decision::Uplink(..)));
        assert_eq!(tables.stat(FlowStat::Created), created, "it goes the old one's way");
    }

    fn a_last_fragment_that_ends_before_what_has_passed_spoils_its_datagram<F>() {
        let mut tables = host_tables::<F>();
        let sent = cut_in::<F>(4, &published::<F>(), PORTS);
        for number in [0, 2] {
            assert_eq!(from_netdev(&mut tables, sent[number].clone()).decision, delivered(BRIDGE, 3));
        }
        let early = published::<F>().fragment(2, false, &[0x66; FIRST_LEN]);
        let overlap = dropped(DropReason::FragmentOverlap);
        assert_eq!(from_netdev(&mut tables, early).decision, overlap);
        for rest in [&sent[1], &sent[3]] {
            assert_eq!(from_netdev(&mut tables, rest.clone()).decision, overlap);
        }
    }

    fn a_duplicate_is_dropped_and_its_datagram_is_delivered_all_the_same<F>() {
        let mut tables = host_tables::<F>();
        let sent = cut_in::<F>(3, &published::<F>(), PORTS);
        let order = [0, 0, 1, 1, 0, 2].map(|number: usize| sent[number].clone());
        let got = pass_all(&mut tables, Hook::FromNetdev, &order);
        let duplicate = dropped(DropReason::FragmentDuplicate);
        let passed = delivered(BRIDGE, 3);
        assert_eq!(decisions(&got), [passed, duplicate, passed, duplicate, duplicate, passed]);
        assert_eq!(delivered_payloads::<F>(&got).concat().len(), 2 * FIRST_LEN + 8);
    }

    fn duplicates_that_overtake_their_first_are_delivered_once<F>() {
        let mut tables = host_tables::<F>();
        let sent = cut_in::<F>(3, &published::<F>(), PORTS);
        let order = [1, 1, 0, 2].map(|number: usize| sent[number].clone());
        let got = pass_all(&mut tables, Hook::FromNetdev, &order);
        assert_eq!(delivered_payloads::<F>(&got).len(), 3);
        assert_eq!(got[5].decision, dropped(DropReason::FragmentDuplicate));
    }

    fn a_datagram_that_passed_whole_is_forgotten_and_its_id_can_be_used_again<F>() {
        let mut tables = host_tables::<F>();
        for round in 0..3 {
            for part in cut_in::<F>(3, &published::<F>(), (1_000 + round, 8_080)) {
                assert_eq!(from_netdev(&mut tables, part).decision, delivered(BRIDGE, 3));
            }
            assert!(tables.units.is_empty() && tables.fragments.is_empty());
        }
    }

    fn a_spoilt_datagram_is_forgotten_after_its_lifetime<F>() {
        let mut tables = host_tables::<F>();
        let sent = cut_in::<F>(3, &published::<F>(), PORTS);
        from_netdev(&mut tables, sent[0].clone());
        from_netdev(&mut tables, published::<F>().fragment(1, true, &[0x66; 16]));
        let out = from_netdev(&mut tables, sent[1].clone());
        assert_eq!(out.decision, dropped(DropReason::FragmentOverlap));
        tables.now_s += LIFETIME_S + 1;
        for part in sent {
            assert_eq!(from_netdev(&mut tables, part).decision, delivered(BRIDGE, 3));
        }
    }

    fn fragments_that_nobody_could_put_together_are_dropped_as_truncated<F>() {
        let mut tables = host_tables::<F>();
        let ends = published::<F>();
        from_netdev(&mut tables, cut::<F>(&ends, PORTS)[0].clone());
        for (units, more, len) in [(2, true, 12), (2, false, 0), (8_190, true, 24)] {
            let out = from_netdev(&mut tables, ends.fragment(units, more, &vec![1; len]));
            assert_eq!(out.decision, dropped(DropReason::Truncated), "{units} {more} {len}");
        }
    }

    fn fragments_of_the_hosts_own_datagrams_are_untouched<F>() {
        let mut tables = host_tables::<F>();
        for part in cut::<F>(&arriving::<F>(9, F::outside(1)), (1_111, 5_000)) {
            let out = from_netdev(&mut tables, part.clone());
            assert_eq!((out.decision, out.frame), (Decision::Untouched, part));
        }
        assert!(tables.held.is_empty() && tables.units.is_empty(), "they cost nothing");
    }

    fn fragments_of_the_hosts_own_datagrams_are_untouched_in_any_order<F>() {
        let mut tables = host_tables::<F>();
        let [first, later] = cut::<F>(&arriving::<F>(9, F::outside(1)), (1_111, 5_000));
        for part in [later.clone(), first, later] {
            let out = from_netdev(&mut tables, part.clone());
            assert_eq!((out.decision, out.frame), (Decision::Untouched, part));
        }
    }

    fn fragments_for_the_hosts_stack_pass_in_any_order_and_those_for_a_published_port_behind<F>() {
        for (port, reached) in [(5_000, false), (8_082, true)] {
            let mut tables = host_tables::<F>();
            let ends = via_gateway::<F>(BRIDGE, 2, F::outside(1));
            let [first, later] = cut::<F>(&ends, (1_111, port));
            let got = pass_all(&mut tables, Hook::FromContainer, &[later, first]);
            assert_eq!(got[0].decision, Decision::HostStack(gateway(BRIDGE)));
            let all = decisions(&got[1..]);
            if reached {
                assert_eq!(all, [Decision::Again, delivered(OTHER, 2), delivered(OTHER, 2)]);
            } else {
                assert_eq!(all, [Decision::HostStack(gateway(BRIDGE))]);
            }
        }
    }

    fn fragments_for_a_routed_networks_port_wait_for_their_first<F>() {
        let mut tables = host_tables::<F>();
        let [first, later] = cut::<F>(&arriving::<F>(9, F::at(ROUTED, 2)), (1_111, 80));
        let got = pass_all(&mut tables, Hook::FromNetdev, &[later, first]);
        assert_eq!(decisions(&got), [
            Decision::Held,
            Decision::Again,
            delivered(ROUTED, 2),
            delivered(ROUTED, 2),
        ]);
    }

    fn fragments_for_a_neighbours_published_port_wait_for_their_first_without_icc<F>() {
        let mut tables = host_tables::<F>();
        let [first, later] = cut::<F>(&to_neighbor::<F>(QUIET, 2, 3), (1_111, 80));
        let got = pass_all(&mut tables, Hook::FromContainer, &[later, first]);
        assert_eq!(decisions(&got[2..]), [delivered(QUIET, 3); 2]);
        let [first, later] = cut::<F>(&to_neighbor::<F>(QUIET, 2, 3), (1_111, 81));
        let got = pass_all(&mut tables, Hook::FromContainer, &[later, first]);
        assert_eq!(decisions(&got), [Decision::Held, dropped(DropReason::IccDisabled)]);
    }

    fn fragments_between_neighbours_pass_in_any_order<F>() {
        let mut tables = host_tables::<F>();
        let [first, later] = cut::<F>(&to_neighbor::<F>(BRIDGE, 2, 3), (1_111, 5_000));
        for part in [later, first] {
            let out = from_container(&mut tables, part.clone());
            assert_eq!((out.decision, out.frame), (delivered(BRIDGE, 3), part));
        }
    }
}

#[test]
fn options_behind_the_fragment_header_are_bytes_of_the_datagram() {
    use netd_common::V6;
    let mut tables = host_tables::<V6>();
    let ends = published::<V6>();
    let mut first = vec![60, 0, 0, 1, 0, 0, 0, 77];
    first.extend([17, 0, 1, 4, 0, 0, 0, 0]);
    first.extend(&ends.udp(PORTS.0, PORTS.1).bytes[54..62]);
    let out = from_netdev(&mut tables, ends.raw(44, &first, None));
    assert_eq!(out.decision, delivered(BRIDGE, 3));
    let mut later = ends.fragment(1, false, &[1; 8]);
    later.bytes[54] = 60;
    let out = from_netdev(&mut tables, later);
    assert_eq!(out.decision, Decision::Untouched, "of another protocol until its first is known");
}
