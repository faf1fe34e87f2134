//! The truth table, read off `docs/packet-path.md` and written down a second time, plainly.
//!
//! Law: nothing here calls a step of the packet path. It speaks of places and flows, not of keys
//! and entries; what it must not predict (which free port a masqueraded flow gets) it takes from
//! what happened, and only if that was free.

use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use netd_common::wire::{TCP, TCP_FIN, TCP_RST, UDP};
use netd_common::{DropReason, Hook};

use super::places::Place;
use super::story::{Device, Flaw, Mac, Packet, Payload};
use super::world::{Life, POOL, World};
use crate::verdict::{Decision, Ledger};
use carriage::unfit;
use container::{first_checks, later_checks};
use fragments::{Datagram, Known, Passed};
use hooks::{delivery, expected, flood, holder, stateless, station, to_stack};
use table::{Answer, ECHO, PortRule, Start, Target, Tuple, Way, from_container, from_outside};
pub(super) use tracking::scope_of;
use tracking::{direction, hear, is_left_alone, is_opened_anew, lifetime_s, replies, start, tuple};

mod carriage;
mod container;
mod errors;
mod fragments;
mod hooks;
mod table;
mod tracking;

/// A connection.
#[derive(Clone, Debug)]
struct Flow {
    /// What its first packet said.
    orig: Tuple,
    /// What answers say where they are seen.
    reply: Tuple,
    /// Where its first packet came from, and that container's life.
    origin: (Target, Option<Life>),
    target: Target,
    bridged: bool,
    answered: bool,
    /// One of both was heard in different seconds, the later one after an answer.
    went_on: bool,
    reset: bool,
    /// Who has said that it has no more to say: originator, responder.
    finished: [bool; 2],
    /// When each was last heard.
    heard_s: [u32; 2],
    generation: u32,
}

/// What a packet must become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The verdict.
    pub decision: Decision,
    /// The packet as it goes on.
    pub packet: Packet,
    /// Whom it is counted against.
    pub ledger: Ledger,
    /// The neighbour on an uplink; nobody leaves it to the kernel.
    pub next_hop: Place,
    /// What comes to the hook again, itself first.
    pub again: Vec<Packet>,
}

/// What a host remembers.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// IPv6 rather than IPv4.
    pub v6: bool,
    /// The clock.
    pub now_s: u32,
    /// Grows with every change of the world.
    pub generation: u32,
    /// Flows opened so far.
    pub created: u64,
    /// Flows that found no port so far.
    pub exhausted: u64,
    /// Flows that came by each publication.
    pub hits: BTreeMap<u32, u64>,
    flows: Vec<Flow>,
    datagrams: BTreeMap<Datagram, Known>,
    passed: BTreeMap<Datagram, Passed>,
    /// Those that wait for the fragment at hand.
    released: Vec<Option<Packet>>,
}

impl Model {
    /// A host without flows.
    pub fn new(v6: bool, now_s: u32, generation: u32) -> Self {
        Self { v6, now_s, generation, ..Self::default() }
    }

    /// What a packet must become. `port` is the source port that it left with, for a flow that may
    /// choose.
    pub fn pass(&mut self, world: &World, packet: &Packet, port: Option<u16>) -> Expected {
        self.bury_the_dead();
        match packet.hook {
            Hook::FromContainer => self.container_packet(world, packet, port),
            Hook::FromNetdev => self.arriving_packet(world, packet, port),
            Hook::FromL3dev => self.arriving_bare(world, packet, port),
            Hook::ToContainer | Hook::FromHost | Hook::ToNetdev | Hook::ToL3dev => {
                stateless(world, packet, self.v6)
            }
        }
    }

    fn container_packet(&mut self, world: &World, packet: &Packet, port: Option<u16>) -> Expected {
        let Device::Veth(network, seat) = packet.device else {
            unreachable!("a container's packet comes from its veth");
        };
        let at = (network, seat);
        if let Some(stopped) = first_checks(world, packet, at, self.v6) {
            return stopped;
        }
        let scope = scope_of(world, packet);
        if !packet.macs.0.is_group()
            && packet.payload.is_of_a_flow()
            && packet.piece.is_none()
            && let Some(known) = self.follow(world, packet, scope, port)
        {
            return known;
        }
        if let Some(stopped) = later_checks(world, packet, at, self.v6) {
            return stopped;
        }
        if let Some(explained) = self.explain(world, packet, scope) {
            return explained;
        }
        let (packet, has_ports) = self.gather(world, packet);
        if packet.piece.is_some()
            && has_ports
            && let Some(known) = self.follow(world, &packet, scope, port)
        {
            return known;
        }
        match self.switched(world, &packet, network) {
            Some(switched) => switched,
            None => self.decide_or_hold(world, &packet, has_ports, port),
        }
    }

