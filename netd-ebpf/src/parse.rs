//! From bytes to the tuple that tables are keyed by.
//!
//! Law: a parser never trusts a length field beyond the frame's end, and says nothing about what
//! becomes of a packet it cannot read: the pipeline knows whose packet it is.

use bytemuck::Pod;
use netd_common::map::flow::FlowKey;
use netd_common::wire::{
    ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Icmp, IpFields, IpHeader, Part, Ports,
    SCTP, TCP, TCP_ACK, TCP_SYN, TcpHead, UDP, WireFamily,
};
use netd_common::{Address, Be16, NetworkIndex};

use crate::headers::{Payload, is_extension};
use crate::packet::PacketBuf;
use crate::work::forget_ways;

/// What a packet means to a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// It may open one: TCP SYN, UDP, echo request, any protocol without ports.
    #[default]
    Opens,
    /// It belongs to one: other TCP, echo reply.
    Continues,
    /// An ICMP error: it is about another packet.
    Error,
    /// It belongs to one that began before this host's flow table: no packet says so, `policy` does.
    Resumes,
    /// Other ICMP: neighbour discovery, a query of its own.
    Signal,
}

/// An IP packet as the steps see it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packet<A> {
    /// The tuple, in the scope of the hook.
    pub key: FlowKey<A>,
    /// Offset of what follows the IP header.
    pub l4: u32,
    /// `IpHeader::life`.
    pub life: u32,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Whole or a fragment.
    pub part: Part,
    /// What it means to a connection.
    pub role: Role,
    /// TCP's flags, otherwise zero.
    pub tcp_flags: u8,
    /// Whether it names routers of its way that it has yet to visit.
    pub is_source_routed: bool,
    /// Offset of a fragment's share of its datagram; of no meaning in a whole one.
    pub share: u32,
    /// Offset of the packet's end.
    pub end: u32,
}

/// The least length of a transport header.
const TCP_LEN: u32 = 20;
const UDP_LEN: u32 = 8;
const SCTP_LEN: u32 = 12;
const ICMP_LEN: u32 = 8;

/// The Ethernet header.
#[inline(always)]
pub fn ethernet<B: PacketBuf>(buf: &B) -> Option<Ethernet> {
    buf.head(0)
}

/// Reads the IP packet behind the Ethernet header.
#[inline(always)]
pub fn ip<F: WireFamily, B: PacketBuf>(
    buf: &B,
    network: NetworkIndex,
    packet: &mut Packet<F::Addr>,
) -> Option<()> {
    let header: F::Header = buf.head(ETHERNET_LEN)?;
    let fields = header.fields()?;
    packet.end = if fields.total_len == F::Header::BEYOND && buf.is_super_packet() {
        buf.frame_len()
    } else {
        ETHERNET_LEN + fields.total_len
    };
    write_payload(packet, payload::<F, B>(buf, &fields)?);
    forget_ways();
    if packet.end > buf.frame_len() || packet.l4 > packet.end {
        return None;
    }
    let key = &mut packet.key;
    key.network = network;
    key.src = fields.src;
    key.dst = fields.dst;
    key.sport = Be16(0);
    key.dport = Be16(0);
    key.pad = [0; 3];
    packet.life = header.life();
    packet.ttl = fields.ttl;
    packet.role = Role::Opens;
    packet.tcp_flags = 0;
    if F::VERSION == 4 {
        packet.share = packet.l4;
    }
    match packet.part {
        Part::Whole | Part::First => transport::<F, B>(buf, packet, packet.end - packet.l4),
        Part::Later => Some(()),
    }
}

/// First of all: many ways lead to a payload, and one from it.
#[inline(always)]
fn write_payload<A>(packet: &mut Packet<A>, payload: Payload) {
    packet.key.proto = payload.proto;
    packet.l4 = payload.at;
    packet.part = payload.part;
    packet.is_source_routed = payload.is_source_routed;
    packet.share = payload.share;
}

