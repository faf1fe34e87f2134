//! Fragments of flows that need translation.
//!
//! Law: only a datagram's first fragment has ports. A later one is translated by what its first
//! one left behind, or not at all; it is never guessed at.

use core::ops::ControlFlow;

use netd_common::DropReason;
use netd_common::wire::Part;

use crate::parse::Packet;
use crate::verdict::{Step, refuse};

/// A packet that would need translation has the ports for it.
#[inline(always)]
pub fn has_ports<A>(packet: &Packet<A>) -> Step<()> {
    match packet.part {
        Part::Whole | Part::First => ControlFlow::Continue(()),
        Part::Later => refuse(DropReason::FragmentUnknown),
    }
}
