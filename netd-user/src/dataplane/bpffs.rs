//! The pin directory and the file system under it.

use std::fs;
use std::path::{Path, PathBuf};

use netd_common::map::ABI;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::DataplaneError;

/// The directories of this version's pins.
#[derive(Clone, Debug)]
pub(super) struct PinDirs {
    root: PathBuf,
    version: PathBuf,
}

impl PinDirs {
    /// Makes them, on a bpffs: one is mounted at `root` where it lies on none.
    pub(super) fn prepare(root: &Path) -> Result<Self, DataplaneError> {
        fs::create_dir_all(root).map_err(failed("create", root))?;
        let kind = statfs(root).map_err(|e| failed("inspect", root)(e.into()))?;
        if kind.filesystem_type() != BPF_FS_MAGIC {
            mount(Some("bpf"), root, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
                .map_err(|e| failed("mount bpffs at", root)(e.into()))?;
        }
        let dirs = Self { root: root.to_owned(), version: root.join(format!("{ABI:016x}")) };
        for dir in [dirs.maps(), dirs.links()] {
            fs::create_dir_all(&dir).map_err(failed("create", &dir))?;
        }
        Ok(dirs)
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

    /// Removes the pins of every version, and the mount where it is our own.
    pub(super) fn remove(&self) -> Result<(), DataplaneError> {
        for entry in fs::read_dir(&self.root).map_err(failed("list", &self.root))?.flatten() {
            let path = entry.path();
            // A fresh bpffs comes with files of the kernel's own (`maps.debug`).
            if is_version(&path) {
                fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
            }
        }
        // Fails where the directory lies on a bpffs of somebody else, and that is fine.
        let _ = umount2(&self.root, MntFlags::MNT_DETACH);
        fs::remove_dir(&self.root).map_err(failed("remove", &self.root))
    }
}

/// Whether a directory is named like an ABI.
fn is_version(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Adds what was tried, and where, to an error of the file system.
pub(super) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> DataplaneError + 'a {
    move |source| DataplaneError::Pin { action, path: path.to_owned(), source }
}
