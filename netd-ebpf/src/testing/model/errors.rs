//! ICMP errors: each goes the way of the flow that it is about.

use netd_common::DropReason;
use netd_common::wire::{TCP, UDP};

use super::hooks::expected;
use super::table::{ECHO, Tuple};
use super::{Expected, Model};
use crate::testing::story::{Mac, Packet, Payload, Quote};
use crate::testing::world::World;
use crate::verdict::Decision;

impl Model {
    /// An error about a known flow is translated inside and out. Its sender keeps its own name if
    /// it is a router outside; who got the packet, and a container, speak in the name that the
    /// flow's other end knows.
    pub(super) fn explain(&self, world: &World, packet: &Packet, scope: u8) -> Option<Expected> {
        let Payload::Error(fault, quote) = packet.payload else {
            return None;
        };
        let back = against(&quote, scope)?;
        let flow = self.flows.iter().find(|it| it.orig == back || it.reply == back)?;
        if flow.generation != self.generation {
            return None;
        }
        let is_reply = flow.reply == back;
        let (says, target, scope_there) = if is_reply {
            (flow.orig.reversed(), flow.origin.0, flow.orig.scope)
        } else {
            (flow.reply.reversed(), flow.target, flow.reply.scope)
        };
        if flow.bridged {
            return Some(self.send(world, *packet, target, packet.macs.1));
        }
        if packet.ttl <= 1 {
            return Some(expected(world, packet, Decision::Drop(DropReason::TtlExceeded)));
        }
        let is_renamed = packet.src == quote.dst || scope != 0 && quote.dst != says.src;
        let src = if is_renamed { says.src } else { packet.src };
        let (sport, dport) = (says.dport, says.sport);
        let quote = Quote { src: says.dst, dst: says.src, sport, dport, ..quote };
        let payload = Payload::Error(fault, quote);
        let out = Packet { payload, src, dst: says.dst, ttl: packet.ttl - 1, ..*packet };
        Some(self.send(world, out, target, Mac::Gateway(scope_there)))
    }
}

/// What packets against the quoted one say.
const fn against(quote: &Quote, scope: u8) -> Option<Tuple> {
    let Quote { src, dst, proto, sport, dport } = *quote;
    match proto {
        TCP | UDP | ECHO => {
            Some(Tuple { scope, src: dst, dst: src, sport: dport, dport: sport, proto })
        }
        _ => None,
    }
}
