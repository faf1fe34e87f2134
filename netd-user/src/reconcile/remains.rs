//! What of ours is on a host that no daemon serves, and its removal.
//!
//! Laws: a look changes nothing; what is removed is what the look has shown; one thing that resists
//! keeps no other.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::ledger::Ledger;
use super::{ReconcileError, files};
use crate::dataplane::remains::{self as pins, Pinned};
use crate::desired::Desired;
use crate::link::host::{HostLinks, owner_tag};
use crate::link::{facts, netns};
use crate::model::LinkName;

pub use super::ledger::NAMESPACES;

/// Where a daemon had its things.
#[derive(Clone, Debug)]
pub struct Places {
    /// Directory of pins.
    pub bpffs_dir: PathBuf,
    /// State directory: tells the owner of links, and remembers namespaces and settings.
    pub state_dir: PathBuf,
}

/// One thing of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remnant {
    /// A link of the host.
    Link(LinkName),
    /// A namespace that we made.
    Namespace(PathBuf),
    /// The files that sandboxes had to themselves, in this directory.
    Files(PathBuf),
    /// Programs and maps.
    Pinned(Pinned),
    /// Ports that we added to `ip_local_reserved_ports`, as the kernel writes them.
    ReservedPorts(String),
}

impl fmt::Display for Remnant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(name) => write!(f, "link {name}, with its addresses and settings"),
            Self::Namespace(path) => write!(f, "network namespace {}", path.display()),
            Self::Files(path) => write!(f, "files of sandboxes in {}", path.display()),
            Self::Pinned(pinned) => pinned.fmt(f),
            Self::ReservedPorts(ports) if ports.is_empty() => {
                f.write_str("the note that all masquerade ports were reserved before")
            }
            Self::ReservedPorts(ports) => {
                write!(f, "ports {ports} in net.ipv4.ip_local_reserved_ports")
            }
        }
    }
}

/// A host that no daemon serves.
#[derive(Debug)]
pub struct Remains {
    places: Places,
    links: HostLinks,
    ledger: Ledger,
}

impl Remains {
    /// Looks at the host.
    pub async fn of(places: Places) -> Result<Self, ReconcileError> {
        let no_resolver = PathBuf::from("/dev/null");
        let links = HostLinks::start(owner_tag(&places.state_dir), no_resolver).await?;
        Ok(Self { links, ledger: Ledger::at(&places.state_dir), places })
    }

    /// What is there, in the order it is to be removed: who sends first, who decides last.
    pub async fn look(&mut self) -> Result<Vec<Remnant>, ReconcileError> {
        let ours = self.links.observe(&Desired::default(), &BTreeMap::new()).await?;
        let mut found: Vec<Remnant> = ours.into_keys().map(Remnant::Link).collect();
        let namespaces = self.ledger.namespaces()?;
        found.extend(namespaces.into_iter().map(Remnant::Namespace));
        let files = self.places.state_dir.join(files::FILES);
        found.extend(files.exists().then_some(Remnant::Files(files)));
        let pinned = pins::pinned(&self.places.bpffs_dir)?;
        found.extend(pinned.into_iter().map(Remnant::Pinned));
        let ports = facts::added_ports(&self.places.state_dir)?;
        found.extend(ports.map(Remnant::ReservedPorts));
        Ok(found)
    }

    /// Removes one thing; one that is gone already is no error.
    pub async fn remove(&mut self, remnant: &Remnant) -> Result<(), ReconcileError> {
        match remnant {
            Remnant::Link(name) => Ok(self.links.delete(name).await?),
            Remnant::Namespace(path) => {
                netns::delete(path)?;
                Ok(self.ledger.remove(path)?)
            }
            Remnant::Files(_) => Ok(files::remove_every(&self.places.state_dir)?),
            Remnant::Pinned(pinned) => Ok(pins::remove(pinned)?),
            Remnant::ReservedPorts(_) => Ok(facts::restore_ports(&self.places.state_dir)?),
        }
    }

    /// Removes everything; goes on past errors and tells the first.
    pub async fn remove_all(&mut self) -> Result<(), ReconcileError> {
        let mut first = Ok(());
        for remnant in self.look().await? {
            first = first.and(self.remove(&remnant).await);
        }
        first
    }
}
