//! Uplinks of unusual form: with VLAN tags, without Ethernet headers.

use std::vec;

use netd_common::wire::TCP_SYN;
use netd_common::{DropReason, FORWARD_MARK, Hook};

use super::scene::*;
use crate::testing::{Frame, pass};
use crate::verdict::Decision;

/// As a link without Ethernet headers hands it on.
fn bare(mut frame: Frame) -> Frame {
    frame.bytes.drain(..14);
    frame
}

on_both_families! {
    fn a_tagged_frame_at_an_untagged_uplink_is_untouched<F>() {
        let sent = arriving::<F>(9, F::outside(1)).tcp(1, 8_080, TCP_SYN);
        let mut in_band = sent.clone();
        in_band.bytes.splice(12..12, [0x81, 0, 0, 5]);
        for tagged in [Frame { vlan: true, ..sent }, in_band] {
            let out = from_netdev(&mut host_tables::<F>(), tagged.clone());
            assert_eq!((out.decision, out.frame), (Decision::Untouched, tagged));
        }
    }

    fn a_super_packet_that_says_no_length_goes_its_flows_way_and_no_other_packet_does<F>() {
        let mut frame = arriving::<F>(9, F::outside(1)).tcp(1_111, 8_080, TCP_SYN);
        if F::VERSION == 4 {
            frame.bytes[16..18].fill(0);
        } else {
            // The length stands in a jumbo option, RFC 2675.
            frame.bytes[18..20].fill(0);
            let next = core::mem::take(&mut frame.bytes[20]);
            frame.bytes.splice(54..54, [next, 0, 0xc2, 4, 0, 1, 0x11, 0x70]);
        }
        let out = from_netdev(&mut host_tables::<F>(), Frame { super_packet: true, ..frame.clone() });
        assert_eq!(out.decision, delivered(BRIDGE, 3));
        let out = from_netdev(&mut host_tables::<F>(), frame);
        assert_eq!(out.decision, Decision::Untouched);
    }

    fn a_packet_without_an_ethernet_header_goes_the_way_of_one_with_it<F>() {
        let published = arriving::<F>(9, F::outside(1)).tcp(1_111, 8_080, TCP_SYN);
        let with = from_netdev(&mut host_tables::<F>(), published.clone());
        let without = pass(&mut host_tables::<F>(), Hook::FromL3dev, bare(published));
        assert_eq!(with.decision, delivered(BRIDGE, 3));
        assert_eq!((without.decision, without.frame.bytes), (with.decision, with.frame.bytes));
    }

    fn a_reply_without_an_ethernet_header_finds_its_masqueraded_flow<F>() {
        let mut tables = host_tables::<F>();
        let asked = via_gateway::<F>(BRIDGE, 2, F::outside(9)).udp(50_003, 53);
        assert!(matches!(from_container(&mut tables, asked).decision, Decision::Uplink(..)));
        let reply = arriving::<F>(9, F::outside(1)).udp(53, 50_003);
        let out = pass(&mut tables, Hook::FromL3dev, bare(reply));
        assert_eq!(out.decision, delivered(BRIDGE, 2));
    }

    fn what_is_not_ours_is_left_to_the_host_without_an_ethernet_header_too<F>() {
        let own = bare(arriving::<F>(9, F::outside(1)).tcp(1, 22, TCP_SYN));
        let out = pass(&mut host_tables::<F>(), Hook::FromL3dev, own);
        assert_eq!(out.decision, Decision::Untouched);
        for bytes in [vec![], vec![0x15], vec![0xff; 60]] {
            let noise = Frame { bytes, ifindex: UPLINK, ..Frame::default() };
            let out = pass(&mut host_tables::<F>(), Hook::FromL3dev, noise);
            assert_eq!(out.decision, Decision::Untouched);
        }
    }

    fn no_containers_address_leaks_without_an_ethernet_header_either<F>() {
        let mut tables = host_tables::<F>();
        let mut leak = bare(via_gateway::<F>(BRIDGE, 2, F::outside(9)).udp(1, 2));
        let out = pass(&mut tables, Hook::ToL3dev, leak.clone());
        assert_eq!(out.decision, dropped(DropReason::LeakedSource));
        leak.mark = FORWARD_MARK;
        let out = pass(&mut tables, Hook::ToL3dev, leak);
        assert_eq!((out.decision, out.frame.mark), (Decision::Untouched, 0));
        let own = bare(arriving::<F>(1, F::outside(9)).udp(1, 2));
        assert_eq!(pass(&mut tables, Hook::ToL3dev, own).decision, Decision::Untouched);
    }
}
