//! The packet generator: an XDP program that writes a whole 64-byte UDP frame and passes it on, run
//! on live frames.
//!
//! Law: every frame is written anew by the program, as the kernel recycles pages and a recycled one
//! still holds what translation made of it. Flows vary by one port and the low half of one address, each
//! balanced by its complement in the identification and the payload, so that both checksums are right
//! for every flow and none is computed.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::bpf::{self, Instruction, Kind};
use crate::cpu::{self, RealTime};
use crate::namespace::Namespace;

/// Length of a frame without its check sequence, as the kernel counts it; 64 on a wire with it would
/// be 60, but every rig gets the same.
pub(crate) const FRAME_LEN: usize = 64;

const IDENTIFICATION: i16 = 18;
const SOURCE_LOW: i16 = 28;
const DESTINATION_LOW: i16 = 32;
const SOURCE_PORT: i16 = 34;
const DESTINATION_PORT: i16 = 36;
const PAYLOAD: i16 = 42;

/// Ports of varied flows: this many from the first one up.
const VARIED_PORTS_MASK: i32 = 0x7fff;
const FIRST_VARIED_PORT: i32 = 1024;

/// A MAC address.
pub(crate) type Mac = [u8; 6];

/// The frame that is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// Where it comes from.
    pub(crate) source: SocketAddrV4,
    /// Where it goes.
    pub(crate) destination: SocketAddrV4,
    /// Source MAC.
    pub(crate) source_mac: Mac,
    /// Destination MAC.
    pub(crate) destination_mac: Mac,
}

/// Whether frames belong to one flow or each to a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flows {
    /// The frame as it is.
    One,
    /// Each from another port and address of the source's /16.
    From,
    /// Each from another port to another address of the destination's /16.
    Out,
    /// Each to another port and address of the destination's /16: the answers to `From`.
    Back,
}

impl Flows {
    /// Where the varied port and the varied half of an address lie in the frame.
    const fn places(self) -> Option<(i16, i16)> {
        match self {
            Self::One => None,
            Self::From => Some((SOURCE_PORT, SOURCE_LOW)),
            Self::Out => Some((SOURCE_PORT, DESTINATION_LOW)),
            Self::Back => Some((DESTINATION_PORT, DESTINATION_LOW)),
        }
    }
}

/// Where the generator's frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// To the link, as if they had arrived on it.
    Arrive,
    /// Nowhere: dropped by XDP, before they are packets of the stack.
    DropByXdp,
}

/// The generator on a link.
pub(crate) struct Generator {
    program: OwnedFd,
    namespace: Namespace,
    ifindex: u32,
    _counter: OwnedFd,
    frame: Frame,
    receive_queue: Arc<OwnedFd>,
}

impl Generator {
    /// Puts it on a link of a namespace.
    pub(crate) fn new(
        namespace: &Namespace,
        ifindex: u32,
        frame: Frame,
        flows: Flows,
    ) -> Result<Self> {
        // A veth has receive queues that live frames can name only while a program is attached.
        let passing = bpf::load(Kind::Xdp, &verdict(XDP_PASS))?;
        let receive_queue = namespace.run(|| bpf::attach(Kind::Xdp, &passing, ifindex))?;
        let counter = bpf::counter()?;
        let kind = (flows, Fate::Arrive);
        let instructions = program(&frame.bytes(flows), kind, counter.as_raw_fd());
        Ok(Self {
            program: bpf::load(Kind::Xdp, &instructions)?,
            namespace: namespace.clone(),
            ifindex,
            _counter: counter,
            frame,
            receive_queue: Arc::new(receive_queue),
        })
    }

