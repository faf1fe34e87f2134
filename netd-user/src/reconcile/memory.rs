//! A kernel in memory, for tests of the reconciler's order.
//!
//! Laws: it can fail at the n-th effect; after every write no entry refers to a link, an endpoint or a
//! network that is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use bytemuck::pod_read_unaligned;
use netd_common::map::MapSpec;
use netd_common::map::network::TrustedKey;
use netd_common::{EndpointIndex, Hook, IfIndex, NetworkIndex};

use super::ReconcileError;
use super::effects::{Effects, Entries, Observed, Outcome, Tended};
use crate::dataplane::delta::{Table, Visit, in_put_order};
use crate::dataplane::retire::Living;
use crate::desired::files::SandboxFiles;
use crate::desired::{Desired, HeldPort, Link, Tables};
use crate::facts::{HostFacts, LinkFact};
use crate::model::{LinkName, SandboxId};

/// The kernel.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryEffects {
    /// What is in it of ours.
    pub(super) state: Observed,
    /// Indexes of links, ours and the host's.
    pub(super) indexes: BTreeMap<LinkName, IfIndex>,
    /// The effect that fails, counted from 1.
    pub(super) fails_at: Option<usize>,
    /// Effects tried.
    pub(super) done: usize,
    /// Every effect in words, in order.
    pub(super) log: Vec<String>,
    /// Programs of an earlier layout.
    pub(super) inherited: BTreeSet<(LinkName, Hook)>,
    /// Links whose sandboxes have lost something.
    pub(super) strayed: BTreeSet<LinkName>,
    next_index: u32,
}

impl MemoryEffects {
    /// A host with one uplink.
    pub(super) fn with_uplink() -> Self {
        let mut kernel = Self { next_index: 2, ..Self::default() };
        kernel.indexes.insert("eth0".into(), IfIndex(2));
        kernel
    }

    fn step(&mut self, what: String) -> Outcome<()> {
        self.done += 1;
        if self.fails_at == Some(self.done) {
            return Err(ReconcileError::Injected(self.done));
        }
        self.log.push(what);
        Ok(())
    }

    fn link_exists(&self, index: IfIndex) -> bool {
        self.indexes.values().any(|known| *known == index)
    }

    fn assert_nothing_dangles(&self) {
        let tables = &self.state.tables;
        let endpoint = |index: EndpointIndex| tables.endpoints.values().any(|e| e.index == index);
        let network = |index: NetworkIndex| tables.networks.contains_key(&index.0);
        assert!(tables.endpoints.keys().all(|index| self.link_exists(*index)), "endpoint's link");
        assert!(tables.uplinks.keys().all(|index| self.link_exists(*index)), "uplink's link");
        let trusted = |key: &TrustedKey| network(key.network) && self.link_exists(key.ifindex);
        assert!(tables.trusted.keys().all(trusted), "trusted link's network and link");
        // A member slot that is still empty is no dangling reference: replication passes over it.
        for value in tables.networks.values() {
            assert!(value.gateway.0 == 0 || self.link_exists(value.gateway), "network's gateway");
        }
        assert!(tables.endpoints.values().all(|e| network(e.network)), "endpoint's network");
        assert!(tables.members.values().all(|i| tables.endpoints.contains_key(i)), "member");
        assert!(tables.stations.values().all(|s| endpoint(s.endpoint)), "station's endpoint");
        assert!(tables.subnets_v4.values().all(|s| network(s.network)), "subnet's network");
        assert!(
            tables
                .gateways
                .iter()
                .all(|(i, n)| { self.link_exists(*i) && tables.networks.contains_key(n) }),
            "gateway"
        );
        let addresses = tables.addresses_v4.values().chain(tables.addresses_v6.values());
        for address in addresses {
            let is_gateway = address.endpoint == EndpointIndex::NONE;
            assert!(is_gateway || endpoint(address.endpoint), "address' endpoint");
            assert!(self.link_exists(address.ifindex), "address' link");
        }
        assert!(tables.published_v4.values().all(|p| endpoint(p.endpoint)), "published endpoint");
        assert!(tables.published_v6.values().all(|p| endpoint(p.endpoint)), "published endpoint");
        for (name, _) in &self.state.programs {
            assert!(self.indexes.contains_key(name), "program's link {name}");
        }
    }

