//! Starts and ends of netd and of the engine in every order, and the ways in which the engine finds
//! the driver.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netd_tests::container::Transport;
use netd_tests::eventually;

use super::case::{Case, PORT, Running, reaches};
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
    case.network("app", &["--subnet", "10.51.0.0/24"])?;
    let web = case.run("web", "app", &["-p", "8080:7000"])?;
    let target = SocketAddr::new(case.uplinks()[0], 8080);
    let mut connection = Conversation::open(case, &web, target)?;
    connection.exchange(b"before")?;
    case.rig.stop_engine()?;
    connection.exchange(b"while it is away")?;
    case.rig.start_engine_with(&["--live-restore"])?;
    connection.exchange(b"after")?;
    let running = case.ok(&["inspect", "-f", "{{.State.Running}}", "web"])?;
    ensure!(running == "true", "{running}");
    drop(connection);
    case.ok(&["rm", "-f", "web"])?;
    case.rig.host.netns().run(|| Ok(TcpListener::bind("0.0.0.0:8080").map(drop)?))?;
    let endpoints = case.rig.daemon().ok(&["status", "--format", "{{.Endpoints}}"])?;
    ensure!(endpoints == "0", "{endpoints} endpoints are left");
    case.rig.stop_engine()?;
    case.rig.start_engine()
}

/// A connection whose server sends back what it hears.
struct Conversation {
    client: TcpStream,
    server: Option<thread::JoinHandle<()>>,
}

impl Conversation {
    fn open(case: &Case<'_, '_>, web: &Running, target: SocketAddr) -> Result<Self> {
        let listener = web.netns.run(|| Ok(TcpListener::bind(("0.0.0.0", PORT))?))?;
        let server = thread::spawn(move || {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let mut heard = [0; 64];
            while let Ok(len @ 1..) = stream.read(&mut heard) {
                if stream.write_all(&heard[..len]).is_err() {
                    return;
                }
            }
        });
        let patience = Duration::from_secs(10);
        let client = case
            .rig
            .outside
            .netns()
            .run(|| TcpStream::connect_timeout(&target, patience).context("connecting"))?;
        client.set_read_timeout(Some(patience))?;
        Ok(Self { client, server: Some(server) })
    }

    fn exchange(&mut self, words: &[u8]) -> Result<()> {
        let when = || String::from_utf8_lossy(words).into_owned();
        self.client.write_all(words).with_context(when)?;
        let mut heard = vec![0; words.len()];
        self.client.read_exact(&mut heard).with_context(when)?;
        ensure!(heard == words, "{}", when());
        Ok(())
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // The server ends with the connection; one that has panicked was printed.
        let _closed = self.client.shutdown(std::net::Shutdown::Both);
        let _printed = self.server.take().map(thread::JoinHandle::join);
    }
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
