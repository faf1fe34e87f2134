//! The one ordered apply: makes the kernel match a `Desired`.
//!
//! Laws: stop referring, create links, write referents, refer, remove the unreferred, delete links;
//! an apply repeated writes nothing; a failed apply followed by any other ends where the other alone
//! would have ended.

pub mod effects;
pub mod held_ports;
pub mod kernel;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::dataplane::events::EventReader;
use crate::dataplane::stats::Stats;
use crate::dataplane::sweep::Sweeper;
use crate::dataplane::DataplaneError;
use crate::desired::{Desired, HeldPort};
use crate::facts::HostFacts;
use crate::link::LinkError;

pub use effects::Effects;
pub use kernel::KernelEffects;

/// Where a daemon keeps what it has in the kernel, and how large.
#[derive(Clone, Debug)]
pub struct ReconcilerOptions {
    /// Directory of pins (`bpffs-dir`); bpffs is mounted there where it lies on none.
    pub bpffs_dir: PathBuf,
    /// State directory: remembers changed host settings, and names the owner of links.
    pub state_dir: PathBuf,
    /// Root of the cgroup v2 hierarchy whose sockets are translated; none leaves them alone.
    pub cgroup: Option<PathBuf>,
    /// The kernel object (ELF).
    pub object: Cow<'static, [u8]>,
    /// Capacities by map name where they differ from the default.
    pub capacities: BTreeMap<String, u32>,
    /// Masquerade ports, first and last: reserved on the host.
    pub snat_ports: (u16, u16),
    /// The host's resolv.conf, source of name servers.
    pub resolv_conf: PathBuf,
}

/// What an apply did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Writes to the kernel: links, namespaces, programs, batches of entries, ports.
    pub changed: usize,
    /// Generation of the configuration after it.
    pub generation: u32,
}

/// Why the kernel could not be made to match.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Another socket holds the port.
    #[error("port {}/{} on {} is in use by another process", .0.port, held_ports::name_of(.0.proto), .0.addr)]
    PortBusy(HeldPort),
    /// No interface of the host has the address.
    #[error("address {} is not on this host: port {}/{} can't be bound", .0.addr, .0.port, held_ports::name_of(.0.proto))]
    AddressNotAvailable(HeldPort),
    /// The host refuses the socket for another reason.
    #[error("port {}/{} on {} can't be bound: {source}", port.port, held_ports::name_of(port.proto), port.addr)]
    Port {
        /// What was asked for.
        port: HeldPort,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// Links, addresses, routes, namespaces.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Maps and programs.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// A fault asked for by a test.
    #[error("injected fault at effect {0}")]
    Injected(usize),
}

/// Holds what is in the kernel and changes it to what is desired.
#[derive(Debug)]
pub struct Reconciler<E = KernelEffects> {
    effects: E,
}

impl Reconciler<KernelEffects> {
    /// Loads or reopens the pinned object and reads back what earlier runs left in the kernel.
    pub async fn start(options: ReconcilerOptions) -> Result<Self, ReconcileError> {
        todo!()
    }

    /// A reader of the counters.
    pub fn stats(&self) -> Stats {
        todo!()
    }

    /// The stream of kernel events. One reader at a time gets each event.
    pub fn events(&self) -> Result<EventReader, ReconcileError> {
        todo!()
    }

    /// Garbage collection of the flow table; the owner calls `Sweeper::sweep` periodically.
    pub fn sweeper(&self) -> Sweeper {
        todo!()
    }

    /// Fires, coalesced, when links, addresses or routes of the host changed.
    pub fn watch(&self) -> Result<tokio::sync::watch::Receiver<u64>, ReconcileError> {
        todo!()
    }

    /// Removes everything of ours from the host: links, namespaces, programs, maps, settings.
    pub async fn uninstall(self) -> Result<(), ReconcileError> {
        todo!()
    }
}

impl<E: Effects> Reconciler<E> {
    /// Over any kernel: the real one or a test's.
    pub fn with_effects(effects: E) -> Self {
        Self { effects }
    }

    /// The host as it is now. Cheap: only what changed since the last look is read.
    pub async fn facts(&mut self) -> Result<HostFacts, ReconcileError> {
        todo!()
    }

    /// Makes the kernel match. Idempotent; on an error the next apply starts from what is there.
    pub async fn apply(
        &mut self,
        compile: &(dyn Fn(&HostFacts) -> Desired + Send + Sync),
    ) -> Result<Applied, ReconcileError> {
        todo!()
    }

    /// The same after reading everything back, in case somebody else changed it.
    pub async fn verify(
        &mut self,
        compile: &(dyn Fn(&HostFacts) -> Desired + Send + Sync),
    ) -> Result<Applied, ReconcileError> {
        todo!()
    }
}
