//! Creating a sandbox: its name, its mode, its endpoints, its ports; all or nothing.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::apply::Change;
use super::endpoint::EndpointSpec;
use super::extra_host::ExtraHost;
use super::id::{NetworkId, SandboxId};
use super::keeper::Keeper;
use super::netns::NetnsPath;
use super::network::DriverKind;
use super::port::{PortSpec, Proto, parse_expose};
use super::predefined::BRIDGE;
use super::refusal::Refusal;
use super::sandbox::{Sandbox, SandboxMode, SandboxSpec};
use super::{Model, Outcome};

/// How 29 begins what goes wrong when a container starts.
pub(super) const SETUP: &str = "failed to set up container networking";
/// Docker's sentence for a sandbox that shares the host's namespace.
pub(super) const SHARES_HOST: &str = "container sharing network namespace with another container or host cannot be connected to any other network";
/// Docker's sentence for a sandbox with loopback only.
pub(super) const PRIVATE: &str = "container cannot be connected to multiple networks with one of the networks in private (none) mode";
const DISCARDED: &str = "Published ports are discarded when using host network mode";
const HOST_NETNS: &str = "/proc/self/ns/net";
const NAME_LEN_MAX: usize = 255;

const ADJECTIVES: &[&str] = &[
    "able", "amber", "apt", "bold", "brave", "brisk", "calm", "clear", "crisp", "deft", "eager",
    "early", "fair", "fleet", "fond", "frank", "glad", "keen", "kind", "lively", "lucid", "mellow",
    "merry", "noble", "proud", "quick", "quiet", "ready", "sharp", "swift", "vivid", "wise",
];
const NOUNS: &[&str] = &[
    "alder", "badger", "beacon", "birch", "brook", "cedar", "comet", "coral", "crane", "delta",
    "ember", "falcon", "fjord", "harbor", "heron", "island", "juniper", "lantern", "linden",
    "maple", "meadow", "otter", "pebble", "plover", "quartz", "raven", "river", "robin", "summit",
    "thicket", "tundra", "willow",
];

