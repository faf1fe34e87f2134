//! Who is asked for a name that no network knows, in which order, and from where. Pure.
//!
//! Laws: what the sandbox says wins over the network, the network over the daemon, the daemon over the
//! host; a sandbox without a way out has no server outside; a server that fell silent is asked last.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::model::network::{DriverKind, Pool};
use crate::model::options::NAME_SERVERS;
use crate::model::{Endpoint, Model, Network, Sandbox};

const NAME_SERVICE: u16 = 53;

/// Where a server is reached from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The host's namespace.
    Host,
    /// The asker's namespace.
    Sandbox,
}

/// A server and where it is reached from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Upstream {
    /// Where its socket stands.
    pub place: Place,
    /// Its address.
    pub address: SocketAddr,
}

/// The servers of one asker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstreams {
    /// In the order to ask.
    pub servers: Vec<Upstream>,
    /// Whether the sandbox or a network of its named them. What they say is true for this asker
    /// alone: the same address may be another server elsewhere.
    pub own: bool,
}

/// Name servers that are known beside the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    /// The daemon's `dns`.
    pub daemon: Vec<IpAddr>,
    /// The host's resolv.conf.
    pub host: Vec<IpAddr>,
}

/// The servers of a sandbox; `attached` is in the order of its gateways.
pub fn upstreams(
    model: &Model,
    sandbox: &Sandbox,
    attached: &[(&Endpoint, &Network)],
    servers: &Servers,
) -> Upstreams {
    let reach = Reach::of(model, attached);
    let asked_for = parsed(sandbox.dns.iter().map(String::as_str));
    let networks = attached.iter().map(|(_, network)| of_network(network));
    let own = std::iter::once(asked_for).chain(networks).find(|servers| !servers.is_empty());
    if let Some(own) = own {
        let servers = own.into_iter().filter_map(|server| reach.within(server)).collect();
        return Upstreams { servers, own: true };
    }
    let others = if servers.daemon.is_empty() { &servers.host } else { &servers.daemon };
    let servers = others.iter().filter_map(|server| reach.somehow(*server)).collect();
    Upstreams { servers, own: false }
}

/// The servers that a network's option names.
fn of_network(network: &Network) -> Vec<IpAddr> {
    parsed(network.options.get(NAME_SERVERS).into_iter().flat_map(|text| text.split(',')))
}

fn parsed<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<IpAddr> {
    texts.filter_map(|text| text.trim().parse().ok()).collect()
}

/// What a sandbox can reach.
struct Reach<'a> {
    v4: bool,
    v6: bool,
    links: Vec<&'a Pool>,
}

impl<'a> Reach<'a> {
    fn of(model: &Model, attached: &[(&Endpoint, &'a Network)]) -> Self {
        let leads_out = |v6| attached.iter().any(|(end, _)| model.gateway_of(end, v6).is_some());
        let bridged = attached.iter().filter(|(_, network)| network.driver == DriverKind::Bridge);
        let links = bridged.flat_map(|(_, network)| &network.pools).collect();
        Self { v4: leads_out(false), v6: leads_out(true), links }
    }

    fn within(&self, server: IpAddr) -> Option<Upstream> {
        let routed = if server.is_ipv4() { self.v4 } else { self.v6 };
        let near = || self.links.iter().any(|pool| pool.subnet.contains(server));
        (server.is_loopback() || routed || near()).then(|| at(Place::Sandbox, server))
    }

    /// A server that the host chose. Its loopback is the host's own, and a family that the sandbox
    /// does not speak is spoken by the host.
    fn somehow(&self, server: IpAddr) -> Option<Upstream> {
        let near = if server.is_loopback() { None } else { self.within(server) };
        near.or_else(|| (self.v4 || self.v6).then(|| at(Place::Host, server)))
    }
}

const fn at(place: Place, server: IpAddr) -> Upstream {
    Upstream { place, address: SocketAddr::new(server, NAME_SERVICE) }
}

/// Servers that did not answer in time, and until when they are asked last. Times are of any one
/// clock, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Silent {
    until_ms: BTreeMap<Upstream, u64>,
}

/// How long a server that fell silent is asked last.
const SILENCE_MS: u64 = 30_000;

impl Silent {
    /// It did not answer in time.
    pub fn fell_silent(&mut self, server: Upstream, now_ms: u64) {
        self.until_ms.retain(|_, until| *until > now_ms);
        self.until_ms.insert(server, now_ms.saturating_add(SILENCE_MS));
    }

    /// It answered.
    pub fn spoke(&mut self, server: Upstream) {
        self.until_ms.remove(&server);
    }

    /// Whether nobody is silent.
    pub fn is_empty(&self) -> bool {
        self.until_ms.is_empty()
    }

    /// The order to ask in: as configured, the silent ones last.
    pub fn order(&self, servers: &[Upstream], now_ms: u64) -> Vec<Upstream> {
        let silent =
            |server: &Upstream| self.until_ms.get(server).is_some_and(|until| *until > now_ms);
        let mut order = servers.to_vec();
        order.sort_by_key(silent);
        order
    }
}
