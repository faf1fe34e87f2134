//! Packet lives: each program is fed the last one's output.

use netd_common::map::counter::FlowStat;
use netd_common::map::flow::FLOW_RST;
use netd_common::wire::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use netd_common::{Address, DropReason, Hook};

use super::scene::*;
use crate::testing::build::{Ends, see};
use crate::testing::{FakeTables, Frame, Outcome, pass};
use crate::verdict::Decision;

/// The answer to a frame, from where it arrived.
fn answer<F: Lab>(
    frame: &Frame,
    macs: (netd_common::MacAddr, netd_common::MacAddr),
    at: netd_common::IfIndex,
) -> Ends<F> {
    let seen = see::<F>(frame);
    Ends { macs, src: seen.addrs.1, dst: seen.addrs.0, ifindex: at }
}

/// A client outside and a published port: SYN, SYN-ACK, ACK.
fn published_handshake<F: Lab>(tables: &mut FakeTables, client: u16) -> Outcome {
    let client_ends = arriving::<F>(9, F::outside(1));
    let out = from_netdev(tables, client_ends.tcp(client, 8_080, TCP_SYN));
    let server = answer::<F>(&out.frame, (mac(BRIDGE, 1), mac(BRIDGE, 3)), veth(BRIDGE, 3));
    let out = from_container(tables, server.tcp(80, client, TCP_SYN | TCP_ACK));
    assert!(matches!(out.decision, Decision::Uplink(UPLINK, _)), "{:?}", out.decision);
    from_netdev(tables, client_ends.tcp(client, 8_080, TCP_ACK))
}

