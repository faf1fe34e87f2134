//! Random packets that a hook can meet: most are what their sender would send.

use arbitrary::{Result, Unstructured};
use netd_common::Hook;
use netd_common::wire::{TCP, UDP};

use super::super::places::Place;
use super::super::world::{SERVICES, TUNNEL};
use super::payload::OTHER;
use super::{Device, Flaw, ICMP, Mac, Packet, Payload, Piece, Quote, Word};

/// Source ports, and ids of echoes: some may be kept, some are of the pool.
pub const CLIENTS: [u16; 6] = [80, 1_111, 40_000, 50_000, 50_001, 50_002];

/// One time in sixteen.
fn rarely(u: &mut Unstructured<'_>) -> Result<bool> {
    u.ratio(1, 16)
}

fn plain(hook: Hook, device: Device, u: &mut Unstructured<'_>) -> Result<Packet> {
    Ok(Packet {
        hook,
        device,
        dst: u.arbitrary()?,
        sport: *u.choose(&CLIENTS)?,
        dport: *u.choose(&SERVICES)?,
        ttl: if rarely(u)? { u.int_in_range(0..=2)? } else { 64 },
        ..Packet::usual(u.arbitrary()?)
    })
}

fn flaw(u: &mut Unstructured<'_>) -> Result<Flaw> {
    const FLAWS: [Flaw; 3] = [Flaw::Cut, Flaw::SourceRouted, Flaw::Oversized];
    if rarely(u)? { Ok(*u.choose(&FLAWS)?) } else { Ok(Flaw::None) }
}

/// About a packet that nobody may have sent.
fn error(u: &mut Unstructured<'_>) -> Result<Payload> {
    let proto = *u.choose(&[TCP, UDP, ICMP, OTHER])?;
    let (sport, dport) = (*u.choose(&CLIENTS)?, *u.choose(&SERVICES)?);
    let dport = if proto == ICMP { sport } else { dport };
    let quote = Quote { src: u.arbitrary()?, dst: u.arbitrary()?, proto, sport, dport };
    Ok(Payload::Error(u.arbitrary()?, quote))
}

/// What a container says to its neighbours and routers: of itself, or of somebody else.
fn word((network, seat): (u8, u8), u: &mut Unstructured<'_>) -> Result<Packet> {
    let (own, own_mac) = (Place::Member(network, seat), Mac::Member(network, seat));
    let mut packet = plain(Hook::FromContainer, Device::Veth(network, seat), u)?;
    let neighbor = neighborly(network, u)?;
    let at = if rarely(u)? { Mac::Stranger } else { own_mac };
    packet.payload = Payload::Word(match u.int_in_range(0..=9u8)? {
        0..=3 => Word::Asks(neighbor, at),
        4 => Word::Asks(own, at),
        5 => Word::Claims(own, at),
        6 => Word::Claims(neighbor, at),
        7 => Word::Advertises,
        8 => Word::Redirects,
        _ => *u.choose(&[Word::Seeks, Word::Other])?,
    });
    packet.src = match u.int_in_range(0..=7u8)? {
        0 => Place::Nobody,
        1 => Place::LinkLocal(network, seat, u.int_in_range(0..=1)?),
        2 => neighborly(network, u)?,
        _ => own,
    };
    let (dst, to) = match u.int_in_range(0..=7u8)? {
        0 => (neighbor, Mac::Gateway(network)),
        1 | 2 => (neighbor, neighbor_mac(neighbor)),
        3 => (neighbor, Mac::Broadcast),
        _ => (Place::AllNodes, Mac::AllNodes),
    };
    let (ttl, macs) = (255, (to, own_mac));
    Ok(Packet { dst, macs, ttl, flaw: flaw(u)?, ..packet })
}

/// Who is, or was, or could be in a network.
fn neighborly(network: u8, u: &mut Unstructured<'_>) -> Result<Place> {
    let seat = u.int_in_range(2..=4)?;
    Ok(match u.int_in_range(0..=7u8)? {
        0 => Place::Gateway(network),
        1 => Place::Outside(u.int_in_range(9..=12)?),
        2 => Place::LinkLocal(network, seat, u.int_in_range(0..=1)?),
        3 => u.arbitrary()?,
        _ => Place::Member(network, seat),
    })
}

const fn neighbor_mac(neighbor: Place) -> Mac {
    match neighbor {
        Place::Member(network, seat) | Place::LinkLocal(network, seat, _) => {
            Mac::Member(network, seat)
        }
        Place::Gateway(network) => Mac::Gateway(network),
        Place::Host(_)
        | Place::Outside(_)
        | Place::Router(_)
        | Place::Hairpin
        | Place::Loopback
        | Place::Group
        | Place::AllNodes
        | Place::Nobody => Mac::Stranger,
    }
}

