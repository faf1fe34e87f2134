//! What either family's packets have of their own.

use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, IpHeader, Ipv4Header, Ipv6Header, Ports};
use crate::addr::{Family, Ipv4, Ipv6, V4, V6};
use crate::id::{Be16, MacAddr};

/// What the packet path needs of a family beyond its address.
pub trait WireFamily: Family {
    /// Its fixed header.
    type Header: IpHeader<Self>;
    /// Its ethertype.
    const ETHERTYPE: Be16;
    /// Length of its address in bytes.
    const ADDRESS_LEN: u32;
    /// ICMP type of an echo request.
    const ECHO_REQUEST: u8;
    /// ICMP type of an echo reply.
    const ECHO_REPLY: u8;
    /// Whether its ICMP checksum covers the pseudo header.
    const ICMP_PSEUDO_HEADER: bool;

    /// Whether an ICMP type is an error that quotes a packet.
    fn is_icmp_error(kind: u8) -> bool;

    /// Change of the checksum sum when one address becomes another.
    fn change(from: Self::Addr, to: Self::Addr) -> u64;
}

impl WireFamily for V4 {
    type Header = Ipv4Header;
    const ETHERTYPE: Be16 = ETHERTYPE_IPV4;
    const ADDRESS_LEN: u32 = 4;
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;
    const ICMP_PSEUDO_HEADER: bool = false;

    #[inline(always)]
    fn is_icmp_error(kind: u8) -> bool {
        matches!(kind, 3 | 4 | 11 | 12)
    }

    #[inline(always)]
    fn change(from: Ipv4, to: Ipv4) -> u64 {
        crate::csum::change(from.0, to.0)
    }
}

impl WireFamily for V6 {
    type Header = Ipv6Header;
    const ETHERTYPE: Be16 = ETHERTYPE_IPV6;
    const ADDRESS_LEN: u32 = 16;
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;
    const ICMP_PSEUDO_HEADER: bool = true;

    #[inline(always)]
    fn is_icmp_error(kind: u8) -> bool {
        matches!(kind, 1..=4)
    }

    #[inline(always)]
    fn change(from: Ipv6, to: Ipv6) -> u64 {
        use crate::csum::change;
        change(from.0[0], to.0[0])
            + change(from.0[1], to.0[1])
            + change(from.0[2], to.0[2])
            + change(from.0[3], to.0[3])
    }
}

/// Both addresses as they stand in either family's header, for one store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct AddressPair<A> {
    /// Source.
    pub src: A,
    /// Destination.
    pub dst: A,
}

/// What translation changes of a packet without options, for one store: from `IpHeader::LIFE` to
/// the ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Rewrite<A> {
    /// `IpHeader::life`.
    pub life: u32,
    /// The addresses.
    pub addresses: AddressPair<A>,
    /// The ports.
    pub ports: Ports,
}

/// Both MACs as they begin a frame, for one store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MacPair {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
}
