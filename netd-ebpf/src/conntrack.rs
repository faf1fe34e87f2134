//! The flow table: finding, keeping and opening the two entries of a connection.
//!
//! Laws: a reply is a flag in the entry, never the mere existence of one. A pair lives in one
//! table at a time, but for the moment of its promotion, when it is in both: whoever looks into
//! `Confirmed` first and into `New` second always finds it.

use netd_common::map::counter::FlowStat;
use netd_common::map::flow::{
    FLOW_ASSURED, FLOW_CLOSED, FLOW_CLOSING_ORIG, FLOW_CLOSING_REPLY, FLOW_REPLY, FLOW_RST,
    FlowKey, FlowValue, twin,
};
use netd_common::wire::{TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use netd_common::{Address, Family, IfIndex};

use crate::parse::{Packet, Role};
use crate::plan::Plan;
use crate::tables::{FamilyTables, FlowTable, Insert, Stack};
use crate::work::{Known, Work, forget_ways};

/// `netd_common::map::flow::twin`, in place.
#[inline(always)]
pub fn write_twin<A: Address>(twin: &mut FlowKey<A>, proto: u8, value: &FlowValue<A>) {
    twin.network = value.peer_network;
    twin.src = value.dst;
    twin.dst = value.src;
    twin.sport = value.dport;
    twin.dport = value.sport;
    twin.proto = proto;
    twin.pad = [0; 3];
}

/// Looks for the packet's entry, and whether it says all: in mid-second of an established flow
/// there is nothing to write.
#[inline(always)]
pub fn recall<F: Stack, T: FamilyTables<F>>(tables: &T, work: &mut Work<F::Addr>) {
    work.known = Known::No;
    if !matches!(work.packet.role, Role::Opens | Role::Continues) {
        return;
    }
    if tables.read_flow(FlowTable::Confirmed, &work.packet.key, &mut work.entry) {
        work.table = FlowTable::Confirmed;
        work.known = known::<F, T>(tables, work);
    } else if tables.read_flow(FlowTable::New, &work.packet.key, &mut work.entry) {
        work.table = FlowTable::New;
        work.known = known::<F, T>(tables, work);
    }
}

/// Looks for the entry of `work.twin` and takes it as it is, unless its decision is of an old
/// generation or its pair past its time: what is swept later is no flow any more.
#[inline(always)]
pub fn recall_twin<F: Stack, T: FamilyTables<F>>(tables: &T, work: &mut Work<F::Addr>) -> bool {
    work.table = FlowTable::Confirmed;
    if !tables.read_flow(work.table, &work.twin, &mut work.entry) {
        work.table = FlowTable::New;
        if !tables.read_flow(work.table, &work.twin, &mut work.entry) {
            return false;
        }
    }
    forget_ways();
    write_twin(&mut work.question, work.twin.proto, &work.entry);
    forget_ways();
    work.entry.generation == tables.config().generation
        && !is_dead::<F, T>(tables, &work.entry, &work.question, work.table)
}

#[inline(always)]
fn known<F: Stack, T: FamilyTables<F>>(tables: &T, work: &Work<F::Addr>) -> Known {
    let (packet, entry) = (&work.packet, &work.entry);
    if packet.key.proto == F::ICMP && (packet.role == Role::Opens) == is_reply(entry) {
        return Known::No;
    }
    let settled = work.table == FlowTable::Confirmed
        && entry.last_seen_s == tables.now_s()
        && entry.generation == tables.config().generation
        && entry.flags & FLOW_RST == 0
        && packet.tcp_flags & (TCP_FIN | TCP_RST | TCP_SYN) == 0;
    if settled { Known::Settled } else { Known::Unsettled }
}

#[inline(always)]
const fn is_reply<A>(value: &FlowValue<A>) -> bool {
    value.flags & FLOW_REPLY != 0
}

/// Everything that an established packet in mid-second needs not, from its expiry on. `No`: the
/// entry is gone and the packet is a new one. `Stale`: the decision is of an old generation, and
/// the question is put to decide it anew.
#[inline(always)]
pub fn keep<F: Stack, T: FamilyTables<F>>(tables: &mut T, work: &mut Work<F::Addr>) -> Known {
    write_twin(&mut work.twin, work.packet.key.proto, &work.entry);
    let is_stale = work.entry.generation != tables.config().generation;
    work.known = if is_over::<F, T>(tables, work) || is_stale && !doubt::<F, T>(tables, work) {
        forget::<F, T>(tables, &work.packet.key, &work.twin);
        Known::No
    } else if is_stale {
        Known::Stale
    } else {
        Known::Settled
    };
    work.known
}

/// Past its time, or closed and opened anew by a SYN, which a later fragment does not show.
#[inline(always)]
fn is_over<F: Stack, T: FamilyTables<F>>(tables: &T, work: &Work<F::Addr>) -> bool {
    let packet = &work.packet;
    let flags = work.entry.flags;
    let reopened = packet.key.proto == TCP
        && packet.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN
        && flags & FLOW_REPLY == 0
        && (flags & FLOW_CLOSED == FLOW_CLOSED || flags & FLOW_RST != 0);
    reopened || is_dead::<F, T>(tables, &work.entry, &work.twin, work.table)
}

/// Past its time in both directions: one may be silent for long while the other speaks.
#[inline(always)]
fn is_dead<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    entry: &FlowValue<F::Addr>,
    twin: &FlowKey<F::Addr>,
    table: FlowTable,
) -> bool {
    is_expired::<F, T>(tables, twin.proto, entry)
        && tables
            .flow(table, twin)
            .is_none_or(|other| is_expired::<F, T>(tables, twin.proto, &other))
}

