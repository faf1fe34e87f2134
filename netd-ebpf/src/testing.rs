//! Packets and tables without a kernel: for unit and property tests, the fuzzer and the bench.
//!
//! Law: checksums and tables behave as the kernel's do. Every map operation is counted, an array
//! slot is not: it is a load.

use std::vec::Vec;

use bytemuck::Pod;
use netd_common::map::counter::FlowStat;
use netd_common::map::endpoint::EndpointValue;
use netd_common::map::fragment::{HELD_LEN, HELD_MAX, HeldKey};
use netd_common::wire::{ETHERTYPE_IPV4, Ethernet};
use netd_common::{Hook, IfIndex, V4, V6, csum};

use crate::complain;
use crate::fragment::Piece;
use crate::packet::{ChecksumField, Cover, Io, PacketBuf, Refused};
use crate::pipeline::{self, Works};
use crate::tables::{FamilyTables, Stack, Tables};
use crate::verdict::{Decision, Ledger, Stage, Verdict, Version};
use crate::work::Work;

pub mod build;
#[cfg(any(test, feature = "fuzzing"))]
pub mod laws;
#[cfg(any(test, feature = "fuzzing"))]
pub mod model;
#[cfg(any(test, feature = "fuzzing"))]
pub mod ordeal;
#[cfg(any(test, feature = "fuzzing"))]
pub mod places;
#[cfg(any(test, feature = "fuzzing"))]
pub mod reach;
#[cfg(any(test, feature = "fuzzing"))]
pub mod story;
pub mod tables;
#[cfg(any(test, feature = "fuzzing"))]
pub mod truth;
#[cfg(any(test, feature = "fuzzing"))]
pub mod world;
#[cfg(any(test, feature = "fuzzing"))]
pub mod written;

pub use tables::{FakeFamily, FakeTables};

/// A frame with what the kernel knows of it beside its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Where it is seen.
    pub ifindex: IfIndex,
    /// Its destination MAC is another's.
    pub for_another: bool,
    /// The stack forwards it.
    pub forwarded: bool,
    /// It is several packets in one.
    pub super_packet: bool,
    /// It carries a VLAN tag outside its bytes.
    pub vlan: bool,
    /// `skb->mark`.
    pub mark: u32,
    /// The longest frame that every link takes, where there is a bound.
    pub link_takes: Option<u32>,
}

impl Frame {
    fn field(&mut self, offset: u32) -> Result<&mut [u8], Refused> {
        self.bytes.get_mut(offset as usize..offset as usize + 2).ok_or(Refused)
    }
}

