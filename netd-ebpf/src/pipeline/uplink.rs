//! At an uplink: what arrives from outside, and what leaves.
//!
//! Law: what is not ours is left to the kernel as it came; what is ours never leaves with a
//! container's address by another way than our own.

use netd_common::wire::{ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};
use netd_common::{Be16, FORWARD_MARK, NetworkIndex, V4, V6};

use super::{AllTables, Works, is_plain, look_closer_or};
use crate::packet::{Io, PacketBuf};
use crate::parse::{self, Packet};
use crate::tables::{FamilyTables, Stack};
use crate::verdict::{Decision, OrStop, Stage, Step, decide};
use crate::work::{Work, forget_ways};
use crate::{forward, policy};

/// What arrives for the host by Ethernet.
#[inline(always)]
pub(super) fn arriving_frame<B: PacketBuf, T: AllTables>(
    io: &mut Io<B, T>,
    works: &mut Works,
) -> Step<()> {
    // A tagged frame is for a VLAN device, which has a hook of its own.
    if !io.buf.is_for_host() || io.buf.has_vlan_tag() {
        return decide(Decision::Untouched);
    }
    let frame = parse::ethernet(&io.buf).or_untouched()?;
    match frame.ethertype {
        ETHERTYPE_IPV4 => arriving_packet::<V4, B, T>(io, &mut works.v4),
        ETHERTYPE_IPV6 => arriving_packet::<V6, B, T>(io, &mut works.v6),
        _ => decide(Decision::Untouched),
    }
}

/// What arrives without an Ethernet header is given one.
#[inline(always)]
pub(super) fn arriving_bare<B: PacketBuf, T: AllTables>(
    io: &mut Io<B, T>,
    works: &mut Works,
) -> Step<()> {
    let ethertype = parse::bare(&io.buf).or_untouched()?;
    works.frame = Ethernet { ethertype, ..Ethernet::default() };
    io.buf.push_ethernet(&works.frame).ok().or_untouched()?;
    arriving_frame(io, works)
}

#[inline(always)]
fn arriving_packet<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Step<()> {
    parse::ip::<F, B>(&io.buf, NetworkIndex::HOST, &mut work.packet).or_untouched()?;
    if work.packet.is_source_routed {
        return decide(Decision::Untouched);
    }
    forget_ways();
    if is_plain(&work.packet) {
        forward::follow::<F, B, T>(io, work)?;
    }
    forget_ways();
    let otherwise = arriving_unknown::<F, T>(&io.tables, &work.packet);
    forget_ways();
    look_closer_or::<F>(work, otherwise)
}

/// A packet from outside that no flow entry decides.
#[inline(always)]
fn arriving_unknown<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    packet: &Packet<F::Addr>,
) -> Step<()> {
    policy::check_arrival::<F, T>(tables, packet)?;
    forward::leave_to::<F>(Stage::Begin)
}

/// What leaves by Ethernet.
#[inline(always)]
pub(super) fn leaving_frame<B: PacketBuf, T: AllTables>(io: &mut Io<B, T>) -> Step<()> {
    if is_ours(&mut io.buf) {
        return decide(Decision::Untouched);
    }
    let frame = parse::ethernet(&io.buf).or_untouched()?;
    leaving_packet(io, frame.ethertype, ETHERNET_LEN)
}

/// What leaves without an Ethernet header.
#[inline(always)]
pub(super) fn leaving_bare<B: PacketBuf, T: AllTables>(io: &mut Io<B, T>) -> Step<()> {
    if is_ours(&mut io.buf) {
        return decide(Decision::Untouched);
    }
    let ethertype = parse::bare(&io.buf).or_untouched()?;
    leaving_packet(io, ethertype, 0)
}

/// Whether we sent the packet ourselves; the mark that says so ends here.
#[inline(always)]
pub fn is_ours<B: PacketBuf>(buf: &mut B) -> bool {
    let is_ours = buf.mark() == FORWARD_MARK;
    if is_ours {
        buf.set_mark(0);
    }
    is_ours
}

#[inline(always)]
fn leaving_packet<B: PacketBuf, T: AllTables>(
    io: &mut Io<B, T>,
    ethertype: Be16,
    at: u32,
) -> Step<()> {
    match ethertype {
        ETHERTYPE_IPV4 => check_source::<V4, B, T>(io, at),
        ETHERTYPE_IPV6 => check_source::<V6, B, T>(io, at),
        _ => decide(Decision::Untouched),
    }
}

#[inline(always)]
fn check_source<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    at: u32,
) -> Step<()> {
    let src = parse::source::<F, B>(&io.buf, at).or_untouched()?;
    forward::check_leak::<F, B, T>(io, src)
}
