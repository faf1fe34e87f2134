//! The configuration as written: serde shapes, and refusals that point at the line.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::{Fault, LogFormat, line_at};
use crate::model::AddressPool;

/// Every key, as written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct RawConfig {
    pub(super) state_dir: Option<PathBuf>,
    pub(super) run_dir: Option<PathBuf>,
    pub(super) netns_dir: Option<PathBuf>,
    pub(super) bpffs_dir: Option<PathBuf>,
    pub(super) cgroup: Option<PathBuf>,
    pub(super) resolv_conf: Option<PathBuf>,
    pub(super) api_socket: Option<PathBuf>,
    pub(super) docker_socket: Option<PathBuf>,
    pub(super) docker_api_socket: Option<PathBuf>,
    pub(super) group: Option<String>,
    pub(super) metrics_addr: Option<String>,
    pub(super) log_level: Option<String>,
    pub(super) log_format: LogFormat,
    pub(super) verify_interval: Option<u32>,
    pub(super) request_deadline: Option<u32>,
    pub(super) bridge_prefix: Option<String>,
    pub(super) veth_prefix: Option<String>,
    pub(super) default_bridge_name: Option<String>,
    pub(super) snat_ports: Option<String>,
    pub(super) icmp_error_rate: Option<u32>,
    pub(super) icmp_error_burst: Option<u32>,
    pub(super) flow_table: RawFlowTable,
    pub(super) bip: Option<IpNetwork>,
    pub(super) bip6: Option<IpNetwork>,
    pub(super) bridge: Option<String>,
    pub(super) default_address_pools: Option<Vec<AddressPool>>,
    pub(super) default_gateway: Option<IpAddr>,
    pub(super) default_gateway_v6: Option<IpAddr>,
    pub(super) default_network_opts: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) dns: Vec<IpAddr>,
    pub(super) dns_opts: Vec<String>,
    pub(super) dns_search: Vec<String>,
    pub(super) dns_ttl: Option<u32>,
    pub(super) fixed_cidr: Option<IpNetwork>,
    pub(super) fixed_cidr_v6: Option<IpNetwork>,
    pub(super) icc: Option<bool>,
    pub(super) ip: Option<IpAddr>,
    pub(super) ip_masq: Option<bool>,
    pub(super) ipv6: Option<bool>,
    pub(super) mtu: Option<u32>,
    pub(super) host_gateway_ip: Option<OneOrMany>,
}

/// `[flow-table]`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct RawFlowTable {
    pub(super) size: Option<u32>,
    pub(super) embryonic_size: Option<u32>,
    pub(super) tcp_syn: Option<u32>,
    pub(super) tcp_established: Option<u32>,
    pub(super) tcp_fin: Option<u32>,
    pub(super) tcp_rst: Option<u32>,
    pub(super) udp: Option<u32>,
    pub(super) udp_assured: Option<u32>,
    pub(super) icmp: Option<u32>,
    pub(super) other: Option<u32>,
    pub(super) tcp_loose: Option<u32>,
}

/// One address or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "an IP address or a list of IP addresses is needed")]
pub(super) enum OneOrMany {
    One(IpAddr),
    Many(Vec<IpAddr>),
}

/// Reads the text without judging the values' meaning.
pub(super) fn read(text: &str) -> Result<RawConfig, Fault> {
    toml::from_str(text).map_err(|error| explain(&error, text))
}

fn explain(error: &toml::de::Error, text: &str) -> Fault {
    let offset = error.span().map_or(0, |span| span.start);
    let line = line_at(text, offset);
    let first = error.message().lines().next().unwrap_or_default();
    let key = key_on(text, line);
    let message = match unknown_field(first) {
        Some((unknown, known)) => unknown_key(unknown, &known),
        None => match key {
            Some(key) => format!("key '{key}': {first}"),
            None => first.to_owned(),
        },
    };
    Fault { line, message }
}

fn unknown_key(unknown: &str, known: &[&str]) -> String {
    let near = known.iter().map(|key| (distance(unknown, key), *key)).min();
    match near {
        Some((distance, key)) if distance <= 2 + key.len() / 8 => {
            format!("unknown key '{unknown}': did you mean '{key}'?")
        }
        Some(_) | None => format!("unknown key '{unknown}': remove it"),
    }
}

/// The parts of serde's sentence ``unknown field `x`, expected one of `a`, `b` ``.
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.split_once('`')?;
    Some((unknown, rest.split('`').skip(1).step_by(2).collect()))
}

fn key_on(text: &str, line: usize) -> Option<&str> {
    let (key, _) = text.lines().nth(line - 1)?.split_once('=')?;
    Some(key.trim()).filter(|key| !key.is_empty())
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
