//! Endpoints, and who answers for an address or a MAC within a network.

use crate::addr::{Ipv4, Ipv6};
use crate::id::{EndpointIndex, IfIndex, MacAddr, NetworkIndex};
use crate::layout;

/// What `from_container` and `to_container` need to know of the endpoint behind a host veth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EndpointValue {
    /// Slot of its counters.
    pub index: EndpointIndex,
    /// Its network.
    pub network: NetworkIndex,
    /// `CHECK_MAC`, `CHECK_ADDRESS`.
    pub flags: u32,
    /// Its IPv4 address, or all zero. Further addresses stand in `addresses_v4`.
    pub v4: Ipv4,
    /// Its IPv6 address, or all zero. Further addresses stand in `addresses_v6`.
    pub v6: Ipv6,
    /// Its MAC.
    pub mac: MacAddr,
    /// MAC of the network's gateway device.
    pub gateway_mac: MacAddr,
}

/// `EndpointValue::flags`: a source MAC other than the endpoint's is spoofed.
pub const CHECK_MAC: u32 = 1;
/// `EndpointValue::flags`: a source address other than the endpoint's is spoofed.
pub const CHECK_ADDRESS: u32 = 2;

/// Key of `addresses_v4` and `addresses_v6`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct AddressKey<A> {
    /// The network in which the address is asked for.
    pub network: NetworkIndex,
    /// The address.
    pub addr: A,
}

/// Who holds an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct AddressValue {
    /// The endpoint, or `EndpointIndex::NONE` for the gateway.
    pub endpoint: EndpointIndex,
    /// Its host veth, or the gateway device.
    pub ifindex: IfIndex,
    /// Its MAC.
    pub mac: MacAddr,
    /// `ADDRESS_*`.
    pub flags: u16,
}

/// `AddressValue::flags`: the network's gateway address.
pub const ADDRESS_IS_GATEWAY: u16 = 1;
/// `AddressValue::flags`: the endpoint's sandbox has the address in another network, whose packets
/// may leave by this endpoint.
pub const ADDRESS_IS_ELSEWHERE: u16 = 2;

/// Key of `stations`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct StationKey {
    /// The switch.
    pub network: NetworkIndex,
    /// The destination MAC.
    pub mac: MacAddr,
    /// Always zero.
    pub pad: u16,
}

/// Where a station is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct StationValue {
    /// The endpoint.
    pub endpoint: EndpointIndex,
    /// Its host veth.
    pub ifindex: IfIndex,
}

/// Key of `members`: slots run from 0 to the network's `member_count` without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct MemberKey {
    /// The switch.
    pub network: NetworkIndex,
    /// The slot.
    pub slot: u32,
}

layout!(
    EndpointValue, 44;
    AddressKey<Ipv4>, 8;
    AddressKey<Ipv6>, 20;
    AddressValue, 16;
    StationKey, 12;
    StationValue, 8;
    MemberKey, 8;
);
