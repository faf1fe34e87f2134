//! From bytes to the tuple that tables are keyed by.
//!
//! Law: a parser never trusts a length field beyond the frame's end, and says nothing about what
//! becomes of a packet it cannot read: the pipeline knows whose packet it is.

use netd_common::map::flow::FlowKey;
use netd_common::wire::{
    ETHERNET_LEN, Ethernet, IPV6_FRAGMENT, Icmp, IpFields, IpHeader, Ipv6Fragment, Part, Ports,
    SCTP, TCP, TCP_ACK, TCP_SYN, TcpHead, UDP, WireFamily,
};
use netd_common::{Address, Be16, NetworkIndex};

use crate::packet::PacketBuf;

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
}

/// The Ethernet header.
#[inline(always)]
pub fn ethernet<B: PacketBuf>(buf: &B) -> Option<Ethernet> {
    buf.load(0)
}

/// Reads the IP packet behind the Ethernet header.
#[inline(always)]
pub fn ip<F: WireFamily, B: PacketBuf>(
    buf: &B,
    network: NetworkIndex,
    packet: &mut Packet<F::Addr>,
) -> Option<()> {
    let header: F::Header = buf.load(ETHERNET_LEN)?;
    let fields = header.fields()?;
    if ETHERNET_LEN + fields.total_len > buf.frame_len() {
        return None;
    }
    let (l4, proto, part) = payload::<F, B>(buf, &fields)?;
    let key = &mut packet.key;
    key.network = network;
    key.src = fields.src;
    key.dst = fields.dst;
    key.sport = Be16(0);
    key.dport = Be16(0);
    key.proto = proto;
    key.pad = [0; 3];
    packet.l4 = l4;
    packet.life = header.life();
    packet.ttl = fields.ttl;
    packet.part = part;
    packet.role = Role::Opens;
    packet.tcp_flags = 0;
    match part {
        Part::Whole | Part::First => transport::<F, B>(buf, packet),
        Part::Later => Some(()),
    }
}

/// The IP source alone.
#[inline(always)]
pub fn source<F: WireFamily, B: PacketBuf>(buf: &B) -> Option<F::Addr> {
    let header: F::Header = buf.load(ETHERNET_LEN)?;
    header.fields().map(|fields| fields.src)
}

#[inline(always)]
fn payload<F: WireFamily, B: PacketBuf>(
    buf: &B,
    fields: &IpFields<F::Addr>,
) -> Option<(u32, u8, Part)> {
    let l4 = ETHERNET_LEN + fields.header_len;
    if F::VERSION == 6 && fields.proto == IPV6_FRAGMENT {
        let fragment: Ipv6Fragment = buf.load(l4)?;
        return Some((l4 + 8, fragment.proto, fragment.part()));
    }
    Some((l4, fields.proto, fields.part))
}

#[inline(always)]
fn transport<F: WireFamily, B: PacketBuf>(buf: &B, packet: &mut Packet<F::Addr>) -> Option<()> {
    let proto = packet.key.proto;
    if proto == TCP {
        let tcp: TcpHead = buf.load(packet.l4)?;
        packet.tcp_flags = tcp.flags;
        packet.role =
            if tcp.flags & (TCP_SYN | TCP_ACK) == TCP_SYN { Role::Opens } else { Role::Continues };
        set_ports(packet, tcp.ports);
    } else if proto == UDP || proto == SCTP {
        set_ports(packet, buf.load(packet.l4)?);
    } else if proto == F::ICMP {
        let icmp: Icmp = buf.load(packet.l4)?;
        packet.role = echo_role::<F>(icmp.kind);
        if matches!(packet.role, Role::Opens | Role::Continues) {
            set_ports(packet, Ports { sport: icmp.id, dport: icmp.id });
        }
    }
    Some(())
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
