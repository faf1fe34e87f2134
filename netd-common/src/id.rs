//! Small values that cannot be mistaken for one another.

use crate::layout;

/// A kernel interface index; 0 names no interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct IfIndex(pub u32);

/// A network's number in the dataplane. 0 is the host's own scope (uplinks), never a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct NetworkIndex(pub u32);

impl NetworkIndex {
    /// The scope of packets on an uplink.
    pub const HOST: Self = Self(0);
    /// Stands in counters for networks that are gone; the packet path never counts under it.
    pub const GONE: Self = Self(u32::MAX);
}

/// An endpoint's number in the dataplane: the slot of its counters. 0 stands for "no endpoint".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct EndpointIndex(pub u32);

impl EndpointIndex {
    /// Counted against no endpoint: packets of the host or of strangers.
    pub const NONE: Self = Self(0);
    /// Stands in counters for endpoints that are gone; the packet path never counts under it.
    pub const GONE: Self = Self(u32::MAX);
}

/// A 16-bit number in network byte order, as a port or ICMP echo id stands in a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Be16(pub u16);

impl Be16 {
    /// From host order.
    #[inline(always)]
    pub const fn new(value: u16) -> Self {
        Self(value.to_be())
    }

    /// In host order.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Group address: broadcast or multicast (IEEE 802, the lowest bit of the first octet).
    #[inline(always)]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// The interface identifier of RFC 4291 appendix A: modified EUI-64.
    pub const fn eui64(self) -> [u8; 8] {
        let m = self.0;
        [m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]]
    }
}

layout!(IfIndex, 4; NetworkIndex, 4; EndpointIndex, 4; Be16, 2; MacAddr, 6);
