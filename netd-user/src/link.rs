//! Links, namespaces and host facts: the only place that speaks netlink.
//!
//! Law: a link is ours if its group is our owner tag, and only such links are changed or deleted.
//! No thread of the async runtime ever changes its namespace.

mod cache;
pub mod errand;
pub mod facts;
mod gateway;
pub mod host;
mod inside;
mod listener;
mod listing;
mod netlink;
pub mod netns;
mod record;
pub mod resolver;
mod routers;
pub mod sockets;
mod sysctl;
mod veth;
mod watch;

use std::path::PathBuf;

/// Why a link, a namespace or the look at the host failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A netlink request was refused.
    #[error("netlink: {action} {object}: {source}")]
    Netlink {
        /// What was tried.
        action: &'static str,
        /// On what.
        object: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A file of the host could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A link of that name exists and is not ours.
    #[error("a link named {0} exists and is not ours; remove or rename it")]
    Foreign(String),
    /// No link of that name.
    #[error("there is no link named {0}")]
    Missing(String),
    /// The netlink connection or a namespace thread ended early.
    #[error("netlink connection closed")]
    Closed,
}