pub(super) fn from_container(at: (u8, u8), u: &mut Unstructured<'_>) -> Result<Packet> {
    if u.ratio(1, 5)? {
        return word(at, u);
    }
    let (network, seat) = at;
    let mut packet = plain(Hook::FromContainer, Device::Veth(network, seat), u)?;
    let own = Mac::Member(network, seat);
    if u.ratio(1, 8)? {
        packet.payload = error(u)?;
    }
    packet.flaw = flaw(u)?;
    packet.src = if rarely(u)? { u.arbitrary()? } else { Place::Member(network, seat) };
    packet.vlan = rarely(u)?;
    if rarely(u)? {
        let to = *u.choose(&[Mac::Stranger, own, Mac::Gateway(network)])?;
        return Ok(Packet { macs: (to, Mac::Stranger), ..packet });
    }
    if u.ratio(1, 12)? {
        return spread(packet, own, u);
    }
    packet.macs = (Mac::Gateway(network), own);
    if let Place::Member(to, neighbor) = packet.dst
        && to == network
        && !rarely(u)?
    {
        packet.macs.0 = Mac::Member(to, neighbor);
    }
    Ok(packet)
}

/// To a group, from somebody who may have no address yet; or to one in a frame for all.
fn spread(packet: Packet, own: Mac, u: &mut Unstructured<'_>) -> Result<Packet> {
    let to = *u.choose(&[Mac::Broadcast, Mac::AllNodes])?;
    let packet = Packet { macs: (to, own), ..packet };
    Ok(match u.int_in_range(0..=3u8)? {
        0 => packet,
        1 => Packet { dst: Place::Group, src: Place::Nobody, ..packet },
        _ => Packet { dst: *u.choose(&[Place::Group, Place::AllNodes])?, ..packet },
    })
}

pub(super) fn from_netdev(u: &mut Unstructured<'_>) -> Result<Packet> {
    let number = u.int_in_range(1..=TUNNEL)?;
    let bare = number == TUNNEL;
    let hook = if bare { Hook::FromL3dev } else { Hook::FromNetdev };
    let mut packet = plain(hook, Device::Uplink(number), u)?;
    packet.bare = bare;
    packet.macs =
        if bare { (Mac::Nobody, Mac::Nobody) } else { (Mac::Uplink(number), Mac::Router) };
    match u.int_in_range(0..=15u8)? {
        0 | 1 => packet.payload = error(u)?,
        2 => {
            let neighbor = u.arbitrary()?;
            let words = [Word::Asks(neighbor, Mac::Router), Word::Advertises, Word::Other];
            packet.payload = Payload::Word(*u.choose(&words)?);
        }
        _ => {}
    }
    packet.src = match u.int_in_range(0..=15u8)? {
        0 => u.arbitrary()?,
        1 => *u.choose(&[Place::Loopback, Place::Group, Place::Nobody])?,
        _ => Place::Outside(u.int_in_range(9..=12)?),
    };
    packet.for_another = rarely(u)?;
    packet.vlan = rarely(u)?;
    packet.flaw = flaw(u)?;
    Ok(packet)
}

pub(super) fn from_host((network, seat): (u8, u8), u: &mut Unstructured<'_>) -> Result<Packet> {
    let mut packet = plain(Hook::FromHost, Device::Gateway(network), u)?;
    packet.src = Place::Gateway(network);
    packet.dst = if rarely(u)? { u.arbitrary()? } else { Place::Member(network, seat) };
    let to = [Mac::Member(network, seat), Mac::Stranger, Mac::Broadcast, Mac::AllNodes];
    packet.macs = (*u.choose(&to)?, Mac::Gateway(network));
    packet.forwarded = u.ratio(1, 4)?;
    if u.ratio(1, 3)? {
        let own = Mac::Gateway(network);
        let about = neighborly(network, u)?;
        let words = [Word::Asks(about, own), Word::Claims(Place::Gateway(network), own)];
        packet.payload = Payload::Word(*u.choose(&words)?);
        packet.ttl = 255;
    }
    Ok(packet)
}

pub(super) fn leaving((network, seat): (u8, u8), u: &mut Unstructured<'_>) -> Result<Packet> {
    let number = u.int_in_range(1..=TUNNEL)?;
    let bare = number == TUNNEL;
    let hook = if bare { Hook::ToL3dev } else { Hook::ToNetdev };
    let mut packet = plain(hook, Device::Uplink(number), u)?;
    packet.bare = bare;
    let container = u.arbitrary()?;
    packet.src = if container { Place::Member(network, seat) } else { u.arbitrary()? };
    packet.marked = u.ratio(1, 4)?;
    Ok(packet)
}

/// Fragments of a torn datagram.
pub const PIECES: usize = 5;

/// Those of one datagram, in order, out of it, doubled, missing or overlapping.
pub(super) fn pieces(u: &mut Unstructured<'_>) -> Result<[Piece; PIECES]> {
    const KINDS: [(u8, u8, bool); 9] = [
        (0, 3, false),
        (3, 2, false),
        (5, 3, true),
        (3, 5, true),
        (0, 1, false),
        (2, 2, false),
        (4, 1, true),
        (5, 5, false),
        (1, 7, true),
    ];
    let id = u.int_in_range(0..=1)?;
    let is_orderly = u.ratio(1, 2)?;
    let turn: usize = u.int_in_range(0..=2)?;
    let mut pieces = [Piece { id, first: 0, units: 0, is_last: false }; PIECES];
    for (at, piece) in pieces.iter_mut().enumerate() {
        let kind = if is_orderly { KINDS[(at + turn) % 3] } else { *u.choose(&KINDS)? };
        (piece.first, piece.units, piece.is_last) = kind;
    }
    Ok(pieces)
}
