//! Stop, crash, start again; and failures in the middle of a creation.

use std::net::SocketAddr;

use netd_tests::container::Transport;
use netd_tests::{Container, Daemon};

use super::{World, container, is_reached, network};

const PORTS: [&str; 2] = ["-p", "8080:7000"];

#[test]
fn traffic_goes_on_without_the_daemon_and_it_takes_up_where_it_was() {
    let world = World::new();
    for crash in [false, true] {
        let daemon = world.daemon();
        if !crash {
            network(&daemon, "app", &[]);
            container(&daemon, "web", "app", &PORTS);
        }
        let web = Container::find(&daemon, "web").unwrap();
        let _servers = web.serve_all(7000).unwrap();
        if crash { daemon.crash() } else { daemon.stop() }.unwrap();
        for address in world.uplink() {
            let target = SocketAddr::new(address, 8080);
            assert!(is_reached(world.outside.netns(), target, Transport::Tcp), "{target}");
        }
    }
    let daemon = world.daemon();
    assert_eq!(daemon.ok(&["ps", "--format", "{{.Names}}"]).unwrap(), "web");
    let web = Container::find(&daemon, "web").unwrap();
    let _servers = web.serve_all(7000).unwrap();
    let second = container(&daemon, "second", "app", &[]);
    for target in second.addresses("app").unwrap() {
        assert!(web.pings(target).unwrap(), "{target}");
    }
    daemon.ok(&["sandbox", "rm", "web", "second"]).unwrap();
    let target = SocketAddr::new(world.uplink()[0], 8080);
    assert!(!is_reached(world.outside.netns(), target, Transport::Tcp));
}

/// The client never rests: each moment of each restart meets a packet.
#[test]
fn busy_connection_survives_restarts_of_the_daemon() {
    let world = World::new();
    let mut daemon = world.daemon();
    network(&daemon, "app", &[]);
    let web = container(&daemon, "web", "app", &PORTS);
    let _servers = web.serve_all(7000).unwrap();
    let clients: Vec<Chatter> = world
        .uplink()
        .into_iter()
        .map(|address| Chatter::start(world.outside.netns(), SocketAddr::new(address, 8080)))
        .collect();
    for crash in [true, false, true, false] {
        if crash { daemon.crash() } else { daemon.stop() }.unwrap();
        daemon = world.daemon();
    }
    for client in clients {
        client.finish().unwrap();
    }
}

/// A client that sends a word every millisecond over one connection, and hears them all in the end.
pub(super) struct Chatter {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<anyhow::Result<()>>,
}

impl Chatter {
    pub(super) fn start(from: &netd_tests::Netns, target: SocketAddr) -> Self {
        let connect = || Ok(std::net::TcpStream::connect(target)?);
        let stream = from.run(connect).unwrap();
        let stop = std::sync::Arc::default();
        let told = std::sync::Arc::clone(&stop);
        Self { stop, thread: std::thread::spawn(move || chat(&stream, &told)) }
    }

    pub(super) fn finish(self) -> anyhow::Result<()> {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn chat(
    mut stream: &std::net::TcpStream,
    stop: &std::sync::atomic::AtomicBool,
) -> anyhow::Result<()> {
    use std::io::{Read as _, Write as _};
    let mut sent = 0;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        stream.write_all(b"word ")?;
        sent += 1;
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let heard = answer.matches("word ").count();
    anyhow::ensure!(heard == sent, "{heard} of {sent} words were heard");
    Ok(())
}

/// Every effect of a creation fails once, each in a daemon's life of its own; what was there before
/// is there after, and the same creation works when nothing fails.
#[test]
fn creation_that_fails_at_any_step_leaves_nothing_behind() {
    let world = World::new();
    let create = ["sandbox", "create", "--name", "web", "--network", "app", "-p", "8080:7000"];
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let before = footprint(&world, &daemon);
    daemon.stop().unwrap();
    let mut failed = 0;
    for step in 1..100 {
        let daemon = Daemon::start_failing(&world.host, step).unwrap();
        let said = daemon.cli(&create).unwrap();
        if said.code == Some(0) {
            if failed > 0 {
                assert!(failed >= 5, "only {failed} steps can fail: the switch does not work");
                return;
            }
            // The effect that failed was one of the start's own, which tries again.
            daemon.ok(&["sandbox", "rm", "web"]).unwrap();
            daemon.stop().unwrap();
            continue;
        }
        failed += 1;
        assert_eq!(said.code, Some(1), "step {step}: {said:?}");
        assert!(said.stderr.starts_with("Error response from daemon: "), "step {step}: {said:?}");
        assert_eq!(footprint(&world, &daemon), before, "step {step}: {said:?}");
        daemon.stop().unwrap();
    }
    panic!("a creation has no hundred steps");
}

/// What a creation adds to: links, objects, namespaces, bound ports.
fn footprint(world: &World, daemon: &Daemon<'_>) -> Vec<String> {
    let run = |program: &str, arguments: &[&str]| {
        let said = world.host.exec(program, arguments).unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    let namespaces = std::fs::read_dir(daemon.places().netns()).unwrap().count();
    let links = run("ip", &["-br", "link"]);
    let links = links.lines().filter_map(|line| line.split([' ', '@']).next());
    let mut all: Vec<String> = links.map(str::to_owned).collect();
    all.push(daemon.ok(&["ps", "--format", "{{.Names}}"]).unwrap());
    all.push(run("ss", &["-Hltnu", "sport", "=", ":8080"]));
    all.push(namespaces.to_string());
    all
}
