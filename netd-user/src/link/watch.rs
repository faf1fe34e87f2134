//! Tells that the host changed.

use super::LinkError;

/// Fires, coalesced, when links (but those of `owner`), addresses or routes changed. The number only
/// grows. Ends when the receiver is dropped.
pub fn watch(owner: u32) -> Result<tokio::sync::watch::Receiver<u64>, LinkError> {
    todo!()
}
