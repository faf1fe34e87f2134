//! Bodies about sandboxes and their endpoints.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::EndpointConfig;

/// `POST /v1/sandboxes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct SandboxCreate {
    /// Unique name; one is made where none is given.
    pub name: Option<String>,
    /// Networks in order; empty for the predefined bridge.
    pub networks: Vec<SandboxNetwork>,
    /// Host name.
    pub hostname: Option<String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Search domains; a lone `.` for none.
    pub dns_search: Vec<String>,
    /// Options of resolv.conf.
    pub dns_options: Vec<String>,
    /// Lines of the hosts file: `NAME:ADDRESS` or `NAME:host-gateway`.
    pub extra_hosts: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `-p` arguments as given.
    pub publish: Vec<String>,
    /// `-P`.
    pub publish_all: bool,
    /// `--expose` arguments as given.
    pub expose: Vec<String>,
    /// An existing namespace to fill.
    pub netns: Option<String>,
    /// The process it lives and dies with.
    pub owner: Option<Owner>,
}

/// One network of a new sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct SandboxNetwork {
    /// Name, id or id prefix.
    pub network: String,
    /// What is asked for.
    pub endpoint_config: EndpointConfig,
}

/// A process, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Owner {
    /// Process id.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`.
    pub start_ticks: u64,
}

/// `PUT /v1/sandboxes/{sandbox}/owner`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct OwnerUpdate {
    /// The process, or none for a sandbox that is removed by hand.
    pub owner: Option<Owner>,
}

/// A sandbox as `inspect` and `ps` show it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct SandboxInspect {
    /// 64 hex digits.
    pub id: String,
    /// The engine's own id of its container, where an engine keeps it and has told.
    #[serde(rename = "ContainerID", default)]
    pub container_id: String,
    /// Unique name.
    pub name: String,
    /// RFC 3339 with nanoseconds, UTC.
    pub created: String,
    /// `bridged`, `host` or `none`.
    pub mode: String,
    /// Path of its network namespace.
    pub netns: String,
    /// Host name.
    pub hostname: String,
    /// Where the sandbox asks for names: netd itself, or empty for the name servers below.
    pub resolver: String,
    /// Name servers: those asked for, else the daemon's; empty for the host's.
    pub dns: Vec<String>,
    /// Search domains: those asked for, else the daemon's; empty for the host's.
    pub dns_search: Vec<String>,
    /// Options of resolv.conf: those asked for, else the daemon's; empty for the host's.
    pub dns_options: Vec<String>,
    /// Lines added to the hosts file, as `NAME:ADDRESS`.
    pub extra_hosts: Vec<String>,
    /// Addresses that `host-gateway` stands for.
    pub host_gateway: Vec<String>,
    /// The file to be seen as `/etc/hosts`; empty for the host's own.
    pub hosts_path: String,
    /// The file to be seen as `/etc/hostname`; empty for the host's own.
    pub hostname_path: String,
    /// The file to be seen as `/etc/resolv.conf`; empty for the host's own.
    pub resolv_conf_path: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `running`, or `failed` with the reason beside it.
    pub state: String,
    /// Why it is not running, else empty.
    pub reason: String,
    /// Process it lives and dies with, 0 for none.
    pub pid: i32,
    /// Endpoints by network name.
    pub networks: BTreeMap<String, EndpointInspect>,
    /// Published ports.
    pub ports: Vec<PublishedPort>,
    /// Exposed ports, as Docker writes them (`80/tcp`).
    pub exposed: Vec<String>,
}

/// An endpoint in a sandbox's `inspect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct EndpointInspect {
    /// Network id.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// Endpoint id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Gateway of the default route, or empty.
    pub gateway: String,
    /// IPv6 gateway, or empty.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// Address, or empty.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Prefix length.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// Address, or empty.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Prefix length.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// MAC.
    pub mac_address: String,
    /// Names beside the sandbox's.
    pub aliases: Vec<String>,
    /// Interface name in the sandbox.
    pub interface: String,
    /// Name of the veth end in the host.
    pub veth: String,
    /// Priority for the default route.
    pub gw_priority: i32,
    /// Live counters.
    pub counters: Counters,
}

/// Live counters of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Counters {
    /// Packets sent by the container.
    pub from_packets: u64,
    /// Bytes sent by the container.
    pub from_bytes: u64,
    /// Packets delivered to the container.
    pub to_packets: u64,
    /// Bytes delivered to the container.
    pub to_bytes: u64,
    /// Packets dropped, all reasons.
    pub dropped: u64,
}

/// One published range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct PublishedPort {
    /// Host address; `0.0.0.0` or `::` for all.
    #[serde(rename = "HostIP")]
    pub host_ip: String,
    /// First host port.
    pub host_port: u16,
    /// First container port.
    pub container_port: u16,
    /// How many.
    pub count: u16,
    /// `tcp`, `udp` or `sctp`.
    pub proto: String,
    /// Flows accepted.
    pub hits: u64,
}
