//! What holds of every model, checked after loading one and by the tests after every command.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use netd_common::map::{MAX_ENDPOINTS, MAX_NETWORKS, MAX_PUBLICATIONS};

use super::network::{DriverKind, Network};
use super::pool::overlap;
use super::port::Publication;
use super::sandbox::SandboxMode;
use super::{Inside, Model, Sandbox};

/// Every broken law, each a sentence; empty for a sound model.
pub fn invariants(model: &Model) -> Vec<String> {
    let mut broken = Vec::new();
    keys(model, &mut broken);
    names_and_numbers(model, &mut broken);
    links(model, &mut broken);
    pools(model, &mut broken);
    leases(model, &mut broken);
    for network in model.networks.values() {
        addresses(model, network, &mut broken);
    }
    relations(model, &mut broken);
    publications(model, &mut broken);
    broken
}

fn keys(model: &Model, broken: &mut Vec<String>) {
    let sound = model.networks.iter().all(|(id, network)| *id == network.id)
        && model.endpoints.iter().all(|(id, endpoint)| *id == endpoint.id)
        && model.sandboxes.iter().all(|(id, sandbox)| *id == sandbox.id);
    if !sound {
        broken.push("an object is kept under another's id".to_owned());
    }
}

fn names_and_numbers(model: &Model, broken: &mut Vec<String>) {
    unique("network name", model.networks.values().map(|n| &n.name), broken);
    unique("sandbox name", model.sandboxes.values().map(|s| &s.name), broken);
    unique("network index", model.networks.values().map(|n| n.index), broken);
    unique("endpoint index", model.endpoints.values().map(|e| e.index), broken);
    let networks = model.networks.values().map(|n| n.index);
    within("network index", MAX_NETWORKS, networks, broken);
    within("endpoint index", MAX_ENDPOINTS, model.endpoints.values().map(|e| e.index), broken);
    within("publication slot", MAX_PUBLICATIONS, rows(model).map(|row| row.slot), broken);
    unique("publication slot", rows(model).map(|row| row.slot), broken);
}

fn links(model: &Model, broken: &mut Vec<String>) {
    let devices = model.networks.values().map(|network| &network.bridge.device);
    let devices = devices.filter(|device| !device.is_empty());
    let veths = model.endpoints.values().map(|endpoint| &endpoint.veth);
    unique("link name", devices.chain(veths), broken);
    let own = model.sandboxes.values().filter(|sandbox| sandbox.mode != SandboxMode::Host);
    unique("namespace", own.map(|sandbox| &sandbox.netns), broken);
    let joined = || model.endpoints.values().filter(|end| end.sandbox.is_some());
    unique("interface", joined().map(|end| (end.sandbox, &end.interface)), broken);
    let memberships = joined().map(|end| (end.sandbox, end.network));
    unique("membership", memberships, broken);
}

fn pools(model: &Model, broken: &mut Vec<String>) {
    let pools: Vec<_> = model.pools().collect();
    for (at, pool) in pools.iter().enumerate() {
        if let Some(other) = pools[at + 1..].iter().find(|other| overlap(*pool, **other)) {
            broken.push(format!("pools {pool} and {other} overlap"));
        }
    }
}

fn leases(model: &Model, broken: &mut Vec<String>) {
    let leases: Vec<_> = model.leases.values().collect();
    for (at, lease) in leases.iter().enumerate() {
        let subnet = lease.id.subnet;
        if lease.addresses.keys().any(|addr| !subnet.contains(*addr)) {
            broken.push(format!("{} holds an address that is not its own", lease.id));
        }
        let mut others = leases[at + 1..].iter().map(|other| other.id.subnet);
        let mut pools = model.pools().filter(|pool| *pool != subnet);
        if others.any(|other| overlap(subnet, other)) || pools.any(|pool| overlap(subnet, pool)) {
            broken.push(format!("{} overlaps another pool", lease.id));
        }
    }
}

fn addresses(model: &Model, network: &Network, broken: &mut Vec<String>) {
    let reserved: BTreeSet<IpAddr> =
        network.pools.iter().flat_map(super::network::Pool::reserved).collect();
    let held = |v6| model.endpoints_of_network(network.id).filter_map(move |end| end.address(v6));
    for addr in held(false).chain(held(true)) {
        let inside = network.pools.iter().any(|pool| pool.subnet.contains(addr));
        if !inside || reserved.contains(&addr) {
            broken.push(format!("address {addr} is not for endpoints of {}", network.name));
        }
    }
    unique("address", held(false).chain(held(true)), broken);
    unique("MAC", model.endpoints_of_network(network.id).map(|end| end.mac), broken);
}

fn relations(model: &Model, broken: &mut Vec<String>) {
    for endpoint in model.endpoints.values() {
        let network = model.networks.get(&endpoint.network);
        let sandbox = endpoint.sandbox.map(|id| model.sandboxes.get(&id));
        let bridged = |it: &Arc<Sandbox>| it.mode == SandboxMode::Bridged;
        let sound = network.is_some_and(|network| network.driver == DriverKind::Bridge)
            && sandbox.map_or(endpoint.inside != Inside::Netd, |it| it.is_some_and(bridged));
        if !sound {
            broken.push(format!("endpoint {} lacks its network or sandbox", endpoint.id));
        }
    }
}

fn publications(model: &Model, broken: &mut Vec<String>) {
    let doors = [false, true].map(|v6| model.gateway_endpoints(v6));
    for sandbox in model.sandboxes.values() {
        for row in &sandbox.publications {
            let doors = &doors[usize::from(row.host_ip.is_ipv6())];
            if !doors.contains_key(&sandbox.id) || row.count == 0 {
                broken.push(format!("{row:?} of {} leads nowhere", sandbox.name));
            }
        }
    }
    let mut rows: Vec<_> = rows(model).filter(|row| row.takes_host_port()).collect();
    rows.sort_unstable_by_key(|row| (row.proto, row.host_ip.is_ipv6(), row.host_port));
    for (at, row) in rows.iter().enumerate() {
        let mut near = rows[at + 1..].iter().take_while(|other| {
            other.proto == row.proto && other.host_port <= row.host_port_last()
        });
        if let Some(other) = near.find(|other| same_place(row, other)) {
            broken.push(format!("{row:?} and {other:?} share a port"));
        }
    }
}

fn same_place(a: &Publication, b: &Publication) -> bool {
    a.host_ip.is_ipv6() == b.host_ip.is_ipv6()
        && (a.host_ip == b.host_ip || a.host_ip.is_unspecified() || b.host_ip.is_unspecified())
}

fn rows(model: &Model) -> impl Iterator<Item = &Publication> {
    model.sandboxes.values().flat_map(|sandbox| &sandbox.publications)
}

fn unique<T: Ord + Debug>(what: &str, values: impl Iterator<Item = T>, broken: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for value in values {
        if let Some(twice) = seen.replace(value) {
            broken.push(format!("{what} {twice:?} is there twice"));
        }
    }
}

fn within(what: &str, limit: u32, values: impl Iterator<Item = u32>, broken: &mut Vec<String>) {
    broken.extend(
        values
            .filter(|at| *at == 0 || *at >= limit)
            .map(|at| format!("{what} {at} is out of range")),
    );
}
