//! The packet path, top to bottom: one function for each hook.
//!
//! Law: a pipeline is a table of contents. It names the steps in their order and leaves arithmetic
//! and tables to them.

use core::ops::ControlFlow;

use netd_common::map::counter::DropKey;
use netd_common::map::endpoint::EndpointValue;
use netd_common::wire::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_PROVIDER_VLAN, ETHERTYPE_VLAN,
    Ethernet, Part,
};
use netd_common::{DropReason, Ipv4, Ipv6, V4, V6};

use crate::complain::{self, Complaint};
use crate::fragment::{self, Piece};
use crate::packet::{Io, PacketBuf};
use crate::parse::{self, Packet, Role};
use crate::tables::{FamilyTables, Stack, Tables};
use crate::verdict::{Decision, Ledger, OrStop, Stage, Step, Verdict, refuse};
use crate::work::{Known, Work, forget_ways};
use crate::{forward, icmp, neighbor, policy, source};

mod uplink;

pub use uplink::is_ours;

/// Tables of both families.
pub trait AllTables: FamilyTables<V4> + FamilyTables<V6> {}

impl<T: FamilyTables<V4> + FamilyTables<V6>> AllTables for T {}

/// The notes on one packet of either family.
#[derive(Clone, Copy, Debug, Default)]
pub struct Works {
    /// On an IPv4 packet.
    pub v4: Work<Ipv4>,
    /// On an IPv6 packet.
    pub v6: Work<Ipv6>,
    /// The endpoint that sent the packet, at its own hook.
    pub endpoint: EndpointValue,
    /// The packet's frame, there.
    pub frame: Ethernet,
    /// The drop that the monitor is to be told of.
    pub dropped: DropKey,
    /// Whom the packet is counted against.
    pub ledger: Ledger,
    /// The neighbour of a packet that leaves by an uplink.
    pub next_hop: NextHop,
    /// What its datagram's others know of a fragment.
    pub piece: Piece,
}

/// The kernel's `struct bpf_redir_neigh`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct NextHop {
    /// `AF_INET` or `AF_INET6`.
    pub family: u32,
    /// `Io::next_hop`.
    pub addr: [u32; 4],
}

impl Works {
    /// What outlives a stage, for acting on its verdict.
    #[inline(always)]
    pub fn note<B, T>(&mut self, io: &Io<B, T>) {
        self.ledger = io.ledger;
        self.next_hop.addr = io.next_hop;
    }
}

/// Endpoint's host veth, tcx ingress: everything that a container sends.
#[inline(always)]
pub fn from_container<B: PacketBuf, T: AllTables>(io: &mut Io<B, T>, works: &mut Works) -> Verdict {
    decided(from_endpoint(io, works))
}

/// Endpoint's host veth, tcx egress: what the host's stack or a replication sends to a container.
#[inline(always)]
pub fn to_container<B: PacketBuf, T: Tables>(io: &mut Io<B, T>, works: &mut Works) -> Verdict {
    match policy::identify(io, &mut works.endpoint) {
        ControlFlow::Continue(()) => Decision::Accept.into(),
        ControlFlow::Break(verdict) => verdict,
    }
}

/// Gateway device, tcx egress: everything that the host's stack sends to a network.
#[inline(always)]
pub fn from_host<B: PacketBuf, T: AllTables>(io: &mut Io<B, T>, _works: &mut Works) -> Verdict {
    decided(host_frame(io))
}

/// Uplink, tcx ingress: everything that arrives from outside.
#[inline(always)]
pub fn from_netdev<B: PacketBuf, T: AllTables>(io: &mut Io<B, T>, works: &mut Works) -> Verdict {
    decided(uplink::arriving_frame(io, works))
}

/// Uplink without Ethernet headers, tcx ingress: with one of ours a packet is like any other.
#[inline(always)]
pub fn from_l3dev<B: PacketBuf, T: AllTables>(io: &mut Io<B, T>, works: &mut Works) -> Verdict {
    decided(uplink::arriving_bare(io, works))
}

/// Uplink without Ethernet headers, tcx egress: as `to_netdev`.
#[inline(always)]
pub fn to_l3dev<B: PacketBuf, T: AllTables>(io: &mut Io<B, T>, _works: &mut Works) -> Verdict {
    decided(uplink::leaving_bare(io))
}

