//! Frames that nobody sends in good faith, and what must hold whatever arrives.
//!
//! Law: what is here knows the packet path's promises and not how it keeps them.

use std::vec;
use std::vec::Vec;

use arbitrary::{Arbitrary, Result, Unstructured};
use netd_common::wire::Arp;
use netd_common::{Be16, Hook, MacAddr, V4, V6};

use super::build::{Ends, arp};
use super::laws;
use super::places::{Globe, Place};
use super::story::{Packet, bare, seconds};
use super::world::{Change, TUNNEL, World, uplink};
use super::written::{empty_tables, write};
use super::{FakeTables, Frame, Outcome, pass};
use crate::verdict::Decision;

/// What makes a frame out of the ordinary.
#[derive(Arbitrary, Clone, Debug)]
pub enum Twist {
    /// Nothing.
    Plain,
    /// Bytes at places are others.
    Noise(Vec<(u8, u8)>),
    /// It ends before its time.
    Cut(u8),
    /// It goes on after its end.
    Padded(u8),
    /// It is a fragment: id, offset in units of 8 bytes, and whether more follow.
    Fragment(u8, u8, bool),
    /// It is an ICMP error of this type and code about an earlier frame as it came out.
    Error(u8, u8, u8),
    /// It is an ARP message of this operation: a place says that it is there, or asks for one.
    Arp(u8, Place, Place),
    /// It is a message of neighbour discovery of this type about a place, with so many options.
    Neighbor(u8, Place, u8),
    /// Its IPv4 header has this many words of options.
    Options(u8),
    /// It is nothing but these bytes.
    Raw(Vec<u8>),
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Trial {
    /// A frame comes.
    Frame(Packet, Twist),
    /// An earlier one, as it came out, comes back from where it went.
    Return(u8, Twist),
    /// An earlier one comes again.
    Again(u8),
    /// Seconds pass.
    Wait(u16),
    /// An operator acts.
    Change(Change),
}

impl<'a> Arbitrary<'a> for Trial {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.int_in_range(0..=15u8)? {
            0..=6 => Self::Frame(u.arbitrary()?, u.arbitrary()?),
            7..=10 => Self::Return(u.arbitrary()?, u.arbitrary()?),
            11 | 12 => Self::Again(u.arbitrary()?),
            13 | 14 => Self::Wait(seconds(u)?),
            _ => Self::Change(u.arbitrary()?),
        })
    }
}

/// A host and all that is done to it.
#[derive(Clone, Debug)]
pub struct Ordeal {
    /// IPv6 rather than IPv4.
    pub v6: bool,
    /// The host.
    pub world: World,
    /// What is done.
    pub trials: Vec<Trial>,
}

impl<'a> Arbitrary<'a> for Ordeal {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let (v6, world) = (u.arbitrary()?, u.arbitrary()?);
        let mut trials = Vec::new();
        while !u.is_empty() && trials.len() < 40 {
            trials.push(u.arbitrary()?);
        }
        Ok(Self { v6, world, trials })
    }
}

/// Puts a host to it.
///
/// # Panics
/// If a promise is broken.
pub fn endure(ordeal: &Ordeal) {
    if ordeal.v6 {
        Host::<V6>::new(ordeal.world.clone()).endure(&ordeal.trials);
    } else {
        Host::<V4>::new(ordeal.world.clone()).endure(&ordeal.trials);
    }
}

/// A frame that came and what became of it.
struct Past {
    hook: Hook,
    sent: Frame,
    outcome: Outcome,
}

struct Host<F: Globe> {
    world: World,
    tables: FakeTables,
    past: Vec<Past>,
    family: core::marker::PhantomData<F>,
}

impl<F: Globe> Host<F> {
    fn new(world: World) -> Self {
        let mut tables = empty_tables();
        write::<F>(&world, &mut tables);
        Self { world, tables, past: Vec::new(), family: core::marker::PhantomData }
    }

