//! Each cell of the truth table, on both families.

use netd_common::map::endpoint::{ADDRESS_IS_ELSEWHERE, AddressKey, AddressValue};
use netd_common::map::network::TrustedKey;
use netd_common::wire::{TCP_ACK, TCP_SYN};
use netd_common::{DropReason, Hook, IfIndex, MacAddr, NetworkIndex};

use super::scene::*;
use crate::testing::build::{Ends, see};
use crate::testing::{FakeTables, pass};
use crate::verdict::{Decision, Sender, Version};

fn uplink<F: Lab>() -> Decision {
    let version = if F::VERSION == 4 { Version::V4 } else { Version::V6 };
    Decision::Uplink(UPLINK, version)
}

on_both_families! {
    fn a_neighbour_is_delivered_with_its_source_kept<F>() {
        let mut tables = host_tables::<F>();
        let sent = to_neighbor::<F>(BRIDGE, 2, 3).tcp(1_111, 80, TCP_SYN);
        let out = from_container(&mut tables, sent.clone());
        assert_eq!(out.decision, delivered(BRIDGE, 3));
        assert_eq!(out.frame, sent);
        assert!(F::tables(&mut tables).flows_new.is_empty(), "no flow within a network");
    }

    fn a_neighbour_is_delivered_by_way_of_the_gateway_too<F>() {
        let mut tables = host_tables::<F>();
        let out = from_container(&mut tables, via_gateway::<F>(BRIDGE, 2, F::at(BRIDGE, 3)).udp(1, 2));
        assert_eq!(out.decision, delivered(BRIDGE, 3));
        let seen = see::<F>(&out.frame);
        assert_eq!(seen.macs, (mac(BRIDGE, 3), mac(BRIDGE, 2)));
        assert_eq!(seen.addrs, (F::at(BRIDGE, 2), F::at(BRIDGE, 3)));
    }

    fn another_network_is_isolated<F>() {
        let mut tables = host_tables::<F>();
        for from in [BRIDGE, INNER, QUIET] {
            let out = from_container(&mut tables, via_gateway::<F>(from, 2, F::at(OTHER, 2)).udp(1, 2));
            assert_eq!(out.decision, dropped(DropReason::NetworkIsolation));
            assert_eq!(out.ledger.endpoint, index(from, 2));
        }
    }

    fn a_routed_network_takes_pings_and_published_ports_from_another_network_as_they_are<F>() {
        let mut tables = host_tables::<F>();
        let asked = via_gateway::<F>(BRIDGE, 2, F::at(ROUTED, 2));
        let answer = via_gateway::<F>(ROUTED, 2, F::at(BRIDGE, 2));
        let syn = from_container(&mut tables, asked.tcp(1_111, 80, TCP_SYN));
        assert_eq!(syn.decision, delivered(ROUTED, 2));
        assert_eq!(see::<F>(&syn.frame).addrs, (F::at(BRIDGE, 2), F::at(ROUTED, 2)));
        let answered = [
            (answer.tcp(80, 1_111, TCP_SYN | TCP_ACK), delivered(BRIDGE, 2)),
            (asked.echo(F::ECHO_REQUEST, 7), delivered(ROUTED, 2)),
            (answer.echo(F::ECHO_REPLY, 7), delivered(BRIDGE, 2)),
        ];
        let refused = [
            (asked.tcp(1_112, 81, TCP_SYN), DropReason::NotPublished),
            (asked.tcp(1_113, 80, TCP_ACK), DropReason::InvalidState),
            (asked.echo(F::ECHO_REPLY, 8), DropReason::InvalidState),
            (answer.udp(80, 53), DropReason::NetworkIsolation),
            (
                via_gateway::<F>(INNER, 2, F::at(ROUTED, 2)).tcp(1, 80, TCP_SYN),
                DropReason::NetworkIsolation,
            ),
        ];
        let refused = refused.map(|(sent, reason)| (sent, dropped(reason)));
        for (sent, decision) in answered.into_iter().chain(refused) {
            assert_eq!(from_container(&mut tables, sent).decision, decision);
        }
    }

    fn the_own_gateway_address_is_the_host<F>() {
        let mut tables = host_tables::<F>();
        for from in [BRIDGE, INNER, QUIET] {
            let out = from_container(&mut tables, via_gateway::<F>(from, 2, F::at(from, 1)).udp(1, 53));
            assert_eq!(out.decision, Decision::HostStack(gateway(from)));
        }
    }

    fn an_unpublished_port_of_the_host_is_the_host<F>() {
        let mut tables = host_tables::<F>();
        for dst in [F::outside(1), F::at(OTHER, 1)] {
            let out = from_container(&mut tables, via_gateway::<F>(BRIDGE, 2, dst).tcp(1, 22, TCP_SYN));
            assert_eq!(out.decision, Decision::HostStack(gateway(BRIDGE)));
        }
    }

    fn a_published_port_is_translated_with_its_source_kept<F>() {
        let mut tables = host_tables::<F>();
        let out = from_container(&mut tables, via_gateway::<F>(BRIDGE, 2, F::outside(1)).tcp(1_111, 8_082, TCP_SYN));
        assert_eq!(out.decision, delivered(OTHER, 2));
        let seen = see::<F>(&out.frame);
        assert_eq!(seen.addrs, (F::at(BRIDGE, 2), F::at(OTHER, 2)));
        assert_eq!(seen.ports, (1_111, 80));
        assert_eq!(seen.macs, (mac(OTHER, 2), mac(OTHER, 1)));
        assert_eq!(seen.ttl, 63);
        assert_eq!(tables.hits.get(&8_082), Some(&1));
    }

    fn a_container_reaches_itself_from_a_loopback_address_of_ours<F>() {
        let mut tables = host_tables::<F>();
        let out = from_container(&mut tables, via_gateway::<F>(BRIDGE, 3, F::at(BRIDGE, 1)).udp(1_111, 8_080));
        assert_eq!(out.decision, delivered(BRIDGE, 3));
        assert_eq!(see::<F>(&out.frame).addrs, (F::hairpin_addr(), F::at(BRIDGE, 3)));
    }

    fn outside_is_reached_masqueraded<F>() {
        let mut tables = host_tables::<F>();
        let out = from_container(&mut tables, via_gateway::<F>(BRIDGE, 2, F::outside(9)).tcp(50_003, 443, TCP_SYN));
        assert_eq!(out.decision, uplink::<F>());
        assert_eq!(out.next_hop, F::widen(F::outside(254)));
        assert_eq!(out.frame.mark, netd_common::FORWARD_MARK);
        let seen = see::<F>(&out.frame);
        assert_eq!(seen.addrs, (F::outside(1), F::outside(9)));
        assert_eq!(seen.ports, (50_003, 443), "a port of the pool is kept");
    }

    fn outside_is_reached_as_is_without_masquerade<F>() {
        let mut tables = host_tables::<F>();
        let out = from_container(&mut tables, via_gateway::<F>(ROUTED, 2, F::outside(9)).udp(1_111, 53));
        assert_eq!(out.decision, uplink::<F>());
        assert_eq!(see::<F>(&out.frame).addrs, (F::at(ROUTED, 2), F::outside(9)));
    }

    fn an_internal_network_ends_at_its_gateway<F>() {
        let mut tables = host_tables::<F>();
        for (dst, port) in [(F::outside(1), 22), (F::outside(1), 8_080), (F::at(BRIDGE, 1), 8_080), (F::outside(9), 443)] {
            let out = from_container(&mut tables, via_gateway::<F>(INNER, 2, dst).tcp(1, port, TCP_SYN));
            assert_eq!(out.decision, dropped(DropReason::InternalNetwork));
        }
        let out = from_container(&mut tables, to_neighbor::<F>(INNER, 2, 3).udp(1, 2));
        assert_eq!(out.decision, delivered(INNER, 3));
    }

    fn without_icc_only_published_ports_are_reached<F>() {
        let mut tables = host_tables::<F>();
        let ends = to_neighbor::<F>(QUIET, 2, 3);
        let out = from_container(&mut tables, ends.tcp(1_111, 22, TCP_SYN));
        assert_eq!(out.decision, dropped(DropReason::IccDisabled));
        let out = from_container(&mut tables, ends.tcp(1_111, 80, TCP_SYN));
        assert_eq!(out.decision, delivered(QUIET, 3));
        assert_eq!(see::<F>(&out.frame).ttl, 64, "bridged, not routed");
        let reply = to_neighbor::<F>(QUIET, 3, 2);
        let out = from_container(&mut tables, reply.tcp(80, 1_111, TCP_SYN | 16));
        assert_eq!(out.decision, delivered(QUIET, 2), "a reply");
        let out = from_container(&mut tables, reply.tcp(80, 1_112, 16));
        assert_eq!(out.decision, dropped(DropReason::IccDisabled), "no reply to anything");
    }

    fn the_host_reaches_every_container<F>() {
        let mut tables = host_tables::<F>();
        for network in [BRIDGE, INNER, QUIET] {
            let mut frame = to_neighbor::<F>(network, 1, 2).udp(1, 2);
            frame.ifindex = gateway(network);
            let out = pass(&mut tables, Hook::FromHost, frame);
            assert_eq!(out.decision, Decision::ToVeth(veth(network, 2)));
        }
    }

    fn what_the_host_forwards_is_from_outside<F>() {
        let mut tables = host_tables::<F>();
        let mut frame = to_neighbor::<F>(BRIDGE, 1, 2).udp(1, 2);
        frame.ifindex = gateway(BRIDGE);
        frame.forwarded = true;
        let out = pass(&mut tables, Hook::FromHost, frame);
        assert_eq!(out.decision, dropped(DropReason::NotPublished));
    }

    fn outside_reaches_no_unpublished_container<F>() {
        let mut tables = host_tables::<F>();
        for dst in [F::at(BRIDGE, 2), F::at(OTHER, 2), F::at(BRIDGE, 1)] {
            let out = from_netdev(&mut tables, arriving::<F>(9, dst).tcp(1, 80, TCP_SYN));
            assert_eq!(out.decision, dropped(DropReason::NotPublished));
        }
        let out = from_netdev(&mut tables, arriving::<F>(9, F::at(INNER, 2)).udp(1, 80));
        assert_eq!(out.decision, dropped(DropReason::InternalNetwork));
    }

    fn outside_reaches_the_published_ports_of_a_routed_network<F>() {
        let mut tables = host_tables::<F>();
        let ends = arriving::<F>(9, F::at(ROUTED, 2));
        let out = from_netdev(&mut tables, ends.tcp(1_111, 80, TCP_SYN));
        assert_eq!(out.decision, delivered(ROUTED, 2));
        assert_eq!(see::<F>(&out.frame).addrs, (F::outside(9), F::at(ROUTED, 2)));
        let out = from_netdev(&mut tables, ends.echo(F::ECHO_REQUEST, 5));
        assert_eq!(out.decision, delivered(ROUTED, 2));
        let out = from_netdev(&mut tables, ends.tcp(1_111, 81, TCP_SYN));
        assert_eq!(out.decision, dropped(DropReason::NotPublished));
        let back = via_gateway::<F>(ROUTED, 2, F::outside(9));
        let out = from_container(&mut tables, back.tcp(80, 1_111, TCP_SYN | 16));
        assert_eq!(out.decision, uplink::<F>(), "the reply");
    }

    fn a_trusted_link_reaches_published_ports_by_the_containers_own_addresses<F>() {
        let mut tables = host_tables::<F>();
        publish::<F>(&mut tables, (F::at(BRIDGE, 3), 80, 6), (BRIDGE, 3, 80));
        let ends = arriving::<F>(9, F::at(BRIDGE, 3));
        let closed = dropped(DropReason::NotPublished);
        assert_eq!(from_netdev(&mut tables, ends.tcp(1_111, 80, TCP_SYN)).decision, closed);
        tables.trusted.insert(TrustedKey { network: NetworkIndex(BRIDGE.into()), ifindex: UPLINK });
        assert_eq!(from_netdev(&mut tables, ends.tcp(1_111, 80, TCP_SYN)).decision, delivered(BRIDGE, 3));
        let back = via_gateway::<F>(BRIDGE, 3, F::outside(9));
        let out = from_container(&mut tables, back.tcp(80, 1_111, TCP_SYN | 16));
        assert_eq!((out.decision, see::<F>(&out.frame).addrs.0), (uplink::<F>(), F::at(BRIDGE, 3)));
        assert_eq!(from_netdev(&mut tables, ends.tcp(1_111, 81, TCP_SYN)).decision, closed);
        assert_eq!(from_netdev(&mut tables, ends.echo(F::ECHO_REQUEST, 5)).decision, closed);
        let other = arriving::<F>(9, F::at(OTHER, 2));
        assert_eq!(from_netdev(&mut tables, other.tcp(1_111, 80, TCP_SYN)).decision, closed);
    }

    fn the_hosts_own_traffic_is_untouched<F>() {
        let mut tables = host_tables::<F>();
        let ends = arriving::<F>(9, F::outside(1));
        let mut broadcast = ends.udp(68, 8_080);
        broadcast.for_another = true;
        let frames = [
            ends.tcp(1, 22, TCP_SYN),
            ends.tcp(443, 40_000, 16),
            ends.tcp(1, 8_080, 16),
            ends.udp(53, 40_000),
            ends.echo(F::ECHO_REQUEST, 1),
            ends.raw(47, &[0; 8], None),
            arriving::<F>(9, F::outside(8)).udp(1, 2),
            broadcast,
        ];
        for frame in frames {
            let out = from_netdev(&mut tables, frame.clone());
            assert_eq!(out.decision, Decision::Untouched);
            assert_eq!(out.frame, frame);
        }
        assert!(F::tables(&mut tables).flows_new.is_empty());
    }

    fn a_published_port_is_translated_from_outside_with_its_source_kept<F>() {
        let mut tables = host_tables::<F>();
        let out = from_netdev(&mut tables, arriving::<F>(9, F::outside(1)).tcp(1_111, 8_080, TCP_SYN));
        assert_eq!(out.decision, delivered(BRIDGE, 3));
        let seen = see::<F>(&out.frame);
        assert_eq!(seen.addrs, (F::outside(9), F::at(BRIDGE, 3)));
        assert_eq!(seen.ports, (1_111, 80));
        assert_eq!(seen.macs, (mac(BRIDGE, 3), mac(BRIDGE, 1)));
        assert_eq!(seen.ttl, 63);
    }

    fn a_port_published_on_one_address_answers_there_only<F>() {
        let mut tables = host_tables::<F>();
        let out = from_netdev(&mut tables, arriving::<F>(9, F::outside(7)).udp(1, 9_090));
        assert_eq!(out.decision, delivered(BRIDGE, 3));
        let out = from_netdev(&mut tables, arriving::<F>(9, F::outside(1)).udp(1, 9_090));
        assert_eq!(out.decision, Decision::Untouched);
    }

    fn a_foreign_source_is_spoofed<F>() {
        let mut tables = host_tables::<F>();
        let mut ends = to_neighbor::<F>(BRIDGE, 2, 3);
        ends.src = F::at(BRIDGE, 3);
        assert_eq!(from_container(&mut tables, ends.udp(1, 2)).decision, dropped(DropReason::SpoofedSource));
        let mut ends = to_neighbor::<F>(BRIDGE, 2, 3);
        ends.macs.1 = mac(BRIDGE, 3);
        assert_eq!(from_container(&mut tables, ends.udp(1, 2)).decision, dropped(DropReason::SpoofedSource));
        let mut tagged = to_neighbor::<F>(BRIDGE, 2, 3).udp(1, 2);
        tagged.vlan = true;
        assert_eq!(from_container(&mut tables, tagged).decision, dropped(DropReason::UnsupportedProtocol));
    }

    fn a_stranger_is_dropped<F>() {
        let mut tables = host_tables::<F>();
        let mut frame = to_neighbor::<F>(BRIDGE, 2, 3).udp(1, 2);
        frame.ifindex = IfIndex(999);
        assert_eq!(from_container(&mut tables, frame).decision, dropped(DropReason::UnknownEndpoint));
    }

    fn groups_and_unknown_stations_stay_in_the_network<F>() {
        let mut tables = host_tables::<F>();
        let mut ends = to_neighbor::<F>(BRIDGE, 2, 3);
        for (to, dst) in [(MacAddr::BROADCAST, F::group()), (MacAddr([2, 9, 9, 9, 9, 9]), F::at(BRIDGE, 9))] {
            ends.macs.0 = to;
            ends.dst = dst;
            let out = from_container(&mut tables, ends.udp(1, 2));
            assert_eq!(out.decision, Decision::Replicate(Sender::Container));
            assert_eq!(out.ledger.network.0, u32::from(BRIDGE));
        }
    }

    fn loopback_never_leaves_a_container<F>() {
        let mut tables = host_tables::<F>();
        let out = from_container(&mut tables, via_gateway::<F>(BRIDGE, 2, F::loopback()).tcp(1, 8_080, TCP_SYN));
        assert_eq!(out.decision, dropped(DropReason::MartianAddress));
    }

    fn nothing_leaves_with_a_containers_address_but_what_we_sent<F>() {
        let mut tables = host_tables::<F>();
        let leak = |network: u8| {
            let mut frame = via_gateway::<F>(network, 2, F::outside(9)).udp(1, 2);
            frame.ifindex = UPLINK;
            frame
        };
        let out = pass(&mut tables, Hook::ToNetdev, leak(BRIDGE));
        assert_eq!(out.decision, dropped(DropReason::LeakedSource));
        let out = pass(&mut tables, Hook::ToNetdev, leak(INNER));
        assert_eq!(out.decision, dropped(DropReason::LeakedSource));
        let out = pass(&mut tables, Hook::ToNetdev, leak(ROUTED));
        assert_eq!(out.decision, Decision::Untouched);
        let mut ours = leak(BRIDGE);
        ours.mark = netd_common::FORWARD_MARK;
        let out = pass(&mut tables, Hook::ToNetdev, ours);
        assert_eq!((out.decision, out.frame.mark), (Decision::Untouched, 0));
    }

    fn a_segment_of_no_connection_does_not_leave<F>() {
        let mut tables = host_tables::<F>();
        let ends = via_gateway::<F>(BRIDGE, 2, F::outside(9));
        assert_eq!(from_container(&mut tables, ends.tcp(1, 443, 16)).decision, dropped(DropReason::InvalidState));
        assert_eq!(from_container(&mut tables, ends.echo(F::ECHO_REPLY, 7)).decision, dropped(DropReason::InvalidState));
    }

    fn a_packet_at_the_end_of_its_time_goes_no_further<F>() {
        let mut tables = host_tables::<F>();
        let mut frame = via_gateway::<F>(BRIDGE, 2, F::outside(9)).udp(1, 53);
        let at = if F::VERSION == 4 { 22 } else { 21 };
        frame.bytes[at] = 1;
        assert_eq!(from_container(&mut tables, frame).decision, dropped(DropReason::TtlExceeded));
        assert!(F::tables(&mut tables).flows_new.is_empty(), "it opens nothing");
    }
}

