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

    fn start<'a>(&self, world: &'a World, further: &[&str], settings: &str) -> Daemon<'a> {
        let socket = format!("NOTIFY_SOCKET={}", self.path);
        let environment = [&[socket.as_str()], further].concat();
        Daemon::start_in_with(&world.host, &environment, settings).unwrap()
    }

    /// Reads on until nothing has come for so long; false where messages never cease.
    fn falls_silent(&self, silence: Duration) -> bool {
        self.socket.set_read_timeout(Some(silence)).unwrap();
        let end = std::time::Instant::now() + HEARD_WITHIN;
        let silent = std::iter::from_fn(|| {
            (std::time::Instant::now() < end).then(|| self.socket.recv(&mut [0; 1024]).is_err())
        })
        .any(|silent| silent);
        self.socket.set_read_timeout(Some(HEARD_WITHIN)).unwrap();
        silent
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
    let daemon = manager.start(&world, &["WATCHDOG_USEC=300000"], "");
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

/// The controller reads the host's resolv.conf: one that never ends holds it up, as a dead disk would.
#[test]
fn a_watchdog_is_fed_by_the_controller_alone_and_traffic_outlives_one_that_is_stuck() {
    let world = World::new();
    let manager = Manager::listen(&world);
    let file = world.host.directory().join("resolv.conf");
    fs::write(&file, "nameserver 203.0.113.1\n").unwrap();
    let settings = format!("resolv-conf = '{}'", file.display());
    let daemon = manager.start(&world, &["WATCHDOG_USEC=300000"], &settings);
    network(&daemon, "app", &[]);
    let web = container(&daemon, "web", "app", &["-p", "8080:7000"]);
    let _servers = web.serve_all(7000).unwrap();
    manager.hears("WATCHDOG=1");
    let endless = [world.host.directory().join("endless"), world.host.directory().join("link")];
    nix::unistd::mkfifo(&endless[0], nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::hard_link(&endless[0], &endless[1]).unwrap();
    fs::rename(&endless[1], &file).unwrap();
    assert!(manager.falls_silent(Duration::from_secs(3)), "ten times the watchdog's patience");
    for address in world.uplink() {
        let target = std::net::SocketAddr::new(address, 8080);
        let tcp = netd_tests::container::Transport::Tcp;
        assert!(super::is_reached(world.outside.netns(), target, tcp), "{target}");
    }
    let whole = world.host.directory().join("whole");
    fs::write(&whole, "nameserver 203.0.113.1\n").unwrap();
    fs::rename(&whole, &file).unwrap();
    // Whoever waits for the end gets it.
    drop(fs::OpenOptions::new().write(true).open(&endless[0]).unwrap());
    manager.hears("WATCHDOG=1");
    daemon.ok(&["sandbox", "rm", "web"]).unwrap();
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
