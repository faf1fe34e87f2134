//! Named network namespaces.
//!
//! Law: only threads made for it enter a namespace, and they end there.

use std::path::Path;

use super::LinkError;

/// Creates a namespace and mounts it at `path`; its parent directory is made where it is missing.
pub fn create(path: &Path) -> Result<(), LinkError> {
    todo!()
}

/// Unmounts and removes `path`. One that is gone already is no error.
pub fn delete(path: &Path) -> Result<(), LinkError> {
    todo!()
}

/// Whether a namespace is mounted at `path`.
pub fn exists(path: &Path) -> bool {
    todo!()
}

/// Runs `work` in the namespace at `path`, on a thread of its own. Blocks the caller.
pub fn run_in<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LinkError> {
    todo!()
}
