//! Garbage collection of expired flows.

use super::DataplaneError;

/// Walks the flow tables shard by shard.
#[derive(Debug)]
pub struct Sweeper {}

/// What one call did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries looked at.
    pub scanned: u64,
    /// Entries removed.
    pub removed: u64,
}

impl Sweeper {
    /// Walks the next shard (blocking; milliseconds): call it every second from `spawn_blocking`.
    pub fn sweep(&mut self) -> Result<Swept, DataplaneError> {
        todo!()
    }
}
