//! The compiler: model, drivers and host facts to `Desired`. Pure, total, deterministic.

mod files;
mod host;
mod publish;
pub mod topology;

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::desired::files::FileDefaults;
use crate::desired::{Desired, Tables};
use crate::driver::{Context, driver};
use crate::facts::HostFacts;
use crate::model::Model;
use crate::model::sandbox::SandboxMode;
use topology::Topology;

/// The daemon's settings that reach the kernel side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileSettings {
    /// How long a silent flow is kept.
    pub timeouts: FlowTimeouts,
    /// First and last masquerade port.
    pub snat_ports: (u16, u16),
    /// Source that a container sees when it reaches itself through a published port.
    pub hairpin_v4: Ipv4Addr,
    /// The same for IPv6.
    pub hairpin_v6: Ipv6Addr,
    /// Most events per second and CPU that reach the monitor.
    pub event_rate: u32,
    /// Most members that one broadcast is replicated to.
    pub replication_limit: u32,
    /// ICMP errors of our own: per second and CPU, and at once.
    pub icmp_errors: (u32, u32),
    /// MTU of networks that name none; none follows the preferred uplink.
    pub mtu: Option<u32>,
    /// What the files of sandboxes say that were not told otherwise.
    pub files: FileDefaults,
    /// Whether sandboxes reach netd's name service: through the socket hooks alone.
    pub name_service: bool,
    /// Until then, seconds of `CLOCK_MONOTONIC`, TCP in mid-stream may open a flow.
    pub loose_until_s: u32,
    /// Write every verdict to the scratch map, for tests.
    pub trace_verdicts: bool,
}

impl Default for CompileSettings {
    fn default() -> Self {
        Self {
            timeouts: FlowTimeouts::default(),
            snat_ports: (49_152, 65_535),
            hairpin_v4: Ipv4Addr::new(169, 254, 110, 100),
            hairpin_v6: Ipv6Addr::new(0xfd6e, 0x6574, 0x6400, 0, 0, 0, 0, 1),
            event_rate: 1_000,
            replication_limit: 1_024,
            icmp_errors: (1_000, 50),
            mtu: None,
            files: FileDefaults::default(),
            name_service: true,
            loose_until_s: 0,
            trace_verdicts: false,
        }
    }
}

/// How long a silent flow is kept, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTimeouts {
    /// TCP before a reply.
    pub tcp_syn_s: u32,
    /// Established TCP. Who keeps a connection open all day and says nothing for hours finds it again.
    pub tcp_established_s: u32,
    /// TCP after a FIN.
    pub tcp_fin_s: u32,
    /// TCP after a RST.
    pub tcp_rst_s: u32,
    /// UDP before a reply.
    pub udp_s: u32,
    /// UDP after a reply.
    pub udp_assured_s: u32,
    /// ICMP echo.
    pub icmp_s: u32,
    /// Every other protocol.
    pub other_s: u32,
}

impl Default for FlowTimeouts {
    fn default() -> Self {
        Self {
            tcp_syn_s: 30,
            tcp_established_s: 86_400,
            tcp_fin_s: 30,
            tcp_rst_s: 10,
            udp_s: 30,
            udp_assured_s: 180,
            icmp_s: 10,
            other_s: 600,
        }
    }
}

/// What the kernel should hold for `model` on the host that `facts` describe. Entries that need an
/// interface index are there only for links that `facts` know.
pub fn compile(model: &Model, facts: &HostFacts, settings: &CompileSettings) -> Desired {
    let tables = tables(model, facts, settings);
    Desired { tables, ..outline(model, facts, settings) }
}

/// All of it but the tables, which is what needs no interface index.
pub fn outline(model: &Model, facts: &HostFacts, settings: &CompileSettings) -> Desired {
    let mut desired = Desired::default();
    let context = Context { topology: Topology::of(model), facts, settings };
    for network in model.networks.values() {
        driver(network.driver).add_links(network, &context, &mut desired);
    }
    let sources = files::sources(model, facts, settings);
    for joined in context.topology.sandboxes() {
        let sandbox = joined.sandbox;
        if sandbox.owns_netns && sandbox.mode != SandboxMode::Host {
            desired.namespaces.insert(sandbox.netns.clone());
        }
        let networks = joined.attachments.iter().map(|it| it.network);
        let asks_netd = settings.name_service && sandbox.asks_netd(networks);
        if asks_netd {
            desired.resolvers.insert(sandbox.id, sandbox.netns.clone());
        }
        files::add((joined, asks_netd), &sources, &mut desired);
        publish::hold(joined, &mut desired);
    }
    host::add_programs(facts, &mut desired);
    desired
}

/// Whether the outline on one host is that on the other: it depends on nothing else of them.
pub fn is_same_outline(one: &HostFacts, other: &HostFacts) -> bool {
    (&one.uplinks, &one.resolver) == (&other.uplinks, &other.resolver)
}

/// The tables alone.
pub fn tables(model: &Model, facts: &HostFacts, settings: &CompileSettings) -> Tables {
    let mut tables = Tables::default();
    let context = Context { topology: Topology::of(model), facts, settings };
    for network in model.networks.values() {
        driver(network.driver).add_entries(network, &context, &mut tables);
    }
    for joined in context.topology.sandboxes() {
        publish::add_entries(joined, &context, &mut tables);
    }
    host::add_entries(facts, settings, &mut tables);
    tables
}

#[cfg(test)]
pub(crate) mod tests;
