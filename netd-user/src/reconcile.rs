//! The one ordered apply: makes the kernel match a `Desired`.
//!
//! Laws: stop referring, create links, write referents, refer, remove the unreferred, delete links;
//! an apply repeated writes nothing; a failed apply followed by any other ends where the other alone
//! would have ended.

pub mod effects;
mod faults;
pub mod files;
pub mod held_ports;
pub mod kernel;
mod ledger;
#[cfg(test)]
mod memory;
mod merge;
pub mod remains;
mod resolvers;
mod resources;
mod standing;
mod steps;
mod stock;
mod tables;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::dataplane::DataplaneError;
use crate::dataplane::events::EventReader;
use crate::dataplane::retire::Living;
use crate::dataplane::stats::Stats;
use crate::dataplane::sweep::Sweeper;
use crate::desired::{Desired, HeldPort, Tables};
use crate::facts::HostFacts;
use crate::link::LinkError;
use crate::link::resolver::ResolverNews;

pub use effects::{Effects, Tended};
pub use kernel::KernelEffects;

use effects::Observed;
use remains::Remains;
use stock::Stock;

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
    /// Links that were put right because something had gone inside their sandbox.
    pub repaired: usize,
    /// Generation of the configuration after it.
    pub generation: u32,
}

/// Why the kernel could not be made to match.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Another socket holds the port.
    #[error("port {}/{} on {} is in use by another process", .0.port, held_ports::name_of(.0.proto), .0.addr)]
    PortBusy(HeldPort),
    /// A hook on bind refuses it: the port is published already.
    #[error("port {}/{} on {} is published already", .0.port, held_ports::name_of(.0.proto), .0.addr)]
    PortGuarded(HeldPort),
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

/// A model as what is desired of a host.
pub trait Compile: Send + Sync {
    /// All but the tables: what is there before an index of a link is known.
    fn outline(&self, facts: &HostFacts) -> Desired;
    /// The tables.
    fn tables(&self, facts: &HostFacts) -> Tables;
    /// Whether the outline on one host is that on the other. Links of ours that were made in between
    /// should make no difference.
    fn is_same_outline(&self, one: &HostFacts, other: &HostFacts) -> bool;
    /// All of it.
    fn whole(&self, facts: &HostFacts) -> Desired {
        Desired { tables: self.tables(facts), ..self.outline(facts) }
    }
}

/// Rounds of "make links, look again, compile again" before an apply takes what it has: a desired
/// state that never settles must not hold the controller.
const MAX_ROUNDS: usize = 3;

/// Holds what is in the kernel and changes it to what is desired.
#[derive(Debug)]
pub struct Reconciler<E = KernelEffects> {
    effects: E,
    held: Observed,
    /// How far `held` is what is there.
    stock: Stock,
    /// Whether a change has been made without a new generation.
    owes_generation: bool,
    /// What counters were kept for before anything was deleted, until they have followed.
    counted: Option<Living>,
    /// Whether an earlier run may have left counters of what is gone.
    owes_retirement: bool,
    /// The host as the last compilation saw it.
    seen: Arc<HostFacts>,
    changed: usize,
    /// Links found to have lost something inside their sandbox.
    strayed: usize,
}

impl Reconciler<KernelEffects> {
    /// Loads or reopens the pinned object and reads the host. The first apply reads back what earlier
    /// runs left.
    pub async fn start(options: ReconcilerOptions) -> Result<Self, ReconcileError> {
        Ok(Self::with_effects(KernelEffects::start(options).await?))
    }

    /// A reader of the counters.
    pub fn stats(&self) -> Stats {
        self.effects.dataplane().stats()
    }

    /// The stream of kernel events. One reader at a time: two would share the events out.
    pub fn events(&self) -> Result<EventReader, ReconcileError> {
        Ok(self.effects.dataplane().events()?)
    }

    /// From now on tells which sandboxes' name queries are to be answered, and on which sockets.
    pub fn resolver_news(&mut self) -> UnboundedReceiver<ResolverNews> {
        self.effects.resolver_news()
    }

    /// Garbage collection of the flow table; the owner calls `Sweeper::sweep` periodically.
    pub fn sweeper(&self) -> Sweeper {
        self.effects.dataplane().sweeper()
    }

