//! What netd promises, told as scenarios with real processes, sockets and packets: each on IPv4 and
//! IPv6, over TCP and UDP where ports are involved. The names of the tests are the contract.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a scenario that can't go on has failed"
)]

mod activation;
mod bad_input;
mod cold_start;
mod drift;
mod egress;
mod errors;
mod files;
mod flood;
mod footprint;
mod forwarding;
mod fragments;
mod gateway_modes;
mod host;
mod hostile;
mod isolation;
mod kernels;
mod killed;
mod l3_uplink;
mod life;
mod limits;
mod loopback;
mod names;
mod offload;
mod paths;
mod publish;
mod reboot;
mod recreated;
mod resolver;
mod restart;
mod seen;
mod segment;
mod settings;
mod signals;
mod soak;
mod store;
mod switch;
mod topology;
mod trunk;
mod uninstall;
mod verbs;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Child;

use netd_tests::container::Transport;
use netd_tests::{Container, Daemon, Host, Lab, Netns, Outside};

/// One host with an uplink and a router behind it.
struct World {
    outside: Outside,
    host: Host,
}

impl World {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let outside = lab.outside().unwrap();
        let host = lab.host(&outside).unwrap();
        Self { outside, host }
    }

    fn daemon(&self) -> Daemon<'_> {
        Daemon::start(&self.host, "").unwrap()
    }

    /// The host's addresses on its uplink.
    fn uplink(&self) -> [IpAddr; 2] {
        [self.host.v4().into(), self.host.v6().into()]
    }
}

/// What `netd monitor` says from now on.
struct Monitor {
    program: Child,
    log: PathBuf,
}

impl Monitor {
    fn start(world: &World, daemon: &Daemon<'_>) -> Self {
        let log = world.host.directory().join("monitor.log");
        let netd = netd_tests::process::built("netd").unwrap();
        let socket = daemon.places().socket();
        let arguments = ["-H", &socket.to_string_lossy(), "monitor", "--format", "json"];
        let program = world.host.spawn(&netd, &arguments, &log).unwrap();
        Self { program, log }
    }

    /// The events so far that have a word in them.
    fn told(&self, word: &str) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let lines = whole.filter(|line| line.contains(word));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ended = self.program.kill();
        let _ended = self.program.wait();
    }
}

/// A dual-stack network of this name.
fn network(daemon: &Daemon<'_>, name: &str, arguments: &[&str]) {
    let all = [&["network", "create", "--ipv6"], arguments, &[name]].concat();
    daemon.ok(&all).unwrap();
}

/// A container on one network; further arguments as of `netd sandbox create`.
fn container(daemon: &Daemon<'_>, name: &str, network: &str, arguments: &[&str]) -> Container {
    Container::create(daemon, name, &[&["--network", network], arguments].concat()).unwrap()
}

fn is_reached(from: &Netns, target: SocketAddr, transport: Transport) -> bool {
    transport.ask(from, target).is_ok()
}

/// Whether an address answers one echo request from a namespace.
fn pings(from: &Netns, target: IpAddr) -> bool {
    let target = target.to_string();
    let ping = || netd_tests::process::run("ping", &["-n", "-q", "-c", "1", "-W", "2", &target]);
    from.run(ping).is_ok()
}

/// How often something has happened in the flow table.
fn flow_stat(daemon: &Daemon<'_>, name: &str) -> u64 {
    let status: serde_json::Value =
        serde_json::from_str(&daemon.ok(&["status", "--format", "json"]).unwrap()).unwrap();
    status["Flows"][name].as_u64().unwrap_or_else(|| panic!("status knows no {name}: {status}"))
}

/// How often a reason has been counted on the whole host.
fn drops(daemon: &Daemon<'_>, reason: &str) -> u64 {
    let status: serde_json::Value =
        serde_json::from_str(&daemon.ok(&["status", "--format", "json"]).unwrap()).unwrap();
    status["Drops"][reason].as_u64().unwrap_or(0)
}
