//! hosts, hostname and resolv.conf of a container: what they say, to whom, and whose they are.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use netd_tests::{Container, Daemon, eventually};
use nix::sys::signal::{Signal, kill};

use super::names::{glibc, inside, named};
use super::{World, network};

/// A loaded machine takes its time.
const SOON: Duration = Duration::from_secs(30);

/// A container with a process that runs on; the files as that process sees them.
fn running(daemon: &Daemon<'_>, arguments: &[&str]) -> PathBuf {
    let words = [&["run", "-d", "--name", "web"], arguments, &["--", "sleep", "1000"]].concat();
    daemon.ok(&words).unwrap();
    let pid = daemon.ok(&["sandbox", "inspect", "-f", "{{.Pid}}", "web"]).unwrap();
    PathBuf::from(format!("/proc/{pid}/root/etc"))
}

fn said(etc: &std::path::Path, name: &str) -> String {
    fs::read_to_string(etc.join(name)).unwrap()
}

/// The addresses that a hosts file has for a name.
fn own_addresses(hosts: &str, name: &str) -> Vec<IpAddr> {
    let named = hosts.lines().filter_map(|line| line.split_once('\t'));
    let mut found: Vec<IpAddr> =
        named.filter(|it| it.1 == name).map(|it| it.0.parse().unwrap()).collect();
    found.sort();
    found
}

fn addresses(daemon: &Daemon<'_>, networks: &[&str]) -> Vec<IpAddr> {
    let web = Container::find(daemon, "web").unwrap();
    let mut all: Vec<IpAddr> =
        networks.iter().flat_map(|network| web.addresses(network).unwrap()).collect();
    all.sort();
    all
}

#[test]
fn hosts_of_a_running_container_follows_connect_and_disconnect_at_once() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    network(&daemon, "other", &[]);
    let etc = running(&daemon, &["--network", "app", "--hostname", "worker"]);
    assert_eq!(said(&etc, "hostname"), "worker\n");
    for _ in 0..2 {
        assert_eq!(own_addresses(&said(&etc, "hosts"), "worker"), addresses(&daemon, &["app"]));
        daemon.ok(&["network", "connect", "other", "web"]).unwrap();
        let both = addresses(&daemon, &["app", "other"]);
        assert_eq!(own_addresses(&said(&etc, "hosts"), "worker"), both);
        daemon.ok(&["network", "disconnect", "other", "web"]).unwrap();
    }
    daemon.ok(&["sandbox", "rm", "web"]).unwrap();
}

#[test]
fn what_a_container_has_edited_stays_and_the_rest_goes_on_to_follow() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    network(&daemon, "other", &[]);
    let etc = running(&daemon, &["--network", "app", "--hostname", "worker"]);
    let edit = "echo nameserver 192.0.2.99 > /etc/resolv.conf";
    inside(&daemon, "web", &["sh", "-c", edit]);
    daemon.ok(&["network", "connect", "other", "web"]).unwrap();
    let edited = "nameserver 192.0.2.99\n";
    assert_eq!(said(&etc, "resolv.conf"), edited);
    daemon.crash().unwrap();
    let daemon = world.daemon();
    daemon.ok(&["network", "disconnect", "app", "web"]).unwrap();
    assert_eq!(own_addresses(&said(&etc, "hosts"), "worker"), addresses(&daemon, &["other"]));
    assert_eq!(said(&etc, "resolv.conf"), edited);
    inside(&daemon, "web", &["sh", "-c", "echo 192.0.2.7 mine >> /etc/hosts"]);
    daemon.ok(&["network", "connect", "app", "web"]).unwrap();
    let hosts = said(&etc, "hosts");
    assert!(hosts.ends_with("192.0.2.7 mine\n"), "{hosts}");
    assert_eq!(own_addresses(&hosts, "worker"), addresses(&daemon, &["other"]), "an edit stays");
    daemon.ok(&["sandbox", "rm", "web"]).unwrap();
    running(&daemon, &["--network", "app"]);
    let fresh = inside(&daemon, "web", &["cat", "/etc/resolv.conf"]);
    assert!(fresh.contains("nameserver 127.0.0.11\n"), "a new container starts afresh: {fresh}");
    daemon.ok(&["sandbox", "rm", "web"]).unwrap();
}

#[test]
fn added_hosts_lead_where_they_say_and_host_gateway_to_the_host() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let added = ["--add-host", "db:192.0.2.7", "--add-host", "db=[2001:db8::7]"];
    let words = ["sandbox", "create", "--name", "web", "--network", "app"];
    let up = ["--add-host", "up:host-gateway"];
    daemon.ok(&[&words[..], &added, &up].concat()).unwrap();
    assert_eq!(glibc(&daemon, "web", "db", "ahostsv4"), ["192.0.2.7"]);
    assert_eq!(glibc(&daemon, "web", "db", "ahostsv6"), ["2001:db8::7"]);
    let gateway =
        daemon.ok(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge"]);
    assert_eq!(glibc(&daemon, "web", "up", "ahostsv4"), [gateway.unwrap()]);
    for (wrong, told) in [
        ("db", "bad format for add-host: \"db\""),
        ("db:nowhere", "invalid IP address in add-host: \"nowhere\""),
    ] {
        let said = daemon.cli(&["sandbox", "create", "--add-host", wrong]).unwrap();
        assert!(said.code != Some(0) && said.stderr.contains(told), "{said:?}");
    }
    let host = ["run", "--network", "host", "--add-host", "db:192.0.2.7", "--", "getent", "hosts"];
    let hosts = daemon.ok(&[&host[..], &["db"]].concat()).unwrap();
    assert!(hosts.starts_with("192.0.2.7"), "{hosts}");
}

