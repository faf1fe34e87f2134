//! What a run could leave behind, one line for each kind and name, with the number of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::lab::{PREFIX, things_named};

/// Everything counted: by kind and name.
pub fn census() -> Result<BTreeMap<String, usize>> {
    let mut counted = BTreeMap::new();
    let items = [programs()?, maps()?, links()?, pins()?, interfaces()?, processes()?, named()?];
    for item in items.into_iter().flatten() {
        *counted.entry(item).or_default() += 1;
    }
    counted.insert("network namespace".to_owned(), namespaces()?);
    Ok(counted)
}

fn programs() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for program in aya::programs::loaded_programs() {
        let program = ignore_vanished(program.context("listing bpf programs"))?;
        found.extend(program.map(|it| format!("bpf program {}", it.name_as_str().unwrap_or("?"))));
    }
    Ok(found)
}

fn maps() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for map in aya::maps::loaded_maps() {
        let map = ignore_vanished(map.context("listing bpf maps"))?;
        found.extend(map.map(|it| format!("bpf map {}", it.name_as_str().unwrap_or("?"))));
    }
    Ok(found)
}

fn links() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for link in aya::programs::loaded_links() {
        let link = ignore_vanished(link.context("listing bpf links"))?;
        found.extend(link.map(|it| format!("bpf link {:?}", it.link_type())));
    }
    Ok(found)
}

/// A thing that goes between being listed and being looked at is no thing.
fn ignore_vanished<T>(looked_up: Result<T>) -> Result<Option<T>> {
    let vanished = |error: &anyhow::Error| {
        error.chain().any(|cause| {
            let cause = cause.downcast_ref::<std::io::Error>();
            cause.is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        })
    };
    match looked_up {
        Ok(found) => Ok(Some(found)),
        Err(error) if vanished(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Pins in the file systems that are mounted.
fn pins() -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let places = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let place = words.next()?;
        (words.next()? == "bpf").then(|| PathBuf::from(place))
    });
    let mut found = Vec::new();
    for place in places {
        walk(&place, &mut found)?;
    }
    Ok(found.into_iter().map(|path| format!("bpf pin {}", path.display())).collect())
}

fn walk(place: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(place).with_context(|| place.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), found)?;
        }
        found.push(entry.path());
    }
    Ok(())
}

/// Links of the machine's own namespace.
fn interfaces() -> Result<Vec<String>> {
    let entries = fs::read_dir("/sys/class/net")?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.map(|name: Result<String>| Ok(format!("link {}", name?))).collect()
}

fn processes() -> Result<Vec<String>> {
    let programs = process_directories()?.into_iter().filter_map(|directory| {
        let program = fs::read_link(directory.join("exe")).ok()?;
        let name = program.file_name()?.to_string_lossy().into_owned();
        let name = name.trim_end_matches(" (deleted)").to_owned();
        matches!(name.as_str(), "netd" | "netd-next" | "wire").then_some(name)
    });
    Ok(programs.map(|name| format!("process {name}")).collect())
}

/// Files, namespaces and control groups that carry the harness's name.
fn named() -> Result<Vec<String>> {
    Ok(things_named(PREFIX)?.iter().map(|path| path.display().to_string()).collect())
}

/// Those that processes are in, and those that are mounted.
fn namespaces() -> Result<usize> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mounted = mounts.lines().filter_map(|line| {
        let root = line.split(' ').nth(3)?;
        root.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
    });
    let entered = process_directories()?
        .into_iter()
        .filter_map(|directory| Some(fs::metadata(directory.join("ns/net")).ok()?.ino()));
    Ok(mounted.chain(entered).collect::<BTreeSet<u64>>().len())
}

fn process_directories() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir("/proc")?.filter_map(|entry| Some(entry.ok()?.path()));
    let is_process = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.bytes().all(|byte| byte.is_ascii_digit())
    };
    Ok(entries.filter(is_process).collect())
}
