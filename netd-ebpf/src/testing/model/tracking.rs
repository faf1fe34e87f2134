//! What a flow is to a packet: how long it lives, which way the packet goes in it, what its answers
//! say.

use netd_common::wire::{TCP, TCP_RST, TCP_SYN, UDP};

use super::super::places::Place;
use super::super::story::{Device, Packet, Payload};
use super::super::world::{HOST_SOCKET, World};
use super::Flow;
use super::table::{ECHO, Start, Target, Tuple, Way};

pub(super) fn lifetime_s(flow: &Flow) -> u32 {
    match flow.orig.proto {
        TCP if flow.reset => 10,
        TCP if flow.finished == [true; 2] => 31,
        TCP if flow.answered => 7_440,
        TCP => 30,
        UDP if flow.went_on => 180,
        UDP => 32,
        ECHO => 11,
        _ => 600,
    }
}

/// One of both was heard.
pub(super) fn hear(flow: &mut Flow, is_reply: bool, now_s: u32) {
    let heard_s = &mut flow.heard_s[usize::from(is_reply)];
    flow.went_on |= flow.answered && *heard_s != now_s;
    flow.answered |= is_reply;
    *heard_s = now_s;
}

/// Whether a packet is of a flow, and then whether it is an answer. An echo says which it is.
pub(super) fn direction(flow: &Flow, packet: &Packet, tuple: &Tuple) -> Option<bool> {
    let is_request = packet.payload == Payload::Echo;
    let is_answer = packet.payload == Payload::EchoReply;
    if flow.orig == *tuple && !is_answer {
        Some(false)
    } else if flow.reply == *tuple && !is_request {
        Some(true)
    } else {
        None
    }
}

/// What a packet of no flow means to one. While a lost table is made good, TCP in mid-stream is taken
/// for what it was.
pub(super) fn start(world: &World, packet: &Packet, now_s: u32) -> Start {
    match packet.payload {
        _ if packet.opens() => Start::Opens,
        Payload::Tcp(flags) if flags & (TCP_SYN | TCP_RST) == 0 && now_s < world.loose_until_s => {
            Start::Resumes
        }
        Payload::Tcp(_)
        | Payload::Udp
        | Payload::UnsummedUdp
        | Payload::Echo
        | Payload::EchoReply
        | Payload::Other
        | Payload::Error(..)
        | Payload::Word(_) => Start::No,
    }
}

/// A connection that is over may be opened once more by its originator.
pub(super) fn is_opened_anew(flow: &Flow, packet: &Packet, is_reply: bool) -> bool {
    let is_over = flow.finished == [true; 2] || flow.reset;
    let is_syn = matches!(packet.payload, Payload::Tcp(_)) && packet.opens();
    is_over && !is_reply && is_syn && !packet.is_headless()
}

/// What the answers to a flow say, if it leaves with this source port.
pub(super) const fn replies(orig: &Tuple, way: &Way, port: u16) -> Tuple {
    let scope = match way.target {
        Target::Seat(network, _) => network,
        Target::Uplink(_) => 0,
    };
    let sport = if orig.proto == ECHO { port } else { way.dport };
    Tuple { scope, src: way.dst, dst: way.src, sport, dport: port, proto: orig.proto }
}

/// Whether answers would be taken neither for a published port's nor for a host socket's.
pub(super) fn is_left_alone(world: &World, reply: &Tuple) -> bool {
    !reply.has_ports()
        || world.published(reply.dst, reply.dport, reply.proto).is_none()
            && (reply.dport, reply.proto) != (HOST_SOCKET, TCP)
}

/// Where a packet counts: on an uplink (0), or in a network, which may be another one that its sender
/// speaks in the name of.
pub(in crate::testing) fn scope_of(world: &World, packet: &Packet) -> u8 {
    match packet.device {
        Device::Veth(network, seat) => match world.elsewhere((network, seat)) {
            Some((other, seat)) if packet.src == Place::Member(other, seat) => other,
            Some(_) | None => network,
        },
        Device::Gateway(network) => network,
        Device::Uplink(_) => 0,
    }
}

pub(super) const fn tuple(packet: &Packet, scope: u8) -> Tuple {
    let Packet { src, dst, sport, dport, .. } = *packet;
    Tuple { scope, src, dst, sport, dport, proto: packet.payload.proto() }
}
