//! `netd uninstall`: what a daemon has done to a host goes, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use netd_tests::process::built;
use netd_tests::{Host, Said, eventually};

use super::footprint::{rules, say, settings};
use super::{World, container, network};

fn uninstall(host: &Host, arguments: &[&str]) -> Said {
    let file = host.directory().join("netd.toml").to_string_lossy().into_owned();
    let all = [&["uninstall", "--config", &file], arguments].concat();
    let output = host.exec(built("netd").unwrap(), &all).unwrap();
    Said {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Everything about a host that a daemon could have changed, a line each.
fn inventory(host: &Host) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for arguments in [
        &["-o", "link"][..],
        &["-o", "address"],
        &["-o", "route", "show", "table", "all"],
        &["-o", "-6", "route", "show", "table", "all"],
        &["rule"],
    ] {
        let text = say(host, "ip", arguments);
        all.extend(text.lines().map(|line| format!("{arguments:?} {line}")));
    }
    all.extend(rules(host));
    all.extend(settings(host).into_iter().map(|(key, value)| format!("{key} = {value}")));
    all.extend(attached(host));
    files_below(host.directory(), &mut all);
    all
}

fn attached(host: &Host) -> Vec<String> {
    let uplink = netd_tests::host::UPLINK;
    let query = |hook: TcAttachType| Ok(SchedClassifier::query_tcx(uplink, hook)?.1.len());
    let hooks = [TcAttachType::Ingress, TcAttachType::Egress];
    let counts = hooks.map(|hook| host.netns().run(|| query(hook)).unwrap());
    vec![format!("programs on {uplink}: {counts:?}")]
}

/// What the test itself puts there is left out.
fn files_below(directory: &Path, all: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let ours = ["netd.toml", "daemon.log"].iter().any(|name| path.ends_with(name));
        if !ours {
            all.insert(path.display().to_string());
        }
        if path.is_dir() && !path.is_symlink() {
            files_below(&path, all);
        }
    }
}

#[test]
fn uninstall_returns_the_host_to_what_it_was() {
    let world = World::new();
    let host = &world.host;
    // A packaged daemon finds no directories either.
    for made in ["state", "run"] {
        fs::remove_dir(host.directory().join(made)).unwrap();
    }
    // The uplink's link-local address settles first.
    let settled = || Ok((!say(host, "ip", &["address"]).contains("tentative")).then_some(()));
    eventually("settled addresses", Duration::from_secs(30), settled).unwrap();
    let before = inventory(host);
    let daemon = world.daemon();
    network(&daemon, "app", &[]);
    let ports = ["-p", "8080:7000", "-p", "8443:7001/udp"];
    let web = container(&daemon, "web", "app", &ports);
    let _servers = web.serve_all(7000).unwrap();
    container(&daemon, "db", "bridge", &[]);
    let local = SocketAddr::from(([127, 0, 0, 1], 8080));
    let connect = || Ok(TcpStream::connect_timeout(&local, Duration::from_secs(20)).map(drop));
    assert!(daemon.ok(&["status"]).is_ok());

    let refused = uninstall(host, &[]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("another netd daemon (process"), "{refused:?}");
    let looked = uninstall(host, &["--dry-run"]);
    assert!(looked.stdout.starts_with("a netd daemon runs (process "), "{looked:?}");
    daemon.stop().unwrap();

    // Carriers settle by themselves; settings name every link, too.
    let steady = || -> BTreeSet<String> {
        inventory(host).into_iter().filter(|line| !line.starts_with('[')).collect()
    };
    let stopped = steady();
    let looked = uninstall(host, &["--dry-run"]);
    assert_eq!((looked.code, looked.stderr.as_str()), (Some(0), ""), "{looked:?}");
    for told in [
        "would remove link netd0, with its addresses and settings",
        "would remove network namespace ",
        "would remove files of sandboxes in ",
        "would remove program from_netdev on link eth0",
        "would remove program connect4 on the cgroup's sockets",
        "pinned maps in ",
        "would remove ports 49152-65535 in net.ipv4.ip_local_reserved_ports",
        "would remove the store ",
        "kept the configuration ",
    ] {
        assert!(looked.stdout.contains(told), "{told}: {}", looked.stdout);
    }
    assert_eq!(steady(), stopped, "a look changes nothing");

    let removed = uninstall(host, &[]);
    assert_eq!((removed.code, removed.stderr.as_str()), (Some(0), ""), "{removed:?}");
    assert_eq!(
        removed.stdout.lines().count(),
        removed.stdout.lines().collect::<BTreeSet<_>>().len()
    );
    let after = inventory(host);
    let differing: Vec<_> = before.symmetric_difference(&after).collect();
    assert!(differing.is_empty(), "{differing:?}");
    let connected: std::io::Result<()> = host.netns().run(connect).unwrap();
    assert_eq!(connected.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let again = uninstall(host, &[]);
    assert!(again.stdout.starts_with("nothing of netd is on this host\n"), "{again:?}");
    world.daemon();
}