    fn endure(&mut self, trials: &[Trial]) {
        for trial in trials {
            match trial {
                Trial::Frame(packet, twist) => {
                    let packet = packet.said(F::VERSION == 6);
                    let frame = packet.dressed::<F>(&self.world);
                    let mut frame = self.twisted(&packet, frame, twist);
                    if packet.bare {
                        bare(&mut frame);
                    }
                    self.pass(packet.hook, frame);
                }
                Trial::Return(which, twist) => self.send_back(*which, twist),
                Trial::Again(which) => {
                    if let Some(past) = self.past(*which) {
                        let (hook, frame) = (past.hook, past.sent.clone());
                        self.pass(hook, frame);
                    }
                }
                Trial::Wait(seconds) => self.tables.now_s += u32::from(*seconds),
                Trial::Change(change) => {
                    self.world.change(*change);
                    write::<F>(&self.world, &mut self.tables);
                    self.tables.config.generation += 1;
                }
            }
        }
    }

    fn pass(&mut self, hook: Hook, sent: Frame) {
        let mut before = self.tables.clone();
        let outcome = pass(&mut self.tables, hook, sent.clone());
        laws::check::<F>(&mut before, &mut self.tables, (hook, &sent), &outcome);
        self.past.push(Past { hook, sent, outcome });
    }

    fn past(&self, which: u8) -> Option<&Past> {
        self.past.get(usize::from(which) % self.past.len().max(1))
    }

    fn send_back(&mut self, which: u8, twist: &Twist) {
        let Some(past) = self.past(which) else {
            return;
        };
        let (hook, ifindex) = match past.outcome.decision {
            Decision::Deliver(veth, _) | Decision::ToVeth(veth) => (Hook::FromContainer, veth),
            Decision::Uplink(to, _) if to == uplink(TUNNEL) => (Hook::FromL3dev, to),
            Decision::Uplink(to, _) => (Hook::FromNetdev, to),
            Decision::Untouched
            | Decision::Accept
            | Decision::Later(..)
            | Decision::Drop(_)
            | Decision::HostStack(_)
            | Decision::Answer
            | Decision::Replicate(_)
            | Decision::Held
            | Decision::Again => return,
        };
        let mut frame = turned::<F>(&past.outcome.frame);
        frame.ifindex = ifindex;
        if let Twist::Noise(noise) = twist {
            frame = noisy(frame, noise);
        } else if let Twist::Cut(len) = twist {
            frame = cut(frame, *len);
        }
        if hook == Hook::FromL3dev {
            bare(&mut frame);
        }
        self.pass(hook, frame);
    }

    fn twisted(&self, packet: &Packet, frame: Frame, twist: &Twist) -> Frame {
        match twist {
            Twist::Plain => frame,
            Twist::Noise(noise) => noisy(frame, noise),
            Twist::Cut(len) => cut(frame, *len),
            Twist::Padded(len) => padded(frame, *len),
            Twist::Fragment(id, units, more) => fragment::<F>(frame, *id, *units, *more),
            Twist::Error(of, kind, code) => self.error(packet, frame, (*of, *kind, *code)),
            Twist::Arp(operation, sender, target) => {
                let places = (sender.said(false), target.said(false));
                Frame { bytes: arp_message(&frame, *operation, places), ..frame }
            }
            Twist::Neighbor(kind, about, options) => {
                let about = about.said(true);
                let payload = neighbor_message(&frame, *kind, about, *options);
                self.ends(packet).raw(F::ICMP, &payload, Some(2))
            }
            Twist::Options(words) => with_options::<F>(frame, words % 11),
            Twist::Raw(bytes) => Frame { bytes: bytes.clone(), ..frame },
        }
    }

    fn ends(&self, packet: &Packet) -> Ends<F> {
        Ends {
            macs: (packet.macs.0.addr(&self.world), packet.macs.1.addr(&self.world)),
            src: F::addr(packet.src),
            dst: F::addr(packet.dst),
            ifindex: packet.device.ifindex(&self.world),
        }
    }

