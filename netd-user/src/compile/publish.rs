//! Published ports: one entry per port, and the sockets that hold them.
//!
//! Laws: a publication enters by the sandbox's gateway endpoint of its family, or not at all. Beside
//! it, an entry under a container's own address and port says that the port is published, which is
//! what gateway mode `routed` and `icc=false` let through.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netd_common::map::published::{PublishedKey, PublishedValue};
use netd_common::{Be16, EndpointIndex, IfIndex, NetworkIndex};

use super::topology::{AddressFamily, Attachment, Joined, gateway_mode};
use crate::desired::{Desired, HeldPort, Tables};
use crate::driver::Context;
use crate::model::network::GatewayMode;
use crate::model::{MOST_HELD_PORTS, Proto, Publication};

/// Adds the sockets that hold the published ports of a sandbox.
pub(super) fn hold(joined: &Joined<'_>, desired: &mut Desired) {
    for publication in &joined.sandbox.publications {
        if entry(joined, publication).is_some() && publication.count <= MOST_HELD_PORTS {
            let Publication { host_ip: addr, proto, .. } = *publication;
            let ports = consecutive(publication.host_port, publication.count);
            desired.held_ports.extend(ports.map(|port| HeldPort { addr, port, proto }));
        }
    }
}

/// Adds the entries of the published ports of a sandbox.
pub(super) fn add_entries(joined: &Joined<'_>, context: &Context<'_>, tables: &mut Tables) {
    for publication in &joined.sandbox.publications {
        let family = AddressFamily::of(publication.host_ip);
        if let Some(gateway) = entry(joined, publication)
            && let Some(backend) = Backend::of(gateway, family, context, tables)
        {
            backend.publish(publication, tables);
        }
        for attachment in &joined.attachments {
            if asks_what_is_published(attachment, family)
                && let Some(backend) = Backend::of(*attachment, family, context, tables)
            {
                backend.expose(publication, tables);
            }
        }
    }
}

/// Where a publication enters; none where its network is routed to.
fn entry<'a>(joined: &Joined<'a>, publication: &Publication) -> Option<Attachment<'a>> {
    let family = AddressFamily::of(publication.host_ip);
    let gateway = joined.gateway(family)?;
    (gateway_mode(gateway.network, family) != GatewayMode::Routed).then_some(gateway)
}

/// Whether the packet path asks this before it delivers to the endpoint's own address.
fn asks_what_is_published(attachment: &Attachment<'_>, family: AddressFamily) -> bool {
    let network = attachment.network;
    !network.bridge.icc
        || !network.bridge.trusted.is_empty()
        || gateway_mode(network, family) == GatewayMode::Routed
}

/// Where published packets go.
struct Backend<'a> {
    attachment: Attachment<'a>,
    addr: IpAddr,
    ifindex: IfIndex,
}

impl<'a> Backend<'a> {
    /// An endpoint that is in the tables, by its address of a family.
    fn of(
        attachment: Attachment<'a>,
        family: AddressFamily,
        context: &Context<'_>,
        tables: &Tables,
    ) -> Option<Self> {
        let ifindex = context.ifindex(&attachment.endpoint.veth)?;
        let addr = attachment.address(family)?;
        tables.endpoints.contains_key(&ifindex).then_some(Self { attachment, addr, ifindex })
    }

    /// Under the host's address and ports.
    fn publish(&self, publication: &Publication, tables: &mut Tables) {
        self.insert(publication.host_ip, publication.host_port, publication, tables);
    }

    /// Under the container's own address and ports.
    fn expose(&self, publication: &Publication, tables: &mut Tables) {
        self.insert(self.addr, publication.container_port, publication, tables);
    }

    fn insert(&self, at: IpAddr, first: u16, publication: &Publication, tables: &mut Tables) {
        let at_ports = consecutive(first, publication.count);
        let to_ports = consecutive(publication.container_port, publication.count);
        let ports = at_ports.zip(to_ports);
        match (at, self.addr) {
            (IpAddr::V4(at), IpAddr::V4(target)) => {
                let value = self.value(target.into(), publication);
                let key = key(at.into(), publication.proto);
                insert_each(&mut tables.published_v4, key, value, ports);
            }
            (IpAddr::V6(at), IpAddr::V6(target)) => {
                let value = self.value(target.into(), publication);
                let key = key(at.into(), publication.proto);
                insert_each(&mut tables.published_v6, key, value, ports);
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                unreachable!("a backend's address is of its publication's family")
            }
        }
    }

    fn value<A>(&self, target: A, publication: &Publication) -> PublishedValue<A> {
        let Attachment { endpoint, network } = self.attachment;
        PublishedValue {
            target,
            network: NetworkIndex(network.index),
            endpoint: EndpointIndex(endpoint.index),
            ifindex: self.ifindex,
            slot: publication.slot,
            mac: endpoint.mac,
            port: Be16::default(),
        }
    }
}

fn key<A>(addr: A, proto: Proto) -> PublishedKey<A> {
    PublishedKey { addr, port: Be16::default(), proto: protocol_number(proto), pad: 0 }
}

/// The first publication of a key keeps it: the model grants none twice, but several may lead to one
/// container port.
fn insert_each<A: Copy + Ord>(
    table: &mut BTreeMap<PublishedKey<A>, PublishedValue<A>>,
    key: PublishedKey<A>,
    value: PublishedValue<A>,
    ports: impl Iterator<Item = (u16, u16)>,
) {
    for (at, to) in ports {
        let key = PublishedKey { port: Be16::new(at), ..key };
        table.entry(key).or_insert(PublishedValue { port: Be16::new(to), ..value });
    }
}

/// `count` ports from `first` on, as far as there are ports.
fn consecutive(first: u16, count: u16) -> impl Iterator<Item = u16> {
    (first..=u16::MAX).take(usize::from(count))
}

const fn protocol_number(proto: Proto) -> u8 {
    match proto {
        Proto::Tcp => 6,
        Proto::Udp => 17,
        Proto::Sctp => 132,
    }
}
