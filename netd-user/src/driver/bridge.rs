//! The bridge driver: a switch made of maps with a gateway device.

mod links;
mod switch;

use netd_common::{Hook, MacAddr};

use super::{Context, Driver};
use crate::compile::topology::Attachment;
use crate::desired::{Desired, Link, Tables};
use crate::model::{Network, NetworkId};
use switch::Switch;

/// Docker's `bridge`, without a bridge that forwards.
pub(super) struct Bridge;

impl Driver for Bridge {
    fn add_links(&self, network: &Network, context: &Context<'_>, desired: &mut Desired) {
        add_gateway_link(network, context, desired);
        for endpoint in context.topology.members(network.id) {
            add_endpoint_link(Attachment { endpoint, network }, context, desired);
        }
    }

    fn add_entries(&self, network: &Network, context: &Context<'_>, tables: &mut Tables) {
        if let Some(switch) = Switch::of(network, context) {
            switch.add(&context.topology, tables);
        }
    }
}

fn add_gateway_link(network: &Network, context: &Context<'_>, desired: &mut Desired) {
    let device = &network.bridge.device;
    let link = links::gateway(network, context);
    desired.links.insert(device.clone(), Link::Gateway(link));
    desired.programs.insert((device.clone(), Hook::FromHost));
}

fn add_endpoint_link(attachment: Attachment<'_>, context: &Context<'_>, desired: &mut Desired) {
    let Some(link) = links::endpoint(attachment, context) else {
        return;
    };
    let name = &attachment.endpoint.veth;
    desired.links.insert(name.clone(), link);
    for hook in [Hook::FromContainer, Hook::ToContainer] {
        desired.programs.insert((name.clone(), hook));
    }
}

/// The gateway device's MAC: locally administered, individual, the same after every restart.
fn gateway_mac(network: NetworkId) -> MacAddr {
    let mut mac = std::array::from_fn(|i| network.0[i]);
    mac[0] = mac[0] & 0xfc | 0x02;
    MacAddr(mac)
}
