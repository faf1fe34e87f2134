//! Where the namespaces of an engine's sandboxes can be entered: by the path that the engine gave, or,
//! where the engine keeps its mounts to itself, by the process that it told of.
//!
//! Laws: a path is believed as long as it leads to the namespace that it led to when it was found; a
//! number of a process only from an engine that is heard; the host's own namespace is nobody's.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{effective, world};
use crate::desired::Desired;
use crate::facts::HostFacts;
use crate::model::{Keeper, Model, NetnsPath, Network, Sandbox, SandboxId};
use crate::roster::{EngineLink, Places, Roster};

/// Device and number of a namespace.
type Identity = (u64, u64);

/// Namespaces that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Whereabouts {
    found: BTreeMap<SandboxId, (NetnsPath, Identity)>,
}

impl Whereabouts {
    /// Looks for the namespaces of all sandboxes of engines that ask netd for names.
    pub(super) fn look(&mut self, model: &Model, roster: &Roster) {
        let mut found = BTreeMap::new();
        for sandbox in asking(model) {
            let held =
                self.found.remove(&sandbox.id).filter(|(path, it)| identity(path) == Some(*it));
            if let Some(place) = held.or_else(|| find(sandbox, model, roster)) {
                found.insert(sandbox.id, place);
            }
        }
        self.found = found;
    }

    /// By sandbox.
    pub(super) fn places(&self) -> Places {
        self.found.iter().map(|(id, (path, _))| (*id, path.clone())).collect()
    }
}

/// Puts resolvers of engines' sandboxes where these can be entered, and leaves them out before the
/// engine has taken an interface in: until then the sandbox is not ready.
pub(super) fn place(desired: &mut Desired, model: &Model, places: &Places, facts: &HostFacts) {
    if desired.resolvers.is_empty() {
        return;
    }
    let taken = |end: &crate::model::Endpoint| {
        facts.links.contains_key(&end.veth) && !facts.links.contains_key(&end.interface)
    };
    let ready = model.endpoints.values().filter(|end| end.is_with_engine() && taken(end));
    let ready: BTreeSet<SandboxId> = ready.filter_map(|endpoint| endpoint.sandbox).collect();
    desired.resolvers.retain(|id, netns| {
        let sandbox = model.sandboxes.get(id);
        if sandbox.is_none_or(|sandbox| sandbox.keeper == Keeper::Netd) {
            return true;
        }
        match places.get(id) {
            Some(place) if ready.contains(id) => {
                netns.clone_from(place);
                true
            }
            Some(_) | None => false,
        }
    });
}

fn asking(model: &Model) -> Vec<&Sandbox> {
    let asks = |network: &&Arc<Network>| network.keeper == Keeper::Engine && network.asks_netd();
    let networks: BTreeSet<_> = model.networks.values().filter(asks).map(|it| it.id).collect();
    if networks.is_empty() {
        return Vec::new();
    }
    let ends = model.endpoints.values().filter(|end| networks.contains(&end.network));
    let ids: BTreeSet<SandboxId> = ends.filter_map(|end| end.sandbox).collect();
    ids.iter().filter_map(|id| model.sandboxes.get(id)).map(Arc::as_ref).collect()
}

fn find(sandbox: &Sandbox, model: &Model, roster: &Roster) -> Option<(NetnsPath, Identity)> {
    let of_process = || process_of(sandbox, model, roster);
    let path = Some(sandbox.netns.to_path_buf()).filter(|path| effective::is_namespace(path));
    let path = path.or_else(of_process)?;
    let identity = identity(&path)?;
    (!world::is_hosts(&path)).then(|| (path.into(), identity))
}

fn process_of(sandbox: &Sandbox, model: &Model, roster: &Roster) -> Option<PathBuf> {
    if roster.link != EngineLink::Connected {
        return None;
    }
    let inside = |container: &&Arc<crate::roster::Container>| {
        let mut ends = container.card.endpoints.keys().filter_map(|id| model.endpoints.get(id));
        ends.any(|end| end.sandbox == Some(sandbox.id))
    };
    let container = roster.containers.values().find(inside)?;
    let path = PathBuf::from(format!("/proc/{}/ns/net", container.details.as_ref()?.pid?));
    effective::is_namespace(&path).then_some(path)
}

fn identity(path: &Path) -> Option<Identity> {
    std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::tests::{engine_model, roster};

    #[test]
    fn a_sandbox_is_entered_by_its_process_where_its_key_leads_nowhere() {
        let model = engine_model(true);
        let mut whereabouts = Whereabouts::default();
        let mut heard = roster();
        // Any process has a namespace; this one's is the host's, and so nobody's.
        set_pid(&mut heard, i32::try_from(std::process::id()).expect("a number"));
        whereabouts.look(&model, &heard);
        assert_eq!(whereabouts.places(), Places::new());
        set_pid(&mut heard, i32::MAX);
        whereabouts.look(&model, &heard);
        assert_eq!(whereabouts.places(), Places::new());
    }

    #[test]
    fn resolvers_wait_for_the_interface_to_be_taken() {
        let model = engine_model(true);
        let id = *model.sandboxes.keys().next().expect("a sandbox");
        let end =
            model.endpoints.values().find(|end| end.sandbox == Some(id)).expect("an endpoint");
        let place: NetnsPath = Path::new("/proc/7/ns/net").into();
        let places = Places::from([(id, place.clone())]);
        let desired = || {
            let key: NetnsPath = Path::new("/run/docker/netns/key").into();
            Desired { resolvers: BTreeMap::from([(id, key)]), ..Desired::default() }
        };
        let mut facts = HostFacts::default();
        for name in [&end.veth, &end.interface] {
            facts.links.insert(name.clone(), crate::facts::LinkFact::default());
        }
        let mut early = desired();
        super::place(&mut early, &model, &places, &facts);
        assert!(early.resolvers.is_empty());
        facts.links.remove(&end.interface);
        let mut taken = desired();
        super::place(&mut taken, &model, &places, &facts);
        assert_eq!(taken.resolvers, BTreeMap::from([(id, place)]));
        let mut unknown = desired();
        super::place(&mut unknown, &model, &Places::new(), &facts);
        assert!(unknown.resolvers.is_empty());
    }

    fn set_pid(roster: &mut Roster, pid: i32) {
        for container in roster.containers.values_mut() {
            if let Some(details) = &mut Arc::make_mut(container).details {
                details.pid = Some(pid);
            }
        }
    }
}
