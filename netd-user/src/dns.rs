//! Names: what containers ask netd, and what they are told.
//!
//! Laws: names come from the model as it is at the moment of the query, and from nowhere else; local
//! names are answered before anything waits; all a query leaves behind is a port, and not for long.

mod cache;
pub mod host;
pub mod names;
#[cfg(any(test, feature = "fuzzing"))]
pub mod ordeal;
pub mod policy;
mod ports;
mod ready;
pub mod reply;
mod seat;
pub mod service;
mod upstream;

#[cfg(test)]
mod tests;

pub use service::{NameService, Settings};
