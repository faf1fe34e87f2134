//! ARP and neighbour discovery: answered for every address we know.
//!
//! Laws: an answer is made in place from the question, and goes back where it came from. Nobody
//! answers for another's address but we. Neighbour discovery stands bare behind the IPv6 header
//! (RFC 6980): in a fragment or behind extension headers it would be another's to judge.

use core::ops::ControlFlow;

use netd_common::csum;
use netd_common::map::endpoint::{ADDRESS_IS_GATEWAY, AddressValue, CHECK_MAC, EndpointValue};
use netd_common::wire::{
    ARP_REPLY, ARP_REQUEST, Arp, ETHERNET_LEN, ETHERTYPE_IPV4, Ethernet, ICMP_REDIRECT,
    ICMP_ROUTER_ADVERTISEMENT, ICMPV6_NEIGHBOR_ADVERTISEMENT, ICMPV6_NEIGHBOR_SOLICITATION,
    ICMPV6_REDIRECT, ICMPV6_ROUTER_ADVERTISEMENT, ICMPV6_ROUTER_SOLICITATION, Ipv6Header,
    LinkAddressOption, MacPair, NA_OVERRIDE, NA_ROUTER, NA_SOLICITED, NeighborMessage, Part,
    TARGET_LINK_ADDRESS,
};
use netd_common::{Address, Be16, DropReason, Family, Ipv4, Ipv6, MacAddr, NetworkIndex, V4, V6};

use crate::packet::{Io, PacketBuf, Refused};
use crate::tables::FamilyTables;
use crate::verdict::{Decision, OrStop, Step, decide, refuse};
use crate::{policy, source};