    /// Until when TCP in mid-stream may open flows: see `Dataplane::loose_until_s`.
    pub fn loose_until_s(&self, window_s: u32) -> Result<u32, ReconcileError> {
        Ok(self.effects.dataplane().loose_until_s(window_s)?)
    }

    /// Instructions that the verifier walked, by program.
    pub fn verified_instructions(&self) -> BTreeMap<String, u32> {
        self.effects.dataplane().verified_instructions()
    }

    /// Fires, coalesced, when links, addresses or routes of the host changed.
    pub fn watch(&self) -> Result<tokio::sync::watch::Receiver<u64>, ReconcileError> {
        self.effects.watch()
    }

    /// Removes everything of ours from the host: links, namespaces, programs, maps, settings.
    pub async fn uninstall(self) -> Result<(), ReconcileError> {
        let places = self.effects.places().clone();
        drop(self);
        Remains::of(places).await?.remove_all().await
    }
}

impl<E: Effects> Reconciler<E> {
    /// Over any kernel: the real one or a test's.
    pub fn with_effects(effects: E) -> Self {
        Self {
            effects,
            held: Observed::default(),
            stock: Stock::Open,
            owes_generation: true,
            counted: None,
            owes_retirement: true,
            seen: Arc::default(),
            changed: 0,
            strayed: 0,
        }
    }

    /// The host as it is now. Cheap: only what changed since the last look is read.
    pub async fn facts(&mut self) -> Result<Arc<HostFacts>, ReconcileError> {
        self.effects.facts().await
    }

    /// Makes the kernel match. Idempotent; after an error the next apply starts from what is there.
    pub async fn apply(&mut self, compile: &dyn Compile) -> Result<Applied, ReconcileError> {
        (self.changed, self.strayed) = (0, 0);
        let outcome = self.settle(compile).await;
        if outcome.is_err() {
            self.stock = Stock::Open;
            self.owes_generation = true;
        }
        outcome?;
        let (changed, repaired) = (self.changed, self.strayed);
        Ok(Applied { changed, repaired, generation: self.generation() })
    }

    /// The same after reading everything back, in case somebody else changed it.
    pub async fn verify(&mut self, compile: &dyn Compile) -> Result<Applied, ReconcileError> {
        self.stock = Stock::Open;
        self.held.links.clear();
        self.apply(compile).await
    }

    /// The same after reading back what can be read from the host, which is cheap.
    pub async fn patrol(&mut self, compile: &dyn Compile) -> Result<Applied, ReconcileError> {
        if self.stock == Stock::Taken {
            self.stock = Stock::HostSideOpen;
        }
        self.apply(compile).await
    }

    /// Puts back what the start has made and no desired state tells of; says what runs out.
    pub async fn tend(&mut self) -> Tended {
        self.effects.tend().await
    }

    async fn settle(&mut self, compile: &dyn Compile) -> Result<(), ReconcileError> {
        let facts = self.effects.facts().await?;
        let mut desired = compile.outline(&facts);
        self.sync(&desired, &facts).await?;
        if std::mem::take(&mut self.owes_retirement) {
            self.counted = Some(Living::of(&self.held.tables));
        }
        self.retire_broken(&desired, &facts, compile).await?;
        self.hold_ports(&desired).await?;
        self.create_namespaces(&desired).await?;
        self.open_resolvers(&desired).await?;
        self.write_files(&desired).await?;
        for _ in 0..MAX_ROUNDS {
            if !self.make_links(&desired).await? {
                break;
            }
            let before = std::mem::replace(&mut self.seen, self.effects.facts().await?);
            if !compile.is_same_outline(&before, &self.seen) {
                desired = compile.outline(&self.seen);
            }
        }
        desired.tables = compile.tables(&self.seen);
        self.write(&desired, true).await?;
        if let Some(before) = self.counted.take() {
            self.effects.retire(&before, &Living::of(&self.held.tables)).await;
        }
        self.remove(&desired).await
    }

    fn generation(&self) -> u32 {
        self.held.tables.config.get(&0).map_or(0, |config| config.generation)
    }
}

#[cfg(test)]
mod tests;