on_both_families! {
    fn a_published_connection_lives_and_is_confirmed_by_its_third_packet<F>() {
        let mut tables = host_tables::<F>();
        let client = arriving::<F>(9, F::outside(1));
        let out = from_netdev(&mut tables, client.tcp(1_111, 8_080, TCP_SYN));
        let server = answer::<F>(&out.frame, (mac(BRIDGE, 1), mac(BRIDGE, 3)), veth(BRIDGE, 3));
        let out = from_container(&mut tables, server.tcp(80, 1_111, TCP_SYN | TCP_ACK));
        let seen = see::<F>(&out.frame);
        assert_eq!(seen.addrs, (F::outside(1), F::outside(9)));
        assert_eq!(seen.ports, (8_080, 1_111));
        assert_eq!(out.next_hop, F::widen(F::outside(254)));
        assert_eq!(tables.stat(FlowStat::Promoted), 0, "a SYN-ACK alone confirms nothing");
        let left = pass(&mut tables, Hook::ToNetdev, out.frame);
        assert_eq!(left.decision, Decision::Untouched);
        let out = from_netdev(&mut tables, client.tcp(1_111, 8_080, TCP_ACK));
        assert_eq!(out.decision, delivered(BRIDGE, 3));
        assert_eq!(tables.stat(FlowStat::Promoted), 1);
        assert_eq!(F::tables(&mut tables).flows.len(), 2);
        assert!(F::tables(&mut tables).flows_new.is_empty());
    }

    fn an_established_packet_costs_four_map_operations_at_most<F>() {
        let mut tables = host_tables::<F>();
        published_handshake::<F>(&mut tables, 1_111);
        let server = via_gateway::<F>(BRIDGE, 3, F::outside(9));
        from_container(&mut tables, server.tcp(80, 1_111, TCP_ACK));
        let inward = from_netdev(&mut tables, arriving::<F>(9, F::outside(1)).tcp(1_111, 8_080, TCP_ACK));
        assert_eq!(inward.decision, delivered(BRIDGE, 3));
        assert!(inward.operations <= 1, "{} with the counter 2", inward.operations);
        let outward = from_container(&mut tables, server.tcp(80, 1_111, TCP_ACK));
        assert!(matches!(outward.decision, Decision::Uplink(..)));
        assert!(outward.operations <= 2, "{} with the counter 3", outward.operations);
    }

    fn a_new_flow_costs_eight_updates_at_most<F>() {
        let mut tables = host_tables::<F>();
        published_handshake::<F>(&mut tables, 1_111);
        assert_eq!(tables.stat(FlowStat::Created), 1);
        assert_eq!(F::tables(&mut tables).flows.len(), 2);
        assert!(tables.updates <= 8, "{} from the SYN to the promotion", tables.updates);
    }

    fn a_masqueraded_query_gets_its_answer<F>() {
        let mut tables = host_tables::<F>();
        let query = via_gateway::<F>(BRIDGE, 2, F::outside(9));
        let out = from_container(&mut tables, query.udp(40_000, 53));
        let seen = see::<F>(&out.frame);
        assert!((50_000..=50_015).contains(&seen.ports.0), "a port from the pool");
        let server = answer::<F>(&out.frame, (UPLINK_MAC, ROUTER_MAC), UPLINK);
        let out = from_netdev(&mut tables, server.udp(53, seen.ports.0));
        assert_eq!(out.decision, delivered(BRIDGE, 2));
        let back = see::<F>(&out.frame);
        assert_eq!(back.addrs, (F::outside(9), F::at(BRIDGE, 2)));
        assert_eq!(back.ports, (53, 40_000));
        assert_eq!(back.macs, (mac(BRIDGE, 2), mac(BRIDGE, 1)));
        assert_eq!(tables.stat(FlowStat::Promoted), 1, "an answer confirms UDP");
    }

    fn a_masqueraded_ping_keeps_its_meaning<F>() {
        let mut tables = host_tables::<F>();
        let out = from_container(&mut tables, via_gateway::<F>(BRIDGE, 2, F::outside(9)).echo(F::ECHO_REQUEST, 40_000));
        let seen = see::<F>(&out.frame);
        let server = answer::<F>(&out.frame, (UPLINK_MAC, ROUTER_MAC), UPLINK);
        let request = from_netdev(&mut tables, server.echo(F::ECHO_REQUEST, seen.ports.0));
        assert_eq!(request.decision, Decision::Untouched, "a request with that id is for the host");
        let out = from_netdev(&mut tables, server.echo(F::ECHO_REPLY, seen.ports.0));
        assert_eq!(out.decision, delivered(BRIDGE, 2));
        assert_eq!(see::<F>(&out.frame).ports.0, 40_000);
    }

    fn neighbours_meet_through_a_published_port<F>() {
        let mut tables = host_tables::<F>();
        let out = from_container(&mut tables, via_gateway::<F>(BRIDGE, 2, F::outside(1)).tcp(1_111, 8_080, TCP_SYN));
        assert_eq!(see::<F>(&out.frame).addrs, (F::at(BRIDGE, 2), F::at(BRIDGE, 3)));
        let reply = to_neighbor::<F>(BRIDGE, 3, 2);
        let out = from_container(&mut tables, reply.tcp(80, 1_111, TCP_SYN | TCP_ACK));
        assert_eq!(out.decision, delivered(BRIDGE, 2));
        let seen = see::<F>(&out.frame);
        assert_eq!(seen.addrs, (F::outside(1), F::at(BRIDGE, 2)));
        assert_eq!(seen.ports, (8_080, 1_111));
    }

    fn a_container_meets_itself_through_a_published_port<F>() {
        let mut tables = host_tables::<F>();
        let out = from_container(&mut tables, via_gateway::<F>(BRIDGE, 3, F::outside(1)).tcp(1_111, 8_080, TCP_SYN));
        let back = answer::<F>(&out.frame, (mac(BRIDGE, 1), mac(BRIDGE, 3)), veth(BRIDGE, 3));
        let out = from_container(&mut tables, back.tcp(80, 1_111, TCP_SYN | TCP_ACK));
        assert_eq!(out.decision, delivered(BRIDGE, 3));
        assert_eq!(see::<F>(&out.frame).addrs, (F::outside(1), F::at(BRIDGE, 3)));
    }

    fn one_source_port_may_reach_one_target_by_two_addresses<F>() {
        let mut tables = host_tables::<F>();
        let ask = |tables: &mut FakeTables, dst| {
            let out = from_netdev(tables, arriving::<F>(9, dst).udp(1_111, 8_080));
            assert_eq!(out.decision, delivered(BRIDGE, 3));
            see::<F>(&out.frame).ports.0
        };
        let first = ask(&mut tables, F::outside(1));
        let second = ask(&mut tables, F::outside(7));
        assert_eq!(first, 1_111);
        assert_ne!(second, first, "the reply keys differ");
    }

    fn masquerade_ports_are_shared_by_remotes_and_run_out_with_a_reason<F>() {
        let mut tables = host_tables::<F>();
        let mut ports = Vec::new();
        let mut refused = 0;
        for sport in 40_000..40_200 {
            let out = from_container(&mut tables, via_gateway::<F>(BRIDGE, 2, F::outside(9)).udp(sport, 53));
            if out.decision == dropped(DropReason::SnatExhausted) {
                refused += 1;
            } else {
                let port = see::<F>(&out.frame).ports.0;
                assert!(!ports.contains(&port), "no port twice");
                ports.push(port);
            }
        }
        assert_eq!(refused + ports.len(), 200);
        assert!(refused >= 200 - 16 && ports.len() > 8, "{} of 16 ports found", ports.len());
        assert_eq!(tables.stat(FlowStat::SnatExhausted), u64::try_from(refused).unwrap());
        let other = from_container(&mut tables, via_gateway::<F>(BRIDGE, 2, F::outside(10)).udp(40_000, 53));
        assert!(matches!(other.decision, Decision::Uplink(..)), "another remote has all ports");
    }

    fn a_masquerade_port_is_never_a_sockets_or_a_published_one<F>() {
        let mut tables = host_tables::<F>();
        for port in 50_000..50_015 {
            F::tables(&mut tables).sockets.insert((port, 17));
        }
        let found = (0..40).filter_map(|i| {
            let out = from_container(&mut tables, via_gateway::<F>(BRIDGE, 2, F::outside(20 + i)).udp(50_001, 53));
            matches!(out.decision, Decision::Uplink(..)).then(|| see::<F>(&out.frame).ports.0)
        });
        assert!(found.into_iter().all(|port| port == 50_015));
        publish::<F>(&mut tables, (F::outside(1), 50_015, 17), (BRIDGE, 3, 80));
        let out = from_container(&mut tables, via_gateway::<F>(BRIDGE, 2, F::outside(99)).udp(50_015, 53));
        assert_eq!(out.decision, dropped(DropReason::SnatExhausted));
    }

    fn a_flow_outlives_the_silence_of_one_direction<F>() {
        let mut tables = host_tables::<F>();
        let query = via_gateway::<F>(BRIDGE, 2, F::outside(9));
        let out = from_container(&mut tables, query.udp(50_001, 53));
        let server = answer::<F>(&out.frame, (UPLINK_MAC, ROUTER_MAC), UPLINK);
        from_netdev(&mut tables, server.udp(53, 50_001));
        for silence_s in [30, 100, 100, 100, 100] {
            tables.now_s += silence_s;
            assert!(matches!(from_container(&mut tables, query.udp(50_001, 53)).decision, Decision::Uplink(..)));
        }
        assert_eq!(from_netdev(&mut tables, server.udp(53, 50_001)).decision, delivered(BRIDGE, 2));
        tables.now_s += 181;
        assert_eq!(from_netdev(&mut tables, server.udp(53, 50_001)).decision, Decision::Untouched);
        assert!(F::tables(&mut tables).flows.is_empty(), "both entries are gone");
    }

    fn questions_and_their_answers_are_soon_forgotten_and_what_goes_on_is_not<F>() {
        for (later_s, lifetime_s) in [(0, 30), (1, 180)] {
            let mut tables = host_tables::<F>();
            let query = via_gateway::<F>(BRIDGE, 2, F::outside(9));
            let out = from_container(&mut tables, query.udp(50_001, 53));
            let server = answer::<F>(&out.frame, (UPLINK_MAC, ROUTER_MAC), UPLINK);
            // A slow answer is no second exchange.
            tables.now_s += 1;
            from_netdev(&mut tables, server.udp(53, 50_001));
            tables.now_s += later_s;
            from_netdev(&mut tables, server.udp(53, 50_001));
            tables.now_s += lifetime_s;
            let mut late = tables.clone();
            assert_eq!(from_netdev(&mut tables, server.udp(53, 50_001)).decision, delivered(BRIDGE, 2));
            late.now_s += 1;
            assert_eq!(from_netdev(&mut late, server.udp(53, 50_001)).decision, Decision::Untouched);
        }
    }

    fn an_idle_tcp_connection_of_two_hours_goes_on_and_ends_after_its_timeout<F>() {
        let mut tables = host_tables::<F>();
        published_handshake::<F>(&mut tables, 1_111);
        let client = arriving::<F>(9, F::outside(1));
        let server = via_gateway::<F>(BRIDGE, 3, F::outside(9));
        tables.now_s += 7_200;
        assert_eq!(from_netdev(&mut tables, client.tcp(1_111, 8_080, TCP_ACK)).decision, delivered(BRIDGE, 3));
        tables.now_s += 7_200;
        assert!(matches!(from_container(&mut tables, server.tcp(80, 1_111, TCP_ACK)).decision, Decision::Uplink(..)));
        tables.now_s += tables.config.tcp_established_s + 1;
        assert_eq!(from_container(&mut tables, server.tcp(80, 1_111, TCP_ACK)).decision, dropped(DropReason::InvalidState));
    }

    fn after_a_cold_start_connections_go_on_until_the_loose_window_closes<F>() {
        let mut tables = host_tables::<F>();
        tables.config.loose_until_s = tables.now_s + 300;
        let client = arriving::<F>(9, F::outside(1));
        let server = via_gateway::<F>(BRIDGE, 3, F::outside(9));
        assert_eq!(from_netdev(&mut tables, client.tcp(1_111, 8_080, TCP_ACK)).decision, delivered(BRIDGE, 3));
        let out = from_container(&mut tables, server.tcp(80, 1_111, TCP_ACK));
        assert_eq!(see::<F>(&out.frame).addrs, (F::outside(1), F::outside(9)));
        assert_eq!(see::<F>(&out.frame).ports, (8_080, 1_111));
        let query = via_gateway::<F>(BRIDGE, 2, F::outside(9));
        let out = from_container(&mut tables, query.tcp(50_003, 443, TCP_ACK));
        assert_eq!(see::<F>(&out.frame).addrs.0, F::outside(1));
        assert_eq!(see::<F>(&out.frame).ports.0, 50_003, "the port that it had");
        tables.now_s += 300;
        assert_eq!(from_netdev(&mut tables, client.tcp(1_111, 8_080, TCP_ACK)).decision, delivered(BRIDGE, 3), "what was opened stays");
        assert_eq!(from_netdev(&mut tables, client.tcp(2_222, 8_080, TCP_ACK)).decision, Decision::Untouched);
        let strict = dropped(DropReason::InvalidState);
        assert_eq!(from_container(&mut tables, query.tcp(50_004, 443, TCP_ACK)).decision, strict);
    }

    fn in_the_loose_window_nothing_opens_but_segments_in_mid_stream<F>() {
        let mut tables = host_tables::<F>();
        tables.config.loose_until_s = tables.now_s + 300;
        F::tables(&mut tables).sockets.insert((50_001, 6));
        let client = arriving::<F>(9, F::outside(1));
        for flags in [TCP_RST, TCP_RST | TCP_ACK, TCP_SYN | TCP_ACK] {
            let out = from_netdev(&mut tables, client.tcp(1_111, 8_080, flags));
            assert_eq!(out.decision, Decision::Untouched, "{flags}");
        }
        let waits = dropped(DropReason::InvalidState);
        let out = from_netdev(&mut tables, client.tcp(443, 50_000, TCP_ACK));
        assert_eq!(out.decision, waits, "for the container, lest the host's stack resets it");
        for port in [22, 40_000, 50_001] {
            let out = from_netdev(&mut tables, client.tcp(443, port, TCP_ACK));
            assert_eq!(out.decision, Decision::Untouched, "{port} is the host's own");
        }
        let server = via_gateway::<F>(BRIDGE, 3, F::outside(9));
        let out = from_container(&mut tables, server.tcp(80, 1_111, TCP_ACK));
        assert_eq!(out.decision, waits, "a server's, for its client");
        assert!(F::tables(&mut tables).flows_new.is_empty());
    }

    fn a_closed_connection_may_be_opened_anew<F>() {
        let mut tables = host_tables::<F>();
        published_handshake::<F>(&mut tables, 1_111);
        let client = arriving::<F>(9, F::outside(1));
        let server = via_gateway::<F>(BRIDGE, 3, F::outside(9));
        from_netdev(&mut tables, client.tcp(1_111, 8_080, TCP_FIN | TCP_ACK));
        from_container(&mut tables, server.tcp(80, 1_111, TCP_FIN | TCP_ACK));
        from_netdev(&mut tables, client.tcp(1_111, 8_080, TCP_ACK));
        let out = from_netdev(&mut tables, client.tcp(1_111, 8_080, TCP_SYN));
        assert_eq!(out.decision, delivered(BRIDGE, 3));
        assert_eq!(tables.stat(FlowStat::Created), 2);
        tables.now_s += 31;
        let out = from_netdev(&mut tables, client.tcp(1_111, 8_080, TCP_ACK));
        assert_eq!(out.decision, Decision::Untouched, "the new one is embryonic again");
    }

    fn a_forged_reset_is_undone_by_the_next_segment<F>() {
        let mut tables = host_tables::<F>();
        published_handshake::<F>(&mut tables, 1_111);
        let client = arriving::<F>(9, F::outside(1));
        from_netdev(&mut tables, client.tcp(1_111, 8_080, TCP_RST));
        assert!(F::tables(&mut tables).flows.values().all(|flow| flow.flags & FLOW_RST != 0));
        from_container(&mut tables, via_gateway::<F>(BRIDGE, 3, F::outside(9)).tcp(80, 1_111, TCP_ACK));
        assert!(F::tables(&mut tables).flows.values().all(|flow| flow.flags & FLOW_RST == 0));
    }

    fn a_syn_flood_confirms_nothing<F>() {
        let mut tables = host_tables::<F>();
        for client in 2_000..2_100 {
            let out = from_netdev(&mut tables, arriving::<F>(9, F::outside(1)).tcp(client, 8_080, TCP_SYN));
            let server = answer::<F>(&out.frame, (mac(BRIDGE, 1), mac(BRIDGE, 3)), veth(BRIDGE, 3));
            from_container(&mut tables, server.tcp(80, client, TCP_SYN | TCP_ACK));
        }
        assert!(F::tables(&mut tables).flows.is_empty());
    }

    fn on_a_full_table_flows_stay_embryonic_and_live<F>() {
        let mut tables = host_tables::<F>();
        F::tables(&mut tables).flows_capacity = 1;
        let out = published_handshake::<F>(&mut tables, 1_111);
        assert_eq!(out.decision, delivered(BRIDGE, 3));
        assert_eq!(tables.stat(FlowStat::Pressure), 1);
        assert!(F::tables(&mut tables).flows.is_empty());
        tables.now_s += 7_000;
        let out = from_netdev(&mut tables, arriving::<F>(9, F::outside(1)).tcp(1_111, 8_080, TCP_ACK));
        assert_eq!(out.decision, delivered(BRIDGE, 3));
    }

    fn churn_refreshes_a_flow_that_still_holds<F>() {
        let mut tables = host_tables::<F>();
        published_handshake::<F>(&mut tables, 1_111);
        tables.config.generation = 2;
        let server = via_gateway::<F>(BRIDGE, 3, F::outside(9));
        let out = from_container(&mut tables, server.tcp(80, 1_111, TCP_ACK));
        assert!(matches!(out.decision, Decision::Uplink(..)));
        assert_eq!(tables.stat(FlowStat::Refreshed), 1);
        assert!(F::tables(&mut tables).flows.values().all(|flow| flow.generation == 2));
    }

    fn churn_ends_a_flow_whose_port_is_no_longer_published<F>() {
        let mut tables = host_tables::<F>();
        published_handshake::<F>(&mut tables, 1_111);
        F::tables(&mut tables).published.clear();
        tables.config.generation = 2;
        let out = from_netdev(&mut tables, arriving::<F>(9, F::outside(1)).tcp(1_111, 8_080, TCP_ACK));
        assert_eq!(out.decision, Decision::Untouched);
        assert!(F::tables(&mut tables).flows.is_empty());
    }

    fn churn_follows_a_new_egress_address<F>() {
        let mut tables = host_tables::<F>();
        let query = via_gateway::<F>(BRIDGE, 2, F::outside(9));
        from_container(&mut tables, query.udp(50_001, 53));
        let uplink = tables.uplinks.get_mut(&UPLINK).unwrap();
        uplink.v4 = netd_common::V4::outside(7);
        uplink.v6 = netd_common::V6::outside(7);
        tables.config.generation = 2;
        let out = from_container(&mut tables, query.udp(50_001, 53));
        assert_eq!(see::<F>(&out.frame).addrs, (F::outside(7), F::outside(9)));
    }

    fn an_evicted_half_of_a_pair_finds_its_port_again<F>() {
        let mut tables = host_tables::<F>();
        let query = via_gateway::<F>(BRIDGE, 2, F::outside(9));
        let first = see::<F>(&from_container(&mut tables, query.udp(40_000, 53)).frame).ports.0;
        let flows = &mut F::tables(&mut tables).flows_new;
        flows.retain(|_, flow| flow.flags & netd_common::map::flow::FLOW_REPLY != 0);
        let second = see::<F>(&from_container(&mut tables, query.udp(40_000, 53)).frame).ports.0;
        assert_eq!(first, second);
    }

    fn a_target_with_a_new_number_is_counted_under_it<F>() {
        let mut tables = host_tables::<F>();
        let client = arriving::<F>(9, F::outside(1));
        from_netdev(&mut tables, client.udp(1_111, 8_080));
        let number = netd_common::EndpointIndex(77);
        tables.endpoints.get_mut(&veth(BRIDGE, 3)).expect("a container").index = number;
        for backend in F::tables(&mut tables).published.values_mut() {
            backend.endpoint = number;
        }
        tables.config.generation = 2;
        let out = from_netdev(&mut tables, client.udp(1_111, 8_080));
        assert_eq!(out.decision, Decision::Deliver(veth(BRIDGE, 3), number));
    }

    fn a_flow_between_equal_ports_follows_its_publication_to_another_port<F>() {
        let mut tables = host_tables::<F>();
        let client = arriving::<F>(9, F::outside(1));
        from_netdev(&mut tables, client.udp(80, 8_080));
        publish::<F>(&mut tables, (F::Addr::ANY, 8_080, 17), (BRIDGE, 3, 81));
        tables.config.generation = 2;
        let out = from_netdev(&mut tables, client.udp(80, 8_080));
        assert_eq!(see::<F>(&out.frame).ports, (80, 81));
    }

    fn a_dead_flow_leaves_a_frame_for_a_neighbours_mac_to_the_switch<F>() {
        let mut tables = host_tables::<F>();
        let mut ends = via_gateway::<F>(BRIDGE, 2, F::outside(9));
        from_container(&mut tables, ends.udp(50_001, 53));
        tables.now_s += 1_000;
        ends.macs.0 = mac(BRIDGE, 3);
        let sent = ends.udp(50_001, 53);
        let out = from_container(&mut tables, sent.clone());
        assert_eq!((out.decision, out.frame), (delivered(BRIDGE, 3), sent));
    }
}