    /// By its addresses; without its ports a fragment waits, where they would matter.
    fn decide_or_hold(
        &mut self,
        world: &World,
        packet: &Packet,
        has_ports: bool,
        port: Option<u16>,
    ) -> Expected {
        let decided = self.decide(world, packet, port);
        if has_ports { decided } else { self.hold(world, packet, decided) }
    }

    /// Within a network the MAC decides; what is for the gateway's is routed, and so is what policy
    /// must look at.
    fn switched(&self, world: &World, packet: &Packet, own: u8) -> Option<Expected> {
        let is_held = packet.dst == Place::Gateway(own) || holder(world, own, packet.dst).is_some();
        match station(world, own, packet.macs.0) {
            Some(seat) if !world.network(own).quiet || self.is_discovery(packet) => {
                Some(expected(world, packet, delivery(world, own, seat)))
            }
            None if packet.macs.0 != Mac::Gateway(own) && !is_held => {
                Some(expected(world, packet, flood(world, own)))
            }
            Some(_) | None => None,
        }
    }

    /// Without it nobody is reached at all, whatever neighbours may say to each other.
    const fn is_discovery(&self, packet: &Packet) -> bool {
        let is_word = matches!(packet.payload, Payload::Word(_));
        self.v6 && is_word && matches!(packet.dst, Place::LinkLocal(..))
    }

    /// What has no Ethernet header is given one.
    fn arriving_bare(&mut self, world: &World, packet: &Packet, port: Option<u16>) -> Expected {
        if container::is_arp(packet, self.v6) {
            return expected(world, packet, Decision::Untouched);
        }
        let macs = (Mac::Nobody, Mac::Nobody);
        self.arriving_packet(world, &Packet { bare: false, macs, ..*packet }, port)
    }

    fn arriving_packet(&mut self, world: &World, packet: &Packet, port: Option<u16>) -> Expected {
        let is_unreadable =
            matches!(packet.flaw, Flaw::Cut | Flaw::SourceRouted) || container::is_tiny(packet);
        let is_tagged = packet.for_another || packet.vlan;
        if is_tagged || is_unreadable || container::is_arp(packet, self.v6) {
            return expected(world, packet, Decision::Untouched);
        }
        let (packet, has_ports) = self.gather(world, packet);
        let known = match packet.payload {
            Payload::Error(..) | Payload::Word(_) => self.explain(world, &packet, 0),
            _ if !has_ports => None,
            Payload::Tcp(_)
            | Payload::Udp
            | Payload::UnsummedUdp
            | Payload::Echo
            | Payload::EchoReply
            | Payload::Other => self.follow(world, &packet, 0, port),
        };
        known.unwrap_or_else(|| self.decide_or_hold(world, &packet, has_ports, port))
    }

    /// By its addresses.
    fn decide(&mut self, world: &World, packet: &Packet, port: Option<u16>) -> Expected {
        let tuple = tuple(packet, scope_of(world, packet));
        let start = start(world, packet, self.now_s);
        let answer = match packet.device {
            Device::Veth(network, seat) => from_container(world, (network, seat), &tuple, start),
            Device::Uplink(number) => from_outside(world, number, &tuple, start),
            Device::Gateway(_) => unreachable!("the host's packets are not decided"),
        };
        self.begin(world, packet, answer, port)
    }

    /// A packet of no flow.
    fn begin(
        &mut self,
        world: &World,
        packet: &Packet,
        answer: Answer,
        port: Option<u16>,
    ) -> Expected {
        let way = match answer {
            Answer::Goes(way) => way,
            Answer::HostStack => return expected(world, packet, to_stack(packet.device)),
            Answer::Untouched => return expected(world, packet, Decision::Untouched),
            Answer::Drop(reason) => return expected(world, packet, Decision::Drop(reason)),
        };
        let needs_flow = !way.bridged || world.network(scope_of(world, packet)).quiet;
        if let Some(reason) = unfit(packet, &way, needs_flow) {
            return expected(world, packet, Decision::Drop(reason));
        }
        let flow = self.flow(world, packet, &way, port);
        let flow = match flow {
            Ok(flow) => flow,
            Err(reason) => return expected(world, packet, Decision::Drop(reason)),
        };
        let claimed = if needs_flow { self.claim(world, packet) } else { None };
        let expected = claimed.unwrap_or_else(|| self.carry(world, packet, &flow, false));
        if needs_flow {
            self.open(flow, way.published);
        }
        expected
    }

    fn open(&mut self, flow: Flow, published: Option<u32>) {
        self.flows.retain(|it| !(it.orig == flow.reply && it.reply == flow.orig));
        self.flows.push(flow);
        self.created += 1;
        if let Some(slot) = published {
            *self.hits.entry(slot).or_default() += 1;
        }
    }

