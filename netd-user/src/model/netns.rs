//! The path of a network namespace, as the model and what is compiled from it share it.
//!
//! Law: compared byte by byte and not part by part: every apply compares all that there are.

use std::cmp::Ordering;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Path of a network namespace; a clone shares it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "PathBuf", into = "PathBuf")]
pub struct NetnsPath(Arc<Path>);

impl From<PathBuf> for NetnsPath {
    fn from(path: PathBuf) -> Self {
        Self(path.into())
    }
}

impl From<&Path> for NetnsPath {
    fn from(path: &Path) -> Self {
        Self(path.into())
    }
}

impl From<NetnsPath> for PathBuf {
    fn from(path: NetnsPath) -> Self {
        path.0.to_path_buf()
    }
}

impl Deref for NetnsPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for NetnsPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl PartialEq for NetnsPath {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for NetnsPath {}

impl PartialOrd for NetnsPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NetnsPath {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        self.0.as_os_str().cmp(other.0.as_os_str())
    }
}
