//! Addresses within the pools of a network.
//!
//! Laws: the lowest free address first; no address twice on a network; what a pool reserves is never
//! handed out. Addresses in use are the endpoints' own: there is no second book to keep in step.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::id::NetworkId;
use super::network::{Network, Pool};
use super::refusal::Refusal;
use super::{Endpoint, Model};

/// How full a pool is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    /// Its network.
    pub network: NetworkId,
    /// Its network's name.
    pub network_name: String,
    /// Its prefix.
    pub pool: IpNetwork,
    /// Addresses of endpoints, the gateway and auxiliary ones.
    pub allocated: u128,
    /// Addresses that endpoints can still get without asking for one by name.
    pub available: u128,
}

impl Model {
    /// How full each pool is, by network id.
    pub fn pool_usage(&self) -> Vec<PoolUsage> {
        let mut held: BTreeMap<NetworkId, Vec<IpAddr>> = BTreeMap::new();
        for endpoint in self.endpoints.values() {
            let addresses = [false, true].into_iter().filter_map(|v6| endpoint.address(v6));
            held.entry(endpoint.network).or_default().extend(addresses);
        }
        let held = |network: &Network| held.get(&network.id).map_or(&[][..], Vec::as_slice);
        self.networks
            .values()
            .flat_map(|network| network.pools.iter().map(move |pool| (network, pool)))
            .map(|(network, pool)| PoolUsage::of(network, pool, held(network)))
            .collect()
    }

    /// The lowest free address of a family on a network; none where the network lacks the family.
    pub(super) fn free_address(
        &self,
        network: &Network,
        v6: bool,
    ) -> Result<Option<IpAddr>, Refusal> {
        if network.pools_of(v6).next().is_none() {
            return Ok(None);
        }
        let held: Vec<_> = addresses(self, network.id, v6).collect();
        let free = network.pools_of(v6).find_map(|pool| pool.lowest_free(&held));
        free.map(Some).ok_or_else(|| {
            Refusal::conflict(format_args!(
                "no available {} addresses on this network's address pools: {} ({}); remove \
                 containers from it, or create a network with a larger subnet",
                if v6 { "IPv6" } else { "IPv4" },
                network.name,
                network.id
            ))
        })
    }

    /// Grants an address that a user asked for by name.
    pub(super) fn claim_address(
        &self,
        network: &Network,
        asked: IpAddr,
    ) -> Result<IpAddr, Refusal> {
        let Some(pool) = configured_pool(network, asked) else {
            return Err(Refusal::invalid(outside(asked)));
        };
        let mut taken = pool.reserved().chain(addresses(self, network.id, asked.is_ipv6()));
        if taken.any(|addr| addr == asked) {
            return Err(Refusal::conflict("Address already in use"));
        }
        Ok(asked)
    }
}

impl PoolUsage {
    fn of(network: &Network, pool: &Pool, held: &[IpAddr]) -> Self {
        let held: Vec<_> =
            held.iter().copied().filter(|addr| pool.subnet.contains(*addr)).collect();
        let mut named: Vec<_> = pool.named().collect();
        named.sort_unstable();
        named.dedup();
        let range = Span::of(pool.range.unwrap_or(pool.subnet));
        let mut taken: Vec<_> = pool.reserved().chain(held.iter().copied()).map(number).collect();
        taken.retain(|address| range.contains(*address));
        taken.sort_unstable();
        taken.dedup();
        Self {
            network: network.id,
            network_name: network.name.clone(),
            pool: pool.subnet,
            allocated: (held.len() + named.len()) as u128,
            available: range.size().saturating_sub(taken.len() as u128),
        }
    }
}

/// The pool that a user named and that holds an address.
pub(super) fn configured_pool(network: &Network, asked: IpAddr) -> Option<&Pool> {
    let mut pools = network.pools_of(asked.is_ipv6());
    pools.find(|pool| pool.configured && pool.subnet.contains(asked))
}

/// Docker's sentence for an address in no subnet that a user named.
pub(super) fn outside(asked: IpAddr) -> String {
    format!("no configured subnet contains IP address {asked}")
}

