//! The frames that packets in words are.
//!
//! Law: each is made from scratch; what a quote covers beside addresses and ports is the same in
//! all quotes, because nobody may change it.

use std::vec;
use std::vec::Vec;

use netd_common::wire::{Arp, TCP, UDP};
use netd_common::{Be16, FORWARD_MARK, MacAddr, V4, V6, csum};

use super::super::Frame;
use super::super::build::{Ends, arp};
use super::super::places::{Globe, Place};
use super::super::world::World;
use super::payload::OTHER;
use super::{Fault, Flaw, ICMP, Mac, Packet, Payload, Piece, Quote, Word};

const ETHERNET: usize = 14;
/// What the transport has of a datagram that comes in fragments.
const DATAGRAM: u16 = 80;
/// What makes a packet longer than any uplink takes ...
const EXCESS: u16 = 1_300;
/// ... which is this.
const LINK_TAKES: u32 = 1_314;

/// Takes the Ethernet header off.
pub(in crate::testing) fn bare(frame: &mut Frame) {
    let len = frame.bytes.len().min(ETHERNET);
    frame.bytes.drain(..len);
}

impl Packet {
    /// The frame as its hook sees it.
    pub fn frame<F: Globe>(&self, world: &World) -> Frame {
        let mut frame = self.dressed::<F>(world);
        if self.bare {
            bare(&mut frame);
        }
        frame
    }

    /// The frame with an Ethernet header.
    pub fn dressed<F: Globe>(&self, world: &World) -> Frame {
        let mut frame = match self.payload {
            Payload::Word(says) if F::VERSION == 4 && says.is_of_neighbors() => {
                self.arp(world, says)
            }
            Payload::Word(_)
            | Payload::Error(..)
            | Payload::Tcp(_)
            | Payload::Udp
            | Payload::UnsummedUdp
            | Payload::Echo
            | Payload::EchoReply
            | Payload::Other => self.ip::<F>(world),
        };
        if self.flaw == Flaw::Cut {
            frame.bytes.truncate(frame.bytes.len() - 3);
        }
        frame.vlan = self.vlan;
        frame.forwarded = self.forwarded;
        frame.for_another = self.for_another;
        frame.mark = if self.marked { FORWARD_MARK } else { 0 };
        frame
    }

