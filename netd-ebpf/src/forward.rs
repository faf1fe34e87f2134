//! Where packets go: by flow, by address through the gateway, by MAC within a network, or to all.
//!
//! Law: a network is a switch; within it the destination MAC decides, and only a packet addressed
//! to the gateway's MAC is routed.

use core::ops::ControlFlow;

use netd_common::map::endpoint::{ADDRESS_IS_GATEWAY, EndpointValue, StationKey, StationValue};
use netd_common::map::flow::{FLOW_BRIDGED, FLOW_UPLINK, FlowValue};
use netd_common::map::network::{ICC_DISABLED, INTERNAL};
use netd_common::wire::{ETHERNET_LEN, Ethernet, IpHeader, MacPair, Part};
use netd_common::{Address, DropReason, FORWARD_MARK, MacAddr, NetworkIndex};

use crate::packet::{Io, PacketBuf};
use crate::parse::{self, Packet, Role};
use crate::tables::{FamilyTables, Stack, Tables};
use crate::verdict::{Decision, OrStop, Sender, Stage, Step, decide, refuse};
use crate::work::{Known, Work, forget_ways};
use crate::{complain, conntrack, fragment, icmp, nat, policy};

/// A packet whose flow entry says all is translated and sent; one whose entry needs more goes the
/// slow way.
#[inline(always)]
pub fn follow<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Step<()> {
    conntrack::recall::<F, T>(&io.tables, work);
    forget_ways();
    match work.known {
        Known::No => ControlFlow::Continue(()),
        Known::Settled => carry::<F, B, T>(io, work),
        Known::Unsettled | Known::Stale => leave_to::<F>(Stage::CatchUp),
    }
}

/// An ICMP error about a known flow goes that flow's way.
#[inline(always)]
pub fn explain<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Step<()> {
    icmp::translate::<F, B, T>(io, work)?;
    match work.known {
        Known::Settled => send::<F, B, T>(io, &work.entry),
        Known::No | Known::Unsettled | Known::Stale => match work.otherwise {
            Some(verdict) => ControlFlow::Break(verdict),
            None => ControlFlow::Continue(()),
        },
    }
}

/// Leaves a packet to a later stage.
#[inline(always)]
pub fn leave_to<F: Stack>(stage: Stage) -> Step<()> {
    decide(Decision::Later(stage, F::FAMILY))
}

/// A packet whose entry needed care goes its entry's way, or is a new one if the entry is dead.
#[inline(always)]
pub fn catch_up<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Step<()> {
    match conntrack::keep::<F, T>(&mut io.tables, work) {
        Known::No => start_over::<F, B, T>(io, work),
        Known::Stale => leave_to::<F>(Stage::Review),
        Known::Settled | Known::Unsettled => leave_to::<F>(Stage::Advance),
    }
}

/// A packet whose entry is dead goes the way of one that never had any: a container's to a
/// neighbour's MAC is switched.
#[inline(always)]
fn start_over<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &Io<B, T>,
    work: &Work<F::Addr>,
) -> Step<()> {
    if work.packet.key.network != NetworkIndex::HOST
        && let Some(endpoint) = io.tables.endpoint(io.buf.ifindex())
        && let Some(frame) = parse::ethernet(&io.buf)
        && frame.dst != endpoint.gateway_mac
    {
        return switch::<F, B, T>(io, work, &frame, &endpoint);
    }
    leave_to::<F>(Stage::Begin)
}

/// Decides the packet of a new flow, or an old flow anew. One stage for both: what a decision
/// takes is the bulk of it.
#[inline(always)]
pub fn judge<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Step<()> {
    if work.known != Known::Stale {
        work.question = work.packet.key;
        let role = policy::role_of::<F, T>(&io.tables, &work.packet);
        work.plan.ask(&work.question, role, io.buf.ifindex());
    }
    forget_ways();
    let answer = policy::answer::<F, T>(&io.tables, &work.question, &mut work.plan);
    forget_ways();
    if work.known == Known::Stale {
        if answer.is_break() {
            work.known = Known::No;
        }
        return leave_to::<F>(Stage::Renew);
    }
    answer?;
    route::<F, B, T>(io, work)
}

/// A flow whose decision is the same goes on; else its packet is a new one.
#[inline(always)]
pub fn renew<F: Stack, T: FamilyTables<F>>(tables: &mut T, work: &mut Work<F::Addr>) -> Step<()> {
    if work.known == Known::Stale && conntrack::renew::<F, T>(tables, work) {
        return leave_to::<F>(Stage::Advance);
    }
    conntrack::forget::<F, T>(tables, &work.packet.key, &work.twin);
    work.known = Known::No;
    leave_to::<F>(Stage::Begin)
}