    /// The same frames of one flow on the same link, dropped as any XDP program there would.
    pub(crate) fn dropping(&self) -> Result<Self> {
        let counter = bpf::counter()?;
        let kind = (Flows::One, Fate::DropByXdp);
        let instructions = program(&self.frame.bytes(Flows::One), kind, counter.as_raw_fd());
        Ok(Self {
            program: bpf::load(Kind::Xdp, &instructions)?,
            namespace: self.namespace.clone(),
            ifindex: self.ifindex,
            _counter: counter,
            frame: self.frame,
            receive_queue: Arc::clone(&self.receive_queue),
        })
    }

    /// Sends frames in one burst on a CPU and says how many nanoseconds each took.
    pub(crate) fn send(&self, cpu: usize, count: u32) -> Result<u32> {
        self.namespace.run(|| {
            cpu::pin(cpu)?;
            let _burst = RealTime::enter()?;
            bpf::inject(&self.program, self.ifindex, &[0; FRAME_LEN], count)
        })
    }
}

/// Drops everything that arrives on a link while it is held: the least that a packet can cost.
pub(crate) struct IngressDrop(#[allow(dead_code, reason = "closing it detaches")] OwnedFd);

impl IngressDrop {
    /// Attaches it.
    pub(crate) fn new(namespace: &Namespace, ifindex: u32) -> Result<Self> {
        let program = bpf::load(Kind::Tcx, &verdict(TC_ACT_SHOT))?;
        namespace.run(|| bpf::attach(Kind::Tcx, &program, ifindex)).map(Self)
    }
}

/// Index of a link in a namespace.
pub(crate) fn ifindex(namespace: &Namespace, link: &str) -> Result<u32> {
    namespace.run(|| nix::net::if_::if_nametoindex(link).with_context(|| format!("link {link}")))
}

/// MAC of a link in a namespace.
pub(crate) fn mac(namespace: &Namespace, link: &str) -> Result<Mac> {
    let wanted = namespace.run(|| {
        nix::ifaddrs::getifaddrs()
            .context("links")?
            .filter(|entry| entry.interface_name == link)
            .find_map(|entry| entry.address?.as_link_addr()?.addr())
            .with_context(|| format!("no MAC of {link}"))
    })?;
    Ok(wanted)
}

/// A frame from one stranger to another.
pub(crate) fn sample() -> [u8; FRAME_LEN] {
    let stranger = |host| SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, host), 4_000);
    let (source, destination) = (stranger(1), stranger(2));
    let frame = Frame { source, destination, source_mac: [2; 6], destination_mac: [4; 6] };
    frame.bytes(Flows::One)
}

impl Frame {
    fn bytes(&self, flows: Flows) -> [u8; FRAME_LEN] {
        let mut frame = [0; FRAME_LEN];
        frame[..6].copy_from_slice(&self.destination_mac);
        frame[6..12].copy_from_slice(&self.source_mac);
        frame[12..14].copy_from_slice(&[0x08, 0]);
        let first = self.first(flows);
        let (header, rest) = frame[14..].split_at_mut(20);
        header.copy_from_slice(&first.ip_header(flows));
        rest.copy_from_slice(&first.datagram(flows));
        frame
    }

    /// The frame with zeroes where flows vary.
    fn first(&self, flows: Flows) -> Self {
        let low = |end: SocketAddrV4| {
            let [a, b, ..] = end.ip().octets();
            SocketAddrV4::new(Ipv4Addr::new(a, b, 0, 0), end.port())
        };
        let any_port = |end: SocketAddrV4| SocketAddrV4::new(*end.ip(), 0);
        let (source, destination) = (self.source, self.destination);
        match flows {
            Flows::One => *self,
            Flows::From => Self { source: any_port(low(source)), ..*self },
            Flows::Out => Self { source: any_port(source), destination: low(destination), ..*self },
            Flows::Back => Self { destination: any_port(low(destination)), ..*self },
        }
    }

