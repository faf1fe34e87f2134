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
pub mod remains;
mod resolvers;
mod resources;
mod standing;
mod tables;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytemuck::bytes_of;
use netd_common::Hook;
use netd_common::map::CONFIG;
use netd_common::map::config::Config;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::dataplane::DataplaneError;
use crate::dataplane::events::EventReader;
use crate::dataplane::stats::Stats;
use crate::dataplane::sweep::Sweeper;
use crate::desired::{Desired, HeldPort, Link};
use crate::facts::HostFacts;
use crate::link::LinkError;
use crate::link::resolver::ResolverNews;
use crate::link::watch;

pub use effects::{Effects, Tended};
pub use kernel::KernelEffects;

use effects::{Entries, Observed};
use remains::Remains;
use tables::{Plan, Write};

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

/// Compiles the desired state for a host.
pub type Compile<'a> = &'a (dyn Fn(&HostFacts) -> Desired + Send + Sync);

/// Rounds of "make links, look again, compile again" before an apply takes what it has: a desired
/// state that never settles must not hold the controller.
const MAX_ROUNDS: usize = 3;

/// How far it is known what is in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stock {
    /// As held, but for links that the host tells are gone.
    Taken,
    /// Others may have changed what can be seen from the host; what is inside sandboxes stands.
    HostSideOpen,
    /// An error has left it open.
    Open,
}

