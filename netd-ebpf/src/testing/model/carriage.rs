//! A packet on its flow's way: what it then says, and where it goes.

use netd_common::DropReason;

use super::hooks::{delivery, expected};
use super::table::{Target, Way};
use super::{Expected, Flow, Model};
use crate::testing::places::Place;
use crate::testing::story::{Flaw, Mac, Packet};
use crate::testing::world::{World, uplink};
use crate::verdict::{Decision, Version};

impl Model {
    /// A packet goes its flow's way.
    pub(super) fn carry(
        &self,
        world: &World,
        packet: &Packet,
        flow: &Flow,
        is_reply: bool,
    ) -> Expected {
        let (says, target, scope) = if is_reply {
            (flow.orig.reversed(), flow.origin.0, flow.orig.scope)
        } else {
            (flow.reply.reversed(), flow.target, flow.reply.scope)
        };
        let leaves = matches!(target, Target::Uplink(_));
        if leaves && packet.flaw == Flaw::Oversized {
            return expected(world, packet, Decision::Drop(DropReason::TooBig));
        }
        if !flow.bridged && packet.ttl <= 1 {
            return expected(world, packet, Decision::Drop(DropReason::TtlExceeded));
        }
        let mut out = Packet { src: says.src, dst: says.dst, ..*packet };
        (out.sport, out.dport) = (says.sport, says.dport);
        out.ttl -= u8::from(!flow.bridged);
        let from = if flow.bridged { packet.macs.1 } else { Mac::Gateway(scope) };
        self.send(world, out, target, from)
    }

    /// Where a flow leads.
    pub(super) fn send(
        &self,
        world: &World,
        packet: Packet,
        target: Target,
        from: Mac,
    ) -> Expected {
        match target {
            Target::Seat(network, seat) => {
                let macs = (Mac::Member(network, seat), from);
                let decision = delivery(world, network, seat);
                expected(world, &Packet { macs, ..packet }, decision)
            }
            Target::Uplink(number) => {
                let version = if self.v6 { Version::V6 } else { Version::V4 };
                let decision = Decision::Uplink(uplink(number), version);
                let is_known = world.route(packet.dst) == Some(number);
                let next_hop = if is_known { Place::Router(number) } else { Place::Nobody };
                let packet = Packet { marked: true, ..packet };
                Expected { next_hop, ..expected(world, &packet, decision) }
            }
        }
    }
}

/// Why a packet that would open a flow opens none.
pub(super) fn unfit(packet: &Packet, way: &Way, needs_flow: bool) -> Option<DropReason> {
    let leaves = matches!(way.target, Target::Uplink(_));
    if needs_flow && packet.is_headless() && (packet.sport, packet.dport) == (0, 0) {
        Some(DropReason::FragmentUnknown)
    } else if packet.ttl <= 1 && !way.bridged {
        Some(DropReason::TtlExceeded)
    } else if leaves && packet.flaw == Flaw::Oversized {
        Some(DropReason::TooBig)
    } else {
        None
    }
}