/// Container 2 of the routed network sits in `BRIDGE` too, which is its way out.
fn at_home_in_two_networks<F: Lab>(tables: &mut FakeTables) {
    let key = AddressKey { network: NetworkIndex(u32::from(BRIDGE)), addr: F::at(ROUTED, 2) };
    let value = AddressValue {
        endpoint: index(BRIDGE, 2),
        ifindex: veth(BRIDGE, 2),
        mac: mac(BRIDGE, 2),
        flags: ADDRESS_IS_ELSEWHERE,
    };
    F::tables(tables).addresses.insert(key, value);
}

on_both_families! {
    fn a_routed_networks_port_is_answered_untranslated_by_another_network_that_is_the_way_out<F>() {
        let mut tables = host_tables::<F>();
        let asked = arriving::<F>(9, F::at(ROUTED, 2)).tcp(1_111, 80, TCP_SYN);
        let answer = Ends::<F> { src: F::at(ROUTED, 2), ..via_gateway::<F>(BRIDGE, 2, F::outside(9)) };
        assert_eq!(from_netdev(&mut tables, asked).decision, delivered(ROUTED, 2));
        let refused = from_container(&mut tables, answer.tcp(80, 1_111, TCP_SYN | TCP_ACK));
        assert_eq!(refused.decision, dropped(DropReason::SpoofedSource));
        at_home_in_two_networks::<F>(&mut tables);
        let out = from_container(&mut tables, answer.tcp(80, 1_111, TCP_SYN | TCP_ACK));
        assert!(matches!(out.decision, Decision::Uplink(UPLINK, _)), "{:?}", out.decision);
        assert_eq!(see::<F>(&out.frame).addrs, (F::at(ROUTED, 2), F::outside(9)));
        assert_eq!(out.ledger.endpoint, index(BRIDGE, 2));
        let ping = from_container(&mut tables, answer.echo(F::ECHO_REQUEST, 7));
        assert!(matches!(ping.decision, Decision::Uplink(UPLINK, _)), "it may ask, too");
        let to_host = Ends::<F> { dst: F::outside(1), ..answer };
        let own = from_container(&mut tables, to_host.tcp(80, 5_000, TCP_ACK));
        assert_eq!(own.decision, Decision::HostStack(gateway(BRIDGE)), "the frame is for this one");
    }

    fn an_address_in_another_network_opens_no_way_into_that_network<F>() {
        let mut tables = host_tables::<F>();
        at_home_in_two_networks::<F>(&mut tables);
        let ends = Ends::<F> { src: F::at(ROUTED, 2), ..via_gateway::<F>(BRIDGE, 2, F::at(OTHER, 2)) };
        let out = from_container(&mut tables, ends.tcp(1, 80, TCP_SYN));
        assert_eq!(out.decision, dropped(DropReason::NetworkIsolation));
        let neighbor = Ends::<F> { macs: (mac(BRIDGE, 1), mac(BRIDGE, 3)), ..ends };
        let neighbor = Ends::<F> { ifindex: veth(BRIDGE, 3), ..neighbor };
        let out = from_container(&mut tables, neighbor.tcp(1, 80, TCP_SYN));
        assert_eq!(out.decision, dropped(DropReason::SpoofedSource), "it is this one's alone");
    }
}
