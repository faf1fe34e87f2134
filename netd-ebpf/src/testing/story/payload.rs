//! What packets carry, in words.

use arbitrary::{Arbitrary, Result, Unstructured};
use netd_common::wire::{TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, UDP};

use super::super::places::Place;
use super::Mac;

/// What is said about neighbours and routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// "Who has this address? I am at this MAC."
    Asks(Place, Mac),
    /// "This address is at this MAC."
    Claims(Place, Mac),
    /// "I am a router."
    Advertises,
    /// "Another router is nearer."
    Redirects,
    /// "Is there a router?"
    Seeks,
    /// Something else that is neither an echo nor an error.
    Other,
}

impl Word {
    /// Whether it is about a neighbour: ARP in IPv4.
    pub const fn is_of_neighbors(self) -> bool {
        matches!(self, Self::Asks(..) | Self::Claims(..))
    }
}

/// What an ICMP error repeats of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Who sent it.
    pub src: Place,
    /// To whom.
    pub dst: Place,
    /// TCP, UDP, 1 for an echo of either family, or another.
    pub proto: u8,
    /// Source port, or an echo's id.
    pub sport: u16,
    /// Destination port; an echo's id once more.
    pub dport: u16,
}

/// An ICMP error.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody is there.
    Unreachable,
    /// It does not fit.
    TooBig,
    /// It was too long on its way.
    Expired,
    /// Its headers are wrong.
    Malformed,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// About a packet, to who sent it.
    Error(Fault, Quote),
    /// About neighbours and routers.
    Word(Word),
    /// A segment with these flags.
    Tcp(u8),
    /// A datagram.
    Udp,
    /// A datagram without a checksum.
    UnsummedUdp,
    /// An echo request.
    Echo,
    /// An echo reply.
    EchoReply,
    /// Something without ports.
    Other,
}

/// ICMP's protocol number, for both families.
pub const ICMP: u8 = 1;
/// GRE.
pub(super) const OTHER: u8 = 47;

impl Payload {
    /// Protocol number, with one for both families' ICMP.
    pub const fn proto(self) -> u8 {
        match self {
            Self::Tcp(_) => TCP,
            Self::Udp | Self::UnsummedUdp => UDP,
            Self::Error(..) | Self::Word(_) | Self::Echo | Self::EchoReply => ICMP,
            Self::Other => OTHER,
        }
    }

    /// Whether it belongs to a connection, or may open one.
    pub const fn is_of_a_flow(self) -> bool {
        !matches!(self, Self::Error(..) | Self::Word(_))
    }

    /// Another of its kind in its place, if that is one.
    pub fn varied(self, other: Option<Self>) -> Option<Self> {
        other.filter(|it| it.proto() == self.proto() && it.proto() != ICMP)
    }

    /// What answers it.
    pub(super) const fn answer(self) -> Self {
        match self {
            Self::Tcp(TCP_SYN) => Self::Tcp(TCP_SYN | TCP_ACK),
            Self::Tcp(_) => Self::Tcp(TCP_ACK),
            Self::Echo => Self::EchoReply,
            Self::Udp
            | Self::UnsummedUdp
            | Self::EchoReply
            | Self::Other
            | Self::Error(..)
            | Self::Word(_) => self,
        }
    }
}

impl Arbitrary<'_> for Payload {
    fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        const FLAGS: [u8; 6] =
            [TCP_SYN, TCP_ACK, TCP_SYN | TCP_ACK, TCP_FIN | TCP_ACK, TCP_RST, TCP_RST | TCP_ACK];
        Ok(match u.int_in_range(0..=9u8)? {
            0..=2 => Self::Udp,
            3 => Self::Tcp(TCP_SYN),
            4 | 5 => Self::Tcp(*u.choose(&FLAGS)?),
            6 => Self::Echo,
            7 => Self::EchoReply,
            8 => Self::UnsummedUdp,
            _ => Self::Other,
        })
    }
}

/// An ICMP error about a packet that was sent.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Complaint {
    /// What it says.
    pub fault: Fault,
    /// Who says it, if not the packet's receiver.
    pub by: Option<Place>,
    /// How far it still goes.
    pub hops: u8,
}
