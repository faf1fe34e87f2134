//! The pinned maps, opened and checked.
//!
//! Law: a map in use has exactly the kind and the lengths that `netd_common::map` says.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use aya::maps::{MapData, MapError, MapInfo, MapType};
use netd_common::map::{MAPS, MapKind, MapSpec};

use super::DataplaneError;
use super::batch::{Chunk, Cursor, RawMap};

/// Entries read per call of a walk: large enough to forget the call, small enough for the stack of
/// buffers a scrape needs.
const WALK_LEN: usize = 4096;

/// All maps; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Maps {
    maps: Arc<BTreeMap<&'static str, OpenMap>>,
}

/// One map.
#[derive(Debug)]
pub(super) struct OpenMap {
    spec: MapSpec,
    data: MapData,
    capacity: u32,
    value_len: usize,
}

impl Maps {
    /// Why the maps pinned in `dir` can't be used as they are, one sentence each: a pin that is
    /// missing, of another shape, or of another size than `capacities` ask for.
    pub(super) fn differences(dir: &Path, capacities: &BTreeMap<String, u32>) -> Vec<String> {
        let difference = |spec: &MapSpec| {
            let path = dir.join(spec.name);
            let wanted = capacities.get(spec.name).copied().unwrap_or(spec.capacity);
            let Ok(info) = MapInfo::from_pin(&path) else {
                return Some(format!("{} is missing or no map", spec.name));
            };
            if let Err(error) = check_shape(spec, &info, &path) {
                return Some(error.to_string());
            }
            let found = info.max_entries();
            (found != wanted)
                .then(|| format!("{} has room for {found}, not {wanted} entries", spec.name))
        };
        MAPS.iter().filter_map(difference).collect()
    }

    /// Opens every pinned map.
    pub(super) fn open(dir: &Path) -> Result<Self, DataplaneError> {
        let maps = MAPS.iter().map(|spec| Ok((spec.name, OpenMap::open(spec, dir)?)));
        Ok(Self { maps: Arc::new(maps.collect::<Result<_, DataplaneError>>()?) })
    }

    /// Pins those whose pin is gone; how many there were.
    pub(super) fn pin_missing(&self, dir: &Path) -> Result<usize, DataplaneError> {
        let mut pinned = 0;
        for (name, map) in self.maps.iter() {
            let path = dir.join(name);
            if !path.exists() {
                let failed = |source| DataplaneError::Pin {
                    action: "pin map at",
                    path: path.clone(),
                    source: std::io::Error::other(source),
                };
                map.data.pin(&path).map_err(failed)?;
                pinned += 1;
            }
        }
        Ok(pinned)
    }

    /// The map of that specification.
    #[allow(clippy::expect_used, reason = "open() has put every map of the one list there")]
    pub(super) fn get(&self, spec: &MapSpec) -> &OpenMap {
        self.maps.get(spec.name).expect("every specification comes from the one list of maps")
    }
}

impl OpenMap {
    /// Opens the map pinned in `dir`.
    pub(super) fn open(spec: &MapSpec, dir: &Path) -> Result<Self, DataplaneError> {
        let cpus = aya::util::nr_cpus().map_err(|(path, source)| DataplaneError::Pin {
            action: "read",
            path: path.into(),
            source,
        })?;
        let path = dir.join(spec.name);
        let data = MapData::from_pin(&path).map_err(|e| refused("open", spec, e))?;
        let info = data.info().map_err(|e| refused("inspect", spec, e))?;
        check_shape(spec, &info, &path)?;
        let capacity = info.max_entries();
        Ok(Self { spec: *spec, data, capacity, value_len: value_len(spec, cpus) })
    }

    /// Entries it can hold.
    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Length of a value, of all CPUs' values where each has its own.
    pub(super) fn value_len(&self) -> usize {
        self.value_len
    }

    /// Writes entries.
    pub(super) fn put(&self, keys: &[u8], values: &[u8]) -> Result<(), DataplaneError> {
        self.raw().update(keys, values).map_err(|source| self.failed("write", source))
    }

    /// Deletes entries; in arrays, whose slots can't go, they become all zero.
    pub(super) fn delete(&self, keys: &[u8]) -> Result<(), DataplaneError> {
        let outcome = match self.spec.kind {
            MapKind::Array | MapKind::PerCpuArray => {
                let count = keys.len() / self.spec.key_len as usize;
                self.raw().update(keys, &vec![0; count * self.value_len])
            }
            MapKind::Hash
            | MapKind::LruHash
            | MapKind::PerCpuHash
            | MapKind::LpmTrie
            | MapKind::RingBuf => self.raw().delete(keys),
        };
        outcome.map_err(|source| self.failed("delete from", source))
    }

