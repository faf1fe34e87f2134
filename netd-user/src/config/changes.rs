//! What a new configuration changes in a running daemon, by the names of its keys.
//!
//! Law: every key is in the one list, so that none is passed over in silence.

use super::{Config, DnsDefaults, FlowTable};
use crate::model::Settings;

/// The value of a key, as text to compare.
type Value = fn(&Config) -> String;

macro_rules! keys {
    ($($key:literal = $config:ident => $($value:expr),+;)+) => {
        const KEYS: &[(&str, Value)] =
            &[$(($key, |$config: &Config| format!("{:?}", ($(&$value,)+)))),+];
    };
}

keys! {
    "state-dir" = c => c.state_dir;
    "run-dir" = c => c.run_dir;
    "netns-dir" = c => c.settings.netns_dir;
    "bpffs-dir" = c => c.bpffs_dir;
    "cgroup" = c => c.cgroup;
    "resolv-conf" = c => c.resolv_conf;
    "api-socket" = c => c.api_socket;
    "docker-socket" = c => c.docker_socket;
    "docker-api-socket" = c => c.docker_api_socket;
    "group" = c => c.group;
    "metrics-addr" = c => c.metrics_addr;
    "log-level" = c => c.log_level;
    "log-format" = c => c.log_format;
    "verify-interval" = c => c.verify_interval;
    "request-deadline" = c => c.request_deadline;
    "bridge-prefix" = c => c.settings.bridge_prefix;
    "veth-prefix" = c => c.settings.veth_prefix;
    "default-bridge-name" = c => c.settings.default_bridge_name;
    "icmp-error-rate" = c => c.icmp_errors.0;
    "icmp-error-burst" = c => c.icmp_errors.1;
    "snat-ports" = c => c.snat_ports;
    "flow-table" = c => c.flow_table.timeouts;
    "flow-table.tcp-loose" = c => c.flow_table.tcp_loose_s;
    "flow-table.size" = c => c.flow_table.size;
    "flow-table.embryonic-size" = c => c.flow_table.embryonic_size;
    "bip" = c => c.settings.bip;
    "bip6" = c => c.settings.bip6;
    "bridge" = c => c.settings.bridge;
    "default-address-pools" = c => c.settings.default_address_pools;
    "default-gateway" = c => c.settings.default_gateway;
    "default-gateway-v6" = c => c.settings.default_gateway_v6;
    "default-network-opts" = c => c.settings.default_network_opts;
    "dns" = c => c.dns.servers;
    "dns-opts" = c => c.dns.options;
    "dns-ttl" = c => c.dns_ttl_s;
    "dns-search" = c => c.dns.search;
    "fixed-cidr" = c => c.settings.fixed_cidr;
    "fixed-cidr-v6" = c => c.settings.fixed_cidr_v6;
    "icc" = c => c.settings.icc;
    "ip" = c => c.settings.ip;
    "ip-masq" = c => c.settings.ip_masq;
    "ipv6" = c => c.settings.ipv6;
    "mtu" = c => c.settings.mtu;
    "host-gateway-ip" = c => c.host_gateway;
}

impl Config {
    /// This configuration with what a running daemon can take over from `new`.
    #[must_use]
    pub fn reloaded(&self, new: &Self) -> Self {
        Self {
            log_level: new.log_level.clone(),
            verify_interval: new.verify_interval,
            icmp_errors: new.icmp_errors,
            flow_table: FlowTable { timeouts: new.flow_table.timeouts, ..self.flow_table },
            // The name service has its servers from the start on.
            dns: DnsDefaults { servers: self.dns.servers.clone(), ..new.dns.clone() },
            host_gateway: new.host_gateway.clone(),
            settings: Settings {
                default_address_pools: new.settings.default_address_pools.clone(),
                default_network_opts: new.settings.default_network_opts.clone(),
                ..self.settings.clone()
            },
            ..self.clone()
        }
    }

    /// The keys whose values differ.
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        let differs = |(_, value): &&(&str, Value)| value(self) != value(other);
        KEYS.iter().filter(differs).map(|(key, _)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::raw::RawConfig;
    use super::*;

    fn parsed(text: &str) -> Config {
        Config::parse(text, Path::new("netd.toml")).expect("a configuration")
    }

    #[test]
    fn every_key_that_can_be_written_is_in_the_list() {
        let refusal = toml::from_str::<RawConfig>("nope = 1").expect_err("unknown").to_string();
        let known = refusal.split('`').skip(3).step_by(2);
        for key in known {
            assert!(KEYS.iter().any(|(listed, _)| *listed == key), "{key}");
        }
        assert!(refusal.contains("`state-dir`"), "{refusal}");
    }

    #[test]
    fn what_can_be_taken_over_is_told_from_what_needs_a_restart() {
        let running = parsed("");
        let new = parsed(
            "log-level = 'debug'\nstate-dir = '/x'\ndns = ['1.1.1.1']\n\
             [flow-table]\nsize = 4096\nudp = 7",
        );
        let taken = running.reloaded(&new);
        assert_eq!(running.differing(&taken), ["log-level", "flow-table"]);
        assert_eq!(taken.differing(&new), ["state-dir", "flow-table.size", "dns"]);
    }
}