/// Within its network a packet needs a flow only if policy must know the replies. One that goes
/// nowhere opens none.
#[inline(always)]
fn route<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Step<()> {
    work.entry = work.plan.forward;
    forget_ways();
    if needs_flow::<F, T>(&io.tables, work) {
        fragment::has_ports(&work.packet)?;
        nat::check_life(&work.packet, &work.entry)?;
        check_fit(&io.buf, work)?;
        return leave_to::<F>(Stage::Open);
    }
    leave_to::<F>(Stage::Carry)
}

/// What leaves by an uplink fits it.
#[inline(always)]
fn check_fit<B: PacketBuf, A>(buf: &B, work: &Work<A>) -> Step<()> {
    if work.entry.flags & FLOW_UPLINK != 0 {
        complain::check_fit(buf, work)?;
    }
    ControlFlow::Continue(())
}

/// A flow takes note of its packet, and the packet goes its way.
#[inline(always)]
pub fn advance<F: Stack, T: FamilyTables<F>>(tables: &mut T, work: &mut Work<F::Addr>) -> Step<()> {
    conntrack::advance::<F, T>(tables, work);
    leave_to_carry::<F>(work)
}

/// A fragment claims its bytes first.
#[inline(always)]
fn leave_to_carry<F: Stack>(work: &Work<F::Addr>) -> Step<()> {
    match work.packet.part {
        Part::Whole => leave_to::<F>(Stage::Carry),
        Part::First | Part::Later => leave_to::<F>(Stage::Claim),
    }
}

/// A new flow gets its entries, and its packet goes their way.
#[inline(always)]
pub fn open<F: Stack, T: FamilyTables<F>>(tables: &mut T, work: &mut Work<F::Addr>) -> Step<()> {
    nat::open::<F, T>(tables, work)?;
    work.entry = work.plan.forward;
    leave_to_carry::<F>(work)
}

/// A packet is translated and sent as its entry says.
#[inline(always)]
pub fn carry<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Step<()> {
    check_fit(&io.buf, work)?;
    forget_ways();
    nat::translate::<F, B>(&mut io.buf, work)?;
    send::<F, B, T>(io, &work.entry)
}

#[inline(always)]
fn needs_flow<F: Stack, T: FamilyTables<F>>(tables: &T, work: &Work<F::Addr>) -> bool {
    work.plan.forward.flags & FLOW_BRIDGED == 0
        || tables.network(work.packet.key.network).flags & ICC_DISABLED != 0
}

/// Sends a translated packet as its flow says.
#[inline(always)]
fn send<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    value: &FlowValue<F::Addr>,
) -> Step<()> {
    if value.flags & FLOW_UPLINK != 0 {
        io.buf.set_mark(FORWARD_MARK);
        io.next_hop = F::widen(value.next_hop);
        return decide(Decision::Uplink(value.ifindex, F::FAMILY));
    }
    let written = if value.flags & FLOW_BRIDGED != 0 {
        io.buf.store_head(0, &value.mac)
    } else {
        let src = io.tables.network(value.peer_network).gateway_mac;
        io.buf.store_head(0, &MacPair { dst: value.mac, src })
    };
    if written.is_err() {
        return refuse(DropReason::KernelRefused);
    }
    decide(Decision::Deliver(value.ifindex, value.endpoint))
}

/// An IP packet within its network, by MAC.
#[inline(always)]
pub fn switch<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &Io<B, T>,
    work: &Work<F::Addr>,
    frame: &Ethernet,
    endpoint: &EndpointValue,
) -> Step<()> {
    let Some(station) = station(&io.tables, endpoint.network, frame.dst) else {
        if policy::holder::<F, T>(&io.tables, endpoint.network, work.packet.key.dst).is_some() {
            // The address has moved and the sender does not know yet.
            return leave_to::<F>(Stage::Begin);
        }
        return flood(&io.tables, endpoint);
    };
    if io.tables.network(endpoint.network).flags & ICC_DISABLED != 0
        && !is_discovery::<F>(&work.packet)
    {
        return leave_to::<F>(Stage::Begin);
    }
    deliver(&station)
}

/// Neighbour discovery goes on whatever the policy: without it nobody is reached at all.
#[inline(always)]
fn is_discovery<F: Stack>(packet: &Packet<F::Addr>) -> bool {
    F::VERSION == 6 && packet.role == Role::Signal && packet.key.dst.is_link_local()
}