    /// The value under `key`.
    pub(super) fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>, DataplaneError> {
        self.raw().lookup(key).map_err(|source| self.failed("read", source))
    }

    /// Calls `each` with every key and value.
    pub(super) fn for_each(
        &self,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), DataplaneError> {
        let mut cursor = Cursor::default();
        while let Some(chunk) = self.walk(&mut cursor, WALK_LEN)? {
            let keys = chunk.keys.chunks_exact(self.spec.key_len as usize);
            let values = chunk.values.chunks_exact(self.value_len);
            keys.zip(values).for_each(|(key, value)| each(key, value));
        }
        Ok(())
    }

    /// The next entries of a walk.
    pub(super) fn walk(
        &self,
        cursor: &mut Cursor,
        limit: usize,
    ) -> Result<Option<Chunk>, DataplaneError> {
        self.raw().walk(cursor, limit).map_err(|source| self.failed("read", source))
    }

    fn raw(&self) -> RawMap<'_> {
        RawMap {
            fd: self.data.fd().as_fd(),
            key_len: self.spec.key_len as usize,
            value_len: self.value_len,
        }
    }

    fn failed(&self, action: &'static str, source: std::io::Error) -> DataplaneError {
        let map = self.spec.name.to_owned();
        match source.raw_os_error() {
            Some(libc::E2BIG | libc::ENOSPC) => {
                DataplaneError::MapFull { map, capacity: self.capacity }
            }
            _ => DataplaneError::Map { action, map, source },
        }
    }
}

/// The kernel rounds each CPU's value up to 8 bytes.
fn value_len(spec: &MapSpec, cpus: usize) -> usize {
    let len = spec.value_len as usize;
    match spec.kind {
        MapKind::PerCpuArray | MapKind::PerCpuHash => len.next_multiple_of(8) * cpus,
        MapKind::Array | MapKind::Hash | MapKind::LruHash | MapKind::LpmTrie | MapKind::RingBuf => {
            len
        }
    }
}

/// Whether the map pinned at `path` has the shape that is asked for, whatever its size.
pub(super) fn has_shape(spec: &MapSpec, path: &Path) -> bool {
    MapInfo::from_pin(path).is_ok_and(|info| check_shape(spec, &info, path).is_ok())
}

fn check_shape(spec: &MapSpec, info: &MapInfo, path: &Path) -> Result<(), DataplaneError> {
    let kind = info.map_type().map_err(|e| refused("inspect", spec, e))?;
    let (key_len, value_len, flags) = (info.key_size(), info.value_size(), info.map_flags());
    let wanted = (kernel_kind(spec.kind), spec.key_len, spec.value_len, kernel_flags(spec.kind));
    if (kind, key_len, value_len, flags) == wanted {
        return Ok(());
    }
    let found =
        format!("{kind:?}, keys of {key_len} and values of {value_len} bytes, flags {flags:#x}");
    Err(DataplaneError::PinMismatch { path: path.to_owned(), found })
}

/// `BPF_F_NO_PREALLOC`: tries are made with it or not at all.
const fn kernel_flags(kind: MapKind) -> u32 {
    match kind {
        MapKind::LpmTrie => 1,
        MapKind::Array
        | MapKind::PerCpuArray
        | MapKind::Hash
        | MapKind::LruHash
        | MapKind::PerCpuHash
        | MapKind::RingBuf => 0,
    }
}

const fn kernel_kind(kind: MapKind) -> MapType {
    match kind {
        MapKind::Array => MapType::Array,
        MapKind::PerCpuArray => MapType::PerCpuArray,
        MapKind::Hash => MapType::Hash,
        MapKind::LruHash => MapType::LruHash,
        MapKind::PerCpuHash => MapType::PerCpuHash,
        MapKind::LpmTrie => MapType::LpmTrie,
        MapKind::RingBuf => MapType::RingBuf,
    }
}

fn refused(action: &'static str, spec: &MapSpec, source: MapError) -> DataplaneError {
    DataplaneError::Map { action, map: spec.name.to_owned(), source: std::io::Error::other(source) }
}
