//! The pin directory and the file system under it: one directory for each layout of the maps.
//!
//! Laws: a directory is made whole or set aside, never changed under programs that use it; what a
//! newer netd pinned is not touched.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use netd_common::map::{ABI, LAYOUT_REVISION};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::DataplaneError;

/// A link to nowhere whose target is the revision: bpffs holds no plain files.
const REVISION: &str = "revision";

/// The directories of this version's pins.
#[derive(Clone, Debug)]
pub(super) struct PinDirs {
    root: PathBuf,
    version: PathBuf,
}

/// The pins of a layout or size that is not in use any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EarlierPins {
    /// Its directory.
    pub(super) path: PathBuf,
    /// Its layout.
    pub(super) abi: u64,
}

impl PinDirs {
    /// Makes `root`, on a bpffs: one is mounted there where it lies on none. Refuses the pins of a
    /// newer netd.
    pub(super) fn prepare(root: &Path) -> Result<Self, DataplaneError> {
        mount_at(root)?;
        let dirs = Self::below(root);
        dirs.refuse_newer()?;
        Ok(dirs)
    }

    /// The directories below `root`, made or not.
    pub(super) fn below(root: &Path) -> Self {
        Self { root: root.to_owned(), version: root.join(format!("{ABI:016x}")) }
    }

    /// Makes anew what others removed: the mount, the directories of this version.
    pub(super) fn mend(&self) -> Result<(), DataplaneError> {
        mount_at(&self.root)?;
        self.make()
    }

    /// Makes the directories of this version.
    pub(super) fn make(&self) -> Result<(), DataplaneError> {
        for dir in [self.maps(), self.links()] {
            fs::create_dir_all(&dir).map_err(failed("create", &dir))?;
        }
        let mark = self.version.join(REVISION);
        match symlink(LAYOUT_REVISION.to_string(), &mark) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(failed("create", &mark)(error))
            }
            _ => Ok(()),
        }
    }

    /// Sets this version's pins aside: they become an earlier version's.
    pub(super) fn set_aside(&self) -> Result<(), DataplaneError> {
        let aside = |n: u32| self.root.join(format!("{ABI:016x}-{n}"));
        // The earlier ones go with every start that succeeds.
        let free = (1..u32::MAX).map(aside).find(|path| !path.exists());
        let path = free.unwrap_or_else(|| aside(0));
        fs::rename(&self.version, &path).map_err(failed("rename", &self.version))
    }

    /// What other layouts, and runs with other sizes, have left.
    pub(super) fn earlier(&self) -> Result<Vec<EarlierPins>, DataplaneError> {
        let mut versions = self.versions()?;
        versions.retain(|pins| pins.path != self.version);
        Ok(versions)
    }

    /// Where maps are pinned.
    pub(super) fn maps(&self) -> PathBuf {
        self.version.join("maps")
    }

    /// Where links are pinned.
    pub(super) fn links(&self) -> PathBuf {
        self.version.join("links")
    }

    /// The mark of short grace periods, whatever the version: like the setting it tells of, it is gone
    /// after a reboot.
    pub(super) fn expedited(&self) -> PathBuf {
        self.root.join("expedited")
    }

    /// Removes the empty root, and the mount where it is our own.
    pub(super) fn remove_root(&self) -> Result<(), DataplaneError> {
        // Fails where the directory lies on a bpffs of somebody else, and that is fine.
        let _ = umount2(&self.root, MntFlags::MNT_DETACH);
        fs::remove_dir(&self.root).map_err(failed("remove", &self.root))
    }

    /// The pins of every version. A fresh bpffs comes with files of the kernel's own (`maps.debug`): they are no version.
    pub(super) fn versions(&self) -> Result<Vec<EarlierPins>, DataplaneError> {
        let entries = fs::read_dir(&self.root).map_err(failed("list", &self.root))?;
        let pins = |path: PathBuf| Some(EarlierPins { abi: abi_of(&path)?, path });
        Ok(entries.flatten().filter_map(|entry| pins(entry.path())).collect())
    }

    fn refuse_newer(&self) -> Result<(), DataplaneError> {
        let found = self.versions()?.iter().map(EarlierPins::revision).max().unwrap_or(0);
        if found > LAYOUT_REVISION {
            return Err(DataplaneError::Newer { found, known: LAYOUT_REVISION });
        }
        Ok(())
    }
}

impl EarlierPins {
    /// Where its maps are pinned.
    pub(super) fn maps(&self) -> PathBuf {
        self.path.join("maps")
    }

    /// Where its links are pinned.
    pub(super) fn links(&self) -> PathBuf {
        self.path.join("links")
    }

    /// Removes its pins.
    pub(super) fn remove(&self) -> Result<(), DataplaneError> {
        fs::remove_dir_all(&self.path).map_err(failed("remove", &self.path))
    }

    /// Its place in the order of layouts; 0 where no mark tells.
    fn revision(&self) -> u32 {
        let mark = fs::read_link(self.path.join(REVISION)).unwrap_or_default();
        mark.to_str().and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// The layout that a directory is named after: `ABI`, or `ABI-N` for one set aside.
fn abi_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let (abi, number) = name.split_once('-').unwrap_or((name, "0"));
    number.parse::<u32>().ok()?;
    (abi.len() == 16).then(|| u64::from_str_radix(abi, 16).ok()).flatten()
}

/// Makes `root`, on a bpffs: one is mounted there where it lies on none.
fn mount_at(root: &Path) -> Result<(), DataplaneError> {
    fs::create_dir_all(root).map_err(failed("create", root))?;
    let kind = statfs(root).map_err(|e| failed("inspect", root)(e.into()))?;
    if kind.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    mount(Some("bpf"), root, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .map_err(|e| failed("mount bpffs at", root)(e.into()))
}

/// Adds what was tried, and where, to an error of the file system.
pub(super) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> DataplaneError + 'a {
    move |source| DataplaneError::Pin { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_from_the_kernels_files_and_numbered_when_set_aside() {
        let root = tempfile::tempdir().expect("a directory");
        let dirs = PinDirs::below(root.path());
        for other in ["maps.debug", "expedited", "00000000000000ff", "00000000000000fg"] {
            fs::create_dir(root.path().join(other)).expect("a directory");
        }
        for _ in 0..2 {
            dirs.make().expect("made");
            dirs.set_aside().expect("set aside");
        }
        dirs.make().expect("made");
        let mut abis: Vec<u64> =
            dirs.earlier().expect("a list").iter().map(|pins| pins.abi).collect();
        abis.sort_unstable();
        let mut expected = [0xff, ABI, ABI];
        expected.sort_unstable();
        assert_eq!(abis, expected);
    }

    #[test]
    fn only_a_higher_revision_is_refused() {
        let root = tempfile::tempdir().expect("a directory");
        let dirs = PinDirs::below(root.path());
        dirs.make().expect("made");
        dirs.make().expect("made again");
        let other = root.path().join("00000000000000ff");
        fs::create_dir(&other).expect("a directory");
        dirs.refuse_newer().expect("one without a mark is older");
        symlink((LAYOUT_REVISION + 1).to_string(), other.join(REVISION)).expect("a mark");
        let refused = dirs.refuse_newer().expect_err("a newer one").to_string();
        assert!(refused.contains("newer netd"), "{refused}");
    }
}
