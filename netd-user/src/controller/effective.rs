//! The part of the model that can be had: what a sandbox lacks must not keep the others from theirs.
//!
//! Law: commands are all or nothing; only background work leaves something out, and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use nix::sys::statfs::{FsType, statfs};

use crate::desired::HeldPort;
use crate::facts::HostFacts;
use crate::model::sandbox::SandboxMode;
use crate::model::{EndpointId, Keeper, Model, Sandbox, SandboxId};

use super::{ports, world};

/// `NSFS_MAGIC` of linux/magic.h: what a mounted namespace shows.
const NSFS: FsType = FsType(0x6e73_6673);

/// What is left out, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    sandboxes: BTreeMap<SandboxId, String>,
    ports: BTreeMap<HeldPort, (SandboxId, String)>,
    departed: BTreeSet<EndpointId>,
}

impl LeftOut {
    /// Leaves out sandboxes whose namespace was made by others and is gone.
    pub(super) fn look_for_namespaces(&mut self, model: &Model) {
        let given = |it: &&Arc<Sandbox>| !it.owns_netns && it.keeper == Keeper::Netd;
        let foreign = model.sandboxes.values().filter(given);
        let bridged = foreign.filter(|sandbox| sandbox.mode == SandboxMode::Bridged);
        let lost = bridged.filter(|sandbox| !is_namespace(&sandbox.netns));
        self.sandboxes = lost.map(|sandbox| (sandbox.id, lost_sentence(sandbox))).collect();
    }

    /// Leaves out endpoints whose sandbox an engine has ended: a link made anew would lead nowhere.
    pub(super) fn look_for_links(&mut self, model: &Model, facts: &HostFacts) {
        self.departed = world::departed(model, facts);
    }

    /// Whether all of the model can be had.
    pub(super) fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.ports.is_empty() && self.departed.is_empty()
    }

    /// Leaves out a port; false where it was out already or belongs to nobody.
    pub(super) fn leave_out(&mut self, model: &Model, port: HeldPort, why: &str) -> bool {
        let Some(sandbox) = ports::publisher(model, port) else { return false };
        self.ports.insert(port, (sandbox.id, why.to_owned())).is_none()
    }

    /// The model without what is left out.
    pub(super) fn effective(&self, model: &Arc<Model>) -> Arc<Model> {
        if self.is_empty() {
            return Arc::clone(model);
        }
        let mut effective = Model::clone(model);
        let out = |id: SandboxId| self.sandboxes.contains_key(&id);
        effective.endpoints.retain(|_, endpoint| !endpoint.sandbox.is_some_and(out));
        effective.endpoints.retain(|id, _| !self.departed.contains(id));
        effective.sandboxes.retain(|id, _| !self.sandboxes.contains_key(id));
        let publishers: BTreeSet<SandboxId> = self.ports.values().map(|(id, _)| *id).collect();
        for id in publishers {
            if let Some(sandbox) = effective.sandboxes.get_mut(&id) {
                self.withdraw(Arc::make_mut(sandbox));
            }
        }
        Arc::new(effective)
    }

    /// What fails, by sandbox.
    pub(super) fn failures(&self, model: &Model) -> BTreeMap<SandboxId, String> {
        let mut failures = self.sandboxes.clone();
        for (id, reason) in self.ports.values() {
            failures.entry(*id).or_insert_with(|| reason.clone());
        }
        failures.retain(|id, _| model.sandboxes.contains_key(id));
        failures
    }

    fn withdraw(&self, sandbox: &mut Sandbox) {
        let out = |p: &_| self.ports.keys().any(|port| ports::covers(p, *port));
        sandbox.publications.retain(|publication| !out(publication));
    }
}

/// Whether a network namespace can be entered at `path`.
pub(super) fn is_namespace(path: &Path) -> bool {
    let proc_link = || path.starts_with("/proc") && path.exists();
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == NSFS) || proc_link()
}

fn lost_sentence(sandbox: &Sandbox) -> String {
    format!("the network namespace {} is gone: remove the sandbox", sandbox.netns.display())
}