/// Uplink, tcx egress: nothing leaves with a container's address but what we sent ourselves.
#[inline(always)]
pub fn to_netdev<B: PacketBuf, T: AllTables>(io: &mut Io<B, T>, _works: &mut Works) -> Verdict {
    decided(uplink::leaving_frame(io))
}

/// `Stage::Frame`.
#[inline(always)]
pub fn frame<B: PacketBuf, T: AllTables>(io: &mut Io<B, T>, works: &mut Works) -> Verdict {
    decided(container_frame(io, &works.frame, &works.endpoint))
}

/// `Stage::Sort`.
#[inline(always)]
pub fn sort<F: Stack, B: PacketBuf, T: AllTables + FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
    frame: &Ethernet,
    endpoint: &EndpointValue,
) -> Verdict {
    decided(sort_packet::<F, B, T>(io, work, frame, endpoint))
}

/// `Stage::Gather`.
#[inline(always)]
pub fn gather<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
    piece: &mut Piece,
) -> Verdict {
    decided(fragment::gather::<F, B, T>(io, work, piece))
}

/// After `Stage::Guess`: whether what was decided without ports holds.
#[inline(always)]
pub fn hold<B: PacketBuf, T: Tables>(
    io: &mut Io<B, T>,
    piece: &mut Piece,
    (guessed, hook): (Verdict, u16),
) -> Verdict {
    fragment::hold(io, piece, (guessed, hook))
}

/// `Stage::Claim`.
#[inline(always)]
pub fn claim<B: PacketBuf, T: Tables>(io: &mut Io<B, T>, piece: &Piece) -> Verdict {
    decided(fragment::claim(io, piece))
}

/// `Stage::Explain`.
#[inline(always)]
pub fn explain<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Verdict {
    decided(forward::explain::<F, B, T>(io, work))
}

/// `Stage::CatchUp`.
#[inline(always)]
pub fn catch_up<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Verdict {
    decided(forward::catch_up::<F, B, T>(io, work))
}

/// `Stage::Review`, `Stage::Begin` and `Stage::Guess`.
#[inline(always)]
pub fn judge<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Verdict {
    decided(forward::judge::<F, B, T>(io, work))
}

/// `Stage::Renew`.
#[inline(always)]
pub fn renew<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Verdict {
    decided(forward::renew::<F, T>(&mut io.tables, work))
}

/// `Stage::Advance`.
#[inline(always)]
pub fn advance<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Verdict {
    decided(forward::advance::<F, T>(&mut io.tables, work))
}

/// `Stage::Open`.
#[inline(always)]
pub fn open<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Verdict {
    decided(forward::open::<F, T>(&mut io.tables, work))
}

/// `Stage::Carry`.
#[inline(always)]
pub fn carry<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Verdict {
    decided(forward::carry::<F, B, T>(io, work))
}

/// After a drop: whether the sender is to be told, which `tell` does.
#[inline(always)]
pub fn complain<F: Complaint, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
    reason: DropReason,
) -> bool {
    complain::complain::<F, B, T>(io, work, reason)
}

/// After `complain`: whether the packet has become an error to its sender.
#[inline(always)]
pub fn tell<F: Complaint, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &Work<F::Addr>,
) -> bool {
    complain::tell::<F, B>(&mut io.buf, work).is_ok()
}

#[inline(always)]
fn decided(step: Step<()>) -> Verdict {
    match step {
        ControlFlow::Continue(()) => Decision::Untouched.into(),
        ControlFlow::Break(verdict) => verdict,
    }
}

#[inline(always)]
fn from_endpoint<B: PacketBuf, T: AllTables>(io: &mut Io<B, T>, works: &mut Works) -> Step<()> {
    policy::identify(io, &mut works.endpoint)?;
    works.frame = parse::ethernet(&io.buf).or_drop(DropReason::Truncated)?;
    source::check_frame(&io.buf, &works.frame, &works.endpoint)?;
    match works.frame.ethertype {
        ETHERTYPE_IPV4 => {
            container_packet::<V4, B, T>(io, &mut works.v4, &works.frame, &works.endpoint)
        }
        ETHERTYPE_IPV6 => {
            container_packet::<V6, B, T>(io, &mut works.v6, &works.frame, &works.endpoint)
        }
        _ => forward::leave_to::<V4>(Stage::Frame),
    }
}

