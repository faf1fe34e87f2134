//! Whatever the bytes, no program panics or reads out of bounds, and no checksum breaks.

use netd_common::{Hook, V4, V6};
use proptest::prelude::*;

use super::scene::*;
use crate::testing::build::see;
use crate::testing::{Frame, pass};
use crate::verdict::Decision;

fn any_hook() -> impl Strategy<Value = Hook> {
    proptest::sample::select(Hook::ALL)
}

fn any_device() -> impl Strategy<Value = netd_common::IfIndex> {
    proptest::sample::select(vec![
        UPLINK,
        gateway(BRIDGE),
        veth(BRIDGE, 2),
        veth(BRIDGE, 3),
        veth(QUIET, 2),
        veth(ROUTED, 2),
    ])
}

/// Frames that pass the first checks, with noise in them.
fn mangled<F: Lab>(noise: &[(usize, u8)], cut: usize) -> Vec<Frame> {
    let mut frames = vec![
        via_gateway::<F>(BRIDGE, 2, F::outside(9)).udp(50_001, 53),
        via_gateway::<F>(BRIDGE, 2, F::outside(1)).tcp(1, 8_080, 2),
        to_neighbor::<F>(QUIET, 2, 3).tcp(1, 80, 2),
        arriving::<F>(9, F::outside(1)).udp(1, 8_080),
        arriving::<F>(9, F::outside(1)).echo(F::ECHO_REPLY, 1),
    ];
    for frame in &mut frames {
        for (at, value) in noise {
            let at = at % frame.bytes.len();
            frame.bytes[at] = *value;
        }
        frame.bytes.truncate(frame.bytes.len().saturating_sub(cut));
    }
    frames
}

proptest! {
    #[test]
    fn random_bytes_are_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..128),
        hook in any_hook(),
        ifindex in any_device(),
    ) {
        let mut tables = host_tables::<V4>();
        pass(&mut tables, hook, Frame { bytes, ifindex, ..Frame::default() });
    }

    #[test]
    fn mangled_packets_are_survived(
        noise in proptest::collection::vec((0usize..128, any::<u8>()), 0..6),
        cut in 0usize..40,
        hook in any_hook(),
    ) {
        for frame in mangled::<V4>(&noise, cut) {
            pass(&mut host_tables::<V4>(), hook, frame);
        }
        for frame in mangled::<V6>(&noise, cut) {
            pass(&mut host_tables::<V6>(), hook, frame);
        }
    }

    #[test]
    fn translation_and_its_reverse_keep_every_checksum(sport in 1u16.., dport in 1u16.., remote in 8u8..254) {
        fn claim<F: Lab>(sport: u16, dport: u16, remote: u8) {
            let mut tables = host_tables::<F>();
            let out = from_container(&mut tables, via_gateway::<F>(BRIDGE, 2, F::outside(remote)).udp(sport, dport));
            assert!(matches!(out.decision, Decision::Uplink(..)));
            let seen = see::<F>(&out.frame);
            let reply = arriving::<F>(remote, seen.addrs.0).udp(dport, seen.ports.0);
            let out = from_netdev(&mut tables, reply);
            assert_eq!(out.decision, delivered(BRIDGE, 2));
            assert_eq!(see::<F>(&out.frame).ports, (dport, sport));
        }
        claim::<V4>(sport, dport, remote);
        claim::<V6>(sport, dport, remote);
    }
}