/// Holds what is in the kernel and changes it to what is desired.
#[derive(Debug)]
pub struct Reconciler<E = KernelEffects> {
    effects: E,
    held: Observed,
    /// How far `held` is what is there.
    stock: Stock,
    /// Whether a change has been made without a new generation.
    owes_generation: bool,
    /// The host as the last compilation saw it.
    seen: Arc<HostFacts>,
    changed: usize,
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
        Ok(watch::watch(self.effects.owner())?)
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
            seen: Arc::default(),
            changed: 0,
        }
    }

    /// The host as it is now. Cheap: only what changed since the last look is read.
    pub async fn facts(&mut self) -> Result<Arc<HostFacts>, ReconcileError> {
        self.effects.facts().await
    }

    /// Makes the kernel match. Idempotent; after an error the next apply starts from what is there.
    pub async fn apply(&mut self, compile: Compile<'_>) -> Result<Applied, ReconcileError> {
        self.changed = 0;
        let outcome = self.settle(compile).await;
        if outcome.is_err() {
            self.stock = Stock::Open;
            self.owes_generation = true;
        }
        outcome?;
        Ok(Applied { changed: self.changed, generation: self.generation() })
    }

    /// The same after reading everything back, in case somebody else changed it.
    pub async fn verify(&mut self, compile: Compile<'_>) -> Result<Applied, ReconcileError> {
        self.stock = Stock::Open;
        self.held.links.clear();
        self.apply(compile).await
    }

    /// The same after reading back what can be read from the host, which is cheap.
    pub async fn patrol(&mut self, compile: Compile<'_>) -> Result<Applied, ReconcileError> {
        if self.stock == Stock::Taken {
            self.stock = Stock::HostSideOpen;
        }
        self.apply(compile).await
    }

    /// Puts back what the start has made and no desired state tells of; says what runs out.
    pub async fn tend(&mut self) -> Tended {
        self.effects.tend().await
    }

    async fn settle(&mut self, compile: Compile<'_>) -> Result<(), ReconcileError> {
        let facts = self.effects.facts().await?;
        let mut desired = compile(&facts);
        self.sync(&desired, &facts).await?;
        self.retire_broken(&desired, &facts, compile).await?;
        self.hold_ports(&desired).await?;
        self.create_namespaces(&desired).await?;
        self.open_resolvers(&desired).await?;
        self.write_files(&desired).await?;
        for _ in 0..MAX_ROUNDS {
            if !self.make_links(&desired).await? {
                break;
            }
            self.seen = self.effects.facts().await?;
            desired = compile(&self.seen);
        }
        self.write(&desired, true).await?;
        self.remove(&desired).await
    }

    /// Takes stock where an error or another's hand has left it open what is there.
    async fn sync(
        &mut self,
        desired: &Desired,
        facts: &Arc<HostFacts>,
    ) -> Result<(), ReconcileError> {
        match self.stock {
            Stock::Taken => self.forget_gone(facts),
            Stock::HostSideOpen => {
                self.forget_gone(facts);
                self.held.links.retain(|_, link| matches!(link, Some(Link::Veth(_))));
                self.take_stock(desired).await?;
            }
            Stock::Open => self.take_stock(desired).await?,
        }
        self.seen = Arc::clone(facts);
        Ok(())
    }

    /// Reads back; the inside of links that are still held is trusted.
    async fn take_stock(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        let known = std::mem::take(&mut self.held.links);
        let trusted = known.into_iter().filter_map(|(name, link)| Some((name, link?)));
        self.held = self.effects.observe(desired, &trusted.collect()).await?;
        self.stock = Stock::Taken;
        Ok(())
    }

    /// Links that others deleted, replaced or took down.
    fn forget_gone(&mut self, facts: &HostFacts) {
        let standing = || standing::Links::between(&self.seen, facts);
        let (mut links, mut programs, mut up) = (standing(), standing(), standing());
        self.held.links.retain(|name, _| links.find(name).is_some());
        self.held.programs.retain(|(name, _)| programs.find(name).is_some());
        self.held.up.retain(|name| up.find(name).is_some_and(|link| link.up));
    }

    /// Links that can't be changed into what is desired go first, with all that refers to them.
    async fn retire_broken(
        &mut self,
        desired: &Desired,
        facts: &HostFacts,
        compile: Compile<'_>,
    ) -> Result<(), ReconcileError> {
        let is_broken = |(name, held): &(&String, &Option<Link>)| {
            desired.links.get(*name).is_some_and(|link| !can_change(held.as_ref(), link))
        };
        let broken: BTreeSet<String> =
            self.held.links.iter().filter(is_broken).map(|(name, _)| name.clone()).collect();
        if broken.is_empty() {
            return Ok(());
        }
        let mut without = facts.clone();
        without.links.retain(|name, _| !broken.contains(name));
        let mut interim = compile(&without);
        interim.links.retain(|name, _| !broken.contains(name));
        interim.programs.retain(|(name, _)| !broken.contains(name));
        self.write(&interim, false).await?;
        for name in &broken {
            self.remove_link(name).await?;
        }
        Ok(())
    }

    async fn hold_ports(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        let missing = desired.held_ports.difference(&self.held.held_ports);
        for port in missing.copied().collect::<Vec<_>>() {
            self.effects.hold(port).await?;
            self.held.held_ports.insert(port);
            self.changed += 1;
        }
        Ok(())
    }

    async fn create_namespaces(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        let missing = desired.namespaces.difference(&self.held.namespaces);
        for path in missing.cloned().collect::<Vec<_>>() {
            self.effects.create_namespace(&path).await?;
            self.held.namespaces.insert(path);
            self.changed += 1;
        }
        Ok(())
    }

    async fn open_resolvers(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        for (sandbox, netns) in &desired.resolvers {
            if !self.held.resolvers.contains(sandbox) {
                self.effects.open_resolver(*sandbox, netns).await?;
                self.held.resolvers.insert(*sandbox);
                self.changed += 1;
            }
        }
        Ok(())
    }

    async fn close_resolvers(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        let held = self.held.resolvers.iter();
        let unwanted = held.filter(|sandbox| !desired.resolvers.contains_key(sandbox));
        for sandbox in unwanted.copied().collect::<Vec<_>>() {
            self.effects.close_resolver(sandbox).await?;
            self.held.resolvers.remove(&sandbox);
            self.changed += 1;
        }
        self.effects.sweep_resolvers().await
    }

    async fn write_files(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        for (sandbox, files) in &desired.files {
            if self.held.files.get(sandbox).and_then(Option::as_ref) != Some(files) {
                self.effects.write_files(files).await?;
                self.held.files.insert(*sandbox, Some(files.clone()));
                self.changed += 1;
            }
        }
        Ok(())
    }

    async fn remove_files(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        let held = self.held.files.keys();
        let unwanted = held.filter(|sandbox| !desired.files.contains_key(sandbox));
        for sandbox in unwanted.copied().collect::<Vec<_>>() {
            self.effects.remove_files(sandbox).await?;
            self.held.files.remove(&sandbox);
            self.changed += 1;
        }
        Ok(())
    }

    /// Creates and changes links; whether it did anything.
    async fn make_links(&mut self, desired: &Desired) -> Result<bool, ReconcileError> {
        let before = self.changed;
        for (name, link) in &desired.links {
            if self.held.links.get(name).and_then(Option::as_ref) == Some(link) {
                continue;
            }
            // Taken out until it is known how it went: after an error it is looked at anew.
            match self.held.links.remove(name).flatten() {
                Some(held) => self.effects.change_link(name, &held, link).await?,
                None => self.effects.create_link(name, link).await?,
            }
            self.held.links.insert(name.clone(), Some(link.clone()));
            self.changed += 1;
        }
        Ok(self.changed > before)
    }

    /// Tables, and with `raise` programs and links up, published ports last.
    async fn write(&mut self, desired: &Desired, raise: bool) -> Result<(), ReconcileError> {
        let mut plan = Plan::new(&desired.tables, &self.held.tables);
        let stales_flows = !plan.is_empty() || self.owes_generation;
        // Programs that are about to be attached read it.
        self.write_config(&desired.tables.config, false).await?;
        self.write_entries(plan.puts).await?;
        if raise && self.held.heritage {
            self.write_entries(std::mem::take(&mut plan.publish)).await?;
            self.inherit().await?;
        }
        if raise {
            self.attach_programs(desired).await?;
            self.raise_links(desired).await?;
        }
        self.write_entries(plan.publish).await?;
        let gone = tables::addresses_gone(&desired.tables, &self.held.tables);
        for write in plan.deletes {
            tracing::debug!(map = write.map.name, entries = write.entries.count, "deleting");
            self.effects.delete(write.map, &write.entries).await?;
            (write.adopt)(&mut self.held.tables);
            self.changed += 1;
        }
        self.write_config(&desired.tables.config, stales_flows).await?;
        if !gone.is_empty() {
            self.effects.end_sockets(gone).await;
        }
        self.owes_generation = false;
        Ok(())
    }

    async fn write_entries(&mut self, writes: Vec<Write>) -> Result<(), ReconcileError> {
        for write in writes {
            tracing::debug!(map = write.map.name, entries = write.entries.count, "writing");
            self.effects.put(write.map, &write.entries).await?;
            (write.adopt)(&mut self.held.tables);
            self.changed += 1;
        }
        Ok(())
    }

    /// Writes the configuration if it differs, or if flows have to be decided anew.
    async fn write_config(
        &mut self,
        desired: &BTreeMap<u32, Config>,
        stales_flows: bool,
    ) -> Result<(), ReconcileError> {
        for (slot, config) in desired {
            let held = self.held.tables.config.get(slot).copied().unwrap_or_default();
            let same = Config { generation: held.generation, ..*config } == held;
            if same && !stales_flows {
                continue;
            }
            // 0 is the generation of a flow that was never decided.
            let generation = held.generation.wrapping_add(1).max(1);
            let config = Config { generation, ..*config };
            tracing::debug!(generation, "flows are decided anew");
            let entries = Entries {
                keys: bytes_of(slot).to_vec(),
                values: bytes_of(&config).to_vec(),
                count: 1,
            };
            self.effects.put(CONFIG, &entries).await?;
            self.held.tables.config.insert(*slot, config);
            self.changed += 1;
        }
        Ok(())
    }

    /// An earlier layout's programs serve until all is there that ours will look for.
    async fn inherit(&mut self) -> Result<(), ReconcileError> {
        let programs = self.effects.inherit().await?;
        self.held.programs.extend(programs);
        self.held.heritage = false;
        self.changed += 1;
        Ok(())
    }

    async fn attach_programs(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        let missing = desired.programs.difference(&self.held.programs);
        for (link, hook) in missing.cloned().collect::<Vec<_>>() {
            self.effects.attach(&link, hook).await?;
            self.held.programs.insert((link, hook));
            self.changed += 1;
        }
        Ok(())
    }

    async fn raise_links(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        for name in desired.links.keys() {
            if !self.held.up.contains(name) {
                self.effects.raise_link(name).await?;
                self.held.up.insert(name.clone());
                self.changed += 1;
            }
        }
        Ok(())
    }

    /// What nothing refers to any more.
    async fn remove(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        let programs = self.held.programs.difference(&desired.programs);
        for (link, hook) in programs.cloned().collect::<Vec<_>>() {
            self.detach(link, hook).await?;
        }
        let links = self.held.links.keys().filter(|name| !desired.links.contains_key(*name));
        for name in links.cloned().collect::<Vec<_>>() {
            self.remove_link(&name).await?;
        }
        self.close_resolvers(desired).await?;
        self.remove_files(desired).await?;
        let namespaces = self.held.namespaces.difference(&desired.namespaces);
        for path in namespaces.cloned().collect::<Vec<_>>() {
            self.effects.delete_namespace(&path).await?;
            self.held.namespaces.remove(&path);
            self.changed += 1;
        }
        let ports = self.held.held_ports.difference(&desired.held_ports);
        for port in ports.copied().collect::<Vec<_>>() {
            self.effects.release(port).await?;
            self.held.held_ports.remove(&port);
            self.changed += 1;
        }
        Ok(())
    }

    async fn remove_link(&mut self, name: &str) -> Result<(), ReconcileError> {
        let programs = self.held.programs.iter().filter(|(link, _)| link == name);
        for (link, hook) in programs.cloned().collect::<Vec<_>>() {
            self.detach(link, hook).await?;
        }
        self.effects.delete_link(name).await?;
        self.held.links.remove(name);
        self.held.up.remove(name);
        self.changed += 1;
        Ok(())
    }

    async fn detach(&mut self, link: String, hook: Hook) -> Result<(), ReconcileError> {
        self.effects.detach(&link, hook).await?;
        self.held.programs.remove(&(link, hook));
        self.changed += 1;
        Ok(())
    }

    fn generation(&self) -> u32 {
        self.held.tables.config.get(&0).map_or(0, |config| config.generation)
    }
}

/// Whether what is held can be changed into `desired` in place: same kind, same place.
fn can_change(held: Option<&Link>, desired: &Link) -> bool {
    match (held, desired) {
        (Some(Link::Gateway(_)), Link::Gateway(_)) => true,
        (Some(Link::Veth(held)), Link::Veth(desired)) => {
            (&held.netns, &held.interface) == (&desired.netns, &desired.interface)
        }
        (Some(Link::Offered(held)), Link::Offered(desired)) => held.interface == desired.interface,
        (None, _)
        | (Some(Link::Gateway(_) | Link::Offered(_)), Link::Veth(_))
        | (Some(Link::Veth(_) | Link::Offered(_)), Link::Gateway(_))
        | (Some(Link::Gateway(_) | Link::Veth(_)), Link::Offered(_)) => false,
    }
}

#[cfg(test)]
mod tests;
