//! A network's gateway device: a bridge without ports, the network's door to the host's stack.
//!
//! It has no carrier and never will; the kernel routes into it all the same, and the program on its
//! egress sees all that the stack sends.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netd_common::MacAddr;
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};

use super::netlink::{Netlink, try_in_order};
use super::{LinkError, netns, sysctl};
use crate::desired::GatewayLink;

/// Creates the device, down.
pub(super) async fn create(
    netlink: &Netlink,
    name: &str,
    link: &GatewayLink,
    owner: u32,
) -> Result<(), LinkError> {
    let message = LinkMessageBuilder::<LinkBridge>::new(name)
        .address(link.mac.0.to_vec())
        .mtu(link.mtu)
        .link_group(owner)
        .build();
    netlink.create(name, message).await?;
    let index = netns::index(name)?;
    configure(name, link)?;
    let addresses = with_link_local(link).into_iter();
    try_in_order(addresses.map(|addr| netlink.add_address(index, addr))).await
}

/// Changes the device in place.
pub(super) async fn change(
    netlink: &Netlink,
    (name, index): (&str, u32),
    from: &GatewayLink,
    to: &GatewayLink,
) -> Result<(), LinkError> {
    if (from.mac, from.mtu) != (to.mac, to.mtu) {
        let message = LinkUnspec::new_with_index(index).address(to.mac.0.to_vec()).mtu(to.mtu);
        netlink.change(name, message.build()).await?;
    }
    configure(name, to)?;
    let (old, new) = (with_link_local(from), with_link_local(to));
    for addr in old.difference(&new) {
        netlink.remove_address(index, *addr).await?;
    }
    // One that stands but has lost its route gets it only as it is made.
    for addr in new.difference(&old) {
        netlink.remove_address(index, *addr).await?;
    }
    // All of them: turning IPv6 off and on has removed what stood there.
    for addr in new {
        netlink.add_address(index, addr).await?;
    }
    Ok(())
}

/// What is there, from the host's view of it. Addresses are those whose prefix is routed, too.
pub(super) fn observe(
    name: &str,
    (mac, mtu): (MacAddr, u32),
    addresses: BTreeSet<IpNetwork>,
) -> GatewayLink {
    let (ipv4, ipv6) = (sysctl::forwards(name, "ipv4"), sysctl::forwards(name, "ipv6"));
    let ipv6 = ipv6 && sysctl::has_ipv6(name);
    // 0 where other settings are not as they should be: that is changed in place.
    let mtu = if sysctl::is_gateway_as_written(name, ipv6) { mtu } else { 0 };
    GatewayLink { mac, mtu, addresses, ipv4, ipv6 }
}

fn configure(name: &str, link: &GatewayLink) -> Result<(), LinkError> {
    sysctl::write(name, if link.ipv4 { sysctl::FORWARD_IPV4 } else { sysctl::KEEP_IPV4 })?;
    sysctl::write(name, sysctl::LOOSE_PATHS)?;
    sysctl::write(name, sysctl::FORGETFUL_IPV4)?;
    sysctl::write_ipv6(name, link.ipv6)?;
    if link.ipv6 { sysctl::forward_ipv6(name) } else { Ok(()) }
}

/// Without a carrier the kernel makes no link-local address, and neighbour discovery wants one.
fn with_link_local(link: &GatewayLink) -> BTreeSet<IpNetwork> {
    let mut addresses = link.addresses.clone();
    if link.ipv6 {
        addresses.extend(link_local(link.mac));
    }
    addresses
}

fn link_local(mac: MacAddr) -> Option<IpNetwork> {
    let mut octets = [0; 16];
    octets[0] = 0xfe;
    octets[1] = 0x80;
    octets[8..].copy_from_slice(&mac.eui64());
    IpNetwork::new(IpAddr::from(octets), 64).ok()
}