impl PacketBuf for Frame {
    fn frame_len(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    fn ifindex(&self) -> IfIndex {
        self.ifindex
    }

    fn is_for_host(&self) -> bool {
        !self.for_another
    }

    fn is_forwarded(&self) -> bool {
        self.forwarded
    }

    fn is_super_packet(&self) -> bool {
        self.super_packet
    }

    fn has_vlan_tag(&self) -> bool {
        self.vlan
    }

    fn mark(&self) -> u32 {
        self.mark
    }

    fn set_mark(&mut self, mark: u32) {
        self.mark = mark;
    }

    fn load<T: Pod>(&self, offset: u32) -> Option<T> {
        let bytes = self.bytes.get(offset as usize..)?;
        bytes.get(..size_of::<T>()).map(bytemuck::pod_read_unaligned)
    }

    fn copy_out(&self, into: &mut [u8; HELD_LEN]) -> Option<u32> {
        into.get_mut(..self.bytes.len())?.copy_from_slice(&self.bytes);
        Some(self.frame_len())
    }

    fn store<T: Pod>(&mut self, offset: u32, value: &T) -> Result<(), Refused> {
        let bytes = self.bytes.get_mut(offset as usize..).ok_or(Refused)?;
        let place = bytes.get_mut(..size_of::<T>()).ok_or(Refused)?;
        place.copy_from_slice(bytemuck::bytes_of(value));
        Ok(())
    }

    fn push_ethernet(&mut self, header: &Ethernet) -> Result<(), Refused> {
        self.bytes.splice(0..0, bytemuck::bytes_of(header).iter().copied());
        Ok(())
    }

    fn resize(&mut self, len: u32) -> Result<(), Refused> {
        self.bytes.resize(len as usize, 0);
        Ok(())
    }

    fn fits(&self, _ifindex: IfIndex) -> bool {
        self.frame_len() <= self.link_takes.unwrap_or(u32::MAX)
    }

    fn fold_header_checksum(&mut self, offset: u32, difference: u32) -> Result<(), Refused> {
        let field = self.field(offset)?;
        let sum = csum::adjusted(u16::from_ne_bytes([field[0], field[1]]), difference);
        field.copy_from_slice(&sum.to_ne_bytes());
        Ok(())
    }

    fn fold_checksum(
        &mut self,
        field: ChecksumField,
        _cover: Cover,
        difference: u32,
    ) -> Result<(), Refused> {
        let bytes = self.field(field.offset)?;
        let before = u16::from_ne_bytes([bytes[0], bytes[1]]);
        if field.zero_is_none && before == 0 {
            return Ok(());
        }
        let mut sum = csum::adjusted(before, difference);
        if field.zero_is_none && sum == 0 {
            sum = 0xffff;
        }
        bytes.copy_from_slice(&sum.to_ne_bytes());
        Ok(())
    }
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The verdict.
    pub decision: Decision,
    /// The packet as it goes on.
    pub frame: Frame,
    /// Whom it is counted against.
    pub ledger: Ledger,
    /// Where an uplink sends it.
    pub next_hop: [u32; 4],
    /// Map operations that it cost.
    pub operations: u32,
    /// Entries that it wrote or removed.
    pub updates: u32,
    /// The ICMP error that went back for a dropped packet.
    pub complaint: Option<Frame>,
    /// Frames that come to the same hook again.
    pub again: Vec<Frame>,
}

/// Runs a hook's program with all its stages, as the kernel's edge does.
pub fn pass(tables: &mut FakeTables, hook: Hook, frame: Frame) -> Outcome {
    let before = tables.operations.get();
    let written = tables.updates;
    let mut works = Works::default();
    let mut io = Io::new(frame, core::mem::take(tables));
    let mut verdict = match hook {
        Hook::FromContainer => pipeline::from_container(&mut io, &mut works),
        Hook::ToContainer => pipeline::to_container(&mut io, &mut works),
        Hook::FromHost => pipeline::from_host(&mut io, &mut works),
        Hook::FromNetdev => pipeline::from_netdev(&mut io, &mut works),
        Hook::ToNetdev => pipeline::to_netdev(&mut io, &mut works),
        Hook::FromL3dev => pipeline::from_l3dev(&mut io, &mut works),
        Hook::ToL3dev => pipeline::to_l3dev(&mut io, &mut works),
    };
    while let Some(next) = stage(&mut io, &mut works, (verdict, hook)) {
        verdict = next;
    }
    let frame = io.buf.clone();
    let is_first = verdict.decision() == Decision::Again;
    let again = if is_first { again(&mut io, &works.piece) } else { Vec::new() };
    let complaint = complaint(&mut io, &mut works, verdict);
    *tables = io.tables;
    Outcome {
        decision: verdict.decision(),
        frame,
        complaint,
        again,
        ledger: io.ledger,
        next_hop: io.next_hop,
        operations: tables.operations.get() - before,
        updates: tables.updates - written,
    }
}

/// The first fragment, and those that were held for it.
fn again(io: &mut Io<Frame, FakeTables>, piece: &Piece) -> Vec<Frame> {
    let mut frames = std::vec![io.buf.clone()];
    for slot in 0..piece.waiting.min(HELD_MAX) {
        let key = HeldKey { datagram: piece.key, slot };
        if let Some(held) = io.tables.held.remove(&key) {
            if held.drop.reason != 0 {
                io.tables.count_flow(FlowStat::FragmentsReleased);
            }
            let bytes = held.bytes[..held.len as usize].to_vec();
            frames.push(Frame { bytes, ..io.buf.clone() });
        }
    }
    frames
}

fn complaint(io: &mut Io<Frame, FakeTables>, works: &mut Works, verdict: Verdict) -> Option<Frame> {
    let reason = complain::called_for(verdict)?;
    let ethernet = io.buf.load::<Ethernet>(0)?;
    let told = match ethernet.ethertype {
        ETHERTYPE_IPV4 => {
            pipeline::complain::<V4, _, _>(io, &mut works.v4, reason)
                && pipeline::tell::<V4, _, _>(io, &works.v4)
        }
        _ => {
            pipeline::complain::<V6, _, _>(io, &mut works.v6, reason)
                && pipeline::tell::<V6, _, _>(io, &works.v6)
        }
    };
    told.then(|| io.buf.clone())
}

fn stage(
    io: &mut Io<Frame, FakeTables>,
    works: &mut Works,
    (verdict, hook): (Verdict, Hook),
) -> Option<Verdict> {
    let Decision::Later(stage, version) = verdict.decision() else {
        return None;
    };
    if stage == Stage::Frame {
        return Some(pipeline::frame(io, works));
    }
    if stage == Stage::Claim {
        return Some(pipeline::claim(io, &works.piece));
    }
    let Works { v4, v6, frame, endpoint, piece, .. } = works;
    let next = match version {
        Version::V4 => later::<V4>(io, stage, (v4, piece), (frame, endpoint)),
        Version::V6 => later::<V6>(io, stage, (v6, piece), (frame, endpoint)),
    };
    Some(if stage == Stage::Guess { pipeline::hold(io, piece, (next, hook as u16)) } else { next })
}

fn later<F: Stack>(
    io: &mut Io<Frame, FakeTables>,
    stage: Stage,
    (work, piece): (&mut Work<F::Addr>, &mut Piece),
    (frame, endpoint): (&Ethernet, &EndpointValue),
) -> Verdict
where
    FakeTables: FamilyTables<F>,
{
    match stage {
        Stage::Frame | Stage::Claim => unreachable!("of no family"),
        Stage::Sort => pipeline::sort::<F, _, _>(io, work, frame, endpoint),
        Stage::Gather => pipeline::gather::<F, _, _>(io, work, piece),
        Stage::Explain => pipeline::explain::<F, _, _>(io, work),
        Stage::CatchUp => pipeline::catch_up::<F, _, _>(io, work),
        Stage::Review | Stage::Begin | Stage::Guess => pipeline::judge::<F, _, _>(io, work),
        Stage::Renew => pipeline::renew::<F, _, _>(io, work),
        Stage::Advance => pipeline::advance::<F, _, _>(io, work),
        Stage::Open => pipeline::open::<F, _, _>(io, work),
        Stage::Carry => pipeline::carry::<F, _, _>(io, work),
    }
}
