//! Bodies about the daemon itself: status, drops, log level.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    /// Whether a container engine tells names: `connected`, `not connected` and why, or `off`.
    #[serde(default)]
    pub engine: String,
    /// Fill of each map.
    pub maps: Vec<MapStatus>,
    /// Drops by reason.
    pub drops: BTreeMap<String, u64>,
    /// What has happened in the flow table, by event: pairs created, promoted by a reply, refused
    /// for want of room (`pressure`), refreshed; entries `evicted`; allocations `snat_exhausted`.
    #[serde(default)]
    pub flows: BTreeMap<String, u64>,
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
