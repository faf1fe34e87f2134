//! Docker's engine with its bridge driver, asked for what the daemon is asked for.
//!
//! Law: it and all that it starts live in a network namespace, a process namespace, a directory and a
//! control group of their own, and end with it.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::corner::{self, Directory};
use crate::http::{self, Body};
use crate::interrupt;
use crate::namespace::Namespace;
use crate::rig::Site;

/// What the report says of it.
pub(crate) const SAYS: &str =
    "Docker's engine, bridge driver: `network connect` of a running container, with docker-proxy";

/// The network that containers wait on: internal, so that it opens no ports.
const WAITING: &str = "waiting";
/// The network that is connected to.
const NETWORK: &str = "bench";
const IMAGE: &str = "netd-bench";

/// The kernel moves rules in and out one by one: a hundred ports take more than a second.
const LONGEST_REQUEST: Duration = Duration::from_mins(10);
/// How long it may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running engine.
#[derive(Debug)]
pub(crate) struct Engine {
    child: Child,
    group: String,
    directory: Directory,
    site: Site,
}

impl Engine {
    /// Starts one with two networks and an image.
    pub(crate) fn start() -> Result<Self> {
        let site = Site::build()?;
        let directory = Directory::create()?;
        let group = corner::group_name("docker");
        let child = spawn(&site.host, &directory, &group)?;
        let mut engine = Self { child, group, directory, site };
        engine.wait_until_ready()?;
        engine.import_image()?;
        engine.create_network(WAITING, true)?;
        engine.create_network(NETWORK, false)?;
        Ok(engine)
    }

    /// Creates a network.
    pub(crate) fn create_network(&self, name: &str, internal: bool) -> Result<()> {
        self.post("/networks/create", &json!({"Name": name, "Internal": internal})).map(drop)
    }

    /// Removes a network.
    pub(crate) fn remove_network(&self, name: &str) -> Result<()> {
        self.ask(("DELETE", &format!("/networks/{name}")), Body::Json("")).map(drop)
    }

    /// Runs a container that publishes nothing until it is connected; its id. The engine names it: a
    /// name could still be that of one whose end has failed.
    pub(crate) fn run(&self, ports: impl Iterator<Item = u16>) -> Result<String> {
        let binding = |port: u16| (format!("{port}/tcp"), json!([{"HostPort": port.to_string()}]));
        let bindings: serde_json::Map<String, Value> = ports.map(binding).collect();
        let exposed = bindings.keys().map(|port| (port.clone(), json!({})));
        let exposed: serde_json::Map<String, Value> = exposed.collect();
        let body = json!({
            "Image": IMAGE,
            "Cmd": ["/bin/busybox", "sleep", "3600"],
            "ExposedPorts": exposed,
            "HostConfig": {"NetworkMode": WAITING, "PortBindings": bindings},
        });
        let created: Value = serde_json::from_str(&self.post("/containers/create", &body)?)?;
        let id = created["Id"].as_str().context("a container without an id")?.to_owned();
        self.post(&format!("/containers/{id}/start"), &json!({}))?;
        Ok(id)
    }

    /// Runs a container that asks this server for names that the engine does not know.
    pub(crate) fn run_asking(&self, name: &str, server: IpAddr) -> Result<()> {
        let body = json!({
            "Image": IMAGE,
            "Cmd": ["/bin/busybox", "sleep", "3600"],
            "HostConfig": {"NetworkMode": WAITING, "Dns": [server.to_string()]},
        });
        self.post(&format!("/containers/create?name={name}"), &body)?;
        self.post(&format!("/containers/{name}/start"), &json!({})).map(drop)
    }

    /// A running container's namespace, which is mounted where the engine alone sees it.
    pub(crate) fn namespace_of(&self, name: &str) -> Result<Namespace> {
        let described = self.ask(("GET", &format!("/containers/{name}/json")), Body::Json(""))?;
        let described: Value = serde_json::from_str(&described).context("a container in JSON")?;
        let key = described["NetworkSettings"]["SandboxKey"].as_str().unwrap_or_default();
        let engine = self.pid()?;
        Namespace::open(&PathBuf::from(format!("/proc/{engine}/root{key}")))
    }

    /// The machine outside.
    pub(crate) fn outside(&self) -> &Namespace {
        &self.site.outside
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Result<u32> {
        let pid = self.first_process()?.context("the engine has ended")?;
        Ok(u32::try_from(pid)?)
    }

    /// The engine, which is the only child of its process namespace's maker.
    fn first_process(&self) -> Result<Option<i32>> {
        let maker = self.child.id();
        let children = fs::read_to_string(format!("/proc/{maker}/task/{maker}/children"))?;
        Ok(children.split_whitespace().next().map(str::parse).transpose()?)
    }

    /// Makes a container's endpoint on the network, with its published ports.
    pub(crate) fn connect(&self, name: &str) -> Result<()> {
        self.post(&format!("/networks/{NETWORK}/connect"), &json!({"Container": name})).map(drop)
    }

    /// Ends a container.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let path = format!("/containers/{name}?force=1");
        self.ask(("DELETE", &path), Body::Json("")).map(drop)
    }

    fn post(&self, path: &str, body: &Value) -> Result<String> {
        self.ask(("POST", path), Body::Json(&body.to_string()))
    }

    fn ask(&self, request: (&str, &str), body: Body<'_>) -> Result<String> {
        http::request(&self.directory.path().join("docker.sock"), LONGEST_REQUEST, request, body)
    }

    /// An image with one program, which needs no library.
    fn import_image(&self) -> Result<()> {
        let root = self.directory.path().join("image");
        fs::create_dir_all(root.join("bin"))?;
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
        let busybox = busybox.iter().find(|path| path.exists());
        let busybox = busybox.context("no busybox: install busybox-static")?;
        fs::copy(busybox, root.join("bin/busybox")).context("copying busybox")?;
        let packed = Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).output();
        let packed = packed.context("running tar")?;
        ensure!(packed.status.success(), "tar: {}", String::from_utf8_lossy(&packed.stderr));
        let path = format!("/images/create?fromSrc=-&repo={IMAGE}&tag=latest");
        self.ask(("POST", &path), Body::Tar(&packed.stdout)).map(drop)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        while self.ask(("GET", "/_ping"), Body::Json("")).is_err() {
            interrupt::check()?;
            if let Some(status) = self.child.try_wait()? {
                bail!("the engine ended with {status}: {}", self.directory.log_tail());
            }
            let tail = || self.directory.log_tail();
            ensure!(start.elapsed() < PATIENCE, "the engine is not ready: {}", tail());
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Asks the engine to end.
    fn stop(&mut self) -> Result<()> {
        if let Some(engine) = self.first_process()? {
            kill(Pid::from_raw(engine), Signal::SIGTERM).context("stopping the engine")?;
        }
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > PATIENCE {
                self.child.kill().context("killing the engine")?;
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{error:#}");
        }
        corner::remove_groups(&self.group);
    }
}

/// The engine as first process of a namespace: with it, all that it started ends.
fn spawn(host: &Namespace, directory: &Directory, group: &str) -> Result<Child> {
    let at = |name: &str| directory.path().join(name);
    let log = fs::File::create(at("log")).context("log of the engine")?;
    let mut command = host.command("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--", "dockerd"]);
    for (option, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
        command.arg(option).arg(at(name));
    }
    command.arg("--host").arg(format!("unix://{}", at("docker.sock").display()));
    command.args(["--cgroup-parent", group]);
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting dockerd in a process namespace")
}
