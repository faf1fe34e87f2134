//! What the kernel and the daemon hold, compared with the model.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::expect::Expected;
use crate::{Daemon, Host};

/// Maps, links and namespaces are those of the model; the daemon reports nothing as wrong.
pub(super) fn compare(expected: &Expected, host: &Host, daemon: &Daemon<'_>) -> Result<()> {
    let status: Value = serde_json::from_str(&daemon.ok(&["status", "--format", "json"])?)?;
    ensure!(status["Health"] == "ok", "the daemon is {}", status["Problems"]);
    let entries = |name: &str| {
        let maps = status["Maps"].as_array()?;
        maps.iter().find(|map| map["Name"] == name)?["Entries"].as_u64()
    };
    // Each is published by TCP and UDP.
    let ports = 2 * expected.published().len();
    let endpoints = expected.endpoints();
    for (map, count) in [
        ("endpoints", endpoints),
        ("members", endpoints),
        ("stations", endpoints),
        // One more is the predefined network's.
        ("gateways", expected.bridges() + 1),
        ("published_v4", ports),
        ("published_v6", ports),
    ] {
        let found = entries(map);
        ensure!(found == Some(count as u64), "{map} holds {found:?}, not {count}");
    }
    let links = host.exec("ip", &["-br", "link"])?;
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    let count = |prefix: &str| links.lines().filter(|it| it.starts_with(prefix)).count();
    ensure!(count("veth") == endpoints, "{} veths, not {endpoints}", count("veth"));
    let bridges = expected.bridges();
    ensure!(count("br-") == bridges, "{} bridges, not {bridges}", count("br-"));
    let namespaces = std::fs::read_dir(daemon.places().netns())?.count();
    let own = expected.namespaces();
    ensure!(namespaces == own, "{namespaces} namespaces, not {own}");
    Ok(())
}
