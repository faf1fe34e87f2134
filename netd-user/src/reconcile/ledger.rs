//! Namespaces that we made, remembered in the state directory: a name under `/run/netns` does not
//! tell whose it is.
//!
//! Law: an entry is written before its namespace is made and removed after it is gone.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::fault;
use crate::link::LinkError;

/// The directory, under the state directory.
pub const NAMESPACES: &str = "namespaces";

/// A directory with one symbolic link per namespace.
#[derive(Debug)]
pub(super) struct Ledger {
    dir: PathBuf,
}

impl Ledger {
    /// Under the state directory.
    pub(super) fn open(state_dir: &Path) -> Result<Self, LinkError> {
        let ledger = Self::at(state_dir);
        fs::create_dir_all(&ledger.dir).map_err(failed("create", &ledger.dir))?;
        Ok(ledger)
    }

    /// The same without making it: where there is none, it has no entries.
    pub(super) fn at(state_dir: &Path) -> Self {
        Self { dir: state_dir.join(NAMESPACES) }
    }

    /// Remembers a namespace.
    pub(super) fn add(&self, namespace: &Path) -> Result<(), LinkError> {
        match symlink(namespace, self.entry(namespace)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(failed("remember", namespace)(error))
            }
            _ => Ok(()),
        }
    }

    /// Forgets it.
    pub(super) fn remove(&self, namespace: &Path) -> Result<(), LinkError> {
        fault::point();
        match fs::remove_file(self.entry(namespace)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("forget", namespace)(error))
            }
            _ => Ok(()),
        }
    }

    /// All of them, whether they exist or not.
    pub(super) fn namespaces(&self) -> Result<Vec<PathBuf>, LinkError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("list", &self.dir)(error)),
        };
        Ok(entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect())
    }

    /// FNV-1a of the path, since the file name alone may occur in two directories.
    fn entry(&self, namespace: &Path) -> PathBuf {
        let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let bytes = namespace.as_os_str().as_bytes();
        self.dir.join(format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv)))
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LinkError {
    let path = path.to_owned();
    move |source| LinkError::File { action, path, source }
}
