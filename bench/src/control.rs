//! The control plane: operations of a running daemon, clocked at its API.

use std::ops::Range;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::engine::Engine;
use crate::interrupt;
use crate::memory;
use crate::results::{Case, Section};
use crate::rig::{DOCKER, Daemon, NETD, Netd, Site};
use crate::session::Session;
use crate::statistics::Better;
use crate::units::real;

/// Sizes of published ranges.
const RANGES: [u16; 5] = [1, 100, 1_000, 10_000, 50_000];

/// Most ports that an engine is asked to publish: each takes it tens of milliseconds.
const MOST_ENGINE_PORTS: u16 = 100;

/// First port of published ranges.
const FIRST_PORT: u16 = 10_000;

/// Ports that the memory of one is computed from.
const MANY_PORTS: u16 = 10_000;

/// Times that a daemon is asked for its metrics while its memory is watched.
const SCRAPES: u32 = 20;

const NETWORK: &str = "bench";

/// All operations. Memory is looked at on the way.
pub(crate) fn all(session: &mut Session, netd: &Netd) -> Result<()> {
    let engine = engine(session);
    let site = Site::build()?;
    let daemon = netd.daemon(&site.host)?;
    memory::resident(session, &daemon, "idle")?;
    memory::maps(session, &daemon)?;
    networks(session, &daemon, engine.as_ref())?;
    daemon.create_network(NETWORK, &[])?;
    port_memory(session, &daemon)?;
    ranges(session, &daemon, engine.as_ref())?;
    drop(daemon);
    crowded(session, netd, engine)?;
    starts(session, netd)
}

/// Endpoints in a daemon that has done nothing else, so that its memory is theirs.
fn crowded(session: &mut Session, netd: &Netd, engine: Option<Engine>) -> Result<()> {
    let site = Site::build()?;
    let daemon = netd.daemon(&site.host)?;
    daemon.create_network(NETWORK, &[])?;
    daemon.create_sandbox("first", NETWORK, (None, None), Vec::new())?;
    endpoints(session, &daemon, (1, engine.as_ref()))?;
    drop(engine);
    let present = session.effort.present;
    let before = real(daemon.memory_bytes("VmRSS:")?);
    populate(&daemon, present, |_| Vec::new())?;
    let after = memory::resident(session, &daemon, &format!("with {present} endpoints"))?;
    memory::each(session, "endpoint", (before, after), present);
    endpoints(session, &daemon, (u64::from(present), None))?;
    let when = format!("peak with {present} endpoints under scrape");
    memory::peak(session, &daemon, &when, || {
        (0..SCRAPES).try_for_each(|_| daemon.text("/metrics").map(|_| ()))
    })
}

/// Start with containers of five ports: with the kernel's side still there, and after a reboot.
fn starts(session: &mut Session, netd: &Netd) -> Result<()> {
    let site = Site::build()?;
    let mut daemon = netd.daemon(&site.host)?;
    daemon.create_network(NETWORK, &[])?;
    let found = session.effort.found;
    populate(&daemon, found, |number| {
        let first = u32::from(FIRST_PORT) + number * 5;
        vec![format!("{first}-{}:80-84", first + 4)]
    })?;
    daemon.stop()?;
    let start = Instant::now();
    daemon.start(netd, &site.host)?;
    single(session, &format!("start with {found} containers of 5 ports, kernel state kept"), start);
    daemon.stop()?;
    daemon.forget_kernel_state()?;
    let site = Site::build()?;
    let start = Instant::now();
    daemon.start(netd, &site.host)?;
    single(session, &format!("cold start with {found} containers of 5 ports"), start);
    Ok(())
}

fn networks(session: &mut Session, daemon: &Daemon, engine: Option<&Engine>) -> Result<()> {
    let netd = |number| {
        let name = format!("net{number}");
        let elapsed = clock(|| daemon.create_network(&name, &[]))?;
        daemon.delete(&format!("/v1/networks/{name}"))?;
        Ok(elapsed)
    };
    let docker = |engine: &Engine, number| {
        let name = format!("net{number}");
        let elapsed = clock(|| engine.create_network(&name, false))?;
        engine.remove_network(&name)?;
        Ok(elapsed)
    };
    let beside = engine.map(|engine| (session.effort.engine_operations, engine, docker));
    repeat(session, operation("network create"), netd, beside)
}

