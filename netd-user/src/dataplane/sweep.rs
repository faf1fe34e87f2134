//! Garbage collection of expired flows, and of fragments whose first never came (`held`).
//!
//! Law: a connection goes only when both of its entries are past their time and neither has moved
//! since it was read; its entries go together.

use bytemuck::Pod;
use netd_common::map::config::Config;
use netd_common::map::counter::FlowStat;
use netd_common::map::flow::{FlowKey, FlowValue, expired, twin};
use netd_common::map::{
    CONFIG, FLOW_STATS, FLOWS_NEW_V4, FLOWS_NEW_V6, FLOWS_V4, FLOWS_V6, MapSpec,
};
use netd_common::verdict::Event;
use netd_common::{Address, Ipv4, Ipv6};

use super::DataplaneError;
use super::batch::Cursor;
use super::maps::{Maps, OpenMap};
use super::syscall::monotonic_s;

mod held;

/// Entries of each table that one call looks at: some milliseconds.
const SHARD_LEN: usize = 16_384;

/// Walks the flow tables shard by shard.
#[derive(Debug)]
pub struct Sweeper {
    maps: Maps,
    cursors: [Cursor; 4],
}

/// What one call did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries looked at.
    pub scanned: u64,
    /// Entries removed.
    pub removed: u64,
    /// Drops of fragments whose first never came.
    pub expired: Vec<Event>,
}

impl Sweeper {
    pub(super) fn new(maps: Maps) -> Self {
        Self { maps, cursors: Default::default() }
    }

    /// Walks the next shard (blocking; milliseconds): call it every second from `spawn_blocking`.
    pub fn sweep(&mut self) -> Result<Swept, DataplaneError> {
        self.sweep_at(monotonic_s())
    }

    /// `sweep` as of a time, seconds of `CLOCK_MONOTONIC`.
    pub fn sweep_at(&mut self, now_s: u32) -> Result<Swept, DataplaneError> {
        let Some(config) = self.maps.get(&CONFIG).lookup(&0u32.to_ne_bytes())? else {
            return Ok(Swept::default());
        };
        let clock = Clock { config: bytemuck::pod_read_unaligned(&config), now_s };
        let mut swept = Swept::default();
        self.table::<Ipv4>(&FLOWS_NEW_V4, 0, &clock, &mut swept)?;
        self.table::<Ipv6>(&FLOWS_NEW_V6, 1, &clock, &mut swept)?;
        // On this one CPU's behalf: nobody else writes the slot.
        held::add(self.maps.get(&FLOW_STATS), FlowStat::EmbryonicSwept, swept.removed)?;
        self.table::<Ipv4>(&FLOWS_V4, 2, &clock, &mut swept)?;
        self.table::<Ipv6>(&FLOWS_V6, 3, &clock, &mut swept)?;
        swept.expired = held::sweep(&self.maps, now_s)?;
        Ok(swept)
    }

    fn table<A: Address>(
        &mut self,
        spec: &MapSpec,
        slot: usize,
        clock: &Clock,
        swept: &mut Swept,
    ) -> Result<(), DataplaneError>
    where
        FlowKey<A>: Pod,
        FlowValue<A>: Pod,
    {
        let map = self.maps.get(spec);
        let Some(chunk) = map.walk(&mut self.cursors[slot], SHARD_LEN)? else {
            self.cursors[slot] = Cursor::default();
            return Ok(());
        };
        swept.scanned += chunk.count as u64;
        let keys = chunk.keys.chunks_exact(size_of::<FlowKey<A>>());
        let values = chunk.values.chunks_exact(size_of::<FlowValue<A>>());
        for (key, value) in keys.zip(values) {
            let entry: Entry<A> =
                (bytemuck::pod_read_unaligned(key), bytemuck::pod_read_unaligned(value));
            swept.removed += remove_pair(map, &entry, clock)?;
        }
        Ok(())
    }
}

type Entry<A> = (FlowKey<A>, FlowValue<A>);

struct Clock {
    config: Config,
    now_s: u32,
}

impl Clock {
    fn is_past<A>(&self, (key, value): &Entry<A>) -> bool {
        expired(value.flags, key.proto, value.last_seen_s, self.now_s, &self.config)
    }
}

/// Removes an expired entry with its other half; how many entries went.
fn remove_pair<A: Address>(
    map: &OpenMap,
    entry: &Entry<A>,
    clock: &Clock,
) -> Result<u64, DataplaneError>
where
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
{
    if !clock.is_past(entry) {
        return Ok(0);
    }
    let other_key = twin(entry.0.proto, &entry.1);
    let other = read::<A>(map, &other_key)?.map(|value| (other_key, value));
    if other.as_ref().is_some_and(|other| !clock.is_past(other)) {
        return Ok(0);
    }
    // The walk read the first half up to a shard ago.
    if read::<A>(map, &entry.0)?.is_none_or(|now| now.last_seen_s != entry.1.last_seen_s) {
        return Ok(0);
    }
    let keys: Vec<FlowKey<A>> = std::iter::once(entry.0).chain(other.map(|o| o.0)).collect();
    map.delete(bytemuck::cast_slice(&keys))?;
    Ok(keys.len() as u64)
}

fn read<A: Address>(map: &OpenMap, key: &FlowKey<A>) -> Result<Option<FlowValue<A>>, DataplaneError>
where
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
{
    Ok(map.lookup(bytemuck::bytes_of(key))?.map(|value| bytemuck::pod_read_unaligned(&value)))
}

#[cfg(test)]
mod tests;