    fn assert_ready(&self, name: &str) {
        let is_veth =
            matches!(self.state.links.get(name), Some(Some(Link::Veth(_) | Link::Offered(_))));
        let attached = self.state.programs.iter().filter(|(link, _)| link == name).count();
        assert!(!is_veth || attached == 2, "{name} comes up without its programs");
    }
}

impl Effects for MemoryEffects {
    async fn facts(&mut self) -> Outcome<Arc<HostFacts>> {
        let fact = |(name, index): (&LinkName, &IfIndex)| {
            let up = self.state.up.contains(name);
            (name.clone(), LinkFact { ifindex: *index, up, ..LinkFact::default() })
        };
        let links = self.indexes.iter().map(fact).collect();
        Ok(Arc::new(HostFacts { links, ..HostFacts::default() }))
    }

    async fn observe(
        &mut self,
        _desired: &Desired,
        _trusted: &BTreeMap<LinkName, Link>,
    ) -> Outcome<Observed> {
        Ok(self.state.clone())
    }

    async fn strayed(&mut self, _desired: &Desired) -> Outcome<BTreeMap<LinkName, Option<Link>>> {
        let strayed = std::mem::take(&mut self.strayed);
        let found = |name: LinkName| self.state.links.get(&name).map(|link| (name, link.clone()));
        Ok(strayed.into_iter().filter_map(found).collect())
    }

    async fn tend(&mut self) -> Tended {
        Tended::default()
    }

    async fn create_namespace(&mut self, path: &Path) -> Outcome<()> {
        self.step(format!("create namespace {}", path.display()))?;
        assert!(self.state.namespaces.insert(path.into()), "namespace made twice");
        Ok(())
    }

    async fn delete_namespace(&mut self, path: &Path) -> Outcome<()> {
        self.step(format!("delete namespace {}", path.display()))?;
        assert!(self.state.namespaces.remove(&path.into()), "namespace was there");
        Ok(())
    }

    async fn open_resolver(&mut self, sandbox: SandboxId, netns: &Path) -> Outcome<()> {
        self.step(format!("open resolver {}", netns.display()))?;
        assert!(self.state.resolvers.insert(sandbox), "resolver opened twice");
        Ok(())
    }

    async fn close_resolver(&mut self, sandbox: SandboxId) -> Outcome<()> {
        self.step(format!("close resolver {}", sandbox.short()))?;
        assert!(self.state.resolvers.remove(&sandbox), "resolver closed twice");
        Ok(())
    }

    async fn sweep_resolvers(&mut self) -> Outcome<()> {
        // Nothing outlives a run of this kernel's resolvers.
        Ok(())
    }

    async fn write_files(&mut self, files: &SandboxFiles) -> Outcome<()> {
        let id = files.sandbox.id;
        self.step(format!("write files of {}", id.short()))?;
        let held = self.state.files.insert(id, Some(files.clone()));
        assert_ne!(held, Some(Some(files.clone())), "the same files written twice");
        Ok(())
    }

    async fn remove_files(&mut self, sandbox: SandboxId) -> Outcome<()> {
        self.step(format!("remove files of {}", sandbox.short()))?;
        assert!(self.state.files.remove(&sandbox).is_some(), "files were there");
        Ok(())
    }

    async fn create_link(&mut self, name: &str, link: &Link) -> Outcome<()> {
        self.step(format!("create link {name}"))?;
        if let Link::Veth(veth) = link {
            assert!(self.state.namespaces.contains(&veth.netns), "veth's namespace");
        }
        self.next_index += 1;
        let old = self.indexes.insert(name.into(), IfIndex(self.next_index));
        assert_eq!(old, None, "link made twice");
        self.state.links.insert(name.into(), Some(link.clone()));
        Ok(())
    }