fn endpoints(
    session: &mut Session,
    daemon: &Daemon,
    (present, engine): (u64, Option<&Engine>),
) -> Result<()> {
    let case = operation("endpoint create and join").at(present);
    let netd = |number| {
        let name = format!("sandbox{number}");
        let elapsed = clock(|| daemon.create_sandbox(&name, NETWORK, (None, None), Vec::new()))?;
        daemon.delete(&format!("/v1/sandboxes/{name}"))?;
        Ok(elapsed)
    };
    let docker = |engine: &Engine, _| joined(engine, 0..0);
    let beside = engine.map(|engine| (session.effort.engine_operations, engine, docker));
    repeat(session, case, netd, beside)
}

/// A container with a range, and what that takes more than one without.
fn ranges(session: &mut Session, daemon: &Daemon, engine: Option<&Engine>) -> Result<()> {
    for count in RANGES {
        let case = operation("container with published ports").at(u64::from(count));
        let range = format!("{FIRST_PORT}-{}", u32::from(FIRST_PORT) + u32::from(count) - 1);
        let netd = |number| {
            let name = format!("ports{number}");
            let publish = vec![format!("{range}:{range}")];
            let elapsed = clock(|| daemon.create_sandbox(&name, NETWORK, (None, None), publish))?;
            daemon.delete(&format!("/v1/sandboxes/{name}"))?;
            Ok(elapsed)
        };
        let ports = move || FIRST_PORT..FIRST_PORT.saturating_add(count);
        let docker = move |engine: &Engine, _| joined(engine, ports());
        let times = session.effort.engine_operations;
        let engine = engine.filter(|_| count <= MOST_ENGINE_PORTS);
        repeat(session, case, netd, engine.map(|engine| (times, engine, docker)))?;
    }
    Ok(())
}

/// Milliseconds until an engine's running container has an endpoint with its ports published.
fn joined(engine: &Engine, ports: Range<u16>) -> Result<f64> {
    let container = engine.run(ports)?;
    let elapsed = clock(|| engine.connect(&container));
    engine.remove(&container)?;
    elapsed
}

fn populate(daemon: &Daemon, count: u32, publish: impl Fn(u32) -> Vec<String>) -> Result<()> {
    for number in 0..count {
        interrupt::check()?;
        daemon.create_sandbox(
            &format!("one-of-many-{number}"),
            NETWORK,
            (None, None),
            publish(number),
        )?;
    }
    Ok(())
}

/// What ports add to the daemon, seen on many.
fn port_memory(session: &mut Session, daemon: &Daemon) -> Result<()> {
    let before = real(daemon.memory_bytes("VmRSS:")?);
    let range = format!("{FIRST_PORT}-{}", FIRST_PORT + MANY_PORTS - 1);
    let publish = vec![format!("{range}:{range}")];
    daemon.create_sandbox("ports", NETWORK, (None, None), publish)?;
    let after = memory::resident(session, daemon, &format!("with {MANY_PORTS} ports"))?;
    memory::each(session, "published port", (before, after), MANY_PORTS.into());
    daemon.delete("/v1/sandboxes/ports")
}

fn single(session: &mut Session, title: &str, start: Instant) {
    let mut case = operation(title);
    let elapsed = start.elapsed().as_secs_f64() * 1e3;
    case.rigs.insert(NETD.to_owned(), [(0, elapsed)].into());
    session.finish(vec![case]);
}

fn operation(title: &str) -> Case {
    Case::new(Section::Control, "Operations of the daemon", title, "ms", Better::Lower)
}

/// Milliseconds.
fn clock(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// Measures an operation of the daemon and, where there is an engine, what the engine does for it, in
/// turn.
fn repeat(
    session: &mut Session,
    mut case: Case,
    mut netd: impl FnMut(u32) -> Result<f64>,
    mut beside: Option<(u32, &Engine, impl FnMut(&Engine, u32) -> Result<f64>)>,
) -> Result<()> {
    let title = case.title.clone();
    for number in 0..session.effort.operations {
        interrupt::check()?;
        let elapsed = netd(number).with_context(|| title.clone())?;
        case.rigs.entry(NETD.to_owned()).or_default().insert(number, elapsed);
        let Some((_, engine, docker)) = beside.as_mut().filter(|(times, ..)| number < *times)
        else {
            continue;
        };
        match docker(engine, number) {
            Ok(elapsed) => {
                case.rigs.entry(DOCKER.to_owned()).or_default().insert(number, elapsed);
            }
            Err(error) => {
                interrupt::check()?;
                session.problem(std::slice::from_ref(&case), DOCKER, &format!("{error:#}"));
                beside = None;
            }
        }
    }
    session.finish(vec![case]);
    Ok(())
}

/// Docker's engine, where there is one.
fn engine(session: &mut Session) -> Option<Engine> {
    match Engine::start() {
        Ok(engine) => Some(engine),
        Err(error) => {
            session.problem(&[], DOCKER, &format!("can't be started: {error:#}"));
            None
        }
    }
}
