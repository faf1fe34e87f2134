//! Translation: the bytes of a flow's packets, and the ports of new flows.
//!
//! Law: the allocator is the insertion of the reply key. Which ports are tried depends on the tuple
//! alone, so the same flow finds the same port again.

use core::ops::ControlFlow;

use netd_common::csum;
use netd_common::map::counter::FlowStat;
use netd_common::map::flow::{
    FLOW_BRIDGED, FLOW_DNAT, FLOW_REPLY, FLOW_SNAT, FLOW_UPLINK, FlowKey, FlowValue,
};
use netd_common::wire::{
    AddressPair, ETHERNET_LEN, ICMP_CHECKSUM, ICMP_ECHO_ID, IpHeader, Part, Ports, Rewrite, TCP,
    TCP_CHECKSUM, UDP, UDP_CHECKSUM,
};
use netd_common::{Address, Be16, DropReason, Family};

use crate::conntrack;
use crate::packet::{ChecksumField, Cover, PacketBuf, Refused};
use crate::parse::Packet;
use crate::plan::{NO_SLOT, Plan, PortChoice};
use crate::service;
use crate::tables::{FamilyTables, FlowTable, Insert, Stack};
use crate::verdict::{OrStop, Step, refuse};
use crate::work::{Work, forget_ways};

/// Candidates after the first.
pub const PROBES: u32 = 16;

/// Ports below this are never taken without being asked for.
const FIRST_UNPRIVILEGED: u16 = 1_024;
/// The kernel's default ephemeral ports begin here; a source port from here on may be picked by a
/// socket of the host later, unless it is in the pool, which is reserved.
pub(crate) const FIRST_EPHEMERAL: u16 = 32_768;

/// Gives a new flow its two entries, and its plan a source port.
#[inline(always)]
pub fn open<F: Stack, T: FamilyTables<F>>(tables: &mut T, work: &mut Work<F::Addr>) -> Step<()> {
    let proto = work.packet.key.proto;
    if work.plan.forward.dport != work.packet.key.dport && !is_port_free_to_change::<F>(proto) {
        return refuse(DropReason::UnsupportedProtocol);
    }
    work.plan.forward.last_seen_s = tables.now_s();
    work.plan.forward.generation = tables.config().generation;
    conntrack::write_twin(&mut work.twin, proto, &work.plan.forward);
    write_reply(&mut work.reply, &work.packet.key, &work.plan);
    reserve::<F, T>(tables, work)?;
    let inserted =
        tables.insert_flow(FlowTable::New, &work.packet.key, &work.plan.forward, Insert::Replace);
    inserted.ok().or_drop(DropReason::KernelRefused)?;
    tables.count_flow(FlowStat::Created);
    if work.plan.slot != NO_SLOT {
        tables.count_hit(work.plan.slot);
    }
    ControlFlow::Continue(())
}

#[inline(always)]
fn write_reply<A: Address>(reply: &mut FlowValue<A>, key: &FlowKey<A>, plan: &Plan<A>) {
    let (forward, back) = (&plan.forward, &plan.back);
    reply.src = key.dst;
    reply.dst = key.src;
    reply.next_hop = back.next_hop;
    reply.sport = key.dport;
    reply.dport = key.sport;
    reply.last_seen_s = forward.last_seen_s;
    reply.generation = forward.generation;
    reply.peer_network = key.network;
    reply.ifindex = back.ifindex;
    reply.endpoint = back.endpoint;
    reply.mac = back.mac;
    reply.flags = forward.flags & !FLOW_UPLINK | FLOW_REPLY | back.flags;
}

/// Tries candidates until the insertion of the reply key succeeds.
#[inline(always)]
fn reserve<F: Stack, T: FamilyTables<F>>(tables: &mut T, work: &mut Work<F::Addr>) -> Step<()> {
    let fixed =
        work.plan.ports == PortChoice::Keep || !is_port_free_to_change::<F>(work.twin.proto);
    work.probes = if fixed { 0 } else { PROBES };
    forget_ways();
    let pool = Pool::of::<F, T>(tables, &work.packet.key);
    let mut found = false;
    tables.repeat(1 + work.probes, |tables, probe| {
        found = attempt::<F, T>(tables, work, &pool, probe);
        found
    });
    if found {
        return ControlFlow::Continue(());
    }
    if work.probes == 0 {
        return refuse(DropReason::InvalidState);
    }
    tables.count_flow(FlowStat::SnatExhausted);
    refuse(DropReason::SnatExhausted)
}

