//! The packet path and its model side by side.
//!
//! Law: they must agree on the verdict, on every byte, on whom a packet is counted against, and on
//! what is counted.

use std::vec::Vec;

use netd_common::map::counter::FlowStat;
use netd_common::{V4, V6};

use super::model::{Expected, Model};
use super::places::Globe;
use super::reach::{Met, met};
use super::story::{CLIENTS, Complaint, Device, Event, Flaw, ICMP, Packet, Payload, Story};
use super::world::{NETWORKS, World};
use super::written::{empty_tables, write};
use super::{FakeTables, Frame, Outcome, pass};
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
                Event::Wait(seconds) => {
                    self.tables.now_s += u32::from(seconds);
                    self.model.now_s += u32::from(seconds);
                }
                Event::Change(change) => {
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
        let port = source_port::<F>(&outcome.frame, packet.payload);
        let expected = self.model.pass(&self.world, &packet, port);
        self.check(&packet, &expected, &outcome);
        self.met.push(met(&self.world, F::VERSION == 6, &packet, outcome.decision));
        let is_of_a_flow = packet.payload.is_of_a_flow() && packet.flaw == Flaw::None;
        if is_of_a_flow && receiver(&self.world, expected.decision).is_some() {
            self.past.push((packet, expected));
        }
    }

    fn check(&self, packet: &Packet, expected: &Expected, outcome: &Outcome) {
        let world = &self.world;
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

/// Who gets a packet, if it can answer.
fn receiver(world: &World, decision: Decision) -> Option<Device> {
    match decision {
        Decision::Deliver(veth, _) | Decision::ToVeth(veth) => (1..=NETWORKS)
            .flat_map(|network| (2..=4).map(move |seat| (network, seat)))
            .find(|(network, seat)| world.veth(*network, *seat) == veth)
            .map(|(network, seat)| Device::Veth(network, seat)),
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

/// The source port that a frame left with, or its echo's id.
fn source_port<F: Globe>(frame: &Frame, payload: Payload) -> Option<u16> {
    let at = 14 + F::HEADER_LEN + if payload.proto() == ICMP { 4 } else { 0 };
    frame.bytes.get(at..at + 2).map(|it| u16::from_be_bytes([it[0], it[1]]))
}