/// A frame that is no IP packet, by MAC.
#[inline(always)]
pub fn switch_frame<B: PacketBuf, T: Tables>(
    io: &mut Io<B, T>,
    frame: &Ethernet,
    endpoint: &EndpointValue,
) -> Step<()> {
    if frame.dst.is_group() {
        return flood(&io.tables, endpoint);
    }
    let network = io.tables.network(endpoint.network);
    if frame.dst == endpoint.gateway_mac {
        return decide(Decision::HostStack(network.gateway));
    }
    match station(&io.tables, endpoint.network, frame.dst) {
        Some(_) if network.flags & ICC_DISABLED != 0 => refuse(DropReason::IccDisabled),
        Some(station) => deliver(&station),
        None => flood(&io.tables, endpoint),
    }
}

/// An IP packet in a frame for all. Members would take one for a single address from it, and the
/// host, too, and no policy would have seen it.
#[inline(always)]
pub fn spread<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &Io<B, T>,
    packet: &Packet<F::Addr>,
    endpoint: &EndpointValue,
) -> Step<()> {
    let dst = packet.key.dst;
    if !dst.is_group() && is_known::<F, T>(&io.tables, endpoint.network, dst) {
        return refuse(DropReason::UnicastInBroadcast);
    }
    flood(&io.tables, endpoint)
}

/// Whether an address is a member's, another network's or the host's; a network's own broadcast
/// address is not.
#[inline(always)]
fn is_known<F: Stack, T: FamilyTables<F>>(
    tables: &T,
    network: NetworkIndex,
    addr: F::Addr,
) -> bool {
    tables.host_address(&addr).is_some()
        || tables.subnet(addr).is_some_and(|owner| owner != network)
        || policy::holder::<F, T>(tables, network, addr).is_some()
}

/// To all who are to hear a container: where its neighbours are closed to it, the host alone.
#[inline(always)]
fn flood<T: Tables>(tables: &T, endpoint: &EndpointValue) -> Step<()> {
    let network = tables.network(endpoint.network);
    decide(if network.flags & ICC_DISABLED != 0 {
        Decision::HostStack(network.gateway)
    } else {
        Decision::Replicate(Sender::Container)
    })
}

#[inline(always)]
fn deliver(station: &StationValue) -> Step<()> {
    decide(Decision::Deliver(station.ifindex, station.endpoint))
}

/// The endpoint that a frame is for.
#[inline(always)]
pub fn station<T: Tables>(tables: &T, network: NetworkIndex, mac: MacAddr) -> Option<StationValue> {
    tables.station(&StationKey { network, mac, pad: 0 })
}

/// The host's frame, by MAC or to all members.
#[inline(always)]
pub fn from_gateway<B: PacketBuf, T: Tables>(
    io: &mut Io<B, T>,
    frame: &Ethernet,
    network: NetworkIndex,
) -> Step<()> {
    if !frame.dst.is_group()
        && let Some(station) = station(&io.tables, network, frame.dst)
    {
        return decide(Decision::ToVeth(station.ifindex));
    }
    decide(Decision::Replicate(Sender::Host))
}

/// The host's packet to a MAC that nobody has goes to who holds the address: it has moved and the
/// host's stack does not know yet.
#[inline(always)]
pub fn follow_address<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    frame: &Ethernet,
    network: NetworkIndex,
) -> Step<()> {
    if frame.dst.is_group() || station(&io.tables, network, frame.dst).is_some() {
        return ControlFlow::Continue(());
    }
    let Some(dst) = io.buf.load::<F::Addr>(ETHERNET_LEN + F::Header::ADDRESSES + F::ADDRESS_LEN)
    else {
        return ControlFlow::Continue(());
    };
    let Some(holder) = policy::holder::<F, T>(&io.tables, network, dst) else {
        return ControlFlow::Continue(());
    };
    if holder.flags & ADDRESS_IS_GATEWAY != 0 {
        return ControlFlow::Continue(());
    }
    io.buf.store(0, &holder.mac).ok().or_drop(DropReason::KernelRefused)?;
    decide(Decision::ToVeth(holder.ifindex))
}

/// A packet that the host forwards to a network is as much from outside as one on an uplink.
#[inline(always)]
pub fn check_forwarded<F: Stack, B: PacketBuf, T: Tables>(
    io: &Io<B, T>,
    network: NetworkIndex,
) -> Step<()> {
    if io.buf.is_forwarded() && io.tables.network(network).flags & F::OPEN == 0 {
        return refuse(DropReason::NotPublished);
    }
    ControlFlow::Continue(())
}

/// The network that a packet on its way out of an uplink would leak from.
#[inline(always)]
pub fn check_leak<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    src: F::Addr,
) -> Step<()> {
    let network = io.tables.subnet(src).or_untouched()?;
    io.ledger.network = network;
    let flags = io.tables.network(network).flags;
    if flags & (INTERNAL | F::MASQUERADE) == 0 {
        return decide(Decision::Untouched);
    }
    refuse(DropReason::LeakedSource)
}
