//! The packet path and its model side by side.
//!
//! Law: they must agree on the verdict, on every byte, on whom a packet is counted against, and on
//! what is counted.

use std::vec::Vec;

use netd_common::map::counter::FlowStat;
use netd_common::map::flow::FlowKey;
use netd_common::{Be16, Hook, NetworkIndex, V4, V6};

use super::model::{Expected, Model, scope_of};
use super::places::Globe;
use super::reach::{Met, met};
use super::story::{
    CLIENTS, Complaint, Device, Event, Flaw, ICMP, PIECES, Packet, Payload, Piece, Story,
};
use super::world::{NETWORKS, World};
use super::written::{empty_tables, write};
use super::{FakeTables, Outcome, pass};
use crate::verdict::Decision;

/// Tells a story to both; what became of each packet.
///
/// # Panics
/// If they differ.
pub fn compare(story: &Story) -> Vec<Met> {
    if story.v6 {
        Pair::<V6>::new(story).compare(&story.events)
    } else {
        Pair::<V4>::new(story).compare(&story.events)
    }
}

struct Pair<F: Globe> {
    world: World,
    tables: FakeTables,
    model: Model,
    /// What somebody got.
    past: Vec<(Packet, Expected)>,
    met: Vec<Met>,
    family: core::marker::PhantomData<F>,
}

impl<F: Globe> Pair<F> {
    fn new(story: &Story) -> Self {
        let mut tables = empty_tables();
        write::<F>(&story.world, &mut tables);
        let model = Model::new(story.v6, tables.now_s, tables.config.generation);
        let world = story.world.clone();
        let (past, met) = (Vec::new(), Vec::new());
        Self { world, tables, model, past, met, family: core::marker::PhantomData }
    }

    fn compare(mut self, events: &[Event]) -> Vec<Met> {
        for event in events {
            match *event {
                Event::Send(packet) => self.send(packet),
                Event::Answer(which, payload) => self.answer(which, payload),
                Event::Again(which, payload) => self.send_again(which, payload),
                Event::Complain(which, complaint) => self.complain(which, complaint),
                Event::Crowd(which) => self.crowd(which),
                Event::Torn(what, pieces) => self.tear(what, pieces),
                Event::Wait(seconds) => {
                    self.tables.now_s += u32::from(seconds);
                    self.model.now_s += u32::from(seconds);
                }
                Event::Change(change) => {
                    // An operator takes longer than a fragment waits.
                    self.tables.held.clear();
                    self.model.forget_waiting();
                    self.world.change(change);
                    write::<F>(&self.world, &mut self.tables);
                    self.tables.config.generation += 1;
                    self.model.generation += 1;
                }
            }
        }
        self.met
    }

    fn past(&self, which: u8) -> Option<&(Packet, Expected)> {
        self.past.iter().rev().nth(usize::from(which))
    }

    fn answer(&mut self, which: u8, payload: Option<Payload>) {
        let answer = self.past(which).and_then(|(_, expected)| {
            expected.packet.answer(receiver(&self.world, expected.decision)?, payload)
        });
        if let Some(answer) = answer {
            self.send(answer);
        }
    }

    fn complain(&mut self, which: u8, complaint: Complaint) {
        let error = self.past(which).and_then(|(_, expected)| {
            expected.packet.error(receiver(&self.world, expected.decision)?, complaint)
        });
        if let Some(error) = error {
            self.send(error);
        }
    }

    fn crowd(&mut self, which: u8) {
        let Some(&(sent, _)) = self.past(which) else {
            return;
        };
        let is_echo = sent.payload.proto() == ICMP;
        let offset = if is_echo && matches!(sent.device, Device::Uplink(_)) { 10_000 } else { 0 };
        for sport in CLIENTS.map(|port| port + offset) {
            let dport = if is_echo { sport } else { sent.dport };
            if sent.payload != Payload::Other {
                self.send(Packet { sport, dport, ..sent });
            }
        }
    }

    fn send_again(&mut self, which: u8, payload: Option<Payload>) {
        if let Some((sent, _)) = self.past(which) {
            let payload = sent.payload.varied(payload).unwrap_or(sent.payload);
            let packet = Packet { payload, ..*sent };
            self.send(packet);
        }
    }

