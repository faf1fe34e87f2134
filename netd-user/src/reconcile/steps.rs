//! The steps of the apply, each of which makes one kind of thing match.
//!
//! Law: a step writes what differs and notes it as held at once, so that an error leaves known what is there.

use std::collections::BTreeMap;

use bytemuck::bytes_of;
use netd_common::Hook;
use netd_common::map::CONFIG;
use netd_common::map::config::Config;

use super::effects::{Effects, Entries};
use super::merge::{changed, without};
use super::tables::{self, Plan, Write};
use super::{ReconcileError, Reconciler};
use crate::dataplane::retire::Living;
use crate::desired::Desired;
use crate::model::LinkName;

impl<E: Effects> Reconciler<E> {
    pub(super) async fn hold_ports(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        let missing = desired.held_ports.difference(&self.held.held_ports);
        for port in missing.copied().collect::<Vec<_>>() {
            self.effects.hold(port).await?;
            self.held.held_ports.insert(port);
            self.changed += 1;
        }
        Ok(())
    }

    pub(super) async fn create_namespaces(
        &mut self,
        desired: &Desired,
    ) -> Result<(), ReconcileError> {
        let missing = desired.namespaces.difference(&self.held.namespaces);
        for path in missing.cloned().collect::<Vec<_>>() {
            self.effects.create_namespace(&path).await?;
            self.held.namespaces.insert(path);
            self.changed += 1;
        }
        Ok(())
    }

    pub(super) async fn open_resolvers(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        let missing = without(desired.resolvers.keys(), &self.held.resolvers);
        for sandbox in missing.copied().collect::<Vec<_>>() {
            self.effects.open_resolver(sandbox, &desired.resolvers[&sandbox]).await?;
            self.held.resolvers.insert(sandbox);
            self.changed += 1;
        }
        Ok(())
    }

    async fn close_resolvers(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        let unwanted = without(&self.held.resolvers, desired.resolvers.keys());
        for sandbox in unwanted.copied().collect::<Vec<_>>() {
            self.effects.close_resolver(sandbox).await?;
            self.held.resolvers.remove(&sandbox);
            self.changed += 1;
        }
        self.effects.sweep_resolvers().await
    }

    pub(super) async fn write_files(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        for (sandbox, files) in changed(&desired.files, &self.held.files) {
            self.effects.write_files(files).await?;
            self.held.files.insert(*sandbox, Some(files.clone()));
            self.changed += 1;
        }
        Ok(())
    }

    async fn remove_files(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        let unwanted = without(self.held.files.keys(), desired.files.keys());
        for sandbox in unwanted.copied().collect::<Vec<_>>() {
            self.effects.remove_files(sandbox).await?;
            self.held.files.remove(&sandbox);
            self.changed += 1;
        }
        Ok(())
    }

    /// Creates and changes links; whether it did anything.
    pub(super) async fn make_links(&mut self, desired: &Desired) -> Result<bool, ReconcileError> {
        let before = self.changed;
        for (name, link) in changed(&desired.links, &self.held.links) {
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
    pub(super) async fn write(
        &mut self,
        desired: &Desired,
        raise: bool,
    ) -> Result<(), ReconcileError> {
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
        if !plan.deletes.is_empty() && self.counted.is_none() {
            self.counted = Some(Living::of(&self.held.tables));
        }
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
        let down = without(desired.links.keys(), &self.held.up);
        for name in down.cloned().collect::<Vec<_>>() {
            self.effects.raise_link(&name).await?;
            self.held.up.insert(name);
            self.changed += 1;
        }
        Ok(())
    }

    /// What nothing refers to any more.
    pub(super) async fn remove(&mut self, desired: &Desired) -> Result<(), ReconcileError> {
        let programs = self.held.programs.difference(&desired.programs);
        for (link, hook) in programs.cloned().collect::<Vec<_>>() {
            self.detach(link, hook).await?;
        }
        let links = without(self.held.links.keys(), desired.links.keys());
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

    pub(super) async fn remove_link(&mut self, name: &str) -> Result<(), ReconcileError> {
        let programs = self.held.programs.iter().filter(|(link, _)| **link == *name);
        for (link, hook) in programs.cloned().collect::<Vec<_>>() {
            self.detach(link, hook).await?;
        }
        self.effects.delete_link(name).await?;
        self.held.links.remove(name);
        self.held.up.remove(name);
        self.changed += 1;
        Ok(())
    }

    async fn detach(&mut self, link: LinkName, hook: Hook) -> Result<(), ReconcileError> {
        self.effects.detach(&link, hook).await?;
        self.held.programs.remove(&(link, hook));
        self.changed += 1;
        Ok(())
    }
}
