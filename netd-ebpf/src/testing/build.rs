//! Frames from their parts, and the parts of frames.

use std::vec::Vec;

use netd_common::wire::{
    Arp, ETHERNET_LEN, ETHERTYPE_ARP, Ethernet, IPV6_FRAGMENT, Icmp, IpHeader, Ipv4Header,
    Ipv6Header, Ports, TCP, TcpHead, UDP,
};
use netd_common::{Be16, IfIndex, Ipv4, Ipv6, MacAddr, V4, V6, csum};

use super::Frame;
use crate::tables::Stack;

/// What a family's header is made of.
pub trait Build: Stack {
    /// A header for a payload.
    fn header(src: Self::Addr, dst: Self::Addr, proto: u8, payload: usize) -> Vec<u8>;

    /// The sum over the pseudo header.
    fn pseudo_sum(src: Self::Addr, dst: Self::Addr, proto: u8, payload: usize) -> u64;
}

#[allow(clippy::cast_possible_truncation, reason = "test packets are short")]
impl Build for V4 {
    fn header(src: Ipv4, dst: Ipv4, proto: u8, payload: usize) -> Vec<u8> {
        let mut header = Ipv4Header {
            version_ihl: 0x45,
            total_len: Be16::new(20 + payload as u16),
            ttl: 64,
            proto,
            src,
            dst,
            ..Ipv4Header::default()
        };
        header.checksum = !csum::fold(sum_of(bytemuck::bytes_of(&header)));
        bytemuck::bytes_of(&header).to_vec()
    }

    fn pseudo_sum(src: Ipv4, dst: Ipv4, proto: u8, payload: usize) -> u64 {
        let tail = u32::from_be_bytes([0, proto, 0, 0]) + payload as u32;
        u64::from(src.0) + u64::from(dst.0) + u64::from(tail.to_be())
    }
}

#[allow(clippy::cast_possible_truncation, reason = "test packets are short")]
impl Build for V6 {
    fn header(src: Ipv6, dst: Ipv6, proto: u8, payload: usize) -> Vec<u8> {
        let header = Ipv6Header {
            version_flow: u32::from_ne_bytes([0x60, 0, 0, 0]),
            payload_len: Be16::new(payload as u16),
            proto,
            ttl: 64,
            src,
            dst,
        };
        bytemuck::bytes_of(&header).to_vec()
    }

    fn pseudo_sum(src: Ipv6, dst: Ipv6, proto: u8, payload: usize) -> u64 {
        let words = csum::sum(&src.0) + csum::sum(&dst.0);
        words + u64::from((payload as u32).to_be()) + u64::from(u32::from(proto).to_be())
    }
}

fn sum_of(bytes: &[u8]) -> u64 {
    let word = |chunk: &[u8]| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from(u32::from_ne_bytes(word))
    };
    bytes.chunks(4).map(word).sum()
}

/// Who sends to whom.
#[derive(Clone, Copy, Debug)]
pub struct Ends<F: Stack> {
    /// MACs, destination first.
    pub macs: (MacAddr, MacAddr),
    /// Source address.
    pub src: F::Addr,
    /// Destination address.
    pub dst: F::Addr,
    /// Where the frame is seen.
    pub ifindex: IfIndex,
}

impl<F: Build> Ends<F> {
    /// A frame of any protocol; `checksum` is where its checksum goes, if it has one.
    pub fn raw(&self, proto: u8, payload: &[u8], checksum: Option<usize>) -> Frame {
        let ethernet = Ethernet { dst: self.macs.0, src: self.macs.1, ethertype: F::ETHERTYPE };
        let mut bytes = bytemuck::bytes_of(&ethernet).to_vec();
        bytes.extend(F::header(self.src, self.dst, proto, payload.len()));
        let l4 = bytes.len();
        bytes.extend(payload);
        if let Some(offset) = checksum {
            let sum = !csum::fold(transport_sum::<F>(self.src, self.dst, proto, &bytes[l4..]));
            // RFC 768: zero says that there is none.
            let sum = if proto == UDP && sum == 0 { 0xffff } else { sum };
            bytes[l4 + offset..l4 + offset + 2].copy_from_slice(&sum.to_ne_bytes());
        }
        Frame { bytes, ifindex: self.ifindex, ..Frame::default() }
    }

