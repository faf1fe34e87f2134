//! Endpoints under an engine's ids, and the sandboxes that they join.
//!
//! Laws: a sandbox of an engine is there exactly while an endpoint is in it; it publishes ports
//! exactly while one of its endpoints is open; who claims an address of an engine's network has it
//! from the engine, so an endpoint that still has it is dead.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::AdoptedEndpoint;
use crate::model::apply::Change;
use crate::model::create_sandbox::refuse_sctp;
use crate::model::endpoint::{Inside, format_mac};
use crate::model::id::{EndpointId, SandboxId};
use crate::model::port::PortSpec;
use crate::model::refusal::Refusal;
use crate::model::sandbox::{Sandbox, SandboxMode};
use crate::model::{Endpoint, Keeper, Model, Network, Outcome};

impl Change<'_> {
    pub(super) fn adopt_endpoint(&mut self, asked: AdoptedEndpoint) -> Result<Outcome, Refusal> {
        let id = asked.id;
        if self.model.endpoints.get(&id).is_some_and(|held| is_same(held, &asked)) {
            return Ok(Outcome::Endpoint(id));
        }
        let network = find_network(&self.model, &asked)?;
        check(&asked, &network)?;
        self.delete_endpoint(id)?;
        for dead in holders(&self.model, &asked) {
            self.delete_endpoint(dead)?;
        }
        let veth = self.free_link_name();
        let mut interface = self.free_link_name();
        while interface == veth {
            interface = self.free_link_name();
        }
        let endpoint = Endpoint {
            id,
            index: self.endpoint_index()?,
            network: network.id,
            sandbox: None,
            inside: Inside::Engine { opened: false },
            v4: asked.v4,
            v6: asked.v6,
            mac: self.mac(&network, asked.mac.as_deref())?,
            aliases: Vec::new(),
            gw_priority: 0,
            interface: interface.into(),
            veth: veth.into(),
            options: asked.options,
        };
        self.model.endpoints.insert(id, Arc::new(endpoint));
        Ok(Outcome::Endpoint(id))
    }

    pub(super) fn delete_endpoint(&mut self, id: EndpointId) -> Result<Outcome, Refusal> {
        self.leave(id)?;
        if self.engine_endpoint(id).is_some() {
            self.model.endpoints.remove(&id);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn enter(&mut self, id: EndpointId, key: PathBuf) -> Result<Outcome, Refusal> {
        let endpoint = self.engine_endpoint(id).ok_or_else(|| unknown(id))?;
        if key.file_name().is_none() {
            return Err(Refusal::invalid("a sandbox key is needed: the path of its namespace"));
        }
        let meant = sandbox_of(&self.model, &key);
        match endpoint.sandbox {
            Some(held) if Some(held) == meant => return Ok(Outcome::Endpoint(id)),
            Some(_) => drop(self.leave(id)?),
            None => {}
        }
        let sandbox = meant.unwrap_or_else(|| self.make_sandbox(key));
        self.change_endpoint(id, |endpoint| endpoint.sandbox = Some(sandbox));
        Ok(Outcome::Endpoint(id))
    }

    pub(super) fn leave(&mut self, id: EndpointId) -> Result<Outcome, Refusal> {
        self.close(id)?;
        let Some(sandbox) = self.engine_endpoint(id).and_then(|endpoint| endpoint.sandbox) else {
            return Ok(Outcome::Done);
        };
        self.change_endpoint(id, |endpoint| endpoint.sandbox = None);
        if self.model.endpoints_of_sandbox(sandbox).next().is_none() {
            self.model.sandboxes.remove(&sandbox);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn open(
        &mut self,
        id: EndpointId,
        ports: Vec<PortSpec>,
    ) -> Result<Outcome, Refusal> {
        let endpoint = self.engine_endpoint(id).ok_or_else(|| unknown(id))?;
        let Some(sandbox) = endpoint.sandbox else {
            return Err(Refusal::conflict(format_args!("endpoint {id} has not joined a sandbox")));
        };
        refuse_sctp(&ports)?;
        self.change_endpoint(id, |endpoint| endpoint.inside = Inside::Engine { opened: true });
        self.set_ports(sandbox, ports)?;
        Ok(Outcome::Sandbox(sandbox, Vec::new()))
    }

    pub(super) fn close(&mut self, id: EndpointId) -> Result<Outcome, Refusal> {
        let Some(endpoint) = self.engine_endpoint(id) else { return Ok(Outcome::Done) };
        let (Some(sandbox), true) = (endpoint.sandbox, endpoint.may_be_gateway()) else {
            return Ok(Outcome::Done);
        };
        self.change_endpoint(id, |endpoint| endpoint.inside = Inside::Engine { opened: false });
        let open = self.model.endpoints_of_sandbox(sandbox).any(|end| end.may_be_gateway());
        let held = self.model.sandboxes.get(&sandbox).filter(|_| open);
        self.set_ports(sandbox, held.map_or_else(Vec::new, |held| held.ports.clone()))?;
        Ok(Outcome::Done)
    }

    /// Publishes these ports, and no others, where the sandbox is open.
    fn set_ports(&mut self, id: SandboxId, ports: Vec<PortSpec>) -> Result<(), Refusal> {
        if let Some(sandbox) = self.model.sandboxes.get(&id) {
            let sandbox = Sandbox { ports, ..Sandbox::clone(sandbox) };
            self.put_sandbox(sandbox);
            self.publish(id)?;
        }
        Ok(())
    }

    fn make_sandbox(&mut self, key: PathBuf) -> SandboxId {
        let id = self.free_sandbox_id();
        let name = key.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.filter(|name| self.model.sandbox_named(name).is_none());
        self.put_sandbox(Sandbox {
            id,
            name: name.unwrap_or_else(|| id.short()),
            created_ns: self.now.now_ns,
            keeper: Keeper::Engine,
            mode: SandboxMode::Bridged,
            netns: key.into(),
            owns_netns: false,
            hostname: String::new(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            extra_hosts: Vec::new(),
            labels: std::collections::BTreeMap::new(),
            expose: Vec::new(),
            ports: Vec::new(),
            publications: Vec::new(),
            owner: None,
        });
        id
    }

    fn engine_endpoint(&self, id: EndpointId) -> Option<Arc<Endpoint>> {
        let endpoint = self.model.endpoints.get(&id);
        endpoint.filter(|endpoint| endpoint.inside != Inside::Netd).map(Arc::clone)
    }

    fn change_endpoint(&mut self, id: EndpointId, change: impl FnOnce(&mut Endpoint)) {
        if let Some(endpoint) = self.model.endpoints.get_mut(&id) {
            change(Arc::make_mut(endpoint));
        }
    }
}

/// The sandbox of a key. Engines write one key as `/run/docker/…` or `/var/run/docker/…`.
fn sandbox_of(model: &Model, key: &Path) -> Option<SandboxId> {
    let kept = model.sandboxes.values().filter(|sandbox| sandbox.keeper == Keeper::Engine);
    let mut kept = kept.filter(|sandbox| sandbox.netns.file_name() == key.file_name());
    kept.next().map(|sandbox| sandbox.id)
}

fn find_network(model: &Model, asked: &AdoptedEndpoint) -> Result<Arc<Network>, Refusal> {
    let network = model.networks.get(&asked.network);
    let network = network.filter(|network| network.keeper == Keeper::Engine);
    network
        .map(Arc::clone)
        .ok_or_else(|| Refusal::not_found(format_args!("network {} not found", asked.network)))
}

fn is_same(held: &Endpoint, asked: &AdoptedEndpoint) -> bool {
    let mac = asked.mac.as_deref().filter(|mac| !mac.is_empty());
    held.inside != Inside::Netd
        && (held.network, held.v4, held.v6) == (asked.network, asked.v4, asked.v6)
        && mac.is_none_or(|mac| mac.eq_ignore_ascii_case(&format_mac(held.mac)))
}

fn check(asked: &AdoptedEndpoint, network: &Network) -> Result<(), Refusal> {
    let addresses = [asked.v4.map(IpAddr::V4), asked.v6.map(IpAddr::V6)];
    for addr in addresses.into_iter().flatten() {
        let pool = network.pools.iter().find(|pool| pool.subnet.contains(addr));
        if pool.is_none_or(|pool| pool.reserved().any(|reserved| reserved == addr)) {
            return Err(Refusal::invalid(format_args!(
                "invalid address {addr}: It does not belong to any of this network's subnets"
            )));
        }
    }
    match asked.options.keys().find(|key| key.starts_with("netd.")) {
        None => Ok(()),
        Some(key) => Err(Refusal::invalid(format_args!("unknown endpoint option {key}"))),
    }
}

/// Endpoints on the same network that have an address asked for.
fn holders(model: &Model, asked: &AdoptedEndpoint) -> Vec<EndpointId> {
    let same = |held: &&Arc<Endpoint>| {
        held.v4.is_some() && held.v4 == asked.v4 || held.v6.is_some() && held.v6 == asked.v6
    };
    model.endpoints_of_network(asked.network).filter(same).map(|held| held.id).collect()
}

fn unknown(id: EndpointId) -> Refusal {
    Refusal::not_found(format_args!("endpoint {id} not found"))
}
