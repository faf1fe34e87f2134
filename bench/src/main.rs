//! `netd-bench`: what netd costs, beside iptables, nftables, a plain bridge and loopback, in one run.
//!
//! Law: everything it makes is in namespaces, mounts, a directory and a cgroup of its own, and gone
//! when it ends, also on failure and ctrl-C.

mod bpf;
mod compiler;
mod control;
mod corner;
mod cpu;
mod engine;
mod environment;
mod fill;
mod generator;
mod http;
mod interrupt;
mod iperf;
mod memory;
mod names;
mod namespace;
mod operations;
mod packets;
mod programs;
mod report;
mod results;
mod rig;
mod session;
mod statistics;
mod traffic;
mod transactions;
mod units;

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result};
use clap::Parser;

use crate::corner::Cgroup;
use crate::packets::Scale;
use crate::results::Results;
use crate::rig::{Netd, Plan, Rig, Standing, Transport};
use crate::session::{Effort, Session};

/// Measures netd beside iptables, nftables, a plain bridge and loopback.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Fewer rounds and sizes: less than five minutes instead of thirty.
    #[arg(long)]
    quick: bool,
    /// Measure only these rigs, as often as needed.
    #[arg(long, value_name = "RIG")]
    rig: Vec<String>,
    /// Measure only these parts.
    #[arg(long, value_enum)]
    part: Vec<Part>,
    /// The daemon to measure; by default the one beside this program.
    #[arg(long, value_name = "PATH")]
    netd: Option<PathBuf>,
    /// Where results are written; by default `bench/results`, or `target/bench` where not all is
    /// measured.
    #[arg(long, value_name = "DIRECTORY")]
    results: Option<PathBuf>,
    /// Measure nothing: write the report of saved results again.
    #[arg(long)]
    report_only: bool,
    /// A README with markers for the headline table.
    #[arg(long, value_name = "FILE")]
    readme: Option<PathBuf>,
}

/// A part of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Cost of a packet.
    Packets,
    /// Transactions and streams.
    Traffic,
    /// Against the number of ports and endpoints.
    Scaling,
    /// Operations of the daemon, and its memory.
    Control,
    /// Instructions and run time of each program.
    Programs,
    /// Name queries.
    Dns,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netd-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let directory = arguments.directory();
    let results =
        if arguments.report_only { report::read(&directory)? } else { measure(arguments)? };
    report::write(&results, &directory)?;
    if let Some(readme) = arguments.readme.as_ref().filter(|_| arguments.is_whole()) {
        report::into_readme(&results, readme)?;
    }
    eprintln!("written to {}", directory.display());
    Ok(())
}

impl Arguments {
    fn is_whole(&self) -> bool {
        self.part.is_empty() && self.rig.is_empty()
    }

    /// Whether a rig is measured: those named, else all, but the older iptables and the single
    /// veth only in full runs.
    fn wants(&self, rig: &str) -> bool {
        match self.rig.as_slice() {
            [] => !self.quick || ![rig::LEGACY, rig::VETH].contains(&rig),
            named => named.iter().any(|name| name == rig),
        }
    }

    fn directory(&self) -> PathBuf {
        let usual = if self.is_whole() { "bench/results" } else { "target/bench" };
        self.results.clone().unwrap_or_else(|| usual.into())
    }
}

fn measure(arguments: &Arguments) -> Result<Results> {
    interrupt::install()?;
    corner::isolate()?;
    let environment = environment::look();
    let effort = if arguments.quick { Effort::QUICK } else { Effort::FULL };
    let mut session = Session::new(effort)?;
    let cgroup = Rc::new(Cgroup::create()?);
    let netd = Netd { program: program(arguments)?, cgroup };
    let rigs: Vec<Box<dyn Rig>> =
        rig::all(netd.clone()).into_iter().filter(|rig| arguments.wants(rig.name())).collect();
    let bench = Bench { rigs, parts: arguments.part.clone() };
    bench.all(&mut session, &netd)?;
    let rigs = bench.rigs.iter().map(|rig| (rig.name().to_owned(), rig.says().to_owned()));
    let engine = (rig::DOCKER.to_owned(), engine::SAYS.to_owned());
    let engine = (bench.has(Part::Control) || bench.has(Part::Dns)).then_some(engine);
    let named = [(names::FORWARDER, names::FORWARDER_SAYS), (names::LIMIT, names::LIMIT_SAYS)];
    let named = named.map(|(name, says)| (name.to_owned(), says.to_owned()));
    let named = named.into_iter().filter(|_| bench.has(Part::Dns));
    let rigs = rigs.chain(engine).chain(named).collect();
    let Session { cases, programs, problems, .. } = session;
    Ok(Results { environment, rigs, cases, programs, problems })
}

