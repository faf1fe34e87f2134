//! What happens to a host: packets in words, and the frames that they are.
//!
//! Law: a frame is made from scratch, checksums included, so that comparing bytes with one that the
//! packet path rewrote proves every difference it folded.

use std::vec::Vec;

use arbitrary::{Arbitrary, Result, Unstructured};
use netd_common::wire::{TCP_ACK, TCP_SYN};
use netd_common::{Hook, IfIndex, MacAddr};

use super::places::Place;
use super::world::{Change, TUNNEL, World, gateway, gateway_mac, uplink, uplink_mac};

mod frames;
mod packets;
mod payload;

pub(super) use frames::bare;
pub use packets::{CLIENTS, PIECES};
use packets::{from_container, from_host, from_netdev, leaving, pieces};
pub use payload::{Complaint, Fault, ICMP, Payload, Quote, Word};

/// Where a program sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// A container's host veth.
    Veth(u8, u8),
    /// A network's gateway device.
    Gateway(u8),
    /// An uplink.
    Uplink(u8),
}

impl Device {
    /// Its index.
    pub fn ifindex(self, world: &World) -> IfIndex {
        match self {
            Self::Veth(network, seat) => world.veth(network, seat),
            Self::Gateway(network) => gateway(network),
            Self::Uplink(number) => uplink(number),
        }
    }
}

/// Whose MAC it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mac {
    /// A container's, in its present life.
    Member(u8, u8),
    /// A gateway device's.
    Gateway(u8),
    /// The host's on an uplink.
    Uplink(u8),
    /// The router's behind an uplink.
    Router,
    /// Nobody's.
    Stranger,
    /// Everybody's.
    Broadcast,
    /// Everybody's, as IPv6 calls it.
    AllNodes,
    /// None: where links have no addresses.
    Nobody,
}

impl Mac {
    /// The address.
    pub fn addr(self, world: &World) -> MacAddr {
        match self {
            Self::Member(network, seat) => world.mac(network, seat),
            Self::Gateway(network) => gateway_mac(network),
            Self::Uplink(number) => uplink_mac(number),
            Self::Router => MacAddr([2, 0, 3, 0, 0, 1]),
            Self::Stranger => MacAddr([2, 9, 9, 9, 9, 9]),
            Self::Broadcast => MacAddr::BROADCAST,
            Self::AllNodes => MacAddr([0x33, 0x33, 0, 0, 0, 1]),
            Self::Nobody => MacAddr([0; 6]),
        }
    }

    /// Whether it is more than one's.
    pub const fn is_group(self) -> bool {
        matches!(self, Self::Broadcast | Self::AllNodes)
    }
}

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    #[default]
    None,
    /// It ends before its length says.
    Cut,
    /// It names routers of its way.
    SourceRouted,
    /// It is longer than any uplink takes.
    Oversized,
}

/// Which part of a datagram a packet is: in units of 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its datagram's identification.
    pub id: u8,
    /// Its first unit.
    pub first: u8,
    /// How many.
    pub units: u8,
    /// No other follows it.
    pub is_last: bool,
}

/// A packet at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The hook.
    pub hook: Hook,
    /// Where it is seen.
    pub device: Device,
    /// To and from which MAC.
    pub macs: (Mac, Mac),
    /// From whom.
    pub src: Place,
    /// To whom.
    pub dst: Place,
    /// What.
    pub payload: Payload,
    /// Source port, or an echo's id.
    pub sport: u16,
    /// Destination port; an echo's id once more.
    pub dport: u16,
    /// Time to live.
    pub ttl: u8,
    /// It carries a VLAN tag.
    pub vlan: bool,
    /// The host's stack forwards it.
    pub forwarded: bool,
    /// Its MAC is not the interface's.
    pub for_another: bool,
    /// It has been through the packet path.
    pub marked: bool,
    /// It has no Ethernet header.
    pub bare: bool,
    /// What is wrong with it.
    pub flaw: Flaw,
    /// It is a fragment.
    pub piece: Option<Piece>,
}

