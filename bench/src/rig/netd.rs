//! Our own rig: a daemon in a host of its own, told what to do through its API.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::path::{Path as FilePath, PathBuf};
use std::process::{Child, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netd_user::api;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bridged::{Site, routes};
use super::direct::prepare;
use super::{
    Endpoint, Family, Field, GATEWAY, GATEWAY_V6, HOST, HOST_PORT, HOST_V6, NETD, Path, Plan, Rig,
    SERVER_PORT, STRANGE_GATEWAY, STRANGER, Standing, endpoint_address, endpoint_address_v6,
};
use crate::corner::{Cgroup, Directory};
use crate::http::{self, Body};
use crate::interrupt;
use crate::namespace::Namespace;

/// Name of network 1.
const NETWORK_ONE: &str = "one";
/// Name of network 2.
const NETWORK_TWO: &str = "two";

/// Ports that masquerade may use. The default pool is smaller than the connections that a rig makes
/// to one server within the time that a closed one is remembered; the kernel's has 64 512.
const MASQUERADE_PORTS: &str = "1024-29999";

/// No request takes longer.
const LONGEST_REQUEST: Duration = Duration::from_mins(1);

/// How long a daemon may take to answer at all, and to stop.
const PATIENCE: Duration = Duration::from_secs(15);

/// netd.
#[derive(Clone, Debug)]
pub(crate) struct Netd {
    /// The program.
    pub(crate) program: PathBuf,
    /// Where its clients on the host run.
    pub(crate) cgroup: Rc<Cgroup>,
}

/// A running daemon with its own state, bpffs and cgroup.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    directory: Directory,
}

impl Rig for Netd {
    fn name(&self) -> &'static str {
        NETD
    }

    fn says(&self) -> &'static str {
        "netd: eBPF at tc and cgroup hooks, no netfilter, no bridge that forwards"
    }

    fn build(&self, plan: Plan) -> Result<Standing> {
        let Site { outside, host } = Site::build()?;
        let daemon = self.daemon(&host)?;
        let subnet = |subnet, gateway: &dyn std::fmt::Display| (subnet, gateway.to_string());
        let one = [subnet("172.30.0.0/16", &GATEWAY), subnet("fd30::/64", &GATEWAY_V6)];
        daemon.create_network(NETWORK_ONE, &one)?;
        let two = [subnet("172.31.0.0/16", &STRANGE_GATEWAY)];
        daemon.create_network(NETWORK_TWO, &two)?;
        let address = |number| (endpoint_address(number), Some(endpoint_address_v6(number)));
        let one = daemon.endpoint("one", NETWORK_ONE, address(1), published(plan))?;
        let two = daemon.endpoint("two", NETWORK_ONE, address(2), Vec::new())?;
        let stranger = daemon.endpoint("stranger", NETWORK_TWO, (STRANGER, None), Vec::new())?;
        for number in 3..=plan.endpoints {
            interrupt::check()?;
            daemon.create_sandbox(
                &format!("other{number}"),
                NETWORK_ONE,
                (None, None),
                Vec::new(),
            )?;
        }
        let gateway = daemon.get::<api::NetworkInspect>("/v1/networks/one")?.device;
        let published = SocketAddrV4::new(HOST, HOST_PORT);
        let field = Field {
            outside,
            host,
            one,
            two,
            stranger,
            gateway,
            published,
            published_v6: HOST_V6,
            isolates: true,
        };
        let mut routes = routes(&field);
        for family in Family::ALL {
            if let Some(route) = routes.get_mut(&(Path::HostToPublished, family)) {
                route.cgroup = Some(self.cgroup.clients());
            }
        }
        Ok(Standing { rig: NETD, routes, field: Some(field), _held: Some(Box::new(daemon)) })
    }
}

impl Netd {
    /// Starts a daemon in a host and waits until it answers.
    pub(crate) fn daemon(&self, host: &Namespace) -> Result<Daemon> {
        let directory = Directory::create()?;
        let config = configuration(directory.path(), &self.cgroup.clients());
        fs::write(directory.path().join("netd.toml"), config)?;
        let child = spawn(&self.program, host, directory.path())?;
        let mut daemon = Daemon { child, directory };
        daemon.wait_until_ready()?;
        Ok(daemon)
    }
}

impl Daemon {
    /// Creates a network, from a default pool unless subnets and gateways are given.
    pub(crate) fn create_network(&self, name: &str, subnets: &[(&str, String)]) -> Result<()> {
        let config = subnets.iter().map(|(subnet, gateway)| api::IpamConfig {
            subnet: (*subnet).to_owned(),
            gateway: Some(gateway.clone()),
            ..api::IpamConfig::default()
        });
        let body = api::NetworkCreate {
            name: name.to_owned(),
            enable_ipv6: (subnets.len() > 1).then_some(true),
            ipam: api::Ipam { config: config.collect(), ..api::Ipam::default() },
            ..api::NetworkCreate::default()
        };
        self.post::<api::Created>("/v1/networks", &body).map(|_| ())
    }

    /// Creates a sandbox on a network, its ports published.
    pub(crate) fn create_sandbox(
        &self,
        name: &str,
        network: &str,
        (ipv4_address, ipv6_address): (Option<String>, Option<String>),
        publish: Vec<String>,
    ) -> Result<()> {
        let endpoint_config =
            api::EndpointConfig { ipv4_address, ipv6_address, ..api::EndpointConfig::default() };
        let body = api::SandboxCreate {
            name: Some(name.to_owned()),
            networks: vec![api::SandboxNetwork { network: network.to_owned(), endpoint_config }],
            publish,
            ..api::SandboxCreate::default()
        };
        self.post::<api::Created>("/v1/sandboxes", &body).map(|_| ())
    }