    /// A TCP segment with some data.
    pub fn tcp(&self, sport: u16, dport: u16, flags: u8) -> Frame {
        let head =
            TcpHead { ports: ports(sport, dport), offset: 5 << 4, flags, ..TcpHead::default() };
        let mut payload = bytemuck::bytes_of(&head).to_vec();
        payload.extend([0; 4]);
        payload.extend(b"data!");
        self.raw(TCP, &payload, Some(16))
    }

    /// A UDP datagram.
    pub fn udp(&self, sport: u16, dport: u16) -> Frame {
        let mut payload = bytemuck::bytes_of(&ports(sport, dport)).to_vec();
        payload.extend(13u16.to_be_bytes());
        payload.extend([0, 0]);
        payload.extend(b"hello");
        self.raw(UDP, &payload, Some(6))
    }

    /// A fragment of the UDP datagram with identification 77: where it begins, whether others follow,
    /// and its share.
    pub fn fragment(&self, units: u16, more: bool, share: &[u8]) -> Frame {
        if F::VERSION == 6 {
            let mut payload = std::vec![UDP, 0];
            payload.extend((units << 3 | u16::from(more)).to_be_bytes());
            payload.extend([0, 0, 0, 77]);
            payload.extend(share);
            return self.raw(IPV6_FRAGMENT, &payload, None);
        }
        let mut frame = self.raw(UDP, share, None);
        frame.bytes[18..20].copy_from_slice(&[0, 77]);
        frame.bytes[20..22].copy_from_slice(&(units | u16::from(more) << 13).to_be_bytes());
        frame
    }

    /// An echo request or reply.
    pub fn echo(&self, kind: u8, id: u16) -> Frame {
        let head = Icmp { kind, id: Be16::new(id), ..Icmp::default() };
        self.raw(F::ICMP, bytemuck::bytes_of(&head), Some(2))
    }
}

const fn ports(sport: u16, dport: u16) -> Ports {
    Ports { sport: Be16::new(sport), dport: Be16::new(dport) }
}

fn transport_sum<F: Build>(src: F::Addr, dst: F::Addr, proto: u8, payload: &[u8]) -> u64 {
    let pseudo = if proto == F::ICMP && !F::ICMP_PSEUDO_HEADER {
        0
    } else {
        F::pseudo_sum(src, dst, proto, payload.len())
    };
    pseudo + sum_of(payload)
}

/// An ARP message.
pub fn arp(macs: (MacAddr, MacAddr), arp: &Arp, ifindex: IfIndex) -> Frame {
    let ethernet = Ethernet { dst: macs.0, src: macs.1, ethertype: ETHERTYPE_ARP };
    let mut bytes = bytemuck::bytes_of(&ethernet).to_vec();
    bytes.extend(bytemuck::bytes_of(arp));
    Frame { bytes, ifindex, ..Frame::default() }
}

/// What a test wants to know of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<A> {
    /// MACs, destination first.
    pub macs: (MacAddr, MacAddr),
    /// Source and destination address.
    pub addrs: (A, A),
    /// Source and destination port, or an echo's id twice.
    pub ports: (u16, u16),
    /// Time to live.
    pub ttl: u8,
}

/// Reads a frame back, and proves that its checksums hold.
///
/// # Panics
/// If they do not, or the frame is no whole packet of the family.
#[allow(clippy::expect_used, clippy::panic, reason = "a broken frame fails the test")]
pub fn see<F: Build>(frame: &Frame) -> Seen<F::Addr> {
    use crate::packet::PacketBuf;
    let ethernet: Ethernet = frame.load(0).expect("an Ethernet header");
    let header: F::Header = frame.load(ETHERNET_LEN).expect("an IP header");
    let fields = header.fields().expect("a true header");
    let l4 = (ETHERNET_LEN + fields.header_len) as usize;
    if F::VERSION == 4 {
        assert_eq!(csum::fold(sum_of(&frame.bytes[14..l4])), 0xffff, "header checksum");
    }
    let sum = transport_sum::<F>(fields.src, fields.dst, fields.proto, &frame.bytes[l4..]);
    if fields.proto == TCP || fields.proto == UDP || fields.proto == F::ICMP {
        assert_eq!(csum::fold(sum), 0xffff, "transport checksum");
    }
    let number = |at: usize| u16::from_be_bytes([frame.bytes[at], frame.bytes[at + 1]]);
    let ports = if fields.proto == F::ICMP {
        (number(l4 + 4), number(l4 + 4))
    } else {
        (number(l4), number(l4 + 2))
    };
    Seen {
        macs: (ethernet.dst, ethernet.src),
        addrs: (fields.src, fields.dst),
        ports,
        ttl: fields.ttl,
    }
}
