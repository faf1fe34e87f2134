//! ICMP errors of our own: the sender of a packet that cannot go on is told why.
//!
//! Laws: the error is written over the packet itself and goes back where it came from. Never about
//! an ICMP error, a later fragment or a packet to or from a group, RFC 1122 section 3.2.2; never
//! more often than the budget allows.
#![allow(clippy::cast_possible_truncation, reason = "lengths of headers are small constants")]

use core::ops::ControlFlow;

use bytemuck::Pod;
use netd_common::map::counter::FlowStat;
use netd_common::map::network::NetworkValue;
use netd_common::wire::{
    AddressPair, ETHERNET_LEN, Ethernet, Icmp, Ipv4Header, Ipv6Header, MacPair, Part,
};
use netd_common::{Address, Be16, DropReason, Family, Ipv4, Ipv6, NetworkIndex, V4, V6, csum};

use crate::packet::{Io, PacketBuf, Refused};
use crate::parse::{Packet, Role};
use crate::tables::{FamilyTables, Stack, Tables};
use crate::verdict::{Step, Verdict, refuse};
use crate::work::{Work, forget_ways};

const TTL: u8 = 64;
/// Internetwork control.
const TOS: u8 = 0xc0;
const ICMP_LEN: u16 = 8;

/// Why a packet was dropped, if it is a reason to tell its sender.
#[inline(always)]
pub const fn called_for(verdict: Verdict) -> Option<DropReason> {
    match verdict.drop_reason() {
        Some(reason @ (DropReason::TtlExceeded | DropReason::TooBig | DropReason::NoRoute)) => {
            Some(reason)
        }
        Some(_) | None => None,
    }
}

/// A family's errors.
pub trait Complaint: Stack {
    /// What an error repeats of the packet: its header, and eight bytes of what follows.
    type Quote: Pod;

    /// Type and code.
    fn kind(reason: DropReason) -> (u8, u8);

    /// The header before an error.
    fn header(src: Self::Addr, dst: Self::Addr) -> Self::Header;

    /// The sum over the quote.
    fn quote_sum(quote: &Self::Quote) -> u64;

    /// The sum over the pseudo header, where the checksum covers it.
    fn pseudo_sum(src: Self::Addr, dst: Self::Addr) -> u64;

    /// The network's gateway address.
    fn of_gateway(network: &NetworkValue) -> Self::Addr;
}

impl Complaint for V4 {
    type Quote = [u32; 7];

    #[inline(always)]
    fn kind(reason: DropReason) -> (u8, u8) {
        if reason == DropReason::TtlExceeded {
            (11, 0)
        } else if reason == DropReason::TooBig {
            (3, 4)
        } else {
            (3, 0)
        }
    }

    #[inline(always)]
    fn header(src: Ipv4, dst: Ipv4) -> Ipv4Header {
        let total_len = Be16::new(20 + ICMP_LEN + size_of::<Self::Quote>() as u16);
        let [high, low] = total_len.0.to_ne_bytes();
        let sum = u64::from(u32::from_ne_bytes([0x45, TOS, high, low]))
            + u64::from(u32::from_ne_bytes([TTL, V4::ICMP, 0, 0]))
            + u64::from(src.0)
            + u64::from(dst.0);
        Ipv4Header {
            version_ihl: 0x45,
            tos: TOS,
            total_len,
            id: Be16(0),
            fragment: Be16(0),
            ttl: TTL,
            proto: V4::ICMP,
            checksum: !csum::fold(sum),
            src,
            dst,
        }
    }

    #[inline(always)]
    fn quote_sum(quote: &[u32; 7]) -> u64 {
        csum::sum(quote)
    }

    #[inline(always)]
    fn pseudo_sum(_src: Ipv4, _dst: Ipv4) -> u64 {
        0
    }

    #[inline(always)]
    fn of_gateway(network: &NetworkValue) -> Ipv4 {
        network.gateway_v4
    }
}

impl Complaint for V6 {
    type Quote = [u32; 12];

    #[inline(always)]
    fn kind(reason: DropReason) -> (u8, u8) {
        if reason == DropReason::TtlExceeded {
            (3, 0)
        } else if reason == DropReason::TooBig {
            (2, 0)
        } else {
            (1, 0)
        }
    }

    #[inline(always)]
    fn header(src: Ipv6, dst: Ipv6) -> Ipv6Header {
        Ipv6Header {
            version_flow: u32::from_ne_bytes([0x60, 0, 0, 0]),
            payload_len: Be16::new(ICMP_LEN + size_of::<Self::Quote>() as u16),
            proto: V6::ICMP,
            ttl: TTL,
            src,
            dst,
        }
    }

