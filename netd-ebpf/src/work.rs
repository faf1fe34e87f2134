//! What the steps of one packet write down for one another.
//!
//! Law: it lives where the caller says, in the kernel in a per-CPU slot: the stack has 512 bytes
//! for the whole call chain, and the verifier forgets what it knows of values kept here, so that
//! the many ways to a step count as one.

use netd_common::map::flow::{FlowKey, FlowValue};
use netd_common::wire::{Icmp, Rewrite};

use crate::parse::Packet;
use crate::plan::Plan;
use crate::tables::FlowTable;
use crate::verdict::Verdict;

/// How far the flow table decides a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Known {
    /// It has no entry.
    #[default]
    No,
    /// Its entry says all.
    Settled,
    /// It has an entry that the packet changes or that must be looked at again.
    Unsettled,
    /// It has an entry whose decision is of an old generation.
    Stale,
}

/// The notes on one packet. All zero is a valid value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work<A> {
    /// The packet.
    pub packet: Packet<A>,
    /// Whether `entry` is its flow entry.
    pub known: Known,
    /// The table of `entry`.
    pub table: FlowTable,
    /// Its flow entry.
    pub entry: FlowValue<A>,
    /// The key of the other entry of the pair.
    pub twin: FlowKey<A>,
    /// The other entry of the pair.
    pub reply: FlowValue<A>,
    /// What the packet's headers become.
    pub rewrite: Rewrite<A>,
    /// What a decision is asked for: the packet's key, or its flow's original one.
    pub question: FlowKey<A>,
    /// What the replies of a flow that is decided anew say so far.
    pub answer: FlowKey<A>,
    /// The plan of a new flow, or of an old one that is decided anew.
    pub plan: Plan<A>,
    /// How many source ports are tried after the first.
    pub probes: u32,
    /// What the sum over a quoted IP header changes by. Here, because LLVM puts a sum off and
    /// keeps its words on the stack.
    pub inner_change: u64,
    /// What the sum over the header before a quote changes by.
    pub outer_change: u64,
    /// What a dropped packet's sender is told.
    pub error: Icmp,
    /// What becomes of an ICMP error or a fragment that belongs to no flow of ours.
    pub otherwise: Option<Verdict>,
}

/// Makes the compiler read its notes anew instead of remembering by which way it came here: the
/// verifier would follow each way to the end. Costs nothing at run time.
#[inline(always)]
pub fn forget_ways() {
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
}
