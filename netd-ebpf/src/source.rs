//! In whose name a container may send.
//!
//! Law: whatever is checked, no packet names the routers of its way, nor has a source that nobody can
//! be.

use core::ops::ControlFlow;

use netd_common::map::endpoint::{ADDRESS_IS_ELSEWHERE, CHECK_ADDRESS, CHECK_MAC, EndpointValue};
use netd_common::wire::Ethernet;
use netd_common::{Address, DropReason};

use crate::packet::PacketBuf;
use crate::parse::Packet;
use crate::policy::{holder, is_nobody};
use crate::tables::{FamilyTables, Stack};
use crate::verdict::{OrStop, Step, refuse};

/// The source MAC is the endpoint's, and no VLAN tag smuggles the frame past its network.
#[inline(always)]
pub fn check_frame<B: PacketBuf>(buf: &B, frame: &Ethernet, endpoint: &EndpointValue) -> Step<()> {
    if endpoint.flags & CHECK_MAC != 0 && frame.src != endpoint.mac {
        return refuse(DropReason::SpoofedSource);
    }
    if buf.has_vlan_tag() {
        return refuse(DropReason::UnsupportedProtocol);
    }
    ControlFlow::Continue(())
}

/// The source address is the endpoint's. The unspecified address may speak to groups: DHCP,
/// duplicate address detection and MLD need it. Whatever is checked, no packet names the routers of
/// its way, nor has a source that nobody can be.
#[inline(always)]
pub fn check_source<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    packet: &mut Packet<F::Addr>,
    endpoint: &EndpointValue,
) -> Step<()> {
    let (src, dst) = (packet.key.src, packet.key.dst);
    if packet.is_source_routed {
        return refuse(DropReason::SourceRouted);
    }
    if src == F::of_endpoint(endpoint) && !src.is_any() || src.is_any() && dst.is_group() {
        return ControlFlow::Continue(());
    }
    if is_nobody(src) {
        return refuse(DropReason::MartianAddress);
    }
    if let Some(holder) = holder::<F, T>(tables, endpoint.network, src)
        && holder.endpoint == endpoint.index
    {
        return enter::<F, T>(tables, packet, holder.flags);
    }
    if endpoint.flags & CHECK_ADDRESS == 0 || F::is_link_local_of(src, endpoint.mac) {
        return ControlFlow::Continue(());
    }
    refuse(DropReason::SpoofedSource)
}

/// A packet from an address that the sandbox has in another network is that network's.
#[inline(always)]
fn enter<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    packet: &mut Packet<F::Addr>,
    flags: u16,
) -> Step<()> {
    if flags & ADDRESS_IS_ELSEWHERE != 0 {
        packet.key.network = tables.subnet(packet.key.src).or_drop(DropReason::SpoofedSource)?;
    }
    ControlFlow::Continue(())
}

/// Whether an endpoint may say that an address is its own: of its own ones where addresses are
/// checked, of any that nobody else is known to hold where MACs are.
#[inline(always)]
pub fn may_claim<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    endpoint: &EndpointValue,
    addr: F::Addr,
) -> bool {
    if endpoint.flags & CHECK_ADDRESS != 0 {
        return owns::<F, T>(tables, endpoint, addr);
    }
    endpoint.flags & CHECK_MAC == 0
        || holder::<F, T>(tables, endpoint.network, addr)
            .is_none_or(|holder| holder.endpoint == endpoint.index)
}

/// Whether an address is the endpoint's: primary, further, or the link-local one of its MAC.
#[inline(always)]
pub fn owns<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    endpoint: &EndpointValue,
    addr: F::Addr,
) -> bool {
    if addr.is_any() {
        return false;
    }
    addr == F::of_endpoint(endpoint)
        || F::is_link_local_of(addr, endpoint.mac)
        || holder::<F, T>(tables, endpoint.network, addr)
            .is_some_and(|holder| holder.endpoint == endpoint.index)
}