impl Change<'_> {
    pub(super) fn create_sandbox(&mut self, spec: SandboxSpec) -> Result<Outcome, Refusal> {
        let expose = parse_exposed(&spec.expose)?;
        refuse_sctp(&spec.ports)?;
        check_dns(&spec.dns)?;
        check_words("search domain", &spec.dns_search)?;
        check_words("resolver option", &spec.dns_options)?;
        let extra_hosts = spec.extra_hosts.iter().map(|text| ExtraHost::parse(text));
        let extra_hosts = extra_hosts.collect::<Result<Vec<_>, _>>()?;
        let (networks, mode) = self.resolve(spec.networks)?;
        let name = self.name_sandbox(spec.name)?;
        let id = self.free_sandbox_id();
        let (netns, owns_netns) = self.place(id, mode, spec.netns)?;
        let mut ports = spec.ports;
        if spec.publish_all {
            ports.extend(implied(&expose, &ports));
            refuse_sctp(&ports)?;
        }
        let mut warnings = Vec::new();
        if mode == SandboxMode::Host && !ports.is_empty() {
            ports.clear();
            warnings.push(DISCARDED.to_owned());
        }
        self.put_sandbox(Sandbox {
            id,
            name,
            created_ns: self.now.now_ns,
            keeper: Keeper::Netd,
            mode,
            netns,
            owns_netns,
            hostname: host_name(spec.hostname, id, mode)?,
            dns: spec.dns,
            dns_search: spec.dns_search,
            dns_options: spec.dns_options,
            extra_hosts,
            labels: spec.labels,
            expose,
            ports,
            publications: Vec::new(),
            owner: spec.owner,
        });
        if mode == SandboxMode::Bridged {
            for (network, endpoint) in networks {
                self.join(network, id, &endpoint).map_err(|refusal| refusal.within(SETUP))?;
            }
            warnings.extend(self.publish(id).map_err(|refusal| refusal.within(SETUP))?);
        }
        Ok(Outcome::Sandbox(id, warnings))
    }

    /// The networks meant, each well asked for, and the mode they come to.
    fn resolve(
        &self,
        mut wanted: Vec<(String, EndpointSpec)>,
    ) -> Result<(Vec<(NetworkId, EndpointSpec)>, SandboxMode), Refusal> {
        if wanted.is_empty() {
            wanted.push((BRIDGE.to_owned(), EndpointSpec::default()));
        }
        let (alone, mut mode) = (wanted.len() == 1, SandboxMode::Bridged);
        let mut networks: Vec<(NetworkId, EndpointSpec)> = Vec::new();
        for (name, endpoint) in wanted {
            let meant = if name == "default" { BRIDGE } else { &name };
            let network = self.model.find_network(meant).map_err(|r| r.within(SETUP))?;
            match (network.driver, alone) {
                (DriverKind::Bridge, _) => {}
                (DriverKind::Host, true) => mode = SandboxMode::Host,
                (DriverKind::Null, true) => mode = SandboxMode::None,
                (DriverKind::Host, false) => return Err(Refusal::invalid(SHARES_HOST)),
                (DriverKind::Null, false) => return Err(Refusal::invalid(PRIVATE)),
            }
            let invalid = format!("invalid config for network {name}");
            endpoint.check(network).map_err(|refusal| refusal.within(invalid))?;
            if mode != SandboxMode::Bridged && endpoint.mac.is_some() {
                return Err(Refusal::invalid(
                    "conflicting options: mac-address and the network mode",
                ));
            }
            if networks.iter().any(|(id, _)| *id == network.id) {
                return Err(Refusal::invalid(format_args!(
                    "network \"{name}\" is specified multiple times"
                )));
            }
            networks.push((network.id, endpoint));
        }
        Ok((networks, mode))
    }

    fn name_sandbox(&mut self, asked: Option<String>) -> Result<String, Refusal> {
        let Some(name) = asked.filter(|name| !name.is_empty()) else {
            return Ok(self.free_name());
        };
        let name = name.strip_prefix('/').unwrap_or(&name);
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let sound = (2..=NAME_LEN_MAX).contains(&name.len())
            && name.bytes().all(inner)
            && name.as_bytes()[0].is_ascii_alphanumeric();
        if !sound {
            return Err(Refusal::invalid(format_args!(
                "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )));
        }
        match self.model.sandbox_named(name) {
            None => Ok(name.to_owned()),
            Some(held) => Err(Refusal::conflict(format_args!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
                held.id
            ))),
        }
    }

    fn free_name(&mut self) -> String {
        let mut name = format!("{}_{}", self.rand.pick(ADJECTIVES), self.rand.pick(NOUNS));
        while self.model.sandbox_named(&name).is_some() {
            let digit = self.rand.draw() % 10;
            name = format!("{name}{digit}");
        }
        name
    }

    pub(super) fn free_sandbox_id(&mut self) -> SandboxId {
        loop {
            let id = SandboxId(self.rand.id());
            let path = self.netns_path(id);
            let free = |held: &Sandbox| held.id != id && held.netns != path;
            if self.model.sandboxes.values().all(|held| free(held)) {
                return id;
            }
        }
    }

    fn netns_path(&self, id: SandboxId) -> NetnsPath {
        self.now.settings.netns_dir.join(format!("netd-{}", id.short())).into()
    }

    /// Where its namespace is, and whether we make it.
    fn place(
        &self,
        id: SandboxId,
        mode: SandboxMode,
        given: Option<PathBuf>,
    ) -> Result<(NetnsPath, bool), Refusal> {
        match (mode, given) {
            (SandboxMode::Host, None) => Ok((Path::new(HOST_NETNS).into(), false)),
            (SandboxMode::Host, Some(_)) => {
                Err(Refusal::invalid("conflicting options: network namespace and the network mode"))
            }
            (SandboxMode::Bridged | SandboxMode::None, None) => Ok((self.netns_path(id), true)),
            (SandboxMode::Bridged | SandboxMode::None, Some(path)) => {
                let path = path.into();
                check_netns(&self.model, &path)?;
                Ok((path, false))
            }
        }
    }
}

fn check_netns(model: &Model, path: &NetnsPath) -> Result<(), Refusal> {
    let shown = path.display();
    if !path.is_absolute() || path.to_str().is_none_or(|text| text.contains('\0')) {
        return Err(Refusal::invalid(format_args!(
            "network namespace \"{shown}\": an absolute path is needed"
        )));
    }
    match model.sandboxes.values().find(|held| held.netns == *path) {
        None => Ok(()),
        Some(held) => Err(Refusal::conflict(format_args!(
            "network namespace {shown} is already in use by container {}",
            held.name
        ))),
    }
}

fn host_name(asked: Option<String>, id: SandboxId, mode: SandboxMode) -> Result<String, Refusal> {
    let Some(name) = asked.filter(|name| !name.is_empty()) else {
        // The host's own name applies where its namespace does.
        return Ok(if mode == SandboxMode::Host { String::new() } else { id.short() });
    };
    let label = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(Refusal::invalid(format_args!("invalid hostname format: {name}")));
    }
    Ok(name)
}