    fn error(&self, packet: &Packet, frame: Frame, (of, kind, code): (u8, u8, u8)) -> Frame {
        let Some(past) = self.past(of) else {
            return frame;
        };
        let quote = past.outcome.frame.bytes.get(14..).unwrap_or_default();
        let mut payload = vec![kind % 16, code, 0, 0, 0, 0, 0, 0];
        payload.extend(quote);
        self.ends(packet).raw(F::ICMP, &payload, Some(2))
    }
}

fn noisy(mut frame: Frame, noise: &[(u8, u8)]) -> Frame {
    let len = frame.bytes.len().max(1);
    for (at, value) in noise {
        if let Some(byte) = frame.bytes.get_mut(usize::from(*at) % len) {
            *byte = *value;
        }
    }
    frame
}

fn cut(mut frame: Frame, len: u8) -> Frame {
    let left = frame.bytes.len().saturating_sub(usize::from(len));
    frame.bytes.truncate(left);
    frame
}

fn padded(mut frame: Frame, len: u8) -> Frame {
    let longer = frame.bytes.len() + usize::from(len);
    frame.bytes.resize(longer, 0x5a);
    frame
}

/// The frame from its receiver back to its sender; sums don't care for the order.
fn turned<F: Globe>(frame: &Frame) -> Frame {
    let mut frame = Frame { mark: 0, ..frame.clone() };
    let bytes = &mut frame.bytes;
    let len = F::ADDRESS_LEN as usize;
    let addresses = 14 + if F::VERSION == 4 { 12 } else { 8 };
    for (at, len) in [(0, 6), (addresses, len), (14 + F::HEADER_LEN, 2)] {
        if let Some(pair) = bytes.get_mut(at..at + 2 * len) {
            pair.rotate_left(len);
        }
    }
    frame
}

fn fragment<F: Globe>(mut frame: Frame, id: u8, units: u8, more: bool) -> Frame {
    let bytes = &mut frame.bytes;
    if F::VERSION == 4 {
        bytes[18..20].copy_from_slice(&[0, id]);
        bytes[20..22].copy_from_slice(&[u8::from(more) << 5, units]);
        return frame;
    }
    let offset = (u16::from(units) << 3 | u16::from(more)).to_be_bytes();
    let header = [bytes[20], 0, offset[0], offset[1], 0, 0, 0, id];
    bytes[20] = 44;
    bytes[19] = bytes[19].wrapping_add(8);
    bytes.splice(54..54, header);
    frame
}

fn with_options<F: Globe>(mut frame: Frame, words: u8) -> Frame {
    if F::VERSION == 4 {
        let bytes = &mut frame.bytes;
        bytes[14] = 0x45 + words;
        bytes[17] = bytes[17].wrapping_add(words * 4);
        bytes.splice(34..34, vec![1; usize::from(words) * 4]);
    }
    frame
}

fn mac_at(bytes: &[u8], at: usize) -> MacAddr {
    let mut mac = [0; 6];
    mac.copy_from_slice(&bytes[at..at + 6]);
    MacAddr(mac)
}

fn arp_message(frame: &Frame, operation: u8, (sender, target): (Place, Place)) -> Vec<u8> {
    let message = Arp {
        hardware: Be16::new(1),
        protocol: Be16::new(0x0800),
        hardware_len: 6,
        protocol_len: 4,
        operation: Be16::new(u16::from(operation % 4)),
        sender_mac: mac_at(&frame.bytes, 6),
        sender: Arp::halves(V4::addr(sender)),
        target_mac: mac_at(&frame.bytes, 0),
        target: Arp::halves(V4::addr(target)),
    };
    arp((message.target_mac, message.sender_mac), &message, frame.ifindex).bytes
}

fn neighbor_message(frame: &Frame, kind: u8, about: Place, options: u8) -> Vec<u8> {
    let mut payload = vec![133 + kind % 5, 0, 0, 0, 0, 0, 0, 0];
    payload.extend(V6::addr(about).octets());
    for _ in 0..options % 4 {
        payload.extend([1, 1]);
        payload.extend(mac_at(&frame.bytes, 6).0);
    }
    payload
}
