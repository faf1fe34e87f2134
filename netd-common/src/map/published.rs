//! Published ports, and what the socket hooks remember of a translation.

use crate::addr::{Ipv4, Ipv6};
use crate::id::{Be16, EndpointIndex, IfIndex, MacAddr, NetworkIndex};
use crate::layout;

/// Key of `published_v4` and `published_v6`.
///
/// An entry under a container's own address and port (target: that same address and port) says
/// that the port is published at all: it is what gateway mode `routed` and `icc=false` let through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct PublishedKey<A> {
    /// The host address asked for, or all zero for every address of the host.
    pub addr: A,
    /// The host port.
    pub port: Be16,
    /// IP protocol: 6, 17 or 132.
    pub proto: u8,
    /// Always zero.
    pub pad: u8,
}

/// The backend, inline: no second look-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PublishedValue<A> {
    /// The container's address.
    pub target: A,
    /// The container's network.
    pub network: NetworkIndex,
    /// The container's endpoint.
    pub endpoint: EndpointIndex,
    /// Its host veth.
    pub ifindex: IfIndex,
    /// Slot of `published_hits`.
    pub slot: u32,
    /// Its MAC.
    pub mac: MacAddr,
    /// The container's port.
    pub port: Be16,
}

/// Key of `socket_peers`: a socket and the address it really talks to. TCP keys leave the address
/// and port zero, since such a socket has one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct SocketPeerKey {
    /// `bpf_get_socket_cookie`.
    pub cookie: u64,
    /// Backend address, IPv4 as v4-mapped.
    pub addr: Ipv6,
    /// Backend port.
    pub port: Be16,
    /// IP protocol number.
    pub proto: u16,
    /// Always zero.
    pub pad: u32,
}

/// What the application asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SocketPeer {
    /// Address asked for, IPv4 as v4-mapped.
    pub addr: Ipv6,
    /// Port asked for.
    pub port: Be16,
    /// Always zero.
    pub pad: u16,
}

layout!(
    PublishedKey<Ipv4>, 8;
    PublishedKey<Ipv6>, 20;
    PublishedValue<Ipv4>, 28;
    PublishedValue<Ipv6>, 40;
    SocketPeerKey, 32;
    SocketPeer, 20;
);