    fn ip_header(&self, flows: Flows) -> [u8; 20] {
        let mut header = [0; 20];
        header[0] = 0x45;
        header[3] = 50;
        if flows != Flows::One {
            header[4..6].copy_from_slice(&[0xff, 0xff]);
        }
        header[8] = 64;
        header[9] = 17;
        header[12..16].copy_from_slice(&self.source.ip().octets());
        header[16..20].copy_from_slice(&self.destination.ip().octets());
        let checksum = checksum(&[&header]);
        header[10..12].copy_from_slice(&checksum);
        header
    }

    fn datagram(&self, flows: Flows) -> [u8; 30] {
        let mut datagram = [0; 30];
        datagram[..2].copy_from_slice(&self.source.port().to_be_bytes());
        datagram[2..4].copy_from_slice(&self.destination.port().to_be_bytes());
        datagram[5] = 30;
        if flows != Flows::One {
            datagram[8..12].fill(0xff);
        }
        let pseudo = [self.source.ip().octets(), self.destination.ip().octets(), [0, 17, 0, 30]];
        let checksum = checksum(&[pseudo.as_flattened(), &datagram]);
        datagram[6..8].copy_from_slice(&checksum);
        datagram
    }
}

/// The Internet checksum over parts of even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks_exact(2));
    let sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let bytes = (!folded).to_be_bytes();
    [bytes[2], bytes[3]]
}

const XDP_ABORTED: i32 = 0;
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
const TC_ACT_SHOT: i32 = 2;

const LOAD_WORD: u8 = 0x61;
const LOAD_DOUBLE: u8 = 0x79;
const LOAD_IMMEDIATE: u8 = 0x18;
const STORE_WORD_IMMEDIATE: u8 = 0x62;
const STORE_HALF: u8 = 0x6b;
const STORE_DOUBLE: u8 = 0x7b;
const MOVE: u8 = 0xbf;
const MOVE_IMMEDIATE: u8 = 0xb7;
const ADD_IMMEDIATE: u8 = 0x07;
const AND_IMMEDIATE: u8 = 0x57;
const XOR_IMMEDIATE: u8 = 0xa7;
const SHIFT_RIGHT_IMMEDIATE: u8 = 0x77;
const TO_BIG_ENDIAN: u8 = 0xdc;
const JUMP_LESS_OR_EQUAL: u8 = 0xbd;
const EXIT: u8 = 0x95;
const MAP_VALUE: u8 = 2;

fn verdict(code: i32) -> [Instruction; 2] {
    [Instruction::new(MOVE_IMMEDIATE, (0, 0), 0, code), Instruction::new(EXIT, (0, 0), 0, 0)]
}

fn program(
    frame: &[u8; FRAME_LEN],
    (flows, fate): (Flows, Fate),
    counter: i32,
) -> Vec<Instruction> {
    let mut program = vec![
        Instruction::new(LOAD_WORD, (2, 1), 0, 0),
        Instruction::new(LOAD_WORD, (3, 1), 4, 0),
        Instruction::new(MOVE, (4, 2), 0, 0),
        Instruction::new(ADD_IMMEDIATE, (4, 0), 0, 64),
        Instruction::new(JUMP_LESS_OR_EQUAL, (4, 3), 2, 0),
    ];
    program.extend(verdict(XDP_ABORTED));
    for (offset, word) in (0..).step_by(4).zip(frame.chunks_exact(4)) {
        let word = i32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        program.push(Instruction::new(STORE_WORD_IMMEDIATE, (2, 0), offset, word));
    }
    if let Some(places) = flows.places() {
        program.extend(next_flow(places, counter));
    }
    program.extend(verdict(match fate {
        Fate::Arrive => XDP_PASS,
        Fate::DropByXdp => XDP_DROP,
    }));
    program
}

