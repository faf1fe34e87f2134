//! Where a new flow goes: the truth table of `docs/packet-path.md`.
//!
//! Law: a decision looks at tables only, never at the packet, so that an entry of an old
//! generation can be decided anew from its key.

use core::ops::ControlFlow;

use netd_common::map::endpoint::{ADDRESS_IS_GATEWAY, AddressKey, AddressValue, EndpointValue};
use netd_common::map::flow::{FLOW_BRIDGED, FLOW_HAIRPIN, FLOW_SNAT, FLOW_UPLINK, FlowKey};
use netd_common::map::network::{ICC_DISABLED, INTERNAL, NetworkValue, TrustedKey, UplinkValue};
use netd_common::wire::{TCP, TCP_RST, TCP_SYN};
use netd_common::{Address, DropReason, EndpointIndex, MacAddr, NetworkIndex};

use crate::nat::FIRST_EPHEMERAL;
use crate::packet::{Io, PacketBuf};
use crate::parse::{Packet, Role};
use crate::plan::{Plan, PortChoice};
use crate::service;
use crate::tables::{FamilyTables, Route, Stack, Tables};
use crate::verdict::{Decision, OrStop, Step, decide, refuse};
use crate::work::forget_ways;

/// The endpoint whose hook a packet is seen at.
#[inline(always)]
pub fn identify<B: PacketBuf, T: Tables>(
    io: &mut Io<B, T>,
    endpoint: &mut EndpointValue,
) -> Step<()> {
    if !io.tables.read_endpoint(io.buf.ifindex(), endpoint) {
        return refuse(DropReason::UnknownEndpoint);
    }
    io.ledger.endpoint = endpoint.index;
    io.ledger.network = endpoint.network;
    ControlFlow::Continue(())
}

/// Whether an address can be nobody's on a wire.
#[inline(always)]
pub(crate) fn is_nobody<A: Address>(addr: A) -> bool {
    addr.is_any() || addr.is_loopback() || addr.is_group()
}

/// What a packet without an entry means to a connection. A segment in mid-stream is of one that
/// has lost its entries, as long as that may be.
#[inline(always)]
pub fn role_of<F: Stack, T: FamilyTables<F>>(tables: &T, packet: &Packet<F::Addr>) -> Role {
    let resumes = packet.role == Role::Continues
        && packet.key.proto == TCP
        && packet.tcp_flags & (TCP_SYN | TCP_RST) == 0
        && tables.is_loose();
    if resumes { Role::Resumes } else { packet.role }
}

/// What arrives for the host itself and opens nothing is the host's own traffic.
#[inline(always)]
pub fn check_arrival<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    packet: &Packet<F::Addr>,
) -> Step<()> {
    let own = packet.role != Role::Opens
        && role_of::<F, T>(tables, packet) != Role::Resumes
        && tables
            .host_address(&packet.key.dst)
            .is_some_and(|host| host.network == NetworkIndex::HOST);
    if own { decide(Decision::Untouched) } else { ControlFlow::Continue(()) }
}

/// Who holds an address in a network.
#[inline(always)]
pub fn holder<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    network: NetworkIndex,
    addr: F::Addr,
) -> Option<AddressValue> {
    tables.address(&AddressKey { network, addr })
}

/// Where a new flow goes: the plan's question answered in place.
#[inline(always)]
pub fn answer<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    key: &FlowKey<F::Addr>,
    plan: &mut Plan<F::Addr>,
) -> Step<()> {
    if key.network == NetworkIndex::HOST {
        return from_outside::<F, T>(tables, key, plan);
    }
    let Some(origin) = tables.endpoint(plan.device) else {
        return refuse(DropReason::UnknownEndpoint);
    };
    plan.begins_at(&origin);
    forget_ways();
    from_endpoint::<F, T>(tables, key, plan)
}

/// Whether a packet may open a flow.
#[inline(always)]
fn opens<A>(plan: &Plan<A>) -> bool {
    matches!(plan.role, Role::Opens | Role::Resumes)
}

#[inline(always)]
fn from_endpoint<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    key: &FlowKey<F::Addr>,
    plan: &mut Plan<F::Addr>,
) -> Step<()> {
    if is_nobody(key.dst) {
        return refuse(DropReason::MartianAddress);
    }
    let network = tables.network(key.network);
    if let Some(host) = tables.host_address(&key.dst) {
        if network.flags & INTERNAL != 0 && host.network != key.network {
            return refuse(DropReason::InternalNetwork);
        }
        return to_host::<F, T>(tables, key, plan, &network);
    }
    if F::VERSION == 6 && key.dst.is_link_local() {
        return to_neighbor::<F, T>(tables, key, plan, &network);
    }
    match tables.subnet(key.dst) {
        Some(owner) if owner == key.network => to_neighbor::<F, T>(tables, key, plan, &network),
        Some(owner) if network.flags & INTERNAL == 0 => to_routed::<F, T>(tables, key, plan, owner),
        Some(_) => refuse(DropReason::NetworkIsolation),
        None => to_outside::<F, T>(tables, key, plan, &network),
    }
}