impl Packet {
    /// Whether it may open a connection.
    pub const fn opens(&self) -> bool {
        match self.payload {
            Payload::Tcp(flags) => flags & (TCP_SYN | TCP_ACK) == TCP_SYN,
            Payload::EchoReply | Payload::Error(..) | Payload::Word(_) => false,
            Payload::Udp | Payload::UnsummedUdp | Payload::Echo | Payload::Other => true,
        }
    }

    /// The answer of who gets it at a device.
    pub fn answer(&self, device: Device, payload: Option<Payload>) -> Option<Self> {
        let payload = self.payload.varied(payload).unwrap_or(self.payload.answer());
        let answer = self.back(device)?;
        Some(Self { payload, sport: self.dport, dport: self.sport, ..answer })
    }

    /// An error about it by who gets it at a device, or by a router before that.
    pub fn error(&self, device: Device, complaint: Complaint) -> Option<Self> {
        let Complaint { fault, by, hops } = complaint;
        let Self { src, dst, sport, dport, payload, .. } = *self;
        let quote = Quote { src, dst, sport, dport, proto: payload.proto() };
        let back = self.back(device)?;
        let payload = Payload::Error(fault, quote);
        let (src, ttl) = (by.unwrap_or(back.src), hops.max(1));
        Some(Self { payload, src, sport: 0, dport: 0, ttl, ..back })
    }

    /// A packet the other way.
    fn back(&self, device: Device) -> Option<Self> {
        let (hook, macs) = match (device, self.src) {
            (Device::Gateway(_), _) => return None,
            (Device::Uplink(TUNNEL), _) => (Hook::FromL3dev, (Mac::Nobody, Mac::Nobody)),
            (Device::Uplink(number), _) => (Hook::FromNetdev, (Mac::Uplink(number), Mac::Router)),
            (Device::Veth(network, seat), Place::Member(to, neighbor)) if to == network => {
                (Hook::FromContainer, (Mac::Member(to, neighbor), Mac::Member(network, seat)))
            }
            (Device::Veth(network, seat), _) => {
                (Hook::FromContainer, (Mac::Gateway(network), Mac::Member(network, seat)))
            }
        };
        let bare = hook == Hook::FromL3dev;
        let (src, dst) = (self.dst, self.src);
        Some(Self { hook, device, macs, src, dst, bare, ..Self::usual(self.payload) })
    }

    /// One with nothing out of the ordinary.
    fn usual(payload: Payload) -> Self {
        Self {
            hook: Hook::FromContainer,
            device: Device::Uplink(1),
            macs: (Mac::Nobody, Mac::Nobody),
            src: Place::Nobody,
            dst: Place::Nobody,
            payload,
            sport: 0,
            dport: 0,
            ttl: 64,
            vlan: false,
            forwarded: false,
            for_another: false,
            marked: false,
            bare: false,
            flaw: Flaw::None,
            piece: None,
        }
    }

    /// Whether it has no transport header, because it is a later fragment.
    pub fn is_headless(&self) -> bool {
        self.piece.is_some_and(|piece| piece.first != 0)
    }

    /// As a family can say it.
    #[must_use]
    pub fn said(mut self, v6: bool) -> Self {
        self.src = self.src.said(v6);
        self.dst = self.dst.said(v6);
        match &mut self.payload {
            Payload::Error(_, quote) => {
                quote.src = quote.src.said(v6);
                quote.dst = quote.dst.said(v6);
            }
            Payload::Word(Word::Asks(about, _) | Word::Claims(about, _)) => {
                *about = about.said(v6);
                // They are short, and ARP names no routers.
                let is_said = self.flaw == Flaw::Cut || v6 && self.flaw == Flaw::SourceRouted;
                self.flaw = if is_said { self.flaw } else { Flaw::None };
            }
            Payload::Word(_)
            | Payload::Tcp(_)
            | Payload::Udp
            | Payload::UnsummedUdp
            | Payload::Echo
            | Payload::EchoReply
            | Payload::Other => {}
        }
        self
    }
}