    fn send(&mut self, packet: Packet) {
        let packet = packet.said(F::VERSION == 6);
        let sent = packet.frame::<F>(&self.world);
        let outcome = pass(&mut self.tables, packet.hook, sent);
        let port = self.source_port(&packet);
        let expected = self.model.pass(&self.world, &packet, port);
        self.check(&packet, &expected, &outcome);
        self.met.push(met(&self.world, F::VERSION == 6, &packet, outcome.decision));
        for (again, frame) in expected.again.iter().zip(&outcome.again) {
            assert_eq!(frame.bytes, again.dressed::<F>(&self.world).bytes, "what waited");
            // Where the first came from, wherever those came from that waited for it.
            let (hook, device, bare) = (packet.hook, packet.device, packet.bare);
            self.send(Packet { hook, device, bare, ..*again });
        }
        let is_of_a_flow =
            packet.payload.is_of_a_flow() && !packet.is_headless() && packet.flaw == Flaw::None;
        if is_of_a_flow && receiver(&self.world, expected.decision).is_some() {
            self.past.push((packet, expected));
        }
    }

    /// The source port, or echo's id, that a packet's flow left with.
    fn source_port(&mut self, packet: &Packet) -> Option<u16> {
        let (sport, dport) = self.model.ports(&self.world, packet);
        let network = scope_of(&self.world, packet);
        let is_icmp = packet.payload.proto() == ICMP;
        let key = FlowKey {
            network: NetworkIndex(u32::from(network)),
            src: F::addr(packet.src),
            dst: F::addr(packet.dst),
            sport: Be16::new(sport),
            dport: Be16::new(dport),
            proto: if is_icmp { F::ICMP } else { packet.payload.proto() },
            pad: [0; 3],
        };
        let family = F::family(&mut self.tables);
        let entry = family.flows_new.get(&key).or_else(|| family.flows.get(&key));
        entry.map(|entry| entry.sport.get())
    }

    fn tear(&mut self, what: Result<Packet, u8>, pieces: [Piece; PIECES]) {
        let packet = match what {
            Ok(packet) => Some(packet),
            Err(which) => self.past(which).and_then(|(_, expected)| {
                expected.packet.answer(receiver(&self.world, expected.decision)?, None)
            }),
        };
        let hooks = [Hook::FromContainer, Hook::FromNetdev, Hook::FromL3dev];
        let Some(packet) =
            packet.filter(|it| hooks.contains(&it.hook) && it.payload.is_of_a_flow())
        else {
            return;
        };
        for piece in pieces {
            self.send(Packet { piece: Some(piece), flaw: Flaw::None, ..packet });
        }
    }

    fn check(&self, packet: &Packet, expected: &Expected, outcome: &Outcome) {
        let world = &self.world;
        assert_eq!(outcome.again.len(), expected.again.len(), "who waited for {packet:?}");
        assert_eq!(outcome.decision, expected.decision, "verdict on {packet:?} in {world:?}");
        assert_eq!(outcome.ledger, expected.ledger, "who is counted for {packet:?} in {world:?}");
        if matches!(outcome.decision, Decision::Drop(_)) {
            return self.check_counts(packet);
        }
        let mut frame = expected.packet.frame::<F>(world);
        frame.ifindex = outcome.frame.ifindex;
        assert_eq!(outcome.frame, frame, "bytes of {packet:?} in {world:?}");
        if matches!(outcome.decision, Decision::Uplink(..)) {
            let next_hop = F::widen(F::addr(expected.next_hop));
            assert_eq!(outcome.next_hop, next_hop, "next hop of {packet:?} in {world:?}");
        }
        self.check_counts(packet);
    }

    fn check_counts(&self, packet: &Packet) {
        let stat = |stat| self.tables.stat(stat);
        assert_eq!(stat(FlowStat::Created), self.model.created, "flows made after {packet:?}");
        let exhausted = stat(FlowStat::SnatExhausted);
        assert_eq!(exhausted, self.model.exhausted, "flows without a port after {packet:?}");
        assert_eq!(self.tables.hits, self.model.hits, "hits of publications after {packet:?}");
    }
}

/// Where a container answers: at its way out, if it is at home in several networks.
fn way_out(world: &World, at: (u8, u8)) -> Device {
    let mut seats = (1..=NETWORKS).map(|network| (network, at.1));
    let (network, seat) = seats.find(|it| world.elsewhere(*it) == Some(at)).unwrap_or(at);
    Device::Veth(network, seat)
}

/// Who gets a packet, if it can answer.
fn receiver(world: &World, decision: Decision) -> Option<Device> {
    match decision {
        Decision::Deliver(veth, _) | Decision::ToVeth(veth) => (1..=NETWORKS)
            .flat_map(|network| (2..=4).map(move |seat| (network, seat)))
            .find(|(network, seat)| world.veth(*network, *seat) == veth)
            .map(|at| way_out(world, at)),
        Decision::Uplink(uplink, _) => u8::try_from(uplink.0).ok().map(Device::Uplink),
        Decision::Untouched
        | Decision::Accept
        | Decision::Later(..)
        | Decision::Drop(_)
        | Decision::HostStack(_)
        | Decision::Answer
        | Decision::Replicate(_)
        | Decision::Held
        | Decision::Again => None,
    }
}
