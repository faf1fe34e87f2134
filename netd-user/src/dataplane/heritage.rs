//! What an earlier layout or size of the maps left: its flows and links are taken over, then it goes.
//!
//! Laws: earlier maps stay as long as a link runs a program that uses them; of two entries for one
//! flow the later seen is kept; both entries of a flow come into the same table; every step can be
//! repeated, so that a daemon killed at any of them is continued by the next.

use std::path::Path;

use aya::maps::{MapData, MapInfo};
use bytemuck::{Pod, bytes_of, pod_read_unaligned};
use netd_common::map::flow::{FLOW_REPLY, FlowKey, FlowValue, twin};
use netd_common::map::{
    ABI, COUNTERS, DROPS, FLOW_STATS, FLOWS_NEW_V4, FLOWS_NEW_V6, FLOWS_V4, FLOWS_V6, FRAGMENTS,
    MapSpec, PUBLISHED_HITS, SNAT_PROBES, SOCKET_PEERS,
};
use netd_common::{Address, Ipv4, Ipv6};

use super::DataplaneError;
use super::batch::{Cursor, RawMap};
use super::bpffs::EarlierPins;
use super::convert::{Converter, Entry, Reading};
use super::maps::{Maps, OpenMap, has_shape};
use super::syscall::monotonic_s;

/// Entries read per call.
const WALK_LEN: usize = 4096;

/// What the kernel side wrote and only a change of size carries over as it is.
const COPIED: [MapSpec; 7] =
    [FRAGMENTS, SOCKET_PEERS, COUNTERS, PUBLISHED_HITS, DROPS, FLOW_STATS, SNAT_PROBES];

/// Everything that is to be taken over.
#[derive(Debug, Default)]
pub(super) struct Heritage {
    estates: Vec<Estate>,
}

/// One earlier version's pins.
#[derive(Debug)]
struct Estate {
    pins: EarlierPins,
    /// When its flows were last carried over.
    carried_s: Option<u32>,
}

/// What a pass over the flows did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Carried {
    /// Entries written.
    entries: u64,
    /// Pairs that the lasting table had no room for: they may be evicted like new flows.
    crowded_out: u64,
}

impl Heritage {
    /// What earlier versions left; says what becomes of it.
    pub(super) fn of(earlier: Vec<EarlierPins>) -> Self {
        let estates = earlier.into_iter().map(|pins| Estate { pins, carried_s: None });
        let heritage = Self { estates: estates.collect() };
        heritage.announce();
        heritage
    }

    /// Whether nothing is left to take over.
    pub(super) fn is_empty(&self) -> bool {
        self.estates.is_empty()
    }

    /// Whether any of it are flows that this version can read.
    pub(super) fn has_flows(&self) -> bool {
        self.pins().any(|pins| Converter::of(pins.abi).is_some())
    }

    /// The earlier pins.
    pub(super) fn pins(&self) -> impl Iterator<Item = &EarlierPins> {
        self.estates.iter().map(|estate| &estate.pins)
    }

    /// Carries over flows: all of them, and at each later call those that moved since the last.
    pub(super) fn carry_flows(&mut self, maps: &Maps) -> Result<(), DataplaneError> {
        for estate in &mut self.estates {
            let Some(converter) = Converter::of(estate.pins.abi) else { continue };
            let begun_s = monotonic_s();
            let pass = Pass { from: &estate.pins, to: maps, since_s: estate.carried_s };
            let carried = pass.run(converter)?;
            tracing::info!(entries = carried.entries, "flows were carried over");
            if carried.crowded_out > 0 {
                let pairs = carried.crowded_out;
                tracing::warn!(pairs, "the flow table is too small for all: see flow-table.size");
            }
            estate.carried_s = Some(begun_s);
        }
        Ok(())
    }

    /// Copies counters and the like where only a size changed.
    pub(super) fn copy_counters(&self, maps: &Maps) -> Result<(), DataplaneError> {
        for pins in self.pins().filter(|pins| pins.abi == ABI) {
            for spec in COPIED {
                let path = pins.maps().join(spec.name);
                if has_shape(&spec, &path) {
                    let old = OpenMap::open(&spec, &pins.maps())?;
                    copy(&old, maps.get(&spec))?;
                }
            }
        }
        Ok(())
    }