/// One candidate; the first is the source port itself.
#[inline(always)]
fn attempt<F: Stack, T: FamilyTables<F>>(
    tables: &mut T,
    work: &mut Work<F::Addr>,
    pool: &Pool,
    probe: u32,
) -> bool {
    let port = if probe == 0 {
        pool.first::<F>(&work.packet.key, work.plan.ports)
    } else {
        pool.candidate(probe)
    };
    set_port::<F>(work, port);
    forget_ways();
    if !is_allowed::<F, T>(tables, work) || !conntrack::claim::<F, T>(tables, work) {
        return false;
    }
    if work.plan.ports == PortChoice::Masquerade {
        tables.count_probe(probe);
    }
    true
}

/// Whether the transport lets its source port be changed: SCTP's checksum is no sum, and the
/// others have no ports.
#[inline(always)]
fn is_port_free_to_change<F: Family>(proto: u8) -> bool {
    proto == TCP || proto == UDP || proto == F::ICMP
}

#[inline(always)]
fn set_port<F: Family>(work: &mut Work<F::Addr>, port: Be16) {
    work.plan.forward.sport = port;
    work.twin.dport = port;
    if work.twin.proto == F::ICMP {
        work.plan.forward.dport = port;
        work.twin.sport = port;
    }
}

/// A masquerade port must not take packets from a socket of the host or from a published port. A
/// function of its own: the verifier forgets what it did on the stack, and so by which way it ended.
#[inline(never)]
fn is_allowed<F: Stack, T: FamilyTables<F>>(tables: &T, work: &Work<F::Addr>) -> bool {
    let proto = work.twin.proto;
    if work.plan.ports != PortChoice::Masquerade || proto != TCP && proto != UDP {
        return true;
    }
    service::backend_of::<F, T>(tables, &work.twin).is_none() && !tables.host_socket(&work.twin)
}

/// The masquerade ports in the order in which one tuple tries them.
struct Pool {
    first: u16,
    last: u16,
    hash: u32,
}

impl Pool {
    #[inline(always)]
    fn of<F: Stack, T: FamilyTables<F>>(tables: &T, key: &FlowKey<F::Addr>) -> Self {
        let config = tables.config();
        Self { first: config.snat_first, last: config.snat_last, hash: hash::<F>(key) }
    }

    #[inline(always)]
    const fn holds(&self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    #[inline(always)]
    fn first<F: Family>(&self, key: &FlowKey<F::Addr>, choice: PortChoice) -> Be16 {
        let own = key.sport.get();
        let usable = choice != PortChoice::Masquerade
            || !is_port_free_to_change::<F>(key.proto)
            || self.holds(own)
            || (FIRST_UNPRIVILEGED..FIRST_EPHEMERAL).contains(&own);
        if usable { key.sport } else { self.candidate(0) }
    }

    /// Fibonacci hashing spreads successive probes over the pool.
    #[inline(always)]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the product of a 32-bit fraction and the pool's size, shifted by 32, is below the size"
    )]
    const fn candidate(&self, probe: u32) -> Be16 {
        let size = (self.last as u64).saturating_sub(self.first as u64) + 1;
        let fraction = self.hash.wrapping_add(probe.wrapping_mul(0x9e37_79b9)) as u64;
        Be16::new(self.first.wrapping_add(((fraction * size) >> 32) as u16))
    }
}

#[inline(always)]
fn hash<F: Stack>(key: &FlowKey<F::Addr>) -> u32 {
    let ports = Ports { sport: key.sport, dport: key.dport };
    let mut hash = csum::fold32(F::change(key.src, key.dst)) ^ u32::from(key.proto);
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x7feb_352d) ^ ports.word();
    hash = (hash ^ (hash >> 15)).wrapping_mul(0x846c_a68b) ^ key.network.0;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x7feb_352d);
    hash ^ (hash >> 15)
}

/// Rewrites a packet as its flow says, and takes one from its time to live if it is routed.
#[inline(always)]
pub fn translate<F: Stack, B: PacketBuf>(buf: &mut B, work: &mut Work<F::Addr>) -> Step<()> {
    if work.entry.flags & FLOW_BRIDGED != 0 {
        return ControlFlow::Continue(());
    }
    check_life(&work.packet, &work.entry)?;
    rewrite::<F, B>(buf, work).ok().or_drop(DropReason::KernelRefused)
}

/// A packet that is routed has a hop left.
#[inline(always)]
pub fn check_life<A>(packet: &Packet<A>, value: &FlowValue<A>) -> Step<()> {
    if packet.ttl <= 1 && value.flags & FLOW_BRIDGED == 0 {
        return refuse(DropReason::TtlExceeded);
    }
    ControlFlow::Continue(())
}

