//! `netd store`: the durable state of a real daemon is copied, checked, torn and restored.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use netd_tests::container::Transport;
use netd_tests::process::built;
use netd_tests::{Daemon, Host, Said};

use super::{World, container, is_reached, network};

/// `netd store`, on the store of the host's daemon.
fn store(host: &Host, words: &[&str]) -> Said {
    let file = host.directory().join("netd.toml").to_string_lossy().into_owned();
    let all = [&["store"], words, &["--config", &file]].concat();
    let output = host.exec(built("netd").unwrap(), &all).unwrap();
    Said {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn works(said: Said) -> String {
    assert_eq!(said.code, Some(0), "{said:?}");
    said.stdout
}

/// Names of networks and containers.
fn objects(daemon: &Daemon<'_>) -> BTreeSet<String> {
    let networks = daemon.ok(&["network", "ls", "--format", "{{.Name}}"]).unwrap();
    let sandboxes = daemon.ok(&["ps", "--format", "{{.Names}}"]).unwrap();
    networks.lines().chain(sandboxes.lines()).map(str::to_owned).collect()
}

fn is_published(world: &World) -> bool {
    let ask = |address, transport: Transport| {
        is_reached(world.outside.netns(), SocketAddr::new(address, 8080), transport)
    };
    world.uplink().into_iter().all(|it| Transport::ALL.iter().all(|transport| ask(it, *transport)))
}

const PORTS: [&str; 4] = ["-p", "8080:7000", "-p", "8080:7000/udp"];

#[test]
fn a_copy_of_a_running_daemons_store_brings_the_host_back_to_it() {
    let world = World::new();
    let host = &world.host;
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let web = container(&daemon, "web", "app", &PORTS);
    let servers = web.serve_all(7000).unwrap();
    let then = objects(&daemon);
    let addresses = web.addresses("app").unwrap();
    let copy = host.directory().join("copy.db").to_string_lossy().into_owned();
    assert_eq!(works(store(host, &["backup", &copy])), copy);
    let again = store(host, &["backup", &copy]);
    assert!(again.code == Some(1) && again.stderr.contains("exists already"), "{again:?}");
    let in_turn = works(store(host, &["backup"]));
    assert!(in_turn.contains("/state/backups/netd-"), "{in_turn}");

    network(&daemon, "later", &[]);
    container(&daemon, "db", "later", &["-p", "9090:7000"]);
    drop(servers);
    daemon.ok(&["sandbox", "rm", "web"]).unwrap();
    let told = works(store(host, &["verify"]));
    assert!(told.lines().count() >= 3, "the store and every copy: {told}");
    assert!(told.lines().all(|line| line.contains(": sound, revision ")), "{told}");
    let told = works(store(host, &["verify", &copy]));
    assert!(told.contains("4 networks, 1 sandboxes, 1 endpoints"), "{told}");
    let refused = store(host, &["restore", &copy]);
    assert!(refused.stderr.contains("another netd daemon (process"), "{refused:?}");
    daemon.stop().unwrap();

    let restored = works(store(host, &["restore", &copy]));
    assert!(restored.ends_with("start the daemon to bring the host in line with it"), "{restored}");
    let daemon = world.daemon();
    assert_eq!(objects(&daemon), then);
    let web = netd_tests::Container::find(&daemon, "web").unwrap();
    assert_eq!(web.addresses("app").unwrap(), addresses);
    let _servers = web.serve_all(7000).unwrap();
    assert!(is_published(&world));
    let gone = SocketAddr::new(world.uplink()[0], 9090);
    assert!(!is_reached(world.outside.netns(), gone, Transport::Tcp));
    assert_eq!(daemon.cli(&["status"]).unwrap().code, Some(0));
}

/// How a file of the store lost what stands behind a point.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Cut,
    Torn,
}

/// At a share of the file's length, in hundredths.
fn lose(file: &Path, share: usize, loss: Loss) {
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.len() * share / 100;
    match loss {
        Loss::Cut => bytes.truncate(at),
        Loss::Torn => {
            let end = (at + 700).min(bytes.len());
            bytes[at..end].fill(0xa5);
        }
    }
    fs::write(file, bytes).unwrap();
}

/// Makes networks as fast as they are granted, until the daemon is gone; what was acknowledged, and the
/// one whose answer was lost.
fn make_history(daemon: &Daemon<'_>, turn: usize, enough: &std::sync::mpsc::Sender<()>) -> Made {
    let mut acknowledged = BTreeSet::new();
    for number in 0.. {
        let name = format!("net{turn}-{number}");
        if daemon.cli(&["network", "create", &name]).unwrap().code != Some(0) {
            return Made { acknowledged, open: name };
        }
        acknowledged.insert(name);
        if acknowledged.len() == 3 {
            enough.send(()).unwrap();
        }
    }
    unreachable!("a history ends with its daemon")
}

struct Made {
    acknowledged: BTreeSet<String>,
    open: String,
}

/// A daemon is killed in the midst of changes, and the power is lost; traffic needs neither.
#[test]
fn torn_store_opens_as_acknowledged_or_names_the_backup_that_brings_all_back() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let web = container(&daemon, "web", "app", &PORTS);
    let _servers = web.serve_all(7000).unwrap();
    daemon.stop().unwrap();
    let (mut opened, mut restored) = (0, 0);
    let state = world.host.directory().join("state");
    let points = [("netd.db", 0), ("netd.db", 40), ("netd.db-wal", 30), ("netd.db-wal", 100)];
    let cases = points.iter().flat_map(|point| [Loss::Cut, Loss::Torn].map(|loss| (*point, loss)));
    for (turn, ((file, share), loss)) in cases.enumerate() {
        let daemon = world.daemon();
        let before = objects(&daemon);
        works(store(&world.host, &["backup"]));
        let made = killed_in_history(daemon, turn);
        lose(&state.join(file), share, loss);
        assert!(is_published(&world), "traffic needs no store");
        let tried = Daemon::start(&world.host, "");
        let case = format!("{file} {loss:?} at {share} %");
        let found = match tried {
            Ok(daemon) => {
                opened += 1;
                let found = objects(&daemon);
                let missing: Vec<_> = made.acknowledged.difference(&found).collect();
                assert!(missing.is_empty(), "{case}: {missing:?}");
                found
            }
            Err(refusal) => {
                restored += 1;
                assert!(is_published(&world), "a refusal takes nothing down");
                let copy = named_copy(&format!("{refusal:?}"));
                works(store(&world.host, &["restore", &copy]));
                objects(&world.daemon())
            }
        };
        assert!(before.is_subset(&found), "{case}: {before:?}, {found:?}");
        let known = |name: &String| {
            before.contains(name) || made.acknowledged.contains(name) || *name == made.open
        };
        assert!(found.iter().all(known), "{case}: {found:?}");
        assert!(is_published(&world), "{case}");
        forget_history(&world);
    }
    assert!(opened >= 1 && restored >= 2, "{opened} opened, {restored} restored");
}

fn killed_in_history(daemon: Daemon<'_>, turn: usize) -> Made {
    let (enough, is_enough) = std::sync::mpsc::channel();
    let pid = daemon.pid().unwrap();
    let made = std::thread::scope(|scope| {
        let history = scope.spawn(|| make_history(&daemon, turn, &enough));
        is_enough.recv_timeout(std::time::Duration::from_mins(1)).unwrap();
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        history.join().unwrap()
    });
    daemon.has_died().unwrap();
    made
}

/// The file that the last refusal says to restore.
fn named_copy(told: &str) -> String {
    let (_, rest) = told.rsplit_once("by `netd store restore ").expect("a remedy");
    rest.split('`').next().unwrap().to_owned()
}

/// The next turn begins without the networks of this one.
fn forget_history(world: &World) {
    let daemon = world.daemon();
    for name in objects(&daemon).iter().filter(|name| name.starts_with("net")) {
        daemon.ok(&["network", "rm", name]).unwrap();
    }
    daemon.stop().unwrap();
}
