//! Headers as they stand on the wire.
//!
//! Law: they are read and written by copy, never by reference into a packet, so that each may have
//! its natural alignment while the packet has none. Numbers are in network byte order.

pub mod family;
mod header;

pub use family::{AddressPair, MacPair, Rewrite, WireFamily};
pub use header::IpHeader;

use crate::addr::{Address, Ipv4, Ipv6};
use crate::id::{Be16, MacAddr};
use crate::layout;

/// Length of an Ethernet header.
pub const ETHERNET_LEN: u32 = 14;

/// Ethertype of IPv4.
pub const ETHERTYPE_IPV4: Be16 = Be16::new(0x0800);
/// Ethertype of ARP.
pub const ETHERTYPE_ARP: Be16 = Be16::new(0x0806);
/// Ethertype of IPv6.
pub const ETHERTYPE_IPV6: Be16 = Be16::new(0x86dd);
/// Ethertype of a VLAN tag, IEEE 802.1Q.
pub const ETHERTYPE_VLAN: Be16 = Be16::new(0x8100);
/// Ethertype of a provider's VLAN tag, IEEE 802.1ad.
pub const ETHERTYPE_PROVIDER_VLAN: Be16 = Be16::new(0x88a8);

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of SCTP.
pub const SCTP: u8 = 132;
/// IPv6 next header: options for every router follow.
pub const IPV6_HOP_BY_HOP: u8 = 0;
/// IPv6 next header: a routing header follows.
pub const IPV6_ROUTING: u8 = 43;
/// IPv6 next header: a fragment header follows.
pub const IPV6_FRAGMENT: u8 = 44;
/// IPv6 next header: options for the destination follow.
pub const IPV6_DESTINATION: u8 = 60;

/// IPv4 option: the list has ended.
pub const OPTION_END: u8 = 0;
/// IPv4 option: nothing, one byte long.
pub const OPTION_NOTHING: u8 = 1;
/// IPv4 option: loose source and record route.
pub const OPTION_LOOSE_ROUTE: u8 = 131;
/// IPv4 option: strict source and record route.
pub const OPTION_STRICT_ROUTE: u8 = 137;

/// Ethernet II.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ethernet {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
    /// What follows.
    pub ethertype: Be16,
}

/// ARP for IPv4 over Ethernet, RFC 826. The addresses stand at odd words: two halves each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Arp {
    /// 1: Ethernet.
    pub hardware: Be16,
    /// 0x0800: IPv4.
    pub protocol: Be16,
    /// 6.
    pub hardware_len: u8,
    /// 4.
    pub protocol_len: u8,
    /// `ARP_REQUEST`, `ARP_REPLY`.
    pub operation: Be16,
    /// Sender's MAC.
    pub sender_mac: MacAddr,
    /// Sender's address.
    pub sender: [Be16; 2],
    /// Target's MAC.
    pub target_mac: MacAddr,
    /// Target's address.
    pub target: [Be16; 2],
}

/// `Arp::operation`: who has it?
pub const ARP_REQUEST: Be16 = Be16::new(1);
/// `Arp::operation`: I have it.
pub const ARP_REPLY: Be16 = Be16::new(2);

impl Arp {
    /// Joins the halves of an address.
    #[inline(always)]
    pub const fn address(halves: [Be16; 2]) -> Ipv4 {
        let [a, b] = [halves[0].0.to_ne_bytes(), halves[1].0.to_ne_bytes()];
        Ipv4::new([a[0], a[1], b[0], b[1]])
    }

    /// Splits an address into halves.
    #[inline(always)]
    pub const fn halves(addr: Ipv4) -> [Be16; 2] {
        let o = addr.octets();
        [Be16(u16::from_ne_bytes([o[0], o[1]])), Be16(u16::from_ne_bytes([o[2], o[3]]))]
    }
}

/// IPv4 without options, RFC 791.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ipv4Header {
    /// Version, and header length in words.
    pub version_ihl: u8,
    /// Type of service.
    pub tos: u8,
    /// Length with this header.
    pub total_len: Be16,
    /// Identification.
    pub id: Be16,
    /// Flags, and fragment offset in units of 8 bytes.
    pub fragment: Be16,
    /// Time to live.
    pub ttl: u8,
    /// What follows.
    pub proto: u8,
    /// Header checksum.
    pub checksum: u16,
    /// Source.
    pub src: Ipv4,
    /// Destination.
    pub dst: Ipv4,
}

