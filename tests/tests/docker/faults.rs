//! Calls that fail, break off or are answered wrongly: the engine's command fails in clear words, nothing
//! is left, and the next one works.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use netd_tests::meddler::{Meddler, Meddling};

use super::case::Case;
use super::{Scenario, netd};

pub(super) const SCENARIOS: &[Scenario] = &[
    netd("A11 an answer that the engine refuses is rolled back", foreign_address),
    netd("A15 a container whose network fails at any step leaves nothing", failing_steps),
    netd("A34 a call that breaks off fails, leaves nothing, and the next one works", broken_off),
];

/// Effects of netd's on the kernel that fail, counted from where it serves: a start takes some twenty.
const STEPS: [usize; 8] = [1, 2, 3, 5, 8, 12, 16, 20];

const CREATE: &str = "NetworkDriver.CreateEndpoint";

/// How many there were.
static MEDDLERS: AtomicUsize = AtomicUsize::new(0);

fn foreign_address(case: &Case<'_, '_>) -> Result<()> {
    let answer = r#"{"Interface":{"Address":"203.0.113.9/24"}}"#;
    let said = meddled(case, CREATE, Meddling::Answer(answer))?;
    ensure!(said.contains("driver modified interface address"), "{said}");
    Ok(())
}

fn broken_off(case: &Case<'_, '_>) -> Result<()> {
    for method in [CREATE, "NetworkDriver.Join"] {
        for meddling in [Meddling::Lose, Meddling::LoseAnswer] {
            let said = meddled(case, method, meddling)?;
            ensure!(said.contains(method), "{method} {meddling:?}: {said}");
        }
    }
    Ok(())
}

/// What a start says whose call is meddled with. The next one works, and both leave nothing.
fn meddled(case: &Case<'_, '_>, method: &'static str, meddling: Meddling) -> Result<String> {
    let plugin = case.rig.daemon().places().plugin_socket();
    // The engine keeps connections to a driver that it has once met.
    let driver = format!("odd{}", MEDDLERS.fetch_add(1, Ordering::Relaxed));
    let socket = plugin.with_file_name(format!("{driver}.sock"));
    let meddler = Meddler::start(&socket, &plugin, method, meddling)?;
    let create = ["network", "create", "-d", &driver, "--ipam-driver", &driver];
    case.ok(&[&create[..], &["--subnet", "10.51.0.0/24", "odd"]].concat())?;
    let start = Case::start("web", &["--network", "odd", "--ip", "10.51.0.7", "-p", "8080:7000"]);
    let said = case.refused(&start)?;
    ensure!(meddler.calls() > 0, "{method} was not called: {said}");
    case.ok(&["rm", "-f", "web"])?;
    nothing_left(case).context(said.clone())?;
    case.ok(&start)?;
    case.ok(&["rm", "-f", "web"])?;
    nothing_left(case)?;
    case.ok(&["network", "rm", "odd"])?;
    Ok(said)
}

/// Where netd's own background work met the failure, the start succeeds.
fn failing_steps(case: &Case<'_, '_>) -> Result<()> {
    case.network("app", &["--subnet", "10.51.0.0/24"])?;
    let start = Case::start("web", &["--network", "app", "--ip", "10.51.0.7", "-p", "8080:7000"]);
    let mut heard = Vec::new();
    for step in STEPS {
        case.rig.crash_daemon()?;
        case.rig.start_daemon_in(&[&format!("NETD_FAULT={step}")])?;
        let said = case.docker(&start)?;
        if said.code != Some(0) {
            ensure!(said.code == Some(125), "{said:?}");
            heard.push(said.stderr.clone());
        }
        case.ok(&["rm", "-f", "web"])?;
        nothing_left(case).with_context(|| format!("step {step}: {}", said.stderr))?;
    }
    case.rig.crash_daemon()?;
    case.rig.start_daemon()?;
    ensure!(heard.iter().any(|it| it.contains("was taken back")), "{heard:#?}");
    case.ok(&start).map(drop)
}

/// No endpoint, no sandbox, no link of one, no port.
pub(super) fn nothing_left(case: &Case<'_, '_>) -> Result<()> {
    let daemon = case.rig.daemon();
    let counted = daemon.ok(&["status", "--format", "{{.Endpoints}} {{.Sandboxes}}"])?;
    ensure!(counted == "0 0", "endpoints and sandboxes: {counted}");
    let links = case.rig.host.exec("ip", &["-o", "link", "show", "type", "veth"])?;
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    let ours = links.lines().filter(|line| !line.contains("eth0")).count();
    ensure!(ours == 0, "{links}");
    case.rig.host.netns().run(|| Ok(std::net::TcpListener::bind("0.0.0.0:8080").map(drop)?))
}
