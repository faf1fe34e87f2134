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

/// What a packet may be left to. Each is a function of its own in the kernel, named alike in
/// `pipeline`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// A container's frame that is no IP packet; of no family, whatever is said.
    Frame,
    /// A container's packet that no flow entry decides: an answer, a group, a neighbour's MAC, or
    /// the gateway's.
    Sort,
    /// A fragment: its flow's ports are found.
    Gather,
    /// An ICMP error: it is translated.
    Explain,
    /// A flow entry needs care.
    CatchUp,
    /// A flow entry's decision is of an old generation.
    Review,
    /// A flow entry was decided anew: it takes the decision, or goes.
    Renew,
    /// A flow entry takes note of its packet.
    Advance,
    /// There is no flow entry: the packet is decided.
    Begin,
    /// A fragment whose ports nobody knows before its first comes: it is decided without them.
    Guess,
    /// The plan of a new flow needs entries.
    Open,
    /// A fragment that is to be sent: its bytes must be new ones.
    Claim,
    /// The flow entry says all: the packet is translated and sent.
    Carry,
}

impl Stage {
    const ALL: [Self; 13] = [
        Self::Frame,
        Self::Sort,
        Self::Gather,
        Self::Explain,
        Self::CatchUp,
        Self::Review,
        Self::Renew,
        Self::Advance,
        Self::Begin,
        Self::Guess,
        Self::Open,
        Self::Claim,
        Self::Carry,
    ];

    #[inline(always)]
    const fn of(number: u8) -> Self {
        let number = number as usize;
        if number < Self::ALL.len() { Self::ALL[number] } else { Self::Frame }
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Not ours: the kernel goes on as if we were not there.
    Untouched,
    /// Ours, and it goes on the way it was going.
    Accept,
    /// For a later stage.
    Later(Stage, Version),
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
    /// Held for its first fragment.
    Held,
    /// A first fragment that others are held for: to the same hook again, and they behind it.
    Again,
}

/// A decision in one word. The verifier refuses to move a register that was never written, and an
/// enum with fields has such parts: a word has none, not even beside "continue".
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Verdict(NonZeroU64);

impl Verdict {
    /// Bits 0..8 the kind, 8..16 reason, stage, family or sender, 16..32 endpoint, 32..64
    /// interface, or the family for a later stage.
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
            k if k == VerdictKind::Later as u32 => Decision::Later(
                Stage::of(detail),
                if to.0 == 6 { Version::V6 } else { Version::V4 },
            ),
            k if k == VerdictKind::Drop as u32 => Decision::Drop(reason(detail)),
            k if k == VerdictKind::Deliver as u32 => Decision::Deliver(to, endpoint),
            k if k == VerdictKind::ToVeth as u32 => Decision::ToVeth(to),
            k if k == VerdictKind::HostStack as u32 => Decision::HostStack(to),
            k if k == VerdictKind::Uplink as u32 => Decision::Uplink(to, version),
            k if k == VerdictKind::Answer as u32 => Decision::Answer,
            k if k == VerdictKind::Replicate as u32 => {
                Decision::Replicate(if detail == 0 { Sender::Container } else { Sender::Host })
            }
            k if k == VerdictKind::Held as u32 => Decision::Held,
            k if k == VerdictKind::Again as u32 => Decision::Again,
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
        self.0.get() as u8 != VerdictKind::Later as u8
    }

    /// Why the packet was dropped, if it was.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "each part is cut out at its own width")]
    pub const fn drop_reason(self) -> Option<DropReason> {
        let word = self.0.get();
        if word as u8 == VerdictKind::Drop as u8 { Some(reason((word >> 8) as u8)) } else { None }
    }

    /// The host veth or uplink that the packet is for, if it is for one; and what becomes of it if
    /// there is none any more.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "each part is cut out at its own width")]
    pub const fn way_out(self) -> Option<(IfIndex, DropReason)> {
        let word = self.0.get();
        let kind = word as u8;
        let reason = if kind == VerdictKind::Deliver as u8 || kind == VerdictKind::ToVeth as u8 {
            DropReason::UnknownDestination
        } else if kind == VerdictKind::Uplink as u8 {
            DropReason::NoRoute
        } else {
            return None;
        };
        Some((IfIndex((word >> 32) as u32), reason))
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
            Decision::Later(stage, version) => {
                let family = IfIndex(u32::from(number(version)));
                Self::pack(VerdictKind::Later, stage as u8, NOBODY, family)
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
            Decision::Held => Self::pack(VerdictKind::Held, 0, NOBODY, NOWHERE),
            Decision::Again => Self::pack(VerdictKind::Again, 0, NOBODY, NOWHERE),
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
