//! What happens to a host: packets in words, and the frames that they are.
//!
//! Law: a frame is made from scratch, checksums included, so that comparing bytes with one that the
//! packet path rewrote proves every difference it folded.

use std::vec::Vec;

use arbitrary::{Arbitrary, Result, Unstructured};
use netd_common::wire::{TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, UDP};
use netd_common::{FORWARD_MARK, Hook, IfIndex, MacAddr};

use super::Frame;
use super::build::Ends;
use super::places::{Globe, Place};
use super::world::{
    Change, FIRST_SEAT, LAST_SEAT, NETWORKS, World, gateway, gateway_mac, uplink, uplink_mac,
};

mod packets;

use packets::{from_container, from_host, from_netdev, leaving};

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
        }
    }
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
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

/// GRE.
const OTHER: u8 = 47;

impl Payload {
    /// Protocol number, with one for both families' echo.
    pub const fn proto(self) -> u8 {
        match self {
            Self::Tcp(_) => TCP,
            Self::Udp | Self::UnsummedUdp => UDP,
            Self::Echo | Self::EchoReply => 1,
            Self::Other => OTHER,
        }
    }

    /// Another of its kind in its place, if that is one.
    pub fn varied(self, other: Option<Self>) -> Option<Self> {
        other.filter(|it| it.proto() == self.proto() && it.proto() != 1)
    }

    /// What answers it.
    const fn answer(self) -> Self {
        match self {
            Self::Tcp(TCP_SYN) => Self::Tcp(TCP_SYN | TCP_ACK),
            Self::Tcp(_) => Self::Tcp(TCP_ACK),
            Self::Echo => Self::EchoReply,
            Self::Udp | Self::UnsummedUdp | Self::EchoReply | Self::Other => self,
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
}

impl Packet {
    /// The frame.
    pub fn frame<F: Globe>(&self, world: &World) -> Frame {
        let ends = Ends::<F> {
            macs: (self.macs.0.addr(world), self.macs.1.addr(world)),
            src: F::addr(self.src),
            dst: F::addr(self.dst),
            ifindex: self.device.ifindex(world),
        };
        let mut frame = match self.payload {
            Payload::Tcp(flags) => ends.tcp(self.sport, self.dport, flags),
            Payload::Udp | Payload::UnsummedUdp => ends.udp(self.sport, self.dport),
            Payload::Echo => ends.echo(F::ECHO_REQUEST, self.sport),
            Payload::EchoReply => ends.echo(F::ECHO_REPLY, self.sport),
            Payload::Other => ends.raw(OTHER, b"anything", None),
        };
        self.finish::<F>(&mut frame);
        frame
    }

    fn finish<F: Globe>(&self, frame: &mut Frame) {
        let l4 = 14 + F::HEADER_LEN;
        if self.payload == Payload::UnsummedUdp {
            frame.bytes[l4 + 6..l4 + 8].fill(0);
        } else if self.payload == Payload::Udp && frame.bytes[l4 + 6..l4 + 8] == [0, 0] {
            // Zero says "none", so its other form stands for it, RFC 768.
            frame.bytes[l4 + 6..l4 + 8].fill(0xff);
        }
        set_ttl::<F>(&mut frame.bytes, self.ttl);
        frame.vlan = self.vlan;
        frame.forwarded = self.forwarded;
        frame.for_another = self.for_another;
        frame.mark = if self.marked { FORWARD_MARK } else { 0 };
    }

    /// Whether it may open a connection.
    pub const fn opens(&self) -> bool {
        match self.payload {
            Payload::Tcp(flags) => flags & (TCP_SYN | TCP_ACK) == TCP_SYN,
            Payload::EchoReply => false,
            Payload::Udp | Payload::UnsummedUdp | Payload::Echo | Payload::Other => true,
        }
    }

    /// The answer of who gets it at a device.
    pub fn answer(&self, device: Device, payload: Option<Payload>) -> Option<Self> {
        let (hook, macs) = match (device, self.src) {
            (Device::Gateway(_), _) => return None,
            (Device::Uplink(number), _) => (Hook::FromNetdev, (Mac::Uplink(number), Mac::Router)),
            (Device::Veth(network, seat), Place::Member(to, neighbor)) if to == network => {
                (Hook::FromContainer, (Mac::Member(to, neighbor), Mac::Member(network, seat)))
            }
            (Device::Veth(network, seat), _) => {
                (Hook::FromContainer, (Mac::Gateway(network), Mac::Member(network, seat)))
            }
        };
        Some(Self {
            hook,
            device,
            macs,
            src: self.dst,
            dst: self.src,
            payload: self.payload.varied(payload).unwrap_or(self.payload.answer()),
            sport: self.dport,
            dport: self.sport,
            ttl: 64,
            vlan: false,
            forwarded: false,
            for_another: false,
            marked: false,
        })
    }
}

/// Sets a whole frame's time to live, and its header checksum anew.
fn set_ttl<F: Globe>(bytes: &mut [u8], ttl: u8) {
    if F::VERSION == 6 {
        bytes[21] = ttl;
        return;
    }
    bytes[22] = ttl;
    bytes[24..26].fill(0);
    let words = bytes[14..34].chunks(2).map(|it| u32::from(u16::from_be_bytes([it[0], it[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let [.., high, low] = (!folded).to_be_bytes();
    bytes[24..26].copy_from_slice(&[high, low]);
}

impl Arbitrary<'_> for Packet {
    fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        let network = u.int_in_range(1..=NETWORKS)?;
        let seat = u.int_in_range(FIRST_SEAT..=LAST_SEAT)?;
        let at = (network, seat);
        let mut packet = match u.int_in_range(0..=11u8)? {
            0..=5 => from_container(at, u)?,
            6..=8 => from_netdev(u)?,
            9 => from_host(at, u)?,
            10 => Self { hook: Hook::ToContainer, ..from_container(at, u)? },
            _ => leaving(at, u)?,
        };
        if matches!(packet.payload, Payload::Echo | Payload::EchoReply) {
            // One id in both directions at once is more than the flow table tells apart.
            let is_outside = packet.hook == Hook::FromNetdev;
            packet.sport += if is_outside { 10_000 } else { 0 };
            packet.dport = packet.sport;
        }
        if packet.payload == Payload::Other {
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
    /// Seconds pass.
    Wait(u16),
    /// An operator acts.
    Change(Change),
}

impl Arbitrary<'_> for Event {
    fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match u.int_in_range(0..=15u8)? {
            0..=6 => Self::Send(u.arbitrary()?),
            7..=10 => Self::Answer(u.int_in_range(0..=3)?, u.arbitrary()?),
            11 | 12 => Self::Again(u.int_in_range(0..=3)?, u.arbitrary()?),
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
