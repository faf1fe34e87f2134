//! What a datagram's first fragment leaves behind for the later ones.

use crate::addr::{Ipv4, Ipv6};
use crate::id::{Be16, NetworkIndex};
use crate::layout;

/// A datagram in fragments, as its hook sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FragmentKey<A> {
    /// Where it is seen: a network, or the host's scope for uplinks.
    pub network: NetworkIndex,
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Identification, as it stands in the header.
    pub id: u32,
    /// IP protocol number.
    pub proto: u8,
    /// Always zero.
    pub pad: [u8; 3],
}

/// What later fragments lack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FragmentValue {
    /// Source port, or an echo's id.
    pub sport: Be16,
    /// Destination port, or an echo's id.
    pub dport: Be16,
    /// `FRAGMENT_OPENS` or nothing.
    pub flags: u32,
}

/// `FragmentValue::flags`: the datagram may open a connection.
pub const FRAGMENT_OPENS: u32 = 1;

layout!(
    FragmentKey<Ipv4>, 20;
    FragmentKey<Ipv6>, 44;
    FragmentValue, 8;
);
