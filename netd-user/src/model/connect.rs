//! Endpoints coming and going: connect, disconnect, and the end of a sandbox.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use netd_common::MacAddr;
use netd_common::map::MAX_ENDPOINTS;

use super::apply::Change;
use super::create_network::{is_link_taken, link_name};
use super::create_sandbox::{PRIVATE, SHARES_HOST};
use super::endpoint::{EndpointSpec, Inside, parse_mac};
use super::id::{EndpointId, NetworkId, SandboxId};
use super::ipam::{configured_pool, lowest_index, outside};
use super::network::{DriverKind, Network};
use super::options::is_link_name;
use super::refusal::Refusal;
use super::sandbox::{Sandbox, SandboxMode};
use super::{Endpoint, Outcome};

const INTERFACE_NAME: &str = "com.docker.network.endpoint.ifname";
const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
const ALIASES: &str = "network-scoped aliases are only supported for user-defined networks";
const PREDEFINED_IP: &str = "user-specified IP address is supported on user-defined networks only";

impl Change<'_> {
    pub(super) fn connect(
        &mut self,
        network: &str,
        sandbox: &str,
        spec: &EndpointSpec,
    ) -> Result<Outcome, Refusal> {
        let sandbox = Arc::clone(self.model.find_sandbox(sandbox)?);
        let network = Arc::clone(self.model.find_network(network)?);
        sandbox.refuse_unless_ours()?;
        spec.check(&network)?;
        match (network.driver, sandbox.mode) {
            (_, SandboxMode::Host) => return Err(Refusal::forbidden(SHARES_HOST)),
            (DriverKind::Host, SandboxMode::Bridged | SandboxMode::None) => {
                return Err(Refusal::forbidden(
                    "cannot connect container to host network - container must be created in host network mode",
                ));
            }
            (DriverKind::Null, SandboxMode::None) => return Err(already_there(&sandbox, &network)),
            (DriverKind::Null, SandboxMode::Bridged) => return self.connect_to_none(&sandbox),
            (DriverKind::Bridge, SandboxMode::None) => return Err(Refusal::forbidden(PRIVATE)),
            (DriverKind::Bridge, SandboxMode::Bridged) => {}
        }
        let endpoint = self.join(network.id, sandbox.id, spec)?;
        self.publish(sandbox.id)?;
        Ok(Outcome::Endpoint(endpoint))
    }

    /// Only a sandbox that is on no network can be put on `none`.
    fn connect_to_none(&mut self, sandbox: &Sandbox) -> Result<Outcome, Refusal> {
        if self.model.endpoints_of_sandbox(sandbox.id).next().is_some() {
            return Err(Refusal::forbidden(PRIVATE));
        }
        self.put_sandbox(Sandbox { mode: SandboxMode::None, ..sandbox.clone() });
        Ok(Outcome::Sandbox(sandbox.id, Vec::new()))
    }

    pub(super) fn disconnect(&mut self, network: &str, sandbox: &str) -> Result<Outcome, Refusal> {
        let sandbox = Arc::clone(self.model.find_sandbox(sandbox)?);
        let network = Arc::clone(self.model.find_network(network)?);
        sandbox.refuse_unless_ours()?;
        match (network.driver, sandbox.mode) {
            (DriverKind::Host, SandboxMode::Host) => {
                return Err(Refusal::forbidden(
                    "cannot disconnect container from host network - container was created in host network mode",
                ));
            }
            (DriverKind::Null, SandboxMode::None) => {
                self.put_sandbox(Sandbox {
                    mode: SandboxMode::Bridged,
                    ..Sandbox::clone(&sandbox)
                });
                return Ok(Outcome::Sandbox(sandbox.id, Vec::new()));
            }
            (
                DriverKind::Bridge | DriverKind::Host | DriverKind::Null,
                SandboxMode::Bridged | SandboxMode::Host | SandboxMode::None,
            ) => {}
        }
        let Some(endpoint) = self.model.endpoint_between(sandbox.id, network.id) else {
            return Err(Refusal::forbidden(format_args!(
                "container {} is not connected to network {}",
                sandbox.id, network.name
            )));
        };
        let id = endpoint.id;
        self.model.endpoints.remove(&id);
        self.publish(sandbox.id)?;
        Ok(Outcome::Endpoint(id))
    }

    pub(super) fn remove_sandbox(&mut self, wanted: &str) -> Result<Outcome, Refusal> {
        let sandbox = self.model.find_sandbox(wanted)?;
        sandbox.refuse_unless_ours()?;
        let id = sandbox.id;
        self.model.endpoints.retain(|_, endpoint| endpoint.sandbox != Some(id));
        self.model.sandboxes.remove(&id);
        Ok(Outcome::Sandbox(id, Vec::new()))
    }

    /// Makes an endpoint for a sandbox on a bridge network.
    pub(super) fn join(
        &mut self,
        network: NetworkId,
        sandbox: SandboxId,
        spec: &EndpointSpec,
    ) -> Result<EndpointId, Refusal> {
        let (Some(network), Some(sandbox)) =
            (self.model.networks.get(&network), self.model.sandboxes.get(&sandbox))
        else {
            unreachable!("the caller has just found both")
        };
        let (network, sandbox) = (Arc::clone(network), Arc::clone(sandbox));
        if self.model.endpoint_between(sandbox.id, network.id).is_some() {
            return Err(already_there(&sandbox, &network));
        }
        let [v4, v6] = [false, true].map(|v6| self.address(&network, v6, spec));
        let (id, veth) = self.identify_endpoint();
        let endpoint = Endpoint {
            id,
            index: self.endpoint_index()?,
            network: network.id,
            sandbox: Some(sandbox.id),
            inside: Inside::Netd,
            v4: v4?.and_then(|addr| if let IpAddr::V4(addr) = addr { Some(addr) } else { None }),
            v6: v6?.and_then(|addr| if let IpAddr::V6(addr) = addr { Some(addr) } else { None }),
            mac: self.mac(&network, spec.mac.as_deref())?,
            aliases: spec.aliases.clone(),
            gw_priority: spec.gw_priority,
            interface: self.interface(&network, sandbox.id, spec)?.into(),
            veth: veth.into(),
            options: spec.options.clone(),
        };
        self.model.endpoints.insert(id, Arc::new(endpoint));
        Ok(id)
    }

    pub(super) fn endpoint_index(&self) -> Result<u32, Refusal> {
        let taken = self.model.endpoints.values().map(|endpoint| endpoint.index);
        lowest_index(MAX_ENDPOINTS, taken).ok_or_else(|| {
            let most = MAX_ENDPOINTS - 1;
            Refusal::conflict(format_args!(
                "no free endpoint slot: netd holds at most {most} endpoints (map endpoints): \
                 remove sandboxes that are not needed"
            ))
        })
    }

    fn address(
        &self,
        network: &Network,
        v6: bool,
        spec: &EndpointSpec,
    ) -> Result<Option<IpAddr>, Refusal> {
        let asked = if v6 { &spec.ip6 } else { &spec.ip };
        match asked.as_deref().filter(|text| !text.is_empty()) {
            None => self.model.free_address(network, v6),
            Some(text) => {
                let asked = parse_ip(text, v6).map_err(Refusal::invalid)?;
                self.model.claim_address(network, asked).map(Some)
            }
        }
    }

    fn identify_endpoint(&mut self) -> (EndpointId, String) {
        loop {
            let id = EndpointId(self.rand.id());
            let veth = link_name(&self.now.settings.veth_prefix, &id.to_string(), 7);
            if !self.model.endpoints.contains_key(&id) && !is_link_taken(&self.model, &veth) {
                return (id, veth);
            }
        }
    }

    /// A name for a link of an endpoint that no other link of ours has.
    pub(super) fn free_link_name(&mut self) -> String {
        loop {
            let digits = EndpointId(self.rand.id()).to_string();
            let name = link_name(&self.now.settings.veth_prefix, &digits, 7);
            if !is_link_taken(&self.model, &name) {
                return name;
            }
        }
    }

    /// The MAC asked for, which nobody else on the network may have, else a free one.
    pub(super) fn mac(
        &mut self,
        network: &Network,
        asked: Option<&str>,
    ) -> Result<MacAddr, Refusal> {
        let held = self.model.endpoints_of_network(network.id).map(|endpoint| endpoint.mac);
        let held: BTreeSet<_> = held.collect();
        if let Some(text) = asked.filter(|text| !text.is_empty()) {
            let mac = parse_unicast(text).map_err(Refusal::invalid)?;
            if held.contains(&mac) {
                return Err(Refusal::conflict(format_args!(
                    "MAC address {text} is already in use on network {}",
                    network.name
                )));
            }
            return Ok(mac);
        }
        loop {
            let mac = self.rand.mac();
            if !held.contains(&mac) {
                return Ok(mac);
            }
        }
    }

    /// The name asked for, else the network's prefix with the lowest free number.
    fn interface(
        &self,
        network: &Network,
        sandbox: SandboxId,
        spec: &EndpointSpec,
    ) -> Result<String, Refusal> {
        let endpoints = self.model.endpoints_of_sandbox(sandbox);
        let held: BTreeSet<&str> = endpoints.map(|endpoint| &*endpoint.interface).collect();
        if let Some(name) = spec.options.get(INTERFACE_NAME) {
            if held.contains(name.as_str()) {
                return Err(Refusal::conflict(format_args!(
                    "interface name {name} is already in use in the container"
                )));
            }
            return Ok(name.clone());
        }
        let mut names =
            (0..).map(|number: u32| format!("{}{number}", network.bridge.interface_prefix));
        let Some(free) = names.find(|name| !held.contains(name.as_str())) else {
            unreachable!("a sandbox has fewer endpoints than there are numbers")
        };
        if !is_link_name(&free) {
            return Err(Refusal::invalid(format_args!("interface name {free} is too long")));
        }
        Ok(free)
    }
}

