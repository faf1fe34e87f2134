//! Networks under an engine's ids.
//!
//! Law: the engine has chosen the addresses; here they are checked, never changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{AdoptedNetwork, AdoptedPool};
use crate::model::apply::Change;
use crate::model::create_network::Plan;
use crate::model::id::NetworkId;
use crate::model::network::{DriverKind, GatewayMode, Pool};
use crate::model::options;
use crate::model::pool::{overlap, overlapping};
use crate::model::refusal::Refusal;
use crate::model::{Keeper, Model, Network, Outcome};

/// The IPAM driver of networks whose addresses an engine gives out.
const IPAM_ENGINE: &str = "engine";

impl Change<'_> {
    pub(super) fn adopt_network(&mut self, asked: AdoptedNetwork) -> Result<Outcome, Refusal> {
        let id = asked.id;
        let held = self.model.networks.get(&id).map(Arc::clone);
        if let Some(held) = &held {
            self.model.networks.remove(&held.id);
        }
        let network = self.plan_adopted(asked)?;
        let network = match held {
            None => network,
            Some(held) if is_same(&held, &network) => Network::clone(&held),
            Some(_) => {
                return Err(Refusal::conflict(format_args!(
                    "network {id} already exists with other pools or options"
                )));
            }
        };
        self.put_network(network);
        Ok(Outcome::Network(id))
    }

    fn plan_adopted(&mut self, asked: AdoptedNetwork) -> Result<Network, Refusal> {
        let AdoptedNetwork { id, ipv4, ipv6, internal, options, pools } = asked;
        let bridge = options::understand(&options)?;
        let plan = Plan { ipv4, ipv6, internal, asked: Vec::new(), bridge };
        let pools = check_pools(&self.model, pools)?;
        for v6 in [false, true] {
            self.check_pool_room(&pools, v6)?;
        }
        Ok(Network {
            name: self.free_network_name(id),
            keeper: Keeper::Engine,
            pools,
            ipam_driver: IPAM_ENGINE.to_owned(),
            options,
            ..self.plan_network(plan, DriverKind::Bridge, Some(id))?
        })
    }

    /// The engine tells no name: its id's digits, as many as it takes.
    fn free_network_name(&self, id: NetworkId) -> String {
        let digits = id.to_string();
        let free = |len: &usize| self.model.network_named(&digits[..*len]).is_none();
        let len = (12..digits.len()).find(free).unwrap_or(digits.len());
        digits[..len].to_owned()
    }

    pub(super) fn delete_network(&mut self, id: NetworkId) -> Result<Outcome, Refusal> {
        let Some(network) = self.model.networks.get(&id).filter(|it| it.keeper == Keeper::Engine)
        else {
            return Ok(Outcome::Done);
        };
        let id = network.id;
        let members = self.model.endpoints_of_network(id).map(|endpoint| endpoint.id);
        for endpoint in members.collect::<Vec<_>>() {
            self.delete_endpoint(endpoint)?;
        }
        self.drop_network(id);
        Ok(Outcome::Network(id))
    }

    /// Takes a network out with the pools that an engine asked for on its behalf.
    pub(in crate::model) fn drop_network(&mut self, id: NetworkId) {
        let Some(network) = self.model.networks.remove(&id) else { return };
        if network.keeper == Keeper::Engine {
            let of_it = |subnet| network.pools.iter().any(|pool| pool.subnet == subnet);
            self.model.leases.retain(|lease, _| !of_it(lease.subnet));
        }
    }
}

/// Whether the same was asked for. A network adopted before options had a meaning keeps it.
fn is_same(held: &Network, asked: &Network) -> bool {
    let shape = |network: &Network| (network.ipv4, network.ipv6, network.internal);
    held.keeper == Keeper::Engine
        && shape(held) == shape(asked)
        && held.pools == asked.pools
        && held.options == asked.options
}

fn check_pools(model: &Model, asked: Vec<AdoptedPool>) -> Result<Vec<Pool>, Refusal> {
    let mut pools: Vec<Pool> = Vec::new();
    for pool in asked {
        let subnet = pool.subnet;
        let leases = model.leases.keys().map(|lease| lease.subnet);
        let mut others = leases.filter(|lease| !(pool.leased && *lease == subnet));
        let twice = pools.iter().any(|other| overlap(other.subnet, subnet));
        let taken = model.pools().any(|other| overlap(other, subnet));
        if twice || taken || others.any(|other| overlap(other, subnet)) {
            return Err(overlapping());
        }
        pools.push(check_pool(pool)?);
    }
    Ok(pools)
}

fn check_pool(asked: AdoptedPool) -> Result<Pool, Refusal> {
    let AdoptedPool { subnet, gateway, aux_addresses, .. } = asked;
    let mut named = gateway.iter().chain(aux_addresses.values());
    match named.find(|addr| !subnet.contains(**addr)) {
        Some(addr) => Err(Refusal::invalid(format_args!(
            "invalid address {addr}: parent subnet {subnet} doesn't contain this address"
        ))),
        None => Ok(Pool { subnet, range: None, gateway, aux_addresses, configured: true }),
    }
}

/// Whether an engine should leave out the gateway address of a family: options alone say it.
pub fn needs_no_gateway(
    options: &BTreeMap<String, String>,
    internal: bool,
) -> Result<[bool; 2], Refusal> {
    let bridge = options::understand(options)?;
    let isolated = |mode| mode == GatewayMode::Isolated;
    let unused = bridge.inhibit_ipv4 && internal;
    Ok([isolated(bridge.gateway_mode_v4) || unused, isolated(bridge.gateway_mode_v6)])
}
