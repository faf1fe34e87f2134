//! What the engine is told: the replies of both protocols. Names are the engine's.

use serde::Serialize;

use super::options::{GLOBAL_SPACE, LOCAL_SPACE};

/// `Plugin.Activate`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Activated {
    implements: [&'static str; 2],
}

impl Default for Activated {
    fn default() -> Self {
        Self { implements: ["NetworkDriver", "IpamDriver"] }
    }
}

/// `NetworkDriver.GetCapabilities`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkCapabilities {
    scope: &'static str,
    connectivity_scope: &'static str,
    gw_alloc_checker: bool,
}

impl Default for NetworkCapabilities {
    fn default() -> Self {
        Self { scope: "local", connectivity_scope: "local", gw_alloc_checker: true }
    }
}

/// `NetworkDriver.GwAllocCheck`: families without a gateway address.
#[derive(Serialize)]
pub(super) struct GatewaysSkipped {
    #[serde(rename = "SkipIPv4")]
    pub(super) v4: bool,
    #[serde(rename = "SkipIPv6")]
    pub(super) v6: bool,
}

/// `NetworkDriver.EndpointOperInfo`.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OperInfo {
    value: Empty,
}

/// `NetworkDriver.CreateEndpoint`: only what the engine left open.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EndpointCreated {
    pub(super) interface: Interface,
}

/// The MAC of an endpoint that was asked for without one.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Interface {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mac_address: Option<String>,
}

/// `NetworkDriver.Join`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Joined {
    pub(super) interface_name: InterfaceName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gateway: Option<String>,
    #[serde(rename = "GatewayIPv6", skip_serializing_if = "Option::is_none")]
    pub(super) gateway_v6: Option<String>,
    /// Or the engine would connect the container to a bridge network of its own.
    pub(super) disable_gateway_service: bool,
}

/// Where the engine finds the interface, and what it calls it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct InterfaceName {
    pub(super) src_name: String,
    pub(super) dst_prefix: String,
}

/// `IpamDriver.GetCapabilities`. Pools and addresses survive restarts: nothing need be told again.
/// A MAC is asked for because engines before 29 tell an endpoint's request from others by it alone.
#[derive(Serialize)]
pub(super) struct PoolCapabilities {
    #[serde(rename = "RequiresMACAddress")]
    requires_mac_address: bool,
    #[serde(rename = "RequiresRequestReplay")]
    requires_request_replay: bool,
}

impl Default for PoolCapabilities {
    fn default() -> Self {
        Self { requires_mac_address: true, requires_request_replay: false }
    }
}

/// `IpamDriver.GetDefaultAddressSpaces`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Spaces {
    local_default_address_space: &'static str,
    global_default_address_space: &'static str,
}

impl Default for Spaces {
    fn default() -> Self {
        Self {
            local_default_address_space: LOCAL_SPACE,
            global_default_address_space: GLOBAL_SPACE,
        }
    }
}

/// `IpamDriver.RequestPool`.
#[derive(Serialize)]
pub(super) struct PoolGranted {
    #[serde(rename = "PoolID")]
    pub(super) pool_id: String,
    #[serde(rename = "Pool")]
    pub(super) pool: String,
    #[serde(rename = "Data")]
    pub(super) extra: Empty,
}

/// `IpamDriver.RequestAddress`.
#[derive(Serialize)]
pub(super) struct AddressGranted {
    #[serde(rename = "Address")]
    pub(super) address: String,
    #[serde(rename = "Data")]
    pub(super) extra: Empty,
}

/// `{}`.
#[derive(Default, Serialize)]
pub(super) struct Empty {}

/// A failure, in the dialects of both protocols.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Failed {
    err: String,
    error: String,
}

impl Failed {
    /// With one sentence.
    pub(super) fn new(message: String) -> Self {
        Self { err: message.clone(), error: message }
    }
}
