//! The model: which networks and containers there should be, who is on what and who publishes what.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};

use super::act::{Act, SERVED, guest_name};
use super::{SETTLES_WITHIN, guest};
use crate::container::Transport;
use crate::wire::Server;
use crate::{Container, Daemon, Netns, eventually};

/// Who makes and ends a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Made by the command line, filled by the test.
    Filled,
    /// Made by `netd run`.
    Process,
    /// An engine's.
    Engine,
}

/// What should be.
pub(super) struct Expected {
    networks: BTreeSet<String>,
    engine: Option<String>,
    sandboxes: BTreeMap<String, Sandbox>,
    created: BTreeMap<String, Created>,
}

struct Sandbox {
    kind: Kind,
    networks: BTreeSet<String>,
    ports: Vec<u16>,
}

/// What is known of a container since it was made.
struct Created {
    netns: Netns,
    addresses: BTreeMap<String, [IpAddr; 2]>,
    servers: Vec<Server>,
}

/// A container on one network.
#[derive(Clone)]
pub(super) struct Member {
    /// The container.
    pub(super) name: String,
    /// The network.
    pub(super) network: String,
    /// Where it is.
    pub(super) netns: Netns,
    /// Its addresses there.
    pub(super) addresses: [IpAddr; 2],
}

impl Expected {
    /// Nothing but an engine's network.
    pub(super) fn new(engine: String) -> Self {
        Self {
            networks: BTreeSet::new(),
            engine: Some(engine),
            sandboxes: BTreeMap::new(),
            created: BTreeMap::new(),
        }
    }

    /// The engine's network is gone.
    pub(super) fn engine_ends(&mut self) {
        self.engine = None;
    }

    /// Whether there is no container.
    pub(super) fn is_empty(&self) -> bool {
        self.sandboxes.is_empty()
    }

    /// Names of containers of one kind.
    pub(super) fn of_kind(&self, kind: Kind) -> Vec<String> {
        let found = self.sandboxes.iter().filter(|(_, it)| it.kind == kind);
        found.map(|(name, _)| name.clone()).collect()
    }

    /// Who makes and ends it.
    pub(super) fn kind(&self, name: &str) -> Option<Kind> {
        self.sandboxes.get(name).map(|it| it.kind)
    }

    /// What a container publishes, if there is one.
    pub(super) fn ports_of(&self, name: &str) -> Option<&[u16]> {
        self.sandboxes.get(name).map(|it| it.ports.as_slice())
    }

    /// Endpoints: containers by the networks that each is on.
    pub(super) fn endpoints(&self) -> usize {
        self.sandboxes.values().map(|it| it.networks.len()).sum()
    }

    /// Networks with a device, but the predefined one.
    pub(super) fn bridges(&self) -> usize {
        self.networks.len() + usize::from(self.engine.is_some())
    }

    /// Namespaces that netd makes.
    pub(super) fn namespaces(&self) -> usize {
        self.sandboxes.values().filter(|it| it.kind != Kind::Engine).count()
    }

    /// Published ports: those of containers that are on any network.
    pub(super) fn published(&self) -> Vec<u16> {
        let connected = self.sandboxes.values().filter(|it| !it.networks.is_empty());
        connected.flat_map(|it| it.ports.iter().copied()).collect()
    }

    /// Whether a container is on a network. One that is not goes out by another, where it meets the
    /// isolation of networks.
    pub(super) fn is_on(&self, name: &str, network: &str) -> bool {
        self.sandboxes.get(name).is_some_and(|it| it.networks.contains(network))
    }

    fn are_free(&self, ports: &[u16]) -> bool {
        let taken = self.published();
        !ports.iter().any(|port| taken.contains(port))
    }

