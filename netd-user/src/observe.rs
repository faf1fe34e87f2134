//! What users see of a running host: metrics and events.

pub mod events;
pub mod metrics;
pub mod time;
