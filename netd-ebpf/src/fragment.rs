//! Fragments of flows that need translation.
//!
//! Laws: only a datagram's first fragment has ports. A later one is translated by what its first
//! one left behind, and waits for it if it came too early; it is never guessed at. No byte of a
//! translated datagram passes twice: whoever reassembles it reads what was decided upon.

use core::ops::ControlFlow;

use netd_common::map::counter::DropKey;
use netd_common::map::fragment::{
    FRAGMENT_FIRST, FRAGMENT_OPENS, FragmentKey, FragmentValue, HELD_MAX, HeldKey, UNIT_LEN,
    UNITS_MAX, UNITS_SPOILT, Units, UnitsValue, is_past,
};
use netd_common::wire::{ETHERNET_LEN, Ipv6Fragment, Part};
use netd_common::{Be16, DropReason};

use crate::conntrack;
use crate::forward::leave_to;
use crate::packet::{Io, PacketBuf};
use crate::parse::{Packet, Role};
use crate::tables::{FamilyTables, Stack, Tables};
use crate::verdict::{Decision, OrStop, Stage, Step, Verdict, Version, decide, refuse};
use crate::work::{Known, Work, forget_ways};

/// Offset of the identification in an IPv4 header; flags and offset of a fragment follow it.
const IPV4_ID: u32 = ETHERNET_LEN + 4;
const IPV4_OFFSET: u16 = 0x1fff;
const IPV4_MORE: u16 = 0x2000;
const IPV6_MORE: u16 = 1;
const IPV6_FRAGMENT_LEN: u32 = 8;

/// A fragment, as its datagram's others know it. All zero is a valid value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Piece {
    /// Its datagram.
    pub key: FragmentKey,
    /// Which unit of the datagram it begins with.
    pub first_unit: u32,
    /// Length in bytes.
    pub len: u32,
    /// No other follows it.
    pub is_last: bool,
    /// How many wait for it.
    pub waiting: u32,
    /// `HeldValue::drop`.
    pub drop: DropKey,
}

impl Piece {
    /// Its row of units; nothing if nobody could put it together with others.
    #[inline(always)]
    fn units(&self) -> Option<Units> {
        // A shift: a division that rounds up branches, and the verifier follows both ways.
        let count = (self.len + UNIT_LEN - 1) >> UNIT_LEN.ilog2();
        let units = Units { first: self.first_unit, count };
        let is_even = self.is_last || self.len.is_multiple_of(UNIT_LEN);
        (self.len != 0 && is_even && units.end() <= UNITS_MAX).then_some(units)
    }
}

/// A first fragment leaves its ports behind, a later one takes them up; then either goes its
/// flow's way, as any packet.
#[inline(always)]
pub fn gather<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
    piece: &mut Piece,
) -> Step<()> {
    measure::<F, B>(&io.buf, &work.packet, piece).or_drop(DropReason::Truncated)?;
    let now_s = io.tables.now_s();
    match work.packet.part {
        Part::Whole | Part::First => {
            let first = left_by(&work.packet, now_s);
            piece.waiting = io.tables.update_fragment(&piece.key, |it| arrive(it, &first));
        }
        Part::Later => match io.tables.fragment(&piece.key) {
            Some(first) if has_come(&first, now_s) => take_up(&mut work.packet, first),
            _ => return guess::<F>(work),
        },
    }
    conntrack::recall::<F, T>(&io.tables, work);
    forget_ways();
    match work.known {
        Known::No => otherwise(work),
        Known::Settled => leave_to::<F>(Stage::Claim),
        Known::Unsettled | Known::Stale => leave_to::<F>(Stage::CatchUp),
    }
}

#[inline(always)]
fn otherwise<A>(work: &Work<A>) -> Step<()> {
    match work.otherwise {
        Some(verdict) => ControlFlow::Break(verdict),
        None => ControlFlow::Continue(()),
    }
}

