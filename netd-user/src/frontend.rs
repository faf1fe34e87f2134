//! The front doors: they translate words of the outside to commands and back, and nothing more.
//!
//! Law: whatever a client sends, the answer is one clear sentence in a bounded time, and others are
//! served meanwhile.

pub mod api;
mod body;
pub mod docker;
mod error;
mod filter;
mod names;
mod network;
mod sandbox;
pub mod serve;
mod show;
pub mod socket;
mod stall;
mod system;

use std::collections::BTreeMap;

use crate::api::{Counters, MapStatus};
use crate::observe::events::Listener;

pub use api::{Api, Defaults, LogControl, SharedDefaults};
pub use error::ApiError;

/// What the dataplane tells about itself. Calls may block for milliseconds.
pub trait Telemetry: Send + Sync + 'static {
    /// Counters by endpoint index.
    fn endpoint_counters(&self) -> BTreeMap<u32, Counters>;
    /// Flows accepted, by publication slot.
    fn published_hits(&self) -> BTreeMap<u32, u64>;
    /// Fill of each map.
    fn maps(&self) -> Vec<MapStatus>;
    /// Drops by reason.
    fn drops(&self) -> BTreeMap<String, u64>;
    /// What has happened in the flow table, by event.
    fn flows(&self) -> BTreeMap<String, u64>;
    /// The Prometheus text.
    fn metrics(&self) -> Result<String, String>;
    /// One answered request of the API.
    fn count_request(&self, route: &str, status: u16, took: std::time::Duration);
    /// Drops as they happen.
    fn events(&self) -> Listener;
}

#[cfg(test)]
mod tests;
