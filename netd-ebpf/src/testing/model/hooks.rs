//! Hooks that remember nothing, and what every hook counts.

use std::vec::Vec;

use netd_common::{DropReason, EndpointIndex, NetworkIndex};

use super::Expected;
use super::container::is_arp;
use crate::testing::places::Place;
use crate::testing::story::{Device, Mac, Packet, Payload, Word};
use crate::testing::world::{Mode, World, gateway};
use crate::verdict::{Decision, Ledger, Sender};

/// Hooks that remember nothing.
pub(super) fn stateless(world: &World, packet: &Packet, v6: bool) -> Expected {
    let expect = |decision| expected(world, packet, decision);
    match packet.device {
        Device::Veth(network, seat) if world.life(network, seat).is_some() => {
            expect(Decision::Accept)
        }
        Device::Veth(..) => expect(Decision::Drop(DropReason::UnknownEndpoint)),
        Device::Gateway(network) => from_host(world, packet, network, v6),
        Device::Uplink(_) if is_arp(packet, v6) && !packet.marked => expect(Decision::Untouched),
        Device::Uplink(_) => to_netdev(world, packet),
    }
}

/// From the host's stack to a network: by MAC, or by address if nobody has that MAC.
fn from_host(world: &World, packet: &Packet, own: u8, v6: bool) -> Expected {
    let network = world.network(own);
    let is_open = network.mode == Mode::Unprotected && !network.internal;
    if packet.forwarded && !is_open && !is_arp(packet, v6) {
        return expected(world, packet, Decision::Drop(DropReason::NotPublished));
    }
    if let Payload::Word(Word::Asks(about, _)) = packet.payload
        && let Some(seat) = holder(world, own, about)
    {
        return answered(world, packet, Mac::Member(own, seat), v6);
    }
    let holder = holder(world, own, packet.dst).filter(|_| !is_arp(packet, v6));
    match (station(world, own, packet.macs.0), holder) {
        _ if packet.macs.0.is_group() => expected(world, packet, Decision::Replicate(Sender::Host)),
        (None, None) => expected(world, packet, Decision::Replicate(Sender::Host)),
        (Some(seat), _) => expected(world, packet, Decision::ToVeth(world.veth(own, seat))),
        (None, Some(seat)) => {
            let packet = Packet { macs: (Mac::Member(own, seat), packet.macs.1), ..*packet };
            expected(world, &packet, Decision::ToVeth(world.veth(own, seat)))
        }
    }
}

/// Who asks for a neighbour is told its MAC; who has no address is told with all others.
pub(super) fn answered(world: &World, packet: &Packet, holder: Mac, v6: bool) -> Expected {
    let Payload::Word(Word::Asks(about, own)) = packet.payload else {
        unreachable!("only a question is answered");
    };
    let (dst, to) = if !v6 {
        (packet.src, own)
    } else if packet.src == Place::Nobody {
        (Place::AllNodes, Mac::AllNodes)
    } else {
        (packet.src, packet.macs.1)
    };
    let payload = Payload::Word(Word::Claims(about, holder));
    let answer = Packet { payload, src: about, dst, macs: (to, holder), ttl: 255, ..*packet };
    expected(world, &answer, Decision::Answer)
}

/// Out of an uplink past us: not in a container's name, where it should be the host's.
fn to_netdev(world: &World, packet: &Packet) -> Expected {
    if packet.marked {
        let packet = Packet { marked: false, ..*packet };
        return expected(world, &packet, Decision::Untouched);
    }
    let (Place::Member(from, _) | Place::Gateway(from)) = packet.src else {
        return expected(world, packet, Decision::Untouched);
    };
    let network = world.network(from);
    let leaks = network.internal || network.masquerade && network.mode != Mode::Routed;
    let decision =
        if leaks { Decision::Drop(DropReason::LeakedSource) } else { Decision::Untouched };
    let mut expected = expected(world, packet, decision);
    expected.ledger.network = NetworkIndex(u32::from(from));
    expected
}

/// To all who are to hear a container: where neighbours are closed to each other, the host alone.
pub(super) fn flood(world: &World, own: u8) -> Decision {
    if world.network(own).quiet {
        Decision::HostStack(gateway(own))
    } else {
        Decision::Replicate(Sender::Container)
    }
}

/// The container with an address in a network, or with one of another network that it answers to.
pub(super) fn holder(world: &World, own: u8, addr: Place) -> Option<u8> {
    let Place::Member(network, seat) = addr else {
        return None;
    };
    let is_here = network == own && world.life(network, seat).is_some();
    let is_elsewhere = world.elsewhere((own, seat)) == Some((network, seat));
    (is_here || is_elsewhere).then_some(seat)
}

/// The container with a MAC in a network.
pub(super) fn station(world: &World, own: u8, mac: Mac) -> Option<u8> {
    match mac {
        Mac::Member(network, seat) if network == own => world.life(own, seat).map(|_| seat),
        Mac::Member(..)
        | Mac::Gateway(_)
        | Mac::Uplink(_)
        | Mac::Router
        | Mac::Stranger
        | Mac::Broadcast
        | Mac::AllNodes
        | Mac::Nobody => None,
    }
}

/// Into the host's stack, by the gateway device that the frame is for.
pub(super) fn to_stack(device: Device) -> Decision {
    let Device::Veth(door, _) = device else {
        unreachable!("from outside the kernel itself goes there");
    };
    Decision::HostStack(gateway(door))
}

pub(super) fn delivery(world: &World, network: u8, seat: u8) -> Decision {
    Decision::Deliver(world.veth(network, seat), world.index(network, seat))
}

/// The packet as it is, counted against whose hook it is.
pub(super) fn expected(world: &World, packet: &Packet, decision: Decision) -> Expected {
    let ledger = match packet.device {
        Device::Veth(network, seat) if world.life(network, seat).is_some() => Ledger {
            endpoint: world.index(network, seat),
            network: NetworkIndex(u32::from(network)),
        },
        Device::Gateway(network) => {
            Ledger { endpoint: EndpointIndex::NONE, network: NetworkIndex(u32::from(network)) }
        }
        Device::Veth(..) | Device::Uplink(_) => Ledger::default(),
    };
    Expected { decision, packet: *packet, ledger, next_hop: Place::Nobody, again: Vec::new() }
}
