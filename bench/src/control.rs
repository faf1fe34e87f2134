//! The control plane: operations of a running daemon, clocked at its API.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::interrupt;
use crate::results::{Case, Section};
use crate::rig::{Daemon, NETD, Netd, Site};
use crate::session::Session;
use crate::statistics::Better;
use crate::units::real;

/// Sizes of published ranges.
const RANGES: [u16; 4] = [1, 1_000, 10_000, 50_000];

/// First port of published ranges.
const FIRST_PORT: u16 = 10_000;

const NETWORK: &str = "bench";

/// All operations. Memory is looked at on the way.
pub(crate) fn all(session: &mut Session, netd: &Netd) -> Result<()> {
    let site = Site::build()?;
    let daemon = netd.daemon(&site.host)?;
    memory(session, &daemon, "idle")?;
    networks(session, &daemon)?;
    daemon.create_network(NETWORK, None)?;
    ranges(session, &daemon)?;
    daemon.create_sandbox("first", NETWORK, None, Vec::new())?;
    endpoints(session, &daemon, 1)?;
    let present = session.effort.present;
    populate(&daemon, present, |_| Vec::new())?;
    endpoints(session, &daemon, u64::from(present))?;
    memory(session, &daemon, &format!("with {present} endpoints"))?;
    for _ in 0..20 {
        daemon.text("/metrics")?;
    }
    memory(session, &daemon, &format!("with {present} endpoints, after 20 scrapes"))?;
    drop(daemon);
    starts(session, netd)
}

/// Start with containers of five ports: with the kernel's side still there, and after a reboot.
fn starts(session: &mut Session, netd: &Netd) -> Result<()> {
    let site = Site::build()?;
    let mut daemon = netd.daemon(&site.host)?;
    daemon.create_network(NETWORK, None)?;
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

fn networks(session: &mut Session, daemon: &Daemon) -> Result<()> {
    repeat(session, operation("network create"), |number| {
        let name = format!("net{number}");
        let elapsed = clock(|| daemon.create_network(&name, None))?;
        daemon.delete(&format!("/v1/networks/{name}"))?;
        Ok(elapsed)
    })
}

fn endpoints(session: &mut Session, daemon: &Daemon, present: u64) -> Result<()> {
    let case = operation("endpoint create and join").at(present);
    repeat(session, case, |number| {
        let name = format!("sandbox{number}");
        let elapsed = clock(|| daemon.create_sandbox(&name, NETWORK, None, Vec::new()))?;
        daemon.delete(&format!("/v1/sandboxes/{name}"))?;
        Ok(elapsed)
    })
}

/// A container with a range, and what that takes more than one without.
fn ranges(session: &mut Session, daemon: &Daemon) -> Result<()> {
    for count in RANGES {
        let case = operation("container with published ports").at(u64::from(count));
        let range = format!("{FIRST_PORT}-{}", u32::from(FIRST_PORT) + u32::from(count) - 1);
        repeat(session, case, |number| {
            let name = format!("ports{number}");
            let publish = vec![format!("{range}:{range}")];
            let elapsed = clock(|| daemon.create_sandbox(&name, NETWORK, None, publish))?;
            daemon.delete(&format!("/v1/sandboxes/{name}"))?;
            Ok(elapsed)
        })?;
    }
    Ok(())
}

fn populate(daemon: &Daemon, count: u32, publish: impl Fn(u32) -> Vec<String>) -> Result<()> {
    for number in 0..count {
        interrupt::check()?;
        daemon.create_sandbox(&format!("one-of-many-{number}"), NETWORK, None, publish(number))?;
    }
    Ok(())
}

fn memory(session: &mut Session, daemon: &Daemon, when: &str) -> Result<()> {
    let mut case = Case::new(Section::Resources, "Daemon RSS", when, "MiB", Better::Lower);
    let size = real(daemon.resident_bytes()?) / 1_048_576.0;
    case.rigs.insert(NETD.to_owned(), [(0, size)].into());
    session.finish(vec![case]);
    Ok(())
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

fn repeat(
    session: &mut Session,
    mut case: Case,
    mut once: impl FnMut(u32) -> Result<f64>,
) -> Result<()> {
    let title = case.title.clone();
    let rounds = case.rigs.entry(NETD.to_owned()).or_default();
    for number in 0..session.effort.operations {
        interrupt::check()?;
        rounds.insert(number, once(number).with_context(|| title.clone())?);
    }
    session.finish(vec![case]);
    Ok(())
}