#[inline(always)]
fn rewrite<F: Stack, B: PacketBuf>(buf: &mut B, work: &mut Work<F::Addr>) -> Result<(), Refused> {
    let (packet, value) = (&work.packet, &work.entry);
    let ttl = packet.ttl.wrapping_sub(1);
    let aged = aged(packet.ttl, ttl);
    if value.flags & (FLOW_SNAT | FLOW_DNAT) == 0 {
        work.rewrite.life = F::Header::with_ttl(packet.life, ttl, csum::fold32(aged));
        return buf.store_head(ETHERNET_LEN + F::Header::LIFE, &work.rewrite.life);
    }
    let change = F::change(packet.key.src, value.src) + F::change(packet.key.dst, value.dst);
    rewrite_transport::<F, B>(buf, packet, value, csum::fold32(change))?;
    work.rewrite.life = F::Header::with_ttl(packet.life, ttl, csum::fold32(change + aged));
    work.rewrite.addresses = AddressPair { src: value.src, dst: value.dst };
    work.rewrite.ports = Ports { sport: value.sport, dport: value.dport };
    write::<F, B>(buf, packet, &work.rewrite)
}

/// In one store if nothing is between the header and the ports.
#[inline(always)]
fn write<F: Stack, B: PacketBuf>(
    buf: &mut B,
    packet: &Packet<F::Addr>,
    rewrite: &Rewrite<F::Addr>,
) -> Result<(), Refused> {
    let has_ports =
        packet.part != Part::Later && (packet.key.proto == TCP || packet.key.proto == UDP);
    if has_ports && packet.l4 == ETHERNET_LEN + F::Header::LEN {
        return buf.store_head(ETHERNET_LEN + F::Header::LIFE, rewrite);
    }
    buf.store(ETHERNET_LEN + F::Header::LIFE, &rewrite.life)?;
    buf.store(ETHERNET_LEN + F::Header::ADDRESSES, &rewrite.addresses)?;
    if has_ports { buf.store(packet.l4, &rewrite.ports) } else { Ok(()) }
}

/// One hop less; the change of the header's sum.
#[inline(always)]
pub(crate) fn age<F: Stack, B: PacketBuf>(
    buf: &mut B,
    packet: &Packet<F::Addr>,
) -> Result<u64, Refused> {
    let ttl = packet.ttl.wrapping_sub(1);
    buf.store(ETHERNET_LEN + F::Header::TTL, &ttl)?;
    Ok(aged(packet.ttl, ttl))
}

/// The change of the header's sum. Time to live and protocol share a word.
#[inline(always)]
const fn aged(before: u8, after: u8) -> u64 {
    csum::change(u16::from_ne_bytes([before, 0]) as u32, u16::from_ne_bytes([after, 0]) as u32)
}

#[inline(always)]
fn rewrite_transport<F: Stack, B: PacketBuf>(
    buf: &mut B,
    packet: &Packet<F::Addr>,
    value: &FlowValue<F::Addr>,
    address_difference: u32,
) -> Result<(), Refused> {
    if packet.part == Part::Later {
        return Ok(());
    }
    let proto = packet.key.proto;
    let before = Ports { sport: packet.key.sport, dport: packet.key.dport };
    let after = Ports { sport: value.sport, dport: value.dport };
    if proto == F::ICMP {
        return rewrite_echo::<F, B>(buf, packet, after.sport, address_difference);
    }
    let offset = match proto {
        TCP => TCP_CHECKSUM,
        UDP => UDP_CHECKSUM,
        _ => return Ok(()),
    };
    let field = ChecksumField {
        offset: packet.l4 + offset,
        zero_is_none: proto == UDP,
        ipv6: F::VERSION == 6,
    };
    buf.fold_checksum(field, Cover::PseudoHeader, address_difference)?;
    if before == after {
        return Ok(());
    }
    let difference = csum::fold32(csum::change(before.word(), after.word()));
    buf.fold_checksum(field, Cover::Payload, difference)
}

#[inline(always)]
fn rewrite_echo<F: Stack, B: PacketBuf>(
    buf: &mut B,
    packet: &Packet<F::Addr>,
    id: Be16,
    address_difference: u32,
) -> Result<(), Refused> {
    let field = ChecksumField {
        offset: packet.l4 + ICMP_CHECKSUM,
        zero_is_none: false,
        ipv6: F::VERSION == 6,
    };
    if F::ICMP_PSEUDO_HEADER {
        buf.fold_checksum(field, Cover::PseudoHeader, address_difference)?;
    }
    if id == packet.key.sport {
        return Ok(());
    }
    let difference = csum::change(u32::from(packet.key.sport.0), u32::from(id.0));
    buf.fold_checksum(field, Cover::Payload, csum::fold32(difference))?;
    buf.store(packet.l4 + ICMP_ECHO_ID, &id)
}