impl Arbitrary<'_> for Packet {
    fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        // Most is between the same few, so that they wear their ports out.
        let at = (*u.choose(&[1, 1, 1, 1, 2, 3])?, *u.choose(&[2, 2, 2, 3, 4])?);
        let mut packet = match u.int_in_range(0..=15u8)? {
            0..=7 => from_container(at, u)?,
            8..=11 => from_netdev(u)?,
            12 | 13 => from_host(at, u)?,
            14 => Self { hook: Hook::ToContainer, ..from_container(at, u)? },
            _ => leaving(at, u)?,
        };
        if matches!(packet.payload, Payload::Echo | Payload::EchoReply) {
            // One id in both directions at once is more than the flow table tells apart.
            let is_outside = matches!(packet.hook, Hook::FromNetdev | Hook::FromL3dev);
            packet.sport += if is_outside { 10_000 } else { 0 };
            packet.dport = packet.sport;
        }
        if packet.payload == Payload::Other || !packet.payload.is_of_a_flow() {
            (packet.sport, packet.dport) = (0, 0);
        }
        Ok(packet)
    }
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A packet comes.
    Send(Packet),
    /// The receiver of one so many deliveries ago answers it.
    Answer(u8, Option<Payload>),
    /// One so many deliveries ago comes again, with another payload of its kind.
    Again(u8, Option<Payload>),
    /// The receiver of one so many deliveries ago complains of it, or somebody on the way.
    Complain(u8, Complaint),
    /// The sender of one so many deliveries ago sends its like from many ports.
    Crowd(u8),
    /// A datagram comes in fragments: one as it might be sent, or the answer to one so many
    /// deliveries ago.
    Torn(core::result::Result<Packet, u8>, [Piece; PIECES]),
    /// Seconds pass.
    Wait(u16),
    /// An operator acts.
    Change(Change),
}

impl Arbitrary<'_> for Event {
    fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match u.int_in_range(0..=15u8)? {
            0..=4 => Self::Send(u.arbitrary()?),
            5 => {
                let is_answer = u.arbitrary()?;
                let what = if is_answer { Err(u.int_in_range(0..=3)?) } else { Ok(u.arbitrary()?) };
                Self::Torn(what, pieces(u)?)
            }
            6..=8 => Self::Answer(u.int_in_range(0..=3)?, u.arbitrary()?),
            9 | 10 => Self::Complain(u.int_in_range(0..=3)?, u.arbitrary()?),
            11 => Self::Crowd(u.int_in_range(0..=3)?),
            12 => Self::Again(u.int_in_range(0..=3)?, u.arbitrary()?),
            13 | 14 => Self::Wait(seconds(u)?),
            _ => Self::Change(u.arbitrary()?),
        })
    }
}

/// About as long as flows live, or a moment.
pub fn seconds(u: &mut Unstructured<'_>) -> Result<u16> {
    Ok(*u.choose(&[1, 9, 11, 12, 30, 31, 32, 33, 180, 181, 600, 7_440, 7_441])?)
}

/// A host and what happens to it, in one family.
#[derive(Clone, Debug)]
pub struct Story {
    /// IPv6 rather than IPv4.
    pub v6: bool,
    /// The host.
    pub world: World,
    /// What happens.
    pub events: Vec<Event>,
}

impl<'a> Arbitrary<'a> for Story {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let (v6, world) = (u.arbitrary()?, u.arbitrary()?);
        let mut events = Vec::new();
        while !u.is_empty() && events.len() < 60 {
            events.push(u.arbitrary()?);
        }
        Ok(Self { v6, world, events })
    }
}
