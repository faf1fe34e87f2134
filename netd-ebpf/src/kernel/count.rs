//! Counters and events.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use netd_common::map::config::TRACE_VERDICTS;
use netd_common::map::counter::{DropKey, EventBudget, TrafficCounter};
use netd_common::verdict::Event;
use netd_common::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use netd_common::{Address, EndpointIndex, IfIndex, Ipv6, V4, V6};

use super::maps::{COUNTERS, DROPS, EVENT_BUDGET, EVENTS, Maps, SCRATCH, works};
use super::skb::Skb;
use crate::parse::{self, Packet};
use crate::pipeline::Works;
use crate::socket::mapped;
use crate::tables::Tables;
use crate::verdict::{Ledger, Verdict};
use crate::work::forget_ways;

/// Which of an endpoint's counters.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    FromContainer,
    ToContainer,
}

/// Counts a packet for an endpoint.
#[inline(always)]
pub(super) fn traffic(ctx: *mut __sk_buff, endpoint: EndpointIndex, direction: Direction) {
    if let Some(counters) = COUNTERS.get_ptr_mut(endpoint.0) {
        // SAFETY: the slot is this CPU's own, and a program is not interrupted by another here.
        let counters = unsafe { &mut *counters };
        let counter = match direction {
            Direction::FromContainer => &mut counters.from_container,
            Direction::ToContainer => &mut counters.to_container,
        };
        add(counter, ctx);
    }
}

#[inline(always)]
fn add(counter: &mut TrafficCounter, ctx: *mut __sk_buff) {
    // SAFETY: the context is the one the kernel gave the program.
    let (segments, len) = unsafe { ((*ctx).gso_segs, (*ctx).len) };
    counter.packets += u64::from(segments.max(1));
    counter.bytes += u64::from(len);
}

/// Counts a drop and tells the monitor of it. A global function, for its callers' sake.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn dropped(ctx: *mut __sk_buff, hook: u32, reason: u32) -> i32 {
    let Some(works) = works(hook) else {
        return TC_ACT_SHOT;
    };
    let key = DropKey {
        endpoint: works.ledger.endpoint,
        network: works.ledger.network,
        reason: reason as u16,
        hook: hook as u16,
    };
    works.dropped = key;
    if let Some(counter) = DROPS.get_ptr_mut(key) {
        // SAFETY: the value is this CPU's own, and a program is not interrupted by another here.
        add(unsafe { &mut *counter }, ctx);
    } else {
        count_first(ctx, key);
    }
    if may_report(ctx) { report(ctx, hook) } else { TC_ACT_SHOT }
}

/// The first drop of its kind. In a full table the event alone tells.
#[inline(always)]
fn count_first(ctx: *mut __sk_buff, key: DropKey) {
    let _full = DROPS.insert(key, TrafficCounter::default(), 1);
    if let Some(counter) = DROPS.get_ptr_mut(key) {
        // SAFETY: as in `dropped`.
        add(unsafe { &mut *counter }, ctx);
    }
}

/// Takes one event from this CPU's allowance for this second.
#[inline(always)]
fn may_report(ctx: *mut __sk_buff) -> bool {
    let tables = Maps::new(ctx.cast());
    let Some(budget) = EVENT_BUDGET.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the slot is this CPU's own, and a program is not interrupted by another here.
    take(unsafe { &mut *budget }, tables.now_s(), tables.config().event_rate)
}

/// Takes one from a second's allowance.
#[inline(always)]
fn take(budget: &mut EventBudget, now_s: u32, rate: u32) -> bool {
    if budget.second_s != now_s {
        budget.second_s = now_s;
        budget.sent = 0;
    }
    if budget.sent >= rate {
        budget.lost += 1;
        return false;
    }
    budget.sent += 1;
    true
}

/// Sends one event, its tuple read anew from the packet.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn report(ctx: *mut __sk_buff, hook: u32) -> i32 {
    let Some(works) = works(hook) else {
        return TC_ACT_SHOT;
    };
    let key = works.dropped;
    let Some(mut entry) = EVENTS.reserve_untyped::<Event>(0) else {
        if let Some(budget) = EVENT_BUDGET.get_ptr_mut(0) {
            // SAFETY: as in `may_report`.
            unsafe { (*budget).lost += 1 };
        }
        return TC_ACT_SHOT;
    };
    let event = entry.write(Event {
        // SAFETY: takes nothing.
        timestamp_ns: unsafe { bpf_ktime_get_ns() },
        endpoint: key.endpoint,
        network: key.network,
        // SAFETY: the context is the one the kernel gave the program.
        ifindex: IfIndex(unsafe { (*ctx).ifindex }),
        // SAFETY: as above.
        len: unsafe { (*ctx).len },
        reason: key.reason as u8,
        hook: key.hook as u8,
        ..Event::default()
    });
    describe(&Skb::new(ctx), works, event);
    entry.submit(0);
    TC_ACT_SHOT
}

/// The tuple.
#[inline(always)]
fn describe(skb: &Skb, works: &mut Works, event: &mut Event) {
    let Some(frame) = parse::ethernet(skb) else {
        return;
    };
    match frame.ethertype {
        ETHERTYPE_IPV4 => {
            // As it was: a complaint to its sender still needs it.
            let (network, packet) = (works.dropped.network, &mut works.v4.packet);
            if parse::ip::<V4, Skb>(skb, network, packet).is_some() {
                forget_ways();
                event.family = 4;
                fill(event, packet, mapped);
            }
        }
        ETHERTYPE_IPV6 => {
            let (network, packet) = (works.dropped.network, &mut works.v6.packet);
            if parse::ip::<V6, Skb>(skb, network, packet).is_some() {
                forget_ways();
                event.family = 6;
                fill(event, packet, |addr| addr);
            }
        }
        _ => {}
    }
}

#[inline(always)]
fn fill<A: Address>(event: &mut Event, packet: &Packet<A>, widen: impl Fn(A) -> Ipv6) {
    event.src = widen(packet.key.src);
    event.dst = widen(packet.key.dst);
    event.sport = packet.key.sport;
    event.dport = packet.key.dport;
    event.proto = packet.key.proto;
}

/// Leaves the verdict where a test can read it.
#[inline(always)]
pub(super) fn trace(verdict: Verdict, ledger: &Ledger) {
    let tables = Maps::new(core::ptr::null_mut());
    if tables.config().flags & TRACE_VERDICTS == 0 {
        return;
    }
    if let Some(slot) = SCRATCH.get_ptr_mut(0) {
        // SAFETY: the slot is this CPU's own, and a program is not interrupted by another here.
        unsafe { *slot = verdict.trace(ledger.network) };
    }
}
