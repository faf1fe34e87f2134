//! An endpoint's veth pair: the peer is born in the sandbox under its final name, or here, where an
//! engine takes it from.
//!
//! Laws: the host's end holds no address and takes no part in IPv6; it stays down until its programs
//! are attached. Checksum and segmentation offloads stay as the kernel sets them. An endpoint's
//! addresses never change, so that any other in the sandbox is its own, a floating one perhaps, and
//! stays; so do its routes, which don't say `proto static` as ours do.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;

use futures_util::future::try_join4;
use ipnetwork::IpNetwork;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::cache::{RouteRecord, addresses_on, is_full_length, routed, routes_through};
use super::netlink::{Netlink, try_in_order};
use super::record::link_of;
use super::{LinkError, netns, sysctl};
use crate::desired::{OfferedLink, Route, VethLink};

/// The loopback device has this index in every namespace.
const LOOPBACK: u32 = 1;

/// Creates the pair; the sandbox's end is configured and up, the host's is down.
pub(super) async fn create(
    host: &Netlink,
    name: &str,
    link: &VethLink,
    owner: u32,
) -> Result<(), LinkError> {
    let namespace = netns::open(&link.netns)?;
    let peer = LinkUnspec::new_with_name(&link.interface)
        .address(link.mac.0.to_vec())
        .mtu(link.mtu)
        .setns_by_fd(namespace.as_raw_fd())
        .build();
    host.create(name, pair(name, peer, link.mtu, owner)).await?;
    sysctl::write(name, sysctl::WITHOUT_IPV6)?;
    let (sandbox, index) = enter(link).await?;
    let addresses = link.addresses.iter().map(|addr| sandbox.add_address(index, *addr));
    let sent = try_join4(
        sandbox.raise("lo", LOOPBACK),
        try_in_order(addresses),
        sandbox.raise(&link.interface, index),
        add_routes(&sandbox, index, link, &link.routes),
    );
    sent.await.map(drop)
}

/// Creates the pair with both ends here, for an engine to take one; the host's end is down.
pub(super) async fn offer(
    host: &Netlink,
    name: &str,
    link: &OfferedLink,
    owner: u32,
) -> Result<(), LinkError> {
    let peer = LinkUnspec::new_with_name(&link.interface).address(link.mac.0.to_vec());
    let message = pair(name, peer.mtu(link.mtu).build(), link.mtu, owner);
    host.create(name, message).await?;
    sysctl::write(name, sysctl::WITHOUT_IPV6)
}

/// The request for a pair whose end here has a name and no part in ARP.
fn pair(name: &str, peer: LinkMessage, mtu: u32, owner: u32) -> LinkMessage {
    LinkMessageBuilder::<LinkVeth>::new(name, "")
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .mtu(mtu)
        .arp(false)
        .link_group(owner)
        .build()
}

/// Changes both ends in place. The namespace and the interface's name stay.
pub(super) async fn change(
    host: &Netlink,
    (name, index): (&str, u32),
    from: &VethLink,
    to: &VethLink,
) -> Result<(), LinkError> {
    let (sandbox, inner) = enter(to).await?;
    if (from.mac, from.mtu) != (to.mac, to.mtu) {
        sysctl::write(name, sysctl::WITHOUT_IPV6)?;
        host.change(name, LinkUnspec::new_with_index(index).mtu(to.mtu).build()).await?;
        let message = LinkUnspec::new_with_index(inner).mtu(to.mtu).address(to.mac.0.to_vec());
        sandbox.change(&to.interface, message.build()).await?;
    }
    // First, because secondary addresses go with the first of their prefix.
    for addr in from.addresses.difference(&to.addresses) {
        sandbox.remove_address(inner, *addr).await?;
    }
    for addr in &to.addresses {
        sandbox.add_address(inner, *addr).await?;
    }
    sandbox.raise(&to.interface, inner).await?;
    // One that stands may have lost its route alone. Made anew it would have it, but take those along
    // that the sandbox has given itself in its prefix.
    for addr in to.addresses.difference(&from.addresses).filter(|it| !is_full_length(it)) {
        sandbox.add_prefix_route(inner, *addr).await?;
    }
    // Routes go with the address they depend on, so look at what is left of them.
    let held = routes_in(&sandbox, inner).await?;
    for route in held.difference(&to.routes) {
        sandbox.remove_route(inner, *route).await?;
    }
    let missing = to.routes.difference(&held).copied().collect();
    add_routes(&sandbox, inner, to, &missing).await
}

/// What is in the sandbox where `expected` says; none where the pair has no end there. `host` is the
/// index and the MTU of the host's end.
pub(super) async fn observe(
    (host_index, host_mtu, peer): (u32, u32, u32),
    expected: &VethLink,
) -> Result<Option<VethLink>, LinkError> {
    if !netns::exists(&expected.netns) {
        return Ok(None);
    }
    let interface = expected.interface.clone();
    let (sandbox, ipv6) =
        Netlink::connect_in(&expected.netns, move || sysctl::has_ipv6(&interface)).await?;
    let Some(found) = sandbox.link(&expected.interface).await?.map(link_of) else {
        return Ok(None);
    };
    let index = found.fact.ifindex.0;
    if index != peer || found.peer != host_index {
        return Ok(None);
    }
    let routes = routes_through(index, &sandbox.routes().await?);
    let mut addresses = addresses_on(index, &sandbox.addresses().await?);
    addresses.retain(|addr| expected.addresses.contains(addr));
    Ok(Some(VethLink {
        netns: expected.netns.clone(),
        interface: expected.interface.clone(),
        mac: found.fact.mac,
        // 0 where the ends differ or the inner one is down: that is changed in place.
        mtu: if found.fact.mtu == host_mtu && found.fact.up { host_mtu } else { 0 },
        addresses: if found.fact.up { routed(addresses, routes.iter()) } else { addresses },
        routes: static_of(&routes),
        ipv6,
    }))
}

/// Sets the inner end's settings and connects to its namespace; the inner end's index.
async fn enter(link: &VethLink) -> Result<(Netlink, u32), LinkError> {
    let interface = link.interface.clone();
    let ipv6 = link.ipv6;
    let write = move || {
        sysctl::write(&interface, sysctl::FORGETFUL_IPV4)?;
        sysctl::write_ipv6(&interface, ipv6)?;
        netns::index(&interface)
    };
    let (sandbox, index) = Netlink::connect_in(&link.netns, write).await?;
    Ok((sandbox, index?))
}

async fn add_routes(
    sandbox: &Netlink,
    index: u32,
    link: &VethLink,
    routes: &BTreeSet<Route>,
) -> Result<(), LinkError> {
    let add = |route: &Route| sandbox.add_route(index, *route, is_off_link(route, &link.addresses));
    try_in_order(routes.iter().map(add)).await
}

/// Whether the next hop lies in none of the link's prefixes.
fn is_off_link(route: &Route, addresses: &BTreeSet<IpNetwork>) -> bool {
    route.via.is_some_and(|via| !addresses.iter().any(|prefix| prefix.contains(via)))
}

async fn routes_in(sandbox: &Netlink, index: u32) -> Result<BTreeSet<Route>, LinkError> {
    Ok(static_of(&routes_through(index, &sandbox.routes().await?)))
}

fn static_of(routes: &[RouteRecord]) -> BTreeSet<Route> {
    routes.iter().filter(|route| route.is_static).map(of_record).collect()
}

fn of_record(record: &RouteRecord) -> Route {
    Route { destination: record.destination, via: record.via }
}
