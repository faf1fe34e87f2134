//! The kernel side's events, as they come out of the ring buffer.

use std::fmt;
use std::io;
use std::path::Path;

use aya::maps::{Map, MapData, RingBuf};
use netd_common::map::EVENTS;
use netd_common::verdict::Event;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::DataplaneError;

/// An async reader of the ring buffer. One reader at a time: two would share the events out.
pub struct EventReader {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl fmt::Debug for EventReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReader").finish_non_exhaustive()
    }
}

impl EventReader {
    /// Opens the pinned ring buffer. Needs a runtime.
    pub(super) fn open(maps: &Path) -> Result<Self, DataplaneError> {
        let data =
            MapData::from_pin(maps.join(EVENTS.name)).map_err(|e| failed(io::Error::other(e)))?;
        let ring =
            RingBuf::try_from(Map::RingBuf(data)).map_err(|e| failed(io::Error::other(e)))?;
        // SAFETY: the ring owns its open map descriptor for as long as it lives, and nothing takes it
        // out of the `AsyncFd`.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        Ok(Self { ring: ring.map_err(|error| failed(error.into()))? })
    }

    /// Waits for the next event.
    pub async fn next(&mut self) -> Result<Event, DataplaneError> {
        loop {
            if let Some(item) = self.ring.get_mut().next()
                && item.len() >= size_of::<Event>()
            {
                return Ok(bytemuck::pod_read_unaligned(&item[..size_of::<Event>()]));
            }
            self.ring.readable_mut().await.map_err(failed)?.clear_ready();
        }
    }
}

fn failed(source: io::Error) -> DataplaneError {
    DataplaneError::Map { action: "read", map: EVENTS.name.to_owned(), source }
}
