//! Options and addresses in the engine's words, as the model takes them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::Value;
use serde_json::value::RawValue;

use super::PluginError;
use super::request::{Options, PoolOfNetwork, PortBinding, UnreadOptions};
use crate::model::engine::AdoptedPool;
use crate::model::{MOST_HELD_PORTS, PortSpec, Proto, Refusal};

/// The address space of networks of one host.
pub(super) const LOCAL_SPACE: &str = "netdLocal";
/// The address space of networks of many hosts.
pub(super) const GLOBAL_SPACE: &str = "netdGlobal";

const GENERIC: &str = "com.docker.network.generic";
const INTERNAL: &str = "com.docker.network.internal";
const IPV4: &str = "com.docker.network.enable_ipv4";
const IPV6: &str = "com.docker.network.enable_ipv6";

/// What `docker network create` says beside addresses.
pub(super) struct NetworkOptions {
    /// `-o`.
    pub(super) generic: BTreeMap<String, String>,
    /// `--internal`.
    pub(super) internal: bool,
    /// `--ipv4`; engines before 28 know no network without.
    pub(super) ipv4: bool,
    /// `--ipv6`.
    pub(super) ipv6: bool,
}

impl NetworkOptions {
    /// Reads the options of a network. The engine's own switches win over `-o` of the same name.
    pub(super) fn read(options: &Options) -> Self {
        let switch = |key: &str, default| options.get(key).map_or(default, is_true);
        let mut generic = match options.get(GENERIC) {
            Some(Value::Object(generic)) => {
                generic.iter().map(|(key, value)| (key.clone(), text(value))).collect()
            }
            Some(_) | None => BTreeMap::new(),
        };
        for decided in [IPV4, IPV6] {
            generic.remove(decided);
        }
        Self {
            internal: switch(INTERNAL, false),
            ipv4: switch(IPV4, true),
            ipv6: switch(IPV6, false),
            generic,
        }
    }
}

/// Options that are plain text: users' driver options. The engine's own ones are lists.
pub(super) fn plain(options: UnreadOptions<'_>) -> BTreeMap<String, String> {
    let text = |value: &RawValue| serde_json::from_str(value.get()).ok();
    options.into_iter().filter_map(|(key, value)| Some((key, text(value)?))).collect()
}

/// A pool; none where there are no addresses (`--ipam-driver null`).
pub(super) fn pool(given: &PoolOfNetwork) -> Result<Option<AdoptedPool>, PluginError> {
    let Some(subnet) = prefix("pool", &given.pool)?.filter(|subnet| subnet.prefix() > 0) else {
        return Ok(None);
    };
    let mut aux_addresses = BTreeMap::new();
    for (name, text) in &given.aux_addresses {
        if let Some(addr) = prefix("auxiliary address", text)? {
            aux_addresses.insert(name.clone(), addr.ip());
        }
    }
    Ok(Some(AdoptedPool {
        leased: [LOCAL_SPACE, GLOBAL_SPACE].contains(&given.address_space.as_str()),
        subnet,
        gateway: prefix("gateway", &given.gateway)?.map(|gateway| gateway.ip()),
        aux_addresses,
    }))
}

/// An address, with or without a prefix length; none where the text is empty.
pub(super) fn prefix(what: &str, text: &str) -> Result<Option<IpNetwork>, PluginError> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| Refusal::invalid(format_args!("invalid {what} {text}"));
    Ok(Some(text.parse().map_err(wrong)?))
}

/// An address of one family.
pub(super) fn address(what: &str, text: &str) -> Result<Option<IpAddr>, PluginError> {
    Ok(prefix(what, text)?.map(|prefix| prefix.ip()))
}

/// Published ports. The engine's client takes ranges apart: one that is too long to be held by sockets
/// is put together again, and what is left comes as it was said.
pub(super) fn ports(bindings: &[PortBinding]) -> Result<Vec<PortSpec>, PluginError> {
    let ports: Vec<PortSpec> = bindings.iter().map(port).collect::<Result<_, _>>()?;
    let (mut fixed, chosen): (Vec<_>, Vec<_>) = ports.into_iter().partition(is_fixed);
    fixed.sort_by_key(|port| (port.host_ip, port.proto, port.host, port.container));
    let runs = fixed.chunk_by(follows);
    let joined = runs.flat_map(|run| match run {
        [first, .., last] if run.len() > usize::from(MOST_HELD_PORTS) => vec![range(first, last)],
        short => short.to_vec(),
    });
    Ok(joined.chain(chosen).collect())
}

/// Whether the host's port is given, and no choice among several.
fn is_fixed(port: &PortSpec) -> bool {
    port.host.is_some_and(|(first, last)| first == last)
}

fn follows(port: &PortSpec, next: &PortSpec) -> bool {
    let host = |port: &PortSpec| port.host.map_or(0, |(first, _)| u32::from(first));
    (port.host_ip, port.proto) == (next.host_ip, next.proto)
        && host(port) + 1 == host(next)
        && u32::from(port.container.0) + 1 == u32::from(next.container.0)
}

fn range(first: &PortSpec, last: &PortSpec) -> PortSpec {
    PortSpec {
        host: first.host.zip(last.host).map(|((first, _), (_, last))| (first, last)),
        container: (first.container.0, last.container.1),
        ..first.clone()
    }
}

/// A published port.
fn port(binding: &PortBinding) -> Result<PortSpec, PluginError> {
    let proto = match binding.proto {
        6 => Proto::Tcp,
        17 => Proto::Udp,
        132 => Proto::Sctp,
        other => {
            let what = format!("IP protocol {other} can't be published: tcp and udp can");
            return Err(Refusal::invalid(what).into());
        }
    };
    let last = binding.host_port_end.max(binding.host_port);
    Ok(PortSpec {
        host_ip: address("host address", &binding.host_ip)?,
        host: (binding.host_port > 0).then_some((binding.host_port, last)),
        container: (binding.port, binding.port),
        proto,
    })
}

fn is_true(value: &Value) -> bool {
    value.as_bool().unwrap_or_else(|| value.as_str() == Some("true"))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(host: u16, container: u16, proto: u8) -> PortBinding {
        let host_ip = String::new();
        PortBinding { proto, port: container, host_ip, host_port: host, host_port_end: host }
    }

    #[test]
    fn long_range_that_came_in_pieces_is_one_again_and_short_ones_stay() {
        let long = (0..100).map(|n| bound(20_000 + n, 30_000 + n, 6));
        let short = (0..64).map(|n| bound(20_000 + n, 30_000 + n, 17));
        // Next to the long range on the host, and elsewhere in the container.
        let other = [bound(20_100, 80, 6), bound(0, 443, 6)];
        let bindings: Vec<PortBinding> = long.rev().chain(short).chain(other).collect();
        let ports = ports(&bindings).unwrap();
        let ranges: Vec<_> =
            ports.iter().filter(|port| port.container.0 != port.container.1).collect();
        assert_eq!(ranges.len(), 1);
        let range = (ranges[0].host, ranges[0].container, ranges[0].proto);
        assert_eq!(range, (Some((20_000, 20_099)), (30_000, 30_099), Proto::Tcp));
        assert_eq!(ports.len(), 1 + 64 + 2);
    }
}