/// The IP source alone, of the header at an offset.
#[inline(always)]
pub fn source<F: WireFamily, B: PacketBuf>(buf: &B, at: u32) -> Option<F::Addr> {
    let header: F::Header = buf.load(at)?;
    header.fields().map(|fields| fields.src)
}

/// The ethertype of a packet without an Ethernet header, by its version.
#[inline(always)]
pub fn bare<B: PacketBuf>(buf: &B) -> Option<Be16> {
    match buf.load::<u8>(0)? >> 4 {
        4 => Some(ETHERTYPE_IPV4),
        6 => Some(ETHERTYPE_IPV6),
        _ => None,
    }
}

/// Past the options of an IPv4 header or the extension headers of an IPv6 one, where it has any.
#[inline(always)]
fn payload<F: WireFamily, B: PacketBuf>(buf: &B, fields: &IpFields<F::Addr>) -> Option<Payload> {
    let mut payload = Payload {
        at: ETHERNET_LEN + fields.header_len,
        proto: fields.proto,
        part: fields.part,
        ..Payload::default()
    };
    if F::VERSION == 6 && is_extension(fields.proto) {
        payload = buf.extensions(payload.at, payload.proto)?;
    } else if fields.header_len > F::Header::LEN {
        payload.is_source_routed = buf.options(payload.at)?;
    }
    Some(payload)
}

/// Reads the transport's header, which ends within the packet: what a short frame is padded with is
/// none of it, nor what a tiny first fragment leaves to the next.
#[inline(always)]
fn transport<F: WireFamily, B: PacketBuf>(
    buf: &B,
    packet: &mut Packet<F::Addr>,
    len: u32,
) -> Option<()> {
    let proto = packet.key.proto;
    if len < header_len::<F>(proto) {
        return None;
    }
    if proto == TCP {
        let tcp: TcpHead = behind::<F, B, _>(buf, packet.l4)?;
        packet.tcp_flags = tcp.flags;
        packet.role =
            if tcp.flags & (TCP_SYN | TCP_ACK) == TCP_SYN { Role::Opens } else { Role::Continues };
        set_ports(packet, tcp.ports);
    } else if proto == UDP || proto == SCTP {
        set_ports(packet, behind::<F, B, _>(buf, packet.l4)?);
    } else if proto == F::ICMP {
        let icmp: Icmp = buf.load(packet.l4)?;
        packet.role = echo_role::<F>(icmp.kind);
        if matches!(packet.role, Role::Opens | Role::Continues) {
            set_ports(packet, Ports { sport: icmp.id, dport: icmp.id });
        }
    }
    Some(())
}

/// What follows the IP header: nearly always right behind its fixed part.
#[inline(always)]
fn behind<F: WireFamily, B: PacketBuf, T: Pod>(buf: &B, at: u32) -> Option<T> {
    let usual = ETHERNET_LEN + F::Header::LEN;
    if at == usual { buf.head(usual) } else { buf.load(at) }
}

#[inline(always)]
const fn header_len<F: WireFamily>(proto: u8) -> u32 {
    if proto == TCP {
        TCP_LEN
    } else if proto == UDP {
        UDP_LEN
    } else if proto == SCTP {
        SCTP_LEN
    } else if proto == F::ICMP {
        ICMP_LEN
    } else {
        0
    }
}

#[inline(always)]
fn echo_role<F: WireFamily>(kind: u8) -> Role {
    if kind == F::ECHO_REQUEST {
        Role::Opens
    } else if kind == F::ECHO_REPLY {
        Role::Continues
    } else if F::is_icmp_error(kind) {
        Role::Error
    } else {
        Role::Signal
    }
}

#[inline(always)]
fn set_ports<A: Address>(packet: &mut Packet<A>, ports: Ports) {
    packet.key.sport = ports.sport;
    packet.key.dport = ports.dport;
}