#[inline(always)]
fn container_packet<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
    frame: &Ethernet,
    endpoint: &EndpointValue,
) -> Step<()> {
    parse::ip::<F, B>(&io.buf, endpoint.network, &mut work.packet)
        .or_drop(DropReason::Truncated)?;
    forget_ways();
    source::check_source::<F, T>(&io.tables, &mut work.packet, endpoint)?;
    forget_ways();
    if is_plain(&work.packet) && !frame.dst.is_group() {
        forward::follow::<F, B, T>(io, work)?;
    }
    forward::leave_to::<F>(Stage::Sort)
}

#[inline(always)]
fn container_frame<B: PacketBuf, T: AllTables>(
    io: &mut Io<B, T>,
    frame: &Ethernet,
    endpoint: &EndpointValue,
) -> Step<()> {
    match frame.ethertype {
        ETHERTYPE_ARP => neighbor::arp_from_container(io, endpoint)?,
        ETHERTYPE_VLAN | ETHERTYPE_PROVIDER_VLAN => refuse(DropReason::UnsupportedProtocol)?,
        _ => {}
    }
    forward::switch_frame(io, frame, endpoint)
}

#[inline(always)]
fn sort_packet<F: Stack, B: PacketBuf, T: AllTables + FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
    frame: &Ethernet,
    endpoint: &EndpointValue,
) -> Step<()> {
    let packet = &work.packet;
    if packet.role == Role::Signal {
        if F::VERSION == 6 {
            neighbor::discovery_from_container(io, (packet.l4, packet.part), endpoint)?;
        } else {
            neighbor::signal_from_container(&io.buf, packet.l4, endpoint)?;
        }
    }
    if packet.role == Role::Error {
        icmp::check_quote::<F, B, T>(io, packet, endpoint)?;
    }
    if frame.dst.is_group() {
        return forward::spread::<F, B, T>(io, packet, endpoint);
    }
    let otherwise = container_unknown::<F, B, T>(io, work, frame, endpoint);
    forget_ways();
    look_closer_or::<F>(work, otherwise)
}

/// A container's packet that no flow entry decides.
#[inline(always)]
fn container_unknown<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &Io<B, T>,
    work: &Work<F::Addr>,
    frame: &Ethernet,
    endpoint: &EndpointValue,
) -> Step<()> {
    if frame.dst == endpoint.gateway_mac {
        forward::leave_to::<F>(Stage::Begin)
    } else {
        forward::switch::<F, B, T>(io, work, frame, endpoint)
    }
}

/// Whether the packet's own ports say which flow it belongs to.
#[inline(always)]
fn is_plain<A>(packet: &Packet<A>) -> bool {
    packet.part == Part::Whole && packet.role != Role::Error
}

/// Leaves an ICMP error to `explain` and a fragment to `gather`, with what becomes of it if it
/// belongs to no flow of ours, as of any other packet.
#[inline(always)]
fn look_closer_or<F: Stack>(work: &mut Work<F::Addr>, otherwise: Step<()>) -> Step<()> {
    if is_plain(&work.packet) {
        return otherwise;
    }
    work.known = Known::No;
    work.otherwise = otherwise.break_value();
    forward::leave_to::<F>(if work.packet.part == Part::Whole {
        Stage::Explain
    } else {
        Stage::Gather
    })
}

#[inline(always)]
fn host_frame<B: PacketBuf, T: AllTables>(io: &mut Io<B, T>) -> Step<()> {
    let network = io.tables.gateway(io.buf.ifindex()).or_untouched()?;
    io.ledger.network = network;
    let frame = parse::ethernet(&io.buf).or_drop(DropReason::Truncated)?;
    match frame.ethertype {
        ETHERTYPE_IPV4 => {
            forward::check_forwarded::<V4, B, T>(io, network)?;
            forward::follow_address::<V4, B, T>(io, &frame, network)?;
        }
        ETHERTYPE_IPV6 => {
            forward::check_forwarded::<V6, B, T>(io, network)?;
            neighbor::discovery_from_host(io, network)?;
            forward::follow_address::<V6, B, T>(io, &frame, network)?;
        }
        ETHERTYPE_ARP => neighbor::arp_from_host(io, network)?,
        _ => {}
    }
    forward::from_gateway(io, &frame, network)
}
