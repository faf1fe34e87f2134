//! What the packet path knows of the host itself: its addresses, its uplinks, its settings.

use std::net::IpAddr;

use netd_common::map::config::{Config, TRACE_VERDICTS};
use netd_common::map::network::{HostAddressValue, UPLINK_HAS_MAC, UplinkValue};
use netd_common::{Hook, Ipv4, Ipv6, NetworkIndex};

use super::CompileSettings;
use crate::desired::{Desired, Tables};
use crate::facts::{HostFacts, UplinkFact};

/// Adds the programs on the host's uplinks.
pub(super) fn add_programs(facts: &HostFacts, desired: &mut Desired) {
    for uplink in &facts.uplinks {
        for hook in hooks(uplink) {
            desired.programs.insert((uplink.name.clone(), hook));
        }
    }
}

/// Adds the host. Addresses that a driver has claimed for a network stay the network's.
pub(super) fn add_entries(facts: &HostFacts, settings: &CompileSettings, tables: &mut Tables) {
    tables.config.insert(0, config(facts, settings));
    add_addresses(facts, tables);
    for uplink in &facts.uplinks {
        tables.uplinks.insert(uplink.ifindex, uplink_value(uplink));
    }
}

/// Where the programs sit on an uplink.
fn hooks(uplink: &UplinkFact) -> [Hook; 2] {
    match uplink.mac {
        Some(_) => [Hook::FromNetdev, Hook::ToNetdev],
        None => [Hook::FromL3dev, Hook::ToL3dev],
    }
}

fn add_addresses(facts: &HostFacts, tables: &mut Tables) {
    for (addr, ifindex) in &facts.addresses {
        let network = tables.gateways.get(ifindex).copied().map(NetworkIndex);
        let value =
            HostAddressValue { ifindex: *ifindex, network: network.unwrap_or(NetworkIndex::HOST) };
        match *addr {
            IpAddr::V4(addr) => tables.host_addrs_v4.entry(addr.into()).or_insert(value),
            IpAddr::V6(addr) => tables.host_addrs_v6.entry(addr.into()).or_insert(value),
        };
    }
}

fn uplink_value(uplink: &UplinkFact) -> UplinkValue {
    UplinkValue {
        v4: uplink.v4.map(Ipv4::from).unwrap_or_default(),
        v6: uplink.v6.map(Ipv6::from).unwrap_or_default(),
        mtu: uplink.mtu,
        mac: uplink.mac.unwrap_or_default(),
        flags: if uplink.mac.is_some() { UPLINK_HAS_MAC } else { 0 },
    }
}

/// The generation is the reconciler's: it moves with every change, which one compilation can't see.
fn config(facts: &HostFacts, settings: &CompileSettings) -> Config {
    let timeouts = settings.timeouts;
    Config {
        host_netns_cookie: facts.netns_cookie,
        generation: 0,
        flags: if settings.trace_verdicts { TRACE_VERDICTS } else { 0 },
        snat_first: settings.snat_ports.0,
        snat_last: settings.snat_ports.1,
        hairpin_v4: settings.hairpin_v4.into(),
        hairpin_v6: settings.hairpin_v6.into(),
        tcp_syn_s: timeouts.tcp_syn_s,
        tcp_established_s: timeouts.tcp_established_s,
        tcp_fin_s: timeouts.tcp_fin_s,
        tcp_rst_s: timeouts.tcp_rst_s,
        udp_s: timeouts.udp_s,
        udp_assured_s: timeouts.udp_assured_s,
        icmp_s: timeouts.icmp_s,
        other_s: timeouts.other_s,
        event_rate: settings.event_rate,
        replication_limit: settings.replication_limit,
        icmp_error_rate: settings.icmp_errors.0,
        icmp_error_burst: settings.icmp_errors.1,
        loose_until_s: settings.loose_until_s,
        pad: 0,
    }
}
