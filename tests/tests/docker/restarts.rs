//! Starts and ends of netd and of the engine in every order, and the ways in which the engine finds
//! the driver.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netd_tests::container::Transport;
use netd_tests::eventually;

use super::case::{Case, PORT, reaches};
use super::connection::Connection;
use super::faults::nothing_left;
use super::{Scenario, netd};

pub(super) const SCENARIOS: &[Scenario] = &[
    netd("A28 a connection through a published port outlives the engine's restart", live_restore),
    netd("A29 A36 the engine boots without netd, which arrives later and knows its pools", late),
    netd("a container that was removed while netd was down leaves nothing", removed_meanwhile),
    netd("A30 the engine finds the driver by a spec and by a json file", discovery),
];

const COMES_BACK_WITHIN: Duration = Duration::from_mins(1);

fn live_restore(case: &Case<'_, '_>) -> Result<()> {
    case.rig.stop_engine()?;
    case.rig.start_engine_with(&["--live-restore"])?;
    case.dual("app", 51)?;
    let web = case.run("web", "app", &["-p", "8080:7000"])?;
    let mut open = Vec::new();
    for target in case.published(8080) {
        open.push(Connection::open(case.rig.outside.netns(), target, &web.netns)?);
    }
    let talk = || open.iter().try_for_each(Connection::talk);
    talk().context("before")?;
    case.rig.stop_engine()?;
    talk().context("while it is away")?;
    case.rig.start_engine_with(&["--live-restore"])?;
    talk().context("after")?;
    let running = case.ok(&["inspect", "-f", "{{.State.Running}}", "web"])?;
    ensure!(running == "true", "{running}");
    case.ok(&["rm", "-f", "web"])?;
    case.rig.host.netns().run(|| Ok(TcpListener::bind("[::]:8080").map(drop)?))?;
    let endpoints = case.rig.daemon().ok(&["status", "--format", "{{.Endpoints}}"])?;
    ensure!(endpoints == "0", "{endpoints} endpoints are left");
    case.rig.stop_engine()?;
    case.rig.start_engine()
}

/// One network with the engine's own addresses, one with netd's, whose pools the engine tells of once,
/// at a start that netd does not see.
fn late(case: &Case<'_, '_>) -> Result<()> {
    case.ok(&["network", "create", "-d", "netd", "--subnet", "10.52.0.0/24", "theirs"])?;
    case.network("ours", &["--subnet", "10.51.0.0/24"])?;
    case.run("first", "ours", &[])?;
    case.ok(&["stop", "first"])?;
    case.rig.stop_engine()?;
    case.rig.crash_daemon()?;
    case.rig.start_engine()?;
    case.rig.start_daemon()?;
    for network in ["ours", "theirs"] {
        // The engine tries a plugin that it has missed again when it is asked to.
        let start = Case::start(network, &["--network", network, "-p", "7000"]);
        eventually("the first container", COMES_BACK_WITHIN, || {
            let said = case.docker(&start)?;
            if said.code != Some(0) {
                case.docker(&["rm", "-f", network])?;
            }
            Ok((said.code == Some(0)).then_some(()))
        })?;
    }
    case.ok(&["start", "first"])?;
    let first = case.running("first")?;
    let _servers = first.serve()?;
    let target = SocketAddr::new(case.address("first", "ours", false)?, PORT);
    reaches(&case.running("ours")?.netns, target)
}

/// With the engine's own IPAM an engine that was killed makes no call about its dead containers, and
/// one that finds no driver gives its calls up.
fn removed_meanwhile(case: &Case<'_, '_>) -> Result<()> {
    case.ok(&["network", "create", "-d", "netd", "--subnet", "10.51.0.0/24", "app"])?;
    case.run("web", "app", &["--ip", "10.51.0.77", "-p", "8080:7000"])?;
    case.rig.crash_daemon()?;
    case.rig.crash_engine()?;
    case.rig.start_engine()?;
    case.ok(&["rm", "-f", "web"])?;
    case.rig.start_daemon()?;
    eventually("the end of what was removed", COMES_BACK_WITHIN, || Ok(nothing_left(case).ok()))?;
    // Its address and port are anybody's, at once.
    case.run("later", "app", &["--ip", "10.51.0.77", "-p", "8080:7000"]).map(drop)
}

fn discovery(case: &Case<'_, '_>) -> Result<()> {
    let socket = format!("unix://{}", case.rig.daemon().places().plugin_socket().display());
    let files = case.rig.engine().discovery();
    fs::write(files.join("speced.spec"), &socket)?;
    let json = serde_json::json!({"Name": "jsoned", "Addr": socket});
    fs::write(files.join("jsoned.json"), json.to_string())?;
    for (driver, subnet) in [("speced", "10.51.0.0/24"), ("jsoned", "10.52.0.0/24")] {
        let create = ["network", "create", "-d", driver, "--ipam-driver", driver];
        case.ok(&[&create[..], &["--subnet", subnet, driver]].concat())?;
        let web = case.run(&format!("web-{driver}"), driver, &["-p", "8080:7000"])?;
        let _servers = web.serve()?;
        let target = SocketAddr::new(case.uplinks()[0], 8080);
        Transport::Tcp.ask(case.rig.outside.netns(), target)?;
        case.ok(&["rm", "-f", &web.name])?;
        case.ok(&["network", "rm", driver])?;
    }
    fs::remove_file(files.join("speced.spec"))?;
    Ok(fs::remove_file(files.join("jsoned.json"))?)
}
