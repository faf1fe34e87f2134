//! The words of the native API: JSON bodies that the server writes and the CLI reads.
//!
//! Law: shapes follow Docker's engine API where it has them, so that templates and scripts carry over.
//! Nothing here knows the model or the kernel.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every error body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// One sentence that names the thing and the remedy.
    pub message: String,
}

/// `POST /v1/networks`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct NetworkCreate {
    /// Unique name.
    pub name: String,
    /// Driver, `bridge` where none is given.
    pub driver: Option<String>,
    /// IPv4, default true.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: Option<bool>,
    /// IPv6, default false.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: Option<bool>,
    /// No way in or out.
    pub internal: bool,
    /// Address management.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Address management of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct Ipam {
    /// `default` or `null`.
    pub driver: Option<String>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Subnets.
    pub config: Vec<IpamConfig>,
}

/// One subnet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct IpamConfig {
    /// Prefix in CIDR form.
    pub subnet: String,
    /// Range for containers.
    #[serde(rename = "IPRange", skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<String>,
    /// Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Reserved addresses by name.
    #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "BTreeMap::is_empty")]
    pub auxiliary_addresses: BTreeMap<String, String>,
}

/// `201` of a creation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Created {
    /// 64 hex digits.
    pub id: String,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A network as `inspect` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkInspect {
    /// Unique name.
    pub name: String,
    /// 64 hex digits.
    pub id: String,
    /// RFC 3339 with nanoseconds, UTC.
    pub created: String,
    /// Always `local`.
    pub scope: String,
    /// `bridge`, `host` or `null`.
    pub driver: String,
    /// IPv4 on.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    /// IPv6 on.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Address management.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// No way in or out.
    pub internal: bool,
    /// Endpoints by sandbox id.
    pub containers: BTreeMap<String, NetworkContainer>,
    /// Driver options as given.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Bytes; what links of the network have.
    #[serde(rename = "MTU")]
    pub mtu: u32,
    /// Name of the gateway device, empty where there is none.
    pub device: String,
}

/// An endpoint in a network's `inspect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkContainer {
    /// The sandbox's name.
    pub name: String,
    /// Endpoint id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// MAC.
    pub mac_address: String,
    /// CIDR form, or empty.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// CIDR form, or empty.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// `POST /v1/networks/prune` answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Pruned {
    /// Names.
    pub networks_deleted: Vec<String>,
}

/// `POST /v1/networks/{network}/connect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct Connect {
    /// Sandbox by name, id or id prefix.
    pub container: String,
    /// What is asked for.
    pub endpoint_config: EndpointConfig,
}

/// `POST /v1/networks/{network}/disconnect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct Disconnect {
    /// Sandbox by name, id or id prefix.
    pub container: String,
}

/// What is asked for on connecting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct EndpointConfig {
    /// Static IPv4 address.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: Option<String>,
    /// Static IPv6 address.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: Option<String>,
    /// MAC.
    pub mac_address: Option<String>,
    /// Names beside the sandbox's.
    pub aliases: Vec<String>,
    /// Higher wins the default route.
    pub gw_priority: i32,
    /// Driver options.
    pub driver_opts: BTreeMap<String, String>,
}

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
    /// Name servers: those asked for, else the daemon's; empty for the host's.
    pub dns: Vec<String>,
    /// The daemon's search domains.
    pub dns_search: Vec<String>,
    /// The daemon's resolv.conf options.
    pub dns_options: Vec<String>,
    /// Addresses that `host-gateway` stands for.
    pub host_gateway: Vec<String>,
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

/// `GET /v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Status {
    /// `ok`, or `degraded` with problems listed.
    pub health: String,
    /// Version of the daemon.
    pub version: String,
    /// Fingerprint of the map layouts, 16 hex digits.
    pub abi: String,
    /// Unix time of start, seconds.
    pub started_s: i64,
    /// Revision of the model and the last one fully applied.
    pub revision: u64,
    /// Last revision that the kernel holds completely.
    pub applied_revision: u64,
    /// Objects.
    pub networks: u64,
    /// Objects.
    pub endpoints: u64,
    /// Objects.
    pub sandboxes: u64,
    /// Names of the uplinks.
    pub uplinks: Vec<UplinkStatus>,
    /// Fill of each map.
    pub maps: Vec<MapStatus>,
    /// Drops by reason.
    pub drops: BTreeMap<String, u64>,
    /// What is wrong, each a sentence.
    pub problems: Vec<String>,
}

/// One uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct UplinkStatus {
    /// Name.
    pub name: String,
    /// IPv4 masquerade source, or empty.
    pub ipv4: String,
    /// IPv6 masquerade source, or empty.
    pub ipv6: String,
    /// Bytes.
    #[serde(rename = "MTU")]
    pub mtu: u32,
}

/// Fill of one map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct MapStatus {
    /// Name.
    pub name: String,
    /// Entries in use.
    pub entries: u64,
    /// Capacity.
    pub capacity: u64,
}

/// One line of `GET /v1/events`: a drop as the kernel saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct DropEvent {
    /// RFC 3339 with nanoseconds, UTC.
    pub time: String,
    /// Reason.
    pub reason: String,
    /// What it means, a sentence.
    pub explanation: String,
    /// Hook.
    pub hook: String,
    /// Network name, or empty.
    pub network: String,
    /// Sandbox name, or empty.
    pub sandbox: String,
    /// Interface index.
    pub ifindex: u32,
    /// Protocol name or number, empty for non-IP.
    pub proto: String,
    /// `address:port`, `[address]:port` or `address`.
    pub src: String,
    /// `address:port`, `[address]:port` or `address`.
    pub dst: String,
    /// Frame length, bytes.
    pub len: u32,
}

/// `PUT /v1/log-level`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct LogLevel {
    /// A tracing filter: `info`, `debug`, `netd_user::reconcile=trace`.
    pub filter: String,
}