#[inline(always)]
fn is_expired<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    proto: u8,
    value: &FlowValue<F::Addr>,
) -> bool {
    tables.is_expired(value.flags, proto, value.last_seen_s)
}

/// Removes both entries of a pair from both tables.
#[inline(always)]
pub fn forget<F: Family, T: FamilyTables<F>>(
    tables: &mut T,
    key: &FlowKey<F::Addr>,
    twin: &FlowKey<F::Addr>,
) {
    tables.remove_flow(FlowTable::Confirmed, key);
    tables.remove_flow(FlowTable::Confirmed, twin);
    tables.remove_flow(FlowTable::New, key);
    tables.remove_flow(FlowTable::New, twin);
}

/// Asks for a pair of an old generation to be decided anew, from the key of its original entry.
/// False: half of the pair is gone.
#[inline(always)]
fn doubt<F: Stack, T: FamilyTables<F>>(tables: &T, work: &mut Work<F::Addr>) -> bool {
    let Some(device) = origin::<F, T>(tables, work) else {
        return false;
    };
    (work.question, work.answer) = if is_reply(&work.entry) {
        (work.twin, work.packet.key)
    } else {
        (work.packet.key, work.twin)
    };
    work.plan.ask(&work.question, Role::Opens, device);
    true
}

/// True: the decision is the same but for where the target now is, and both entries say so.
#[inline(always)]
pub fn renew<F: Stack, T: FamilyTables<F>>(tables: &mut T, work: &mut Work<F::Addr>) -> bool {
    if !agrees::<F>(&work.plan, &work.answer) {
        return false;
    }
    forget_ways();
    write_ends::<F, T>(tables, (&work.question, &work.answer), &work.plan, work.table);
    forget_ways();
    tables.count_flow(FlowStat::Refreshed);
    tables.read_flow(work.table, &work.packet.key, &mut work.entry)
}

/// Writes where both ends now are.
#[inline(always)]
fn write_ends<F: Stack, T: FamilyTables<F>>(
    tables: &mut T,
    (original, answer): (&FlowKey<F::Addr>, &FlowKey<F::Addr>),
    plan: &Plan<F::Addr>,
    table: FlowTable,
) {
    let generation = tables.config().generation;
    let (forward, back) = (&plan.forward, &plan.back);
    tables.update_flow(table, original, |entry| {
        entry.generation = generation;
        entry.ifindex = forward.ifindex;
        entry.endpoint = forward.endpoint;
        entry.mac = forward.mac;
        entry.next_hop = forward.next_hop;
    });
    tables.update_flow(table, answer, |entry| {
        entry.generation = generation;
        entry.mac = back.mac;
        entry.next_hop = back.next_hop;
    });
}

/// The device that the pair's first packet came from: where its replies go.
#[inline(always)]
fn origin<F: Stack, T: FamilyTables<F>>(tables: &T, work: &Work<F::Addr>) -> Option<IfIndex> {
    if is_reply(&work.entry) {
        return Some(work.entry.ifindex);
    }
    tables.flow(work.table, &work.twin).map(|reply| reply.ifindex)
}

/// Whether a new decision translates as the pair does. The source port is the pair's own choice,
/// and an echo's id stands for both.
#[inline(always)]
fn agrees<F: Family>(plan: &Plan<F::Addr>, answer: &FlowKey<F::Addr>) -> bool {
    let forward = &plan.forward;
    forward.src == answer.dst
        && forward.dst == answer.src
        && (forward.dport == answer.sport || answer.proto == F::ICMP)
        && forward.peer_network == answer.network
}

