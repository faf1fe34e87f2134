//! The links of a bridge network: its gateway device, and a veth pair for each endpoint.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;

use crate::compile::topology::{AddressFamily, Attachment, Joined, gateway_mode};
use crate::desired::{GatewayLink, Link, OfferedLink, Route, VethLink};
use crate::driver::Context;
use crate::model::network::{GatewayMode, Pool};
use crate::model::{Inside, Network};

/// The gateway device.
pub(super) fn gateway(network: &Network, context: &Context<'_>) -> GatewayLink {
    GatewayLink {
        mac: super::gateway_mac(network.id),
        mtu: context.mtu(network),
        addresses: gateway_addresses(network).collect(),
        ipv4: network.ipv4,
        ipv6: network.ipv6,
    }
}

/// The addresses that the gateway device holds, with the prefix lengths of their pools.
pub(super) fn gateway_addresses(network: &Network) -> impl Iterator<Item = IpNetwork> {
    network
        .pools
        .iter()
        .filter(|pool| device_serves(network, pool))
        .filter_map(|pool| IpNetwork::new(pool.gateway?, pool.subnet.prefix()).ok())
}

fn device_serves(network: &Network, pool: &Pool) -> bool {
    let family = AddressFamily::of(pool.subnet.ip());
    let inhibited = family == AddressFamily::V4 && network.bridge.inhibit_ipv4;
    !inhibited && gateway_mode(network, family) != GatewayMode::Isolated
}

/// An endpoint's veth pair; none where it has no sandbox, or one that is not of this model.
pub(super) fn endpoint(attachment: Attachment<'_>, context: &Context<'_>) -> Option<Link> {
    let Attachment { endpoint, network } = attachment;
    let joined = context.topology.joined(endpoint.sandbox?)?;
    match endpoint.inside {
        Inside::Netd => Some(Link::Veth(veth(attachment, joined, context))),
        Inside::Engine { .. } => Some(Link::Offered(OfferedLink {
            interface: endpoint.interface.clone(),
            mac: endpoint.mac,
            mtu: context.mtu(network),
        })),
    }
}

fn veth(attachment: Attachment<'_>, joined: &Joined<'_>, context: &Context<'_>) -> VethLink {
    let Attachment { endpoint, network } = attachment;
    VethLink {
        netns: joined.sandbox.netns.clone(),
        interface: endpoint.interface.clone(),
        mac: endpoint.mac,
        mtu: context.mtu(network),
        addresses: AddressFamily::ALL
            .into_iter()
            .filter_map(|family| attachment.interface_address(family))
            .collect(),
        routes: routes(attachment, joined),
        ipv6: network.ipv6,
    }
}

/// The default route of each family in which the sandbox leaves by this endpoint.
fn routes(attachment: Attachment<'_>, joined: &Joined<'_>) -> BTreeSet<Route> {
    let leaves_here = |family| {
        let gateway = joined.gateway(family)?;
        (gateway.endpoint.id == attachment.endpoint.id).then(|| Route {
            destination: AddressFamily::everything(family),
            via: attachment.next_hop(family),
        })
    };
    AddressFamily::ALL.into_iter().filter_map(leaves_here).collect()
}
