//! Datagrams in fragments: whose ports a later one has, when it waits for them, and which bytes
//! pass.

use std::collections::BTreeSet;
use std::vec::Vec;

use netd_common::DropReason;
use netd_common::wire::{TCP_ACK, TCP_SYN};

use super::hooks::expected;
use super::tracking::scope_of;
use super::{Expected, Model};
use crate::testing::places::Place;
use crate::testing::story::{Packet, Payload, Piece};
use crate::testing::world::World;
use crate::verdict::Decision;

/// How long a datagram is waited for.
const LIFETIME_S: u32 = 30;
/// Most of one datagram that wait.
const WAITING_MAX: usize = 64;

/// Whose fragments they are: where seen, from whom, to whom, which protocol and identification.
pub(super) type Datagram = (u8, Place, Place, u8, u8);

/// What is known of one.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// What its first fragment said.
    said: Option<Said>,
    /// Those that came before it, if they are still there.
    waiting: Vec<Option<Packet>>,
    since_s: u32,
}

#[derive(Clone, Copy, Debug)]
struct Said {
    ports: (u16, u16),
    opens: bool,
}

/// Which of its bytes have passed.
#[derive(Clone, Debug, Default)]
pub(super) struct Passed {
    units: BTreeSet<u8>,
    /// Whether the last has passed: then the furthest is the datagram's.
    has_last: bool,
    is_spoilt: bool,
    since_s: u32,
}

fn datagram(world: &World, packet: &Packet, piece: Piece) -> Datagram {
    (scope_of(world, packet), packet.src, packet.dst, packet.payload.proto(), piece.id)
}

impl Model {
    /// A fragment with its datagram's ports, or as much of it as is known. False: it came before
    /// its first.
    pub(super) fn gather(&mut self, world: &World, packet: &Packet) -> (Packet, bool) {
        self.released.clear();
        let Some(piece) = packet.piece else {
            return (*packet, true);
        };
        let now_s = self.now_s;
        let datagram = datagram(world, packet, piece);
        self.datagrams.retain(|_, it| now_s - it.since_s <= LIFETIME_S);
        if piece.first == 0 {
            let said = Said { ports: (packet.sport, packet.dport), opens: packet.opens() };
            let first = Known { said: Some(said), waiting: Vec::new(), since_s: now_s };
            let before = self.datagrams.insert(datagram, first);
            self.released = before.map_or_else(Vec::new, |it| it.waiting);
            return (*packet, true);
        }
        let said = self.datagrams.get(&datagram).and_then(|it| it.said);
        let without = Said { ports: (0, 0), opens: true };
        let Said { ports: (sport, dport), opens } = said.unwrap_or(without);
        let payload = match (packet.payload, opens) {
            (Payload::Tcp(_), true) => Payload::Tcp(TCP_SYN),
            (Payload::Tcp(_), false) => Payload::Tcp(TCP_ACK),
            (Payload::Echo | Payload::EchoReply, true) => Payload::Echo,
            (Payload::Echo | Payload::EchoReply, false) => Payload::EchoReply,
            (
                Payload::Udp
                | Payload::UnsummedUdp
                | Payload::Other
                | Payload::Error(..)
                | Payload::Word(_),
                _,
            ) => packet.payload,
        };
        (Packet { payload, sport, dport, ..*packet }, said.is_some())
    }

    /// The ports that a fragment goes by.
    pub fn ports(&self, world: &World, packet: &Packet) -> (u16, u16) {
        let own = (packet.sport, packet.dport);
        let Some(piece) = packet.piece.filter(|piece| piece.first != 0) else {
            return own;
        };
        let known = self.datagrams.get(&datagram(world, packet, piece));
        known.and_then(|it| it.said).map_or(own, |said| said.ports)
    }

    /// What was decided of a fragment without its ports holds where they make no difference; else
    /// it waits for its first. What may be the host's goes there, and waits all the same.
    pub(super) fn hold(&mut self, world: &World, packet: &Packet, guess: Expected) -> Expected {
        let (Some(piece), now_s) = (packet.piece, self.now_s) else {
            return guess;
        };
        let is_the_hosts = match guess.decision {
            Decision::Untouched | Decision::HostStack(_) => true,
            Decision::Drop(
                DropReason::FragmentUnknown | DropReason::NotPublished | DropReason::IccDisabled,
            ) => false,
            Decision::Drop(_)
            | Decision::Accept
            | Decision::Later(..)
            | Decision::Deliver(..)
            | Decision::ToVeth(_)
            | Decision::Uplink(..)
            | Decision::Answer
            | Decision::Replicate(_)
            | Decision::Held
            | Decision::Again => return guess,
        };
        let known = self.datagrams.entry(datagram(world, packet, piece)).or_default();
        if known.waiting.is_empty() {
            known.since_s = now_s;
        }
        let may_wait = known.waiting.len() < WAITING_MAX;
        known.waiting.push(Some(*packet));
        match (is_the_hosts, may_wait) {
            (true, _) => guess,
            (false, true) => expected(world, packet, Decision::Held),
            (false, false) => expected(world, packet, Decision::Drop(DropReason::FragmentUnknown)),
        }
    }

    /// What waits has waited too long.
    pub fn forget_waiting(&mut self) {
        self.datagrams.values_mut().for_each(|it| it.waiting.fill(None));
    }

    /// Why a fragment that is to be sent is not: a first one lets those that wait follow it, and no
    /// byte passes twice.
    pub(super) fn claim(&mut self, world: &World, packet: &Packet) -> Option<Expected> {
        let piece = packet.piece?;
        if !self.released.is_empty() {
            let waiting = self.released.drain(..).take(WAITING_MAX).flatten();
            let again = core::iter::once(*packet).chain(waiting).collect();
            return Some(Expected { again, ..expected(world, packet, Decision::Again) });
        }
        let now_s = self.now_s;
        self.passed.retain(|_, it| now_s - it.since_s <= LIFETIME_S);
        let datagram = datagram(world, packet, piece);
        let fresh = Passed { since_s: now_s, ..Passed::default() };
        let passed = self.passed.entry(datagram).or_insert(fresh);
        let reason = passed.refuses(piece);
        if reason.is_none() && passed.is_whole() {
            self.passed.remove(&datagram);
            self.datagrams.remove(&datagram);
        }
        reason.map(|reason| expected(world, packet, Decision::Drop(reason)))
    }
}

impl Passed {
    fn refuses(&mut self, piece: Piece) -> Option<DropReason> {
        let end = piece.first + piece.units;
        let new: BTreeSet<u8> = (piece.first..end).collect();
        let known = new.intersection(&self.units).count();
        let furthest = self.furthest();
        let is_beyond = self.has_last && end > furthest || piece.is_last && end < furthest;
        let is_all_known = known == new.len();
        if self.is_spoilt {
            Some(DropReason::FragmentOverlap)
        } else if is_all_known {
            Some(DropReason::FragmentDuplicate)
        } else if known != 0 || is_beyond {
            self.is_spoilt = true;
            Some(DropReason::FragmentOverlap)
        } else {
            self.units.extend(new);
            self.has_last |= piece.is_last;
            None
        }
    }

    /// The unit after the last that has passed.
    fn furthest(&self) -> u8 {
        self.units.last().map_or(0, |unit| unit + 1)
    }

    fn is_whole(&self) -> bool {
        self.has_last && self.units.len() == usize::from(self.furthest())
    }
}