    fn ip<F: Globe>(&self, world: &World) -> Frame {
        let ends = Ends::<F> {
            macs: (self.macs.0.addr(world), self.macs.1.addr(world)),
            src: F::addr(self.src),
            dst: F::addr(self.dst),
            ifindex: self.device.ifindex(world),
        };
        let mut frame = match self.payload {
            Payload::Error(fault, quote) => ends.raw(F::ICMP, &error::<F>(fault, &quote), Some(2)),
            Payload::Word(says) => ends.raw(F::ICMP, &self.word::<F>(world, says), Some(2)),
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
        let l4 = ETHERNET + F::HEADER_LEN;
        if self.piece.is_some() {
            let len = u16::try_from(frame.bytes.len() - l4).unwrap_or_default();
            lengthen::<F>(frame, self.payload, DATAGRAM.saturating_sub(len));
        } else if self.flaw == Flaw::Oversized {
            lengthen::<F>(frame, self.payload, EXCESS);
            frame.link_takes = Some(LINK_TAKES);
        }
        if self.payload == Payload::UnsummedUdp {
            frame.bytes[l4 + 6..l4 + 8].fill(0);
        } else if self.payload == Payload::Udp && frame.bytes[l4 + 6..l4 + 8] == [0, 0] {
            // Zero says "none", so its other form stands for it, RFC 768.
            frame.bytes[l4 + 6..l4 + 8].fill(0xff);
        }
        if let Some(piece) = self.piece {
            tear::<F>(&mut frame.bytes, piece);
        }
        set_ttl::<F>(&mut frame.bytes, self.ttl);
        if self.flaw == Flaw::SourceRouted {
            name_routers::<F>(&mut frame.bytes);
        }
    }

    fn arp(&self, world: &World, says: Word) -> Frame {
        let macs = (self.macs.0.addr(world), self.macs.1.addr(world));
        let (operation, sender, own, target, to) = match says {
            Word::Asks(about, own) => (1, self.src, own, about, Mac::Nobody.addr(world)),
            Word::Claims(about, own) => (2, about, own, self.dst, macs.0),
            Word::Advertises | Word::Redirects | Word::Seeks | Word::Other => {
                unreachable!("ARP is about neighbours")
            }
        };
        let message = Arp {
            hardware: Be16::new(1),
            protocol: Be16::new(0x0800),
            hardware_len: 6,
            protocol_len: 4,
            operation: Be16::new(operation),
            sender_mac: own.addr(world),
            sender: Arp::halves(V4::addr(sender)),
            target_mac: to,
            target: Arp::halves(V4::addr(target)),
        };
        arp(macs, &message, self.device.ifindex(world))
    }

    /// ICMP about neighbours and routers. An advertisement says whether it was asked for and
    /// whether it is a router's; who has no address, and who is answered as such, names no MAC.
    fn word<F: Globe>(&self, world: &World, says: Word) -> Vec<u8> {
        let v6 = F::VERSION == 6;
        let kind = match says {
            Word::Asks(..) => 135,
            Word::Claims(..) => 136,
            Word::Advertises => {
                if v6 {
                    134
                } else {
                    9
                }
            }
            Word::Redirects => {
                if v6 {
                    137
                } else {
                    5
                }
            }
            Word::Seeks => {
                if v6 {
                    133
                } else {
                    10
                }
            }
            Word::Other => {
                if v6 {
                    143
                } else {
                    13
                }
            }
        };
        let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        match says {
            Word::Asks(about, own) => {
                message.extend(V6::addr(about).octets());
                message.extend(link_address(1, own.addr(world), self.src != Place::Nobody));
            }
            Word::Claims(about, own) => {
                let is_router = matches!(about, Place::Gateway(_));
                let is_answer = !self.dst.is_group();
                message[4] = 0x20 | u8::from(is_router) << 7 | u8::from(is_answer) << 6;
                message.extend(V6::addr(about).octets());
                message.extend(link_address(2, own.addr(world), is_answer));
            }
            Word::Advertises | Word::Redirects | Word::Seeks | Word::Other => {}
        }
        message
    }
}

fn link_address(kind: u8, mac: MacAddr, is_there: bool) -> Vec<u8> {
    if is_there { [&[kind, 1][..], &mac.0].concat() } else { Vec::new() }
}

fn error<F: Globe>(fault: Fault, quote: &Quote) -> Vec<u8> {
    let v6 = F::VERSION == 6;
    let (kind, code) = match fault {
        Fault::Unreachable => {
            if v6 {
                (1, 4)
            } else {
                (3, 3)
            }
        }
        Fault::TooBig => {
            if v6 {
                (2, 0)
            } else {
                (3, 4)
            }
        }
        Fault::Expired => {
            if v6 {
                (3, 0)
            } else {
                (11, 0)
            }
        }
        Fault::Malformed => {
            if v6 {
                (4, 0)
            } else {
                (12, 0)
            }
        }
    };
    let mut payload = vec![kind, code, 0, 0, 0, 0, 5, 0];
    let proto = if quote.proto == ICMP { F::ICMP } else { quote.proto };
    payload.extend(F::header(F::addr(quote.src), F::addr(quote.dst), proto, 8));
    let (sport, dport) = (quote.sport.to_be_bytes(), quote.dport.to_be_bytes());
    let rest = match quote.proto {
        TCP | UDP => [sport, dport, [0x12, 0x34], [0x56, 0x78]],
        ICMP => [[F::ECHO_REQUEST, 0], [0x12, 0x34], sport, [0, 1]],
        _ => [[1, 2], [3, 4], [5, 6], [7, 8]],
    };
    payload.extend(rest.concat());
    payload
}

/// More of zeros; the pseudo header sums the length.
fn lengthen<F: Globe>(frame: &mut Frame, payload: Payload, excess: u16) {
    let l4 = ETHERNET + F::HEADER_LEN;
    let bytes = &mut frame.bytes;
    bytes.resize(bytes.len() + usize::from(excess), 0);
    let at = if F::VERSION == 4 { 16 } else { 18 };
    let len = u16::from_be_bytes([bytes[at], bytes[at + 1]]) + excess;
    bytes[at..at + 2].copy_from_slice(&len.to_be_bytes());
    let offset = match payload.proto() {
        TCP => 16,
        UDP => 6,
        ICMP if F::ICMP_PSEUDO_HEADER => 2,
        _ => return,
    };
    let sum = u16::from_ne_bytes([bytes[l4 + offset], bytes[l4 + offset + 1]]);
    let sum = csum::adjusted(sum, u32::from(excess.to_be()));
    bytes[l4 + offset..l4 + offset + 2].copy_from_slice(&sum.to_ne_bytes());
}

/// Leaves of a datagram one fragment. The bytes of a later one are all the same: only the first
/// has a header, whatever overlaps it.
fn tear<F: Globe>(bytes: &mut Vec<u8>, piece: Piece) {
    let l4 = ETHERNET + F::HEADER_LEN;
    let (from, len) = (usize::from(piece.first) * 8, usize::from(piece.units) * 8);
    let share = if from == 0 { bytes[l4..l4 + len].to_vec() } else { vec![0xda; len] };
    bytes.truncate(l4);
    let total = u16::try_from(len).unwrap_or_default();
    if F::VERSION == 4 {
        bytes[16..18].copy_from_slice(&(total + 20).to_be_bytes());
        bytes[18..20].copy_from_slice(&[0, piece.id]);
        bytes[20..22].copy_from_slice(&[u8::from(!piece.is_last) << 5, piece.first]);
    } else {
        let [high, low] = (u16::from(piece.first) << 3 | u16::from(!piece.is_last)).to_be_bytes();
        bytes.extend([bytes[20], 0, high, low, 0, 0, 0, piece.id]);
        bytes[18..20].copy_from_slice(&(total + 8).to_be_bytes());
        bytes[20] = 44;
    }
    bytes.extend(share);
}

/// A loose source route of one router, RFC 791; a routing header with one left, RFC 8200.
fn name_routers<F: Globe>(bytes: &mut Vec<u8>) {
    if F::VERSION == 4 {
        bytes[14] = 0x47;
        bytes[17] = bytes[17].wrapping_add(8);
        bytes.splice(34..34, [131, 7, 4, 203, 0, 113, 1, 0]);
        return;
    }
    let header = [bytes[20], 0, 0, 1, 0, 0, 0, 0];
    bytes[20] = 43;
    bytes[19] = bytes[19].wrapping_add(8);
    bytes.splice(54..54, header);
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
