//! Fragments of flows that need translation.
//!
//! Law: only a datagram's first fragment has ports. A later one is translated by what its first
//! one left behind, or not at all; it is never guessed at.

use core::ops::ControlFlow;

use netd_common::map::fragment::{FRAGMENT_OPENS, FragmentKey, FragmentValue};
use netd_common::wire::{ETHERNET_LEN, Part};
use netd_common::{Be16, DropReason};

use crate::conntrack;
use crate::forward::leave_to;
use crate::packet::{Io, PacketBuf};
use crate::parse::{Packet, Role};
use crate::tables::{FamilyTables, Stack};
use crate::verdict::{OrStop, Stage, Step, refuse};
use crate::work::{Known, Work, forget_ways};

/// Offset of the identification in an IPv4 header.
const IPV4_ID: u32 = ETHERNET_LEN + 4;

/// A first fragment leaves its ports behind, a later one takes them up; then either goes its
/// flow's way, as any packet.
#[inline(always)]
pub fn gather<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Step<()> {
    let key = key::<F, B>(&io.buf, &work.packet).or_drop(DropReason::Truncated)?;
    match work.packet.part {
        Part::Whole | Part::First => io.tables.remember_fragment(&key, &left_by(&work.packet)),
        Part::Later => match io.tables.fragment(&key) {
            Some(first) => take_up(&mut work.packet, first),
            None => return otherwise(work),
        },
    }
    conntrack::recall::<F, T>(&io.tables, work);
    forget_ways();
    match work.known {
        Known::No => otherwise(work),
        Known::Settled => leave_to::<F>(Stage::Carry),
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

#[inline(always)]
fn key<F: Stack, B: PacketBuf>(buf: &B, packet: &Packet<F::Addr>) -> Option<FragmentKey<F::Addr>> {
    let id =
        if F::VERSION == 4 { u32::from(buf.load::<Be16>(IPV4_ID)?.0) } else { packet.fragment_id };
    let tuple = &packet.key;
    Some(FragmentKey {
        network: tuple.network,
        src: tuple.src,
        dst: tuple.dst,
        id,
        proto: tuple.proto,
        pad: [0; 3],
    })
}

#[inline(always)]
fn left_by<A>(packet: &Packet<A>) -> FragmentValue {
    FragmentValue {
        sport: packet.key.sport,
        dport: packet.key.dport,
        flags: if packet.role == Role::Opens { FRAGMENT_OPENS } else { 0 },
    }
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
