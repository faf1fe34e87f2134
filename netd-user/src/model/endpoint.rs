//! Endpoints: a sandbox's interface on a network.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use netd_common::MacAddr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::id::{EndpointId, NetworkId, SandboxId};

/// What a user asks for on connecting; text as given, checked by the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSpec {
    /// `--ip`.
    pub ip: Option<String>,
    /// `--ip6`.
    pub ip6: Option<String>,
    /// `--mac-address`.
    pub mac: Option<String>,
    /// `--network-alias`.
    pub aliases: Vec<String>,
    /// `--gw-priority`: the highest provides the default route.
    pub gw_priority: i32,
    /// `--driver-opt`.
    pub options: BTreeMap<String, String>,
}

/// A granted endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Unique id.
    pub id: EndpointId,
    /// Number in the dataplane, from 1; reused after removal.
    pub index: u32,
    /// Its network.
    pub network: NetworkId,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// Its IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Its MAC.
    #[serde(serialize_with = "mac_to_text", deserialize_with = "mac_from_text")]
    pub mac: MacAddr,
    /// Names beside the sandbox's, on this network.
    pub aliases: Vec<String>,
    /// Higher wins the default route; equal ones go by network name.
    pub gw_priority: i32,
    /// Name of the interface in the sandbox.
    pub interface: String,
    /// Name of the veth end in the host's namespace.
    pub veth: String,
    /// Options as given.
    pub options: BTreeMap<String, String>,
}

/// `aa:bb:cc:dd:ee:ff`.
pub fn format_mac(mac: MacAddr) -> String {
    mac.0.map(|byte| format!("{byte:02x}")).join(":")
}

/// Reads what `format_mac` writes, in either case.
pub fn parse_mac(text: &str) -> Option<MacAddr> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let digits = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        let part = parts.next().filter(digits)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(MacAddr(mac))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde calls")]
fn mac_to_text<S: Serializer>(mac: &MacAddr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_mac(*mac))
}

fn mac_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_mac(&text).ok_or_else(|| serde::de::Error::custom(format!("'{text}' is no MAC address")))
}
