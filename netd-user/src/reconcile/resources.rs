//! What the daemon runs out of, told before it is gone: disk, file descriptors, a writable bpffs.
//!
//! Law: looks only.

use std::fs;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::{FsFlags, statvfs};

/// What a few dozen commits and a checkpoint of the store need.
const DISK_BYTES: u64 = 1 << 20;
/// The share of the descriptors that may be in use before it is told, in percent.
const DESCRIPTORS_PERCENT: u64 = 90;

/// What is short, each a sentence with the remedy.
pub(super) fn shortages(state_dir: &Path, pins: &Path) -> Vec<String> {
    [disk(state_dir), writable("state-dir", state_dir), writable("bpffs-dir", pins), descriptors()]
        .into_iter()
        .flatten()
        .collect()
}

fn disk(state_dir: &Path) -> Option<String> {
    let found = statvfs(state_dir).ok()?;
    let free = found.blocks_available().saturating_mul(found.fragment_size());
    (free < DISK_BYTES).then(|| {
        let place = state_dir.display();
        format!("the disk of state-dir {place} is full: changes are refused until there is room")
    })
}

fn writable(key: &str, place: &Path) -> Option<String> {
    let found = statvfs(place).ok()?;
    found.flags().contains(FsFlags::ST_RDONLY).then(|| {
        let place = place.display();
        format!("{key} {place} is read-only: what is there works on; remount it to make changes")
    })
}

fn descriptors() -> Option<String> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let used = match fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries.count() as u64,
        // Not one left to look with.
        Err(_) => limit,
    };
    is_nearly_all(used, limit).then(|| {
        format!(
            "{used} of {limit} file descriptors are in use: raise the limit (LimitNOFILE= in \
             systemd) or publish fewer ports"
        )
    })
}

fn is_nearly_all(used: u64, limit: u64) -> bool {
    used.saturating_mul(100) >= limit.saturating_mul(DESCRIPTORS_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_tenths_of_the_descriptors_are_nearly_all() {
        assert!(!is_nearly_all(89, 100) && is_nearly_all(90, 100) && is_nearly_all(1, 1));
        assert!(!is_nearly_all(1000, u64::MAX), "no limit at all");
    }

    #[test]
    fn a_writable_place_with_room_lacks_nothing() {
        let place = tempfile::tempdir().expect("directory");
        assert_eq!((disk(place.path()), writable("state-dir", place.path())), (None, None));
    }
}