/// IPv6 without extension headers, RFC 8200.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ipv6Header {
    /// Version, traffic class, flow label.
    pub version_flow: u32,
    /// Length without this header.
    pub payload_len: Be16,
    /// What follows.
    pub proto: u8,
    /// Hop limit.
    pub ttl: u8,
    /// Source.
    pub src: Ipv6,
    /// Destination.
    pub dst: Ipv6,
}

/// IPv6 fragment header, RFC 8200 section 4.5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ipv6Fragment {
    /// What follows.
    pub proto: u8,
    /// Reserved.
    pub reserved: u8,
    /// Fragment offset in units of 8 bytes, reserved bits, and the M flag.
    pub fragment: Be16,
    /// Identification.
    pub id: u32,
}

/// Source and destination port, the first four bytes of TCP, UDP and SCTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ports {
    /// Source port.
    pub sport: Be16,
    /// Destination port.
    pub dport: Be16,
}

impl Ports {
    /// As one word in memory order, for checksums.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        let [a, b] = [self.sport.0.to_ne_bytes(), self.dport.0.to_ne_bytes()];
        u32::from_ne_bytes([a[0], a[1], b[0], b[1]])
    }
}

/// TCP up to its flags, RFC 9293.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TcpHead {
    /// Ports.
    pub ports: Ports,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Header length in the upper four bits, in words.
    pub offset: u8,
    /// `TCP_*`.
    pub flags: u8,
    /// Window.
    pub window: Be16,
}

/// `TcpHead::flags`.
pub const TCP_FIN: u8 = 1;
/// `TcpHead::flags`.
pub const TCP_SYN: u8 = 2;
/// `TcpHead::flags`.
pub const TCP_RST: u8 = 4;
/// `TcpHead::flags`.
pub const TCP_ACK: u8 = 16;

/// Offset of TCP's checksum.
pub const TCP_CHECKSUM: u32 = 16;
/// Offset of UDP's checksum.
pub const UDP_CHECKSUM: u32 = 6;
/// Offset of ICMP's checksum, both versions.
pub const ICMP_CHECKSUM: u32 = 2;
/// Offset of an ICMP echo's identifier, both versions.
pub const ICMP_ECHO_ID: u32 = 4;

/// ICMP's first eight bytes, both versions, RFC 792 and RFC 4443.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum.
    pub checksum: u16,
    /// An echo's identifier.
    pub id: Be16,
    /// An echo's sequence number.
    pub sequence: Be16,
}

/// Neighbour solicitation or advertisement without options, RFC 4861.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NeighborMessage {
    /// `ICMPV6_NEIGHBOR_*`.
    pub kind: u8,
    /// Always zero.
    pub code: u8,
    /// Checksum.
    pub checksum: u16,
    /// `NA_*` in an advertisement, reserved in a solicitation; memory order.
    pub flags: u32,
    /// The address asked for.
    pub target: Ipv6,
}

/// The link-layer address option of neighbour discovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LinkAddressOption {
    /// 1 source, 2 target.
    pub kind: u8,
    /// In units of 8 bytes: 1.
    pub len: u8,
    /// The MAC.
    pub mac: MacAddr,
}

/// `Icmp::kind` of IPv4: redirect.
pub const ICMP_REDIRECT: u8 = 5;
/// `Icmp::kind` of IPv4: router advertisement, RFC 1256.
pub const ICMP_ROUTER_ADVERTISEMENT: u8 = 9;
/// ICMPv6 type: router solicitation, the first of neighbour discovery.
pub const ICMPV6_ROUTER_SOLICITATION: u8 = 133;
/// ICMPv6 type: router advertisement.
pub const ICMPV6_ROUTER_ADVERTISEMENT: u8 = 134;
/// ICMPv6 type: neighbour solicitation.
pub const ICMPV6_NEIGHBOR_SOLICITATION: u8 = 135;
/// ICMPv6 type: neighbour advertisement.
pub const ICMPV6_NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// ICMPv6 type: redirect, the last of neighbour discovery.
pub const ICMPV6_REDIRECT: u8 = 137;
/// Advertisement flag: the sender is a router.
pub const NA_ROUTER: u32 = u32::from_be(0x8000_0000);
/// Advertisement flag: it answers a solicitation.
pub const NA_SOLICITED: u32 = u32::from_be(0x4000_0000);
/// Advertisement flag: replace what you know.
pub const NA_OVERRIDE: u32 = u32::from_be(0x2000_0000);
/// `LinkAddressOption::kind` of an advertisement.
pub const TARGET_LINK_ADDRESS: u8 = 2;

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// All of it.
    #[default]
    Whole,
    /// The first fragment: it has the ports.
    First,
    /// A later fragment.
    Later,
}

