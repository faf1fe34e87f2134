//! The words of the native API: JSON bodies that the server writes and the CLI reads.
//!
//! Law: shapes follow Docker's engine API where it has them, so that templates and scripts carry over.
//! Nothing here knows the model or the kernel.

mod names;
mod sandbox;
mod status;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use names::{Flushed, KeptAnswer, NameAnswer, NameRecord};
pub use sandbox::{
    Counters, EndpointInspect, Owner, OwnerUpdate, PublishedPort, SandboxCreate, SandboxInspect,
    SandboxNetwork,
};
pub use status::{DropEvent, LogLevel, MapStatus, Status, UplinkStatus};

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