    /// Creates a sandbox that asks this server for names that netd does not know; its namespace.
    pub(crate) fn create_asker(
        &self,
        name: &str,
        network: &str,
        server: IpAddr,
    ) -> Result<PathBuf> {
        let endpoint_config = api::EndpointConfig::default();
        let body = api::SandboxCreate {
            name: Some(name.to_owned()),
            networks: vec![api::SandboxNetwork { network: network.to_owned(), endpoint_config }],
            dns: vec![server.to_string()],
            ..api::SandboxCreate::default()
        };
        self.post::<api::Created>("/v1/sandboxes", &body)?;
        let sandbox: api::SandboxInspect = self.get(&format!("/v1/sandboxes/{name}"))?;
        Ok(sandbox.netns.into())
    }

    /// Removes what a path names.
    pub(crate) fn delete(&self, path: &str) -> Result<()> {
        self.request("DELETE", path, "").map(|_| ())
    }

    /// Asks for a JSON body.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        serde_json::from_str(&self.request("GET", path, "")?).with_context(|| path.to_owned())
    }

    /// Asks for text.
    pub(crate) fn text(&self, path: &str) -> Result<String> {
        self.request("GET", path, "")
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A line of the process's memory in `/proc`, bytes.
    pub(crate) fn memory_bytes(&self, line: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let found = status.lines().find_map(|text| text.strip_prefix(line));
        let kibibytes = found.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kibibytes.map(|size| size * 1024).with_context(|| format!("no {line}"))
    }

    /// Makes its peak of resident memory begin anew.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        fs::write(&path, "5").with_context(|| path.clone())
    }

    /// Its bpffs.
    pub(crate) fn bpffs(&self) -> PathBuf {
        self.directory.path().join("bpf")
    }

    fn endpoint(
        &self,
        name: &str,
        network: &str,
        (address, address_v6): (Ipv4Addr, Option<Ipv6Addr>),
        publish: Vec<String>,
    ) -> Result<Endpoint> {
        let asked = (Some(address.to_string()), address_v6.map(|address| address.to_string()));
        self.create_sandbox(name, network, asked, publish)?;
        let sandbox: api::SandboxInspect = self.get(&format!("/v1/sandboxes/{name}"))?;
        let endpoint = sandbox.networks.get(network).context("the endpoint is not there")?;
        let namespace = Namespace::open(FilePath::new(&sandbox.netns))?;
        prepare(&namespace)?;
        Ok(Endpoint { namespace, address, address_v6, host_link: endpoint.veth.clone() })
    }

    fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let answer = self.request("POST", path, &serde_json::to_string(body)?)?;
        serde_json::from_str(&answer).with_context(|| path.to_owned())
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Result<String> {
        self.request_within(LONGEST_REQUEST, method, path, body)
    }

    fn request_within(
        &self,
        patience: Duration,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<String> {
        let socket = self.directory.path().join("run/netd.sock");
        http::request(&socket, patience, (method, path), Body::Json(body))
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        while self.request_within(Duration::from_secs(1), "GET", "/readyz", "").is_err() {
            interrupt::check()?;
            if let Some(status) = self.child.try_wait()? {
                bail!("the daemon ended with {status}: {}", self.directory.log_tail());
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "the daemon is not ready: {}",
                self.directory.log_tail()
            );
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Starts it again, in a host that may be another.
    pub(crate) fn start(&mut self, netd: &Netd, host: &Namespace) -> Result<()> {
        self.child = spawn(&netd.program, host, self.directory.path())?;
        self.wait_until_ready()
    }

    /// Leaves the stopped daemon its state alone, as a reboot does.
    pub(crate) fn forget_kernel_state(&self) -> Result<()> {
        self.directory.unmount();
        let namespaces = self.directory.path().join("netns");
        fs::remove_dir_all(&namespaces).with_context(|| namespaces.display().to_string())?;
        self.directory.mount_bpffs()
    }

    /// Stops it; its state and what it made in the kernel stay.
    pub(crate) fn stop(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, Signal::SIGTERM).context("stopping the daemon")?;
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > PATIENCE {
                self.child.kill().context("killing the daemon")?;
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{error:#}");
        }
    }
}

/// The daemon in its host, with its directory and its log there.
fn spawn(program: &FilePath, host: &Namespace, directory: &FilePath) -> Result<Child> {
    let log = fs::File::create(directory.join("log")).context("log of the daemon")?;
    host.command(program)
        .args(["daemon", "--config"])
        .arg(directory.join("netd.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))
}

fn configuration(directory: &FilePath, cgroup: &FilePath) -> String {
    let directory = directory.display();
    format!(
        "state-dir = \"{directory}/state\"\nrun-dir = \"{directory}/run\"\n\
         netns-dir = \"{directory}/netns\"\nbpffs-dir = \"{directory}/bpf\"\n\
         docker-socket = \"{directory}/docker.sock\"\n\
         cgroup = \"{}\"\nmetrics-addr = \"off\"\nsnat-ports = \"{MASQUERADE_PORTS}\"\n",
        cgroup.display()
    )
}

fn published(plan: Plan) -> Vec<String> {
    let fillers = plan.filler_ports();
    let range = match fillers.len() {
        0 => None,
        _ => {
            Some(format!("{0}-{1}:{0}-{1}/{2}", fillers.start, fillers.end - 1, plan.filler.name()))
        }
    };
    let measured = ["tcp", "udp"].map(|transport| format!("{HOST_PORT}:{SERVER_PORT}/{transport}"));
    range.into_iter().chain(measured).collect()
}
