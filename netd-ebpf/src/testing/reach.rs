//! What a story came by: the cells of the truth table, in the words of `docs/packet-path.md`.
//!
//! Law: it only names what was met; nothing is decided here.

use netd_common::{DropReason, Hook};

use super::model::scope_of;
use super::places::Place;
use super::story::{Device, Packet, Payload, Word};
use super::world::{AntiSpoof, World};
use crate::verdict::Decision;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// A container of a bridge network.
    Container,
    /// One of an internal network.
    Internal,
    /// A container at its way out, in the name of its address in another network.
    Elsewhere,
    /// A process of the host, or what the host forwards.
    Host,
    /// A stranger.
    Outside,
}

/// Whom to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// A container of the sender's network; any container for strangers.
    OwnNetwork,
    /// A container of another network.
    OtherNetwork,
    /// The sender's own gateway; any gateway for strangers.
    OwnGateway,
    /// Another address of the host.
    HostAddress,
    /// A published port of an address of the host.
    PublishedPort,
    /// A stranger.
    Outside,
    /// A group, or a frame for all.
    Group,
    /// Nobody that could be there.
    Nobody,
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A packet of a connection, or one that may open it.
    Flow(Row, Column),
    /// A fragment.
    Fragment(Row),
    /// An ICMP error.
    Error,
    /// A question for a neighbour.
    Asks(Speaker),
    /// "This address is at this MAC."
    Claims(Speaker),
    /// A router's word.
    Router(Speaker),
    /// Another word.
    Word,
}

/// Who says something of neighbours and routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speaker {
    /// A container whose addresses are checked.
    OfItsAddress,
    /// A container whose MAC is checked.
    OfItsMac,
    /// A container that is not checked.
    Anybody,
    /// The host.
    Host,
    /// A stranger.
    Outside,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Left to the kernel.
    Untouched,
    /// Let in.
    Accept,
    /// Into a container.
    Deliver,
    /// Out of a host veth.
    ToVeth,
    /// Into the host's stack.
    HostStack,
    /// Out of an uplink.
    Uplink,
    /// Back to who asked.
    Answer,
    /// To all.
    Replicate,
    /// To where it waits for its first fragment.
    Held,
    /// To its hook once more, with those that waited for it.
    Again,
    /// Nowhere.
    Drop(DropReason),
}

/// A packet that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Met {
    /// IPv6 rather than IPv4.
    pub v6: bool,
    /// Where.
    pub hook: Hook,
    /// What it was.
    pub subject: Subject,
    /// What became of it.
    pub end: End,
}

/// Names a packet and what became of it.
pub fn met(world: &World, v6: bool, packet: &Packet, decision: Decision) -> Met {
    let subject = match packet.payload {
        _ if packet.piece.is_some() => Subject::Fragment(row(world, packet)),
        Payload::Error(..) => Subject::Error,
        Payload::Word(Word::Asks(..)) => Subject::Asks(speaker(world, packet)),
        Payload::Word(Word::Claims(..)) => Subject::Claims(speaker(world, packet)),
        Payload::Word(Word::Advertises | Word::Redirects) => {
            Subject::Router(speaker(world, packet))
        }
        Payload::Word(Word::Seeks | Word::Other) => Subject::Word,
        Payload::Tcp(_)
        | Payload::Udp
        | Payload::UnsummedUdp
        | Payload::Echo
        | Payload::EchoReply
        | Payload::Other => Subject::Flow(row(world, packet), column(world, packet)),
    };
    Met { v6, hook: packet.hook, subject, end: end(decision) }
}

fn speaker(world: &World, packet: &Packet) -> Speaker {
    match packet.device {
        Device::Veth(network, _) => match world.network(network).anti_spoof {
            AntiSpoof::Address => Speaker::OfItsAddress,
            AntiSpoof::Mac => Speaker::OfItsMac,
            AntiSpoof::Off => Speaker::Anybody,
        },
        Device::Gateway(_) => Speaker::Host,
        Device::Uplink(_) => Speaker::Outside,
    }
}

fn row(world: &World, packet: &Packet) -> Row {
    match packet.device {
        Device::Veth(network, _) if scope_of(world, packet) != network => Row::Elsewhere,
        Device::Veth(network, _) if world.network(network).internal => Row::Internal,
        Device::Veth(..) => Row::Container,
        Device::Gateway(_) => Row::Host,
        Device::Uplink(_) => match packet.hook {
            Hook::ToNetdev | Hook::ToL3dev => Row::Host,
            Hook::FromContainer
            | Hook::ToContainer
            | Hook::FromHost
            | Hook::FromNetdev
            | Hook::FromL3dev => Row::Outside,
        },
    }
}

fn column(world: &World, packet: &Packet) -> Column {
    let own = match packet.device {
        Device::Veth(network, _) | Device::Gateway(network) => Some(network),
        Device::Uplink(_) => None,
    };
    let is_own = |network| own.is_none_or(|own| own == network);
    let is_published =
        || world.published(packet.dst, packet.dport, packet.payload.proto()).is_some();
    match packet.dst {
        _ if packet.macs.0.is_group() => Column::Group,
        Place::Member(network, _) | Place::LinkLocal(network, ..) if is_own(network) => {
            Column::OwnNetwork
        }
        Place::Member(..) | Place::LinkLocal(..) => Column::OtherNetwork,
        Place::Host(_) | Place::Gateway(_) if is_published() => Column::PublishedPort,
        Place::Gateway(network) if is_own(network) => Column::OwnGateway,
        Place::Host(_) | Place::Gateway(_) => Column::HostAddress,
        Place::Outside(_) | Place::Router(_) | Place::Hairpin => Column::Outside,
        Place::Group | Place::AllNodes => Column::Group,
        Place::Loopback | Place::Nobody => Column::Nobody,
    }
}

fn end(decision: Decision) -> End {
    match decision {
        Decision::Untouched => End::Untouched,
        Decision::Accept => End::Accept,
        Decision::Deliver(..) => End::Deliver,
        Decision::ToVeth(_) => End::ToVeth,
        Decision::HostStack(_) => End::HostStack,
        Decision::Uplink(..) => End::Uplink,
        Decision::Answer => End::Answer,
        Decision::Replicate(_) => End::Replicate,
        Decision::Held => End::Held,
        Decision::Again => End::Again,
        Decision::Drop(reason) => End::Drop(reason),
        Decision::Later(stage, _) => unreachable!("{stage:?} is not the last word"),
    }
}
