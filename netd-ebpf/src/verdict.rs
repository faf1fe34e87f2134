//! What a step decides.
//!
//! Law: a step continues with a value or decides the packet; it is no error channel. Turning a
//! verdict into a kernel action, and counting it, happens in one place only (`kernel`).

use core::num::NonZeroU64;
use core::ops::ControlFlow;

use netd_common::map::counter::{VerdictKind, VerdictTrace};
use netd_common::{DropReason, EndpointIndex, IfIndex, NetworkIndex};

/// An address family as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Who sends a frame to a whole network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A container: its neighbours and the host get copies.
    Container,
    /// The host: all members get copies.
    Host,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Not ours: the kernel goes on as if we were not there.
    Untouched,
    /// Ours, and it goes on the way it was going.
    Accept,
    /// Its flow entry needs care: for `pipeline::catch_up`.
    CatchUp(Version),
    /// It has no flow entry: for `pipeline::begin`.
    Begin(Version),
    /// It is an ICMP error: for `pipeline::explain`.
    Explain(Version),
    /// It is a fragment: for `pipeline::gather`.
    Gather(Version),
    /// Its plan needs a flow: for `pipeline::open`.
    Open(Version),
    /// Its flow entry says all: for `pipeline::carry`.
    Carry(Version),
    /// Dropped.
    Drop(DropReason),
    /// Straight into the container behind this host veth, and counted against its endpoint; only
    /// from ingress hooks.
    Deliver(IfIndex, EndpointIndex),
    /// Out of this host veth, through `to_container`, which counts it.
    ToVeth(IfIndex),
    /// Into the host's stack, as if received by this gateway device.
    HostStack(IfIndex),
    /// Out of this uplink, to the neighbour in `Io::next_hop`.
    Uplink(IfIndex, Version),
    /// Answered in place: back to where it came from.
    Answer,
    /// A copy to each member of the network.
    Replicate(Sender),
}

/// A decision in one word. The verifier refuses to move a register that was never written, and an
/// enum with fields has such parts: a word has none, not even beside "continue".
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Verdict(NonZeroU64);

impl Verdict {
    /// Bits 0..8 the kind, 8..16 reason, family or sender, 16..32 endpoint, 32..64 interface.
    #[inline(always)]
    const fn pack(kind: VerdictKind, detail: u8, endpoint: EndpointIndex, to: IfIndex) -> Self {
        let word = kind as u64 | (detail as u64) << 8;
        // An endpoint's index is a slot of `counters`: below 2^16.
        let word = word | ((endpoint.0 & 0xffff) as u64) << 16 | (to.0 as u64) << 32;
        match NonZeroU64::new(word) {
            Some(word) => Self(word),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// The decision in it.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "each part is cut out at its own width")]
    pub const fn decision(self) -> Decision {
        let word = self.0.get();
        let (kind, detail) = (word as u8 as u32, (word >> 8) as u8);
        let endpoint = EndpointIndex((word >> 16) as u16 as u32);
        let to = IfIndex((word >> 32) as u32);
        let version = if detail == 6 { Version::V6 } else { Version::V4 };
        match kind {
            k if k == VerdictKind::Accept as u32 => Decision::Accept,
            k if k == VerdictKind::CatchUp as u32 => Decision::CatchUp(version),
            k if k == VerdictKind::Begin as u32 => Decision::Begin(version),
            k if k == VerdictKind::Explain as u32 => Decision::Explain(version),
            k if k == VerdictKind::Gather as u32 => Decision::Gather(version),
            k if k == VerdictKind::Open as u32 => Decision::Open(version),
            k if k == VerdictKind::Carry as u32 => Decision::Carry(version),
            k if k == VerdictKind::Drop as u32 => Decision::Drop(reason(detail)),
            k if k == VerdictKind::Deliver as u32 => Decision::Deliver(to, endpoint),
            k if k == VerdictKind::ToVeth as u32 => Decision::ToVeth(to),
            k if k == VerdictKind::HostStack as u32 => Decision::HostStack(to),
            k if k == VerdictKind::Uplink as u32 => Decision::Uplink(to, version),
            k if k == VerdictKind::Answer as u32 => Decision::Answer,
            k if k == VerdictKind::Replicate as u32 => {
                Decision::Replicate(if detail == 0 { Sender::Container } else { Sender::Host })
            }
            _ => Decision::Untouched,
        }
    }

    /// What a stage returns: a function of the kernel's kind returns one register.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0.get()
    }

    /// What a stage returned. Zero is no verdict: nothing that is undecided goes on.
    #[inline(always)]
    pub fn from_word(word: u64) -> Self {
        NonZeroU64::new(word).map_or_else(|| Decision::Drop(DropReason::KernelRefused).into(), Self)
    }

    /// Whether no later stage is to follow.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "the kind is the lowest byte")]
    pub const fn is_last(self) -> bool {
        (self.0.get() as u8) < VerdictKind::CatchUp as u8
    }

    /// Why the packet was dropped, if it was.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "each part is cut out at its own width")]
    pub const fn drop_reason(self) -> Option<DropReason> {
        let word = self.0.get();
        if word as u8 == VerdictKind::Drop as u8 { Some(reason((word >> 8) as u8)) } else { None }
    }

    /// As tests read it back from the scratch map.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "each part is cut out at its own width")]
    pub const fn trace(self, network: NetworkIndex) -> VerdictTrace {
        let word = self.0.get();
        let kind = word as u8 as u32;
        VerdictTrace {
            kind,
            ifindex: IfIndex((word >> 32) as u32),
            reason: if kind == VerdictKind::Drop as u32 { (word >> 8) as u8 as u32 } else { 0 },
            network,
        }
    }
}

#[inline(always)]
const fn reason(number: u8) -> DropReason {
    match DropReason::from_number(number) {
        Some(reason) => reason,
        None => DropReason::InvalidState,
    }
}

impl core::fmt::Debug for Verdict {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.decision().fmt(f)
    }
}

