//! Finding objects: by the words of a user, and by their relations.
//!
//! Law: a full id wins over a name, a name over an id prefix; a prefix must be unique.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::id::{NetworkId, SandboxId};
use super::network::{DriverKind, Network};
use super::refusal::Refusal;
use super::sandbox::Sandbox;
use super::{Endpoint, Model};

impl Model {
    /// The network of a name, id or unique id prefix.
    pub fn find_network(&self, wanted: &str) -> Result<&Arc<Network>, Refusal> {
        if let Some(network) = wanted.parse().ok().and_then(|id| self.networks.get(&id)) {
            return Ok(network);
        }
        if let Some(network) = self.network_named(wanted) {
            return Ok(network);
        }
        let mut found = with_prefix(&self.networks, wanted, NetworkId);
        match (found.next(), found.count()) {
            (None, _) => Err(Refusal::not_found(format_args!("network {wanted} not found"))),
            (Some(network), 0) => Ok(network),
            (Some(_), more) => Err(Refusal::invalid(format_args!(
                "network {wanted} is ambiguous ({} matches found based on ID prefix)",
                more + 1
            ))),
        }
    }

    /// The sandbox of a name, id or unique id prefix.
    pub fn find_sandbox(&self, wanted: &str) -> Result<&Arc<Sandbox>, Refusal> {
        if let Some(sandbox) = wanted.parse().ok().and_then(|id| self.sandboxes.get(&id)) {
            return Ok(sandbox);
        }
        if let Some(sandbox) = self.sandbox_named(wanted.strip_prefix('/').unwrap_or(wanted)) {
            return Ok(sandbox);
        }
        let mut found = with_prefix(&self.sandboxes, wanted, SandboxId);
        match (found.next(), found.next()) {
            (None, _) => Err(Refusal::not_found(format_args!("No such container: {wanted}"))),
            (Some(sandbox), None) => Ok(sandbox),
            (Some(_), Some(_)) => Err(Refusal::invalid(format_args!(
                "multiple IDs found with provided prefix: {wanted}"
            ))),
        }
    }

    /// The network of exactly this name.
    pub fn network_named(&self, name: &str) -> Option<&Arc<Network>> {
        self.networks.values().find(|network| network.name == name)
    }

    /// The sandbox of exactly this name.
    pub fn sandbox_named(&self, name: &str) -> Option<&Arc<Sandbox>> {
        self.sandboxes.values().find(|sandbox| sandbox.name == name)
    }

    /// Endpoints of a network, by id.
    pub fn endpoints_of_network(&self, network: NetworkId) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.values().filter(move |endpoint| endpoint.network == network)
    }

    /// Endpoints of a sandbox, by id.
    pub fn endpoints_of_sandbox(&self, sandbox: SandboxId) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.values().filter(move |endpoint| endpoint.sandbox == Some(sandbox))
    }

    /// Addresses of the host on the predefined bridge: what `host-gateway` stands for.
    pub fn bridge_gateways(&self) -> Vec<IpAddr> {
        let bridge =
            self.networks.values().find(|it| it.predefined && it.driver == DriverKind::Bridge);
        bridge.into_iter().flat_map(|it| &it.pools).filter_map(|pool| pool.gateway).collect()
    }

    /// The endpoint of a sandbox on a network.
    pub fn endpoint_between(
        &self,
        sandbox: SandboxId,
        network: NetworkId,
    ) -> Option<&Arc<Endpoint>> {
        self.endpoints_of_sandbox(sandbox).find(|endpoint| endpoint.network == network)
    }

    /// The endpoint that provides a sandbox's default route of a family, and so its published ports:
    /// the highest gateway priority, then the first network name; never an internal network.
    pub fn gateway_endpoint(&self, sandbox: SandboxId, v6: bool) -> Option<&Endpoint> {
        self.endpoints_of_sandbox(sandbox)
            .filter(|end| end.may_be_gateway() && self.gateway_of(end, v6).is_some())
            .min_by_key(|endpoint| self.gateway_rank(endpoint))
            .map(Arc::as_ref)
    }

    /// The gateway endpoints of a family of all sandboxes, in one walk.
    pub fn gateway_endpoints(&self, v6: bool) -> BTreeMap<SandboxId, &Endpoint> {
        let mut gateways: BTreeMap<SandboxId, &Endpoint> = BTreeMap::new();
        let serving =
            |end: &&Arc<Endpoint>| end.may_be_gateway() && self.gateway_of(end, v6).is_some();
        for endpoint in self.endpoints.values().filter(serving) {
            let Some(sandbox) = endpoint.sandbox else { continue };
            let chosen = gateways.entry(sandbox).or_insert(endpoint);
            if self.gateway_rank(endpoint) < self.gateway_rank(chosen) {
                *chosen = endpoint;
            }
        }
        gateways
    }

    fn gateway_rank(&self, endpoint: &Endpoint) -> (Reverse<i32>, usize, Option<&str>) {
        let network = self.networks.get(&endpoint.network);
        let name = network.map(|network| network.name.as_str());
        (Reverse(endpoint.gw_priority), endpoint.breadth(), name)
    }

    /// The next hop that an endpoint offers for the default route of a family.
    pub fn gateway_of(&self, endpoint: &Endpoint, v6: bool) -> Option<IpAddr> {
        let network = self.networks.get(&endpoint.network)?;
        let held = if v6 { endpoint.v6.map(IpAddr::V6) } else { endpoint.v4.map(IpAddr::V4) }?;
        if network.internal || network.driver != DriverKind::Bridge {
            return None;
        }
        let own = network.pools_of(v6).find(|pool| pool.subnet.contains(held));
        own.and_then(super::network::Pool::container_gateway)
    }
}

/// Objects whose id begins with these hex digits.
fn with_prefix<'a, K: Ord + Copy, V>(
    objects: &'a BTreeMap<K, V>,
    digits: &str,
    id: fn([u8; 32]) -> K,
) -> impl Iterator<Item = &'a V> + use<'a, K, V> {
    let hex = (1..=64).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let bound = |fill: u8| {
        let mut nibbles = [fill; 64];
        for (nibble, digit) in nibbles.iter_mut().zip(digits.bytes()) {
            *nibble = hex_value(digit);
        }
        id(std::array::from_fn(|i| nibbles[2 * i] << 4 | nibbles[2 * i + 1]))
    };
    hex.then(|| objects.range(bound(0)..=bound(15)).map(|(_, object)| object)).into_iter().flatten()
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}