    /// Removes the earlier pins: their maps go with the programs that used them.
    pub(super) fn discard(&mut self) -> Result<(), DataplaneError> {
        while let Some(estate) = self.estates.last() {
            estate.pins.remove()?;
            self.estates.pop();
        }
        Ok(())
    }

    fn announce(&self) {
        for pins in self.pins() {
            let abi = format!("{:016x}", pins.abi);
            if pins.abi == ABI {
                tracing::info!(abi, "the dataplane is made anew; its flows are carried over");
            } else if Converter::of(pins.abi).is_some() {
                tracing::info!(abi, "the dataplane has an earlier layout; its flows are converted");
            } else {
                tracing::warn!(
                    abi,
                    "the dataplane has a layout that this netd does not know: it is rebuilt, and \
                     connections that are translated have to begin anew"
                );
            }
        }
    }
}

fn copy(from: &OpenMap, to: &OpenMap) -> Result<(), DataplaneError> {
    let mut cursor = Cursor::default();
    while let Some(chunk) = from.walk(&mut cursor, WALK_LEN)? {
        to.put(&chunk.keys, &chunk.values)?;
    }
    Ok(())
}

/// One pass over the flows of an earlier version.
struct Pass<'a> {
    from: &'a EarlierPins,
    to: &'a Maps,
    since_s: Option<u32>,
}

impl Pass<'_> {
    fn run(&self, converter: &Converter) -> Result<Carried, DataplaneError> {
        let mut carried = Carried::default();
        // The lasting table last: what was promoted meanwhile is seen there.
        self.table::<Ipv4>((&FLOWS_NEW_V4, &FLOWS_NEW_V4), &converter.v4, &mut carried)?;
        self.table::<Ipv4>((&FLOWS_V4, &FLOWS_NEW_V4), &converter.v4, &mut carried)?;
        self.table::<Ipv6>((&FLOWS_NEW_V6, &FLOWS_NEW_V6), &converter.v6, &mut carried)?;
        self.table::<Ipv6>((&FLOWS_V6, &FLOWS_NEW_V6), &converter.v6, &mut carried)?;
        Ok(carried)
    }

    /// Carries one table over, with a second one for what it has no room for.
    fn table<A: Address>(
        &self,
        (spec, overflow): (&MapSpec, &MapSpec),
        reading: &Reading<A>,
        carried: &mut Carried,
    ) -> Result<(), DataplaneError>
    where
        FlowKey<A>: Pod,
        FlowValue<A>: Pod,
    {
        let Some(old) = OldTable::open(&self.from.maps().join(spec.name), reading, spec)? else {
            return Ok(());
        };
        let mut cursor = Cursor::default();
        while let Some(chunk) = old.walk(&mut cursor)? {
            for (key, value) in chunk {
                if !self.concerns(&value) {
                    continue;
                }
                let pair = old.pair(key, value)?;
                match write_pair(self.to.get(spec), &pair) {
                    Err(DataplaneError::MapFull { .. }) => {
                        let keys: Vec<FlowKey<A>> = pair.iter().map(|(key, _)| *key).collect();
                        self.to.get(spec).delete(bytemuck::cast_slice(&keys))?;
                        carried.entries += write_pair(self.to.get(overflow), &pair)?;
                        carried.crowded_out += 1;
                    }
                    written => carried.entries += written?,
                }
            }
        }
        Ok(())
    }

    /// In the first pass each pair is met at its original entry; later at any that moved. The clock
    /// is coarse and each CPU reads it by itself: a second of grace.
    fn concerns<A>(&self, value: &FlowValue<A>) -> bool {
        match self.since_s {
            None => value.flags & FLOW_REPLY == 0,
            Some(since_s) => value.last_seen_s + 1 >= since_s,
        }
    }
}

/// Writes what is later than what is there; how many entries that were.
fn write_pair<A: Address>(to: &OpenMap, pair: &[Entry<A>]) -> Result<u64, DataplaneError>
where
    FlowKey<A>: Pod,
    FlowValue<A>: Pod,
{
    let mut written = 0;
    for (key, value) in pair {
        let held = to.lookup(bytes_of(key))?.map(|bytes| pod_read_unaligned(&bytes));
        if let Some(value) = merged(held, *value) {
            to.put(bytes_of(key), bytes_of(&value))?;
            written += 1;
        }
    }
    Ok(written)
}