/// What a parser takes from either family's fixed header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpFields<A> {
    /// Source.
    pub src: A,
    /// Destination.
    pub dst: A,
    /// What follows.
    pub proto: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Which part it is; extension headers of IPv6 not looked at.
    pub part: Part,
    /// Length of this header in bytes, options included.
    pub header_len: u32,
    /// Length of the packet from this header on, or `IpHeader::BEYOND`.
    pub total_len: u32,
}

impl Ipv6Fragment {
    /// Which part the packet is.
    #[inline(always)]
    pub const fn part(&self) -> Part {
        part(self.fragment.get() & 0xfff8, self.fragment.get() & 1)
    }
}

#[inline(always)]
const fn part(offset: u16, more: u16) -> Part {
    if offset != 0 {
        Part::Later
    } else if more != 0 {
        Part::First
    } else {
        Part::Whole
    }
}

// SAFETY: repr(C) of two equal plain types: no padding.
unsafe impl<A: Address> bytemuck::Zeroable for AddressPair<A> {}
// SAFETY: as above, and any bit pattern is a value because every field's is.
unsafe impl<A: Address> bytemuck::Pod for AddressPair<A> {}

// SAFETY: repr(C), and every field's size is a multiple of four bytes, the alignment of all.
unsafe impl<A: Address> bytemuck::Zeroable for Rewrite<A> {}
// SAFETY: as above, and any bit pattern is a value because every field's is.
unsafe impl<A: Address> bytemuck::Pod for Rewrite<A> {}

layout!(
    Ethernet, 14;
    Arp, 28;
    Ipv4Header, 20;
    Ipv6Header, 40;
    Ipv6Fragment, 8;
    Ports, 4;
    TcpHead, 16;
    Icmp, 8;
    NeighborMessage, 24;
    LinkAddressOption, 8;
    MacPair, 12;
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_lies_about_its_length_has_no_fields() {
        let good =
            Ipv4Header { version_ihl: 0x45, total_len: Be16::new(20), ..Ipv4Header::default() };
        assert!(good.fields().is_some());
        assert!(Ipv4Header { version_ihl: 0x44, ..good }.fields().is_none());
        assert!(Ipv4Header { version_ihl: 0x65, ..good }.fields().is_none());
        assert!(Ipv4Header { total_len: Be16::new(19), ..good }.fields().is_none());
        let beyond = Ipv4Header { total_len: Be16(0), ..good }.fields();
        assert_eq!(beyond.unwrap().total_len, Ipv4Header::BEYOND, "it says none");
    }

    #[test]
    fn fragments_are_told_from_whole_datagrams() {
        let of = |fragment| {
            let header = Ipv4Header {
                version_ihl: 0x45,
                total_len: Be16::new(20),
                fragment: Be16::new(fragment),
                ..Ipv4Header::default()
            };
            header.fields().unwrap().part
        };
        assert_eq!(
            [of(0x4000), of(0x2000), of(0x2001), of(1)],
            [Part::Whole, Part::First, Part::Later, Part::Later]
        );
        let of =
            |fragment| Ipv6Fragment { fragment: Be16::new(fragment), ..Default::default() }.part();
        assert_eq!(
            [of(0), of(1), of(8), of(9)],
            [Part::Whole, Part::First, Part::Later, Part::Later]
        );
    }

    #[test]
    fn arp_addresses_survive_being_split() {
        let addr = Ipv4::new([10, 1, 2, 3]);
        assert_eq!(Arp::address(Arp::halves(addr)), addr);
    }
}
