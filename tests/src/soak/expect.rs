//! The model: which networks and containers there should be, who is on what and who publishes what.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::act::{Act, SERVED};
use crate::wire::Server;
use crate::{Container, Daemon, Host, Netns, eventually};

/// What a daemon does by itself, on a loaded machine.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// What should be.
#[derive(Default)]
pub(super) struct Expected {
    networks: BTreeSet<String>,
    sandboxes: BTreeMap<String, Sandbox>,
    created: BTreeMap<String, Created>,
}

#[derive(Default)]
struct Sandbox {
    networks: BTreeSet<String>,
    ports: Vec<u16>,
}

/// What is known of a container since it was made.
struct Created {
    container: Container,
    _servers: Vec<Server>,
}

impl Expected {
    /// Whether there is no container.
    pub(super) fn is_empty(&self) -> bool {
        self.sandboxes.is_empty()
    }

    /// Whether an operation is granted.
    pub(super) fn grants(&self, act: &Act) -> bool {
        let is_on = |sandbox: &String, network: &String| {
            self.sandboxes.get(sandbox).is_some_and(|it| it.networks.contains(network))
        };
        match act {
            Act::MakeNetwork { network } => !self.networks.contains(network),
            Act::RemoveNetwork { network } => {
                let is_used = self.sandboxes.values().any(|it| it.networks.contains(network));
                self.networks.contains(network) && !is_used
            }
            Act::Create { sandbox, network, ports } => {
                let taken = self.published();
                !self.sandboxes.contains_key(sandbox)
                    && self.networks.contains(network)
                    && !ports.iter().any(|port| taken.contains(port))
            }
            Act::Remove { sandbox } => self.sandboxes.contains_key(sandbox),
            Act::Connect { sandbox, network } => {
                let taken = self.published();
                // A container that is on no network holds no port: others may have taken it.
                let ports_are_free = self.sandboxes.get(sandbox).is_some_and(|it| {
                    !it.networks.is_empty() || !it.ports.iter().any(|port| taken.contains(port))
                });
                ports_are_free && self.networks.contains(network) && !is_on(sandbox, network)
            }
            Act::Disconnect { sandbox, network } => is_on(sandbox, network),
            Act::Restart { .. } | Act::Ask => true,
        }
    }

    /// Takes a granted operation in.
    pub(super) fn apply(&mut self, act: &Act) {
        match act {
            Act::MakeNetwork { network } => drop(self.networks.insert(network.clone())),
            Act::RemoveNetwork { network } => drop(self.networks.remove(network)),
            Act::Create { sandbox, network, ports } => {
                let networks = BTreeSet::from([network.clone()]);
                let new = Sandbox { networks, ports: ports.clone() };
                self.sandboxes.insert(sandbox.clone(), new);
            }
            Act::Remove { sandbox } => {
                self.sandboxes.remove(sandbox);
                self.created.remove(sandbox);
            }
            Act::Connect { sandbox, network } => {
                if let Some(held) = self.sandboxes.get_mut(sandbox) {
                    held.networks.insert(network.clone());
                }
            }
            Act::Disconnect { sandbox, network } => {
                if let Some(held) = self.sandboxes.get_mut(sandbox) {
                    held.networks.remove(network);
                }
            }
            Act::Restart { .. } | Act::Ask => {}
        }
    }

    /// Asks for the addresses of a container that an operation has changed, and serves in a new one.
    pub(super) fn learn(&mut self, daemon: &Daemon<'_>, act: &Act) -> Result<()> {
        match act {
            Act::Create { sandbox, .. } => {
                let container = Container::find(daemon, sandbox)?;
                let servers = container.serve_all(SERVED)?;
                self.created.insert(sandbox.clone(), Created { container, _servers: servers });
            }
            Act::Connect { sandbox, .. } | Act::Disconnect { sandbox, .. } => {
                let container = Container::find(daemon, sandbox)?;
                if let Some(created) = self.created.get_mut(sandbox) {
                    created.container = container;
                }
            }
            Act::MakeNetwork { .. }
            | Act::RemoveNetwork { .. }
            | Act::Remove { .. }
            | Act::Restart { .. }
            | Act::Ask => {}
        }
        Ok(())
    }

    /// What removes all that is there.
    pub(super) fn removals(&self) -> Vec<Act> {
        let sandboxes = self.sandboxes.keys().map(|name| Act::Remove { sandbox: name.clone() });
        let networks = self.networks.iter().map(|it| Act::RemoveNetwork { network: it.clone() });
        sandboxes.chain(networks).collect()
    }