/// To an address of the host: a published port of it, or its stack.
#[inline(always)]
fn to_host<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    key: &FlowKey<F::Addr>,
    plan: &mut Plan<F::Addr>,
    network: &NetworkValue,
) -> Step<()> {
    if opens(plan)
        && network.flags & INTERNAL == 0
        && let Some(backend) = service::backend_of::<F, T>(tables, key)
    {
        plan.ends_at_backend(&backend);
        if backend.endpoint == plan.back.endpoint {
            plan.forward.src = F::hairpin(&tables.config());
            plan.forward.flags |= FLOW_SNAT | FLOW_HAIRPIN;
        } else if backend.network == key.network {
            plan.forward.flags |= FLOW_HAIRPIN;
        }
        return ControlFlow::Continue(());
    }
    to_stack(tables, plan)
}

/// By the gateway device that the frame is for.
#[inline(always)]
fn to_stack<A, T: Tables>(tables: &T, plan: &Plan<A>) -> Step<()> {
    decide(Decision::HostStack(tables.network(plan.door).gateway))
}

/// To an address of the sender's own network, by way of the gateway or not.
#[inline(always)]
fn to_neighbor<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    key: &FlowKey<F::Addr>,
    plan: &mut Plan<F::Addr>,
    network: &NetworkValue,
) -> Step<()> {
    let holder =
        holder::<F, T>(tables, key.network, key.dst).or_drop(DropReason::UnknownDestination)?;
    if holder.flags & ADDRESS_IS_GATEWAY != 0 {
        return to_stack(tables, plan);
    }
    if network.flags & ICC_DISABLED != 0
        && (!opens(plan) || !service::is_exposed::<F, T>(tables, key))
    {
        return refuse(DropReason::IccDisabled);
    }
    plan.ends_at(&holder, key.network);
    plan.forward.flags = FLOW_BRIDGED;
    ControlFlow::Continue(())
}

/// To a container of another network, which keeps apart but in gateway mode `routed`: then it is as
/// open as to the outside, and nobody's address changes.
#[inline(always)]
fn to_routed<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    key: &FlowKey<F::Addr>,
    plan: &mut Plan<F::Addr>,
    index: NetworkIndex,
) -> Step<()> {
    if tables.network(index).flags & (INTERNAL | F::ROUTED) != F::ROUTED {
        return refuse(DropReason::NetworkIsolation);
    }
    if key.proto != F::ICMP && !service::is_exposed::<F, T>(tables, key) {
        return refuse(DropReason::NotPublished);
    }
    if !opens(plan) {
        return refuse(DropReason::InvalidState);
    }
    let holder = holder::<F, T>(tables, index, key.dst).or_drop(DropReason::UnknownDestination)?;
    plan.ends_at(&holder, index);
    ControlFlow::Continue(())
}

/// Out of an uplink, masqueraded if the network says so.
#[inline(always)]
fn to_outside<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    key: &FlowKey<F::Addr>,
    plan: &mut Plan<F::Addr>,
    network: &NetworkValue,
) -> Step<()> {
    if network.flags & INTERNAL != 0 {
        return refuse(DropReason::InternalNetwork);
    }
    if !opens(plan) || plan.role == Role::Resumes && key.sport.get() < FIRST_EPHEMERAL {
        return refuse(DropReason::InvalidState);
    }
    match tables.route(network.gateway, &key.src, &key.dst) {
        Route::Via(uplink, next_hop) => {
            plan.forward.ifindex = uplink;
            plan.forward.next_hop = next_hop;
        }
        Route::Local => return to_stack(tables, plan),
        Route::Missing => return refuse(DropReason::NoRoute),
    }
    plan.forward.peer_network = NetworkIndex::HOST;
    plan.forward.endpoint = EndpointIndex::NONE;
    plan.forward.mac = MacAddr([0; 6]);
    plan.forward.flags = FLOW_UPLINK;
    let uplink = tables.uplink(plan.forward.ifindex).or_drop(DropReason::NoRoute)?;
    if network.flags & F::MASQUERADE != 0 {
        masquerade::<F>(plan, network, &uplink)?;
    }
    ControlFlow::Continue(())
}

