//! The model in the API's words.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netd_common::map::resolver::RESOLVER_ADDR;

use super::Defaults;
use super::filter::driver_name;
use crate::api::{
    Counters, EndpointInspect, Ipam, IpamConfig, NetworkContainer, NetworkInspect, PublishedPort,
    SandboxInspect, Status, UplinkStatus,
};
use crate::controller::View;
use crate::desired::files::FileKind;
use crate::model::endpoint::format_mac;
use crate::model::network::{DriverKind, Pool};
use crate::model::sandbox::SandboxMode;
use crate::model::{Endpoint, Network, Proto, Publication, Sandbox};
use crate::observe::time::rfc3339;

/// What the kernel counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    /// By endpoint index.
    pub(super) counters: BTreeMap<u32, Counters>,
    /// By publication slot.
    pub(super) hits: BTreeMap<u32, u64>,
}

/// Shows sandboxes.
pub(super) struct Sandboxes<'a> {
    pub(super) view: &'a View,
    pub(super) defaults: &'a Defaults,
    pub(super) traffic: &'a Traffic,
}

/// A network.
pub(super) fn network(view: &View, network: &Network) -> NetworkInspect {
    let endpoints = view.called.model.endpoints.values().filter(|e| e.network == network.id);
    let containers = endpoints.filter_map(|endpoint| {
        let sandbox = view.called.model.sandboxes.get(&endpoint.sandbox?)?;
        Some((sandbox.id.to_string(), container(network, sandbox, endpoint)))
    });
    NetworkInspect {
        name: network.name.clone(),
        id: network.id.to_string(),
        created: rfc3339(network.created_ns),
        scope: "local".to_owned(),
        driver: driver_name(network.driver).to_owned(),
        enable_ipv4: network.ipv4,
        enable_ipv6: network.ipv6,
        ipam: ipam(network),
        internal: network.internal,
        containers: containers.collect(),
        options: network.options.clone(),
        labels: network.labels.clone(),
        mtu: mtu(view, network),
        device: match network.driver {
            DriverKind::Bridge => network.bridge.device.to_string(),
            DriverKind::Host | DriverKind::Null => String::new(),
        },
    }
}

/// The daemon, without what only the dataplane knows.
pub(super) fn status(view: &View) -> Status {
    let problems = problems(view);
    let uplinks = view.facts.uplinks.iter().map(|uplink| UplinkStatus {
        name: uplink.name.to_string(),
        ipv4: text(uplink.v4),
        ipv6: text(uplink.v6),
        mtu: uplink.mtu,
    });
    Status {
        health: if problems.is_empty() { "ok" } else { "degraded" }.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        abi: format!("{:016x}", netd_common::map::ABI),
        revision: view.revision,
        applied_revision: view.applied_revision,
        networks: view.called.model.networks.len() as u64,
        endpoints: view.called.model.endpoints.len() as u64,
        sandboxes: view.called.model.sandboxes.len() as u64,
        uplinks: uplinks.collect(),
        engine: view.engine.sentence(),
        problems,
        ..Status::default()
    }
}

/// What is wrong, each a sentence.
pub(super) fn problems(view: &View) -> Vec<String> {
    let failed = view.failures.iter().filter_map(|(id, reason)| {
        Some(format!("sandbox {}: {reason}", view.called.model.sandboxes.get(id)?.name))
    });
    view.problems.iter().cloned().chain(failed).collect()
}

