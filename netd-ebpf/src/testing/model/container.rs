//! What a container may say, before anybody asks where it goes.

use netd_common::DropReason;

use super::Expected;
use super::hooks::{answered, delivery, expected, flood, holder, station};
use crate::testing::places::Place;
use crate::testing::story::{Flaw, Mac, Packet, Payload, Piece, Word};
use crate::testing::world::{AntiSpoof, World, gateway};
use crate::verdict::Decision;

/// Whether a packet is ARP.
pub(super) const fn is_arp(packet: &Packet, v6: bool) -> bool {
    !v6 && matches!(packet.payload, Payload::Word(word) if word.is_of_neighbors())
}

/// Whether a first fragment is too short for its transport's header.
pub(super) fn is_tiny(packet: &Packet) -> bool {
    const HEADER: u8 = 3;
    let is_first = |it: Piece| it.first == 0 && it.units < HEADER;
    matches!(packet.payload, Payload::Tcp(_)) && packet.piece.is_some_and(is_first)
}

/// Whose it is, and whether it bears its own names. Nothing: it may go on.
pub(super) fn first_checks(
    world: &World,
    packet: &Packet,
    at: (u8, u8),
    v6: bool,
) -> Option<Expected> {
    let (network, seat) = at;
    let drop = |reason| Some(expected(world, packet, Decision::Drop(reason)));
    let checks = world.network(network).anti_spoof;
    if world.life(network, seat).is_none() {
        drop(DropReason::UnknownEndpoint)
    } else if checks != AntiSpoof::Off && packet.macs.1 != Mac::Member(network, seat) {
        drop(DropReason::SpoofedSource)
    } else if packet.vlan {
        drop(DropReason::UnsupportedProtocol)
    } else if packet.flaw == Flaw::Cut || is_tiny(packet) {
        drop(DropReason::Truncated)
    } else if is_arp(packet, v6) {
        Some(arp(world, packet, at))
    } else if packet.flaw == Flaw::SourceRouted {
        drop(DropReason::SourceRouted)
    } else if is_own(world, at, packet.src) || packet.src == Place::Nobody && packet.dst.is_group()
    {
        None
    } else if packet.src.is_nobody() {
        drop(DropReason::MartianAddress)
    } else if checks == AntiSpoof::Address {
        drop(DropReason::SpoofedSource)
    } else {
        None
    }
}

/// What it says of others, and to all of them. Nothing: it may go on.
pub(super) fn later_checks(
    world: &World,
    packet: &Packet,
    at: (u8, u8),
    v6: bool,
) -> Option<Expected> {
    let stopped = match packet.payload {
        Payload::Word(says) if v6 => discovery(world, packet, at, says),
        Payload::Word(Word::Advertises | Word::Redirects) => router(world, packet, at.0),
        Payload::Error(_, quote) => {
            let checks = world.network(at.0).anti_spoof;
            let is_foreign = checks == AntiSpoof::Address && !is_own(world, at, quote.dst);
            let drop = Decision::Drop(DropReason::SpoofedSource);
            is_foreign.then(|| expected(world, packet, drop))
        }
        Payload::Word(_)
        | Payload::Tcp(_)
        | Payload::Udp
        | Payload::UnsummedUdp
        | Payload::Echo
        | Payload::EchoReply
        | Payload::Other => None,
    };
    stopped.or_else(|| packet.macs.0.is_group().then(|| to_all(world, packet, at.0)))
}

/// A frame for all brings nobody a packet for one.
fn to_all(world: &World, packet: &Packet, own: u8) -> Expected {
    let is_of_one = match packet.dst {
        Place::Host(_) | Place::Gateway(_) => true,
        Place::Member(network, _) if network != own => true,
        Place::Member(network, seat) => world.life(network, seat).is_some(),
        Place::Outside(_)
        | Place::Router(_)
        | Place::Hairpin
        | Place::Loopback
        | Place::LinkLocal(..)
        | Place::Group
        | Place::AllNodes
        | Place::Nobody => false,
    };
    let decision =
        if is_of_one { Decision::Drop(DropReason::UnicastInBroadcast) } else { flood(world, own) };
    expected(world, packet, decision)
}

