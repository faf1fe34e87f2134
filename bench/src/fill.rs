//! Flow tables from empty to full: what a new flow costs, and its first answer, by how many are there.
//!
//! Law: nothing is removed between the steps, and every flow is answered, so that tables hold what
//! they would hold of real conversations. Flows beyond a table's capacity must still arrive.

use std::net::{SocketAddrV4, UdpSocket};

use anyhow::{Result, ensure};

use crate::cpu;
use crate::generator::{Flows, Generator, ifindex, mac};
use crate::interrupt;
use crate::namespace::Namespace;
use crate::packets::{bind, with_macs};
use crate::results::{Case, Section};
use crate::rig::{Field, GENERATED_SOURCE, SERVER_PORT, Standing, UPLINK, frame};
use crate::session::Session;
use crate::statistics::Better;
use crate::units::real;

/// Flows of a step: both entries of each fit the table of unanswered flows.
const STEP: u32 = 10_000;

/// Steps until the 262 144 entries of the default table are taken, and one beyond.
const STEPS: u32 = 14;

/// Clients outside and their server, as generators.
struct Crowd {
    asks: Generator,
    answers: Generator,
    container: Namespace,
    outside: Namespace,
    _server: UdpSocket,
}

/// All rigs that publish, step by step.
pub(crate) fn all(session: &mut Session, standings: &[Standing]) -> Result<()> {
    let mut crowds = Vec::new();
    for standing in standings {
        let Some(field) = standing.field.as_ref().filter(|field| field.isolates) else { continue };
        crowds.push((standing.rig, Crowd::new(field)?));
    }
    for step in 0..STEPS {
        let mut cases = ["new flow", "its first answer"].map(|title| case(title, step));
        let mut failed = None;
        for (rig, crowd) in &crowds {
            interrupt::check()?;
            match crowd.step(session.cpu) {
                Ok(costs) => note(&mut cases, rig, costs),
                Err(error) => failed = Some((*rig, format!("{error:#}"))),
            }
            cpu::rest();
        }
        if let Some((rig, error)) = failed {
            session.problem(&cases, rig, &error);
            crowds.retain(|(other, _)| *other != rig);
        }
        session.finish(cases.into());
    }
    Ok(())
}

fn case(title: &str, step: u32) -> Case {
    let group = "Filling the flow table: cost of a packet by flows";
    Case::new(Section::Scaling, group, title, "ns/packet", Better::Lower)
        .at(u64::from(STEP * (step + 1)))
}

fn note(cases: &mut [Case; 2], rig: &str, costs: [f64; 2]) {
    for (case, cost) in cases.iter_mut().zip(costs) {
        case.rigs.insert(rig.to_owned(), [(0, cost)].into());
    }
}

impl Crowd {
    fn new(field: &Field) -> Result<Self> {
        let server = field.one.namespace.run(|| bind(SERVER_PORT))?;
        let anyone = SocketAddrV4::new(GENERATED_SOURCE, 0);
        let macs = [mac(&field.outside, "o0")?, mac(&field.host, UPLINK)?];
        let ask = with_macs(frame(anyone, field.published), macs);
        let uplink = ifindex(&field.host, UPLINK)?;
        let macs = [mac(&field.one.namespace, "eth0")?, mac(&field.host, &field.gateway)?];
        let answer = frame(SocketAddrV4::new(field.one.address, SERVER_PORT), anyone);
        let answer = with_macs(answer, macs);
        let link = ifindex(&field.host, &field.one.host_link)?;
        let generator = |index, frame, flows| Generator::new(&field.host, index, frame, flows);
        Ok(Self {
            asks: generator(uplink, ask, Flows::From)?,
            answers: generator(link, answer, Flows::Back)?,
            container: field.one.namespace.clone(),
            outside: field.outside.clone(),
            _server: server,
        })
    }

    /// Nanoseconds of each new flow and of each first answer.
    fn step(&self, cpu: usize) -> Result<[f64; 2]> {
        let asked = send(&self.asks, cpu, (&self.container, "eth0"))?;
        cpu::rest();
        Ok([asked, send(&self.answers, cpu, (&self.outside, "o0"))?])
    }
}

fn send(generator: &Generator, cpu: usize, (target, link): (&Namespace, &str)) -> Result<f64> {
    let before = target.received(link)?;
    let cost_ns = generator.send(cpu, STEP)?;
    let arrived = real(target.received(link)? - before);
    ensure!(arrived >= 0.99 * real(STEP.into()), "only {arrived} of {STEP} frames arrived");
    Ok(real(cost_ns.into()))
}
