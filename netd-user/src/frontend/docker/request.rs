//! What the engine asks: the arguments of both protocols. Names are the engine's; what it leaves out,
//! writes as `null` or adds in a later version does no harm.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// Options: strings, numbers and lists, as the method has them.
pub(super) type Options = BTreeMap<String, Value>;
/// Options that are not read into memory: the engine's own ones may be lists of every port there is.
pub(super) type UnreadOptions<'body> = BTreeMap<String, &'body RawValue>;

/// `NetworkDriver.GwAllocCheck`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GwAllocCheck {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) options: Options,
}

/// `NetworkDriver.CreateNetwork`.
#[derive(Debug, Deserialize)]
pub(super) struct CreateNetwork {
    #[serde(rename = "NetworkID")]
    pub(super) network: String,
    #[serde(rename = "Options", default, deserialize_with = "or_default")]
    pub(super) options: Options,
    #[serde(rename = "IPv4Data", default, deserialize_with = "or_default")]
    pub(super) v4: Vec<PoolOfNetwork>,
    #[serde(rename = "IPv6Data", default, deserialize_with = "or_default")]
    pub(super) v6: Vec<PoolOfNetwork>,
}

/// One of a network's pools; addresses carry the prefix length of the pool.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PoolOfNetwork {
    #[serde(default)]
    pub(super) address_space: String,
    #[serde(default)]
    pub(super) pool: String,
    #[serde(default)]
    pub(super) gateway: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) aux_addresses: BTreeMap<String, String>,
}

/// `NetworkDriver.DeleteNetwork`.
#[derive(Debug, Deserialize)]
pub(super) struct NetworkRef {
    #[serde(rename = "NetworkID")]
    pub(super) network: String,
}

/// `NetworkDriver.DeleteEndpoint`, `Leave`, `RevokeExternalConnectivity`.
#[derive(Debug, Deserialize)]
pub(super) struct EndpointRef {
    #[serde(rename = "EndpointID")]
    pub(super) endpoint: String,
}

/// `NetworkDriver.CreateEndpoint`.
#[derive(Debug, Deserialize)]
pub(super) struct CreateEndpoint<'body> {
    #[serde(rename = "NetworkID")]
    pub(super) network: String,
    #[serde(rename = "EndpointID")]
    pub(super) endpoint: String,
    #[serde(rename = "Interface", default, deserialize_with = "or_default")]
    pub(super) interface: EndpointInterface,
    #[serde(rename = "Options", default, borrow, deserialize_with = "or_default")]
    pub(super) options: UnreadOptions<'body>,
}

/// Addresses with prefix lengths, empty where there are none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EndpointInterface {
    #[serde(rename = "Address")]
    pub(super) v4: String,
    #[serde(rename = "AddressIPv6")]
    pub(super) v6: String,
    #[serde(rename = "MacAddress")]
    pub(super) mac: String,
}

/// `NetworkDriver.Join`.
#[derive(Debug, Deserialize)]
pub(super) struct Join {
    #[serde(rename = "EndpointID")]
    pub(super) endpoint: String,
    #[serde(rename = "SandboxKey")]
    pub(super) sandbox_key: String,
}

/// `NetworkDriver.ProgramExternalConnectivity`.
#[derive(Debug, Deserialize)]
pub(super) struct Program {
    #[serde(rename = "EndpointID")]
    pub(super) endpoint: String,
    #[serde(rename = "Options", default, deserialize_with = "or_default")]
    pub(super) options: ProgramOptions,
}

/// The one option that counts: others only repeat it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ProgramOptions {
    #[serde(rename = "com.docker.network.portmap", default, deserialize_with = "or_default")]
    pub(super) ports: Vec<PortBinding>,
}

/// One published port.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PortBinding {
    /// IP protocol number.
    pub(super) proto: u8,
    /// Container port.
    pub(super) port: u16,
    #[serde(rename = "HostIP", default)]
    pub(super) host_ip: String,
    /// First and last of which one is taken; 0 for any.
    #[serde(default)]
    pub(super) host_port: u16,
    #[serde(default)]
    pub(super) host_port_end: u16,
}

/// `IpamDriver.RequestPool`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RequestPool {
    #[serde(default)]
    pub(super) address_space: String,
    #[serde(default)]
    pub(super) pool: String,
    #[serde(default)]
    pub(super) sub_pool: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) options: Options,
    #[serde(default)]
    pub(super) v6: bool,
}

/// `IpamDriver.ReleasePool`.
#[derive(Debug, Deserialize)]
pub(super) struct PoolRef {
    #[serde(rename = "PoolID")]
    pub(super) pool: String,
}

/// `IpamDriver.RequestAddress`.
#[derive(Debug, Deserialize)]
pub(super) struct RequestAddress {
    #[serde(rename = "PoolID")]
    pub(super) pool: String,
    #[serde(rename = "Address", default)]
    pub(super) address: String,
    /// `null` where the engine tells of an auxiliary address, or again of what it has.
    #[serde(rename = "Options", default)]
    pub(super) options: Option<Options>,
}

/// `IpamDriver.ReleaseAddress`.
#[derive(Debug, Deserialize)]
pub(super) struct ReleaseAddress {
    #[serde(rename = "PoolID")]
    pub(super) pool: String,
    #[serde(rename = "Address", default)]
    pub(super) address: String,
}

/// Go writes empty maps and lists as `null`.
fn or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}