impl Sandboxes<'_> {
    /// A sandbox.
    pub(super) fn inspect(&self, sandbox: &Sandbox) -> SandboxInspect {
        let reason = self.view.failures.get(&sandbox.id).cloned().unwrap_or_default();
        let told = &self.defaults.files;
        let servers: Vec<String> = told.servers.iter().map(ToString::to_string).collect();
        let path = |kind: FileKind| {
            let path = || self.defaults.file(sandbox, kind).display().to_string();
            if kind.is_own_of(sandbox, told) { path() } else { String::new() }
        };
        SandboxInspect {
            id: sandbox.id.to_string(),
            container_id: text(self.view.called.containers.get(&sandbox.id)),
            name: sandbox.name.clone(),
            created: rfc3339(sandbox.created_ns),
            mode: mode_name(sandbox.mode).to_owned(),
            netns: sandbox.netns.display().to_string(),
            hostname: sandbox.hostname.clone(),
            resolver: self.resolver(sandbox),
            dns: or(&sandbox.dns, &servers),
            dns_search: or(&sandbox.dns_search, &told.search),
            dns_options: or(&sandbox.dns_options, &told.options),
            extra_hosts: sandbox.extra_hosts.iter().map(ToString::to_string).collect(),
            host_gateway: self.host_gateway(),
            hosts_path: path(FileKind::Hosts),
            hostname_path: path(FileKind::Hostname),
            resolv_conf_path: path(FileKind::ResolvConf),
            labels: sandbox.labels.clone(),
            state: if reason.is_empty() { "running" } else { "failed" }.to_owned(),
            reason,
            pid: sandbox.owner.map_or(0, |owner| owner.pid),
            networks: self.networks(sandbox),
            ports: sandbox.publications.iter().map(|p| self.published(p)).collect(),
            exposed: sandbox.expose.iter().copied().map(exposed).collect(),
        }
    }

    fn resolver(&self, sandbox: &Sandbox) -> String {
        let model = &self.view.called.model;
        let endpoints = model.endpoints_of_sandbox(sandbox.id);
        let networks = endpoints.filter_map(|end| model.networks.get(&end.network));
        let asks_netd =
            self.defaults.name_service && sandbox.asks_netd(networks.map(AsRef::as_ref));
        text(asks_netd.then(|| std::net::Ipv4Addr::from(RESOLVER_ADDR)))
    }

    fn networks(&self, sandbox: &Sandbox) -> BTreeMap<String, EndpointInspect> {
        let model = &self.view.called.model;
        let endpoints = model.endpoints.values().filter(|e| e.sandbox == Some(sandbox.id));
        let named = endpoints.filter_map(|endpoint| {
            let network = model.networks.get(&endpoint.network)?;
            Some((network.name.clone(), self.endpoint(network, endpoint)))
        });
        named.collect()
    }

    fn endpoint(&self, network: &Network, endpoint: &Endpoint) -> EndpointInspect {
        let gateway = |addr| {
            let pool = pool_of(network, addr).filter(|_| !network.internal);
            text(pool.and_then(Pool::container_gateway))
        };
        let prefix = |addr| pool_of(network, addr).map_or(0, |pool| pool.subnet.prefix());
        let (v4, v6) = (endpoint.v4.map(IpAddr::from), endpoint.v6.map(IpAddr::from));
        EndpointInspect {
            network_id: network.id.to_string(),
            endpoint_id: endpoint.id.to_string(),
            gateway: gateway(v4),
            ipv6_gateway: gateway(v6),
            ip_address: text(v4),
            ip_prefix_len: prefix(v4),
            global_ipv6_address: text(v6),
            global_ipv6_prefix_len: prefix(v6),
            mac_address: format_mac(endpoint.mac),
            aliases: endpoint.aliases.clone(),
            interface: endpoint.interface.to_string(),
            veth: endpoint.veth.to_string(),
            gw_priority: endpoint.gw_priority,
            counters: self.traffic.counters.get(&endpoint.index).copied().unwrap_or_default(),
        }
    }

    fn published(&self, publication: &Publication) -> PublishedPort {
        PublishedPort {
            host_ip: publication.host_ip.to_string(),
            host_port: publication.host_port,
            container_port: publication.container_port,
            count: publication.count,
            proto: proto_name(publication.proto).to_owned(),
            hits: self.traffic.hits.get(&publication.slot).copied().unwrap_or_default(),
        }
    }

    fn host_gateway(&self) -> Vec<String> {
        let told = self.defaults.host_gateways(&self.view.called.model);
        told.iter().map(ToString::to_string).collect()
    }
}

/// What was asked for, and `default` where nothing was.
fn or(asked: &[String], default: &[String]) -> Vec<String> {
    if asked.is_empty() { default.to_vec() } else { asked.to_vec() }
}

fn container(network: &Network, sandbox: &Sandbox, endpoint: &Endpoint) -> NetworkContainer {
    let cidr = |addr: Option<IpAddr>| match (addr, pool_of(network, addr)) {
        (Some(addr), Some(pool)) => format!("{addr}/{}", pool.subnet.prefix()),
        (Some(addr), None) => addr.to_string(),
        (None, _) => String::new(),
    };
    NetworkContainer {
        name: sandbox.name.clone(),
        endpoint_id: endpoint.id.to_string(),
        mac_address: format_mac(endpoint.mac),
        ipv4_address: cidr(endpoint.v4.map(IpAddr::from)),
        ipv6_address: cidr(endpoint.v6.map(IpAddr::from)),
    }
}

fn ipam(network: &Network) -> Ipam {
    let config = network.pools.iter().map(|pool| IpamConfig {
        subnet: pool.subnet.to_string(),
        ip_range: pool.range.map(|range| range.to_string()),
        gateway: pool.gateway.map(|gateway| gateway.to_string()),
        auxiliary_addresses: pool
            .aux_addresses
            .iter()
            .map(|(name, addr)| (name.clone(), addr.to_string()))
            .collect(),
    });
    Ipam {
        driver: Some(network.ipam_driver.clone()),
        options: network.ipam_options.clone(),
        config: config.collect(),
    }
}

fn mtu(view: &View, network: &Network) -> u32 {
    let device = || view.facts.links.get(&network.bridge.device).map(|link| link.mtu);
    let uplink = || view.facts.uplinks.first().map(|uplink| uplink.mtu);
    match network.driver {
        DriverKind::Bridge => network.bridge.mtu.or_else(device).or_else(uplink).unwrap_or(0),
        DriverKind::Host => uplink().unwrap_or(0),
        DriverKind::Null => 0,
    }
}

fn pool_of(network: &Network, addr: Option<IpAddr>) -> Option<&Pool> {
    network.pools.iter().find(|pool| addr.is_some_and(|addr| pool.subnet.contains(addr)))
}

fn exposed((first, last, proto): (u16, u16, Proto)) -> String {
    let proto = proto_name(proto);
    if first == last { format!("{first}/{proto}") } else { format!("{first}-{last}/{proto}") }
}

fn mode_name(mode: SandboxMode) -> &'static str {
    match mode {
        SandboxMode::Bridged => "bridged",
        SandboxMode::Host => "host",
        SandboxMode::None => "none",
    }
}

fn proto_name(proto: Proto) -> &'static str {
    match proto {
        Proto::Tcp => "tcp",
        Proto::Udp => "udp",
        Proto::Sctp => "sctp",
    }
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}