const ND: u32 = ETHERNET_LEN + 40;
const OPTION: u32 = ND + 24;
/// An advertisement's length, with the option that names the MAC and without.
const WITH_OPTION: u16 = 32;
const WITHOUT_OPTION: u16 = 24;
const PAYLOAD_LEN: u32 = ETHERNET_LEN + 4;
const HOP_LIMIT: u32 = ETHERNET_LEN + 7;
const SOURCE: u32 = ETHERNET_LEN + 8;
const ALL_NODES: Ipv6 = Ipv6::new([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
const ALL_NODES_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);

/// ARP from a container: a question about a known address is answered, a claim of a foreign one
/// dropped; the rest goes its way by MAC.
#[inline(never)]
pub fn arp_from_container<B: PacketBuf, T: FamilyTables<V4>>(
    io: &mut Io<B, T>,
    endpoint: &EndpointValue,
) -> Step<()> {
    let arp = load_arp(&io.buf)?;
    check_arp_claim(&io.tables, &arp, endpoint)?;
    let target = Arp::address(arp.target);
    if arp.operation != ARP_REQUEST || target == Arp::address(arp.sender) {
        return ControlFlow::Continue(());
    }
    match policy::holder::<V4, T>(&io.tables, endpoint.network, target) {
        Some(holder) if holder.endpoint != endpoint.index => {
            answer_arp(&mut io.buf, &arp, holder.mac)
        }
        Some(_) | None => ControlFlow::Continue(()),
    }
}

/// ARP from the host's stack: a question about a known address is answered.
#[inline(always)]
pub fn arp_from_host<B: PacketBuf, T: FamilyTables<V4>>(
    io: &mut Io<B, T>,
    network: NetworkIndex,
) -> Step<()> {
    let arp = load_arp(&io.buf)?;
    if arp.operation != ARP_REQUEST {
        return ControlFlow::Continue(());
    }
    match policy::holder::<V4, T>(&io.tables, network, Arp::address(arp.target)) {
        Some(holder) if holder.flags & ADDRESS_IS_GATEWAY == 0 => {
            answer_arp(&mut io.buf, &arp, holder.mac)
        }
        Some(_) | None => ControlFlow::Continue(()),
    }
}

#[inline(always)]
fn load_arp<B: PacketBuf>(buf: &B) -> Step<Arp> {
    let arp: Arp = buf.load(ETHERNET_LEN).or_drop(DropReason::Truncated)?;
    let usual = arp.hardware == Be16::new(1)
        && arp.protocol == ETHERTYPE_IPV4
        && arp.hardware_len == 6
        && arp.protocol_len == 4;
    if usual { ControlFlow::Continue(arp) } else { refuse(DropReason::UnsupportedProtocol) }
}

#[inline(always)]
fn check_arp_claim<T: FamilyTables<V4>>(
    tables: &T,
    arp: &Arp,
    endpoint: &EndpointValue,
) -> Step<()> {
    if endpoint.flags & CHECK_MAC != 0 && arp.sender_mac != endpoint.mac {
        return refuse(DropReason::SpoofedNeighbor);
    }
    let sender = Arp::address(arp.sender);
    if sender == Ipv4::ANY || source::may_claim::<V4, T>(tables, endpoint, sender) {
        ControlFlow::Continue(())
    } else {
        refuse(DropReason::SpoofedNeighbor)
    }
}

#[inline(always)]
fn answer_arp<B: PacketBuf>(buf: &mut B, question: &Arp, mac: MacAddr) -> Step<()> {
    let answer = Arp {
        operation: ARP_REPLY,
        sender_mac: mac,
        sender: question.target,
        target_mac: question.sender_mac,
        target: question.sender,
        ..*question
    };
    let macs = MacPair { dst: question.sender_mac, src: mac };
    let written = buf.store(0, &macs).and_then(|()| buf.store(ETHERNET_LEN, &answer));
    answered(written)
}

#[inline(always)]
fn answered(written: Result<(), Refused>) -> Step<()> {
    match written {
        Ok(()) => decide(Decision::Answer),
        Err(Refused) => refuse(DropReason::KernelRefused),
    }
}

/// IPv4's ICMP from a container that is neither an echo nor an error: no container is a router.
#[inline(always)]
pub fn signal_from_container<B: PacketBuf>(buf: &B, l4: u32, endpoint: &EndpointValue) -> Step<()> {
    match buf.load(l4).or_drop(DropReason::Truncated)? {
        ICMP_ROUTER_ADVERTISEMENT | ICMP_REDIRECT => refuse_router(endpoint),
        _ => ControlFlow::Continue(()),
    }
}

/// Where nothing is checked, a member may be a router.
#[inline(always)]
fn refuse_router(endpoint: &EndpointValue) -> Step<()> {
    if endpoint.flags & CHECK_MAC == 0 {
        return ControlFlow::Continue(());
    }
    refuse(DropReason::RogueRouter)
}

/// Neighbour discovery from a container, as `arp_from_container`.
#[inline(never)]
pub fn discovery_from_container<B: PacketBuf, T: FamilyTables<V6>>(
    io: &mut Io<B, T>,
    (l4, part): (u32, Part),
    endpoint: &EndpointValue,
) -> Step<()> {
    let kind: u8 = io.buf.load(l4).or_drop(DropReason::Truncated)?;
    if !(ICMPV6_ROUTER_SOLICITATION..=ICMPV6_REDIRECT).contains(&kind) {
        return ControlFlow::Continue(());
    }
    if l4 != ND || part != Part::Whole {
        return refuse(DropReason::UnsupportedProtocol);
    }
    check_speaker(io, endpoint)?;
    match kind {
        ICMPV6_ROUTER_ADVERTISEMENT | ICMPV6_REDIRECT => refuse_router(endpoint),
        ICMPV6_NEIGHBOR_ADVERTISEMENT => check_advertisement(io, endpoint),
        ICMPV6_NEIGHBOR_SOLICITATION => {
            let question: NeighborMessage = io.buf.load(ND).or_drop(DropReason::Truncated)?;
            match policy::holder::<V6, T>(&io.tables, endpoint.network, question.target) {
                Some(holder) if holder.endpoint != endpoint.index => {
                    answer_solicitation(&mut io.buf, &question, &holder)
                }
                Some(_) | None => ControlFlow::Continue(()),
            }
        }
        _ => ControlFlow::Continue(()),
    }
}

/// Neighbour discovery from the host's stack, as `arp_from_host`.
#[inline(always)]
pub fn discovery_from_host<B: PacketBuf, T: FamilyTables<V6>>(
    io: &mut Io<B, T>,
    network: NetworkIndex,
) -> Step<()> {
    let header: Ipv6Header = io.buf.load(ETHERNET_LEN).or_drop(DropReason::Truncated)?;
    if header.proto != V6::ICMP {
        return ControlFlow::Continue(());
    }
    let Some(question) = io.buf.load::<NeighborMessage>(ND) else {
        return ControlFlow::Continue(());
    };
    if question.kind != ICMPV6_NEIGHBOR_SOLICITATION {
        return ControlFlow::Continue(());
    }
    match policy::holder::<V6, T>(&io.tables, network, question.target) {
        Some(holder) if holder.flags & ADDRESS_IS_GATEWAY == 0 => {
            answer_solicitation(&mut io.buf, &question, &holder)
        }
        Some(_) | None => ControlFlow::Continue(()),
    }
}

/// Who hears a solicitation takes its source for the sender's, RFC 4861 sections 6.2.6 and 7.2.3.
#[inline(always)]
fn check_speaker<B: PacketBuf, T: FamilyTables<V6>>(
    io: &Io<B, T>,
    endpoint: &EndpointValue,
) -> Step<()> {
    let src: Ipv6 = io.buf.load(SOURCE).or_drop(DropReason::Truncated)?;
    if src.is_any() || source::may_claim::<V6, T>(&io.tables, endpoint, src) {
        ControlFlow::Continue(())
    } else {
        refuse(DropReason::SpoofedNeighbor)
    }
}

#[inline(always)]
fn check_advertisement<B: PacketBuf, T: FamilyTables<V6>>(
    io: &Io<B, T>,
    endpoint: &EndpointValue,
) -> Step<()> {
    let claim: NeighborMessage = io.buf.load(ND).or_drop(DropReason::Truncated)?;
    if source::may_claim::<V6, T>(&io.tables, endpoint, claim.target) {
        ControlFlow::Continue(())
    } else {
        refuse(DropReason::SpoofedNeighbor)
    }
}

/// The advertisement for a solicitation; what the question has room for beyond it (a nonce, RFC
/// 7527) is none of it. To an asker without an address (duplicate address
/// detection) it goes to all nodes, RFC 4861 section 7.2.4.
#[inline(always)]
fn answer_solicitation<B: PacketBuf>(
    buf: &mut B,
    question: &NeighborMessage,
    holder: &AddressValue,
) -> Step<()> {
    let header: Ipv6Header = buf.load(ETHERNET_LEN).or_drop(DropReason::Truncated)?;
    let frame: Ethernet = buf.load(0).or_drop(DropReason::Truncated)?;
    let (dst, dst_mac, solicited) = if header.src.is_any() {
        (ALL_NODES, ALL_NODES_MAC, 0)
    } else {
        (header.src, frame.src, NA_SOLICITED)
    };
    let router = if holder.flags & ADDRESS_IS_GATEWAY != 0 { NA_ROUTER } else { 0 };
    let answer = Advertisement {
        src: question.target,
        dst,
        flags: NA_OVERRIDE | solicited | router,
        mac: holder.mac,
        has_option: header.payload_len.get() >= WITH_OPTION,
    };
    let macs = MacPair { dst: dst_mac, src: holder.mac };
    answered(buf.store(0, &macs).and_then(|()| answer.write(buf)))
}

/// A neighbour advertisement, from its IPv6 addresses on.
struct Advertisement {
    src: Ipv6,
    dst: Ipv6,
    flags: u32,
    mac: MacAddr,
    has_option: bool,
}

impl Advertisement {
    #[inline(always)]
    fn write<B: PacketBuf>(&self, buf: &mut B) -> Result<(), Refused> {
        let option = LinkAddressOption { kind: TARGET_LINK_ADDRESS, len: 1, mac: self.mac };
        let mut message = NeighborMessage {
            kind: ICMPV6_NEIGHBOR_ADVERTISEMENT,
            code: 0,
            checksum: 0,
            flags: self.flags,
            target: self.src,
        };
        message.checksum = self.checksum(option);
        if self.has_option {
            buf.store(OPTION, &option)?;
        }
        let len = if self.has_option { WITH_OPTION } else { WITHOUT_OPTION };
        buf.store(PAYLOAD_LEN, &Be16::new(len))?;
        buf.store(ND, &message)?;
        buf.store(HOP_LIMIT, &255u8)?;
        buf.store(HOP_LIMIT + 1, &self.src)?;
        buf.store(HOP_LIMIT + 17, &self.dst)
    }

    /// Over the pseudo header and the message; the target is the source.
    #[inline(always)]
    fn checksum(&self, option: LinkAddressOption) -> u16 {
        let mut sum = csum::sum(&self.src.0) * 2 + csum::sum(&self.dst.0);
        sum += u64::from(u32::from(V6::ICMP).to_be()) + u64::from(self.flags);
        sum += u64::from(u32::from_ne_bytes([ICMPV6_NEIGHBOR_ADVERTISEMENT, 0, 0, 0]));
        let mut len = u32::from(WITHOUT_OPTION);
        if self.has_option {
            let m = option.mac.0;
            sum += u64::from(u32::from_ne_bytes([option.kind, option.len, m[0], m[1]]));
            sum += u64::from(u32::from_ne_bytes([m[2], m[3], m[4], m[5]]));
            len = u32::from(WITH_OPTION);
        }
        !csum::fold(sum + u64::from(len.to_be()))
    }
}
