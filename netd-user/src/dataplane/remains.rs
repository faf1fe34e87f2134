//! What is pinned, seen and removed without loading anything: for a host that a daemon has left.
//!
//! Law: a link is detached at once, before its pin goes; what is no pin of ours stays.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::DataplaneError;
use super::bpffs::{EarlierPins, PinDirs};
use super::grace_period::GracePeriods;
use super::programs;

/// A thing of ours under the pin directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// A program that packets or sockets meet.
    Program {
        /// The pin of its link.
        pin: PathBuf,
    },
    /// The maps of one layout, and the directory they are in.
    Version {
        /// The directory.
        path: PathBuf,
        /// How many maps.
        maps: usize,
        /// The layout.
        abi: u64,
    },
    /// The host's switch for short grace periods, left on by a run that was killed.
    GracePeriods {
        /// The mark that tells.
        mark: PathBuf,
    },
    /// The pin directory itself, with the bpffs on it where that is our own.
    Root {
        /// The directory.
        path: PathBuf,
    },
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program { pin } => f.write_str(&programs::describe(pin)),
            Self::Version { path, maps, .. } => {
                write!(f, "{maps} pinned maps in {}", path.display())
            }
            Self::GracePeriods { .. } => {
                f.write_str("the setting rcu_expedited = 1 that a killed daemon left")
            }
            Self::Root { path } => write!(f, "the pin directory {}", path.display()),
        }
    }
}

/// All of ours under `pins`, in the order it is to be removed.
pub fn pinned(pins: &Path) -> Result<Vec<Pinned>, DataplaneError> {
    if !pins.exists() {
        return Ok(Vec::new());
    }
    let dirs = PinDirs::below(pins);
    let versions = dirs.versions()?;
    let mut found = Vec::new();
    for version in &versions {
        found.extend(entries(&version.links()).into_iter().map(|pin| Pinned::Program { pin }));
    }
    found.extend(versions.into_iter().map(|EarlierPins { path, abi }| {
        let maps = entries(&path.join("maps")).len();
        Pinned::Version { path, maps, abi }
    }));
    let mark = dirs.expedited();
    if mark.exists() {
        found.push(Pinned::GracePeriods { mark });
    }
    found.push(Pinned::Root { path: pins.to_owned() });
    Ok(found)
}

/// Removes one of them.
pub fn remove(pinned: &Pinned) -> Result<(), DataplaneError> {
    match pinned {
        Pinned::Program { pin } => programs::take_off(pin),
        Pinned::Version { path, abi, .. } => EarlierPins { path: path.clone(), abi: *abi }.remove(),
        Pinned::GracePeriods { mark } => {
            // Made anew it puts back what the mark tells of.
            drop(GracePeriods::new(mark.clone()));
            Ok(())
        }
        Pinned::Root { path } => PinDirs::below(path).remove_root(),
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