/// What comes before its first is decided without ports, if it is to be decided at all.
#[inline(always)]
fn guess<F: Stack>(work: &Work<F::Addr>) -> Step<()> {
    match work.otherwise {
        Some(verdict) if verdict != Decision::Later(Stage::Begin, F::FAMILY).into() => {
            ControlFlow::Break(verdict)
        }
        Some(_) | None => leave_to::<F>(Stage::Guess),
    }
}

/// Which datagram it is of, and which part of it.
#[inline(always)]
fn measure<F: Stack, B: PacketBuf>(
    buf: &B,
    packet: &Packet<F::Addr>,
    piece: &mut Piece,
) -> Option<()> {
    if F::VERSION == 4 {
        let [id, fragment] = buf.load::<[Be16; 2]>(IPV4_ID)?;
        piece.key.id = u32::from(id.0);
        piece.first_unit = u32::from(fragment.get() & IPV4_OFFSET);
        piece.is_last = fragment.get() & IPV4_MORE == 0;
    } else {
        let header: Ipv6Fragment = buf.load(packet.share - IPV6_FRAGMENT_LEN)?;
        piece.key.id = header.id;
        piece.first_unit = u32::from(header.fragment.get()) / UNIT_LEN;
        piece.is_last = header.fragment.get() & IPV6_MORE == 0;
    }
    let tuple = &packet.key;
    piece.key.network = tuple.network;
    piece.key.src = F::widen(tuple.src);
    piece.key.dst = F::widen(tuple.dst);
    piece.key.proto = tuple.proto;
    piece.key.version = F::VERSION;
    piece.key.pad = [0; 2];
    piece.len = packet.end - packet.share;
    piece.waiting = 0;
    Some(())
}

#[inline(always)]
fn left_by<A>(packet: &Packet<A>, now_s: u32) -> FragmentValue {
    FragmentValue {
        sport: packet.key.sport,
        dport: packet.key.dport,
        flags: FRAGMENT_FIRST | if packet.role == Role::Opens { FRAGMENT_OPENS } else { 0 },
        waiting: 0,
        born_s: now_s,
    }
}

/// The first fragment leaves its ports behind; how many have waited for it.
#[inline(always)]
fn arrive(known: &mut FragmentValue, first: &FragmentValue) -> u32 {
    let waiting = if is_past(known.born_s, first.born_s) { 0 } else { known.waiting };
    *known = *first;
    waiting
}

/// A place among those that wait for the first fragment. Two CPUs may give the same: then one of the
/// two fragments is lost.
#[inline(always)]
fn queue_up(known: &mut FragmentValue, now_s: u32) -> u32 {
    if is_past(known.born_s, now_s) || known.born_s == 0 {
        *known = FragmentValue { born_s: now_s, ..FragmentValue::default() };
    }
    let place = known.waiting;
    known.waiting = place.saturating_add(1);
    // The first came in between: nobody will ask for those that wait.
    if known.flags & FRAGMENT_FIRST != 0 { HELD_MAX } else { place }
}

#[inline(always)]
fn has_come(known: &FragmentValue, now_s: u32) -> bool {
    known.flags & FRAGMENT_FIRST != 0 && !is_past(known.born_s, now_s)
}

#[inline(always)]
fn take_up<A>(packet: &mut Packet<A>, first: FragmentValue) {
    packet.key.sport = first.sport;
    packet.key.dport = first.dport;
    packet.role = if first.flags & FRAGMENT_OPENS != 0 { Role::Opens } else { Role::Continues };
}

/// A packet that would need translation has the ports for it.
#[inline(always)]
pub fn has_ports<A>(packet: &Packet<A>) -> Step<()> {
    let key = &packet.key;
    match packet.part {
        Part::Later if key.sport == Be16(0) && key.dport == Be16(0) => {
            refuse(DropReason::FragmentUnknown)
        }
        Part::Whole | Part::First | Part::Later => ControlFlow::Continue(()),
    }
}

