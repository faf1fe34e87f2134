//! Fragments whose first never came.
//!
//! Law: a fragment that was taken from its way and never goes on is a drop, counted as
//! `fragment_expired` against who sent it; this is the only writer of that reason. A copy of what
//! the host's stack has is no drop.

use std::collections::BTreeMap;

use bytemuck::{bytes_of, pod_read_unaligned};
use netd_common::map::counter::{DropKey, FlowStat, TrafficCounter};
use netd_common::map::fragment::{HELD_S, HeldKey, HeldValue};
use netd_common::map::{DROPS, FLOW_STATS, FRAGMENTS_HELD};

use super::super::DataplaneError;
use super::super::batch::Cursor;
use super::super::maps::{Maps, OpenMap};

/// More than the map has room for by default.
const WALK_LEN: usize = 2_048;

/// Removes the fragments whose time is up and counts them; how many there were.
pub(super) fn sweep(maps: &Maps, now_s: u32) -> Result<u64, DataplaneError> {
    let map = maps.get(&FRAGMENTS_HELD);
    let mut cursor = Cursor::default();
    let mut drops: BTreeMap<DropKey, TrafficCounter> = BTreeMap::new();
    let mut expired = 0;
    while let Some(chunk) = map.walk(&mut cursor, WALK_LEN)? {
        let keys = chunk.keys.chunks_exact(size_of::<HeldKey>());
        let values = chunk.values.chunks_exact(size_of::<HeldValue>());
        for (key, value) in keys.zip(values) {
            let held: HeldValue = pod_read_unaligned(value);
            // The packet path, which takes one out when its first comes, may have been quicker.
            if now_s.wrapping_sub(held.held_s) <= HELD_S || map.lookup(key)?.is_none() {
                continue;
            }
            map.delete(key)?;
            expired += 1;
            if held.drop.reason != 0 {
                let counter = drops.entry(held.drop).or_default();
                counter.packets += 1;
                counter.bytes += u64::from(held.len);
            }
        }
    }
    for (key, dropped) in drops {
        count(maps.get(&DROPS), &key, dropped)?;
    }
    add(maps.get(&FLOW_STATS), FlowStat::FragmentsExpired, expired)?;
    Ok(expired)
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