impl From<Decision> for Verdict {
    #[inline(always)]
    fn from(decision: Decision) -> Self {
        const NOBODY: EndpointIndex = EndpointIndex::NONE;
        const NOWHERE: IfIndex = IfIndex(0);
        match decision {
            Decision::Untouched => Self::pack(VerdictKind::Untouched, 0, NOBODY, NOWHERE),
            Decision::Accept => Self::pack(VerdictKind::Accept, 0, NOBODY, NOWHERE),
            Decision::CatchUp(version) => {
                Self::pack(VerdictKind::CatchUp, number(version), NOBODY, NOWHERE)
            }
            Decision::Begin(version) => {
                Self::pack(VerdictKind::Begin, number(version), NOBODY, NOWHERE)
            }
            Decision::Explain(version) => {
                Self::pack(VerdictKind::Explain, number(version), NOBODY, NOWHERE)
            }
            Decision::Gather(version) => {
                Self::pack(VerdictKind::Gather, number(version), NOBODY, NOWHERE)
            }
            Decision::Open(version) => {
                Self::pack(VerdictKind::Open, number(version), NOBODY, NOWHERE)
            }
            Decision::Carry(version) => {
                Self::pack(VerdictKind::Carry, number(version), NOBODY, NOWHERE)
            }
            Decision::Drop(reason) => Self::pack(VerdictKind::Drop, reason as u8, NOBODY, NOWHERE),
            Decision::Deliver(to, endpoint) => Self::pack(VerdictKind::Deliver, 0, endpoint, to),
            Decision::ToVeth(to) => Self::pack(VerdictKind::ToVeth, 0, NOBODY, to),
            Decision::HostStack(to) => Self::pack(VerdictKind::HostStack, 0, NOBODY, to),
            Decision::Uplink(to, version) => {
                Self::pack(VerdictKind::Uplink, number(version), NOBODY, to)
            }
            Decision::Answer => Self::pack(VerdictKind::Answer, 0, NOBODY, NOWHERE),
            Decision::Replicate(Sender::Container) => {
                Self::pack(VerdictKind::Replicate, 0, NOBODY, NOWHERE)
            }
            Decision::Replicate(Sender::Host) => {
                Self::pack(VerdictKind::Replicate, 1, NOBODY, NOWHERE)
            }
        }
    }
}

#[inline(always)]
const fn number(version: Version) -> u8 {
    match version {
        Version::V4 => 4,
        Version::V6 => 6,
    }
}

/// Continue with a value or decide the packet.
pub type Step<T> = ControlFlow<Verdict, T>;

/// Decides the packet.
#[inline(always)]
pub fn decide<T>(decision: Decision) -> Step<T> {
    ControlFlow::Break(decision.into())
}

/// Decides to drop.
#[inline(always)]
pub fn refuse<T>(reason: DropReason) -> Step<T> {
    decide(Decision::Drop(reason))
}

/// The value, or the verdict that a pipeline stops with in its absence.
pub trait OrStop<T> {
    /// Drops in its absence.
    fn or_drop(self, reason: DropReason) -> Step<T>;

    /// Leaves the packet to the kernel in its absence.
    fn or_untouched(self) -> Step<T>;
}

impl<T> OrStop<T> for Option<T> {
    #[inline(always)]
    fn or_drop(self, reason: DropReason) -> Step<T> {
        match self {
            Some(value) => ControlFlow::Continue(value),
            None => refuse(reason),
        }
    }

    #[inline(always)]
    fn or_untouched(self) -> Step<T> {
        match self {
            Some(value) => ControlFlow::Continue(value),
            None => decide(Decision::Untouched),
        }
    }
}

/// Against whom a packet is counted; the pipeline fills it in as it learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The endpoint whose hook it is, or `EndpointIndex::NONE`.
    pub endpoint: EndpointIndex,
    /// The network it was seen in, or `NetworkIndex::HOST`.
    pub network: NetworkIndex,
}