/// Takes the next number and writes it into the frame: low bits as the port, the rest as the address.
fn next_flow((port, address_low): (i16, i16), counter: i32) -> Vec<Instruction> {
    let take = [
        Instruction::new(LOAD_IMMEDIATE, (1, MAP_VALUE), 0, counter),
        Instruction::new(0, (0, 0), 0, 0),
        Instruction::new(LOAD_DOUBLE, (4, 1), 0, 0),
        Instruction::new(MOVE, (5, 4), 0, 0),
        Instruction::new(ADD_IMMEDIATE, (5, 0), 0, 1),
        Instruction::new(STORE_DOUBLE, (1, 5), 0, 0),
        Instruction::new(MOVE, (5, 4), 0, 0),
        Instruction::new(AND_IMMEDIATE, (5, 0), 0, VARIED_PORTS_MASK),
        Instruction::new(ADD_IMMEDIATE, (5, 0), 0, FIRST_VARIED_PORT),
    ];
    let address = [
        Instruction::new(SHIFT_RIGHT_IMMEDIATE, (4, 0), 0, 15),
        Instruction::new(AND_IMMEDIATE, (4, 0), 0, 0xffff),
        Instruction::new(MOVE, (5, 4), 0, 0),
    ];
    let mut steps = take.to_vec();
    steps.extend(write_balanced(port, &[PAYLOAD]));
    steps.extend(address);
    steps.extend(write_balanced(address_low, &[IDENTIFICATION, PAYLOAD + 2]));
    steps
}

/// Writes register 5 in network order at one place and its complement at others.
fn write_balanced(place: i16, complements: &[i16]) -> Vec<Instruction> {
    let mut steps = vec![
        Instruction::new(TO_BIG_ENDIAN, (5, 0), 0, 16),
        Instruction::new(STORE_HALF, (2, 5), place, 0),
        Instruction::new(XOR_IMMEDIATE, (5, 0), 0, 0xffff),
    ];
    steps.extend(complements.iter().map(|at| Instruction::new(STORE_HALF, (2, 5), *at, 0)));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame = Frame {
        source: SocketAddrV4::new(Ipv4Addr::new(10, 98, 0, 1), 4000),
        destination: SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 2), 30_000),
        source_mac: [2; 6],
        destination_mac: [4; 6],
    };

    fn is_valid(frame: &[u8; FRAME_LEN]) -> bool {
        let pseudo = [&frame[26..34], &[0, 17, 0, 30]].concat();
        checksum(&[&frame[14..34]]) == [0, 0] && checksum(&[&pseudo, &frame[34..]]) == [0, 0]
    }

    #[test]
    fn a_single_flow_has_right_checksums() {
        assert!(is_valid(&FRAME.bytes(Flows::One)));
    }

    #[test]
    fn every_varied_flow_has_right_checksums_without_computing_them() {
        let varied = [(Flows::From, 34, 28), (Flows::Out, 34, 32), (Flows::Back, 36, 32)];
        for (flows, at, address) in varied {
            for (port, low) in [(0_u16, 0_u16), (1024, 7), (0xffff, 0xfffe)] {
                let mut frame = FRAME.bytes(flows);
                frame[at..at + 2].copy_from_slice(&port.to_be_bytes());
                frame[42..44].copy_from_slice(&(!port).to_be_bytes());
                frame[address..address + 2].copy_from_slice(&low.to_be_bytes());
                frame[18..20].copy_from_slice(&(!low).to_be_bytes());
                frame[44..46].copy_from_slice(&(!low).to_be_bytes());
                assert!(is_valid(&frame), "{flows:?}, port {port}, address {low}");
            }
        }
    }

    #[test]
    fn only_a_program_for_many_flows_takes_numbers_from_the_counter() {
        const COUNTER: i32 = 3;
        let taking = Instruction::new(LOAD_IMMEDIATE, (1, MAP_VALUE), 0, COUNTER);
        let takes =
            |flows| program(&FRAME.bytes(flows), (flows, Fate::Arrive), COUNTER).contains(&taking);
        assert!(takes(Flows::From) && takes(Flows::Out) && takes(Flows::Back));
        assert!(!takes(Flows::One));
    }
}