    /// Every container on every network, with its addresses there.
    pub(super) fn members(&self) -> Vec<(String, String, [IpAddr; 2])> {
        let mut members = Vec::new();
        for (name, created) in &self.created {
            for network in &self.sandboxes[name].networks {
                if let Ok(addresses) = created.container.addresses(network) {
                    members.push((name.clone(), network.clone(), addresses));
                }
            }
        }
        members
    }

    /// Whether `from` reaches what `to` has on a network: only as a member of it. A container without
    /// that network goes out by another, where it meets the isolation of networks.
    pub(super) fn shares(&self, from: &str, to: &str, network: &str) -> bool {
        let is_on = |name: &str| self.sandboxes[name].networks.contains(network);
        is_on(from) && is_on(to)
    }

    /// Where a container is.
    pub(super) fn netns(&self, name: &str) -> Option<Netns> {
        self.created.get(name).map(|created| created.container.netns.clone())
    }

    /// Published ports: those of containers that are on any network.
    pub(super) fn published(&self) -> Vec<u16> {
        let connected = self.sandboxes.values().filter(|it| !it.networks.is_empty());
        connected.flat_map(|it| it.ports.iter().copied()).collect()
    }

    /// The daemon and the kernel hold what should be, and nothing else.
    pub(super) fn compare(&self, host: &Host, daemon: &Daemon<'_>) -> Result<()> {
        self.compare_objects(daemon)?;
        let mut told = String::new();
        let settled = eventually("the host to hold what the model says", SETTLES_WITHIN, || {
            match self.compare_kernel(host, daemon) {
                Ok(()) => Ok(Some(())),
                Err(error) => {
                    told = format!("{error:#}");
                    Ok(None)
                }
            }
        });
        settled.context(told)
    }

    fn compare_objects(&self, daemon: &Daemon<'_>) -> Result<()> {
        let listed = |words: &[&str]| -> Result<BTreeSet<String>> {
            Ok(daemon.ok(words)?.lines().map(str::to_owned).collect())
        };
        let networks = listed(&["network", "ls", "--format", "{{.Name}}"])?;
        let predefined = ["bridge", "host", "none"].map(str::to_owned);
        let expected: BTreeSet<_> = self.networks.iter().cloned().chain(predefined).collect();
        ensure!(networks == expected, "networks are {networks:?}, not {expected:?}");
        let names: BTreeSet<String> = self.sandboxes.keys().cloned().collect();
        let found = listed(&["ps", "--format", "{{.Names}}"])?;
        ensure!(found == names, "sandboxes are {found:?}, not {names:?}");
        Ok(())
    }

    fn compare_kernel(&self, host: &Host, daemon: &Daemon<'_>) -> Result<()> {
        let status: Value = serde_json::from_str(&daemon.ok(&["status", "--format", "json"])?)?;
        ensure!(status["Health"] == "ok", "the daemon is {}", status["Problems"]);
        let endpoints: usize = self.sandboxes.values().map(|it| it.networks.len()).sum();
        let entries = |name: &str| {
            let maps = status["Maps"].as_array()?;
            maps.iter().find(|map| map["Name"] == name)?["Entries"].as_u64()
        };
        let ports = self.published().len() as u64;
        for (map, count) in [
            ("endpoints", endpoints as u64),
            ("members", endpoints as u64),
            ("stations", endpoints as u64),
            ("gateways", self.networks.len() as u64 + 1),
            ("published_v4", ports),
            ("published_v6", ports),
        ] {
            ensure!(entries(map) == Some(count), "{map} holds {:?}, not {count}", entries(map));
        }
        let links = host.exec("ip", &["-br", "link"])?;
        let links = String::from_utf8_lossy(&links.stdout).into_owned();
        let count = |prefix: &str| links.lines().filter(|it| it.starts_with(prefix)).count();
        ensure!(count("veth") == endpoints, "{} veths, not {endpoints}", count("veth"));
        let networks = self.networks.len();
        ensure!(count("br-") == networks, "{} bridges, not {networks}", count("br-"));
        let namespaces = std::fs::read_dir(daemon.places().netns())?.count();
        let expected = self.sandboxes.len();
        ensure!(namespaces == expected, "{namespaces} namespaces, not {expected}");
        Ok(())
    }
}
