//! Addresses as they stand in packets and map keys, and the two families they belong to.

use core::fmt::Debug;
use core::hash::Hash;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::layout;

/// An IPv4 address, network byte order in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Ipv4(pub u32);

/// An IPv6 address, network byte order in memory; words so that the verifier sees aligned loads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Ipv6(pub [u32; 4]);

layout!(Ipv4, 4; Ipv6, 16);

impl Ipv4 {
    /// From four octets.
    #[inline(always)]
    pub const fn new(octets: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(octets))
    }

    /// The four octets.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }
}

impl Ipv6 {
    /// From sixteen octets.
    pub const fn new(o: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
            u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
            u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
            u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
        ])
    }

    /// The sixteen octets.
    pub const fn octets(self) -> [u8; 16] {
        let [a, b, c, d] = [
            self.0[0].to_ne_bytes(),
            self.0[1].to_ne_bytes(),
            self.0[2].to_ne_bytes(),
            self.0[3].to_ne_bytes(),
        ];
        [
            a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1],
            d[2], d[3],
        ]
    }
}

impl From<Ipv4Addr> for Ipv4 {
    fn from(addr: Ipv4Addr) -> Self {
        Self::new(addr.octets())
    }
}

impl From<Ipv6Addr> for Ipv6 {
    fn from(addr: Ipv6Addr) -> Self {
        Self::new(addr.octets())
    }
}

impl From<Ipv4> for IpAddr {
    fn from(addr: Ipv4) -> Self {
        Self::V4(Ipv4Addr::from(addr.octets()))
    }
}

impl From<Ipv6> for IpAddr {
    fn from(addr: Ipv6) -> Self {
        Self::V6(Ipv6Addr::from(addr.octets()))
    }
}

/// What both address types can do.
pub trait Address:
    bytemuck::Pod + Default + Debug + PartialEq + Eq + PartialOrd + Ord + Hash + Into<IpAddr>
{
    /// All zero: "any" in a published key, "none" elsewhere.
    const ANY: Self;

    /// All bits zero.
    #[inline(always)]
    fn is_any(self) -> bool {
        self == Self::ANY
    }

    /// Multicast, or IPv4's limited broadcast.
    fn is_group(self) -> bool;

    /// 127.0.0.0/8 or `::1`.
    fn is_loopback(self) -> bool;

    /// 169.254.0.0/16 or `fe80::/10`.
    fn is_link_local(self) -> bool;
}

impl Address for Ipv4 {
    const ANY: Self = Self(0);

    #[inline(always)]
    fn is_group(self) -> bool {
        self.octets()[0] & 0xf0 == 0xe0 || self.0 == u32::MAX
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self.octets()[0] == 127
    }

    #[inline(always)]
    fn is_link_local(self) -> bool {
        let o = self.octets();
        o[0] == 169 && o[1] == 254
    }
}

impl Address for Ipv6 {
    const ANY: Self = Self([0; 4]);

    #[inline(always)]
    fn is_group(self) -> bool {
        self.0[0].to_ne_bytes()[0] == 0xff
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self.0 == [0, 0, 0, 1u32.to_be()]
    }

    #[inline(always)]
    fn is_link_local(self) -> bool {
        let o = self.0[0].to_ne_bytes();
        o[0] == 0xfe && o[1] & 0xc0 == 0x80
    }
}

/// An address family: the packet path is written once over it and instantiated twice.
pub trait Family: Copy + Default + 'static {
    /// The family's address.
    type Addr: Address;
    /// 4 or 6.
    const VERSION: u8;
    /// Length of the fixed IP header in bytes.
    const HEADER_LEN: usize;
    /// Protocol number of the family's ICMP.
    const ICMP: u8;
}

/// IPv4, RFC 791.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct V4;

/// IPv6, RFC 8200.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct V6;

impl Family for V4 {
    type Addr = Ipv4;
    const VERSION: u8 = 4;
    const HEADER_LEN: usize = 20;
    const ICMP: u8 = 1;
}

impl Family for V6 {
    type Addr = Ipv6;
    const VERSION: u8 = 6;
    const HEADER_LEN: usize = 40;
    const ICMP: u8 = 58;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip_through_octets() {
        let v6: Ipv6Addr = "fd00:1:2:3:4:5:6:7".parse().unwrap();
        assert_eq!(IpAddr::from(Ipv6::from(v6)), IpAddr::V6(v6));
        let v4 = Ipv4Addr::new(10, 1, 2, 3);
        assert_eq!(IpAddr::from(Ipv4::from(v4)), IpAddr::V4(v4));
    }

    #[test]
    fn special_addresses_are_told_apart() {
        let v6 = |s: &str| Ipv6::from(s.parse::<Ipv6Addr>().unwrap());
        assert!(v6("::1").is_loopback() && !v6("::2").is_loopback());
        assert!(v6("fe80::1").is_link_local() && !v6("fec0::1").is_link_local());
        assert!(v6("ff02::fb").is_group() && !v6("fd00::1").is_group());
        assert!(Ipv4::new([255; 4]).is_group() && Ipv4::new([224, 0, 0, 251]).is_group());
        assert!(Ipv4::new([127, 9, 9, 9]).is_loopback());
    }
}