impl EndpointSpec {
    /// Refuses words that make no sense on a network, all at once; takes nothing.
    pub(super) fn check(&self, network: &Network) -> Result<(), Refusal> {
        network.refuse_unless_ours()?;
        let mut wrong = Vec::new();
        for (text, v6) in [(&self.ip, false), (&self.ip6, true)] {
            if let Some(text) = text.as_deref().filter(|text| !text.is_empty()) {
                wrong.extend(check_ip(text, v6, network).err());
            }
        }
        if let Some(text) = self.mac.as_deref().filter(|text| !text.is_empty()) {
            wrong.extend(parse_unicast(text).err());
        }
        if network.predefined && !self.aliases.is_empty() {
            wrong.push(ALIASES.to_owned());
        }
        wrong.extend(self.aliases.iter().filter_map(|alias| check_alias(alias).err()));
        wrong.extend(self.options.iter().filter_map(|(key, value)| check_option(key, value).err()));
        if wrong.is_empty() {
            return Ok(());
        }
        let all = wrong.join("\n");
        Err(Refusal::invalid(format_args!("invalid endpoint settings:\n{all}")))
    }
}

fn already_there(sandbox: &Sandbox, network: &Network) -> Refusal {
    Refusal::forbidden(format_args!(
        "endpoint with name {} already exists in network {}",
        sandbox.name, network.name
    ))
}

