//! Signals, and what the service manager hears: a real socket as systemd's.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use netd_tests::{Daemon, eventually};
use nix::sys::signal::{Signal, kill};

use super::{World, container, network};

const HEARD_WITHIN: Duration = Duration::from_mins(1);

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
    path: String,
}

impl Manager {
    fn listen(world: &World) -> Self {
        let path = world.host.directory().join("notify").to_string_lossy().into_owned();
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(HEARD_WITHIN)).unwrap();
        Self { socket, path }
    }

    fn start<'a>(&self, world: &'a World, further: &[&str]) -> Daemon<'a> {
        let socket = format!("NOTIFY_SOCKET={}", self.path);
        Daemon::start_in(&world.host, &[&[socket.as_str()], further].concat()).unwrap()
    }

    /// Reads on until a message has a line that begins like this; the whole message.
    fn hears(&self, begins: &str) -> String {
        loop {
            let mut message = [0; 1024];
            let len = self.socket.recv(&mut message).unwrap_or_else(|e| panic!("{begins}: {e}"));
            let text = String::from_utf8_lossy(&message[..len]).into_owned();
            if text.lines().any(|line| line.starts_with(begins)) {
                return text;
            }
        }
    }
}

#[test]
fn the_service_manager_is_told_of_start_life_reload_and_end() {
    let world = World::new();
    let manager = Manager::listen(&world);
    let daemon = manager.start(&world, &["WATCHDOG_USEC=300000"]);
    let ready = manager.hears("READY=1");
    assert!(ready.contains("STATUS=serving: 3 networks, 0 endpoints"), "{ready}");
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    network(&daemon, "app", &[]);
    container(&daemon, "web", "app", &[]);
    manager.hears("STATUS=serving: 4 networks, 1 endpoints");
    kill(daemon.pid().unwrap(), Signal::SIGHUP).unwrap();
    let reloading = manager.hears("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.hears("READY=1");
    let pid = daemon.pid().unwrap();
    kill(pid, Signal::SIGTERM).unwrap();
    let stopping = manager.hears("STOPPING=1");
    assert!(stopping.contains("STATUS=stopping; the dataplane goes on"), "{stopping}");
    daemon.stop().unwrap();
}

#[test]
fn reload_takes_over_what_it_can_and_names_what_needs_a_restart() {
    let world = World::new();
    let daemon = world.daemon();
    let file = world.host.directory().join("netd.toml");
    let written = fs::read_to_string(&file).unwrap();
    let reload = |settings: &str| {
        fs::write(&file, format!("{settings}\n{written}")).unwrap();
        kill(daemon.pid().unwrap(), Signal::SIGHUP).unwrap();
    };
    let logged = |text: &str| {
        let log = || Ok(daemon.places().log().contains(text).then_some(()));
        eventually(text, HEARD_WITHIN, log).unwrap();
    };
    reload("dns-search = ['example.org']\nicc = false\nflow-table = { size = 4096, udp = 7 }");
    logged("changed=\"flow-table, dns-search\"");
    logged("keys=\"flow-table.size, icc\"");
    let web = container(&daemon, "web", "bridge", &[]);
    assert_eq!(web.described()["DnsSearch"], serde_json::json!(["example.org"]));
    reload("default-address-pools = [{ base = '10.123.0.0/16', size = 24 }]");
    logged("changed=\"flow-table, default-address-pools, dns-search\"");
    daemon.ok(&["network", "create", "pooled"]).unwrap();
    let shown = daemon.ok(&["network", "inspect", "pooled"]).unwrap();
    assert!(shown.contains("10.123."), "{shown}");
    reload("icc = 'maybe'");
    logged("the configuration was not read anew; nothing changes");
    daemon.ok(&["status"]).unwrap();
}
