//! Sockets that the service manager listens on in the daemon's place: systemd's own tool does.

use std::fs;
use std::os::unix::net::UnixStream;

use netd_tests::daemon::Places;
use netd_tests::{Daemon, eventually};

use super::{World, network};

const LISTENS_WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

/// The words that listen on these paths and become the daemon when somebody connects.
fn activated(paths: &[&str]) -> Vec<String> {
    let listens = paths.iter().flat_map(|path| ["-l", path]);
    std::iter::once("systemd-socket-activate").chain(listens).map(str::to_owned).collect()
}

#[test]
fn daemon_that_is_started_by_a_request_answers_it_and_leaves_the_sockets() {
    let world = World::new();
    let places = Places::of(&world.host);
    fs::create_dir_all(places.plugin_socket().parent().unwrap()).unwrap();
    let sockets = [places.socket(), places.plugin_socket()];
    let paths = sockets.each_ref().map(|path| path.to_str().unwrap());
    for name in ["first", "second"] {
        let words = activated(&paths);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let daemon = Daemon::start_in(&world.host, &words).unwrap();
        network(&daemon, name, &[]);
        let mut engine = netd_tests::plugin::Caller::connect(&sockets[1]).unwrap();
        let answer = engine.call("Plugin.Activate", &serde_json::Value::Null).unwrap();
        assert_eq!(answer.status, 200);
        daemon.ok(&["network", "rm", name]).unwrap();
        assert!(daemon.stop().unwrap().success());
        assert!(sockets.iter().all(|path| path.exists()), "a socket of the manager's is gone");
        // systemd-socket-activate, unlike systemd, makes its sockets anew for each start.
        for path in &sockets {
            fs::remove_file(path).unwrap();
        }
    }
}

/// A look at the machine starts nothing: the manager's tool stays what it is.
#[test]
fn check_tells_that_the_service_manager_listens_and_starts_no_daemon() {
    let world = World::new();
    let places = Places::of(&world.host);
    drop(Daemon::start(&world.host, "").unwrap());
    fs::remove_file(places.socket()).unwrap();
    let socket = places.socket().display().to_string();
    let log = world.host.directory().join("manager.log");
    let words = ["-l", &socket, "/bin/false"];
    let mut manager = world.host.spawn("systemd-socket-activate", &words, &log).unwrap();
    eventually("the listening socket", LISTENS_WITHIN, || {
        Ok(places.socket().exists().then_some(()))
    })
    .unwrap();
    let said = check(&world);
    let expected = format!("ok     API socket: the service manager listens on {socket}");
    assert!(said.contains(&expected), "{said}");
    assert_eq!(waiting_at(&world, &socket), "0", "the manager has started its service, or will");
    manager.kill().unwrap();
    manager.wait().unwrap();
    let said = check(&world);
    assert!(said.contains("was left behind by a daemon that is gone"), "{said}");
}

/// How many have connected to a socket that the manager's tool holds; it accepts nobody itself, and the
/// socket goes with it.
fn waiting_at(world: &World, socket: &str) -> String {
    let said = world.host.exec("ss", &["-xlnH"]).unwrap();
    let listed = String::from_utf8(said.stdout).unwrap();
    let line = listed.lines().find(|line| line.contains(socket)).unwrap_or_default();
    line.split_whitespace().nth(2).unwrap_or_default().to_owned()
}

/// What `netd check` says of a host's own configuration.
fn check(world: &World) -> String {
    let netd = netd_tests::process::built("netd").unwrap();
    let file = world.host.directory().join("netd.toml");
    let said = world.host.exec(netd, &["check", "--config", file.to_str().unwrap()]).unwrap();
    String::from_utf8(said.stdout).unwrap()
}

#[test]
fn socket_that_no_key_names_is_refused_by_its_path() {
    let world = World::new();
    let places = Places::of(&world.host);
    let stray = world.host.directory().join("stray.sock");
    let words = activated(&[stray.to_str().unwrap()]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    std::thread::scope(|scope| {
        let started = scope.spawn(|| Daemon::start_in(&world.host, &words).map(drop));
        eventually("the listening socket", LISTENS_WITHIN, || {
            Ok(UnixStream::connect(&stray).ok().map(drop))
        })
        .unwrap();
        let error = format!("{:#}", started.join().unwrap().unwrap_err());
        assert!(error.contains("stray.sock, which no key names"), "{error}");
    });
    assert!(!places.socket().exists());
}
