//! Pools and addresses requested on their own.
//!
//! Laws: the same pool asked for again is the same pool, counted once; an address that an endpoint or
//! a network of ours has is never granted to another nor given back, unless the endpoint is in no
//! sandbox: it ends with its address; a prefix that is asked for without a name is another one each
//! time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::lease::{Lease, PoolId};
use super::{AddressRequest, AddressRole, PoolRequest};
use crate::model::apply::Change;
use crate::model::id::EndpointId;
use crate::model::ipam::{Span, address, edges, lowest_free, number};
use crate::model::network::SubnetSpec;
use crate::model::refusal::Refusal;
use crate::model::subnet::{family, parse_subnets};
use crate::model::{Keeper, Model, Network, Outcome};

/// An address of a network that no endpoint has had for so long was forgotten: nanoseconds.
const FORGOTTEN_NS: i64 = 60_000_000_000;

impl Change<'_> {
    pub(super) fn request_pool(&mut self, request: &PoolRequest) -> Result<Outcome, Refusal> {
        let id = self.pool_asked_for(request)?;
        if !self.model.leases.contains_key(&id) {
            self.lease(&id)?;
        }
        Ok(Outcome::Pool(id))
    }

    fn pool_asked_for(&self, request: &PoolRequest) -> Result<PoolId, Refusal> {
        let space = request.space.clone();
        let named = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let Some(subnet) = named(&request.subnet) else {
            if named(&request.range).is_some() {
                return Err(Refusal::invalid("invalid pool request: an ip-range needs its subnet"));
            }
            let subnet = self.model.free_pool(self.now, request.v6, None)?;
            return Ok(PoolId { space, subnet, range: None });
        };
        let spec = SubnetSpec { subnet, ip_range: named(&request.range), ..SubnetSpec::default() };
        let asked = parse_subnets(&[spec])?;
        let Some(asked) = asked.first() else {
            unreachable!("a subnet that is named is parsed or refused")
        };
        if asked.subnet.is_ipv6() != request.v6 {
            let family = family(request.v6);
            return Err(Refusal::invalid(format_args!(
                "invalid pool request: {} is no {family} prefix",
                asked.subnet
            )));
        }
        Ok(PoolId { space, subnet: asked.subnet, range: asked.range })
    }

    /// Takes note of a pool that is new to us.
    fn lease(&mut self, id: &PoolId) -> Result<Arc<Lease>, Refusal> {
        let of_network = network_with(&self.model, id.subnet).is_some();
        let taken = self.model.leases.keys().any(|held| held.subnet == id.subnet);
        if !of_network || taken {
            self.model.check_overlap(id.subnet)?;
        }
        let lease = Arc::new(Lease { id: id.clone(), addresses: BTreeMap::new() });
        self.model.leases.insert(id.clone(), Arc::clone(&lease));
        Ok(lease)
    }

    pub(super) fn release_pool(&mut self, id: &PoolId) -> Outcome {
        if network_with(&self.model, id.subnet).is_none() {
            self.model.leases.remove(id);
        }
        Outcome::Done
    }

    pub(super) fn request_address(&mut self, request: AddressRequest) -> Result<Outcome, Refusal> {
        let AddressRequest { pool, addr, role } = request;
        let lease = match self.model.leases.get(&pool) {
            Some(lease) => Arc::clone(lease),
            // Told of a pool that we have lost: its id says what it is.
            None => self.lease(&pool)?,
        };
        let addr = match addr {
            Some(addr) => self.claim(&lease, addr, role)?,
            None => self.lowest(&lease)?,
        };
        let mut lease = Lease::clone(&lease);
        lease.addresses.insert(addr, self.now.now_ns);
        self.model.leases.insert(pool.clone(), Arc::new(lease));
        let granted = IpNetwork::new(addr, pool.subnet.prefix()).map_err(Refusal::invalid)?;
        Ok(Outcome::Address(granted))
    }

    fn claim(&self, lease: &Lease, addr: IpAddr, role: AddressRole) -> Result<IpAddr, Refusal> {
        let subnet = lease.id.subnet;
        if !subnet.contains(addr) {
            return Err(Refusal::invalid(format_args!(
                "invalid address {addr}: It does not belong to any of this network's subnets"
            )));
        }
        let edge = edges(subnet).contains(&Some(addr));
        let held = lease.addresses.get(&addr).is_some_and(|since| !self.is_forgotten(addr, *since));
        let taken = role == AddressRole::Endpoint && (held || is_in_use(&self.model, subnet, addr));
        if edge || taken {
            return Err(Refusal::conflict("Address already in use"));
        }
        Ok(addr)
    }

    /// The lowest free address; where there is none, the lowest that was forgotten.
    fn lowest(&self, lease: &Lease) -> Result<IpAddr, Refusal> {
        let subnet = lease.id.subnet;
        let span = Span::of(lease.id.range.unwrap_or(subnet));
        let in_use = in_use(&self.model, subnet);
        let fixed = || edges(subnet).into_iter().flatten().chain(in_use.iter().copied());
        let free = |keep_forgotten: bool| {
            let held = lease.addresses.iter();
            let held = held.filter(|(a, since)| keep_forgotten || !self.is_forgotten(**a, **since));
            lowest_free(span, fixed().chain(held.map(|(addr, _)| *addr)).map(number))
        };
        let number = free(true).or_else(|| free(false)).ok_or_else(|| {
            let network = network_with(&self.model, subnet);
            let whose = network.map_or_else(String::new, |it| format!(": {} ({})", it.name, it.id));
            let family = family(subnet.is_ipv6());
            Refusal::conflict(format_args!(
                "no available {family} addresses on this network's address pools{whose}"
            ))
        })?;
        Ok(address(number, subnet.is_ipv6()))
    }

    /// Whether an address of a network of ours was granted long ago and no endpoint has it: its owner
    /// ended before it made one, or without giving it back.
    fn is_forgotten(&self, addr: IpAddr, since_ns: i64) -> bool {
        let network = network_holding(&self.model, addr);
        let unused =
            |network: &Network| !is_in_use(&self.model, network_prefix(network, addr), addr);
        let age_ns = self.now.now_ns.saturating_sub(since_ns);
        age_ns > FORGOTTEN_NS && network.is_some_and(unused)
    }

    pub(super) fn release_address(
        &mut self,
        id: &PoolId,
        addr: IpAddr,
    ) -> Result<Outcome, Refusal> {
        let granted = |lease: &Arc<Lease>| lease.addresses.contains_key(&addr);
        if !self.model.leases.get(id).is_some_and(granted) {
            return Ok(Outcome::Done);
        }
        for unheard in outside_sandboxes(&self.model, id.subnet, addr) {
            self.delete_endpoint(unheard)?;
        }
        if !is_in_use(&self.model, id.subnet, addr)
            && let Some(lease) = self.model.leases.get_mut(id)
        {
            Arc::make_mut(lease).addresses.remove(&addr);
        }
        Ok(Outcome::Done)
    }
}