impl Endpoint {
    /// Its address of a family.
    pub fn address(&self, v6: bool) -> Option<IpAddr> {
        if v6 { self.v6.map(IpAddr::V6) } else { self.v4.map(IpAddr::V4) }
    }
}

impl Pool {
    /// Addresses that endpoints never get: the network's and broadcast address of IPv4 pools larger
    /// than /31, the anycast address of IPv6 pools larger than /127, the gateway, auxiliary ones.
    pub fn reserved(&self) -> impl Iterator<Item = IpAddr> {
        edges(self.subnet).into_iter().flatten().chain(self.named())
    }

    /// The lowest address that is neither reserved nor held.
    pub fn lowest_free(&self, held: &[IpAddr]) -> Option<IpAddr> {
        let taken = self.reserved().chain(held.iter().copied()).map(number);
        let free = lowest_free(Span::of(self.range.unwrap_or(self.subnet)), taken)?;
        Some(address(free, self.subnet.is_ipv6()))
    }

    fn named(&self) -> impl Iterator<Item = IpAddr> {
        self.gateway.into_iter().chain(self.aux_addresses.values().copied())
    }
}

/// First and last address of a subnet where they are special.
pub(super) fn edges(subnet: IpNetwork) -> [Option<IpAddr>; 2] {
    let (host_bits, v6) = (width(subnet) - subnet.prefix(), subnet.is_ipv6());
    let first = (host_bits > 1).then(|| subnet.network());
    [first, first.filter(|_| !v6).map(|_| subnet.broadcast())]
}

fn addresses(model: &Model, network: NetworkId, v6: bool) -> impl Iterator<Item = IpAddr> {
    model.endpoints_of_network(network).filter_map(move |endpoint| endpoint.address(v6))
}

/// The lowest number of a span that is not taken. With `n` taken, one of the first `n + 1` is free:
/// a bitmap of that many answers in one walk, whatever the order.
pub(super) fn lowest_free(span: Span, taken: impl Iterator<Item = u128>) -> Option<u128> {
    let taken: Vec<u128> = taken.filter(|number| span.contains(*number)).collect();
    let mut bitmap = vec![false; taken.len() + 1];
    for number in taken {
        let place = usize::try_from(number - span.first).ok();
        if let Some(bit) = place.and_then(|place| bitmap.get_mut(place)) {
            *bit = true;
        }
    }
    let place = bitmap.iter().position(|bit| !bit)? as u128;
    span.first.checked_add(place).filter(|number| *number <= span.last)
}

/// The lowest number from 1 to below a limit that is not taken: dataplane indexes and slots.
pub(super) fn lowest_index(limit: u32, taken: impl Iterator<Item = u32>) -> Option<u32> {
    let span = Span { first: 1, last: u128::from(limit) - 1 };
    let free = lowest_free(span, taken.map(u128::from))?;
    u32::try_from(free).ok()
}

/// Consecutive addresses of one family, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    /// The first.
    pub(super) first: u128,
    /// The last.
    pub(super) last: u128,
}

impl Span {
    /// All addresses of a prefix.
    pub(super) fn of(subnet: IpNetwork) -> Self {
        Self { first: number(subnet.network()), last: number(subnet.broadcast()) }
    }

    pub(super) fn contains(self, number: u128) -> bool {
        (self.first..=self.last).contains(&number)
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    fn size(self) -> u128 {
        (self.last - self.first).saturating_add(1)
    }
}

/// Bits of an address of the prefix's family.
pub(super) fn width(subnet: IpNetwork) -> u8 {
    if subnet.is_ipv6() { 128 } else { 32 }
}

/// An address as a number.
pub(super) fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u128::from(addr.to_bits()),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

/// The address of a number.
pub(super) fn address(number: u128, v6: bool) -> IpAddr {
    if v6 {
        return IpAddr::V6(Ipv6Addr::from_bits(number));
    }
    #[allow(clippy::cast_possible_truncation, reason = "IPv4 spans end at 2^32 - 1")]
    IpAddr::V4(Ipv4Addr::from_bits(number as u32))
}