/// Takes note of the packet: time, TCP's state, the first reply.
#[inline(always)]
pub fn advance<F: Stack, T: FamilyTables<F>>(tables: &mut T, work: &mut Work<F::Addr>) {
    let now = tables.now_s();
    let before = work.entry.flags;
    let flags = if work.packet.key.proto == TCP {
        flags_after(&work.packet, before)
    } else if goes_on(work, now) {
        before | FLOW_ASSURED
    } else {
        before
    };
    work.entry.flags = flags;
    work.entry.last_seen_s = now;
    tables.update_flow(work.table, &work.packet.key, |entry| {
        entry.flags = flags;
        entry.last_seen_s = now;
    });
    if flags != before {
        tables.update_flow(work.table, &work.twin, |entry| {
            entry.flags = entry.flags & !FLOW_SHARED | flags & FLOW_SHARED;
        });
    }
    if work.table == FlowTable::New && is_confirmed(&work.packet, flags) {
        promote::<F, T>(tables, work);
    }
}

/// The flags that both entries of a pair have alike.
const FLOW_SHARED: u16 = FLOW_ASSURED | FLOW_CLOSED | FLOW_RST;

/// Without TCP's marks, only time tells a question and its answer from what deserves a long life: a
/// flow that was answered (which confirms it) is heard from the same side in a later second.
#[inline(always)]
fn goes_on<A>(work: &Work<A>, now_s: u32) -> bool {
    work.table == FlowTable::Confirmed && work.entry.last_seen_s != now_s
}

/// TCP's flags after this packet. A segment without RST after one with it shows that the connection
/// lives (RFC 5961: a forged RST is challenged, not obeyed).
#[inline(always)]
fn flags_after<A>(packet: &Packet<A>, before: u16) -> u16 {
    let mut flags = before;
    if before & FLOW_REPLY != 0 {
        flags |= FLOW_ASSURED;
    }
    if packet.tcp_flags & TCP_FIN != 0 {
        flags |= if before & FLOW_REPLY != 0 { FLOW_CLOSING_REPLY } else { FLOW_CLOSING_ORIG };
    }
    if packet.tcp_flags & TCP_RST != 0 { flags | FLOW_RST } else { flags & !FLOW_RST }
}

/// Worth a place that is never evicted: any reply, but for TCP the originator's own answer to it,
/// so that SYNs from forged addresses stay embryonic although the target answers them.
#[inline(always)]
fn is_confirmed<A>(packet: &Packet<A>, flags: u16) -> bool {
    if packet.key.proto != TCP {
        return flags & FLOW_REPLY != 0;
    }
    flags & FLOW_ASSURED != 0
        && flags & (FLOW_REPLY | FLOW_RST) == 0
        && packet.tcp_flags & (TCP_SYN | TCP_RST) == 0
}

/// Moves a pair to where nothing evicts it. On a full table it stays where it is.
#[inline(always)]
fn promote<F: Stack, T: FamilyTables<F>>(tables: &mut T, work: &mut Work<F::Addr>) {
    let (key, twin) = (&work.packet.key, &work.twin);
    let Some(reply) = tables.flow(FlowTable::New, twin) else {
        return;
    };
    work.reply = reply;
    let inserted = tables
        .insert_flow(FlowTable::Confirmed, twin, &work.reply, Insert::Replace)
        .and_then(|()| tables.insert_flow(FlowTable::Confirmed, key, &work.entry, Insert::Replace));
    if inserted.is_err() {
        tables.remove_flow(FlowTable::Confirmed, twin);
        tables.count_flow(FlowStat::Pressure);
        return;
    }
    tables.remove_flow(FlowTable::New, twin);
    tables.remove_flow(FlowTable::New, key);
    tables.count_flow(FlowStat::Promoted);
}

/// Takes the reply key of a new flow: the insertion is the allocation. A key that only a dead
/// flow or this very flow holds is free.
#[inline(always)]
pub fn claim<F: Stack, T: FamilyTables<F>>(tables: &mut T, work: &Work<F::Addr>) -> bool {
    let is_free = is_claimable::<F, T>(tables, work, FlowTable::Confirmed)
        && is_claimable::<F, T>(tables, work, FlowTable::New);
    if !is_free
        || tables.insert_flow(FlowTable::New, &work.twin, &work.reply, Insert::Absent).is_err()
    {
        return false;
    }
    // Another CPU may have promoted a holder between the look and the insertion.
    if tables.flow(FlowTable::Confirmed, &work.twin).is_some() {
        tables.remove_flow(FlowTable::New, &work.twin);
        return false;
    }
    true
}

#[inline(always)]
fn is_claimable<F: Stack, T: FamilyTables<F>>(
    tables: &mut T,
    work: &Work<F::Addr>,
    table: FlowTable,
) -> bool {
    let Some(held) = tables.flow(table, &work.twin) else {
        return true;
    };
    let other = twin(work.twin.proto, &held);
    let ours = other == work.packet.key;
    if !ours && !is_dead::<F, T>(tables, &held, &other, table) {
        return false;
    }
    tables.remove_flow(table, &other);
    tables.remove_flow(table, &work.twin);
    true
}
