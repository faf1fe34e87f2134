//! Fragments whose first never came, and those that had to make room for others.
//!
//! Law: a fragment that was taken from its way and never goes on is a drop, counted as
//! `fragment_expired`; this is the only writer of that reason. What the kernel pushed out it does not
//! tell, so that it is read from the books and counted against nobody. A copy of what the host's stack
//! has is no drop.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bytemuck::{bytes_of, pod_read_unaligned};
use netd_common::map::counter::{DropKey, FlowStat, TrafficCounter};
use netd_common::map::fragment::{FragmentKey, HELD_S, HeldKey, HeldValue};
use netd_common::map::{DROPS, FLOW_STATS, FRAGMENTS_HELD};
use netd_common::verdict::Event;
use netd_common::{DropReason, EndpointIndex, Hook, Ipv4, Ipv6, NetworkIndex};

use super::super::DataplaneError;
use super::super::batch::Cursor;
use super::super::maps::{Maps, OpenMap};

/// More than the map has room for by default.
const WALK_LEN: usize = 2_048;

/// Of nobody in particular.
const PUSHED_OUT: DropKey = DropKey {
    endpoint: EndpointIndex::NONE,
    network: NetworkIndex::HOST,
    reason: DropReason::FragmentExpired as u16,
    hook: Hook::FromNetdev as u16,
};

/// Removes the fragments whose time is up, counts them and what was pushed out; the drops among those
/// whose time was up, as events.
pub(super) fn sweep(maps: &Maps, now_s: u32) -> Result<Vec<Event>, DataplaneError> {
    let stats = maps.get(&FLOW_STATS);
    // The books first: what comes in after them counts as present, not as pushed out.
    let held = read(stats, FlowStat::FragmentsHeld)?;
    let Walk { present, expired } = walk(maps, now_s)?;
    let gone = read(stats, FlowStat::FragmentsReleased)?
        + read(stats, FlowStat::FragmentsExpired)?
        + read(stats, FlowStat::FragmentsEvicted)?;
    let evicted = held.saturating_sub(gone + present);
    add(stats, FlowStat::FragmentsExpired, expired.len() as u64)?;
    add(stats, FlowStat::FragmentsEvicted, evicted)?;
    let mut drops: BTreeMap<DropKey, TrafficCounter> = BTreeMap::new();
    for (_, value) in &expired {
        let counter = drops.entry(value.drop).or_default();
        counter.packets += 1;
        counter.bytes += u64::from(value.len);
    }
    if evicted > 0 {
        drops.entry(PUSHED_OUT).or_default().packets += evicted;
    }
    for (key, dropped) in drops {
        count(maps.get(&DROPS), &key, dropped)?;
    }
    Ok(expired.iter().map(|(key, value)| event(&key.datagram, value, now_s)).collect())
}

/// Fragments that were taken from their way.
#[derive(Default)]
struct Walk {
    /// All that were there.
    present: u64,
    /// Those of them whose time was up.
    expired: Vec<(HeldKey, HeldValue)>,
}

/// Looks at all that is held and removes what is past its time.
fn walk(maps: &Maps, now_s: u32) -> Result<Walk, DataplaneError> {
    let map = maps.get(&FRAGMENTS_HELD);
    let mut cursor = Cursor::default();
    let mut walk = Walk::default();
    while let Some(chunk) = map.walk(&mut cursor, WALK_LEN)? {
        let keys = chunk.keys.chunks_exact(size_of::<HeldKey>());
        let values = chunk.values.chunks_exact(size_of::<HeldValue>());
        for (key, value) in keys.zip(values) {
            let value: HeldValue = pod_read_unaligned(value);
            let is_drop = value.drop.reason != 0;
            walk.present += u64::from(is_drop);
            // The packet path, which takes one out when its first comes, may have been quicker.
            if now_s.wrapping_sub(value.held_s) <= HELD_S || map.lookup(key)?.is_none() {
                continue;
            }
            map.delete(key)?;
            if is_drop {
                walk.expired.push((pod_read_unaligned(key), value));
            }
        }
    }
    Ok(walk)
}

/// What the monitor is told; a later fragment has no ports, and where it came in nobody knows any more.
fn event(datagram: &FragmentKey, value: &HeldValue, now_s: u32) -> Event {
    let DropKey { endpoint, network, reason, hook } = value.drop;
    let addr = |words: [u32; 4]| match datagram.version {
        4 => Ipv4Addr::from(Ipv4(words[0]).octets()).to_ipv6_mapped().into(),
        _ => Ipv6(words),
    };
    Event {
        timestamp_ns: u64::from(now_s) * 1_000_000_000,
        src: addr(datagram.src),
        dst: addr(datagram.dst),
        endpoint,
        network,
        len: value.len,
        reason: u8::try_from(reason).unwrap_or_default(),
        hook: u8::try_from(hook).unwrap_or_default(),
        family: datagram.version,
        proto: datagram.proto,
        ..Event::default()
    }
}

/// On this one CPU's behalf: nobody else writes the entry.
fn count(drops: &OpenMap, key: &DropKey, dropped: TrafficCounter) -> Result<(), DataplaneError> {
    let mut cpus = drops.lookup(bytes_of(key))?.unwrap_or_else(|| vec![0; drops.value_len()]);
    if let Some(first) = cpus.first_chunk_mut::<{ size_of::<TrafficCounter>() }>() {
        let mut counter: TrafficCounter = pod_read_unaligned(first);
        counter.packets += dropped.packets;
        counter.bytes += dropped.bytes;
        first.copy_from_slice(bytes_of(&counter));
    }
    drops.put(bytes_of(key), &cpus)
}

fn read(stats: &OpenMap, stat: FlowStat) -> Result<u64, DataplaneError> {
    let cpus = stats.lookup(&(stat as u32).to_ne_bytes())?.unwrap_or_default();
    Ok(cpus.chunks_exact(8).map(pod_read_unaligned::<u64>).sum())
}

/// Adds to a counter of the flow table that nobody else writes, on this one CPU's behalf.
pub(super) fn add(stats: &OpenMap, stat: FlowStat, by: u64) -> Result<(), DataplaneError> {
    let slot = (stat as u32).to_ne_bytes();
    let Some(mut cpus) = stats.lookup(&slot)?.filter(|_| by > 0) else {
        return Ok(());
    };
    if let Some(first) = cpus.first_chunk_mut::<8>() {
        *first = (u64::from_ne_bytes(*first) + by).to_ne_bytes();
    }
    stats.put(&slot, &cpus)
}
