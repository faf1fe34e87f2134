//! Datagrams in fragments through translation.

use netd_common::DropReason;
use netd_common::wire::IpHeader;

use super::scene::*;
use crate::testing::Frame;
use crate::testing::build::{Build, Ends};
use crate::verdict::Decision;

const FIRST_LEN: usize = 16;

/// A UDP datagram in two fragments, as either family's sender cuts it.
fn cut<F: Lab>(ends: &Ends<F>, ports: (u16, u16)) -> [Frame; 2] {
    let whole = ends.udp(ports.0, ports.1);
    let mut payload = whole.bytes[14 + F::HEADER_LEN..].to_vec();
    payload.resize(FIRST_LEN + 8, 9);
    [(0, true, &payload[..FIRST_LEN]), (2, false, &payload[FIRST_LEN..])]
        .map(|(units, more, part)| fragment(ends, units, more, part))
}

fn fragment<F: Lab>(ends: &Ends<F>, units: u16, more: bool, part: &[u8]) -> Frame {
    if F::VERSION == 6 {
        let mut payload = vec![17, 0];
        payload.extend((units << 3 | u16::from(more)).to_be_bytes());
        payload.extend([0, 0, 0, 77]);
        payload.extend(part);
        return ends.raw(44, &payload, None);
    }
    let mut frame = ends.raw(17, part, None);
    frame.bytes[18..20].copy_from_slice(&[0, 77]);
    frame.bytes[20..22].copy_from_slice(&(units | u16::from(more) << 13).to_be_bytes());
    frame
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

    fn a_fragment_whose_first_is_missing_is_dropped<F>() {
        let mut tables = host_tables::<F>();
        let [_, later] = cut::<F>(&via_gateway::<F>(BRIDGE, 2, F::outside(9)), (40_000, 53));
        let out = from_container(&mut tables, later);
        assert_eq!(out.decision, dropped(DropReason::FragmentUnknown));
        assert_eq!(out.ledger.endpoint, index(BRIDGE, 2));
    }

    fn fragments_of_the_hosts_own_datagrams_are_untouched<F>() {
        let mut tables = host_tables::<F>();
        for part in cut::<F>(&arriving::<F>(9, F::outside(1)), (1_111, 5_000)) {
            let out = from_netdev(&mut tables, part.clone());
            assert_eq!((out.decision, out.frame), (Decision::Untouched, part));
        }
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
