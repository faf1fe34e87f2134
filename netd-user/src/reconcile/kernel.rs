//! The real kernel behind `Effects`: links by netlink, maps and programs by bpf, ports by sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use netd_common::Hook;
use netd_common::map::MapSpec;
use tokio::sync::mpsc::UnboundedReceiver;

use super::effects::{Effects, Entries, Observed, Outcome, Tended};
use super::faults::Faults;
use super::files::Files;
use super::held_ports::HeldPorts;
use super::ledger::Ledger;
use super::remains::Places;
use super::resolvers::Resolvers;
use super::{ReconcileError, ReconcilerOptions, resources};
use crate::dataplane::Dataplane;
use crate::dataplane::retire::Living;
use crate::desired::files::SandboxFiles;
use crate::desired::{Desired, HeldPort, Link};
use crate::facts::HostFacts;
use crate::link::host::{HostLinks, owner_tag};
use crate::link::resolver::ResolverNews;
use crate::link::{LinkError, facts, netns, sockets};
use crate::model::{LinkName, NetnsPath, SandboxId};

/// This host.
#[derive(Debug)]
pub struct KernelEffects {
    links: HostLinks,
    dataplane: Dataplane,
    ports: HeldPorts,
    ledger: Ledger,
    files: Files,
    resolvers: Resolvers,
    faults: Faults,
    places: Places,
    snat_ports: (u16, u16),
    cgroup: Option<PathBuf>,
    guard_lifted: bool,
}

impl KernelEffects {
    /// Loads or reopens what earlier runs left.
    pub async fn start(options: ReconcilerOptions) -> Result<Self, ReconcileError> {
        let owner = owner_tag(&options.state_dir);
        let links = HostLinks::start(owner, options.resolv_conf).await?;
        facts::reserve_ports(&options.state_dir, options.snat_ports)?;
        let dataplane = Dataplane::open(&options.bpffs_dir, &options.object, &options.capacities)?;
        if !dataplane.has_heritage() {
            dataplane.attach_sockets(options.cgroup.as_deref())?;
        }
        let resolvers = Resolvers::start(&dataplane)?;
        let mut effects = Self {
            links,
            dataplane,
            resolvers,
            ports: HeldPorts::default(),
            ledger: Ledger::open(&options.state_dir)?,
            files: Files::open(&options.state_dir)?,
            faults: Faults::from_environment(),
            places: Places { bpffs_dir: options.bpffs_dir, state_dir: options.state_dir },
            snat_ports: options.snat_ports,
            cgroup: options.cgroup,
            guard_lifted: false,
        };
        effects.renew_programs()?;
        Ok(effects)
    }

    /// Maps and programs.
    pub fn dataplane(&self) -> &Dataplane {
        &self.dataplane
    }

    /// From now on tells which sandboxes' name queries are to be answered.
    pub fn resolver_news(&mut self) -> UnboundedReceiver<ResolverNews> {
        self.resolvers.listen()
    }

    /// Fires, coalesced, when others changed the host or took something away inside a sandbox.
    pub fn watch(&self) -> Result<tokio::sync::watch::Receiver<u64>, ReconcileError> {
        Ok(self.links.watch()?)
    }

    /// Where this daemon has its things.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Links that an earlier run pinned get this run's programs, before anything else is done.
    fn renew_programs(&mut self) -> Result<(), ReconcileError> {
        for (link, hook) in self.attached()? {
            if let Some(index) = self.links.index(&link) {
                self.dataplane.attach(&link, index, hook)?;
            }
        }
        Ok(())
    }

    /// Before each effect. The guard on published ports comes back as soon as the ports are held.
    fn step(&mut self) -> Result<(), ReconcileError> {
        self.faults.step()?;
        if self.guard_lifted && !self.dataplane.has_heritage() {
            self.dataplane.attach_sockets(self.cgroup.as_deref())?;
            self.guard_lifted = false;
        }
        Ok(())
    }

    /// Ours that exist. An entry whose namespace never came to be, or went in a reboot, is dropped.
    fn namespaces(&self) -> Result<BTreeSet<NetnsPath>, ReconcileError> {
        let mut existing = BTreeSet::new();
        for path in self.ledger.namespaces()? {
            if netns::exists(&path) {
                existing.insert(path.into());
            } else {
                netns::delete(&path)?;
                self.ledger.remove(&path)?;
            }
        }
        Ok(existing)
    }

    /// Socket hooks, pins of maps, reserved ports; how many of them were not as they should be.
    fn mend(&mut self) -> Result<usize, ReconcileError> {
        let mut mended = self.dataplane.mend(self.cgroup.as_deref())?;
        if !facts::are_reserved(self.snat_ports)? {
            facts::reserve_ports(&self.places.state_dir, self.snat_ports)?;
            mended += 1;
        }
        Ok(mended)
    }

    fn attached(&self) -> Result<BTreeSet<(LinkName, Hook)>, ReconcileError> {
        let attached = self.dataplane.attached(|link| self.links.index(link))?;
        Ok(attached.into_iter().map(|(link, hook)| (link.into(), hook)).collect())
    }
}

impl Effects for KernelEffects {
    async fn facts(&mut self) -> Outcome<Arc<HostFacts>> {
        Ok(self.links.facts().await?)
    }