/// The endpoints with an address that are in no sandbox. An engine gives an address back after its
/// endpoint, and without a word about one that it has heard no answer about.
fn outside_sandboxes(model: &Model, subnet: IpNetwork, addr: IpAddr) -> Vec<EndpointId> {
    let Some(network) = network_with(model, subnet) else { return Vec::new() };
    let ends = model.endpoints_of_network(network.id).filter(|end| end.sandbox.is_none());
    ends.filter(|end| end.address(addr.is_ipv6()) == Some(addr)).map(|end| end.id).collect()
}

/// The engine's network that has exactly this prefix.
fn network_with(model: &Model, subnet: IpNetwork) -> Option<&Network> {
    let kept = model.networks.values().filter(|network| network.keeper == Keeper::Engine);
    let mut kept = kept.filter(|network| network.pools.iter().any(|pool| pool.subnet == subnet));
    kept.next().map(Arc::as_ref)
}

fn network_holding(model: &Model, addr: IpAddr) -> Option<&Network> {
    let kept = model.networks.values().filter(|network| network.keeper == Keeper::Engine);
    let mut kept = kept.filter(|it| it.pools.iter().any(|pool| pool.subnet.contains(addr)));
    kept.next().map(Arc::as_ref)
}

fn network_prefix(network: &Network, addr: IpAddr) -> IpNetwork {
    let pool = network.pools.iter().find(|pool| pool.subnet.contains(addr));
    pool.map_or_else(|| addr.into(), |pool| pool.subnet)
}

/// The addresses that the network of a prefix and its endpoints have.
fn in_use(model: &Model, subnet: IpNetwork) -> Vec<IpAddr> {
    let Some(network) = network_with(model, subnet) else { return Vec::new() };
    let endpoints = model.endpoints_of_network(network.id);
    let held = endpoints.flat_map(|end| [false, true].into_iter().filter_map(|v6| end.address(v6)));
    let reserved = network.pools.iter().flat_map(crate::model::network::Pool::reserved);
    reserved.chain(held).filter(|addr| subnet.contains(*addr)).collect()
}

fn is_in_use(model: &Model, subnet: IpNetwork, addr: IpAddr) -> bool {
    in_use(model, subnet).contains(&addr)
}
