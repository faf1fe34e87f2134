//! The harness of netd's end-to-end tests and demo: hosts that are network namespaces, daemons that
//! run in them, and real sockets that say what they saw.
//!
//! Laws: everything carries the laboratory's name and goes with it, also after a panic; what a killed
//! run left goes when the next one starts. The machine's own network namespace is never changed.
//! Nothing waits for a time to pass: it waits for a condition, with a deadline.

pub mod census;
pub mod container;
pub mod daemon;
pub mod demo;
pub mod engine;
pub mod eventually;
pub mod guard;
pub mod host;
pub mod lab;
pub mod load;
pub mod meddler;
pub mod netns;
pub mod outside;
pub mod path;
pub mod plugin;
pub mod process;
pub mod raw;
pub mod restarts;
pub mod soak;
pub mod summary;
pub mod upstream;
pub mod vm;
pub mod wire;

pub use container::Container;
pub use daemon::{Daemon, Said};
pub use engine::Engine;
pub use eventually::eventually;
pub use host::Host;
pub use lab::Lab;
pub use netns::Netns;
pub use outside::Outside;