#[test]
fn resolv_conf_follows_the_host_on_the_predefined_bridge_and_names_netd_elsewhere() {
    let world = World::new();
    let file = world.host.directory().join("resolv.conf");
    let write = |text: &str| {
        let draft = file.with_extension("new");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, &file).unwrap();
    };
    write("nameserver 127.0.0.1\nnameserver 192.0.2.53\nsearch one.example\noptions timeout:3\n");
    let settings = format!("resolv-conf = \"{}\"", file.display());
    let daemon = Daemon::start(&world.host, &settings).unwrap();
    network(&daemon, "app", &[]);
    let etc = running(&daemon, &[]);
    let conf = || {
        let text = said(&etc, "resolv.conf");
        text.split_once('\n').map(|(comment, rest)| {
            assert!(comment.starts_with('#'), "{text}");
            rest.to_owned()
        })
    };
    let first = "nameserver 192.0.2.53\nsearch one.example\noptions timeout:3\n";
    assert_eq!(conf().unwrap(), first);
    daemon.ok(&["network", "connect", "app", "web"]).unwrap();
    let named = "nameserver 127.0.0.11\nsearch one.example\noptions timeout:3 ndots:0\n";
    assert_eq!(conf().unwrap(), named);
    daemon.ok(&["network", "disconnect", "app", "web"]).unwrap();
    assert_eq!(conf().unwrap(), first);
    write("nameserver 192.0.2.54\n");
    eventually("the host's new server", SOON, || {
        Ok((conf().as_deref() == Some("nameserver 192.0.2.54\n")).then_some(()))
    })
    .unwrap();
    daemon.ok(&["sandbox", "rm", "web"]).unwrap();
}

#[test]
fn a_reload_reaches_the_files_of_containers_that_run_and_leaves_what_was_edited() {
    let world = World::new();
    let host = world.host.directory().join("resolv.conf");
    fs::write(&host, "nameserver 192.0.2.53\n").unwrap();
    let settings = format!("resolv-conf = \"{}\"", host.display());
    let daemon = Daemon::start(&world.host, &settings).unwrap();
    network(&daemon, "app", &[]);
    let etc = running(&daemon, &["--network", "app", "--add-host", "up:host-gateway"]);
    let before = [said(&etc, "hosts"), said(&etc, "resolv.conf")];
    inside(&daemon, "web", &["sh", "-c", "echo mine > /etc/hostname"]);
    let file = world.host.directory().join("netd.toml");
    let written = fs::read_to_string(&file).unwrap();
    let reload = |settings: &str| {
        fs::write(&file, format!("{settings}{written}")).unwrap();
        kill(daemon.pid().unwrap(), Signal::SIGHUP).unwrap();
    };
    let says = |name: &str, wanted: &dyn Fn(&str) -> bool| {
        eventually(name, SOON, || Ok(wanted(&said(&etc, name)).then_some(()))).unwrap();
    };
    reload("dns-search = ['corp']\ndns-opts = ['rotate']\nhost-gateway-ip = '192.0.2.7'\n");
    let conf = "nameserver 127.0.0.11\nsearch corp\noptions rotate ndots:0\n";
    says("resolv.conf", &|text| text.ends_with(conf));
    says("hosts", &|text| text.contains("192.0.2.7\tup\n"));
    reload("");
    says("resolv.conf", &|text| text == before[1]);
    says("hosts", &|text| text == before[0]);
    assert_eq!(said(&etc, "hostname"), "mine\n");
    daemon.ok(&["sandbox", "rm", "web"]).unwrap();
}

#[test]
fn files_are_put_back_where_they_are_lost_and_go_with_their_container() {
    let world = World::new();
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    named(&daemon, "web", &["app"]);
    let files = world.host.directory().join("state/sandboxes");
    let path = daemon.ok(&["sandbox", "inspect", "-f", "{{.HostsPath}}", "web"]).unwrap();
    let path = PathBuf::from(path);
    assert!(path.starts_with(&files), "{}", path.display());
    fs::remove_file(&path).unwrap();
    eventually("the hosts file", SOON, || Ok(path.exists().then_some(()))).unwrap();
    daemon.ok(&["sandbox", "rm", "web"]).unwrap();
    assert!(!path.parent().unwrap().exists());
    let left: Vec<_> = fs::read_dir(&files).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["boot-id"]);
}
