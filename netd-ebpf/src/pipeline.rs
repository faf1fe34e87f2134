//! The packet path, top to bottom: one function for each hook.
//!
//! Law: a pipeline is a table of contents. It names the steps in their order and leaves arithmetic
//! and tables to them.

use core::ops::ControlFlow;

use netd_common::map::counter::DropKey;
use netd_common::map::endpoint::EndpointValue;
use netd_common::wire::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Part};
use netd_common::{DropReason, FORWARD_MARK, Ipv4, Ipv6, NetworkIndex, V4, V6};

use crate::complain::{self, Complaint};
use crate::packet::{Io, PacketBuf};
use crate::parse::{self, Packet, Role};
use crate::tables::{FamilyTables, Stack, Tables};
use crate::verdict::{Decision, Ledger, OrStop, Sender, Step, Verdict, Version, decide};
use crate::work::{Work, forget_ways};
use crate::{forward, fragment, neighbor, policy};

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
    /// The drop that the monitor is to be told of.
    pub dropped: DropKey,
    /// Whom the packet is counted against.
    pub ledger: Ledger,
    /// The neighbour of a packet that leaves by an uplink.
    pub next_hop: NextHop,
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
    decided(container_frame(io, works))
}

/// Endpoint's host veth, tcx egress: what the host's stack or a replication sends to a container.
#[inline(always)]
pub fn to_container<B: PacketBuf, T: Tables>(io: &mut Io<B, T>, _works: &mut Works) -> Verdict {
    match policy::identify(io) {
        ControlFlow::Continue(_) => Decision::Accept.into(),
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
    decided(arriving_frame(io, works))
}

/// Uplink, tcx egress: nothing leaves with a container's address but what we sent ourselves.
#[inline(always)]
pub fn to_netdev<B: PacketBuf, T: AllTables>(io: &mut Io<B, T>, _works: &mut Works) -> Verdict {
    decided(leaving_frame(io))
}

/// A later stage: a packet whose flow entry needs care (time, TCP's state, promotion, a decision
/// of an old generation).
#[inline(always)]
pub fn catch_up<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Verdict {
    io.ledger = work.ledger;
    decided(forward::catch_up::<F, T>(&mut io.tables, work))
}

/// A later stage: a packet without a flow entry.
#[inline(always)]
pub fn begin<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Verdict {
    io.ledger = work.ledger;
    decided(forward::route::<F, B, T>(io, work))
}

/// A later stage: an ICMP error.
#[inline(always)]
pub fn explain<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Verdict {
    io.ledger = work.ledger;
    decided(forward::explain::<F, B, T>(io, work))
}

/// A later stage: a fragment.
#[inline(always)]
pub fn gather<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Verdict {
    io.ledger = work.ledger;
    decided(fragment::gather::<F, B, T>(io, work))
}

/// A later stage: a packet whose new flow needs entries.
#[inline(always)]
pub fn open<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Verdict {
    io.ledger = work.ledger;
    decided(forward::open::<F, T>(&mut io.tables, work))
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

/// The last stage: a packet whose flow entry says all.
#[inline(always)]
pub fn carry<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Verdict {
    io.ledger = work.ledger;
    decided(forward::carry::<F, B, T>(io, work))
}

#[inline(always)]
fn decided(step: Step<()>) -> Verdict {
    match step {
        ControlFlow::Continue(()) => Decision::Untouched.into(),
        ControlFlow::Break(verdict) => verdict,
    }
}

#[inline(always)]
fn container_frame<B: PacketBuf, T: AllTables>(io: &mut Io<B, T>, works: &mut Works) -> Step<()> {
    let endpoint = policy::identify(io)?;
    let frame = parse::ethernet(&io.buf).or_drop(DropReason::Truncated)?;
    policy::check_frame(&io.buf, &frame, &endpoint)?;
    match frame.ethertype {
        ETHERTYPE_IPV4 => container_packet::<V4, B, T>(io, &mut works.v4, &frame, &endpoint),
        ETHERTYPE_IPV6 => container_packet::<V6, B, T>(io, &mut works.v6, &frame, &endpoint),
        ETHERTYPE_ARP => {
            neighbor::arp_from_container(io, &endpoint)?;
            forward::switch_frame(io, &frame, &endpoint)
        }
        _ => forward::switch_frame(io, &frame, &endpoint),
    }
}

#[inline(always)]
fn container_packet<F: Stack, B: PacketBuf, T: AllTables + FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
    frame: &Ethernet,
    endpoint: &EndpointValue,
) -> Step<()> {
    parse::ip::<F, B>(&io.buf, endpoint.network, &mut work.packet)
        .or_drop(DropReason::Truncated)?;
    forget_ways();
    policy::check_source::<F, T>(&io.tables, &work.packet, endpoint)?;
    if F::VERSION == 6 && work.packet.role == Role::Signal {
        neighbor::discovery_from_container(io, endpoint)?;
    }
    if frame.dst.is_group() {
        return decide(Decision::Replicate(Sender::Container));
    }
    if is_plain(&work.packet) {
        forward::follow::<F, B, T>(io, work)?;
    }
    forget_ways();
    let otherwise = container_unknown::<F, B, T>(io, work, frame, endpoint);
    forget_ways();
    look_closer_or(io, work, F::FAMILY, otherwise)
}

/// A container's packet that no flow entry decides.
#[inline(always)]
fn container_unknown<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
    frame: &Ethernet,
    endpoint: &EndpointValue,
) -> Step<()> {
    if frame.dst == endpoint.gateway_mac {
        forward::begin::<F, B, T>(io, work)
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
fn look_closer_or<B, T, A>(
    io: &Io<B, T>,
    work: &mut Work<A>,
    version: Version,
    otherwise: Step<()>,
) -> Step<()> {
    if is_plain(&work.packet) {
        return otherwise;
    }
    work.ledger = io.ledger;
    work.otherwise = otherwise.break_value();
    decide(if work.packet.part == Part::Whole {
        Decision::Explain(version)
    } else {
        Decision::Gather(version)
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

#[inline(always)]
fn arriving_frame<B: PacketBuf, T: AllTables>(io: &mut Io<B, T>, works: &mut Works) -> Step<()> {
    if !io.buf.is_for_host() {
        return decide(Decision::Untouched);
    }
    let frame = parse::ethernet(&io.buf).or_untouched()?;
    match frame.ethertype {
        ETHERTYPE_IPV4 => arriving_packet::<V4, B, T>(io, &mut works.v4),
        ETHERTYPE_IPV6 => arriving_packet::<V6, B, T>(io, &mut works.v6),
        _ => decide(Decision::Untouched),
    }
}

#[inline(always)]
fn arriving_packet<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Step<()> {
    parse::ip::<F, B>(&io.buf, NetworkIndex::HOST, &mut work.packet).or_untouched()?;
    forget_ways();
    if is_plain(&work.packet) {
        forward::follow::<F, B, T>(io, work)?;
    }
    forget_ways();
    let otherwise = arriving_unknown::<F, B, T>(io, work);
    forget_ways();
    look_closer_or(io, work, F::FAMILY, otherwise)
}

/// A packet from outside that no flow entry decides.
#[inline(always)]
fn arriving_unknown<F: Stack, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
) -> Step<()> {
    policy::check_arrival::<F, T>(&io.tables, &work.packet)?;
    forward::begin::<F, B, T>(io, work)
}

#[inline(always)]
fn leaving_frame<B: PacketBuf, T: AllTables>(io: &mut Io<B, T>) -> Step<()> {
    if io.buf.mark() == FORWARD_MARK {
        io.buf.set_mark(0);
        return decide(Decision::Untouched);
    }
    let frame = parse::ethernet(&io.buf).or_untouched()?;
    match frame.ethertype {
        ETHERTYPE_IPV4 => leaving_packet::<V4, B, T>(io),
        ETHERTYPE_IPV6 => leaving_packet::<V6, B, T>(io),
        _ => decide(Decision::Untouched),
    }
}

#[inline(always)]
fn leaving_packet<F: Stack, B: PacketBuf, T: FamilyTables<F>>(io: &mut Io<B, T>) -> Step<()> {
    let src = parse::source::<F, B>(&io.buf).or_untouched()?;
    forward::check_leak::<F, B, T>(io, src)
}