    /// Whether an operation is granted.
    pub(super) fn grants(&self, act: &Act) -> bool {
        match act {
            Act::MakeNetwork { network } => !self.networks.contains(network),
            Act::RemoveNetwork { network } => {
                let is_used = self.sandboxes.values().any(|it| it.networks.contains(network));
                self.networks.contains(network) && !is_used
            }
            Act::Create { sandbox, network, ports } | Act::Run { sandbox, network, ports } => {
                !self.sandboxes.contains_key(sandbox)
                    && self.networks.contains(network)
                    && self.are_free(ports)
            }
            Act::Remove { sandbox } => self.sandboxes.contains_key(sandbox),
            Act::Kill { sandbox } => self.kind(sandbox) == Some(Kind::Process),
            Act::Connect { sandbox, network } => {
                // A container that is on no network holds no port: others may have taken it.
                let ports_are_free = self
                    .sandboxes
                    .get(sandbox)
                    .is_some_and(|it| !it.networks.is_empty() || self.are_free(&it.ports));
                ports_are_free && self.networks.contains(network) && !self.is_on(sandbox, network)
            }
            Act::Disconnect { sandbox, network } => self.is_on(sandbox, network),
            Act::Enter { guest } => !self.sandboxes.contains_key(&guest_name(*guest)),
            Act::Leave { guest } | Act::Revoke { guest } => {
                self.sandboxes.contains_key(&guest_name(*guest))
            }
            Act::Publish { port, .. } => self.are_free(&[*port]),
            Act::Restart { .. } | Act::Ask => true,
        }
    }

    /// Takes a granted operation in.
    pub(super) fn apply(&mut self, act: &Act) {
        match act {
            Act::MakeNetwork { network } => drop(self.networks.insert(network.clone())),
            Act::RemoveNetwork { network } => drop(self.networks.remove(network)),
            Act::Create { sandbox, network, ports } => {
                self.add(sandbox, Kind::Filled, network, ports);
            }
            Act::Run { sandbox, network, ports } => {
                self.add(sandbox, Kind::Process, network, ports);
            }
            Act::Enter { guest } => {
                let network = self.engine.clone().unwrap_or_default();
                self.add(&guest_name(*guest), Kind::Engine, &network, &[]);
            }
            Act::Remove { sandbox } | Act::Kill { sandbox } => self.forget(sandbox),
            Act::Leave { guest } => self.forget(&guest_name(*guest)),
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
            Act::Publish { guest, port } => self.publish(*guest, vec![*port]),
            Act::Revoke { guest } => self.publish(*guest, Vec::new()),
            Act::Restart { .. } | Act::Ask => {}
        }
    }

    fn add(&mut self, name: &str, kind: Kind, network: &str, ports: &[u16]) {
        let networks = BTreeSet::from([network.to_owned()]);
        self.sandboxes.insert(name.to_owned(), Sandbox { kind, networks, ports: ports.to_vec() });
    }

    fn publish(&mut self, guest: u8, ports: Vec<u16>) {
        if let Some(held) = self.sandboxes.get_mut(&guest_name(guest)) {
            held.ports = ports;
        }
    }

    /// A container is gone.
    pub(super) fn forget(&mut self, name: &str) {
        self.sandboxes.remove(name);
        self.created.remove(name);
    }

    /// Asks for the addresses of a container that an operation has changed, and serves in a new one.
    pub(super) fn learn(&mut self, daemon: &Daemon<'_>, act: &Act) -> Result<()> {
        match act {
            Act::Create { sandbox, .. } => {
                let container = Container::find(daemon, sandbox)?;
                let servers = container.serve_all(SERVED)?;
                self.note(&container, servers)
            }
            Act::Run { sandbox, .. } => {
                let container = Container::find(daemon, sandbox)?;
                serves(&container.netns)?;
                self.note(&container, Vec::new())
            }
            Act::Connect { sandbox, .. } | Act::Disconnect { sandbox, .. } => {
                let container = Container::find(daemon, sandbox)?;
                let known = self.created.remove(sandbox).context("a container that is known")?;
                self.note(&container, known.servers)
            }
            Act::Enter { guest } => self.note_guest(daemon, *guest),
            Act::MakeNetwork { .. }
            | Act::RemoveNetwork { .. }
            | Act::Remove { .. }
            | Act::Kill { .. }
            | Act::Leave { .. }
            | Act::Publish { .. }
            | Act::Revoke { .. }
            | Act::Restart { .. }
            | Act::Ask => Ok(()),
        }
    }

