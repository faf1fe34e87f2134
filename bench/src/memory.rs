//! Memory: the daemon's, and that of its maps, by endpoint, flow and port.
//!
//! Law: maps are preallocated, so what an entry costs is what the kernel charged for the map, shared
//! among all entries that it has room for.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use aya::maps::MapData;

use crate::results::{Case, Section};
use crate::rig::{Daemon, NETD};
use crate::session::Session;
use crate::statistics::Better;
use crate::units::real;

const MEBIBYTE: f64 = 1_048_576.0;

/// The name under which the kernel's own flow table is shown.
const CONNTRACK: &str = "conntrack";

/// What the kernel says of a map.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Charge {
    bytes: f64,
    entries: f64,
}

/// Tables that a thing has entries in, and how many.
const KEPT: [(&str, &[(&str, f64)]); 3] = [
    ("a flow", &[("flows_v4", 2.0)]),
    ("a published port", &[("published_v4", 1.0)]),
    (
        "an endpoint",
        &[
            ("endpoints", 1.0),
            ("stations", 1.0),
            ("members", 1.0),
            ("addresses_v4", 1.0),
            ("counters", 1.0),
        ],
    ),
];

/// The daemon's resident memory.
pub(crate) fn resident(session: &mut Session, daemon: &Daemon, when: &str) -> Result<f64> {
    let bytes = real(daemon.memory_bytes("VmRSS:")?);
    note(session, ("Daemon RSS", when, "MiB"), bytes / MEBIBYTE);
    Ok(bytes)
}

/// The most that the daemon held while something was done.
pub(crate) fn peak(
    session: &mut Session,
    daemon: &Daemon,
    when: &str,
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    daemon.forget_peak()?;
    work()?;
    let bytes = real(daemon.memory_bytes("VmHWM:")?);
    note(session, ("Daemon RSS", when, "MiB"), bytes / MEBIBYTE);
    Ok(())
}

/// What each of many things added to the daemon.
pub(crate) fn each(session: &mut Session, what: &str, (before, after): (f64, f64), count: u32) {
    let bytes = (after - before).max(0.0) / real(count.into());
    note(session, ("Memory of the daemon by", what, "bytes"), bytes);
}

/// What the kernel keeps for it.
pub(crate) fn maps(session: &mut Session, daemon: &Daemon) -> Result<()> {
    let mut charges = BTreeMap::new();
    read(daemon.bpffs().as_path(), &mut charges)?;
    ensure!(!charges.is_empty(), "the daemon has pinned no maps");
    let all: f64 = charges.values().map(|charge: &Charge| charge.bytes).sum();
    note(session, ("Kernel memory", "all maps", "MiB"), all / MEBIBYTE);
    for (what, tables) in KEPT {
        let mut bytes = 0.0;
        for (table, entries) in tables {
            let charge = charges.get(*table).with_context(|| format!("no map {table}"))?;
            bytes += entries * charge.bytes / charge.entries;
        }
        let mut case = case("Kernel memory", what, "bytes");
        case.rigs.insert(NETD.to_owned(), [(0, bytes)].into());
        if what == "a flow" {
            let theirs = fs::read_to_string("/proc/slabinfo").ok().as_deref().and_then(conntrack);
            case.rigs.extend(theirs.map(|size| (CONNTRACK.to_owned(), [(0, size)].into())));
        }
        session.finish(vec![case]);
    }
    Ok(())
}

fn note(session: &mut Session, (group, title, unit): (&str, &str, &str), value: f64) {
    let mut case = case(group, title, unit);
    case.rigs.insert(NETD.to_owned(), [(0, value)].into());
    session.finish(vec![case]);
}

fn case(group: &str, title: &str, unit: &str) -> Case {
    Case::new(Section::Resources, group, title, unit, Better::Lower)
}

/// All maps pinned below a directory.
fn read(directory: &Path, charges: &mut BTreeMap<String, Charge>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            read(&path, charges)?;
        } else if let Ok(map) = MapData::from_pin(&path) {
            let info = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
            // Links open as maps do, but have no entries.
            let Some(charge) = charge(&fs::read_to_string(info)?) else { continue };
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            charges.insert(name, charge);
        }
    }
    Ok(())
}

fn charge(info: &str) -> Option<Charge> {
    let field = |name| {
        let line = info.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok().map(real)
    };
    Some(Charge { bytes: field("memlock:")?, entries: field("max_entries:")? })
}

/// Bytes that the kernel's connection tracking takes for a flow.
fn conntrack(slabinfo: &str) -> Option<f64> {
    let line = slabinfo.lines().find(|line| line.starts_with("nf_conntrack "))?;
    line.split_whitespace().nth(3)?.parse::<u64>().ok().map(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_charged_as_its_descriptor_says() {
        let info = "pos:\t0\nmap_type:\t1\nmax_entries:\t64\nmemlock:\t6400\nmap_id:\t3\n";
        assert_eq!(charge(info), Some(Charge { bytes: 6_400.0, entries: 64.0 }));
        assert_eq!(charge("pos:\t0\n"), None);
    }

    #[test]
    fn the_size_of_a_tracked_connection_is_that_of_its_slab_object() {
        let slabs = "# name <active_objs> <num_objs> <objsize>\nnf_conntrack 12 24 256 16 1\n";
        assert_eq!(conntrack(slabs), Some(256.0));
    }
}