/// What was decided of a later fragment without its ports holds if they make no difference; else it
/// is held for its first. What may be for the host's stack goes there, and a copy is held.
#[inline(always)]
pub fn hold<B: PacketBuf, T: Tables>(
    io: &mut Io<B, T>,
    piece: &mut Piece,
    (guessed, hook): (Verdict, u16),
) -> Verdict {
    piece.drop =
        DropKey { endpoint: io.ledger.endpoint, network: io.ledger.network, reason: 0, hook };
    match guessed.decision() {
        Decision::Untouched | Decision::HostStack(_) => {}
        Decision::Drop(
            DropReason::FragmentUnknown | DropReason::NotPublished | DropReason::IccDisabled,
        ) => piece.drop.reason = DropReason::FragmentExpired as u16,
        Decision::Accept
        | Decision::Later(..)
        | Decision::Drop(_)
        | Decision::Deliver(..)
        | Decision::ToVeth(_)
        | Decision::Uplink(..)
        | Decision::Answer
        | Decision::Replicate(_)
        | Decision::Held
        | Decision::Again => return guessed,
    }
    forget_ways();
    let is_held = queue(io, piece);
    match (piece.drop.reason, is_held) {
        (0, _) => guessed,
        (_, true) => Decision::Held.into(),
        (_, false) => Decision::Drop(DropReason::FragmentUnknown).into(),
    }
}

#[inline(always)]
fn queue<B: PacketBuf, T: Tables>(io: &mut Io<B, T>, piece: &Piece) -> bool {
    let now_s = io.tables.now_s();
    let slot = io.tables.update_fragment(&piece.key, |known| queue_up(known, now_s));
    let key = HeldKey { datagram: piece.key, slot };
    slot < HELD_MAX && io.tables.hold(&key, &io.buf, &piece.drop)
}

/// A fragment that is to be sent claims its units. A first one that others wait for lets them
/// follow it before it does.
#[inline(always)]
pub fn claim<B: PacketBuf, T: Tables>(io: &mut Io<B, T>, piece: &Piece) -> Step<()> {
    if piece.waiting != 0 {
        return decide(Decision::Again);
    }
    let units = piece.units().or_drop(DropReason::Truncated)?;
    let (value, passed) =
        io.tables.pass_units(&piece.key, units).or_drop(DropReason::KernelRefused)?;
    match note(value, (units, piece.is_last), passed) {
        Fate::Passes => {}
        Fate::Completes => io.tables.forget_datagram(&piece.key),
        Fate::Duplicate => refuse(DropReason::FragmentDuplicate)?,
        Fate::Overlaps => refuse(DropReason::FragmentOverlap)?,
    }
    let family = if piece.key.version == 6 { Version::V6 } else { Version::V4 };
    decide(Decision::Later(Stage::Carry, family))
}

/// Which of the units that were claimed had passed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// None; and so many of the datagram have passed now.
    None(u32),
    /// Some.
    Some,
    /// All.
    All,
}

/// What a claim means for the fragment.
enum Fate {
    Passes,
    Completes,
    Duplicate,
    Overlaps,
}

/// As the kernel's reassembly: a fragment that lies within what has passed is a duplicate and harms
/// nobody, one that overlaps it in part spoils the datagram (RFC 5722), and so does one beyond the
/// datagram's end, or a last one that ends before what has passed.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "a datagram has at most UNITS_MAX units")]
fn note(value: &mut UnitsValue, (units, is_last): (Units, bool), passed: Passed) -> Fate {
    if value.flags & UNITS_SPOILT != 0 {
        return Fate::Overlaps;
    }
    let end = units.end();
    let is_beyond = value.total != 0 && end > value.total
        || is_last && (value.total != 0 && end != value.total || end < u32::from(value.furthest));
    let in_all = match passed {
        Passed::All => return Fate::Duplicate,
        Passed::None(in_all) if !is_beyond => in_all,
        Passed::None(_) | Passed::Some => {
            value.flags |= UNITS_SPOILT;
            return Fate::Overlaps;
        }
    };
    value.furthest = value.furthest.max(end as u16);
    if is_last {
        value.total = end;
    }
    if value.total != 0 && in_all >= value.total { Fate::Completes } else { Fate::Passes }
}
