//! The first steps: the daemon, the networks, the servers.

use std::time::Duration;

use anyhow::Result;

use super::stage::{INNER_PORT, PUBLISHED_PORT, Stage};
use crate::container::Transport;
use crate::{Container, eventually};

const SERVES_WITHIN: Duration = Duration::from_secs(10);

/// Name and network of each server.
const SERVERS: [(&str, &str); 5] = [
    ("web", "frontend"),
    ("client", "frontend"),
    ("db", "backend"),
    ("vault1", "vault"),
    ("vault2", "vault"),
];

/// The daemon starts, and host and daemon are well.
pub(super) fn daemon(stage: &mut Stage<'_>) -> Result<()> {
    stage.start()?;
    let configuration = stage.configuration();
    let checked = stage.try_netd(&["check", "--config", &configuration])?;
    let wrong = checked.stdout.lines().filter(|line| line.starts_with("WRONG")).count();
    let seen = format!("{wrong} wrong of {} looked at", checked.stdout.lines().count());
    stage.report.claim("the host has all that netd needs", &seen, checked.code == Some(0));
    let text = stage.netd(&["status"])?;
    let health = text.lines().find(|line| line.starts_with("Health")).unwrap_or_default();
    let health = health.split_whitespace().collect::<Vec<_>>().join(" ");
    let uplink = &stage.status()?["Uplinks"][0];
    let [v4, v6] = ["Ipv4", "Ipv6"].map(|key| uplink[key].as_str().unwrap_or("none").to_owned());
    let expected = format!("Health: ok; uplink {} {}", stage.host.v4(), stage.host.v6());
    let seen = format!("{health}; uplink {v4} {v6}");
    stage.report.claim(&expected, &seen, seen == expected);
    store(stage)
}

/// The store is a file of the daemon's own.
fn store(stage: &mut Stage<'_>) -> Result<()> {
    let directory = stage.host.directory().join("state");
    let directory = directory.to_string_lossy();
    stage.tried("host", &["ls", &directory]);
    let listed = stage.host.exec("ls", &[&directory])?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let files = listed.split_whitespace().collect::<Vec<_>>().join(" ");
    let held = listed.lines().any(|file| file == "netd.db");
    stage.report.claim("the embedded database netd.db", &files, held);
    Ok(())
}

/// Three networks, each with both address families.
pub(super) fn networks(stage: &mut Stage<'_>) -> Result<()> {
    for (name, options) in [("frontend", &[][..]), ("backend", &[]), ("vault", &["--internal"])] {
        stage.netd(&[&["network", "create", "--ipv6"], options, &[name]].concat())?;
        let format = "{{.Name}}: internal {{.Internal}}, {{range .IPAM.Config}}{{.Subnet}} {{end}}";
        let seen = stage.daemon()?.ok(&["network", "inspect", "-f", format, name])?;
        let seen = seen.trim();
        let internal = !options.is_empty();
        let is_dual = seen.matches('/').count() == 2 && seen.contains("::/64");
        let expected = format!("{name}: internal {internal}, an IPv4 and an IPv6 subnet");
        let held = is_dual && seen.starts_with(&format!("{name}: internal {internal}, "));
        stage.report.claim(&expected, seen, held);
    }
    stage.netd(&["network", "ls"]).map(drop)
}

/// A server in each sandbox; one of them has published ports.
pub(super) fn servers(stage: &mut Stage<'_>) -> Result<()> {
    let wire = stage.wire.to_string_lossy().into_owned();
    let port = INNER_PORT.to_string();
    let publish = Transport::ALL.map(|it| format!("{PUBLISHED_PORT}:{port}/{}", it.name()));
    for (name, network) in SERVERS {
        let ports: &[&str] =
            if name == "web" { &["-p", &publish[0], "-p", &publish[1]] } else { &[] };
        let run = ["run", "-d", "--name", name, "--network", network];
        let serve = ["--", &wire, "serve", &port];
        stage.netd(&[&run[..], ports, &serve].concat())?;
        wait_for_server(stage, name)?;
    }
    let format = r"table {{.Names}}\t{{.Networks}}\t{{.Addresses}}\t{{.Status}}\t{{.Pid}}";
    let listed = stage.netd(&["ps", "--format", format])?;
    let up = listed.lines().filter(|line| line.contains(" Up ")).count();
    let expected = format!("{} sandboxes up, their servers answering", SERVERS.len());
    let seen = format!("{up} up, all answered");
    stage.report.claim(&expected, &seen, up == SERVERS.len());
    let published = stage.netd(&["port", "web"])?;
    let seen = format!("{} bindings", published.lines().count());
    let expected = "4 bindings: TCP and UDP, on IPv4 and IPv6";
    stage.report.claim(expected, &seen, published.lines().count() == 4);
    Ok(())
}

/// A server is there when it answers in its own sandbox.
fn wait_for_server(stage: &Stage<'_>, name: &str) -> Result<()> {
    let netns = Container::find(stage.daemon()?, name)?.netns;
    let target = ([127, 0, 0, 1], INNER_PORT).into();
    eventually(&format!("the answer of {name}'s server"), SERVES_WITHIN, || {
        Ok(Transport::Tcp.ask(&netns, target).ok())
    })
    .map(drop)
}