    #[inline(always)]
    fn quote_sum(quote: &[u32; 12]) -> u64 {
        csum::sum(quote)
    }

    #[inline(always)]
    fn pseudo_sum(src: Ipv6, dst: Ipv6) -> u64 {
        let len = u32::from(ICMP_LEN) + size_of::<Self::Quote>() as u32;
        csum::sum(&src.0)
            + csum::sum(&dst.0)
            + u64::from(len.to_be())
            + u64::from(u32::from(V6::ICMP).to_be())
    }

    #[inline(always)]
    fn of_gateway(network: &NetworkValue) -> Ipv6 {
        network.gateway_v6
    }
}

/// Notes what the sender of a dropped packet is told. False: nothing.
#[inline(always)]
pub fn complain<F: Complaint, B: PacketBuf, T: FamilyTables<F>>(
    io: &mut Io<B, T>,
    work: &mut Work<F::Addr>,
    reason: DropReason,
) -> bool {
    work.rewrite.addresses.dst = work.packet.key.src;
    work.rewrite.addresses.src = own_address::<F, B, T>(io, &work.packet);
    forget_ways();
    let (kind, code) = F::kind(reason);
    work.error = Icmp { kind, code, ..Icmp::default() };
    if reason == DropReason::TooBig {
        let uplink = io.tables.uplink(work.entry.ifindex).unwrap_or_default();
        work.error.sequence = Be16::new(uplink.mtu.min(0xffff) as u16);
    }
    forget_ways();
    deserves_one(&work.packet)
        && !work.rewrite.addresses.src.is_any()
        && within_budget(&mut io.tables)
}

#[inline(always)]
fn within_budget<T: Tables>(tables: &mut T) -> bool {
    let may = tables.may_complain();
    if !may {
        tables.count_flow(FlowStat::ErrorsWithheld);
    }
    may
}

#[inline(always)]
fn deserves_one<A: Address>(packet: &Packet<A>) -> bool {
    let key = &packet.key;
    packet.role != Role::Error
        && packet.part != Part::Later
        && !(key.src.is_any() || key.src.is_group() || key.dst.is_group())
}

/// The gateway's address toward a container; toward the outside the address that was asked for.
#[inline(always)]
fn own_address<F: Complaint, B: PacketBuf, T: FamilyTables<F>>(
    io: &Io<B, T>,
    packet: &Packet<F::Addr>,
) -> F::Addr {
    if packet.key.network != NetworkIndex::HOST {
        return F::of_gateway(&io.tables.network(packet.key.network));
    }
    if io.tables.host_address(&packet.key.dst).is_some() {
        return packet.key.dst;
    }
    F::of_uplink(&io.tables.uplink(io.buf.ifindex()).unwrap_or_default())
}

/// The dropped packet becomes the error that is noted.
#[inline(always)]
pub fn tell<F: Complaint, B: PacketBuf>(buf: &mut B, work: &Work<F::Addr>) -> Result<(), Refused> {
    let (AddressPair { src, dst }, mut icmp) = (work.rewrite.addresses, work.error);
    let frame: Ethernet = buf.load(0).ok_or(Refused)?;
    let quote: F::Quote = buf.load(ETHERNET_LEN).ok_or(Refused)?;
    let at = ETHERNET_LEN + size_of::<F::Header>() as u32;
    buf.resize(at + u32::from(ICMP_LEN) + size_of::<F::Quote>() as u32)?;
    let head = u64::from(u32::from_ne_bytes([icmp.kind, icmp.code, 0, 0]))
        + u64::from(u32::from(icmp.sequence.get()).to_be());
    icmp.checksum = !csum::fold(head + F::quote_sum(&quote) + F::pseudo_sum(src, dst));
    buf.store(0, &MacPair { dst: frame.src, src: frame.dst })?;
    buf.store(ETHERNET_LEN, &F::header(src, dst))?;
    buf.store(at, &icmp)?;
    buf.store(at + u32::from(ICMP_LEN), &quote)
}

/// A packet out of an uplink fits it.
#[inline(always)]
pub fn check_fit<B: PacketBuf, A>(buf: &B, work: &Work<A>) -> Step<()> {
    // Every link of either family takes this much, RFC 8200 section 5; asking costs time.
    const ALWAYS_FITS: u32 = ETHERNET_LEN + 1_280;
    if buf.frame_len() > ALWAYS_FITS && !buf.fits(work.entry.ifindex) {
        return refuse(DropReason::TooBig);
    }
    ControlFlow::Continue(())
}
