//! Prefixes for networks: chosen from the default pools, or checked where a user names them.
//!
//! Law: pools of two networks never overlap; an automatic one doesn't overlap the host's routes and
//! name servers either.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{IpNetwork, Ipv4Network};

use super::ipam::{Span, address, width};
use super::refusal::Refusal;
use super::{AddressPool, Circumstances, Model, Settings};

impl AddressPool {
    /// Docker's 31 networks: 172.17 to 172.31 as /16, 192.168 as /20.
    pub fn docker_defaults() -> Vec<Self> {
        [
            ([172, 17, 0, 0], 16, 16),
            ([172, 18, 0, 0], 16, 16),
            ([172, 19, 0, 0], 16, 16),
            ([172, 20, 0, 0], 14, 16),
            ([172, 24, 0, 0], 14, 16),
            ([172, 28, 0, 0], 14, 16),
            ([192, 168, 0, 0], 16, 20),
        ]
        .into_iter()
        .filter_map(|(base, prefix, size)| {
            let base = Ipv4Network::new(Ipv4Addr::from(base), prefix).ok()?;
            Some(Self { base: base.into(), size })
        })
        .collect()
    }
}

impl Model {
    /// The first free prefix of the default pools, of their size or of one asked for.
    pub(super) fn free_pool(
        &self,
        now: &Circumstances,
        v6: bool,
        size: Option<u8>,
    ) -> Result<IpNetwork, Refusal> {
        let occupied = now.occupied.iter().copied().filter(|prefix| prefix.prefix() > 0);
        let used = merged(self.prefixes().chain(occupied).filter(|prefix| prefix.is_ipv6() == v6));
        default_pools(&now.settings, v6)
            .into_iter()
            .find_map(|pool| first_free(pool.base, size.unwrap_or(pool.size), &used))
            .ok_or_else(|| {
                Refusal::conflict("all predefined address pools have been fully subnetted")
            })
    }

    /// Refuses a prefix that overlaps a network's or an engine's.
    pub(super) fn check_overlap(&self, subnet: IpNetwork) -> Result<(), Refusal> {
        let taken = self.prefixes().any(|held| overlap(held, subnet));
        if taken { Err(overlapping()) } else { Ok(()) }
    }

    /// The prefixes of all networks and all that engines have asked for.
    fn prefixes(&self) -> impl Iterator<Item = IpNetwork> {
        self.pools().chain(self.leases.keys().map(|id| id.subnet))
    }

    /// The prefixes of all networks.
    pub(super) fn pools(&self) -> impl Iterator<Item = IpNetwork> {
        self.networks.values().flat_map(|network| network.pools.iter().map(|pool| pool.subnet))
    }
}

/// Docker's sentence for a prefix that is taken.
pub(super) fn overlapping() -> Refusal {
    Refusal::forbidden("invalid pool request: Pool overlaps with other one on this address space")
}

/// Whether two prefixes share an address.
pub(super) fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    a.is_ipv6() == b.is_ipv6() && Span::of(a).overlaps(Span::of(b))
}

/// The configured pools of a family; where there are none, Docker's for IPv4, the host's ULA for IPv6.
fn default_pools(settings: &Settings, v6: bool) -> Vec<AddressPool> {
    let configured = settings.default_address_pools.iter().filter(|pool| pool.base.is_ipv6() == v6);
    let configured: Vec<_> = configured.copied().collect();
    match (configured.is_empty(), v6) {
        (false, _) => configured,
        (true, false) => AddressPool::docker_defaults(),
        (true, true) => vec![AddressPool { base: settings.ula_prefix.into(), size: 64 }],
    }
}

/// Spans in order, those that touch or overlap joined: what a search can leap over.
fn merged(prefixes: impl Iterator<Item = IpNetwork>) -> Vec<Span> {
    let mut spans: Vec<_> = prefixes.map(Span::of).collect();
    spans.sort_unstable();
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(span.last);
            }
            Some(_) | None => merged.push(span),
        }
    }
    merged
}

/// The first prefix of a length within a base that meets no used span.
fn first_free(base: IpNetwork, size: u8, used: &[Span]) -> Option<IpNetwork> {
    let width = width(base);
    if size < base.prefix() || size > width || size == 0 {
        return None;
    }
    let step = 1u128 << (width - size);
    let (whole, mut first) = (Span::of(base), Span::of(base).first);
    loop {
        let candidate = Span { first, last: first.checked_add(step - 1)? };
        if candidate.last > whole.last {
            return None;
        }
        let before = used.partition_point(|span| span.first <= candidate.last);
        match before.checked_sub(1).map(|at| used[at]).filter(|span| span.overlaps(candidate)) {
            None => return IpNetwork::new(address(first, base.is_ipv6()), size).ok(),
            Some(span) => first = span.last.checked_add(1)?.checked_next_multiple_of(step)?,
        }
    }
}

/// A prefix in strict CIDR form, host bits kept: no netmasks, no bare addresses, no signs.
pub(super) fn parse_prefix(text: &str) -> Option<IpNetwork> {
    let (addr, length) = text.split_once('/')?;
    let plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = plain && (length.len() == 1 || !length.starts_with('0'));
    let length = canonical.then(|| length.parse().ok()).flatten()?;
    IpNetwork::new(addr.parse::<IpAddr>().ok()?, length).ok()
}

/// The prefix without host bits.
pub(super) fn masked(prefix: IpNetwork) -> IpNetwork {
    IpNetwork::new(prefix.network(), prefix.prefix()).unwrap_or(prefix)
}
