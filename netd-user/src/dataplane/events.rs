//! The kernel side's events, as they come out of the ring buffer.

use netd_common::verdict::Event;

use super::DataplaneError;

/// An async reader of the ring buffer.
#[derive(Debug)]
pub struct EventReader {}

impl EventReader {
    /// Waits for the next event.
    pub async fn next(&mut self) -> Result<Event, DataplaneError> {
        todo!()
    }
}
