//! Who may reach whom: the truth table of `docs/packet-path.md`.
//!
//! Law: it looks at the world and a tuple, at nothing that came before.

use netd_common::DropReason;
use netd_common::wire::{TCP, UDP};

use crate::testing::places::Place;
use crate::testing::world::{HOST_SOCKET, Mode, POOL, TRUSTED, World};

/// ICMP of either family.
pub(super) const ECHO: u8 = crate::testing::story::ICMP;
/// Below it are ports of servers.
const FIRST_OF_CLIENTS: u16 = 32_768;

/// A tuple, and where it is seen: in a network, or on an uplink (0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tuple {
    pub(super) scope: u8,
    pub(super) src: Place,
    pub(super) dst: Place,
    pub(super) sport: u16,
    pub(super) dport: u16,
    pub(super) proto: u8,
}

impl Tuple {
    pub(super) const fn reversed(self) -> Self {
        let Self { scope, src, dst, sport, dport, proto } = self;
        Self { scope, src: dst, dst: src, sport: dport, dport: sport, proto }
    }

    pub(super) const fn has_ports(&self) -> bool {
        matches!(self.proto, TCP | UDP)
    }
}

/// Where packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Seat(u8, u8),
    Uplink(u8),
}

/// Which source ports a flow may leave with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortRule {
    /// Its own alone.
    Own,
    /// Its own if the answer would be unmistakable, else one of the pool.
    Prefer,
    /// As above, and never one that the host or a publication needs.
    Masquerade,
}

/// Where a new flow goes, and in whose name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) src: Place,
    pub(super) dst: Place,
    pub(super) dport: u16,
    pub(super) target: Target,
    /// Handed on within its network as it is.
    pub(super) bridged: bool,
    pub(super) ports: PortRule,
    /// The publication that it came by.
    pub(super) published: Option<u32>,
}

/// What the truth table says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Goes(Way),
    HostStack,
    Untouched,
    Drop(DropReason),
}

/// What a packet that belongs to no flow means to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// It opens one.
    Opens,
    /// Its flow was lost with the table, and this one is it again.
    Resumes,
    /// Nothing.
    No,
}

impl Start {
    const fn opens(self) -> bool {
        matches!(self, Self::Opens | Self::Resumes)
    }
}

/// The truth table: where a flow goes that a container begins. It counts as one of the network that
/// its source is of.
pub(super) fn from_container(world: &World, at: (u8, u8), tuple: &Tuple, start: Start) -> Answer {
    let own = tuple.scope;
    let network = world.network(own);
    match tuple.dst {
        _ if tuple.dst.is_nobody() => Answer::Drop(DropReason::MartianAddress),
        Place::Gateway(gateway) if gateway == own && network.internal => Answer::HostStack,
        Place::Member(to, seat) if to == own => to_neighbor(world, (to, seat), tuple, start),
        Place::Member(to, seat) => to_another_network(world, own, (to, seat), (tuple, start)),
        // Nobody but the neighbour itself says who that is.
        Place::LinkLocal(..) => Answer::Drop(DropReason::UnknownDestination),
        _ if network.internal => Answer::Drop(DropReason::InternalNetwork),
        Place::Gateway(_) | Place::Host(_) => match published(world, tuple, start) {
            Some(way) if way.target == Target::Seat(at.0, at.1) => {
                Answer::Goes(Way { src: Place::Hairpin, ..way })
            }
            Some(way) => Answer::Goes(way),
            None => Answer::HostStack,
        },
        Place::Outside(_)
        | Place::Router(_)
        | Place::Hairpin
        | Place::Loopback
        | Place::Group
        | Place::AllNodes
        | Place::Nobody => to_outside(world, own, tuple, start),
    }
}

fn to_neighbor(world: &World, (to, seat): (u8, u8), tuple: &Tuple, start: Start) -> Answer {
    let may = !world.network(to).quiet || start.opens() && is_exposed(world, (to, seat), tuple);
    if world.life(to, seat).is_none() {
        Answer::Drop(DropReason::UnknownDestination)
    } else if may {
        Answer::Goes(Way { bridged: true, ..as_is(tuple, Target::Seat(to, seat)) })
    } else {
        Answer::Drop(DropReason::IccDisabled)
    }
}

/// Networks keep apart; one of mode `routed` takes from another's containers what it takes from
/// strangers.
fn to_another_network(
    world: &World,
    own: u8,
    (to, seat): (u8, u8),
    (tuple, start): (&Tuple, Start),
) -> Answer {
    let network = world.network(to);
    if world.network(own).internal || network.internal || network.mode != Mode::Routed {
        return Answer::Drop(DropReason::NetworkIsolation);
    }
    let is_open = tuple.proto == ECHO || is_exposed(world, (to, seat), tuple);
    match way_in(world, (to, seat), (tuple, start), is_open) {
        Ok(way) => Answer::Goes(way),
        Err(reason) => Answer::Drop(reason),
    }
}

