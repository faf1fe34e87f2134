//! The host's links, addresses and routes as netlink tells them: a value that messages change.
//!
//! Law: whatever order dumps and notifications come in, the cache ends where the last word of the
//! kernel on each object leaves it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netd_common::IfIndex;
use netd_common::map::UPLINKS;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope,
};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};

use super::record::{LinkRecord, link_of};
use crate::facts::{HostFacts, HostResolver, UplinkFact};

/// The kernel side's table of uplinks holds no more; those with a default route come first.
const MOST_UPLINKS: usize = UPLINKS.capacity as usize;

/// What is known of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cache {
    links: BTreeMap<u32, LinkRecord>,
    addresses: BTreeMap<(u32, IpAddr), AddressRecord>,
    routes: BTreeSet<RouteRecord>,
    /// IPv4 routes that go with their link or address go without a word (`fib_sync_down_dev`).
    routes_stale: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AddressRecord {
    prefix_len: u8,
    /// Fit to be a source for the outside.
    usable: bool,
    link_local: bool,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RouteRecord {
    /// Lower is preferred.
    pub(super) metric: u32,
    /// Destination.
    pub(super) destination: IpNetwork,
    /// Next hop.
    pub(super) via: Option<IpAddr>,
    /// Links it leaves by: several for a multipath route.
    pub(super) links: Vec<u32>,
    /// Preferred source.
    pub(super) source: Option<IpAddr>,
    /// Made by an administrator or by us, rather than by the kernel or a routing daemon.
    pub(super) is_static: bool,
}

impl Cache {
    /// From dumps of everything.
    pub(super) fn of_dumps(
        links: Vec<LinkMessage>,
        addresses: &[AddressMessage],
        routes: &[RouteMessage],
    ) -> Self {
        let mut cache = Self::default();
        for link in links {
            cache.add_link(link);
        }
        cache.replace_addresses(addresses);
        cache.replace_routes(routes);
        cache
    }

    /// Takes in a notification.
    pub(super) fn absorb(&mut self, message: RouteNetlinkMessage) {
        if let RouteNetlinkMessage::NewLink(link) = message {
            self.add_link(link);
        } else if let RouteNetlinkMessage::DelLink(link) = message {
            self.remove_link(link.header.index);
        } else if let RouteNetlinkMessage::NewAddress(address) = message {
            self.add_address(&address);
        } else if let RouteNetlinkMessage::DelAddress(address) = message {
            self.remove_address(&address);
        } else if let RouteNetlinkMessage::NewRoute(route) = message {
            // A replaced route is announced by the new one only.
            self.routes_stale |= route_of(&route).is_some();
        } else if let RouteNetlinkMessage::DelRoute(route) = message {
            self.routes_stale |= route_of(&route).is_some();
        }
    }

    /// Whether the routes have to be read again.
    pub(super) fn routes_stale(&self) -> bool {
        self.routes_stale
    }

    /// Puts a dump of the addresses in place of what was known.
    pub(super) fn replace_addresses(&mut self, addresses: &[AddressMessage]) {
        self.addresses = addresses.iter().filter_map(address_of).collect();
    }

    /// Puts a dump of the routes in place of what was known.
    pub(super) fn replace_routes(&mut self, routes: &[RouteMessage]) {
        self.routes = routes.iter().filter_map(route_of).collect();
        self.routes_stale = false;
    }

    /// The link of that name.
    pub(super) fn link(&self, name: &str) -> Option<&LinkRecord> {
        self.links.values().find(|link| *link.name == *name)
    }

    /// Links of a group.
    pub(super) fn links_of_group(&self, group: u32) -> impl Iterator<Item = &LinkRecord> {
        self.links.values().filter(move |link| link.group == group)
    }

    /// Addresses of a link, without those that IPv6 makes up by itself.
    pub(super) fn addresses_of(&self, index: u32) -> BTreeSet<IpNetwork> {
        let range = self.addresses.range((index, IpAddr::from([0; 4]))..);
        range
            .take_while(|((link, _), _)| *link == index)
            .filter(|(_, record)| !record.link_local)
            .filter_map(|((_, addr), record)| IpNetwork::new(*addr, record.prefix_len).ok())
            .collect()
    }

    /// The same without those whose prefix has lost its route, which a link has while it is up.
    pub(super) fn routed_addresses_of(&self, index: u32) -> BTreeSet<IpNetwork> {
        let addresses = self.addresses_of(index);
        if self.links.get(&index).is_none_or(|link| !link.fact.up) {
            return addresses;
        }
        routed(addresses, self.routes.iter().filter(|route| route.links == [index]))
    }

    /// What the compiler may know. Routes through links of group `own` are left out: the model knows
    /// its own prefixes, and a prefix it has just given up is free.
    pub(super) fn facts(&self, own: u32) -> HostFacts {
        HostFacts {
            links: self.links.values().map(|link| (link.name.clone(), link.fact.clone())).collect(),
            uplinks: self.uplinks(own),
            addresses: self.host_addresses(),
            routes: self.foreign_routes(own),
            resolver: HostResolver::default(),
            netns_cookie: 0,
        }
    }

    /// Links of others with a default route, then those that hold an address fit for the outside.
    fn uplinks(&self, own: u32) -> Vec<UplinkFact> {
        let mut seen = BTreeSet::new();
        let defaults = self.routes.iter().filter(|route| route.destination.prefix() == 0);
        let defaults = defaults.flat_map(|route| route.links.iter().copied());
        let usable = self.addresses.iter().filter(|(_, record)| record.usable);
        let foreign = |index: &u32| {
            self.links.get(index).is_some_and(|link| link.group != own && !link.loopback)
        };
        let holders = usable.map(|((index, _), _)| *index).filter(foreign);
        let indexes = defaults.chain(holders).filter(|index| seen.insert(*index));
        indexes.filter_map(|index| self.uplink(index)).take(MOST_UPLINKS).collect()
    }

    fn uplink(&self, index: u32) -> Option<UplinkFact> {
        let link = self.links.get(&index).filter(|link| link.fact.up)?;
        let v4 = self.source(index, true);
        let v6 = self.source(index, false);
        Some(UplinkFact {
            name: link.name.clone(),
            ifindex: link.fact.ifindex,
            mac: link.has_ethernet.then_some(link.fact.mac),
            mtu: link.fact.mtu,
            v4: v4.and_then(|addr| if let IpAddr::V4(v4) = addr { Some(v4) } else { None }),
            v6: v6.and_then(|addr| if let IpAddr::V6(v6) = addr { Some(v6) } else { None }),
        })
    }

    /// The default route's preferred source, else the link's first global address.
    fn source(&self, index: u32, ipv4: bool) -> Option<IpAddr> {
        let preferred = self
            .routes
            .iter()
            .filter(|route| route.destination.prefix() == 0 && route.links.contains(&index))
            .filter(|route| route.destination.is_ipv4() == ipv4)
            .find_map(|route| route.source);
        preferred.or_else(|| {
            let held = self.addresses.range((index, IpAddr::from([0; 4]))..);
            held.take_while(|((link, _), _)| *link == index)
                .find(|((_, addr), record)| addr.is_ipv4() == ipv4 && record.usable)
                .map(|((_, addr), _)| *addr)
        })
    }

    fn host_addresses(&self) -> BTreeMap<IpAddr, IfIndex> {
        self.addresses
            .iter()
            .filter(|((_, addr), record)| !addr.is_loopback() && !record.link_local)
            .map(|((link, addr), _)| (*addr, IfIndex(*link)))
            .collect()
    }

    fn foreign_routes(&self, own: u32) -> BTreeSet<IpNetwork> {
        let is_own = |index: &u32| self.links.get(index).is_some_and(|link| link.group == own);
        self.routes
            .iter()
            .filter(|route| route.destination.prefix() > 0 && !route.links.iter().any(is_own))
            .map(|route| route.destination)
            .collect()
    }

    fn add_link(&mut self, message: LinkMessage) {
        let record = link_of(message);
        let index = record.fact.ifindex.0;
        let went_down = self.links.get(&index).is_some_and(|old| old.fact.up && !record.fact.up);
        self.routes_stale |= went_down && self.has_routes(index);
        self.links.insert(index, record);
    }

    fn remove_link(&mut self, index: u32) {
        self.links.remove(&index);
        self.addresses.retain(|(link, _), _| *link != index);
        self.routes_stale |= self.has_routes(index);
    }

    fn has_routes(&self, index: u32) -> bool {
        self.routes.iter().any(|route| route.links.contains(&index))
    }

    fn add_address(&mut self, message: &AddressMessage) {
        if let Some((key, record)) = address_of(message) {
            self.addresses.insert(key, record);
        }
    }

    fn remove_address(&mut self, message: &AddressMessage) {
        if let Some((key, _)) = address_of(message) {
            self.addresses.remove(&key);
            self.routes_stale = true;
        }
    }
}

fn address_of(message: &AddressMessage) -> Option<((u32, IpAddr), AddressRecord)> {
    let mut local = None;
    let mut address = None;
    let mut flags = AddressFlags::empty();
    for attribute in &message.attributes {
        if let AddressAttribute::Local(addr) = attribute {
            local = Some(*addr);
        } else if let AddressAttribute::Address(addr) = attribute {
            address = Some(*addr);
        } else if let AddressAttribute::Flags(found) = attribute {
            flags = *found;
        }
    }
    // On a point-to-point link IFA_ADDRESS is the other side's.
    let addr = local.or(address)?;
    let waiting = AddressFlags::Tentative | AddressFlags::Deprecated | AddressFlags::Dadfailed;
    let record = AddressRecord {
        prefix_len: message.header.prefix_len,
        usable: message.header.scope == AddressScope::Universe && !flags.intersects(waiting),
        link_local: addr.is_ipv6() && message.header.scope == AddressScope::Link,
    };
    Some(((message.header.index, addr), record))
}

/// A unicast route of the main table.
fn route_of(message: &RouteMessage) -> Option<RouteRecord> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let ipv4 = header.address_family == rtnetlink::packet_route::AddressFamily::Inet;
    let any = if ipv4 { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let mut route = RouteRecord {
        metric: 0,
        destination: IpNetwork::new(any, header.destination_prefix_length).ok()?,
        via: None,
        links: Vec::new(),
        source: None,
        is_static: header.protocol == RouteProtocol::Static,
    };
    for attribute in &message.attributes {
        if let RouteAttribute::Destination(addr) = attribute {
            let addr = ip_of(addr)?;
            route.destination = IpNetwork::new(addr, header.destination_prefix_length).ok()?;
        } else if let RouteAttribute::Gateway(addr) = attribute {
            route.via = ip_of(addr);
        } else if let RouteAttribute::PrefSource(addr) = attribute {
            route.source = ip_of(addr);
        } else if let RouteAttribute::Oif(index) = attribute {
            route.links.push(*index);
        } else if let RouteAttribute::MultiPath(hops) = attribute {
            route.links.extend(hops.iter().map(|hop| hop.interface_index));
        } else if let RouteAttribute::Priority(metric) = attribute {
            route.metric = *metric;
        }
    }
    Some(route)
}

fn ip_of(addr: &RouteAddress) -> Option<IpAddr> {
    if let RouteAddress::Inet(v4) = addr {
        Some(IpAddr::V4(*v4))
    } else if let RouteAddress::Inet6(v6) = addr {
        Some(IpAddr::V6(*v6))
    } else {
        None
    }
}

/// Routes through one link, out of a dump.
pub(super) fn routes_through(index: u32, messages: &[RouteMessage]) -> Vec<RouteRecord> {
    let routes = messages.iter().filter_map(route_of);
    routes.filter(|route| route.links == [index]).collect()
}

/// Addresses whose prefix is routed through their link; one of full length has none.
pub(super) fn routed<'a>(
    mut addresses: BTreeSet<IpNetwork>,
    routes: impl Iterator<Item = &'a RouteRecord>,
) -> BTreeSet<IpNetwork> {
    let prefixes: BTreeSet<(IpAddr, u8)> =
        routes.map(|it| (it.destination.network(), it.destination.prefix())).collect();
    addresses.retain(|it| is_full_length(it) || prefixes.contains(&(it.network(), it.prefix())));
    addresses
}

/// Whether an address is all of its prefix, which then has no route.
pub(super) fn is_full_length(addr: &IpNetwork) -> bool {
    addr.prefix() == if addr.is_ipv4() { 32 } else { 128 }
}

/// Addresses of one link, out of a dump, without those that IPv6 makes up by itself.
pub(super) fn addresses_on(index: u32, messages: &[AddressMessage]) -> BTreeSet<IpNetwork> {
    let held = messages.iter().filter_map(address_of);
    held.filter(|((link, _), record)| *link == index && !record.link_local)
        .filter_map(|((_, addr), record)| IpNetwork::new(addr, record.prefix_len).ok())
        .collect()
}
