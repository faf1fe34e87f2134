//! ICMP errors about packets of known flows: translated outside and in, both ways.
//!
//! Law: an error travels against the packet it quotes, so the entry that decides it is the one of
//! the quoted tuple, reversed. An error is no sign of life: it changes no entry.

use core::ops::ControlFlow;

use netd_common::csum;
use netd_common::map::endpoint::{CHECK_ADDRESS, EndpointValue};
use netd_common::map::flow::{FLOW_BRIDGED, FlowKey, FlowValue};
use netd_common::wire::{
    ETHERNET_LEN, ICMP_CHECKSUM, ICMP_ECHO_ID, IpHeader, Part, Ports, TCP, UDP,
};
use netd_common::{Be16, DropReason, NetworkIndex};

use crate::conntrack;
use crate::nat;
use crate::packet::{ChecksumField, Cover, Io, PacketBuf, Refused};
use crate::parse::Packet;
use crate::source;
use crate::tables::{FamilyTables, Stack};
use crate::verdict::{OrStop, Step, refuse};
use crate::work::{Known, Work, forget_ways};

/// Length of an ICMP error before the packet it quotes.
const QUOTE: u32 = 8;

/// Continues if the error belongs to a known flow, translated as `work.entry` says; `known` tells.
#[inline(always)]
pub fn translate<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Step<()> {
    work.known = Known::No;
    let Some(l4) = read_quote::<F, B>(&io.buf, &work.packet, &mut work.twin) else {
        return ControlFlow::Continue(());
    };
    forget_ways();
    if !conntrack::recall_twin::<F, T>(&io.tables, work) {
        return ControlFlow::Continue(());
    }
    work.known = Known::Settled;
    if work.entry.flags & FLOW_BRIDGED != 0 {
        return ControlFlow::Continue(());
    }
    if work.packet.ttl <= 1 {
        return refuse(DropReason::TtlExceeded);
    }
    rewrite::<F, B>(&mut io.buf, work, l4).ok().or_drop(DropReason::KernelRefused)
}

/// A container complains of what was sent to it, not of what was sent to its neighbours.
#[inline(always)]
pub fn check_quote<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &Io<B, T>,
    packet: &Packet<F::Addr>,
    endpoint: &EndpointValue,
) -> Step<()> {
    if endpoint.flags & CHECK_ADDRESS == 0 {
        return ControlFlow::Continue(());
    }
    let quoted = packet.l4 + QUOTE + F::Header::ADDRESSES + F::ADDRESS_LEN;
    let receiver: F::Addr = io.buf.load(quoted).or_drop(DropReason::Truncated)?;
    if source::owns::<F, T>(&io.tables, endpoint, receiver) {
        ControlFlow::Continue(())
    } else {
        refuse(DropReason::SpoofedSource)
    }
}

/// The quoted tuple, reversed, in the scope of the error; and where the quoted transport begins.
#[inline(always)]
fn read_quote<F: Stack, B: PacketBuf>(
    buf: &B,
    packet: &Packet<F::Addr>,
    key: &mut FlowKey<F::Addr>,
) -> Option<u32> {
    let header: F::Header = buf.load(packet.l4 + QUOTE)?;
    let fields = header.fields()?;
    if fields.part == Part::Later {
        return None;
    }
    let l4 = packet.l4 + QUOTE + fields.header_len;
    let ports = match fields.proto {
        TCP | UDP => buf.load(l4)?,
        proto if proto == F::ICMP => {
            let id: Be16 = buf.load(l4 + ICMP_ECHO_ID)?;
            Ports { sport: id, dport: id }
        }
        _ => return None,
    };
    key.network = packet.key.network;
    key.src = fields.dst;
    key.dst = fields.src;
    key.sport = ports.dport;
    key.dport = ports.sport;
    key.proto = fields.proto;
    key.pad = [0; 3];
    Some(l4)
}

/// Both headers and the quoted ports. In IPv4 the quoted header's own checksum makes up for its
/// addresses, so the ICMP checksum changes by the ports alone.
#[inline(always)]
fn rewrite<F: Stack, B: PacketBuf>(
    buf: &mut B,
    work: &mut Work<F::Addr>,
    l4: u32,
) -> Result<(), Refused> {
    let (quoted, entry) = (&work.twin, &work.entry);
    work.inner_change = F::change(quoted.dst, entry.dst) + F::change(quoted.src, entry.src);
    forget_ways();
    let ports = rewrite_ports::<F, B>(buf, quoted, entry, l4)?;
    let at = work.packet.l4 + QUOTE;
    buf.store(at + F::Header::ADDRESSES, &entry.dst)?;
    buf.store(at + F::Header::ADDRESSES + F::ADDRESS_LEN, &entry.src)?;
    forget_ways();
    work.outer_change = rewrite_outer::<F, B>(buf, work)?;
    forget_ways();
    let (inner, outer) = (work.inner_change, work.outer_change);
    let field = ChecksumField {
        offset: work.packet.l4 + ICMP_CHECKSUM,
        zero_is_none: false,
        ipv6: F::VERSION == 6,
    };
    if let Some(offset) = F::Header::CHECKSUM {
        let sum: u16 = buf.load(at + offset).ok_or(Refused)?;
        buf.store(at + offset, &csum::adjusted(sum, csum::fold32(inner)))?;
        return buf.fold_checksum(field, Cover::Payload, csum::fold32(ports));
    }
    buf.fold_checksum(field, Cover::PseudoHeader, csum::fold32(outer))?;
    buf.fold_checksum(field, Cover::Payload, csum::fold32(inner + ports))
}

/// The change of the checksum's sum.
#[inline(always)]
fn rewrite_ports<F: Stack, B: PacketBuf>(
    buf: &mut B,
    quoted: &FlowKey<F::Addr>,
    entry: &FlowValue<F::Addr>,
    l4: u32,
) -> Result<u64, Refused> {
    if quoted.proto == F::ICMP {
        buf.store(l4 + ICMP_ECHO_ID, &entry.dport)?;
        return Ok(csum::change(u32::from(quoted.dport.0), u32::from(entry.dport.0)));
    }
    let before = Ports { sport: quoted.dport, dport: quoted.sport };
    let after = Ports { sport: entry.dport, dport: entry.sport };
    buf.store(l4, &after)?;
    Ok(csum::change(before.word(), after.word()))
}

/// The outer addresses: to whom the quoted packet really came from, and from whom it was really
/// for if that one complains itself. A router on the way keeps its own, unless it is a container
/// that others know by the host's. The change of the sum.
#[inline(always)]
fn rewrite_outer<F: Stack, B: PacketBuf>(
    buf: &mut B,
    work: &Work<F::Addr>,
) -> Result<u64, Refused> {
    let (packet, entry) = (&work.packet, &work.entry);
    let src = ETHERNET_LEN + F::Header::ADDRESSES;
    let mut change = F::change(packet.key.dst, entry.dst);
    buf.store(src + F::ADDRESS_LEN, &entry.dst)?;
    forget_ways();
    let is_hidden = packet.key.network != NetworkIndex::HOST && work.twin.src != entry.src;
    if packet.key.src == work.twin.src || is_hidden {
        change += F::change(packet.key.src, entry.src);
        buf.store(src, &entry.src)?;
    }
    let aged = nat::age::<F, B>(buf, packet)?;
    if let Some(offset) = F::Header::CHECKSUM {
        buf.fold_header_checksum(ETHERNET_LEN + offset, csum::fold32(change + aged))?;
    }
    Ok(change)
}