fn check_ip(text: &str, v6: bool, network: &Network) -> Result<(), String> {
    if network.predefined {
        return Err(PREDEFINED_IP.to_owned());
    }
    let asked = parse_ip(text, v6)?;
    configured_pool(network, asked).map(|_| ()).ok_or_else(|| outside(asked))
}

fn parse_ip(text: &str, v6: bool) -> Result<IpAddr, String> {
    let parsed = text.parse::<IpAddr>().ok().filter(|addr| addr.is_ipv6() == v6);
    parsed.ok_or_else(|| format!("invalid {} address: {text}", super::subnet::family(v6)))
}

fn parse_unicast(text: &str) -> Result<MacAddr, String> {
    let mac = parse_mac(text).ok_or_else(|| format!("{text} is not a valid mac address"))?;
    if mac.is_group() || mac == MacAddr::default() {
        return Err(format!("{text} is not a valid mac address: a unicast address is needed"));
    }
    Ok(mac)
}

fn check_alias(alias: &str) -> Result<(), String> {
    let sound = (1..=255).contains(&alias.len())
        && !alias.chars().any(|letter| letter.is_control() || letter.is_whitespace());
    sound.then_some(()).ok_or_else(|| format!("invalid network-scoped alias {alias:?}"))
}

fn check_option(key: &str, value: &str) -> Result<(), String> {
    match key {
        INTERFACE_NAME if !is_link_name(value) || value == "lo" => {
            Err(format!("invalid value {value:?} for {INTERFACE_NAME}"))
        }
        SYSCTLS => Err(format!("{SYSCTLS} is not supported yet by netd")),
        _ if key.starts_with("netd.") => Err(format!("unknown endpoint option {key}")),
        _ => Ok(()),
    }
}
