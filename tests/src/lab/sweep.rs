//! Removal of all that carries a laboratory's name: processes first, then mounts, namespaces, control
//! groups and files. It knows nothing but the name, so it serves a test's end and a killed test alike,
//! and it removes the rest when one thing resists.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, umount2};

use super::{LOCK, PREFIX, ROOT};
use crate::eventually;
use crate::host::cgroup_root;
use crate::netns::{NAMESPACES, Netns};

const PROCESSES_END_WITHIN: Duration = Duration::from_secs(10);

/// Removes every laboratory whose process is gone.
pub fn remove_leftovers() -> Result<()> {
    let mut failures = Vec::new();
    for directory in entries(Path::new(ROOT))? {
        let name = file_name(&directory);
        if name.starts_with(PREFIX) && is_abandoned(&directory) {
            failures.extend(remove(&name, &directory).err());
        }
    }
    first(failures)
}

/// Everything that carries a name of the harness: what a census counts.
pub fn things_named(prefix: &str) -> Result<Vec<PathBuf>> {
    let places = [PathBuf::from(ROOT), PathBuf::from(NAMESPACES), cgroup_root()?];
    let mut found = Vec::new();
    for place in places {
        let named = entries(&place)?.into_iter();
        found.extend(named.filter(|path| file_name(path).starts_with(prefix)));
    }
    Ok(found)
}

/// The lock goes with its process, whatever ended it.
fn is_abandoned(directory: &Path) -> bool {
    match File::open(directory.join(LOCK)) {
        Ok(file) => Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok(),
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

/// Removes one laboratory.
pub(super) fn remove(name: &str, directory: &Path) -> Result<()> {
    let own = format!("{name}-");
    let mut failures = Vec::new();
    let cgroups = named(&cgroup_root()?, &own)?;
    failures.extend(cgroups.iter().filter_map(|cgroup| end_processes(cgroup).err()));
    failures.extend(unmount_below(directory).err());
    let namespaces = named(Path::new(NAMESPACES), &own)?;
    failures.extend(namespaces.iter().filter_map(|at| Netns::delete(&file_name(at)).err()));
    failures.extend(cgroups.iter().filter_map(|cgroup| remove_cgroup(cgroup).err()));
    // The directory goes last and only then: a later sweep finds by it what still resists.
    first(failures)?;
    fs::remove_dir_all(directory).with_context(|| directory.display().to_string())
}

fn end_processes(cgroup: &Path) -> Result<()> {
    fs::write(cgroup.join("cgroup.kill"), "1").with_context(|| cgroup.display().to_string())?;
    eventually("the end of a host's processes", PROCESSES_END_WITHIN, || {
        let events = fs::read_to_string(cgroup.join("cgroup.events"))?;
        Ok(events.lines().any(|line| line == "populated 0").then_some(()))
    })
}

/// The deepest mounts stand last.
fn unmount_below(directory: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    let below: Vec<_> = places.filter(|place| place.starts_with(directory)).collect();
    for place in below.into_iter().rev() {
        umount2(place, MntFlags::MNT_DETACH).with_context(|| place.display().to_string())?;
    }
    Ok(())
}

/// A control group goes when those below it are gone.
fn remove_cgroup(cgroup: &Path) -> Result<()> {
    for below in entries(cgroup)?.iter().filter(|path| path.is_dir()) {
        remove_cgroup(below)?;
    }
    fs::remove_dir(cgroup).with_context(|| cgroup.display().to_string())
}

fn named(place: &Path, prefix: &str) -> Result<Vec<PathBuf>> {
    let found = entries(place)?.into_iter();
    Ok(found.filter(|path| file_name(path).starts_with(prefix)).collect())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => {
            Ok(entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(anyhow!("{}: {error}", directory.display())),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn first(failures: Vec<anyhow::Error>) -> Result<()> {
    failures.into_iter().next().map_or(Ok(()), Err)
}