/// Which rigs take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Those {
    /// All.
    All,
    /// Those whose cost may depend on what is published or tracked.
    ThatPublish,
}

/// What is measured on what.
struct Bench {
    rigs: Vec<Box<dyn Rig>>,
    parts: Vec<Part>,
}

impl Bench {
    fn has(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }

    fn all(&self, session: &mut Session, netd: &Netd) -> Result<()> {
        if self.has(Part::Programs) {
            match programs::measure(session.cpu) {
                Ok(programs) => session.programs = programs,
                Err(error) => session.problem(&[], "programs", &format!("{error:#}")),
            }
            operations::all(session)?;
        }
        self.smallest(session)?;
        if self.has(Part::Scaling) {
            self.by_ports(session)?;
            self.by_endpoints(session)?;
            self.filling(session)?;
        }
        if self.has(Part::Control) {
            compiler::all(session)?;
            if let Err(error) = control::all(session, netd) {
                interrupt::check()?;
                session.problem(&[], "control plane", &format!("{error:#}"));
            }
        }
        if self.has(Part::Dns)
            && let Err(error) = names::all(session, netd)
        {
            interrupt::check()?;
            session.problem(&[], "name queries", &format!("{error:#}"));
        }
        Ok(())
    }

    /// All ways and all packets at the smallest size.
    fn smallest(&self, session: &mut Session) -> Result<()> {
        if !self.has(Part::Packets) && !self.has(Part::Traffic) {
            return Ok(());
        }
        let standings = self.build(session, Plan::SMALL, Those::All)?;
        if self.has(Part::Packets) {
            packets::all(session, &standings, None)?;
        }
        if self.has(Part::Traffic) {
            transactions::all(session, &standings)?;
            iperf::all(session, &standings)?;
        }
        Ok(())
    }

    fn by_ports(&self, session: &mut Session) -> Result<()> {
        for ports in session.effort.ports {
            let plan = Plan { ports: *ports, filler: Transport::Tcp, ..Plan::SMALL };
            let standings = self.build(session, plan, Those::ThatPublish)?;
            transactions::scaling(session, &standings, *ports)?;
            drop(standings);
            let plan = Plan { filler: Transport::Udp, ..plan };
            let standings = self.build(session, plan, Those::ThatPublish)?;
            let scale = Scale { of: "published ports", count: *ports };
            packets::all(session, &standings, Some(scale))?;
        }
        Ok(())
    }

    fn filling(&self, session: &mut Session) -> Result<()> {
        let standings = self.build(session, Plan::SMALL, Those::ThatPublish)?;
        fill::all(session, &standings)
    }

    fn by_endpoints(&self, session: &mut Session) -> Result<()> {
        for endpoints in session.effort.endpoints {
            let plan = Plan { endpoints: *endpoints, ..Plan::SMALL };
            let standings = self.build(session, plan, Those::ThatPublish)?;
            let scale = Scale { of: "endpoints", count: *endpoints };
            packets::all(session, &standings, Some(scale))?;
        }
        Ok(())
    }

    /// Builds every rig; one that can't be built is a problem of the report.
    fn build(&self, session: &mut Session, plan: Plan, those: Those) -> Result<Vec<Standing>> {
        let mut standings = Vec::new();
        for rig in &self.rigs {
            if those == Those::ThatPublish && !rig.publishes() {
                continue;
            }
            interrupt::check()?;
            match rig.build(plan) {
                Ok(standing) => standings.push(standing),
                Err(error) => {
                    session.problem(&[], rig.name(), &format!("can't be built: {error:#}"));
                }
            }
        }
        Ok(standings)
    }
}

fn program(arguments: &Arguments) -> Result<PathBuf> {
    if let Some(path) = &arguments.netd {
        return Ok(path.clone());
    }
    let own = std::env::current_exe().context("path of this program")?;
    Ok(own.with_file_name("netd"))
}
