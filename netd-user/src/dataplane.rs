//! Maps and programs: the only place that speaks bpf.
//!
//! Law: everything is pinned under one directory per layout version, and outlives the daemon.

mod batch;
mod bpffs;
mod convert;
pub mod delta;
pub mod events;
mod grace_period;
mod heritage;
mod maps;
pub mod object;
mod pin;
mod programs;
pub mod remains;
pub mod retire;
pub mod stats;
pub mod sweep;
mod syscall;

use netd_common::map::config::Config;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytemuck::Zeroable;
use netd_common::Hook;
use netd_common::map::resolver::ResolverValue;
use netd_common::map::{CONFIG, MapKind, MapSpec, RESOLVERS};

use self::bpffs::PinDirs;
use self::delta::{Table, Visit, in_put_order};
use self::events::EventReader;
use self::grace_period::GracePeriods;
use self::heritage::Heritage;
use self::maps::Maps;
use self::programs::Programs;
use self::stats::Stats;
use self::sweep::Sweeper;
use self::syscall::monotonic_s;
use crate::desired::Tables;
use crate::kernel::{self, TooOld};

/// The kernel side of this host.
#[derive(Debug)]
pub struct Dataplane {
    dirs: PinDirs,
    maps: Maps,
    programs: Programs,
    grace_periods: GracePeriods,
    heritage: Heritage,
    /// Whether no flow of an earlier run could be taken over.
    is_cold: bool,
}

impl Dataplane {
    /// Loads the object over what earlier runs pinned under `pins`. Maps of another size or layout
    /// are made anew beside the old ones, which `inherit` ends.
    pub fn open(
        pins: &Path,
        object: &[u8],
        capacities: &BTreeMap<String, u32>,
    ) -> Result<Self, DataplaneError> {
        kernel::fits(&kernel::running())?;
        let dirs = PinDirs::prepare(pins)?;
        let found_maps = dirs.maps().exists();
        if found_maps {
            let differences = Maps::differences(&dirs.maps(), capacities);
            if !differences.is_empty() {
                tracing::info!(?differences, "pinned maps can't be used as they are");
                dirs.set_aside()?;
            }
        }
        dirs.make()?;
        let mut heritage = Heritage::of(dirs.earlier()?);
        let programs = Programs::load(object, capacities, &dirs.maps(), dirs.links())?;
        let maps = Maps::open(&dirs.maps())?;
        heritage.carry_flows(&maps)?;
        let grace_periods = GracePeriods::new(dirs.expedited());
        let is_cold = !found_maps && !heritage.has_flows();
        Ok(Self { dirs, maps, programs, grace_periods, heritage, is_cold })
    }

    /// Until when TCP in mid-stream may open flows, seconds of `CLOCK_MONOTONIC`: for `window_s` from
    /// now if the flow table is new, else as it was settled then.
    pub fn loose_until_s(&self, window_s: u32) -> Result<u32, DataplaneError> {
        if self.is_cold {
            return Ok(monotonic_s().saturating_add(window_s));
        }
        let held = self.maps.get(&CONFIG).lookup(&0u32.to_ne_bytes())?;
        let held = held.map(|config| bytemuck::pod_read_unaligned::<Config>(&config));
        Ok(held.map_or(0, |config| config.loose_until_s))
    }

    /// Whether links still run an earlier layout's programs.
    pub fn has_heritage(&self) -> bool {
        !self.heritage.is_empty()
    }

    /// Once the tables are written: carries over what changed in the earlier flow tables, puts this
    /// version's programs in the place of the earlier ones, and removes those with their maps.
    /// `index_of` tells the index of a link, `cgroup` where the socket hooks belong.
    pub fn inherit(
        &mut self,
        index_of: impl Fn(&str) -> Option<u32>,
        cgroup: Option<&Path>,
    ) -> Result<(), DataplaneError> {
        let expedited = self.grace_periods.expedite();
        self.heritage.copy_counters(&self.maps)?;
        self.heritage.carry_flows(&self.maps)?;
        for pins in self.heritage.pins() {
            self.programs.inherit(&pins.links(), &index_of, cgroup)?;
        }
        drop(expedited);
        self.attach_sockets(cgroup)?;
        self.heritage.carry_flows(&self.maps)?;
        self.heritage.discard()
    }

    /// Writes entries, given as bytes one after the other.
    pub fn put(&self, map: &MapSpec, keys: &[u8], values: &[u8]) -> Result<(), DataplaneError> {
        self.maps.get(map).put(keys, values)
    }

    /// Deletes entries; a slot of an array becomes all zero.
    pub fn delete(&self, map: &MapSpec, keys: &[u8]) -> Result<(), DataplaneError> {
        self.maps.get(map).delete(keys)
    }

    /// Reads every desired table back. Slots of arrays that are all zero are unused.
    pub fn tables(&self) -> Result<Tables, DataplaneError> {
        let mut dump = Dump { maps: &self.maps, tables: Tables::default() };
        in_put_order(&mut dump)?;
        Ok(dump.tables)
    }