    async fn observe(
        &mut self,
        desired: &Desired,
        trusted: &BTreeMap<LinkName, Link>,
    ) -> Outcome<Observed> {
        if trusted.is_empty() {
            self.links.read_all().await?;
        }
        let found = self.links.observe(desired, trusted).await?;
        let up = found.iter().filter(|(_, link)| link.up).map(|(name, _)| name.clone()).collect();
        Ok(Observed {
            up,
            links: found.into_iter().map(|(name, found)| (name, found.link)).collect(),
            namespaces: self.namespaces()?,
            resolvers: self.resolvers.observe(&self.dataplane)?,
            files: self.files.observe()?,
            programs: self.attached()?,
            tables: self.dataplane.tables()?,
            held_ports: self.ports.held(),
            heritage: self.dataplane.has_heritage(),
        })
    }

    async fn strayed(&mut self, desired: &Desired) -> Outcome<BTreeMap<LinkName, Option<Link>>> {
        Ok(self.links.strayed(desired).await?)
    }

    async fn tend(&mut self) -> Tended {
        let mut problems = resources::shortages(&self.places.state_dir, &self.places.bpffs_dir);
        problems.extend(self.resolvers.trouble());
        let mended = self.mend().unwrap_or_else(|error| {
            problems.push(error.to_string());
            0
        });
        Tended { mended, problems }
    }

    async fn create_namespace(&mut self, path: &Path) -> Outcome<()> {
        self.step()?;
        self.ledger.add(path)?;
        let made = path.to_owned();
        let created = tokio::task::spawn_blocking(move || netns::create(&made)).await;
        created.map_err(|_| LinkError::Closed)??;
        Ok(netns::raise_loopback(path).await?)
    }

    async fn delete_namespace(&mut self, path: &Path) -> Outcome<()> {
        self.step()?;
        netns::delete(path)?;
        Ok(self.ledger.remove(path)?)
    }

    async fn open_resolver(&mut self, sandbox: SandboxId, netns: &Path) -> Outcome<()> {
        self.step()?;
        self.resolvers.open(&self.dataplane, sandbox, netns).await
    }

    async fn close_resolver(&mut self, sandbox: SandboxId) -> Outcome<()> {
        self.step()?;
        self.resolvers.close(&self.dataplane, sandbox)
    }

    async fn sweep_resolvers(&mut self) -> Outcome<()> {
        self.resolvers.sweep(&self.dataplane)
    }

    async fn write_files(&mut self, files: &SandboxFiles) -> Outcome<()> {
        self.step()?;
        Ok(self.files.write(files)?)
    }

    async fn remove_files(&mut self, sandbox: SandboxId) -> Outcome<()> {
        self.step()?;
        Ok(self.files.remove(sandbox)?)
    }

    async fn create_link(&mut self, name: &str, link: &Link) -> Outcome<()> {
        self.step()?;
        Ok(self.links.create(name, link).await?)
    }

    async fn change_link(&mut self, name: &str, from: &Link, to: &Link) -> Outcome<()> {
        self.step()?;
        Ok(self.links.change(name, from, to).await?)
    }

    async fn raise_link(&mut self, name: &str) -> Outcome<()> {
        self.step()?;
        Ok(self.links.raise(name).await?)
    }

    async fn delete_link(&mut self, name: &str) -> Outcome<()> {
        self.step()?;
        Ok(self.links.delete(name).await?)
    }

    async fn attach(&mut self, link: &str, hook: Hook) -> Outcome<()> {
        self.step()?;
        let index = self.links.index(link).ok_or_else(|| LinkError::Missing(link.to_owned()))?;
        Ok(self.dataplane.attach(link, index, hook)?)
    }

    async fn detach(&mut self, link: &str, hook: Hook) -> Outcome<()> {
        self.step()?;
        Ok(self.dataplane.detach(link, hook)?)
    }

    async fn inherit(&mut self) -> Outcome<BTreeSet<(LinkName, Hook)>> {
        self.faults.step()?;
        let links = &self.links;
        self.dataplane.inherit(|link| links.index(link), self.cgroup.as_deref())?;
        self.guard_lifted = false;
        self.attached()
    }

    async fn put(&mut self, map: MapSpec, entries: &Entries) -> Outcome<()> {
        self.step()?;
        Ok(self.dataplane.put(&map, &entries.keys, &entries.values)?)
    }

    async fn delete(&mut self, map: MapSpec, entries: &Entries) -> Outcome<()> {
        self.step()?;
        Ok(self.dataplane.delete(&map, &entries.keys)?)
    }

    async fn retire(&mut self, before: &Living, now: &Living) {
        if let Err(error) = self.dataplane.retire(before, now) {
            tracing::warn!(%error, "counters of what is gone are kept");
        }
    }

    async fn end_sockets(&mut self, peers: BTreeSet<IpAddr>) {
        match tokio::task::spawn_blocking(move || sockets::end(&peers)).await {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(count)) => tracing::debug!(count, "sockets ended whose peer is gone"),
            Ok(Err(error)) => tracing::warn!(%error, "sockets whose peer is gone stay open"),
        }
    }

    async fn hold(&mut self, port: HeldPort) -> Outcome<()> {
        self.faults.step()?;
        match self.ports.hold(port) {
            // After a restart the ports of the last run are still published, and so guarded.
            Err(ReconcileError::PortGuarded(_)) if self.cgroup.is_some() => {
                self.dataplane.lift_guard()?;
                self.guard_lifted = true;
                self.ports.hold(port)
            }
            other => other,
        }
    }

    async fn release(&mut self, port: HeldPort) -> Outcome<()> {
        self.step()?;
        self.ports.release(port);
        Ok(())
    }
}
