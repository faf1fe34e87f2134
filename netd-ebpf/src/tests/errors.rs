//! ICMP errors about translated flows.

use netd_common::wire::TCP_SYN;

use super::scene::*;
use crate::testing::Frame;
use crate::testing::build::{Ends, see};
use crate::verdict::Decision;

/// "Port unreachable" with the quoted packet behind it.
fn unreachable<F: Lab>(ends: &Ends<F>, quoted: &Frame) -> Frame {
    let (kind, code) = if F::VERSION == 4 { (3, 3) } else { (1, 4) };
    let mut payload = vec![kind, code, 0, 0, 0, 0, 0, 0];
    payload.extend(&quoted.bytes[14..]);
    ends.raw(F::ICMP, &payload, Some(2))
}

/// The quoted packet as a frame of its own.
fn quote<F: Lab>(error: &Frame) -> Frame {
    let at = 14 + F::HEADER_LEN + 8;
    let mut bytes = error.bytes[..14].to_vec();
    bytes.extend(&error.bytes[at..]);
    Frame { bytes, ..error.clone() }
}

/// Source, destination and ports of a quoted packet; its transport checksum is not ours to mend.
fn quoted<F: Lab>(error: &Frame) -> (F::Addr, F::Addr, u16, u16) {
    use crate::parse::{Packet, ip};
    let mut packet = Packet::default();
    ip::<F, Frame>(&quote::<F>(error), netd_common::NetworkIndex::HOST, &mut packet)
        .expect("a packet");
    let key = packet.key;
    (key.src, key.dst, key.sport.get(), key.dport.get())
}

on_both_families! {
    fn a_routers_error_finds_the_masqueraded_container<F>() {
        let mut tables = host_tables::<F>();
        let sent = from_container(&mut tables, via_gateway::<F>(BRIDGE, 2, F::outside(9)).udp(40_000, 53));
        let error = unreachable::<F>(&arriving::<F>(254, F::outside(1)), &sent.frame);
        let out = from_netdev(&mut tables, error);
        assert_eq!(out.decision, delivered(BRIDGE, 2));
        let seen = see::<F>(&out.frame);
        assert_eq!(seen.addrs, (F::outside(254), F::at(BRIDGE, 2)), "a router keeps its name");
        assert_eq!(quoted::<F>(&out.frame), (F::at(BRIDGE, 2), F::outside(9), 40_000, 53));
    }

    fn a_containers_error_about_a_published_port_leaves_in_the_hosts_name<F>() {
        let mut tables = host_tables::<F>();
        let got = from_netdev(&mut tables, arriving::<F>(9, F::outside(1)).udp(1_111, 8_080));
        let error = unreachable::<F>(&via_gateway::<F>(BRIDGE, 3, F::outside(9)), &got.frame);
        let out = from_container(&mut tables, error);
        assert!(matches!(out.decision, Decision::Uplink(UPLINK, _)));
        assert_eq!(see::<F>(&out.frame).addrs, (F::outside(1), F::outside(9)));
        assert_eq!(quoted::<F>(&out.frame), (F::outside(9), F::outside(1), 1_111, 8_080));
    }

    fn a_neighbours_error_about_a_published_port_is_translated_too<F>() {
        let mut tables = host_tables::<F>();
        let got = from_container(&mut tables, via_gateway::<F>(BRIDGE, 2, F::outside(1)).udp(1_111, 8_080));
        let error = unreachable::<F>(&to_neighbor::<F>(BRIDGE, 3, 2), &got.frame);
        let out = from_container(&mut tables, error);
        assert_eq!(out.decision, delivered(BRIDGE, 2));
        assert_eq!(see::<F>(&out.frame).addrs, (F::outside(1), F::at(BRIDGE, 2)));
        assert_eq!(quoted::<F>(&out.frame), (F::at(BRIDGE, 2), F::outside(1), 1_111, 8_080));
    }

    fn an_error_about_a_masqueraded_ping_finds_its_id<F>() {
        let mut tables = host_tables::<F>();
        let sent = from_container(&mut tables, via_gateway::<F>(BRIDGE, 2, F::outside(9)).echo(F::ECHO_REQUEST, 77));
        let error = unreachable::<F>(&arriving::<F>(254, F::outside(1)), &sent.frame);
        let out = from_netdev(&mut tables, error);
        assert_eq!(out.decision, delivered(BRIDGE, 2));
        see::<F>(&out.frame);
        assert_eq!(quoted::<F>(&out.frame), (F::at(BRIDGE, 2), F::outside(9), 77, 77));
    }

    fn an_error_about_a_flow_past_its_time_is_about_none<F>() {
        let mut tables = host_tables::<F>();
        let sent = from_container(&mut tables, via_gateway::<F>(BRIDGE, 2, F::outside(9)).udp(40_000, 53));
        let error = unreachable::<F>(&arriving::<F>(254, F::outside(1)), &sent.frame);
        tables.now_s += tables.config.udp_s + 1;
        let out = from_netdev(&mut tables, error.clone());
        assert_eq!((out.decision, out.frame), (Decision::Untouched, error), "swept or not");
    }

    fn the_hosts_own_errors_are_untouched<F>() {
        let mut tables = host_tables::<F>();
        let ends = arriving::<F>(254, F::outside(1));
        let own = Ends::<F> { src: F::outside(1), dst: F::outside(9), ..ends }.udp(40_000, 53);
        let error = unreachable::<F>(&ends, &own);
        let out = from_netdev(&mut tables, error.clone());
        assert_eq!((out.decision, out.frame), (Decision::Untouched, error));
    }

    fn errors_between_neighbours_pass_unchanged<F>() {
        let mut tables = host_tables::<F>();
        let got = to_neighbor::<F>(BRIDGE, 2, 3).tcp(1, 2, TCP_SYN);
        let error = unreachable::<F>(&to_neighbor::<F>(BRIDGE, 3, 2), &got);
        let out = from_container(&mut tables, error.clone());
        assert_eq!((out.decision, out.frame), (delivered(BRIDGE, 2), error));
        assert_eq!(out.ledger.endpoint, index(BRIDGE, 3));
    }
}