fn check_dns(servers: &[String]) -> Result<(), Refusal> {
    match servers.iter().find(|server| server.parse::<IpAddr>().is_err()) {
        None => Ok(()),
        Some(server) => {
            Err(Refusal::invalid(format_args!("IP address is not correctly formatted: {server}")))
        }
    }
}

/// Each becomes one word of a line of resolv.conf.
fn check_words(what: &str, words: &[String]) -> Result<(), Refusal> {
    let one = |text: &&String| text.is_empty() || text.contains(char::is_whitespace);
    match words.iter().find(one) {
        None => Ok(()),
        Some(text) => Err(Refusal::invalid(format_args!("{what} '{text}' is not one word"))),
    }
}

/// Refuses what the dataplane can't translate.
pub(super) fn refuse_sctp(ports: &[PortSpec]) -> Result<(), Refusal> {
    if ports.iter().any(|spec| spec.proto == Proto::Sctp) {
        return Err(Refusal::invalid(
            "SCTP publishing is not supported yet by netd: publish tcp or udp",
        ));
    }
    Ok(())
}

fn parse_exposed(texts: &[String]) -> Result<Vec<(u16, u16, Proto)>, Refusal> {
    texts.iter().map(|text| parse_expose(text)).collect()
}

/// What `-P` adds: a random port for each exposed one that no `-p` names.
fn implied(expose: &[(u16, u16, Proto)], ports: &[PortSpec]) -> Vec<PortSpec> {
    let mut covered = ports.to_vec();
    let mut implied = Vec::new();
    for (first, last, proto) in expose {
        for container in uncovered((*first, *last), *proto, &covered) {
            implied.push(PortSpec { host_ip: None, host: None, container, proto: *proto });
        }
        covered.extend(implied.iter().cloned());
    }
    implied
}

/// The parts of a range of container ports that no spec names.
fn uncovered((first, last): (u16, u16), proto: Proto, specs: &[PortSpec]) -> Vec<(u16, u16)> {
    let mut covered: Vec<_> =
        specs.iter().filter(|spec| spec.proto == proto).map(|spec| spec.container).collect();
    covered.sort_unstable();
    let (mut parts, mut next) = (Vec::new(), u32::from(first));
    for (from, to) in covered {
        let (from, to) = (u32::from(from), u32::from(to));
        if from > u32::from(last) {
            break;
        }
        if next < from {
            parts.push((next, from - 1));
        }
        next = next.max(to + 1);
    }
    if next <= u32::from(last) {
        parts.push((next, u32::from(last)));
    }
    let port = |number: u32| u16::try_from(number).unwrap_or(last);
    parts.into_iter().map(|(from, to)| (port(from), port(to))).collect()
}