/// What is to be written over `held`; none where it says all already. Within one second both may
/// have news: flags are only ever gained then, but for a RST that later segments take back.
fn merged<A: Copy + PartialEq>(
    held: Option<FlowValue<A>>,
    carried: FlowValue<A>,
) -> Option<FlowValue<A>> {
    let Some(held) = held else { return Some(carried) };
    if held.last_seen_s > carried.last_seen_s {
        return None;
    }
    if held.last_seen_s < carried.last_seen_s {
        return Some(carried);
    }
    let both = FlowValue { flags: held.flags | carried.flags, ..held };
    (both != held).then_some(both)
}

/// A flow table of an earlier version.
struct OldTable<'a, A> {
    data: MapData,
    reading: &'a Reading<A>,
    spec: &'a MapSpec,
}

impl<'a, A: Address> OldTable<'a, A> {
    /// None where the version has no such table, or somebody put another map in its place.
    fn open(
        path: &Path,
        reading: &'a Reading<A>,
        spec: &'a MapSpec,
    ) -> Result<Option<Self>, DataplaneError> {
        let Ok(info) = MapInfo::from_pin(path) else { return Ok(None) };
        let lens = (info.key_size() as usize, info.value_size() as usize);
        if lens != (reading.key_len, reading.value_len) {
            tracing::warn!(map = spec.name, "an earlier flow table can't be read; it is left out");
            return Ok(None);
        }
        let data = MapData::from_pin(path).map_err(|source| DataplaneError::Map {
            action: "open",
            map: spec.name.to_owned(),
            source: std::io::Error::other(source),
        })?;
        Ok(Some(Self { data, reading, spec }))
    }

    fn walk(&self, cursor: &mut Cursor) -> Result<Option<Vec<Entry<A>>>, DataplaneError> {
        let chunk = self.raw().walk(cursor, WALK_LEN).map_err(|source| self.failed(source))?;
        let Reading { key_len, value_len, read, .. } = *self.reading;
        Ok(chunk.map(|chunk| {
            let keys = chunk.keys.chunks_exact(key_len);
            let values = chunk.values.chunks_exact(value_len);
            keys.zip(values).map(|(key, value)| read(key, value)).collect()
        }))
    }

    /// An entry with the other of its flow, where there is one.
    fn pair(&self, key: FlowKey<A>, value: FlowValue<A>) -> Result<Vec<Entry<A>>, DataplaneError> {
        let other = (self.reading.key)(&twin(key.proto, &value));
        let found = self.raw().lookup(&other).map_err(|source| self.failed(source))?;
        let other = found.map(|bytes| (self.reading.read)(&other, &bytes));
        Ok(std::iter::once((key, value)).chain(other).collect())
    }

    fn raw(&self) -> RawMap<'_> {
        use std::os::fd::AsFd as _;
        RawMap {
            fd: self.data.fd().as_fd(),
            key_len: self.reading.key_len,
            value_len: self.reading.value_len,
        }
    }

    fn failed(&self, source: std::io::Error) -> DataplaneError {
        DataplaneError::Map { action: "read", map: self.spec.name.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(last_seen_s: u32, flags: u16) -> FlowValue<Ipv4> {
        FlowValue { last_seen_s, flags, ..FlowValue::default() }
    }

    #[test]
    fn the_later_of_two_entries_is_kept() {
        assert_eq!(merged(None, seen(5, 1)), Some(seen(5, 1)));
        assert_eq!(merged(Some(seen(4, 2)), seen(5, 1)), Some(seen(5, 1)));
        assert_eq!(merged(Some(seen(6, 2)), seen(5, 1)), None);
    }

    #[test]
    fn within_a_second_both_have_their_say() {
        let decided = FlowValue { generation: 3, ..seen(5, 2) };
        let both = FlowValue { flags: 3, ..decided };
        assert_eq!(merged(Some(decided), seen(5, 1)), Some(both));
        assert_eq!(merged(Some(both), seen(5, 1)), None);
    }
}