    fn note(&mut self, container: &Container, servers: Vec<Server>) -> Result<()> {
        let networks = &self.sandboxes[&container.name].networks;
        let addresses = networks.iter().map(|it| Ok((it.clone(), container.addresses(it)?)));
        let addresses = addresses.collect::<Result<_>>()?;
        let created = Created { netns: container.netns.clone(), addresses, servers };
        self.created.insert(container.name.clone(), created);
        Ok(())
    }

    fn note_guest(&mut self, daemon: &Daemon<'_>, guest: u8) -> Result<()> {
        let mut container = Container::find(daemon, &guest_name(guest))?;
        container.netns = guest::netns(daemon.host(), guest);
        let servers = container.serve_all(SERVED)?;
        let [v4, v6] = guest::addresses(guest);
        let network = self.engine.clone().context("an engine's network")?;
        let addresses = BTreeMap::from([(network, [v4.parse()?, v6.parse()?])]);
        let created = Created { netns: container.netns, addresses, servers };
        self.created.insert(container.name, created);
        Ok(())
    }

    /// What removes all that is there.
    pub(super) fn removals(&self) -> Vec<Act> {
        let sandboxes = self.sandboxes.iter().map(|(name, it)| {
            let guest = name.strip_prefix("guest").and_then(|number| number.parse().ok());
            match (it.kind, guest) {
                (Kind::Engine, Some(guest)) => Act::Leave { guest },
                _ => Act::Remove { sandbox: name.clone() },
            }
        });
        let networks = self.networks.iter().map(|it| Act::RemoveNetwork { network: it.clone() });
        sandboxes.chain(networks).collect()
    }

    /// Every container on every network, with its addresses there.
    pub(super) fn members(&self) -> Vec<Member> {
        let mut members = Vec::new();
        for (name, created) in &self.created {
            for (network, addresses) in &created.addresses {
                members.push(Member {
                    name: name.clone(),
                    network: network.clone(),
                    netns: created.netns.clone(),
                    addresses: *addresses,
                });
            }
        }
        members
    }

    /// What a container is told under another's name: its addresses on networks that both are on.
    pub(super) fn addresses_seen(&self, asker: &str, name: &str) -> BTreeSet<IpAddr> {
        let Some(created) = self.created.get(name) else { return BTreeSet::new() };
        let shared = created.addresses.iter().filter(|(network, _)| self.is_on(asker, network));
        shared.flat_map(|(_, addresses)| addresses).copied().collect()
    }

    /// The daemon shows what should be, and nothing else.
    pub(super) fn compare_objects(&self, daemon: &Daemon<'_>) -> Result<()> {
        let listed = |words: &[&str]| -> Result<BTreeSet<String>> {
            Ok(daemon.ok(words)?.lines().map(str::to_owned).collect())
        };
        let networks = listed(&["network", "ls", "--format", "{{.Name}}"])?;
        let predefined = ["bridge", "host", "none"].map(str::to_owned);
        let own = self.networks.iter().chain(&self.engine).cloned();
        let expected: BTreeSet<_> = own.chain(predefined).collect();
        ensure!(networks == expected, "networks are {networks:?}, not {expected:?}");
        let names: BTreeSet<String> = self.sandboxes.keys().cloned().collect();
        let found = listed(&["ps", "--format", "{{.Names}}"])?;
        ensure!(found == names, "sandboxes are {found:?}, not {names:?}");
        Ok(())
    }
}

/// Waits until the process of `netd run` serves.
fn serves(netns: &Netns) -> Result<()> {
    let target = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), SERVED);
    eventually("a server in a container of `run`", SETTLES_WITHIN, || {
        let all = Transport::ALL.iter().all(|transport| transport.ask(netns, target).is_ok());
        Ok(all.then_some(()))
    })
}