fn is_exposed(world: &World, at: (u8, u8), tuple: &Tuple) -> bool {
    tuple.has_ports() && world.is_exposed(at, tuple.dport, tuple.proto)
}

/// To a container's own address, of who may or may not speak to it.
fn way_in(
    world: &World,
    (to, seat): (u8, u8),
    (tuple, start): (&Tuple, Start),
    is_open: bool,
) -> Result<Way, DropReason> {
    if !is_open {
        Err(DropReason::NotPublished)
    } else if !start.opens() {
        Err(DropReason::InvalidState)
    } else if world.life(to, seat).is_none() {
        Err(DropReason::UnknownDestination)
    } else {
        Ok(as_is(tuple, Target::Seat(to, seat)))
    }
}

fn to_outside(world: &World, own: u8, tuple: &Tuple, start: Start) -> Answer {
    let network = world.network(own);
    let masquerade = network.masquerade && network.mode != Mode::Routed;
    match world.route(tuple.dst) {
        _ if !start.opens() => Answer::Drop(DropReason::InvalidState),
        // A server's: its client must say by which published port it came.
        _ if start == Start::Resumes && tuple.sport < FIRST_OF_CLIENTS => {
            Answer::Drop(DropReason::InvalidState)
        }
        None => Answer::Drop(DropReason::NoRoute),
        Some(number) if masquerade => {
            let src = Place::Host(if network.chosen_source { 2 } else { number });
            let way = as_is(tuple, Target::Uplink(number));
            Answer::Goes(Way { src, ports: PortRule::Masquerade, ..way })
        }
        Some(number) => Answer::Goes(as_is(tuple, Target::Uplink(number))),
    }
}

/// The truth table: where a flow goes that begins outside, behind an uplink.
pub(super) fn from_outside(world: &World, number: u8, tuple: &Tuple, start: Start) -> Answer {
    match tuple.dst {
        Place::Host(_) | Place::Gateway(_) => match published(world, tuple, start) {
            Some(way) => by_strangers(tuple, way),
            None if start == Start::Resumes && is_masqueraded(tuple) => {
                Answer::Drop(DropReason::InvalidState)
            }
            None if matches!(tuple.dst, Place::Gateway(_)) => {
                Answer::Drop(DropReason::NotPublished)
            }
            None => Answer::Untouched,
        },
        Place::Member(to, seat) => to_member(world, number, (to, seat), (tuple, start)),
        Place::Outside(_)
        | Place::Router(_)
        | Place::Hairpin
        | Place::Loopback
        | Place::LinkLocal(..)
        | Place::Group
        | Place::AllNodes
        | Place::Nobody => Answer::Untouched,
    }
}

/// Whether it is for a port that only masqueraded flows have: its container speaks first.
fn is_masqueraded(tuple: &Tuple) -> bool {
    POOL.contains(&tuple.dport) && (tuple.dport, tuple.proto) != (HOST_SOCKET, TCP)
}

fn to_member(
    world: &World,
    number: u8,
    (to, seat): (u8, u8),
    (tuple, start): (&Tuple, Start),
) -> Answer {
    let network = world.network(to);
    let is_exposed = is_exposed(world, (to, seat), tuple);
    let is_open = match network.mode {
        Mode::Nat => false,
        Mode::Unprotected => true,
        Mode::Routed => tuple.proto == ECHO || is_exposed,
    };
    let is_open = is_open || network.trusts && number == TRUSTED && is_exposed;
    if network.internal {
        return Answer::Drop(DropReason::InternalNetwork);
    }
    match way_in(world, (to, seat), (tuple, start), is_open) {
        Ok(way) => by_strangers(tuple, way),
        Err(reason) => Answer::Drop(reason),
    }
}

/// What comes from outside bears a stranger's address.
fn by_strangers(tuple: &Tuple, way: Way) -> Answer {
    match tuple.src {
        _ if tuple.src.is_nobody() => Answer::Drop(DropReason::MartianAddress),
        Place::Host(_) | Place::Gateway(_) | Place::Member(..) => {
            Answer::Drop(DropReason::SpoofedSource)
        }
        Place::Outside(_)
        | Place::Router(_)
        | Place::Hairpin
        | Place::Loopback
        | Place::LinkLocal(..)
        | Place::Group
        | Place::AllNodes
        | Place::Nobody => Answer::Goes(way),
    }
}

fn published(world: &World, tuple: &Tuple, start: Start) -> Option<Way> {
    if !start.opens() || !tuple.has_ports() {
        return None;
    }
    let (slot, it) = world.published(tuple.dst, tuple.dport, tuple.proto)?;
    Some(Way {
        dst: Place::Member(it.network, it.seat),
        dport: it.target,
        ports: PortRule::Prefer,
        published: Some(slot),
        ..as_is(tuple, Target::Seat(it.network, it.seat))
    })
}

const fn as_is(tuple: &Tuple, target: Target) -> Way {
    Way {
        src: tuple.src,
        dst: tuple.dst,
        dport: tuple.dport,
        target,
        bridged: false,
        ports: PortRule::Own,
        published: None,
    }
}
