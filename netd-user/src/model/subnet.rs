//! From the subnets asked for to granted pools.
//!
//! Law: everything that is wrong with the words is said at once; only then is anything taken.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::ipam::edges;
use super::network::{GatewayMode, Pool, SubnetSpec};
use super::pool::{masked, overlap, overlapping, parse_prefix};
use super::refusal::Refusal;
use super::{Circumstances, Model};

/// A pool that is well asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AskedPool {
    /// The prefix; all zero for any of this length.
    pub(super) subnet: IpNetwork,
    pub(super) range: Option<IpNetwork>,
    pub(super) gateway: Option<IpAddr>,
    pub(super) aux_addresses: BTreeMap<String, IpAddr>,
}

/// Reads the subnets of a spec, or names all that is wrong with them.
pub(super) fn parse_subnets(specs: &[SubnetSpec]) -> Result<Vec<AskedPool>, Refusal> {
    let mut wrong = Vec::new();
    let mut asked = Vec::new();
    for spec in specs {
        if spec.subnet.is_empty() {
            if *spec != SubnetSpec::default() {
                wrong.push("every ip-range or gateway must have a corresponding subnet".to_owned());
            }
            continue;
        }
        asked.extend(parse_subnet(spec, &mut wrong));
    }
    if wrong.is_empty() {
        return Ok(asked);
    }
    let all = wrong.join("\n");
    Err(Refusal::invalid(format_args!("invalid network config:\n{all}")))
}

fn parse_subnet(spec: &SubnetSpec, wrong: &mut Vec<String>) -> Option<AskedPool> {
    let text = &spec.subnet;
    let Some(subnet) = parse_prefix(text) else {
        wrong.push(format!("invalid subnet {text}: invalid CIDR block notation"));
        return None;
    };
    if subnet != masked(subnet) {
        wrong.push(format!("invalid subnet {text}: it should be {}", masked(subnet)));
    }
    if let Some(why) = unusable(subnet) {
        wrong.push(format!("invalid subnet {text}: {why}"));
    }
    let range = spec.ip_range.as_deref().and_then(|text| parse_range(text, subnet, wrong));
    let gateway = spec.gateway.as_deref().and_then(|text| {
        parse_address(text, subnet)
            .map_err(|why| wrong.push(format!("invalid gateway {text}: {why}")))
            .ok()
    });
    let mut aux_addresses = BTreeMap::new();
    for (name, text) in &spec.aux_addresses {
        match parse_address(text, subnet) {
            Ok(addr) => drop(aux_addresses.insert(name.clone(), addr)),
            Err(why) => wrong.push(format!("invalid auxiliary address {name}: {why}")),
        }
    }
    Some(AskedPool { subnet, range, gateway, aux_addresses })
}

/// Why no network can have a prefix.
fn unusable(subnet: IpNetwork) -> Option<&'static str> {
    let meets = |text: &str| parse_prefix(text).is_some_and(|special| overlap(subnet, special));
    if subnet.prefix() == 0 {
        return Some("it holds every address");
    }
    if meets("127.0.0.0/8") || meets("::1/128") && !subnet.network().is_unspecified() {
        return Some("it holds loopback addresses");
    }
    (meets("224.0.0.0/4") || meets("ff00::/8")).then_some("it holds multicast addresses")
}

fn parse_range(text: &str, subnet: IpNetwork, wrong: &mut Vec<String>) -> Option<IpNetwork> {
    let mut refuse = |why: String| wrong.push(format!("invalid ip-range {text}: {why}"));
    let Some(range) = parse_prefix(text) else {
        refuse("invalid CIDR block notation".to_owned());
        return None;
    };
    if range.is_ipv6() != subnet.is_ipv6() {
        refuse(format!("parent subnet is an {} block", family(subnet.is_ipv6())));
        return None;
    }
    if range.prefix() < subnet.prefix() {
        refuse(format!("CIDR block is bigger than its parent subnet {subnet}"));
    }
    if range != masked(range) {
        refuse(format!("it should be {}", masked(range)));
    }
    if !overlap(range, subnet) {
        refuse(format!("parent subnet {subnet} doesn't contain ip-range"));
    }
    Some(range)
}

fn parse_address(text: &str, subnet: IpNetwork) -> Result<IpAddr, String> {
    let addr: IpAddr = text.parse().map_err(|_| "invalid address".to_owned())?;
    if addr.is_ipv6() != subnet.is_ipv6() {
        return Err(format!("parent subnet is an {} block", family(subnet.is_ipv6())));
    }
    if subnet.contains(addr) {
        return Ok(addr);
    }
    Err(format!("parent subnet {subnet} doesn't contain this address"))
}

/// The family's name.
pub(super) fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

impl Model {
    /// Grants the pools of one family: those asked for, else an automatic one.
    pub(super) fn grant_pools(
        &self,
        now: &Circumstances,
        asked: &[AskedPool],
        v6: bool,
        mode: GatewayMode,
    ) -> Result<Vec<Pool>, Refusal> {
        let mut pools: Vec<Pool> = Vec::new();
        for asked in asked.iter().filter(|asked| asked.subnet.is_ipv6() == v6) {
            let any = asked.subnet.network().is_unspecified();
            let subnet = if any {
                self.free_pool(now, v6, Some(asked.subnet.prefix()))?
            } else {
                asked.subnet
            };
            self.check_overlap(subnet)?;
            if pools.iter().any(|pool| overlap(pool.subnet, subnet)) {
                return Err(overlapping());
            }
            pools.push(grant_pool(subnet, !any, Some(asked), mode)?);
        }
        if pools.is_empty() {
            let subnet = self.free_pool(now, v6, None)?;
            pools.push(grant_pool(subnet, false, None, mode)?);
        }
        Ok(pools)
    }
}

/// Reserves gateway and auxiliary addresses, in Docker's order.
fn grant_pool(
    subnet: IpNetwork,
    configured: bool,
    asked: Option<&AskedPool>,
    mode: GatewayMode,
) -> Result<Pool, Refusal> {
    let mut pool = Pool {
        subnet,
        range: asked.and_then(|asked| asked.range),
        gateway: None,
        aux_addresses: BTreeMap::new(),
        configured,
    };
    if mode != GatewayMode::Isolated {
        pool.gateway = Some(gateway(&pool, asked)?);
    }
    for (name, addr) in asked.into_iter().flat_map(|asked| &asked.aux_addresses) {
        if pool.reserved().any(|taken| taken == *addr) {
            return Err(Refusal::invalid(format_args!(
                "failed to allocate secondary ip address ({name}:{addr}): Address already in use"
            )));
        }
        pool.aux_addresses.insert(name.clone(), *addr);
    }
    Ok(pool)
}

/// The gateway asked for, else the first address of the range that nothing else wants.
fn gateway(pool: &Pool, asked: Option<&AskedPool>) -> Result<IpAddr, Refusal> {
    if let Some(gateway) = asked.and_then(|asked| asked.gateway) {
        if edges(pool.subnet).contains(&Some(gateway)) {
            return Err(Refusal::invalid(format_args!(
                "failed to allocate gateway ({gateway}): Address already in use"
            )));
        }
        return Ok(gateway);
    }
    let wanted: Vec<_> =
        asked.iter().flat_map(|asked| asked.aux_addresses.values()).copied().collect();
    pool.lowest_free(&wanted).ok_or_else(|| Refusal::invalid("no available addresses on this pool"))
}