fn arp(world: &World, packet: &Packet, at: (u8, u8)) -> Expected {
    let (own, seat) = at;
    let (Payload::Word(Word::Asks(about, mac)), says) = (packet.payload, packet.src) else {
        let Payload::Word(Word::Claims(about, mac)) = packet.payload else {
            unreachable!("ARP is about neighbours");
        };
        let lie = spoken(world, packet, at, (about, mac));
        return lie.unwrap_or_else(|| switched(world, packet, own));
    };
    if let Some(lie) = spoken(world, packet, at, (says, mac)) {
        return lie;
    }
    match keeper(world, own, about) {
        Some(holder) if holder != Mac::Member(own, seat) && about != says => {
            answered(world, packet, holder, false)
        }
        Some(_) | None => switched(world, packet, own),
    }
}

/// ARP that says who is where.
fn spoken(
    world: &World,
    packet: &Packet,
    at: (u8, u8),
    (says, mac): (Place, Mac),
) -> Option<Expected> {
    let is_checked = world.network(at.0).anti_spoof != AntiSpoof::Off;
    let is_own_mac = mac == Mac::Member(at.0, at.1);
    let is_lie = is_checked && !is_own_mac || says != Place::Nobody && !may_claim(world, at, says);
    is_lie.then(|| expected(world, packet, Decision::Drop(DropReason::SpoofedNeighbor)))
}

/// ARP goes by its MAC, where neighbours may speak to each other.
fn switched(world: &World, packet: &Packet, own: u8) -> Expected {
    let decision = match station(world, own, packet.macs.0) {
        _ if packet.macs.0.is_group() => flood(world, own),
        _ if packet.macs.0 == Mac::Gateway(own) => Decision::HostStack(gateway(own)),
        Some(_) if world.network(own).quiet => Decision::Drop(DropReason::IccDisabled),
        Some(seat) => delivery(world, own, seat),
        None => flood(world, own),
    };
    expected(world, packet, decision)
}

/// Neighbour discovery: its source is a claim, too.
fn discovery(world: &World, packet: &Packet, at: (u8, u8), said: Word) -> Option<Expected> {
    let lie = Decision::Drop(DropReason::SpoofedNeighbor);
    let is_lie = |says| !may_claim(world, at, says);
    match said {
        Word::Other => None,
        _ if packet.src != Place::Nobody && is_lie(packet.src) => {
            Some(expected(world, packet, lie))
        }
        Word::Claims(about, _) if is_lie(about) => Some(expected(world, packet, lie)),
        Word::Advertises | Word::Redirects => router(world, packet, at.0),
        Word::Asks(about, _) => keeper(world, at.0, about)
            .filter(|holder| *holder != Mac::Member(at.0, at.1))
            .map(|holder| answered(world, packet, holder, true)),
        Word::Claims(..) | Word::Seeks => None,
    }
}

/// No container is a router, but where nothing is checked.
fn router(world: &World, packet: &Packet, own: u8) -> Option<Expected> {
    let is_checked = world.network(own).anti_spoof != AntiSpoof::Off;
    let drop = Decision::Drop(DropReason::RogueRouter);
    is_checked.then(|| expected(world, packet, drop))
}

fn may_claim(world: &World, at: (u8, u8), says: Place) -> bool {
    match world.network(at.0).anti_spoof {
        AntiSpoof::Off => true,
        AntiSpoof::Address => is_own(world, at, says),
        AntiSpoof::Mac => {
            keeper(world, at.0, says).is_none_or(|holder| holder == Mac::Member(at.0, at.1))
        }
    }
}

fn is_own(world: &World, at: (u8, u8), says: Place) -> bool {
    match says {
        Place::Member(network, seat) => {
            (network, seat) == at || world.elsewhere(at) == Some((network, seat))
        }
        Place::LinkLocal(network, seat, life) => {
            (network, seat) == at && world.life(network, seat) == Some(life)
        }
        Place::Gateway(_)
        | Place::Host(_)
        | Place::Outside(_)
        | Place::Router(_)
        | Place::Hairpin
        | Place::Loopback
        | Place::Group
        | Place::AllNodes
        | Place::Nobody => false,
    }
}

/// Who holds an address in a network: its gateway or a container.
fn keeper(world: &World, own: u8, says: Place) -> Option<Mac> {
    if says == Place::Gateway(own) {
        return Some(Mac::Gateway(own));
    }
    holder(world, own, says).map(|seat| Mac::Member(own, seat))
}