    /// Where name queries go, by cookie of a namespace.
    pub fn resolvers(&self) -> Result<BTreeMap<u64, ResolverValue>, DataplaneError> {
        let mut all = BTreeMap::new();
        self.maps.get(&RESOLVERS).for_each(|key, value| {
            all.insert(bytemuck::pod_read_unaligned(key), bytemuck::pod_read_unaligned(value));
        })?;
        Ok(all)
    }

    /// Attaches the program of a hook to a link of the host, or renews it.
    pub fn attach(&self, link: &str, ifindex: u32, hook: Hook) -> Result<(), DataplaneError> {
        let _expedited = self.grace_periods.expedite();
        self.programs.attach(link, ifindex, hook)
    }

    /// Detaches it; one that is gone already is no error.
    pub fn detach(&self, link: &str, hook: Hook) -> Result<(), DataplaneError> {
        let _expedited = self.grace_periods.expedite();
        self.programs.detach(link, hook)
    }

    /// What is attached to links that exist under the index that `index_of` tells.
    pub fn attached(
        &self,
        index_of: impl Fn(&str) -> Option<u32>,
    ) -> Result<Vec<(String, Hook)>, DataplaneError> {
        self.programs.attached(index_of)
    }

    /// Attaches the socket hooks to a cgroup, or detaches them.
    pub fn attach_sockets(&self, cgroup: Option<&Path>) -> Result<(), DataplaneError> {
        match cgroup {
            Some(cgroup) => self.programs.attach_sockets(cgroup),
            None => self.programs.detach_sockets(),
        }
    }

    /// Puts back what others removed: directories, pins of maps, socket hooks; how many there were.
    pub fn mend(&self, cgroup: Option<&Path>) -> Result<usize, DataplaneError> {
        self.dirs.mend()?;
        let mended = self.maps.pin_missing(&self.dirs.maps())?;
        match cgroup {
            Some(cgroup) if !self.programs.are_sockets_attached(cgroup)? => {
                self.programs.attach_sockets(cgroup)?;
                Ok(mended + 1)
            }
            Some(_) | None => Ok(mended),
        }
    }

    /// Lets sockets of the host bind published ports, until the socket hooks are attached again.
    pub fn lift_guard(&self) -> Result<(), DataplaneError> {
        for pins in self.heritage.pins() {
            programs::lift_guard(&pins.links())?;
        }
        programs::lift_guard(&self.dirs.links())
    }

    /// Instructions that the verifier walked, by program.
    pub fn verified_instructions(&self) -> BTreeMap<String, u32> {
        self.programs.verified_instructions()
    }

    /// A reader of the counters.
    pub fn stats(&self) -> Stats {
        Stats::new(self.maps.clone())
    }

    /// A reader of the events.
    pub fn events(&self) -> Result<EventReader, DataplaneError> {
        EventReader::open(&self.dirs.maps())
    }

    /// Garbage collection of the flow table.
    pub fn sweeper(&self) -> Sweeper {
        Sweeper::new(self.maps.clone())
    }
}

struct Dump<'a> {
    maps: &'a Maps,
    tables: Tables,
}

impl Visit for Dump<'_> {
    type Error = DataplaneError;

    fn visit<T: Table>(&mut self) -> Result<(), DataplaneError> {
        let table = T::of_mut(&mut self.tables);
        let unused = T::Value::zeroed();
        self.maps.get(&T::SPEC).for_each(|key, value| {
            let value: T::Value = bytemuck::pod_read_unaligned(value);
            if value != unused || !matches!(T::SPEC.kind, MapKind::Array) {
                table.insert(bytemuck::pod_read_unaligned(key), value);
            }
        })
    }
}

/// Why a map or a program could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The kernel lacks tcx.
    #[error(transparent)]
    KernelTooOld(#[from] TooOld),
    /// A newer netd set the dataplane up.
    #[error(
        "a newer netd set up the dataplane (layout {found}, this one knows {known}): run that one, \
         or remove its work with `netd uninstall`"
    )]
    Newer {
        /// Layout revision found.
        found: u32,
        /// Layout revision known.
        known: u32,
    },
    /// The object can't be loaded.
    #[error("load the kernel object: {0}")]
    Object(#[from] aya::EbpfError),
    /// The object lacks a program.
    #[error("the kernel object has no program {0}")]
    MissingProgram(&'static str),
    /// A program was refused or could not be attached.
    #[error("{action} program {program}: {source}")]
    Program {
        /// What was tried.
        action: &'static str,
        /// Which.
        program: String,
        /// The kernel's answer.
        source: aya::programs::ProgramError,
    },
    /// A pinned map of this ABI has another shape.
    #[error("{} is not the map this version expects ({found}); run `netd uninstall`", path.display())]
    PinMismatch {
        /// The pin.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// A map operation was refused.
    #[error("{action} map {map}: {source}")]
    Map {
        /// What was tried.
        action: &'static str,
        /// Which.
        map: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A map is full.
    #[error("map {map} is full ({capacity} entries): remove what is not needed, see `netd status`")]
    MapFull {
        /// Which.
        map: String,
        /// Its capacity.
        capacity: u32,
    },
    /// A pin or directory could not be made, read or removed.
    #[error("{action} {}: {source}", path.display())]
    Pin {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}