#[inline(always)]
fn masquerade<F: Stack>(
    plan: &mut Plan<F::Addr>,
    network: &NetworkValue,
    uplink: &UplinkValue,
) -> Step<()> {
    let chosen = F::of_network(network);
    plan.forward.src = if chosen.is_any() { F::of_uplink(uplink) } else { chosen };
    if plan.forward.src.is_any() {
        return refuse(DropReason::NoRoute);
    }
    plan.forward.flags |= FLOW_SNAT;
    plan.ports = PortChoice::Masquerade;
    ControlFlow::Continue(())
}

/// From an uplink: published ports, and networks that are open to the outside.
#[inline(always)]
fn from_outside<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    key: &FlowKey<F::Addr>,
    plan: &mut Plan<F::Addr>,
) -> Step<()> {
    let Some(host) = tables.host_address(&key.dst) else {
        let network = tables.subnet(key.dst).or_untouched()?;
        return to_member::<F, T>(tables, key, plan, network);
    };
    if opens(plan)
        && let Some(backend) = service::backend_of::<F, T>(tables, key)
    {
        check_origin::<F, T>(tables, key.src)?;
        plan.ends_at_backend(&backend);
        return_by_uplink::<F, T>(tables, key, plan);
        return ControlFlow::Continue(());
    }
    if plan.role == Role::Resumes && awaits_container::<F, T>(tables, key) {
        return refuse(DropReason::InvalidState);
    }
    if host.network == NetworkIndex::HOST {
        decide(Decision::Untouched)
    } else {
        refuse(DropReason::NotPublished)
    }
}

/// What comes from outside has a source that can be there: not the host's own, nor a container's.
#[inline(always)]
fn check_origin<F: Stack, T: FamilyTables<F>>(tables: &T, src: F::Addr) -> Step<()> {
    if is_nobody(src) {
        return refuse(DropReason::MartianAddress);
    }
    if tables.host_address(&src).is_some() || tables.subnet(src).is_some() {
        return refuse(DropReason::SpoofedSource);
    }
    ControlFlow::Continue(())
}

/// Whether a segment without an entry is for a masquerade port: its container's next segment makes
/// the entry, if the host's stack has not reset the connection before.
#[inline(always)]
fn awaits_container<F: Stack, T: FamilyTables<F>>(tables: &T, key: &FlowKey<F::Addr>) -> bool {
    let config = tables.config();
    (config.snat_first..=config.snat_last).contains(&key.dport.get()) && !tables.host_socket(key)
}

/// From an uplink straight to a container's address: gateway modes `routed` and
/// `nat-unprotected`, and links that the network trusts.
#[inline(always)]
fn to_member<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    key: &FlowKey<F::Addr>,
    plan: &mut Plan<F::Addr>,
    index: NetworkIndex,
) -> Step<()> {
    let network = tables.network(index);
    if network.flags & INTERNAL != 0 {
        return refuse(DropReason::InternalNetwork);
    }
    let routed = network.flags & F::ROUTED != 0;
    let open = network.flags & F::OPEN != 0 || routed && key.proto == F::ICMP;
    let trusted = || tables.is_trusted(&TrustedKey { network: index, ifindex: plan.device });
    if !open && !((routed || trusted()) && service::is_exposed::<F, T>(tables, key)) {
        return refuse(DropReason::NotPublished);
    }
    if !opens(plan) {
        return refuse(DropReason::InvalidState);
    }
    let holder = holder::<F, T>(tables, index, key.dst).or_drop(DropReason::UnknownDestination)?;
    if holder.flags & ADDRESS_IS_GATEWAY != 0 {
        return decide(Decision::Untouched);
    }
    check_origin::<F, T>(tables, key.src)?;
    plan.ends_at(&holder, index);
    return_by_uplink::<F, T>(tables, key, plan);
    ControlFlow::Continue(())
}

/// Replies leave by the uplink that the request came in on. Its neighbour is taken from the
/// host's routes if they agree, and else left to the kernel.
#[inline(always)]
fn return_by_uplink<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    key: &FlowKey<F::Addr>,
    plan: &mut Plan<F::Addr>,
) {
    let gateway = tables.network(plan.forward.peer_network).gateway;
    plan.back.flags = FLOW_UPLINK;
    if let Route::Via(ifindex, next_hop) = tables.route(gateway, &key.dst, &key.src)
        && ifindex == plan.device
    {
        plan.back.next_hop = next_hop;
    }
}