    async fn change_link(&mut self, name: &str, from: &Link, to: &Link) -> Outcome<()> {
        self.step(format!("change link {name}"))?;
        let held = self.state.links.insert(name.into(), Some(to.clone()));
        assert_eq!(held, Some(Some(from.clone())), "the change starts from what is there");
        Ok(())
    }

    async fn raise_link(&mut self, name: &str) -> Outcome<()> {
        self.step(format!("raise link {name}"))?;
        self.assert_ready(name);
        self.state.up.insert(name.into());
        Ok(())
    }

    async fn delete_link(&mut self, name: &str) -> Outcome<()> {
        self.step(format!("delete link {name}"))?;
        self.state.links.remove(name);
        self.state.up.remove(name);
        assert!(self.indexes.remove(name).is_some(), "link was there");
        self.assert_nothing_dangles();
        Ok(())
    }

    async fn attach(&mut self, link: &str, hook: Hook) -> Outcome<()> {
        self.step(format!("attach {} to {link}", hook.name()))?;
        self.state.programs.insert((link.into(), hook));
        self.assert_nothing_dangles();
        Ok(())
    }

    async fn detach(&mut self, link: &str, hook: Hook) -> Outcome<()> {
        self.step(format!("detach {} from {link}", hook.name()))?;
        self.state.programs.remove(&(link.into(), hook));
        Ok(())
    }

    async fn inherit(&mut self) -> Outcome<BTreeSet<(LinkName, Hook)>> {
        self.step("inherit".to_owned())?;
        self.state.heritage = false;
        let inherited = std::mem::take(&mut self.inherited);
        self.state.programs.extend(inherited.iter().cloned());
        Ok(inherited)
    }

    async fn put(&mut self, map: MapSpec, entries: &Entries) -> Outcome<()> {
        self.step(format!("put {} {}", map.name, entries.count))?;
        self.write(map, entries);
        self.assert_nothing_dangles();
        Ok(())
    }

    async fn delete(&mut self, map: MapSpec, entries: &Entries) -> Outcome<()> {
        self.step(format!("delete {} {}", map.name, entries.count))?;
        self.write(map, entries);
        self.assert_nothing_dangles();
        Ok(())
    }

    async fn retire(&mut self, _before: &Living, now: &Living) {
        assert_eq!(*now, Living::of(&self.state.tables), "counters follow what is there");
    }

    async fn end_sockets(&mut self, peers: BTreeSet<IpAddr>) {
        self.log.push(format!("end sockets to {peers:?}"));
    }

    async fn hold(&mut self, port: HeldPort) -> Outcome<()> {
        self.step(format!("hold {}", port.port))?;
        self.state.held_ports.insert(port);
        Ok(())
    }

    async fn release(&mut self, port: HeldPort) -> Outcome<()> {
        self.step(format!("release {}", port.port))?;
        self.state.held_ports.remove(&port);
        Ok(())
    }
}

impl MemoryEffects {
    fn write(&mut self, map: MapSpec, entries: &Entries) {
        let mut write = WriteBytes { map, entries, tables: &mut self.state.tables };
        let Ok(()) = in_put_order(&mut write);
    }
}

/// Writes bytes into the table of a map; without values it deletes.
struct WriteBytes<'a> {
    map: MapSpec,
    entries: &'a Entries,
    tables: &'a mut Tables,
}

impl Visit for WriteBytes<'_> {
    type Error = std::convert::Infallible;

    fn visit<T: Table>(&mut self) -> Result<(), Self::Error> {
        if T::SPEC.name != self.map.name {
            return Ok(());
        }
        let table = T::of_mut(self.tables);
        let keys = self.entries.keys.chunks_exact(size_of::<T::Key>());
        assert_eq!(keys.len(), self.entries.count);
        let mut values = self.entries.values.chunks_exact(size_of::<T::Value>());
        for key in keys {
            match values.next() {
                Some(value) => table.insert(pod_read_unaligned(key), pod_read_unaligned(value)),
                None => table.remove(&pod_read_unaligned(key)),
            };
        }
        Ok(())
    }
}