    /// The flow that a packet begins.
    fn flow(
        &mut self,
        world: &World,
        packet: &Packet,
        way: &Way,
        port: Option<u16>,
    ) -> Result<Flow, DropReason> {
        let orig = tuple(packet, scope_of(world, packet));
        let origin = match packet.device {
            Device::Veth(network, seat) => (Target::Seat(network, seat), world.life(network, seat)),
            Device::Uplink(number) => (Target::Uplink(number), None),
            Device::Gateway(_) => unreachable!("the host's packets begin no flow"),
        };
        let reply = if way.bridged && !world.network(orig.scope).quiet {
            replies(&orig, way, orig.sport)
        } else {
            self.reply(world, &orig, way, port)?
        };
        Ok(Flow {
            orig,
            reply,
            origin,
            target: way.target,
            bridged: way.bridged,
            answered: false,
            went_on: false,
            reset: false,
            finished: [false; 2],
            heard_s: [self.now_s; 2],
            generation: self.generation,
        })
    }

    /// What the answers will say: with the port that happened, if that was free to be taken.
    fn reply(
        &mut self,
        world: &World,
        orig: &Tuple,
        way: &Way,
        port: Option<u16>,
    ) -> Result<Tuple, DropReason> {
        let is_changeable = matches!(orig.proto, TCP | UDP | ECHO);
        if way.ports == PortRule::Own || !is_changeable {
            let reply = replies(orig, way, orig.sport);
            return if self.is_free(orig, &reply) {
                Ok(reply)
            } else {
                Err(DropReason::InvalidState)
            };
        }
        let may = |port: &u16| {
            let reply = replies(orig, way, *port);
            let is_ours = way.ports != PortRule::Masquerade || is_left_alone(world, &reply);
            is_ours && self.is_free(orig, &reply)
        };
        let may_keep = way.ports != PortRule::Masquerade
            || POOL.contains(&orig.sport)
            || (1_024..32_768).contains(&orig.sport);
        let allowed: BTreeSet<u16> = if may_keep && may(&orig.sport) {
            BTreeSet::from([orig.sport])
        } else {
            POOL.filter(may).collect()
        };
        let taken = port.filter(|it| allowed.contains(it)).or(allowed.first().copied());
        if taken.is_none() {
            self.exhausted += 1;
        }
        taken.map(|port| replies(orig, way, port)).ok_or(DropReason::SnatExhausted)
    }

    /// Whether nobody else's packets say the same.
    fn is_free(&self, orig: &Tuple, reply: &Tuple) -> bool {
        self.flows.iter().all(|it| {
            it.orig != *reply && it.reply != *reply || it.orig == *reply && it.reply == *orig
        })
    }

    /// A packet of a known flow.
    fn follow(
        &mut self,
        world: &World,
        packet: &Packet,
        scope: u8,
        port: Option<u16>,
    ) -> Option<Expected> {
        let tuple = tuple(packet, scope);
        let place = self.flows.iter().position(|it| direction(it, packet, &tuple).is_some())?;
        let mut flow = self.flows.swap_remove(place);
        let is_reply = direction(&flow, packet, &tuple)?;
        if is_opened_anew(&flow, packet, is_reply) {
            return None;
        }
        if !self.is_still_true(world, &mut flow) {
            return Some(self.decide(world, packet, port));
        }
        hear(&mut flow, is_reply, self.now_s);
        if let Payload::Tcp(flags) = packet.payload {
            flow.finished[usize::from(is_reply)] |= flags & TCP_FIN != 0;
            flow.reset = flags & TCP_RST != 0;
        }
        let claimed = self.claim(world, packet);
        let expected = claimed.unwrap_or_else(|| self.carry(world, packet, &flow, is_reply));
        self.flows.push(flow);
        Some(expected)
    }

    /// After a change of the world the table must say the same of a flow's first packet.
    fn is_still_true(&self, world: &World, flow: &mut Flow) -> bool {
        if flow.generation == self.generation {
            return true;
        }
        flow.generation = self.generation;
        let answer = match flow.origin {
            (Target::Seat(network, seat), life) if world.life(network, seat) == life => {
                from_container(world, (network, seat), &flow.orig, Start::Opens)
            }
            (Target::Seat(..), _) => return false,
            (Target::Uplink(number), _) => from_outside(world, number, &flow.orig, Start::Opens),
        };
        let Answer::Goes(way) = answer else {
            return false;
        };
        flow.target = way.target;
        let dport = if flow.orig.proto == ECHO { flow.reply.sport } else { way.dport };
        let now = replies(&flow.orig, &Way { dport, ..way }, flow.reply.dport);
        now == flow.reply
    }

    /// A flow is over when nobody was heard for its time.
    fn bury_the_dead(&mut self) {
        let now_s = self.now_s;
        self.flows.retain(|it| it.heard_s.iter().any(|heard| now_s - heard <= lifetime_s(it)));
    }
}
