//! ICMP errors of our own.

use netd_common::map::counter::FlowStat;
use netd_common::wire::TCP_SYN;
use netd_common::{DropReason, Hook};

use super::scene::*;
use crate::tables::Route;
use crate::testing::build::{Ends, see};
use crate::testing::{FakeTables, Frame, pass};
use crate::verdict::Decision;

/// Cuts a packet's time to live to one hop.
fn last_hop<F: Lab>(mut frame: Frame) -> Frame {
    use crate::packet::PacketBuf;
    let at = if F::VERSION == 4 { 22 } else { 21 };
    let before = frame.bytes[at];
    frame.bytes[at] = 1;
    if F::VERSION == 4 {
        let word = |ttl| u32::from(u16::from_ne_bytes([ttl, 0]));
        let change = netd_common::csum::change(word(before), word(1));
        frame.fold_header_checksum(24, netd_common::csum::fold32(change)).expect("a header");
    }
    frame
}

/// Type and code, and what is quoted.
fn error<F: Lab>(frame: &Frame) -> ((u8, u8), Vec<u8>) {
    see::<F>(frame);
    let at = 14 + F::HEADER_LEN;
    ((frame.bytes[at], frame.bytes[at + 1]), frame.bytes[at + 8..].to_vec())
}

fn big<F: Lab>(ends: &Ends<F>) -> Frame {
    let mut payload = vec![0x9c, 0x40, 0, 53, 0x06, 0x08, 0, 0];
    payload.resize(0x608, 7);
    ends.raw(17, &payload, Some(6))
}

on_both_families! {
    fn a_container_is_told_by_its_gateway_that_the_way_is_too_long<F>() {
        let mut tables = host_tables::<F>();
        let sent = last_hop::<F>(via_gateway::<F>(BRIDGE, 2, F::outside(9)).udp(40_000, 53));
        let out = from_container(&mut tables, sent.clone());
        assert_eq!(out.decision, dropped(DropReason::TtlExceeded));
        let told = out.complaint.expect("an error");
        let seen = see::<F>(&told);
        assert_eq!(seen.addrs, (F::at(BRIDGE, 1), F::at(BRIDGE, 2)));
        assert_eq!(seen.macs, (mac(BRIDGE, 2), mac(BRIDGE, 1)));
        let (kind, quoted) = error::<F>(&told);
        assert_eq!(kind, if F::VERSION == 4 { (11, 0) } else { (3, 0) });
        assert_eq!(quoted, sent.bytes[14..14 + F::HEADER_LEN + 8]);
    }

    fn the_outside_is_told_by_the_address_that_it_asked<F>() {
        let mut tables = host_tables::<F>();
        let sent = last_hop::<F>(arriving::<F>(9, F::outside(7)).tcp(1_111, 9_090, TCP_SYN));
        let out = from_netdev(&mut tables, sent);
        assert_eq!(out.decision, dropped(DropReason::TtlExceeded));
        let told = see::<F>(&out.complaint.expect("an error"));
        assert_eq!(told.addrs, (F::outside(7), F::outside(9)));
    }

    fn a_packet_that_does_not_fit_the_uplink_is_told_what_does<F>() {
        let mut tables = host_tables::<F>();
        tables.uplinks.get_mut(&UPLINK).expect("an uplink").mtu = 1_400;
        let mut sent = big::<F>(&via_gateway::<F>(BRIDGE, 2, F::outside(9)));
        sent.link_takes = Some(1_414);
        let out = from_container(&mut tables, sent);
        assert_eq!(out.decision, dropped(DropReason::TooBig));
        let told = out.complaint.expect("an error");
        let (kind, _) = error::<F>(&told);
        assert_eq!(kind, if F::VERSION == 4 { (3, 4) } else { (2, 0) });
        let mtu = 14 + F::HEADER_LEN + 6;
        assert_eq!(told.bytes[mtu..mtu + 2], 1_400u16.to_be_bytes());
    }

    fn a_packet_that_does_not_fit_the_uplink_opens_no_flow<F>() {
        let mut tables = host_tables::<F>();
        let mut sent = big::<F>(&via_gateway::<F>(BRIDGE, 2, F::outside(9)));
        sent.link_takes = Some(1_414);
        let out = from_container(&mut tables, sent);
        assert_eq!(out.decision, dropped(DropReason::TooBig));
        assert_eq!(tables.stat(FlowStat::Created), 0, "it takes no port from others");
    }

    fn no_route_is_told<F>() {
        let mut tables = host_tables::<F>();
        F::tables(&mut tables).default_route = Route::Missing;
        let out = from_container(&mut tables, via_gateway::<F>(BRIDGE, 2, F::outside(9)).udp(1, 2));
        assert_eq!(out.decision, dropped(DropReason::NoRoute));
        let (kind, _) = error::<F>(&out.complaint.expect("an error"));
        assert_eq!(kind, if F::VERSION == 4 { (3, 0) } else { (1, 0) });
    }

    fn errors_come_from_a_bucket_that_fills_again_and_what_is_withheld_is_counted<F>() {
        let mut tables = host_tables::<F>();
        F::tables(&mut tables).default_route = Route::Missing;
        let told = |tables: &mut FakeTables| {
            let sent = via_gateway::<F>(BRIDGE, 2, F::outside(9)).udp(1, 2);
            from_container(tables, sent).complaint.is_some()
        };
        assert_eq!([0, 1, 2, 3].map(|_| told(&mut tables)), [true, true, false, false]);
        assert_eq!(tables.stat(FlowStat::ErrorsWithheld), 2);
        tables.now_s += 1;
        assert_eq!([0, 1].map(|_| told(&mut tables)), [true, false]);
    }

    fn drops_of_policy_stay_silent<F>() {
        let mut tables = host_tables::<F>();
        let sent = via_gateway::<F>(BRIDGE, 2, F::at(OTHER, 2)).udp(1, 2);
        let out = from_container(&mut tables, sent);
        assert_eq!((out.decision, out.complaint), (dropped(DropReason::NetworkIsolation), None));
    }

    fn a_packet_to_a_mac_of_the_past_goes_to_who_holds_the_address<F>() {
        let mut tables = host_tables::<F>();
        let stale = mac(BRIDGE, 99);
        let ends = to_neighbor::<F>(BRIDGE, 2, 3);
        let sent = Ends::<F> { macs: (stale, ends.macs.1), ..ends }.udp(1, 2);
        let out = from_container(&mut tables, sent);
        assert_eq!(out.decision, delivered(BRIDGE, 3));
        assert_eq!(see::<F>(&out.frame).macs, (mac(BRIDGE, 3), mac(BRIDGE, 2)));
        let sent = Ends::<F> {
            macs: (stale, mac(BRIDGE, 1)),
            src: F::at(BRIDGE, 1),
            dst: F::at(BRIDGE, 3),
            ifindex: gateway(BRIDGE),
        };
        let out = pass(&mut tables, Hook::FromHost, sent.udp(1, 2));
        assert_eq!(out.decision, Decision::ToVeth(veth(BRIDGE, 3)));
        assert_eq!(see::<F>(&out.frame).macs.0, mac(BRIDGE, 3));
    }
}
